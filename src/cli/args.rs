//! The flags of `bellwether serve`, each of which is also an environment variable, and what they come to together.
//! How one text becomes a value is left to `values`; what follows from the values is left to `runtime`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::values::{self, Given, HostPort};
use crate::{
    model::{NodeName, RegionName},
    probe::Sentinel,
};

/// Most sentinels: all are tried at once.
const MAX_SENTINELS: usize = 8;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

fn path(text: &str) -> Result<Given<PathBuf>, String> {
    values::given(text, |t| Ok(PathBuf::from(t)))
}

fn text(text: &str) -> Result<Given<String>, String> {
    values::given(text, |t| Ok(t.to_owned()))
}

/// The flags as given; `options` checks them together.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where to answer HTTP
    #[arg(long, env = "BELLWETHER_LISTEN", value_name = "IP:PORT", default_value = "0.0.0.0:8080", value_parser = values::listen)]
    listen: SocketAddr,
    /// URL that other nodes reach this one by [default: made of the host name and the port of --listen]
    #[arg(long, env = "BELLWETHER_ADVERTISE_URL", value_name = "URL", value_parser = |t: &str| values::given(t, values::url))]
    advertise_url: Option<Given<String>>,
    /// Name of this node [default: the host name]
    #[arg(long, env = "BELLWETHER_NODE", value_name = "NAME", value_parser = |t: &str| values::given(t, |t| NodeName::new(t).map_err(|e| e.to_string())))]
    node: Option<Given<NodeName>>,
    /// Region of this node [default: one region named `default`]
    #[arg(long, env = "BELLWETHER_REGION", value_name = "NAME", value_parser = |t: &str| values::given(t, |t| RegionName::new(t).map_err(|e| e.to_string())))]
    region: Option<Given<RegionName>>,
    /// Environment, as in `<environment> cluster health` and in Graphite's paths
    #[arg(long, env = "ENVIRONMENT", value_name = "NAME", default_value = "local", value_parser = values::environment)]
    environment: String,

    /// How long the node goes on answering after SIGTERM, no longer ready, its lead handed over; a second signal ends it at once
    #[arg(long, env = "BELLWETHER_DRAIN_DELAY", value_name = "DURATION", default_value = "5s", value_parser = values::duration)]
    drain_delay: Duration,

    /// etcd members, separated by commas; without one the embedded store is used (also: ETCD_PEERS)
    #[arg(long, visible_alias = "etcd-peers", env = "ETCD_ENDPOINTS", value_name = "URLS", help_heading = "Store")]
    etcd_endpoints: Option<String>,
    /// etcd user; needs --etcd-password-file
    #[arg(long, env = "BELLWETHER_ETCD_USER", value_name = "NAME", value_parser = text, help_heading = "Store")]
    etcd_user: Option<Given<String>>,
    /// File that holds the etcd user's password
    #[arg(long, env = "BELLWETHER_ETCD_PASSWORD_FILE", value_name = "FILE", value_parser = path, help_heading = "Store")]
    etcd_password_file: Option<Given<PathBuf>>,
    /// PEM roots that etcd's certificate is checked against [default: the system's]
    #[arg(long, env = "BELLWETHER_ETCD_CA", value_name = "FILE", value_parser = path, help_heading = "Store")]
    etcd_ca: Option<Given<PathBuf>>,
    /// PEM client certificate for etcd; needs --etcd-key
    #[arg(long, env = "BELLWETHER_ETCD_CERT", value_name = "FILE", value_parser = path, help_heading = "Store")]
    etcd_cert: Option<Given<PathBuf>>,
    /// PEM key of --etcd-cert
    #[arg(long, env = "BELLWETHER_ETCD_KEY", value_name = "FILE", value_parser = path, help_heading = "Store")]
    etcd_key: Option<Given<PathBuf>>,
    /// ROOT of all keys
    #[arg(long, env = "BELLWETHER_KEY_PREFIX", value_name = "PATH", default_value = "/ft", value_parser = values::key_prefix, help_heading = "Store")]
    key_prefix: String,
    /// Where the node keeps its data [default: /var/lib/bellwether as root, else ~/.local/state/bellwether]
    #[arg(long, env = "BELLWETHER_DATA_DIR", value_name = "DIR", value_parser = path, help_heading = "Store")]
    data_dir: Option<Given<PathBuf>>,
    /// Catalog file for the embedded store, read again when it changes
    #[arg(long, env = "BELLWETHER_CATALOG", value_name = "FILE", value_parser = path, help_heading = "Store")]
    catalog: Option<Given<PathBuf>>,
    /// How long a removal of over half of the targets is held before it is applied
    #[arg(long, env = "BELLWETHER_MASS_REMOVAL_HOLD", value_name = "DURATION", default_value = "30s", value_parser = values::duration, help_heading = "Store")]
    mass_removal_hold: Duration,
    /// Time to live of the node's session lease, 3s to 30s; below 5s a slow store costs the lead
    #[arg(long, env = "BELLWETHER_SESSION_TTL", value_name = "DURATION", default_value = "5s", value_parser = values::session_ttl, help_heading = "Store")]
    session_ttl: Duration,

    /// Gateway that targets without a URL of their own are probed through
    #[arg(long, env = "VULCAND_ADDRESS", value_name = "HOST:PORT", value_parser = |t: &str| values::given(t, values::gateway), help_heading = "Probes")]
    vulcand: Option<Given<HostPort>>,
    /// SOCKS5 proxy for probes and etcd
    #[arg(long, env = "SOCKS_PROXY", value_name = "HOST:PORT", value_parser = |t: &str| values::given(t, values::socks), help_heading = "Probes")]
    socks_proxy: Option<Given<HostPort>>,
    /// Targets or services whose failure has severity 1, exact names separated by commas
    #[arg(long, env = "SEV_1_APPS", value_name = "NAMES", value_parser = |t: &str| values::names(t).map(|n| Given(Some(n))), help_heading = "Probes")]
    sev_1_apps: Option<Given<Vec<String>>>,
    /// Most probes at once
    #[arg(long, env = "BELLWETHER_MAX_PROBES", value_name = "N", default_value = "4096", value_parser = values::count, help_heading = "Probes")]
    max_probes: usize,
    /// Most probes at once to one host (the gateway is no host in this sense)
    #[arg(long, env = "BELLWETHER_MAX_PROBES_PER_HOST", value_name = "N", default_value = "128", value_parser = values::count, help_heading = "Probes")]
    max_probes_per_host: usize,
    /// Place outside the catalog that answers while the network around this node works; http://, https:// or tcp://HOST:PORT; several: one flag each, or commas
    #[arg(long = "sentinel", env = "BELLWETHER_SENTINELS", value_name = "URL", value_delimiter = ',', value_parser = |t: &str| values::given(t, |t| Sentinel::parse(t).map_err(|e| e.to_string())), help_heading = "Probes")]
    sentinels: Vec<Given<Sentinel>>,

    /// Carbon's host; none: no Graphite
    #[arg(long, env = "GRAPHITE_HOST", value_name = "HOST", value_parser = |t: &str| values::given(t, values::host), help_heading = "Graphite")]
    graphite_host: Option<Given<String>>,
    /// Carbon's plaintext port
    #[arg(long, env = "GRAPHITE_PORT", value_name = "PORT", default_value_t = 2003, value_parser = values::port, help_heading = "Graphite")]
    graphite_port: u16,
    /// First part of every metric path
    #[arg(long, env = "BELLWETHER_GRAPHITE_PREFIX", value_name = "WORDS", default_value = "coco", value_parser = values::graphite_prefix, help_heading = "Graphite")]
    graphite_prefix: String,
    /// Time between two flushes
    #[arg(long, env = "BELLWETHER_GRAPHITE_INTERVAL", value_name = "DURATION", default_value = "60s", value_parser = values::positive_duration, help_heading = "Graphite")]
    graphite_interval: Duration,

    /// StatsD server that the node's own figures go to; none: no StatsD
    #[arg(long, env = "BELLWETHER_STATSD", value_name = "HOST:PORT", value_parser = |t: &str| values::given(t, values::statsd), help_heading = "Figures")]
    statsd: Option<Given<HostPort>>,
    /// First words of every StatsD name; the node's name follows
    #[arg(long, env = "BELLWETHER_STATSD_PREFIX", value_name = "WORDS", default_value = "bellwether", value_parser = values::statsd_prefix, help_heading = "Figures")]
    statsd_prefix: String,
    /// Series for each target, category and service at /metrics
    #[arg(long, env = "BELLWETHER_METRICS_TARGETS", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Figures")]
    metrics_targets: bool,

    /// File that holds the token which edits need; without one edits are taken from loopback only
    #[arg(long, env = "BELLWETHER_ADMIN_TOKEN_FILE", value_name = "FILE", value_parser = path, help_heading = "Doors")]
    admin_token_file: Option<Given<PathBuf>>,
    /// Take edits on this address only, not on --listen
    #[arg(long, env = "BELLWETHER_ADMIN_LISTEN", value_name = "IP:PORT", value_parser = |t: &str| values::given(t, values::listen), help_heading = "Doors")]
    admin_listen: Option<Given<SocketAddr>>,
    /// PEM certificate chain of the listener; needs --tls-key
    #[arg(long, env = "BELLWETHER_TLS_CERT", value_name = "FILE", value_parser = path, help_heading = "Doors")]
    tls_cert: Option<Given<PathBuf>>,
    /// PEM key of --tls-cert
    #[arg(long, env = "BELLWETHER_TLS_KEY", value_name = "FILE", value_parser = path, help_heading = "Doors")]
    tls_key: Option<Given<PathBuf>>,
    /// PEM roots that clients' certificates must come from; needs --tls-cert
    #[arg(long, env = "BELLWETHER_CLIENT_CA", value_name = "FILE", value_parser = path, help_heading = "Doors")]
    client_ca: Option<Given<PathBuf>>,

    /// File that holds the token which the cluster's nodes show each other; without one they replicate over loopback only
    #[arg(long, env = "BELLWETHER_CLUSTER_TOKEN_FILE", value_name = "FILE", value_parser = path, help_heading = "Cluster")]
    cluster_token_file: Option<Given<PathBuf>>,
    /// PEM roots that other nodes' certificates are checked against, beside the system's
    #[arg(long, env = "BELLWETHER_CLUSTER_CA", value_name = "FILE", value_parser = path, help_heading = "Cluster")]
    cluster_ca: Option<Given<PathBuf>>,

    /// How the log is written
    #[arg(long, env = "BELLWETHER_LOG_FORMAT", value_name = "FORMAT", default_value = "text", help_heading = "Log")]
    log_format: LogFormat,
    /// error, warn, info, debug, trace, off, or directives such as info,bellwether::store=debug
    #[arg(long, env = "BELLWETHER_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = values::log_level, help_heading = "Log")]
    log_level: String,
}

