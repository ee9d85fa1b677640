//! Where events go: standard error, as readable lines or JSON. What is logged is left to the rooms.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt};

use super::args::LogFormat;

/// Crates of others that say too much at `info` and below; directives given by the user come later and win.
const QUIET: &str = "hyper=warn,hyper_util=warn,h2=warn,tower=warn,tonic=warn,rustls=warn,etcd_client=warn";

/// Sends all events of this process to standard error, from now on.
///
/// # Errors
/// When the directives cannot be read, or a log is set up already.
pub fn start(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let filter = filter(level)?;
    // A full disk or a closed pipe behind standard error must not end the node: errors of logging stay unsaid.
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let set = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
    };
    set.map_err(|e| anyhow::anyhow!("{e}")).context("cannot set up the log")
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    // A plain level quiets the others' crates; whoever writes directives gets just those.
    let directives = if level.contains(['=', ',']) || level == "trace" || level == "off" {
        level.to_owned()
    } else {
        format!("{level},{QUIET}")
    };
    EnvFilter::try_new(&directives).with_context(|| format!("cannot read the log level {level:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_that_the_flag_takes_is_read() {
        for level in ["error", "warn", "info", "debug", "trace", "off", "info,bellwether::store=debug"] {
            assert!(crate::cli::values::log_level(level).is_ok());
            assert!(filter(level).is_ok(), "{level}");
        }
        assert!(filter("info").unwrap().to_string().contains("h2=warn"));
        assert!(!filter("info,h2=debug").unwrap().to_string().contains("h2=warn"));
    }
}
