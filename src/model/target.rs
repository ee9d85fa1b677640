//! A validated target: what to ask, how often, and what its failure means. Made by `config` only.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Ack, CategoryName, ServiceName, TargetName, secret::Secret};

/// FT severity: 1 high, 2 medium, 3 low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8")]
pub struct Severity(u8);

impl Severity {
    /// Serious impact.
    pub const HIGH: Self = Self(1);
    /// Tolerable for a short time; the default.
    pub const MEDIUM: Self = Self(2);
    /// No impact on users.
    pub const LOW: Self = Self(3);

    /// 1, 2 or 3; `None` otherwise.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if matches!(value, 1..=3) { Some(Self(value)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Severity {
    type Error = String;
    fn try_from(value: u8) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("{value} is no severity; expected 1, 2 or 3"))
    }
}

/// One probed endpoint as it is in force in this node's region.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its name.
    pub name: TargetName,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its health path as written (default `/__health`).
    pub path: String,
    /// Its categories, sorted, `default` among them.
    pub categories: Vec<CategoryName>,
    /// A person has seen it.
    pub ack: Option<Ack>,
    /// What is asked and how it is judged; another value means: probe at once.
    pub check: Arc<Check>,
    /// Time between probes: the smallest of its own and its categories' periods.
    pub interval: Duration,
    /// How bad its failure is (spec, or `--sev-1-apps`).
    pub severity: Severity,
    /// FT: what a failure means for the business.
    pub business_impact: String,
    /// FT: what is checked.
    pub technical_summary: String,
    /// FT: what to do about it.
    pub panic_guide: String,
}

/// How one target is asked and judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Which protocol.
    pub kind: Kind,
    /// Where to connect: host name or address (IPv6 without brackets).
    pub host: String,
    /// Where to connect: port.
    pub port: u16,
    /// It goes through the gateway (`--vulcand`), which counts as no host for the per-host limit.
    pub via_gateway: bool,
    /// HTTP path and query, beginning with `/`.
    pub path: String,
    /// The `Host` header.
    pub host_header: String,
    /// HTTP method.
    pub method: http::Method,
    /// Extra headers.
    pub headers: Vec<(http::HeaderName, Secret)>,
    /// Who we are to the target.
    pub auth: Option<Auth>,
    /// How the answer is read.
    pub format: Format,
    /// Accepted status ranges, inclusive; empty: the format's own rule.
    pub expect_status: Vec<(u16, u16)>,
    /// Text that the body must contain.
    pub expect_body: Option<String>,
    /// JSON comparisons that must hold.
    pub expect_json: Vec<JsonExpect>,
    /// Fewest days a certificate must still be valid.
    pub min_days_left: Option<u32>,
    /// Bound on the whole exchange.
    pub timeout: Duration,
    /// Good results in a row that make it up; at least 1.
    pub rise: u32,
    /// Bad results in a row that make it down; at least 1.
    pub fall: u32,
    /// Interval while a state is changing.
    pub fast_interval: Duration,
    /// Keep the connection between probes.
    pub reuse: bool,
    /// Most redirects followed.
    pub redirects: u8,
    /// TLS options.
    pub tls: TlsOptions,
    /// gRPC service name, empty for the whole server.
    pub grpc_service: String,
    /// JSON pointers to pick from the body.
    pub properties: BTreeMap<String, String>,
}

impl Check {
    /// A plain HTTP check of `/__health`-like `path`, with the defaults of design section 5: GET, format `auto`, 5 s, rise 2,
    /// fall 3, fast interval 1 s, a fresh connection, no redirects.
    #[must_use]
    pub fn http(host: &str, port: u16, path: &str) -> Self {
        Self {
            kind: Kind::Http,
            host: host.to_owned(),
            port,
            via_gateway: false,
            path: path.to_owned(),
            host_header: host.to_owned(),
            method: http::Method::GET,
            headers: Vec::new(),
            auth: None,
            format: Format::Auto,
            expect_status: Vec::new(),
            expect_body: None,
            expect_json: Vec::new(),
            min_days_left: None,
            timeout: Duration::from_secs(5),
            rise: 2,
            fall: 3,
            fast_interval: Duration::from_secs(1),
            reuse: false,
            redirects: 0,
            tls: TlsOptions::default(),
            grpc_service: String::new(),
            properties: BTreeMap::new(),
        }
    }
}

/// Protocol of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// A connection, no more.
    Tcp,
    /// A TLS handshake and the certificate's dates.
    Tls,
    /// gRPC health v1 in the clear.
    Grpc,
    /// gRPC health v1 over TLS.
    Grpcs,
    /// It reports in by itself (registry); never probed.
    Heartbeat,
}

/// How an HTTP answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Told apart by content type and shape.
    Auto,
    /// The status alone.
    Status,
    /// FT: 200, JSON, every `checks[].ok` true.
    Ft,
    /// `application/health+json` (draft-inadarei-api-health-check).
    #[serde(rename = "health+json")]
    HealthJson,
    /// Spring Boot actuator: `status` is `UP`.
    Spring,
}

/// A comparison of the value at a JSON pointer.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonExpect {
    /// RFC 6901 pointer.
    pub pointer: String,
    /// The relation.
    pub op: JsonOp,
    /// What it is compared with.
    pub value: serde_json::Value,
}

/// Relation of a JSON comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonOp {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<` (numbers)
    Lt,
    /// `<=` (numbers)
    Le,
    /// `>` (numbers)
    Gt,
    /// `>=` (numbers)
    Ge,
    /// The pointer finds a value.
    Exists,
    /// The pointer finds none.
    Absent,
}

/// Credentials sent with each probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// HTTP Basic.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// `Authorization: Bearer`.
    Bearer(Secret),
}

/// TLS options of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether chain and name are verified.
    pub verify: bool,
    /// Name for SNI and verification; default the host.
    pub server_name: Option<String>,
    /// PEM file of extra roots.
    pub ca: Option<PathBuf>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { verify: true, server_name: None, ca: None }
    }
}
