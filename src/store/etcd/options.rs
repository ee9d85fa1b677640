//! What the etcd engine is told: endpoints, root, who we are, and its times. Text in, checked values out.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::secret::Secret;
use crate::store::StoreError;

/// How to reach etcd.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// `http://host:port`, `https://host:port` or `host:port`; one text may hold several, with commas between. Without a
    /// scheme it is https where a TLS file is given, else http.
    pub endpoints: Vec<String>,
    /// ROOT, below which all keys are, such as `/ft`.
    pub root: String,
    /// User and password, where etcd's authentication is on.
    pub user: Option<Credentials>,
    /// Files of the TLS connection, in PEM; read again for each new connection, so renewed certificates are taken.
    pub tls: TlsFiles,
    /// SOCKS5 proxy, `host:port` or `socks5://[user:password@]host:port`; names are resolved by the proxy.
    pub socks_proxy: Option<String>,
    /// How long what may take.
    pub times: EtcdTimes,
}

/// A user of etcd.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Its name.
    pub name: String,
    /// Its password; a file is read again for each new connection.
    pub password: Secret,
}

/// PEM files.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Authorities that may sign the server's certificate; the system's where none is given.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    const fn any(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.key.is_some()
    }
}

/// Times of the etcd engine; the defaults follow the measurements in the reference on etcd, sections 2.4 and 4.
#[derive(Clone, Copy, Debug)]
pub struct EtcdTimes {
    /// One connection (1 s).
    pub connect: Duration,
    /// One attempt of a read or write at one endpoint, or of opening a watch (1.5 s).
    pub attempt: Duration,
    /// One attempt of a lease renewal (0.4 s).
    pub renewal: Duration,
    /// All attempts of one call (5 s).
    pub call: Duration,
    /// A whole list, with all its pages (30 s).
    pub list: Duration,
    /// How often a watch is asked for a sign of life (1 s).
    pub watch_ask: Duration,
    /// After how long without one it is dead (3 s).
    pub watch_dead: Duration,
}

impl Default for EtcdTimes {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            attempt: Duration::from_millis(1500),
            renewal: Duration::from_millis(400),
            call: Duration::from_secs(5),
            list: Duration::from_secs(30),
            watch_ask: Duration::from_secs(1),
            watch_dead: Duration::from_secs(3),
        }
    }
}

impl EtcdOptions {
    /// Plain connections without a user.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>, root: impl Into<String>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            root: root.into(),
            user: None,
            tls: TlsFiles::default(),
            socks_proxy: None,
            times: EtcdTimes::default(),
        }
    }

    /// The endpoints as URLs.
    pub(super) fn urls(&self) -> Result<Vec<String>, StoreError> {
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return Err(invalid("a client certificate needs its key, and the key its certificate"));
        }
        let words = self.endpoints.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|w| !w.is_empty());
        let mut urls = Vec::new();
        for word in words {
            let url = self.url(word)?;
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        if urls.is_empty() {
            return Err(invalid("no etcd endpoint is given; expected such as http://127.0.0.1:2379"));
        }
        Ok(urls)
    }

    fn url(&self, word: &str) -> Result<String, StoreError> {
        let bare = word.trim_end_matches('/');
        let url = match bare.split_once("://") {
            Some(("http", _)) if self.tls.any() => {
                return Err(invalid(&format!(
                    "etcd endpoint {word:?} is plain, but TLS files are given; expected https://…"
                )));
            }
            Some(("http" | "https", _)) => bare.to_owned(),
            Some(_) => return Err(invalid(&format!("etcd endpoint {word:?}: expected http:// or https://"))),
            None if self.tls.any() => format!("https://{bare}"),
            None => format!("http://{bare}"),
        };
        let uri: http::Uri = url.parse().map_err(|e| invalid(&format!("etcd endpoint {word:?}: {e}")))?;
        // No path, no user: what stands here is shown in messages.
        let plain = uri.path().trim_matches('/').is_empty() && uri.query().is_none() && !url.contains('@');
        if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() || !plain {
            return Err(invalid(&format!("an etcd endpoint is not host:port: {:?}", uri.host().unwrap_or_default())));
        }
        Ok(url)
    }

    pub(super) fn proxy(&self) -> Result<Option<Proxy>, StoreError> {
        self.socks_proxy.as_deref().map(Proxy::parse).transpose()
    }
}

