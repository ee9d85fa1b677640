//! What a node is told at its start, already validated: `cli` makes it from flags, tests and `demo` by hand.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    model::{NodeName, RegionName},
    probe::Sentinel,
};

/// Everything that `runtime::start` needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the main listener binds.
    pub listen: SocketAddr,
    /// How others reach this node; default: `http(s)://<listen>`.
    pub advertise_url: Option<String>,
    /// This node's name.
    pub node: NodeName,
    /// Its region, where one is named.
    pub region: Option<RegionName>,
    /// The environment's name.
    pub environment: String,
    /// Which store.
    pub store: StoreOptions,
    /// ROOT, with a leading slash and none at the end.
    pub root: String,
    /// Where durable data goes; `None`: nowhere, all is lost at the end.
    pub data_dir: Option<PathBuf>,
    /// A catalog file for the embedded store.
    pub catalog: Option<PathBuf>,
    /// How long a mass removal is held; zero: not at all.
    pub mass_removal_hold: Duration,
    /// TTL of the session lease.
    pub session_ttl: Duration,
    /// How long answers go on after the lead was handed over at a shutdown, counted from its signal.
    pub drain_delay: Duration,
    /// The gateway, `host:port`.
    pub gateway: Option<String>,
    /// SOCKS5 proxy, `host:port`, for probes and etcd.
    pub socks_proxy: Option<String>,
    /// Targets and services of severity 1.
    pub sev_1_apps: Vec<String>,
    /// Most probes at once.
    pub max_probes: usize,
    /// Most probes at once to one host and port.
    pub max_probes_per_host: usize,
    /// Places that answer while the network around this node works.
    pub sentinels: Vec<Sentinel>,
    /// Where Graphite is, if anywhere.
    pub graphite: Option<GraphiteTarget>,
    /// Where StatsD is, if anywhere.
    pub statsd: Option<StatsdTarget>,
    /// `/metrics` tells of targets, categories and services by name.
    pub metrics_targets: bool,
    /// File with the admin token.
    pub admin_token_file: Option<PathBuf>,
    /// A listener for edits alone.
    pub admin_listen: Option<SocketAddr>,
    /// File with the token of the cluster's nodes.
    pub cluster_token_file: Option<PathBuf>,
    /// PEM roots, beside the system's, that other nodes' certificates may come from.
    pub cluster_ca: Option<PathBuf>,
    /// TLS of the main listener.
    pub tls: Option<TlsFiles>,
}

/// Which store.
#[derive(Clone, Debug)]
pub enum StoreOptions {
    /// In this process; durable below the data directory.
    Embedded,
    /// etcd.
    Etcd(EtcdFlags),
}

/// How etcd is reached.
#[derive(Clone, Debug)]
pub struct EtcdFlags {
    /// Endpoint URLs.
    pub endpoints: Vec<String>,
    /// User name and password file.
    pub user: Option<(String, PathBuf)>,
    /// Extra roots.
    pub ca: Option<PathBuf>,
    /// Client certificate and key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// Where Graphite is.
#[derive(Clone, Debug)]
pub struct GraphiteTarget {
    /// Host name or address.
    pub host: String,
    /// Plaintext port.
    pub port: u16,
    /// First words of each path.
    pub prefix: String,
    /// Time between flushes.
    pub interval: Duration,
}

/// Where StatsD is.
#[derive(Clone, Debug)]
pub struct StatsdTarget {
    /// Host name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// First words of each name.
    pub prefix: String,
}

/// TLS of a listener.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM certificate chain.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// PEM roots that client certificates must chain to.
    pub client_ca: Option<PathBuf>,
}