/// Everything `serve` needs, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeOptions {
    /// Where to answer HTTP.
    pub listen: SocketAddr,
    /// How other nodes reach this one, if given: scheme, host and port, no trailing slash.
    pub advertise_url: Option<String>,
    /// This node's name.
    pub node: NodeName,
    /// This node's region; `None` when none was named (then FT's plain keys are written too).
    pub region: Option<RegionName>,
    /// The environment's name.
    pub environment: String,
    /// How long answers go on after SIGTERM.
    pub drain_delay: Duration,
    /// etcd; `None`: the embedded store.
    pub etcd: Option<EtcdOptions>,
    /// ROOT: leading slash, no trailing one.
    pub key_prefix: String,
    /// Where the node keeps its data.
    pub data_dir: PathBuf,
    /// Catalog file; only with the embedded store.
    pub catalog: Option<PathBuf>,
    /// How long a mass removal is held.
    pub mass_removal_hold: Duration,
    /// Time to live of the session lease.
    pub session_ttl: Duration,
    /// Gateway for targets without a URL.
    pub vulcand: Option<HostPort>,
    /// SOCKS5 proxy for probes and etcd.
    pub socks_proxy: Option<HostPort>,
    /// Exact names of targets or services of severity 1.
    pub sev_1_apps: Vec<String>,
    /// Most probes at once.
    pub max_probes: usize,
    /// Most probes at once to one host.
    pub max_probes_per_host: usize,
    /// Places that answer while the network around this node works.
    pub sentinels: Vec<Sentinel>,
    /// Graphite; `None`: off.
    pub graphite: Option<GraphiteOptions>,
    /// StatsD; `None`: off.
    pub statsd: Option<StatsdOptions>,
    /// Series with names at `/metrics`.
    pub metrics_targets: bool,
    /// File that holds the admin token.
    pub admin_token_file: Option<PathBuf>,
    /// Where edits are taken, if not on `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// File that holds the token of the cluster's nodes.
    pub cluster_token_file: Option<PathBuf>,
    /// PEM roots for other nodes' certificates.
    pub cluster_ca: Option<PathBuf>,
    /// TLS of the listener.
    pub tls: Option<TlsFiles>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Level or directives for the log.
    pub log_level: String,
    /// What is allowed but doubtful: to be logged at the start.
    pub warnings: Vec<String>,
}

