//! Specs as people write them: one schema for keys, files and the API (design sections 5 and 7).
//! Unknown fields are refused; validation and defaults are left to `config`.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{duration::optional_seconds, secret::Secret};

/// `ROOT/healthcheck/<target>/spec`; every field is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetSpec {
    /// Version of the value (1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<u32>,
    /// The service it belongs to; default: the name less a `-<digits>` suffix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The regions that probe it; default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// Full URL (`{region}` is filled in); default: through the gateway, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `http`, `tcp`, `tls`, `grpc`, `heartbeat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// HTTP method; default GET.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers to send; a value may be `{"file": …}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, Secret>>,
    /// What counts as good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectSpec>,
    /// `auto`, `status`, `ft`, `health+json`, `spring`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Time between probes.
    #[serde(with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Bound on the whole exchange; default 5 s.
    #[serde(with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Good results in a row that make it up; default 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rise: Option<u32>,
    /// Bad results in a row that make it down; default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall: Option<u32>,
    /// Interval while a state is changing; default 1 s.
    #[serde(with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub fast_interval: Option<Duration>,
    /// `fresh` (default) or `reuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Follow this many redirects; default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirects: Option<u8>,
    /// 1 (high) to 3 (low); default 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<u8>,
    /// FT: what a failure means for the business.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub business_impact: Option<String>,
    /// FT: what is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub technical_summary: Option<String>,
    /// FT: what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic_guide: Option<String>,
    /// JSON pointers to pick from the body for the rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
    /// Who we are to the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// TLS options for `https`, `tls` and `grpc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// gRPC service name asked of the health service; default the whole server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_service: Option<String>,
}

/// `expect`: all given parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectSpec {
    /// Status codes: `200`, `200-299`, or a list such as `"200,204-206"`; default per format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusSpec>,
    /// Text that the body must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// JSON pointer comparisons that must all hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Vec<JsonSpec>>,
    /// Fewest days a certificate must still be valid (`https`, `tls`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_days_left: Option<u32>,
}

/// One status code or a text of ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StatusSpec {
    /// One code.
    One(u16),
    /// Codes and ranges, separated by commas.
    Text(String),
}

/// One comparison of the value at a JSON pointer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonSpec {
    /// RFC 6901 pointer, such as `/status`.
    pub pointer: String,
    /// `==`, `!=`, `<`, `<=`, `>`, `>=`, `exists`, `absent`; default `==`.
    #[serde(default = "JsonSpec::default_op")]
    pub op: String,
    /// What it is compared with.
    #[serde(default)]
    pub value: serde_json::Value,
}

impl JsonSpec {
    fn default_op() -> String {
        "==".to_owned()
    }
}

/// `auth`: exactly one of the forms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum AuthSpec {
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

/// `tls`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSpec {
    /// Whether the chain and name are verified; default true. Dates are judged either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
    /// Name for SNI and verification; default the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM file of extra roots on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<std::path::PathBuf>,
}

/// `ROOT/services/<service>/spec` (design section 7); the placement issue gives it effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceSpec {
    /// Version of the value (1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<u32>,
    /// Regions in order of preference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// Most regions that may report it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_active: Option<u32>,
    /// Fewest regions that should report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_active: Option<u32>,
    /// `auto`, `manual`, or a delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback: Option<serde_json::Value>,
    /// How long a loss must last before it moves; default 5 s.
    #[serde(with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Duration>,
    /// Services it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<Vec<serde_json::Value>>,
    /// Services it should share a region with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colocate_with: Option<Vec<String>>,
    /// Count, or percent as text such as `50%`; default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_healthy: Option<serde_json::Value>,
    /// CEL condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// CEL priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Webhooks to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Vec<String>>,
}

/// `ROOT/regions/<region>/spec` (design section 7); the placement issue gives it effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionSpec {
    /// Version of the value (1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<u32>,
    /// Facts for the rules, such as `primary: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, serde_json::Value>>,
    /// What must be possible for the region to be viable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<serde_json::Value>,
    /// `auto`, `manual`, or a delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback: Option<serde_json::Value>,
}
