//! From a target's spec to the check that is run: where to connect, what to send, what counts as good. Contradictions
//! between fields are problems that name the field. The order of work is left to `resolve`.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{
    endpoint::{self, Endpoint, Gateway},
    problem::{Path, Problems},
    shapes,
};
use crate::model::{
    RegionName,
    secret::Secret,
    spec::{AuthSpec, JsonSpec, StatusSpec, TargetSpec},
    target::{Auth, Check, Format, JsonExpect, JsonOp, Kind, TlsOptions},
};

/// Longest time an exchange may take when the spec says nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between probes while a state is changing, when the spec says nothing.
pub const DEFAULT_FAST_INTERVAL: Duration = Duration::from_secs(1);

/// What a check needs besides the spec.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The target's name.
    pub target: &'a str,
    /// Its health path.
    pub path: &'a str,
    /// The region that probes it.
    pub region: &'a RegionName,
    /// Where targets without a URL are reached.
    pub gateway: Option<&'a Gateway>,
}

/// Makes the check. `None` where problems were added, or where there is neither a URL nor a gateway (no problem is
/// added for that: it is not the spec's fault).
#[must_use]
pub fn build(spec: &TargetSpec, around: Surroundings<'_>, at: &Path, out: &mut Problems) -> Option<Check> {
    let before = out.0.len();
    let endpoint = endpoint::find(spec, around, at, out);
    let kind = endpoint.as_ref().map(|e| e.kind);
    if let Some(kind) = kind {
        fields_fit(spec, kind, at, out);
    }
    let (headers, host_header) = headers(spec, at, out);
    let expect = spec.expect.as_ref();
    let method = spec.method.as_deref().and_then(|m| Method::from_bytes(m.as_bytes()).ok()).unwrap_or(Method::GET);
    if method == Method::HEAD && expect.is_some_and(|e| e.body.is_some() || e.json.is_some()) {
        out.add(&at.field("method"), "an answer to HEAD has no body, and expect looks into it", "GET");
    }
    if let Some(server_name) = spec.tls.as_ref().and_then(|t| t.server_name.as_deref())
        && server_name.is_empty()
    {
        out.add(&at.field("tls").field("server_name"), "it is empty", "a host name");
    }
    if out.0.len() > before {
        return None;
    }
    let Endpoint { kind, host, port, via_gateway, path, host_header: own_host } = endpoint?;
    let status = expect.and_then(|e| e.status.as_ref()).map(|s| match s {
        StatusSpec::One(code) => vec![(*code, *code)],
        StatusSpec::Text(text) => shapes::status_ranges(text).unwrap_or_default(),
    });
    Some(Check {
        kind,
        host,
        port,
        via_gateway,
        path,
        host_header: host_header.unwrap_or(own_host),
        method,
        headers,
        auth: spec.auth.clone().map(|auth| match auth {
            AuthSpec::Basic { user, password } => Auth::Basic { user, password },
            AuthSpec::Bearer(token) => Auth::Bearer(token),
        }),
        format: format(spec.format.as_deref()),
        expect_status: status.unwrap_or_default(),
        expect_body: expect.and_then(|e| e.body.clone()),
        expect_json: expect.and_then(|e| e.json.as_ref()).into_iter().flatten().map(json_expect).collect(),
        min_days_left: expect.and_then(|e| e.min_days_left),
        timeout: spec.timeout.unwrap_or(DEFAULT_TIMEOUT),
        rise: spec.rise.unwrap_or(2),
        fall: spec.fall.unwrap_or(3),
        fast_interval: spec.fast_interval.unwrap_or(DEFAULT_FAST_INTERVAL),
        reuse: spec.connection.as_deref() == Some("reuse"),
        redirects: spec.redirects.unwrap_or(0),
        tls: spec.tls.as_ref().map_or_else(TlsOptions::default, |t| TlsOptions {
            verify: t.verify.unwrap_or(true),
            server_name: t.server_name.clone(),
            ca: t.ca.clone(),
        }),
        grpc_service: spec.grpc_service.clone().unwrap_or_default(),
        properties: spec.properties.clone().unwrap_or_default(),
    })
}

/// A check that never runs: for a target that has nowhere to be probed. It stays unknown.
#[must_use]
pub fn nowhere(path: &str) -> Arc<Check> {
    Arc::new(heartbeat(path))
}

