//! Text of a flag or environment variable to a typed value. Every refusal says what was expected and, where one is
//! near, the word that was probably meant. Which flags exist is left to `args`.

use std::{net::SocketAddr, time::Duration};

use crate::model::{TargetName, duration};

/// A flag that an empty text leaves unset: FT's containers set `SOCKS_PROXY=""` for "none".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T>(pub Option<T>);

/// Reads an optional flag; an empty or blank text means that it is not given.
///
/// # Errors
/// Those of `read`.
pub fn given<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Given<T>, String> {
    let text = text.trim();
    if text.is_empty() { Ok(Given(None)) } else { read(text).map(|v| Given(Some(v))) }
}

/// A host with its port, as in `host:8080` or `[::1]:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The known word nearest to `word`, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&word, &k.to_ascii_lowercase()), k))
        .filter(|(distance, k)| *distance <= 1 + k.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// A duration such as `10s`, or a number of seconds.
///
/// # Errors
/// What was expected, and the unit that was probably meant.
pub fn duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|e| {
        let unit: String = text.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
        let number: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
        let short = match unit.as_str() {
            "sec" | "secs" | "second" | "seconds" | "s" => "s",
            "min" | "mins" | "minute" | "minutes" | "m" => "m",
            "hr" | "hrs" | "hour" | "hours" | "h" => "h",
            "day" | "days" | "d" => "d",
            "msec" | "millis" | "milliseconds" | "ms" => "ms",
            _ => return e.to_string(),
        };
        if number.is_empty() { e.to_string() } else { format!("{e}; did you mean {number}{short}?") }
    })
}

/// A duration of at least one second.
///
/// # Errors
/// What was expected.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|d| {
        if d >= Duration::from_secs(1) { Ok(d) } else { Err(format!("{text:?} is too short; expected 1s or longer")) }
    })
}

/// The session's time to live: 3 to 30 s (design section 4.2).
///
/// # Errors
/// What was expected.
pub fn session_ttl(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|d| {
        if (Duration::from_secs(3)..=Duration::from_secs(30)).contains(&d) {
            Ok(d)
        } else {
            Err(format!("{text:?} is out of range; expected 3s to 30s"))
        }
    })
}

/// An address to listen on: `0.0.0.0:8080`, `[::]:8080`, `:8080` (all addresses), `localhost:8080`; port 0 lets the
/// system choose.
///
/// # Errors
/// What was expected.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let full = match text.strip_prefix(':') {
        Some(port) if !port.is_empty() && !port.contains(':') => format!("0.0.0.0:{port}"),
        _ => match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        },
    };
    full.parse()
        .map_err(|_| format!("{text:?} is no address to listen on; expected IP:PORT such as 0.0.0.0:8080 or [::]:8080"))
}

/// `host:port`.
///
/// # Errors
/// What was expected.
pub fn host_port(text: &str) -> Result<HostPort, String> {
    let bad = || format!("{text:?} is no address; expected HOST:PORT such as gateway.example:8080");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?.to_string(),
        None => host.to_owned(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let v6 = host.contains(':') && text.starts_with('[');
    if port == 0 || host.is_empty() || !host.chars().all(plain) || (host.contains(':') && !v6) {
        return Err(bad());
    }
    Ok(HostPort { host, port })
}

/// The gateway: `host:port`, where FT's habit of a leading `http://` is allowed.
///
/// # Errors
/// What was expected.
pub fn gateway(text: &str) -> Result<HostPort, String> {
    host_port(text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/'))
}

/// The StatsD server: `host:port`, or a host alone, with StatsD's usual port.
///
/// # Errors
/// What was expected.
pub fn statsd(text: &str) -> Result<HostPort, String> {
    if text.contains(':') { host_port(text) } else { host_port(&format!("{text}:8125")) }
}

/// First words of StatsD's names.
///
/// # Errors
/// What was expected.
pub fn statsd_prefix(text: &str) -> Result<String, String> {
    graphite_prefix(text).map_err(|_| format!("{text:?} is no StatsD prefix; expected dotted words such as bellwether"))
}

/// The SOCKS proxy: `host:port`, also as `socks5://host:port`.
///
/// # Errors
/// What was expected.
pub fn socks(text: &str) -> Result<HostPort, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return match scheme {
            "socks5" | "socks5h" => host_port(rest.trim_end_matches('/')),
            _ => Err(format!("{scheme:?} is no SOCKS scheme; expected HOST:PORT or socks5://HOST:PORT")),
        };
    }
    host_port(text)
}

