//! `bellwether serve`: flags to options, then over to `runtime`. Also what `demo` shares with it: the async runtime and
//! the signals that end a node.

use std::{pin::pin, time::Duration};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    args::{self, OptionsError, ServeArgs, ServeOptions},
    log,
};
use crate::runtime::{
    self, Running, RuntimeError,
    options::{EtcdFlags, GraphiteTarget, Options, StatsdTarget, StoreOptions, TlsFiles},
};

const CANNOT_START: &str = "the node cannot start";
/// How long a node that is told to stop while it starts may go on starting.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// The flags, checked together, with this machine's name and environment.
///
/// # Errors
/// Which flags do not go together.
pub fn options(args: ServeArgs) -> Result<ServeOptions, OptionsError> {
    args.options(|name| std::env::var(name).ok(), &args::host_name())
}

/// Runs the node until it is told to stop; returns the exit code.
///
/// # Errors
/// When the node cannot start, or something that it needs ends.
pub fn run(options: &ServeOptions) -> anyhow::Result<u8> {
    log::start(options.log_format, &options.log_level)?;
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    block_on(async {
        // Before anything else: a node told to stop while it starts ends well too.
        let mut stop = pin!(asked_to_stop()?);
        let mut start = pin!(runtime::start(node_options(options)));
        let started = tokio::select! {
            started = &mut start => started,
            () = &mut stop => return stop_starting(start).await,
        };
        started.context(CANNOT_START)?.run_until(stop).await?;
        Ok(0)
    })
}

/// Ends a node that was told to stop before it had started: in order if it starts soon after all, so that it gives back
/// what it holds; else at once.
async fn stop_starting(start: impl Future<Output = Result<Running, RuntimeError>>) -> anyhow::Result<u8> {
    let Ok(started) = tokio::time::timeout(START_PATIENCE, start).await else {
        tracing::info!("told to stop before the node had started; ended");
        return Ok(0);
    };
    started.context(CANNOT_START)?.run_until(std::future::ready(())).await?;
    Ok(0)
}

/// Runs a node's future on an async runtime of its own.
///
/// # Errors
/// The future's own, or that no runtime could be had.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    use_small_pages();
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let done = runtime.block_on(future);
    // Name look-ups may hang in a blocking thread; they must not keep the process.
    runtime.shutdown_background();
    done
}

/// Asks the system for no huge pages: with them a node takes half as much memory again (10,000 targets: 165 MB against 113 MB).
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay as they are");
    }
}

/// Ends at SIGTERM or SIGINT; a second one ends the process at once.
///
/// # Errors
/// When the handlers cannot be set.
pub fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut terminate_2, mut interrupt_2) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            // These saw the first signal too.
            for _ in 0..2 {
                tokio::select! {
                    biased;
                    _ = terminate_2.recv() => {}
                    _ = interrupt_2.recv() => {}
                }
            }
            tracing::warn!("a second signal: ending at once");
            std::process::exit(1);
        });
    })
}

fn node_options(options: &ServeOptions) -> Options {
    let store = match &options.etcd {
        None => StoreOptions::Embedded,
        Some(etcd) => StoreOptions::Etcd(EtcdFlags {
            endpoints: etcd.endpoints.clone(),
            user: etcd.user.clone(),
            ca: etcd.ca.clone(),
            client_cert: etcd.client_cert.clone(),
        }),
    };
    Options {
        listen: options.listen,
        advertise_url: options.advertise_url.clone(),
        node: options.node.clone(),
        region: options.region.clone(),
        environment: options.environment.clone(),
        store,
        root: options.key_prefix.clone(),
        data_dir: Some(options.data_dir.clone()),
        catalog: options.catalog.clone(),
        mass_removal_hold: options.mass_removal_hold,
        session_ttl: options.session_ttl,
        drain_delay: options.drain_delay,
        gateway: options.vulcand.as_ref().map(ToString::to_string),
        socks_proxy: options.socks_proxy.as_ref().map(ToString::to_string),
        sev_1_apps: options.sev_1_apps.clone(),
        max_probes: options.max_probes,
        max_probes_per_host: options.max_probes_per_host,
        sentinels: options.sentinels.clone(),
        graphite: options.graphite.as_ref().map(|g| GraphiteTarget {
            host: g.host.clone(),
            port: g.port,
            prefix: g.prefix.clone(),
            interval: g.interval,
        }),
        statsd: options.statsd.as_ref().map(|s| StatsdTarget {
            host: s.host.clone(),
            port: s.port,
            prefix: s.prefix.clone(),
        }),
        metrics_targets: options.metrics_targets,
        admin_token_file: options.admin_token_file.clone(),
        admin_listen: options.admin_listen,
        cluster_token_file: options.cluster_token_file.clone(),
        cluster_ca: options.cluster_ca.clone(),
        tls: options.tls.as_ref().map(|t| TlsFiles {
            cert: t.cert.clone(),
            key: t.key.clone(),
            client_ca: t.client_ca.clone(),
        }),
    }
}