fn heartbeat(path: &str) -> Check {
    Check {
        kind: Kind::Heartbeat,
        host: String::new(),
        port: 0,
        via_gateway: false,
        path: path.to_owned(),
        host_header: String::new(),
        method: Method::GET,
        headers: Vec::new(),
        auth: None,
        format: Format::Auto,
        expect_status: Vec::new(),
        expect_body: None,
        expect_json: Vec::new(),
        min_days_left: None,
        timeout: DEFAULT_TIMEOUT,
        rise: 2,
        fall: 3,
        fast_interval: DEFAULT_FAST_INTERVAL,
        reuse: false,
        redirects: 0,
        tls: TlsOptions::default(),
        grpc_service: String::new(),
        properties: std::collections::BTreeMap::new(),
    }
}

fn format(word: Option<&str>) -> Format {
    match word {
        Some("status") => Format::Status,
        Some("ft") => Format::Ft,
        Some("health+json") => Format::HealthJson,
        Some("spring") => Format::Spring,
        _ => Format::Auto,
    }
}

fn json_expect(spec: &JsonSpec) -> JsonExpect {
    let op = match spec.op.as_str() {
        "!=" => JsonOp::Ne,
        "<" => JsonOp::Lt,
        "<=" => JsonOp::Le,
        ">" => JsonOp::Gt,
        ">=" => JsonOp::Ge,
        "exists" => JsonOp::Exists,
        "absent" => JsonOp::Absent,
        _ => JsonOp::Eq,
    };
    JsonExpect { pointer: spec.pointer.clone(), op, value: spec.value.clone() }
}

/// Fields that mean nothing for the kind are contradictions: somebody expects an effect that will not be.
fn fields_fit(spec: &TargetSpec, kind: Kind, at: &Path, out: &mut Problems) {
    let http = matches!(kind, Kind::Http | Kind::Https);
    let grpc = matches!(kind, Kind::Grpc | Kind::Grpcs);
    let tls = matches!(kind, Kind::Https | Kind::Tls | Kind::Grpcs);
    let expect = spec.expect.as_ref();
    let at_expect = at.field("expect");
    let rules: [(bool, bool, Path, &str); 13] = [
        (spec.method.is_some(), http, at.field("method"), "http"),
        (spec.format.is_some(), http, at.field("format"), "http"),
        (spec.redirects.is_some(), http, at.field("redirects"), "http"),
        (spec.properties.is_some(), http, at.field("properties"), "http"),
        (spec.headers.is_some(), http || grpc, at.field("headers"), "http or grpc"),
        (spec.auth.is_some(), http || grpc, at.field("auth"), "http or grpc"),
        (spec.connection.as_deref() == Some("reuse"), http || grpc, at.field("connection"), "http or grpc"),
        (spec.grpc_service.is_some(), grpc, at.field("grpc_service"), "grpc"),
        (spec.tls.is_some(), tls, at.field("tls"), "tls, or a url with https or grpcs"),
        (expect.is_some_and(|e| e.status.is_some()), http, at_expect.field("status"), "http"),
        (expect.is_some_and(|e| e.body.is_some()), http, at_expect.field("body"), "http"),
        (expect.is_some_and(|e| e.json.is_some()), http, at_expect.field("json"), "http"),
        (
            expect.is_some_and(|e| e.min_days_left.is_some()),
            tls,
            at_expect.field("min_days_left"),
            "tls, or a url with https or grpcs",
        ),
    ];
    for (given, fits, path, wanted) in rules {
        if given && !fits {
            let is = endpoint::kind_word(kind);
            out.add(&path, format!("it has no meaning for kind {is}"), format!("kind {wanted}, or no such field"));
        }
    }
}

type Headers = (Vec<(HeaderName, Secret)>, Option<String>);

fn headers(spec: &TargetSpec, at: &Path, out: &mut Problems) -> Headers {
    let (mut headers, mut host) = (Vec::new(), None);
    for (name, value) in spec.headers.iter().flatten() {
        let path = at.field("headers").field(name);
        let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
            out.add(&path, format!("{name:?} is no header name"), "a header name such as X-Request-Id");
            continue;
        };
        if let Secret::Inline(text) = value
            && HeaderValue::from_str(text).is_err()
        {
            out.add(&path, "the value has a character that headers cannot carry", "printable ASCII on one line");
            continue;
        }
        match (parsed.as_str(), value) {
            ("host", Secret::Inline(text)) => host = Some(text.clone()),
            ("host", Secret::File { .. }) => out.add(&path, "Host cannot come from a file", "text"),
            ("connection" | "content-length" | "transfer-encoding" | "upgrade" | "te" | "trailer", _) => {
                out.add(
                    &path,
                    "this header belongs to the connection, not to the operator",
                    "no such header (see connection)",
                );
            }
            ("authorization", _) if spec.auth.is_some() => {
                out.add(&path, "it contradicts auth", "either this header or auth");
            }
            _ => headers.push((parsed, value.clone())),
        }
    }
    (headers, host)
}