/// A host without a port.
///
/// # Errors
/// What was expected.
pub fn host(text: &str) -> Result<String, String> {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no host; expected a name or an address such as carbon.example"))
    }
}

/// One etcd endpoint, normalised to `http://host:port` or `https://host:port` (port 2379 where none is given).
///
/// # Errors
/// What was expected.
pub fn etcd_endpoint(text: &str, default_scheme: &str) -> Result<String, String> {
    let text = text.trim();
    let bad = || format!("{text:?} is no etcd endpoint; expected http://HOST:2379 or https://HOST:2379");
    let (scheme, rest) = text.split_once("://").unwrap_or((default_scheme, text));
    if scheme != "http" && scheme != "https" {
        let hint = nearest(scheme, ["http", "https"]).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
        return Err(format!("{}{hint}", bad()));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let bracketed = rest.ends_with(']');
    let with_port = if bracketed || !rest.contains(':') { format!("{rest}:2379") } else { rest.to_owned() };
    let address = host_port(&with_port).map_err(|_| bad())?;
    Ok(format!("{scheme}://{address}"))
}

/// A URL that other nodes reach this one by: `http://host[:port]` or `https://…`, without path.
///
/// # Errors
/// What was expected.
pub fn url(text: &str) -> Result<String, String> {
    let bad = || format!("{text:?} is no URL of a node; expected http://HOST:PORT or https://HOST:PORT");
    let trimmed = text.trim().trim_end_matches('/');
    let uri: http::Uri = trimmed.parse().map_err(|_| bad())?;
    let scheme = uri.scheme_str().ok_or_else(bad)?;
    let plain_path = uri.path_and_query().is_none_or(|p| p.as_str() == "/");
    let named = uri.host().is_some_and(|h| !h.is_empty()) && !uri.authority().is_some_and(|a| a.as_str().contains('@'));
    if (scheme != "http" && scheme != "https") || !plain_path || !named {
        return Err(bad());
    }
    Ok(trimmed.to_owned())
}

/// ROOT: a leading slash, no trailing one, no empty parts.
///
/// # Errors
/// What was expected.
pub fn key_prefix(text: &str) -> Result<String, String> {
    let inner = text.trim().trim_matches('/');
    let good = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    if inner.split('/').all(good) {
        Ok(format!("/{inner}"))
    } else {
        Err(format!("{text:?} is no key prefix; expected a path such as /ft"))
    }
}

/// The environment's name: part of Graphite's paths and of the health page's heading.
///
/// # Errors
/// What was expected.
pub fn environment(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !text.is_empty() && text.len() <= 128 && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no environment name; expected 1 to 128 of A-Z a-z 0-9 . _ - such as prod-uk"))
    }
}

/// First part of Graphite's metric paths: dotted words.
///
/// # Errors
/// What was expected.
pub fn graphite_prefix(text: &str) -> Result<String, String> {
    let good =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if text.split('.').all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no Graphite prefix; expected dotted words such as coco"))
    }
}

/// Exact names of targets or services, separated by commas; spaces around them and empty words are dropped.
///
/// # Errors
/// The first word that is no name.
pub fn names(text: &str) -> Result<Vec<String>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|w| !w.is_empty())
        // Targets and services share one alphabet.
        .map(|w| TargetName::new(w).map(|n| n.to_string()).map_err(|e| e.to_string()))
        .collect()
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// `error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,bellwether::store=debug`.
///
/// # Errors
/// What was expected, with the nearest level.
pub fn log_level(text: &str) -> Result<String, String> {
    let text = text.trim();
    for directive in text.split(',') {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let hint = nearest(level, LEVELS).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
            return Err(format!(
                "{level:?} is no log level; expected {} or directives such as info,bellwether::store=debug{hint}",
                LEVELS.join(", ")
            ));
        }
    }
    Ok(text.to_ascii_lowercase())
}

