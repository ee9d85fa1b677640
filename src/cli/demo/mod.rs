//! `bellwether demo`: a node with the embedded store, and a handful of small services that it probes, to play with;
//! `bellwether demo-services`: only such services, for the compose file.
//! The services are `services`; the node itself is `runtime`'s.

pub mod services;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

use self::services::Service;
use super::{args::LogFormat, log, serve, values};
use crate::{
    model::{
        NodeName, TargetName,
        document::{CategoryDocument, Document, TargetDocument},
        spec::TargetSpec,
    },
    runtime::{
        self, Running,
        options::{Options, StoreOptions},
    },
    web::port::ApplyOptions,
};

/// The demo's services: target's name and category.
pub const SERVICES: [(&str, &str); 6] = [
    ("articles-1", "read"),
    ("articles-2", "read"),
    ("search-1", "read"),
    ("orders-1", "write"),
    ("orders-2", "write"),
    ("payments-1", "write"),
];

/// Time between two probes of a demo's target, in seconds.
const PERIOD: u64 = 5;

/// Bound on the node's start.
const READY_BOUND: Duration = Duration::from_secs(10);

/// Flags of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Where the node answers; a free port is taken where this one is in use
    #[arg(long, env = "BELLWETHER_DEMO_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8080", value_parser = values::listen)]
    pub listen: SocketAddr,
}

/// The category that one of the demo's targets is in beside `default`.
fn category(name: &str) -> &'static str {
    SERVICES.iter().find(|(known, _)| *known == name).map_or("read", |(_, category)| category)
}

/// The demo's catalog: each service as a target, in two categories with a short period. `read` is resilient (one of
/// two `articles` may fail), `write` is not.
#[must_use]
pub fn catalog(services: &[Service]) -> Document {
    let target = |service: &Service| TargetDocument {
        path: Some("/health".to_owned()),
        categories: Some(vec![category(&service.name).to_owned()]),
        ack: None,
        spec: TargetSpec {
            url: Some(format!("http://{}/health", service.address)),
            format: Some("status".to_owned()),
            // Red within the period and one second, not three.
            fall: Some(2),
            timeout: Some(Duration::from_secs(2)),
            business_impact: Some(format!("Nobody can use {} (it is only a demo)", service.name)),
            technical_summary: Some("Asks the service's /health".to_owned()),
            panic_guide: Some(format!("curl http://{}/health/flip", service.address)),
            ..TargetSpec::default()
        },
    };
    let switch = |resilient| CategoryDocument {
        period_seconds: Some(PERIOD),
        is_resilient: Some(resilient),
        ..CategoryDocument::default()
    };
    Document {
        v: Some(1),
        targets: services.iter().map(|s| (s.name.clone(), target(s))).collect(),
        categories: BTreeMap::from([("read".to_owned(), switch(true)), ("write".to_owned(), switch(false))]),
        ..Document::default()
    }
}

/// A listener on the wanted address, or on a free port of the same address where that one is taken (then true).
///
/// # Errors
/// When neither can be had.
pub fn listener(wanted: SocketAddr) -> io::Result<(TcpListener, bool)> {
    match TcpListener::bind(wanted) {
        Ok(listener) => Ok((listener, false)),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::new(wanted.ip(), 0)).map(|listener| (listener, true))
        }
        Err(e) => Err(e),
    }
}

/// How this program is called from a shell: by its path where it was started so, and it is most likely not on `PATH`.
#[must_use]
pub fn program() -> String {
    let called = std::env::args_os().next().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if called.is_empty() {
        "bellwether".to_owned()
    } else if called.chars().all(plain) {
        called
    } else {
        format!("'{}'", called.replace('\'', r"'\''"))
    }
}

/// What the demo says when it is up: where everything is, and three commands to try. `program` is how a shell calls
/// this program.
#[must_use]
pub fn banner(program: &str, node: SocketAddr, moved_from: Option<SocketAddr>, services: &[Service]) -> String {
    // 0.0.0.0 is no address to visit.
    let ip = if node.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { node.ip() };
    let base = format!("http://{}", SocketAddr::new(ip, node.port()));
    let mut text = String::new();
    if let Some(wanted) = moved_from {
        let _ = writeln!(text, "{wanted} is in use; the demo took port {} instead.", node.port());
    }
    let _ = writeln!(text, "\nBellwether answers at {base}/ (open it in a browser). It probes:\n");
    for service in services {
        let _ =
            writeln!(text, "  {:<12} {:<6} http://{}/health", service.name, category(&service.name), service.address);
    }
    if let Some(last) = services.last() {
        let server = if node.port() == 8080 { String::new() } else { format!(" --server {base}") };
        let _ = writeln!(text, "\nTry, in another terminal:\n");
        let _ =
            writeln!(text, "  curl http://{}/health/flip     # make {} fail (again: mend it)", last.address, last.name);
        let _ = writeln!(
            text,
            "  curl -i '{base}/__gtg?categories={}'     # what a load balancer reads",
            category(&last.name)
        );
        let _ =
            writeln!(text, "  {program} ack {} -m 'I am on it'{server}     # its failure no longer counts", last.name);
    }
    let _ = writeln!(text, "\nCtrl-C ends it.");
    text
}

