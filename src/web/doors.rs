//! Who may edit (design section 6) and which peers may replicate (4.4): by a token once one is set; without one only from
//! loopback, and never through a proxy that runs there or from another site's page in a browser.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use subtle::ConstantTimeEq;

use super::{WebError, problem::Problem};

/// Which listener a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// `--listen`.
    Public,
    /// `--admin-listen`.
    Admin,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// The other end's address.
    pub(super) address: SocketAddr,
    /// The listener.
    pub(super) listener: Listener,
}

/// The rules for edits.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// The token, where one is set.
    pub admin_token: Option<Token>,
    /// Edits are taken on the admin listener alone; its address, told to who tries the public one.
    pub admin_listen: Option<SocketAddr>,
    /// The token of the cluster's nodes, where one is set.
    pub cluster_token: Option<Token>,
}

/// A token: given, or read from a file and read again when that changes. Never printed.
#[derive(Clone)]
pub struct Token {
    current: Arc<ArcSwapOption<Vec<u8>>>,
    /// The flag, and its file.
    file: Option<(&'static str, PathBuf)>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Token {
    /// A fixed token.
    #[must_use]
    pub fn fixed(token: &str) -> Self {
        Self { current: Arc::new(ArcSwapOption::from_pointee(token.as_bytes().to_vec())), file: None }
    }

    /// A token read from the file of a flag (white space around it is cut).
    ///
    /// # Errors
    /// `WebError::TokenFile` when it cannot be read or is empty.
    pub fn from_file(flag: &'static str, path: &Path) -> Result<Self, WebError> {
        let token = read_token(path).map_err(|problem| WebError::TokenFile { flag, path: path.to_owned(), problem })?;
        Ok(Self { current: Arc::new(ArcSwapOption::from_pointee(token)), file: Some((flag, path.to_owned())) })
    }

    /// Reads the file again; on an error the old token stays.
    ///
    /// # Errors
    /// The flag with its file, and what is wrong there.
    pub(super) fn reload(&self) -> Result<(), (String, String)> {
        let Some((flag, path)) = &self.file else { return Ok(()) };
        let token =
            read_token(path).map_err(|problem| WebError::TokenFile { flag, path: path.clone(), problem }.told())?;
        let changed = self.current.load().as_ref().is_none_or(|old| **old != token);
        if changed {
            self.current.store(Some(Arc::new(token)));
        }
        Ok(())
    }

    fn is(&self, given: &[u8]) -> bool {
        // Without a current token nothing is right.
        self.current.load().as_ref().is_some_and(|token| bool::from(token.as_slice().ct_eq(given)))
    }
}

fn read_token(path: &Path) -> Result<Vec<u8>, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let token = text.trim_ascii();
    if token.is_empty() { Err("it is empty; expected the token".to_owned()) } else { Ok(token.to_vec()) }
}

impl Doors {
    /// Whether this request may edit.
    ///
    /// # Errors
    /// The problem to answer with.
    pub(super) fn may_edit(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if let (Some(admin), Listener::Public) = (self.admin_listen, peer.listener) {
            return Err(forbidden(format!("edits are taken on the admin listener only: {admin}")));
        }
        match &self.admin_token {
            Some(token) => by_token(token, headers, &EDITS),
            None => by_loopback(peer, uri, headers, EDITS.hint),
        }
    }

    /// Whether this request may be a node's of the cluster. It comes in by either listener: nodes dial the one that is
    /// advertised.
    ///
    /// # Errors
    /// The problem to answer with.
    pub(super) fn may_replicate(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        match &self.cluster_token {
            Some(token) => by_token(token, headers, &CLUSTER),
            None => by_loopback(peer, uri, headers, CLUSTER.hint),
        }
    }
}

/// What a door says to those whom it keeps out.
struct Words {
    needs: &'static str,
    wrong: &'static str,
    hint: &'static str,
}

const EDITS: Words = Words {
    needs: "edits need the admin token: Authorization: Bearer <token>",
    wrong: "the admin token is wrong",
    hint: "without an admin token (--admin-token-file) edits are taken from loopback only",
};
const CLUSTER: Words = Words {
    needs: "nodes need the cluster token: Authorization: Bearer <token>",
    wrong: "the cluster token is wrong",
    hint: "without a cluster token (--cluster-token-file) nodes replicate over loopback only",
};

fn by_token(token: &Token, headers: &HeaderMap, words: &Words) -> Result<(), Problem> {
    let unauthorized = |detail: &str| {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"bellwether\""))
    };
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(unauthorized(words.needs));
    };
    let Some((scheme, given)) = value.as_bytes().split_at_checked(7) else {
        return Err(unauthorized("Authorization must be: Bearer <token>"));
    };
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(unauthorized("Authorization must be: Bearer <token>"));
    }
    if token.is(given.trim_ascii()) { Ok(()) } else { Err(forbidden(words.wrong)) }
}

