//! The SOCKS5 proxy that all probes may have to go through (RFC 1928, RFC 1929): names are resolved by the proxy.

use std::fmt;

use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;

/// A proxy's address is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no SOCKS proxy; expected host:port or socks5://[user:password@]host:port")]
pub struct SocksProxyError(String);

/// A proxy's address, and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct SocksProxy {
    /// Host of the proxy.
    pub host: String,
    /// Port of the proxy.
    pub port: u16,
    user: Option<(String, String)>,
}

impl fmt::Debug for SocksProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.host, self.port, if self.user.is_some() { " with a password" } else { "" })
    }
}

impl SocksProxy {
    /// Reads `host:port` or `socks5://user:password@host:port` (also `socks5h://`); user and password may be
    /// percent-encoded.
    ///
    /// # Errors
    /// `SocksProxyError`, which shows the text without a password.
    pub fn parse(text: &str) -> Result<Self, SocksProxyError> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("socks5", text.trim()));
        let rest = rest.trim_end_matches('/');
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let fault = || SocksProxyError(format!("{address:?}"));
        if !scheme.eq_ignore_ascii_case("socks5") && !scheme.eq_ignore_ascii_case("socks5h") {
            return Err(fault());
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(fault)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| fault())?;
        if host.is_empty() || host.contains(['[', ']', '/', ' ']) || port == 0 {
            return Err(fault());
        }
        let decode = |t: &str| percent_decode_str(t).decode_utf8_lossy().into_owned();
        let user = user.map(|user| match user.split_once(':') {
            Some((user, password)) => (decode(user), decode(password)),
            None => (decode(user), String::new()),
        });
        Ok(Self { host: host.to_owned(), port, user })
    }

    /// Asks the proxy, on a connection to it, for a connection to a host.
    ///
    /// # Errors
    /// What the proxy or the connection said.
    pub async fn open(&self, stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, tokio_socks::Error> {
        // The handshake is several small writes: each must leave at once.
        stream.set_nodelay(true)?;
        let stream = match &self.user {
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(stream, (host, port), user, password).await?
            }
            None => Socks5Stream::connect_with_socket(stream, (host, port)).await?,
        };
        Ok(stream.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_proxy() {
        let p = SocksProxy::parse("proxy.example:1080").unwrap();
        assert_eq!((p.host.as_str(), p.port, p.user), ("proxy.example", 1080, None));
        let p = SocksProxy::parse("socks5://me:p%40ss@[::1]:9050/").unwrap();
        assert_eq!((p.host.as_str(), p.port), ("::1", 9050));
        assert_eq!(p.user, Some(("me".to_owned(), "p@ss".to_owned())));
        for bad in ["", "host", "host:0", "host:x", "http://h:1", ":1080"] {
            assert!(SocksProxy::parse(bad).is_err(), "{bad}");
        }
        let error = SocksProxy::parse("socks5://me:secret@host").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
