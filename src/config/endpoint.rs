//! Where a check connects: the URL, the kind that its scheme says, or the gateway.

use super::{
    check::Surroundings,
    problem::{Path, Problems},
    words,
};
use crate::model::{spec::TargetSpec, target::Kind};

/// What `url` may begin with.
const SCHEMES: [(&str, Kind); 6] = [
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("tcp", Kind::Tcp),
    ("tls", Kind::Tls),
    ("grpc", Kind::Grpc),
    ("grpcs", Kind::Grpcs),
];
const URL_EXPECTED: &str =
    "a URL such as http://host:8080/path, https://…, tcp://host:port, tls://…, grpc://… or grpcs://…";

/// Where targets without a URL are reached (`--vulcand`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    host: String,
    port: u16,
}

/// The text is no `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no address of a gateway: {reason}; expected host:port such as localhost:8080")]
pub struct GatewayError {
    /// The refused text.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Gateway {
    /// Reads `host:port`; `http://` before and `/` after are allowed, the port is 80 when missing.
    ///
    /// # Errors
    /// `GatewayError` when it is none.
    pub fn parse(text: &str) -> Result<Self, GatewayError> {
        let trimmed = text.trim();
        let plain = trimmed.strip_prefix("http://").unwrap_or(trimmed);
        let plain = plain.strip_suffix('/').unwrap_or(plain);
        let error = |reason| GatewayError { value: words::cut(text, 128), reason };
        let (host, port, rest) = authority(plain).map_err(error)?;
        if !rest.is_empty() {
            return Err(error("it has a path"));
        }
        Ok(Self { host, port: port.unwrap_or(80) })
    }
}

/// A place to connect to, and what is asked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The protocol.
    pub kind: Kind,
    /// Host without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Through the gateway.
    pub via_gateway: bool,
    /// Path and query.
    pub path: String,
    /// The `Host` header.
    pub host_header: String,
}

/// The word for a kind.
#[must_use]
pub const fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Http => "http",
        Kind::Https => "https",
        Kind::Tcp => "tcp",
        Kind::Tls => "tls",
        Kind::Grpc => "grpc",
        Kind::Grpcs => "grpcs",
        Kind::Heartbeat => "heartbeat",
    }
}

/// The endpoint of a target; `None` with problems added, or without any where there is neither URL nor gateway.
#[must_use]
pub fn find(spec: &TargetSpec, around: Surroundings<'_>, at: &Path, out: &mut Problems) -> Option<Endpoint> {
    match (spec.url.as_deref(), spec.kind.as_deref()) {
        (Some(_), Some("heartbeat")) => {
            out.add(
                &at.field("url"),
                "a heartbeat target reports in by itself and is never probed",
                "no url, or another kind",
            );
            None
        }
        (None, Some("heartbeat")) => Some(Endpoint {
            kind: Kind::Heartbeat,
            host: String::new(),
            port: 0,
            via_gateway: false,
            path: around.path.to_owned(),
            host_header: String::new(),
        }),
        (None, None | Some("http")) => around.gateway.map(|gateway| Endpoint {
            kind: Kind::Http,
            host: gateway.host.clone(),
            port: gateway.port,
            via_gateway: true,
            path: format!("/health/{}{}", around.target, around.path),
            host_header: around.target.to_owned(),
        }),
        (None, Some(kind)) => {
            let reason = format!("kind {kind} needs a url: the gateway speaks plain HTTP only");
            out.add(&at.field("kind"), reason, format!("url: {kind}://host:port"));
            None
        }
        (Some(url), kind) => from_url(url, kind, around, &at.field("url"), &at.field("kind"), out),
    }
}

