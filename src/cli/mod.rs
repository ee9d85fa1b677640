//! The command line: arguments, verbs over HTTP, exit codes. It is the only room, with `main`, that uses `anyhow`.
//! What a node does is left to `runtime`; what a verb asks a node for, to the node's `web`.
//!
//! Exit codes: 0 done; 1 refused or faulty; 2 wrong arguments; 3 no answer. `status` has its own four (design
//! section 6), `health` only 0 and 1.

pub mod apply;
pub mod args;
pub mod check;
pub mod demo;
pub mod edit;
pub mod get;
pub mod http;
pub mod log;
pub mod output;
pub mod serve;
pub mod status;
pub mod values;

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable, error::ErrorKind};

use self::http::{ClientError, ServerArgs};
use crate::clock::Clock;

/// Refused, faulty, failed.
const FAILED: u8 = 1;
/// Wrong arguments; clap's own.
const USAGE: u8 = 2;
/// No node answered.
const NO_ANSWER: u8 = 3;

/// Bellwether tells load balancers, DNS and clients which services may take traffic, in which region.
#[derive(Parser, Debug)]
#[command(name = "bellwether", version, about, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a node
    Serve(Box<args::ServeArgs>),
    /// Say whether it is good to go, and what fails (exit 0 well, 1 something fails, 2 not good to go, 3 no answer)
    Status(Verb<status::StatusArgs>),
    /// Read targets, services, categories, faults, acks, the node, the catalog
    Get(Verb<get::GetArgs>),
    /// Ack a target: its failure no longer counts
    Ack(Verb<edit::AckArgs>),
    /// Remove a target's ack
    Unack(Verb<edit::UnackArgs>),
    /// Switch a category on
    Enable(Verb<edit::EnableArgs>),
    /// Switch a category off: its /__gtg answers 503
    Disable(Verb<edit::DisableArgs>),
    /// Put or clear the cluster ack
    ClusterAck(Verb<edit::ClusterAckArgs>),
    /// Bring the catalog to what a file says, and show what changes
    Apply(Verb<apply::ApplyArgs>),
    /// Validate a catalog file
    Check(check::CheckArgs),
    /// Ask a node whether it lives, or is ready (exit 0 or 1; for container health checks)
    Health(Verb<HealthArgs>),
    /// Run a node with a handful of small services to play with
    Demo(demo::DemoArgs),
    /// Only the small services of a demo, each on a port of its own
    #[command(hide = true)]
    DemoServices(demo::DemoServicesArgs),
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A verb's own flags and those that say which node is asked.
#[derive(Args, Debug)]
struct Verb<A: Args> {
    #[command(flatten)]
    own: A,
    #[command(flatten)]
    server: ServerArgs,
}

/// Flags of `health`.
#[derive(Args, Debug)]
struct HealthArgs {
    /// Ask whether it is ready to take requests (/__ready) instead of whether it lives (/__live)
    #[arg(long)]
    ready: bool,
}

/// Reads the arguments and does what they say; returns the exit code. Errors go to standard error.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version come this way too; nobody may be reading them any more.
            let _ = e.print();
            return u8::try_from(e.exit_code()).unwrap_or(USAGE);
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let done = dispatch(cli.command, &mut out).and_then(|code| Ok(out.flush().map(|()| code)?));
    match done {
        Ok(code) => code,
        Err(e) if output::is_broken_pipe(&e) => 0,
        Err(e) => {
            let _ = out.flush();
            let _ = writeln!(io::stderr(), "bellwether: {}", output::explained(&e));
            exit_code(&e)
        }
    }
}

/// The arguments as types.
///
/// # Errors
/// clap's, with what was expected; help and version among them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(arguments)?)
}

/// The whole command line. Environment variables are shown by name only, for their values may be private; an empty
/// one counts as not set, as in FT's containers (`SOCKS_PROXY=""`).
#[must_use]
pub fn command() -> clap::Command {
    fn with_variables(command: clap::Command) -> clap::Command {
        let command = command.mut_args(|arg| {
            let value = arg.get_env().and_then(std::env::var_os);
            let arg = arg.hide_env_values(true);
            if value.is_some_and(|v| v.to_string_lossy().trim().is_empty()) { arg.env(Resettable::Reset) } else { arg }
        });
        let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        names.iter().fold(command, |c, name| c.mut_subcommand(name, with_variables))
    }
    with_variables(Cli::command())
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::NoAnswer { .. }) => NO_ANSWER,
        _ => FAILED,
    }
}

fn dispatch(command: Command, out: &mut dyn Write) -> anyhow::Result<u8> {
    let clock = Clock::system();
    match command {
        Command::Serve(args) => match serve::options(*args) {
            Ok(options) => serve::run(&options),
            Err(e) => Ok(wrong("serve", &e)),
        },
        Command::Status(v) => status::run(&v.own, &v.server.client()?, &clock, out).or_else(|e| {
            // Whatever keeps a node from answering is "no answer" to who asks for the status.
            match e.downcast_ref::<ClientError>() {
                Some(ClientError::Refused { .. } | ClientError::Strange { .. }) => {
                    let _ = writeln!(io::stderr(), "bellwether: {}", output::explained(&e));
                    Ok(NO_ANSWER)
                }
                _ => Err(e),
            }
        }),
        Command::Get(v) => get::run(&v.own, &v.server.client()?, &clock, out).map(|()| 0),
        Command::Ack(v) => edit::ack(&v.own, &v.server.client()?, &clock, out).map(|()| 0),
        Command::Unack(v) => edit::unack(&v.own, &v.server.client()?, out).map(|()| 0),
        Command::Enable(v) => edit::enable(&v.own, &v.server.client()?, out).map(|()| 0),
        Command::Disable(v) => edit::disable(&v.own, &v.server.client()?, out).map(|()| 0),
        Command::ClusterAck(v) => edit::cluster_ack(&v.own, &v.server.client()?, out).map(|()| 0),
        Command::Apply(v) => apply::run(&v.own, &v.server.client()?, out),
        Command::Check(args) => check::run(&args, out),
        Command::Health(v) => health(&v.own, &v.server, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::DemoServices(args) => demo::run_services(&args, out),
        Command::Completions { shell } => {
            // Into memory first: clap_complete panics where nobody reads.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut self::command(), "bellwether", &mut script);
            out.write_all(&script)?;
            Ok(0)
        }
    }
}

/// Wrong arguments, in clap's own form.
fn wrong(verb: &str, error: &args::OptionsError) -> u8 {
    let mut command = command();
    command.build();
    let at_fault = command.find_subcommand_mut(verb).map(|c| c.error(ErrorKind::ValueValidation, error));
    if let Some(e) = at_fault {
        let _ = e.print();
    }
    USAGE
}

fn health(own: &HealthArgs, server: &ServerArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let (path, well) = if own.ready { ("/__ready", "is ready") } else { ("/__live", "lives") };
    match server.client()?.get(path) {
        Ok(answer) if answer.status == 200 => {
            writeln!(out, "{} {well}", server.server())?;
            Ok(0)
        }
        Ok(answer) => {
            writeln!(out, "{} answered {path} with {}", server.server(), answer.status)?;
            Ok(FAILED)
        }
        Err(e) => {
            writeln!(io::stderr(), "bellwether: {e}")?;
            Ok(FAILED)
        }
    }
}

#[cfg(test)]
mod tests;