/// How etcd is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdOptions {
    /// `http://host:port` or `https://host:port`, at least one, all of one scheme.
    pub endpoints: Vec<String>,
    /// User name and the file that holds the password.
    pub user: Option<(String, PathBuf)>,
    /// PEM roots.
    pub ca: Option<PathBuf>,
    /// PEM client certificate and key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// Where Graphite's points go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphiteOptions {
    /// Carbon's host.
    pub host: String,
    /// Carbon's plaintext port.
    pub port: u16,
    /// First part of every metric path.
    pub prefix: String,
    /// Time between two flushes.
    pub interval: Duration,
}

/// Where StatsD's metrics go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsdOptions {
    /// The server's host.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
    /// First words of every name.
    pub prefix: String,
}

/// PEM files of a TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Roots that clients' certificates must come from.
    pub client_ca: Option<PathBuf>,
}

/// Flags that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(pub String);

/// Both or none.
fn pair<A, B>(a: Option<A>, b: Option<B>, names: (&str, &str)) -> Result<Option<(A, B)>, OptionsError> {
    match (a, b) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(OptionsError(format!("{} needs {}", names.0, names.1))),
        (None, Some(_)) => Err(OptionsError(format!("{} needs {}", names.1, names.0))),
    }
}

fn flat<T>(given: Option<Given<T>>) -> Option<T> {
    given.and_then(|g| g.0)
}

