//! Where a redirect leads, and what may go along: credentials and headers never go to another host. Pure.

use http::{Method, Uri, uri::Authority};

use super::{answer::Head, request::Line};
use crate::model::target::{Check, Kind};

/// Why a redirect was not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// There were more than allowed.
    #[error("more than {0} redirects")]
    TooMany(u8),
    /// No Location, or one that leads nowhere.
    #[error("redirect to an unusable place")]
    Place,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Over TLS.
    pub tls: bool,
}

impl Place {
    /// Where the check itself leads.
    #[must_use]
    pub fn of(check: &Check) -> Self {
        Self {
            host: check.host.clone(),
            port: check.port,
            tls: matches!(check.kind, Kind::Https | Kind::Tls | Kind::Grpcs),
        }
    }
}

/// One request of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where to connect.
    pub place: Place,
    /// `Host`.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Method.
    pub method: Method,
    /// Still the check's own host.
    pub trusted: bool,
}

impl Step {
    /// The check's own request.
    #[must_use]
    pub fn first(check: &Check) -> Self {
        Self {
            place: Place::of(check),
            host: check.host_header.clone(),
            path: check.path.clone(),
            method: check.method.clone(),
            trusted: true,
        }
    }

    /// The request's line and host.
    #[must_use]
    pub fn line(&self, _check: &Check) -> Line<'_> {
        Line { method: &self.method, host: &self.host, path: &self.path, trusted: self.trusted }
    }

    /// The next step, or none where the answer is no redirect.
    ///
    /// # Errors
    /// `RedirectError::Place` for a Location that leads nowhere.
    pub fn next(&self, head: &Head) -> Result<Option<Self>, RedirectError> {
        if !matches!(head.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = head.location.as_deref().map(str::trim).ok_or(RedirectError::Place)?;
        let location = location.split('#').next().unwrap_or_default();
        let mut next = self.clone();
        let keeps = matches!(head.status, 307 | 308) || self.method == Method::HEAD;
        if !keeps {
            next.method = Method::GET;
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.place.tls { "https" } else { "http" };
            next.go_to(&format!("{scheme}://{rest}"))?;
        } else if location.starts_with('/') {
            location.clone_into(&mut next.path);
        } else if location.contains("://") {
            next.go_to(location)?;
        } else {
            next.path = relative(&self.path, location);
        }
        // What cannot stand in a request's line leads nowhere.
        next.path.parse::<http::uri::PathAndQuery>().map_err(|_| RedirectError::Place)?;
        Ok(Some(next))
    }

    fn go_to(&mut self, url: &str) -> Result<(), RedirectError> {
        let uri: Uri = url.parse().map_err(|_| RedirectError::Place)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(RedirectError::Place),
        };
        let authority: &Authority = uri.authority().ok_or(RedirectError::Place)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let after_host = authority.as_str().rsplit('@').next().unwrap_or_default().strip_prefix(authority.host());
        let written = after_host.and_then(|rest| rest.strip_prefix(':')).filter(|port| !port.is_empty());
        let port = match written {
            Some(port) => port.parse().map_err(|_| RedirectError::Place)?,
            None if tls => 443,
            None => 80,
        };
        if host.is_empty() || port == 0 {
            return Err(RedirectError::Place);
        }
        self.path = uri.path_and_query().map_or_else(|| "/".to_owned(), |p| p.as_str().to_owned());
        let shown = match written {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        // Behind a gateway the target calls itself by its Host header: that is still the same place.
        if tls == self.place.tls && shown.eq_ignore_ascii_case(&self.host) {
            return Ok(());
        }
        let place = Place { host: host.to_owned(), port, tls };
        self.trusted &= place == self.place;
        self.place = place;
        self.host = shown;
        Ok(())
    }
}

fn relative(base: &str, location: &str) -> String {
    let path = base.split('?').next().unwrap_or_default();
    if location.is_empty() {
        return base.to_owned();
    }
    if location.starts_with('?') {
        return format!("{path}{location}");
    }
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/{location}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        Step {
            place: Place { host: "10.0.0.1".to_owned(), port: 8080, tls: false },
            host: "svc".to_owned(),
            path: "/a/b?x=1".to_owned(),
            method: Method::POST,
            trusted: true,
        }
    }

    fn go(status: u16, location: &str) -> Result<Option<Step>, RedirectError> {
        step().next(&Head { status, location: Some(location.to_owned()), ..Head::default() })
    }

    #[test]
    fn relative_places_keep_host_and_trust() {
        for (location, path) in [("/c", "/c"), ("c?d#e", "/a/c?d"), ("?y", "/a/b?y"), ("http://svc/z", "/z")] {
            let next = go(302, location).unwrap().unwrap();
            assert_eq!((next.path.as_str(), next.host.as_str(), next.trusted), (path, "svc", true), "{location}");
            assert_eq!(next.place, step().place);
            assert_eq!(next.method, Method::GET);
        }
        assert_eq!(go(307, "/c").unwrap().unwrap().method, Method::POST);
        assert_eq!(go(200, "/c"), Ok(None));
    }

    #[test]
    fn another_host_is_not_trusted_not_even_on_the_way_back() {
        let away = go(302, "https://user:pw@other:8443").unwrap().unwrap();
        assert_eq!(away.place, Place { host: "other".to_owned(), port: 8443, tls: true });
        assert_eq!((away.path.as_str(), away.host.as_str(), away.trusted), ("/", "other:8443", false));
        let back = away.next(&Head { status: 301, location: Some("http://svc/".to_owned()), ..Head::default() });
        assert!(!back.unwrap().unwrap().trusted);
        assert!(!go(302, "https://svc/").unwrap().unwrap().trusted, "another scheme is another place");
    }

    #[test]
    fn unusable_places_are_refused() {
        for bad in ["ftp://x/", "http://", "//", "http://x:99999/", "/a b\r\nX: y"] {
            assert_eq!(go(302, bad), Err(RedirectError::Place), "{bad}");
        }
    }
}
