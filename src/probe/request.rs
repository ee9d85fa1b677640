//! Builds the bytes of an HTTP/1.1 request for a check, once for each check where no secret comes from a file.
//! Text from the catalog can never add a header or a request of its own. Sending is left to `http1`.

use std::rc::Rc;

use base64::Engine as _;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::secrets::{SecretError, Secrets};
use crate::model::target::{Auth, Check, Kind};

/// What may not stand in a request's path.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'\\').add(b'#');

/// Why no request could be made; the fault is ours or the catalog's, not the target's.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A secret could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A header's value has a character that no header may have.
    #[error("the value of header {0} has characters that are not allowed")]
    Value(String),
}

/// Where a request goes, as its head says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Method.
    pub method: &'a http::Method,
    /// `Host`.
    pub host: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Whether the check's own headers and credentials go along (not to another host).
    pub trusted: bool,
}

impl<'a> Line<'a> {
    /// The first request of a check.
    #[must_use]
    pub fn first(check: &'a Check) -> Self {
        Self { method: &check.method, host: &check.host_header, path: &check.path, trusted: true }
    }
}

/// The whole request.
///
/// # Errors
/// `RequestError` when a secret cannot be read or a value is not allowed in a header.
pub async fn render(
    check: &Check,
    line: &Line<'_>,
    user_agent: &str,
    secrets: &Rc<Secrets>,
) -> Result<Vec<u8>, RequestError> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(line.method.as_str().as_bytes());
    out.push(b' ');
    out.extend(utf8_percent_encode(line.path, PATH).flat_map(str::bytes));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let own = |name: &str| line.trusted && check.headers.iter().any(|(n, _)| n.as_str().eq_ignore_ascii_case(name));
    if !own("host") {
        push(&mut out, "Host", line.host.as_bytes())?;
    }
    if !own("user-agent") {
        push(&mut out, "User-Agent", user_agent.as_bytes())?;
    }
    if !own("accept") {
        push(&mut out, "Accept", b"application/json, application/health+json;q=0.9, */*;q=0.5")?;
    }
    if line.trusted {
        for (name, value) in &check.headers {
            // These belong to the exchange, not to the catalog.
            if !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding" | "expect" | "upgrade") {
                push(&mut out, name.as_str(), secrets.read(value).await?.as_bytes())?;
            }
        }
        if let Some(auth) = check.auth.as_ref().filter(|_| !own("authorization")) {
            push(&mut out, "Authorization", authorization(auth, secrets).await?.as_bytes())?;
        }
    }
    if !check.reuse {
        push(&mut out, "Connection", b"close")?;
    }
    if matches!(*line.method, http::Method::POST | http::Method::PUT | http::Method::PATCH) {
        push(&mut out, "Content-Length", b"0")?;
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// Whether a check's request is the same each time.
#[must_use]
pub fn is_fixed(check: &Check) -> bool {
    let auth_fixed = match &check.auth {
        None => true,
        Some(Auth::Basic { password, .. }) => Secrets::is_inline(password),
        Some(Auth::Bearer(token)) => Secrets::is_inline(token),
    };
    matches!(check.kind, Kind::Http | Kind::Https)
        && auth_fixed
        && check.headers.iter().all(|(_, v)| Secrets::is_inline(v))
}

/// The value of `Authorization`.
///
/// # Errors
/// `SecretError` when the secret's file cannot be read.
pub async fn authorization(auth: &Auth, secrets: &Rc<Secrets>) -> Result<String, SecretError> {
    Ok(match auth {
        Auth::Basic { user, password } => {
            let pair = format!("{user}:{}", secrets.read(password).await?);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        }
        Auth::Bearer(token) => format!("Bearer {}", secrets.read(token).await?),
    })
}

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) -> Result<(), RequestError> {
    if value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return Err(RequestError::Value(name.to_owned()));
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}