impl ServeArgs {
    /// Checks the flags together. `env` reads an environment variable; `host` is this machine's name.
    ///
    /// # Errors
    /// Which flags do not go together, and what is missing.
    pub fn options(self, env: impl Fn(&str) -> Option<String>, host: &str) -> Result<ServeOptions, OptionsError> {
        let mut warnings = Vec::new();
        let node = match flat(self.node) {
            Some(node) => node,
            None => NodeName::new(host).map_err(|_| {
                OptionsError(format!("this machine's name {host:?} cannot be a node's name; give one with --node"))
            })?,
        };
        let etcd = EtcdFlags {
            endpoints: self.etcd_endpoints.filter(|t| !t.trim().is_empty()).or_else(|| env("ETCD_PEERS")),
            user: flat(self.etcd_user),
            password_file: flat(self.etcd_password_file),
            ca: flat(self.etcd_ca),
            cert: flat(self.etcd_cert),
            key: flat(self.etcd_key),
        }
        .check()?;
        let catalog = flat(self.catalog);
        if etcd.is_some() && catalog.is_some() {
            return Err(OptionsError(
                "--catalog feeds the embedded store and does not go with --etcd-endpoints; use `bellwether apply -f FILE` instead".to_owned(),
            ));
        }
        let tls_pair = pair(flat(self.tls_cert), flat(self.tls_key), ("--tls-cert", "--tls-key"))?;
        let client_ca = flat(self.client_ca);
        if client_ca.is_some() && tls_pair.is_none() {
            return Err(OptionsError("--client-ca needs --tls-cert and --tls-key".to_owned()));
        }
        let admin_listen = flat(self.admin_listen);
        if admin_listen.is_some_and(|a| a == self.listen && a.port() != 0) {
            return Err(OptionsError(
                "--admin-listen must differ from --listen; leave it out to take edits there".to_owned(),
            ));
        }
        let admin_token_file = flat(self.admin_token_file);
        if admin_listen.is_some_and(|a| !a.ip().is_loopback()) && admin_token_file.is_none() {
            warnings.push(
                "--admin-listen is not on loopback and no --admin-token-file is given: edits will be refused"
                    .to_owned(),
            );
        }
        let cluster_token_file = flat(self.cluster_token_file);
        if etcd.is_some() && cluster_token_file.is_none() && !self.listen.ip().is_loopback() {
            warnings.push(
                "no --cluster-token-file is given: nodes on other machines cannot follow this one's results".to_owned(),
            );
        }
        if self.session_ttl < Duration::from_secs(5) {
            warnings.push(
                "--session-ttl is below 5s: a store that stalls for a moment costs this node the lead".to_owned(),
            );
        }
        let sentinels: Vec<Sentinel> = self.sentinels.into_iter().filter_map(|given| given.0).collect();
        if sentinels.len() > MAX_SENTINELS {
            return Err(OptionsError(format!(
                "--sentinel is given {} times; at most {MAX_SENTINELS}",
                sentinels.len()
            )));
        }
        let (prefix, interval) = (self.graphite_prefix, self.graphite_interval);
        let port = self.graphite_port;
        let statsd_prefix = self.statsd_prefix;
        Ok(ServeOptions {
            listen: self.listen,
            advertise_url: flat(self.advertise_url),
            node,
            region: flat(self.region),
            environment: self.environment,
            drain_delay: self.drain_delay,
            etcd,
            key_prefix: self.key_prefix,
            data_dir: flat(self.data_dir).unwrap_or_else(|| default_data_dir(&env)),
            catalog,
            mass_removal_hold: self.mass_removal_hold,
            session_ttl: self.session_ttl,
            vulcand: flat(self.vulcand),
            socks_proxy: flat(self.socks_proxy),
            sev_1_apps: flat(self.sev_1_apps).unwrap_or_default(),
            max_probes: self.max_probes,
            max_probes_per_host: self.max_probes_per_host,
            sentinels,
            graphite: flat(self.graphite_host).map(|host| GraphiteOptions { host, port, prefix, interval }),
            statsd: flat(self.statsd).map(|s| StatsdOptions { host: s.host, port: s.port, prefix: statsd_prefix }),
            metrics_targets: self.metrics_targets,
            admin_token_file,
            admin_listen,
            cluster_token_file,
            cluster_ca: flat(self.cluster_ca),
            tls: tls_pair.map(|(cert, key)| TlsFiles { cert, key, client_ca }),
            log_format: self.log_format,
            log_level: self.log_level,
            warnings,
        })
    }
}