/// Runs the demo until it is told to stop; returns the exit code.
///
/// # Errors
/// When it cannot start.
pub fn run(args: &DemoArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    log::start(LogFormat::Text, "warn")?;
    serve::block_on(async {
        let stop = CancellationToken::new();
        let anywhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let services = services::start(&SERVICES.map(|(name, _)| (name.to_owned(), anywhere)), &stop).await?;
        // The port may be taken between this look and the node's own listening; then the node says so and ends.
        let (probe, moved) = listener(args.listen)?;
        let listen = probe.local_addr()?;
        drop(probe);
        let told_to_stop = serve::asked_to_stop()?;
        let node = runtime::start(node_options(listen)?).await.context("the demo's node cannot start")?;
        fill(&node, catalog(&services.all)).await?;
        out.write_all(banner(&program(), node.address(), moved.then_some(args.listen), &services.all).as_bytes())?;
        out.flush()?;
        node.run_until(told_to_stop).await?;
        stop.cancel();
        services.ended().await;
        Ok(0)
    })
}

/// Flags of `demo-services`.
#[derive(Args, Clone, Debug)]
pub struct DemoServicesArgs {
    /// A service and the port that it answers on, all addresses; several words: several services
    #[arg(required = true, value_name = "NAME=PORT", value_parser = named_port)]
    services: Vec<(String, SocketAddr)>,
}

fn named_port(text: &str) -> Result<(String, SocketAddr), String> {
    let expected = || format!("expected NAME=PORT such as orders-1=9001, not {text:?}");
    let (name, port) = text.split_once('=').ok_or_else(expected)?;
    let name = TargetName::new(name).map_err(|e| e.to_string())?;
    let port: u16 = port.parse().map_err(|_| expected())?;
    Ok((name.to_string(), SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)))
}

/// Runs only the demo's kind of services, for a container of its own, until it is told to stop; returns the exit code.
///
/// # Errors
/// When a port cannot be had.
pub fn run_services(args: &DemoServicesArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    serve::block_on(async {
        let stop = CancellationToken::new();
        let told_to_stop = serve::asked_to_stop()?;
        let services = services::start(&args.services, &stop).await?;
        for service in &services.all {
            writeln!(out, "{} answers on port {}", service.name, service.address.port())?;
        }
        out.flush()?;
        told_to_stop.await;
        stop.cancel();
        services.ended().await;
        Ok(0)
    })
}

/// A node that keeps nothing.
fn node_options(listen: SocketAddr) -> anyhow::Result<Options> {
    Ok(Options {
        listen,
        advertise_url: None,
        node: NodeName::new("demo")?,
        region: None,
        environment: "demo".to_owned(),
        store: StoreOptions::Embedded,
        root: "/ft".to_owned(),
        data_dir: None,
        catalog: None,
        mass_removal_hold: Duration::from_secs(30),
        session_ttl: Duration::from_secs(5),
        drain_delay: Duration::ZERO,
        gateway: None,
        socks_proxy: None,
        sev_1_apps: Vec::new(),
        max_probes: 64,
        max_probes_per_host: 64,
        sentinels: Vec::new(),
        graphite: None,
        statsd: None,
        metrics_targets: false,
        admin_token_file: None,
        admin_listen: None,
        cluster_token_file: None,
        cluster_ca: None,
        tls: None,
    })
}

/// Writes the catalog as soon as the node's store is there; bounded.
async fn fill(node: &Running, document: Document) -> anyhow::Result<()> {
    let view = node.view();
    let mut changes = view.changes();
    let synced = async {
        while !view.load().node.ready {
            changes.wait().await;
        }
    };
    tokio::time::timeout(READY_BOUND, synced).await.context("the demo's store did not come up")?;
    node.port().apply(document, ApplyOptions { dry_run: false, prune: false }).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up() -> Vec<Service> {
        let address = "127.0.0.1:4711".parse().unwrap();
        SERVICES.iter().map(|(name, _)| Service { name: (*name).to_owned(), address }).collect()
    }

    #[test]
    fn the_catalog_is_one_that_check_accepts() {
        let document = catalog(&made_up());
        assert_eq!((document.targets.len(), document.categories.len()), (6, 2));
        let yaml = serde_saphyr::to_string(&document).unwrap();
        let read = crate::config::file::parse_catalog("demo", &yaml).unwrap();
        assert_eq!(read, document);
    }

    #[test]
    fn a_service_is_named_with_its_port() {
        let (name, address) = named_port("east-orders-1=9001").unwrap();
        assert_eq!((name.as_str(), address.to_string().as_str()), ("east-orders-1", "0.0.0.0:9001"));
        for wrong in ["orders-1", "orders-1=", "orders-1=70000", "or ders=9001", "=9001"] {
            assert!(named_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_taken_port_is_left_to_its_owner() {
        let owner = TcpListener::bind("127.0.0.1:0").unwrap();
        let (other, moved) = listener(owner.local_addr().unwrap()).unwrap();
        assert!(moved && other.local_addr().unwrap().port() != owner.local_addr().unwrap().port());
        let text = banner("bellwether", other.local_addr().unwrap(), Some(owner.local_addr().unwrap()), &made_up());
        assert!(text.contains("in use") && text.contains("/health/flip") && text.contains("ack payments-1"));
    }
}