fn by_loopback(peer: Peer, uri: &Uri, headers: &HeaderMap, hint: &str) -> Result<(), Problem> {
    if !is_loopback(peer.address.ip()) {
        return Err(forbidden(format!("{hint}, and this request came from {}", peer.address.ip())));
    }
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"] {
        if headers.contains_key(name) {
            return Err(forbidden(format!("{hint}, and this request came through a proxy ({name})")));
        }
    }
    // DNS rebinding: a page of another site reaches loopback under its own name. Every name given must be loopback.
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(|h| h.to_str().unwrap_or("?"));
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let named: Vec<&str> = host.into_iter().chain(authority).collect();
    if named.is_empty() || hosts.next().is_some() || !named.iter().all(|h| is_loopback_host(h)) {
        return Err(forbidden(format!("{hint}, under a loopback Host such as localhost or 127.0.0.1")));
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|s| s != b"same-origin" && s != b"none") {
        return Err(forbidden(format!("{hint}, and not from another site's page")));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("?");
        let origin_host = origin.split_once("://").map(|(_, host)| host);
        if origin_host.is_none_or(|o| !named.contains(&o)) {
            return Err(forbidden(format!("{hint}, and not from another site's page")));
        }
    }
    Ok(())
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}

/// `localhost`, `127.x.y.z` or `[::1]`, with or without a port.
fn is_loopback_host(host: &str) -> bool {
    let name = if let Some(rest) = host.strip_prefix('[') {
        match rest.split_once(']') {
            Some((name, tail)) if is_port(tail) => name,
            _ => return false,
        }
    } else {
        match host.find(':').map(|at| host.split_at(at)) {
            Some((name, tail)) if is_port(tail) => name,
            Some(_) => return false,
            None => host,
        }
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(is_loopback)
}

fn is_port(tail: &str) -> bool {
    tail.is_empty() || tail.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass() {
        for good in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:80", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback_host(good), "{good}");
        }
        for bad in [
            "",
            "localhost.evil.com",
            "evil.com:8080",
            "127.0.0.1.evil.com",
            "10.0.0.1",
            "[::2]",
            "localhost:80@evil",
            "localhost:a",
        ] {
            assert!(!is_loopback_host(bad), "{bad}");
        }
    }

    #[test]
    fn nodes_replicate_by_token_or_over_loopback_alone() {
        let headers = |all: &[(&'static str, &'static str)]| -> HeaderMap {
            let named = |(n, v): &(&'static str, &'static str)| {
                (header::HeaderName::from_static(n), HeaderValue::from_static(v))
            };
            all.iter().map(named).collect()
        };
        let asked = |doors: &Doors, from: &str, all: &[(&'static str, &'static str)]| {
            let peer = Peer { address: from.parse().unwrap(), listener: Listener::Public };
            let uri = Uri::from_static("/api/v1/replication/stream");
            doors.may_replicate(peer, &uri, &headers(all)).map_err(|p| p.response().status().as_u16())
        };
        let (far, near) = ("192.0.2.7:5", "127.0.0.1:5");
        let open = Doors { admin_listen: Some("127.0.0.1:9".parse().unwrap()), ..Doors::default() };
        assert_eq!(asked(&open, near, &[("host", "127.0.0.1:80")]), Ok(()), "the public listener takes nodes");
        assert_eq!(asked(&open, far, &[("host", "127.0.0.1:80")]), Err(403));
        assert_eq!(asked(&open, near, &[("host", "evil.example")]), Err(403));
        assert_eq!(asked(&open, near, &[("host", "localhost"), ("x-forwarded-for", "192.0.2.7")]), Err(403));
        let closed = Doors { cluster_token: Some(Token::fixed("geheim")), ..Doors::default() };
        assert_eq!(asked(&closed, near, &[("host", "localhost")]), Err(401), "loopback is no excuse");
        assert_eq!(asked(&closed, far, &[("authorization", "Bearer geheimer")]), Err(403));
        assert_eq!(asked(&closed, far, &[("authorization", "Basic geheim")]), Err(401));
        assert_eq!(asked(&closed, far, &[("authorization", "Bearer geheim")]), Ok(()));
        let other = Doors { admin_token: Some(Token::fixed("geheim")), ..Doors::default() };
        assert_eq!(asked(&other, far, &[("authorization", "Bearer geheim")]), Err(403), "the admin's is another");
    }

    #[test]
    fn a_token_is_never_printed() {
        assert!(!format!("{:?}", Token::fixed("geheim")).contains("geheim"));
    }
}