struct EtcdFlags {
    endpoints: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl EtcdFlags {
    fn check(self) -> Result<Option<EtcdOptions>, OptionsError> {
        let user = pair(self.user, self.password_file, ("--etcd-user", "--etcd-password-file"))?;
        let client_cert = pair(self.cert, self.key, ("--etcd-cert", "--etcd-key"))?;
        let tls_flag = if self.ca.is_some() { Some("--etcd-ca") } else { client_cert.as_ref().map(|_| "--etcd-cert") };
        let words = self.endpoints.unwrap_or_default();
        // A host without a scheme is reached in the way that the other flags ask for.
        let scheme = if tls_flag.is_some() || words.contains("https://") { "https" } else { "http" };
        let endpoints = words
            .split(',')
            .filter(|word| !word.trim().is_empty())
            .map(|word| values::etcd_endpoint(word, scheme))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| OptionsError(format!("--etcd-endpoints: {e}")))?;
        if endpoints.is_empty() {
            let lonely = tls_flag.or(user.as_ref().map(|_| "--etcd-user"));
            return match lonely {
                Some(flag) => Err(OptionsError(format!("{flag} needs --etcd-endpoints"))),
                None => Ok(None),
            };
        }
        let secure = endpoints.iter().filter(|e| e.starts_with("https://")).count();
        if secure != 0 && secure != endpoints.len() {
            return Err(OptionsError("--etcd-endpoints mixes http:// and https://; expected one of them".to_owned()));
        }
        if let (0, Some(flag)) = (secure, tls_flag) {
            return Err(OptionsError(format!("{flag} needs --etcd-endpoints with https://")));
        }
        Ok(Some(EtcdOptions { endpoints, user, ca: self.ca, client_cert }))
    }
}

/// systemd's directory, root's, or the user's own.
fn default_data_dir(env: &impl Fn(&str) -> Option<String>) -> PathBuf {
    let set = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("STATE_DIRECTORY") {
        return dir;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/bellwether");
    }
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    state.map_or_else(|| PathBuf::from("bellwether-data"), |dir| dir.join("bellwether"))
}

/// This machine's name, as far as it may be a node's name: without its domain.
#[must_use]
pub fn host_name() -> String {
    let uname = rustix::system::uname();
    let full = uname.nodename().to_string_lossy().into_owned();
    full.split('.').next().unwrap_or_default().to_owned()
}