/// A port to connect to.
///
/// # Errors
/// What was expected.
pub fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{text:?} is no port; expected a whole number from 1 to 65535")),
    }
}

/// A bound that is at least 1.
///
/// # Errors
/// What was expected.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{text:?} is no count; expected a whole number of at least 1")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refusals_name_what_was_expected_and_the_nearest_word() {
        let said = |r: Result<String, String>| r.unwrap_err();
        assert!(said(log_level("wran")).ends_with("did you mean \"warn\"?"));
        assert!(said(duration("10 sec").map(|_| String::new())).ends_with("did you mean 10s?"));
        assert!(said(duration("5min").map(|_| String::new())).ends_with("did you mean 5m?"));
        assert!(said(etcd_endpoint("htp://a:1", "http")).contains("did you mean \"http\"?"));
        assert!(said(session_ttl("2s").map(|_| String::new())).contains("3s to 30s"));
        assert!(said(listen("8080").map(|_| String::new())).contains("0.0.0.0:8080"));
        assert!(said(names("a,b c").map(|_| String::new())).contains("\"b c\""));
        assert!(said(environment("a/b")).contains("prod-uk"));
        for wrong in ["0", "65536", "carbon"] {
            assert!(said(port(wrong).map(|_| String::new())).contains("1 to 65535"), "{wrong}");
        }
    }

    #[test]
    fn etcd_endpoints_are_normalised() {
        for (text, want) in [
            ("http://localhost:4001", "http://localhost:4001"),
            ("localhost:2379/", "http://localhost:2379"),
            ("etcd-1", "http://etcd-1:2379"),
            ("https://[::1]:2379", "https://[::1]:2379"),
            ("https://[::1]", "https://[::1]:2379"),
        ] {
            assert_eq!(etcd_endpoint(text, "http").as_deref(), Ok(want), "{text}");
        }
        assert_eq!(etcd_endpoint("etcd-1", "https").as_deref(), Ok("https://etcd-1:2379"));
        for bad in ["", "http://", "http://a:0", "http://a:b", "a b:1", "http://a:1/path", "::1:2379"] {
            assert!(etcd_endpoint(bad, "http").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_as_people_write_them() {
        assert_eq!(listen(":8080").unwrap().to_string(), "0.0.0.0:8080");
        assert_eq!(listen("localhost:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(listen("[::]:8080").unwrap().to_string(), "[::]:8080");
        assert_eq!(gateway("http://vulcand:8080/").unwrap().to_string(), "vulcand:8080");
        assert_eq!(host_port("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(socks("socks5://p:1080").unwrap(), HostPort { host: "p".into(), port: 1080 });
        assert!(socks("http://p:1080").is_err());
        assert_eq!(url("http://a:8080/").as_deref(), Ok("http://a:8080"));
        for bad in ["a:8080", "ftp://a", "http://a/x", "http://u:p@a", "http://"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_text_leaves_an_optional_flag_unset() {
        assert_eq!(given(" ", socks), Ok(Given(None)));
        assert!(given("nonsense", socks).is_err());
    }

    proptest! {
        #[test]
        fn a_key_prefix_has_one_leading_slash_and_none_at_the_end(text in "[/a-z -]{0,20}") {
            if let Ok(root) = key_prefix(&text) {
                prop_assert!(root.starts_with('/') && !root.ends_with('/') && !root.contains("//"));
                prop_assert_eq!(key_prefix(&root).unwrap(), root.clone());
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _ = (etcd_endpoint(&text, "http"), url(&text), listen(&text), host_port(&text), duration(&text));
            let _ = (names(&text), log_level(&text), key_prefix(&text), gateway(&text), socks(&text));
        }

        #[test]
        fn a_normalised_endpoint_stays_as_it_is(text in "(https?://)?[a-z0-9.-]{1,12}(:[0-9]{1,5})?/?") {
            if let Ok(endpoint) = etcd_endpoint(&text, "http") {
                prop_assert_eq!(etcd_endpoint(&endpoint, "https").unwrap(), endpoint.clone());
            }
        }
    }
}