fn from_url(
    url: &str,
    kind: Option<&str>,
    around: Surroundings<'_>,
    at: &Path,
    at_kind: &Path,
    out: &mut Problems,
) -> Option<Endpoint> {
    let filled = url.trim().replace("{region}", around.region.as_str());
    let shown = super::redact::url(&words::cut(&filled, 128));
    let mut refuse = |reason: String, expected: &str, near: Option<&str>| out.add_near(at, reason, expected, near);
    if filled.contains(['{', '}']) {
        refuse(
            format!("{shown:?} has a placeholder that is not known"),
            "{region} is the only placeholder",
            Some("{region}"),
        );
        return None;
    }
    let (scheme, rest) = match (filled.split_once("://"), kind) {
        (Some((scheme, rest)), _) => (scheme.to_ascii_lowercase(), rest),
        // Without a scheme the kind says how to connect.
        (None, Some(kind)) => (kind.to_owned(), filled.as_str()),
        (None, None) => {
            let near = format!("http://{shown}");
            refuse(format!("{shown:?} has no scheme, and there is no kind"), URL_EXPECTED, Some(&near));
            return None;
        }
    };
    let Some((word, found)) = SCHEMES.iter().find(|(word, _)| *word == scheme) else {
        let near = words::nearest(&scheme, SCHEMES.iter().map(|(word, _)| *word));
        refuse(format!("the scheme {scheme:?} is not known"), URL_EXPECTED, near);
        return None;
    };
    if let Some(kind) = kind
        && kind != *word
        && !matches!((kind, *found), ("http", Kind::Https) | ("grpc", Kind::Grpcs))
    {
        out.add(
            at_kind,
            format!("kind {kind} contradicts the url's scheme {word}"),
            format!("kind {word}, or no kind"),
        );
        return None;
    }
    let (host, port, tail) = match authority(rest) {
        Ok(parts) => parts,
        Err(reason) => {
            refuse(format!("{shown:?} is no usable URL: {reason}"), URL_EXPECTED, None);
            return None;
        }
    };
    let default_port = match found {
        Kind::Http => Some(80),
        Kind::Https | Kind::Tls => Some(443),
        _ => None,
    };
    let Some(port_in_use) = port.or(default_port) else {
        refuse(format!("{shown:?} has no port"), &format!("{word}://host:port"), None);
        return None;
    };
    let path = match (found, tail) {
        (Kind::Http | Kind::Https, "") => around.path.to_owned(),
        (Kind::Http | Kind::Https, tail) => {
            // `http://host?x=1` has a query and no path.
            let path = if tail.starts_with('?') { format!("/{tail}") } else { tail.to_owned() };
            if let Err(reason) = check_path(&path) {
                refuse(format!("{shown:?} is no usable URL: {reason}"), URL_EXPECTED, None);
                return None;
            }
            path
        }
        (_, "" | "/") => String::new(),
        _ => {
            refuse(
                format!("{shown:?} has a path, which means nothing for {word}"),
                &format!("{word}://host:port"),
                None,
            );
            return None;
        }
    };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let host_header = if Some(port_in_use) == default_port { bracketed } else { format!("{bracketed}:{port_in_use}") };
    Some(Endpoint { kind: *found, host, port: port_in_use, via_gateway: false, path, host_header })
}

/// Splits `host[:port]rest`; the host comes without brackets, the rest begins with `/`, `?` or is empty.
fn authority(text: &str) -> Result<(String, Option<u16>, &str), &'static str> {
    if text.contains('#') {
        return Err("it has a fragment (#…)");
    }
    let end = text.find(['/', '?']).unwrap_or(text.len());
    let (place, rest) = text.split_at_checked(end).ok_or("it cannot be read")?;
    if place.contains('@') {
        return Err("it has a user name or password before the host (use auth)");
    }
    let (host, port) = if let Some(inner) = place.strip_prefix('[') {
        let (host, tail) = inner.split_once(']').ok_or("the bracket of its address is not closed")?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| "what is in brackets is no IPv6 address")?;
        let port = match tail.strip_prefix(':') {
            Some(port) => Some(port),
            None if tail.is_empty() => None,
            None => return Err("something follows the address in brackets"),
        };
        (host, port)
    } else {
        match place.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address needs brackets: [::1]:8080"),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        }
    };
    if host.is_empty() {
        return Err("it has no host");
    }
    if host.len() > 253 || !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':')) {
        return Err("the host has a character that is not allowed");
    }
    let port = match port {
        None => None,
        Some(port) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            Some(port.parse::<u16>().ok().filter(|p| *p > 0).ok_or("the port is not from 1 to 65535")?)
        }
        Some(_) => return Err("the port is not from 1 to 65535"),
    };
    Ok((host.to_owned(), port, rest))
}

/// Whether a text can be sent as an HTTP path.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("the path does not begin with /");
    }
    if path.len() > 2048 {
        return Err("the path is longer than 2048 bytes");
    }
    if path.contains('#') {
        return Err("it has a fragment (#…)");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the path has a space or a character that must be percent-encoded");
    }
    path.parse::<http::uri::PathAndQuery>()
        .map(|_| ())
        .map_err(|_| "the path has a character that must be percent-encoded")
}