fn invalid(reason: &str) -> StoreError {
    StoreError::Invalid(reason.to_owned())
}

/// A SOCKS5 proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<(String, String)>,
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, StoreError> {
        let refused = || invalid("the SOCKS proxy is not host:port or socks5://[user:password@]host:port");
        let rest = match text.trim().split_once("://") {
            Some(("socks5" | "socks5h", rest)) => rest,
            Some(_) => return Err(refused()),
            None => text.trim(),
        };
        let (user, address) = match rest.trim_end_matches('/').rsplit_once('@') {
            Some((user, address)) => {
                let (name, password) = user.split_once(':').ok_or_else(refused)?;
                (Some((name.to_owned(), password.to_owned())), address)
            }
            None => (None, rest.trim_end_matches('/')),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(refused)?;
        let port = port.parse().map_err(|_| refused())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(refused());
        }
        Ok(Self { host, port, user })
    }
}

/// ROOT, without a slash at its end.
#[derive(Clone, Debug)]
pub(super) struct Root(String);

impl Root {
    pub(super) fn new(text: &str) -> Self {
        Self(text.trim_end_matches('/').to_owned())
    }

    /// A key as etcd has it.
    pub(super) fn full(&self, relative: &str) -> Vec<u8> {
        format!("{}/{relative}", self.0).into_bytes()
    }

    /// A key, or some, as people write them: for what is told.
    pub(super) fn shown<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> String {
        let keys: Vec<_> = keys.into_iter().map(|key| format!("{}/{key}", self.0)).collect();
        keys.join(" ")
    }

    /// A key as everyone else has it. What is no UTF-8 is no key of ours, but is shown.
    pub(super) fn relative(&self, full: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(full);
        text.strip_prefix(self.0.as_str())?.strip_prefix('/').map(str::to_owned)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first key behind all that begin with `prefix`; `\0` where there is none (etcd's word for "no end").
pub(super) fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_lists_with_or_without_a_scheme() {
        let mut options = EtcdOptions::new(["a:2379, http://b:1/,", "a:2379"], "/ft");
        assert_eq!(options.urls().unwrap(), ["http://a:2379", "http://b:1"]);
        options.tls.ca = Some(PathBuf::from("ca.pem"));
        assert!(matches!(options.urls(), Err(StoreError::Invalid(m)) if m.contains("http://b:1")));
        options.endpoints = vec!["a:2379,https://b:1,[::1]:2379".to_owned()];
        assert_eq!(options.urls().unwrap(), ["https://a:2379", "https://b:1", "https://[::1]:2379"]);
        options.tls.cert = Some(PathBuf::from("cert.pem"));
        assert!(options.urls().is_err(), "a certificate without its key");
        for bad in ["", " , ", "ftp://a:1", "a", "http://a", "http://a:1/x", "http://u:secret@a:1"] {
            let error = EtcdOptions::new([bad], "/ft").urls().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn proxies_have_an_address_and_perhaps_a_user() {
        let proxy = |text| Proxy::parse(text).map(|p| (p.host, p.port, p.user));
        assert_eq!(proxy("a:1080").unwrap(), ("a".to_owned(), 1080, None));
        assert_eq!(proxy("socks5h://[::1]:1").unwrap(), ("::1".to_owned(), 1, None));
        let user = Some(("u".to_owned(), "p@q".to_owned()));
        assert_eq!(proxy("socks5://u:p@q@a:1080/").unwrap(), ("a".to_owned(), 1080, user));
        for bad in ["", "a", "http://a:1", ":1", "a:x"] {
            assert!(proxy(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_go_below_root_and_come_back() {
        let root = Root::new("/ft/");
        assert_eq!(root.full("a/b"), b"/ft/a/b");
        assert_eq!(root.relative(b"/ft/a/b").as_deref(), Some("a/b"));
        assert_eq!(root.relative(b"/ftx/a"), None);
        assert_eq!(range_end(b"/ft/"), b"/ft0");
        assert_eq!(range_end(b"a\xff"), b"b");
        assert_eq!(range_end(b"\xff"), [0]);
    }
}
