//! Sentinels: places outside the catalog that answer while the network around this node works (design section 4.5). Any
//! answer counts: any HTTP status, a TCP connect. How one is asked is left to `look`.

use std::{fmt, sync::Arc, time::Duration};

use crate::model::{
    ServiceName, Severity, Target, TargetName,
    target::{Check, Format, Kind, TlsOptions},
};

/// Bound on one sentinel's exchange.
const TIMEOUT: Duration = Duration::from_secs(3);

/// One sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinel {
    name: TargetName,
    kind: Kind,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// The text names no sentinel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no sentinel ({problem}); expected http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or tcp://HOST:PORT"
)]
pub struct SentinelError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Sentinel {
    /// Reads `http://…`, `https://…` or `tcp://host:port`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, SentinelError> {
        let bad = |problem| SentinelError { text: text.to_owned(), problem };
        let uri: http::Uri = text.trim().parse().map_err(|_| bad("it is no URL"))?;
        let (kind, port) = match uri.scheme_str() {
            Some("http") => (Kind::Http, Some(80)),
            Some("https") => (Kind::Https, Some(443)),
            Some("tcp") => (Kind::Tcp, None),
            Some(_) => return Err(bad("its scheme is unknown")),
            None => return Err(bad("it has no scheme")),
        };
        let authority = uri.authority().filter(|a| !a.host().is_empty()).ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("a user or password does not go with it"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        // A port that is none is no missing one.
        let named = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let given =
            if named.is_empty() { None } else { Some(authority.port_u16().ok_or_else(|| bad("its port is none"))?) };
        let port = given.or(port).filter(|p| *p != 0).ok_or_else(|| bad("it has no port"))?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if kind == Kind::Tcp && path != "/" && !path.is_empty() {
            return Err(bad("a path does not go with tcp"));
        }
        let path = if path.is_empty() { "/" } else { path };
        let name = TargetName::new("sentinel").map_err(|_| bad("it has no name"))?;
        Ok(Self {
            name,
            kind,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
        })
    }

    /// The check that any answer passes. The certificate does not matter: what answers is asked nothing and told nothing.
    pub(super) fn target(&self) -> Target {
        let name = self.name.clone();
        let check = Check {
            kind: self.kind,
            host_header: self.authority.clone(),
            format: Format::Status,
            expect_status: vec![(100, 999)],
            timeout: TIMEOUT,
            tls: TlsOptions { verify: false, ..TlsOptions::default() },
            ..Check::http(&self.host, self.port, &self.path)
        };
        Target {
            service: ServiceName::of_target(&name),
            name,
            path: self.path.clone(),
            categories: Vec::new(),
            ack: None,
            check: Arc::new(check),
            interval: TIMEOUT,
            severity: Severity::LOW,
            business_impact: String::new(),
            technical_summary: String::new(),
            panic_guide: String::new(),
        }
    }
}

impl fmt::Display for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Tcp => write!(f, "tcp://{}", self.authority),
            Kind::Https => write!(f, "https://{}{}", self.authority, self.path),
            _ => write!(f, "http://{}{}", self.authority, self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_refused_with_the_reason() {
        let read = |text: &str| Sentinel::parse(text).unwrap();
        let s = read("http://a.example");
        assert_eq!((s.kind, s.host.as_str(), s.port, s.path.as_str()), (Kind::Http, "a.example", 80, "/"));
        let s = read(" https://a.example:8443/x?y=1 ");
        assert_eq!(
            (s.kind, s.port, s.path.as_str(), s.to_string()),
            (Kind::Https, 8443, "/x?y=1", "https://a.example:8443/x?y=1".to_owned())
        );
        let s = read("tcp://[::1]:53");
        assert_eq!(
            (s.kind, s.host.as_str(), s.port, s.to_string()),
            (Kind::Tcp, "::1", 53, "tcp://[::1]:53".to_owned())
        );
        for (text, problem) in [
            ("", "no URL"),
            ("a.example", "no scheme"),
            ("ftp://a.example", "scheme is unknown"),
            ("tcp://a.example", "no port"),
            ("tcp://a.example:0", "no port"),
            ("http://a.example:99999/", "port is none"),
            ("tcp://a.example:1/x", "path does not go"),
            ("http://u:p@a.example/", "user or password"),
        ] {
            let said = Sentinel::parse(text).unwrap_err().to_string();
            assert!(said.contains(problem) && said.contains("tcp://HOST:PORT"), "{text}: {said}");
        }
    }
}
