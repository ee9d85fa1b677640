//! One blocking HTTP client for all verbs: where the node is, who we are to it, bounded waits, and clear sentences
//! for everything that can go wrong. What is asked and how it is shown is left to the verbs.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde_json::Value;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::values;

/// A connection must stand within this time.
const CONNECT: Duration = Duration::from_secs(3);
/// A whole exchange ends within this time; `cache=false` and a large catalog fit well.
const WHOLE: Duration = Duration::from_secs(20);
/// The largest answer read: 10,000 targets take about 5 MB.
const MAX_BODY: u64 = 128 * 1024 * 1024;

/// Characters of a query value that are encoded; commas stay readable.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'&').add(b'+').add(b'%');

fn server(text: &str) -> Result<String, String> {
    if text.contains("://") { values::url(text) } else { values::url(&format!("http://{text}")) }
}

/// Which node is asked, and how.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Node to ask
    #[arg(long, global = true, env = "BELLWETHER_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = server, help_heading = "Server")]
    server: String,
    /// File that holds the admin token
    #[arg(long, global = true, env = "BELLWETHER_TOKEN_FILE", value_name = "FILE", help_heading = "Server")]
    token_file: Option<PathBuf>,
    /// PEM roots that the node's certificate is checked against, beside the system's
    #[arg(long, global = true, env = "BELLWETHER_CA", value_name = "FILE", help_heading = "Server")]
    ca: Option<PathBuf>,
    /// PEM file with a client certificate and its key
    #[arg(long, global = true, env = "BELLWETHER_CLIENT_CERT", value_name = "FILE", help_heading = "Server")]
    client_cert: Option<PathBuf>,
}

/// Why a verb got nothing done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answered, or not in time.
    #[error("no answer from {server}: {reason}; is a node running there? (--server or BELLWETHER_SERVER says which)")]
    NoAnswer {
        /// The node asked.
        server: String,
        /// What was seen.
        reason: String,
    },
    /// The node answered with an error.
    #[error("{}", refusal(*status, title, detail))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Problem title.
        title: String,
        /// Problem detail, or the body's first line.
        detail: String,
        /// The whole problem document.
        problem: Value,
    },
    /// The answer is not what a node says.
    #[error("{server} answered {path} with something that is not Bellwether's: {reason}")]
    Strange {
        /// The node asked.
        server: String,
        /// The path asked for.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of ours cannot be read.
    #[error("cannot use {what} {}: {reason}", file.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// Its path.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn refusal(status: u16, title: &str, detail: &str) -> String {
    let said = if detail.is_empty() { title } else { detail };
    match status {
        401 => format!("the node wants to know who asks (401): {said}; give its admin token with --token-file"),
        403 => format!("the node refuses this (403): {said}"),
        503 => format!("the node cannot do this now (503): {said}"),
        _ => format!("the node answered {status}: {said}"),
    }
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as text.
    pub text: String,
}

/// Asks one node.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    server: String,
    token: Option<String>,
}

impl ServerArgs {
    /// The client for these flags.
    ///
    /// # Errors
    /// `ClientError::File` when the token, roots or client certificate cannot be read.
    pub fn client(&self) -> Result<Client, ClientError> {
        let token = match &self.token_file {
            Some(file) => Some(read_token(file)?),
            None => None,
        };
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A node is asked directly: a proxy of the environment is for the outside world.
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(WHOLE))
            .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")));
        if self.server.starts_with("https://") {
            config = config.tls_config(self.tls()?);
        }
        Ok(Client { agent: config.build().new_agent(), server: self.server.clone(), token })
    }

    /// The node asked, for messages.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    fn tls(&self) -> Result<TlsConfig, ClientError> {
        let mut roots: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|c| Certificate::from_der(c.as_ref()).to_owned())
            .collect();
        if let Some(file) = &self.ca {
            let found = read_pem(file, "the CA file")?.into_iter().filter_map(|item| match item {
                PemItem::Certificate(c) => Some(c),
                _ => None,
            });
            let before = roots.len();
            roots.extend(found);
            if roots.len() == before {
                return Err(file_error("the CA file", file, "it holds no PEM certificate"));
            }
        }
        let mut tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots));
        if let Some(file) = &self.client_cert {
            tls = tls.client_cert(Some(client_cert(file)?));
        }
        Ok(tls.build())
    }
}

fn file_error(what: &'static str, file: &std::path::Path, reason: impl ToString) -> ClientError {
    ClientError::File { what, file: file.to_owned(), reason: reason.to_string() }
}

fn read_token(file: &std::path::Path) -> Result<String, ClientError> {
    let text = std::fs::read_to_string(file).map_err(|e| file_error("the token file", file, e))?;
    let token = text.trim();
    if token.is_empty() || token.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(file_error("the token file", file, "expected one token on one line"));
    }
    Ok(token.to_owned())
}

fn read_pem(file: &std::path::Path, what: &'static str) -> Result<Vec<PemItem<'static>>, ClientError> {
    let bytes = std::fs::read(file).map_err(|e| file_error(what, file, e))?;
    parse_pem(&bytes).collect::<Result<_, _>>().map_err(|e| file_error(what, file, e))
}

fn client_cert(file: &std::path::Path) -> Result<ClientCert, ClientError> {
    const WHAT: &str = "the client certificate";
    let (mut chain, mut key) = (Vec::new(), None::<PrivateKey<'static>>);
    for item in read_pem(file, WHAT)? {
        match item {
            PemItem::Certificate(c) => chain.push(c),
            PemItem::PrivateKey(k) => key = Some(k),
            _ => {}
        }
    }
    let key = key
        .filter(|_| !chain.is_empty())
        .ok_or_else(|| file_error(WHAT, file, "expected a PEM certificate and its private key in one file"))?;
    // ureq panics where the two do not belong together.
    let ders = chain.iter().map(|c| CertificateDer::from(c.der().to_vec())).collect();
    let bytes = std::fs::read(file).map_err(|e| file_error(WHAT, file, e))?;
    let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| file_error(WHAT, file, e))?;
    CertifiedKey::from_der(ders, der, &rustls::crypto::ring::default_provider())
        .map_err(|e| file_error(WHAT, file, format!("certificate and key do not go together: {e}")))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// One part of a path, encoded.
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().replace("%2D", "-").replace("%2E", ".").replace("%5F", "_")
}

/// A query value, encoded.
#[must_use]
pub fn query(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

impl Client {
    /// GET; whatever the status.
    ///
    /// # Errors
    /// `NoAnswer` when nothing answered in time.
    pub fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.send("GET", path, None)
    }

    /// GET of a JSON document.
    ///
    /// # Errors
    /// `NoAnswer`, `Refused` for a status other than 200, `Strange` when it is no JSON.
    pub fn get_json(&self, path: &str) -> Result<Value, ClientError> {
        let answer = self.get(path)?;
        self.json(path, answer)
    }

    /// An edit with a body of the given media type; the answer's JSON, or null where it has no body.
    ///
    /// # Errors
    /// `NoAnswer`, `Refused` for a status outside 200–299, `Strange` when it is no JSON.
    pub fn edit(&self, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> Result<Value, ClientError> {
        let answer = self.send(method, path, body)?;
        self.json(path, answer)
    }

    fn json(&self, path: &str, answer: Answer) -> Result<Value, ClientError> {
        if !(200..300).contains(&answer.status) {
            return Err(refused(answer));
        }
        if answer.text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer.text).map_err(|e| ClientError::Strange {
            server: self.server.clone(),
            path: path.to_owned(),
            reason: e.to_string(),
        })
    }

    fn send(&self, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> Result<Answer, ClientError> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header("Accept", "application/json, text/plain;q=0.5");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let sent = match body {
            Some((media, bytes)) => request
                .header("Content-Type", media)
                .body(bytes)
                .map_err(ureq::Error::from)
                .and_then(|r| self.agent.run(r)),
            None => request.body(()).map_err(ureq::Error::from).and_then(|r| self.agent.run(r)),
        };
        let no_answer = |e: ureq::Error| ClientError::NoAnswer { server: self.server.clone(), reason: plain(&e) };
        let mut response = sent.map_err(no_answer)?;
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(MAX_BODY).read_to_vec().map_err(no_answer)?;
        Ok(Answer { status, text: String::from_utf8_lossy(&bytes).into_owned() })
    }
}

/// ureq's errors in plain words.
fn plain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
        ureq::Error::HostNotFound => "its host name is not known".to_owned(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ureq::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}

fn refused(answer: Answer) -> ClientError {
    let problem: Value = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
    let field = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (title, mut detail) = (field("title"), field("detail"));
    if title.is_empty() && detail.is_empty() {
        detail = answer.text.lines().next().unwrap_or_default().chars().take(300).collect();
    }
    ClientError::Refused { status: answer.status, title, detail, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_become_sentences() {
        let say = |status, text: &str| refused(Answer { status, text: text.into() }).to_string();
        assert_eq!(
            say(503, r#"{"title":"Service Unavailable","detail":"edits need the store"}"#),
            "the node cannot do this now (503): edits need the store"
        );
        assert!(say(401, "{}").contains("--token-file"));
        assert_eq!(say(404, "not here\nmore"), "the node answered 404: not here");
    }

    #[test]
    fn parts_of_urls_are_encoded() {
        assert_eq!(segment("foo-1.x_y"), "foo-1.x_y");
        assert_eq!(segment("a/b?c"), "a%2Fb%3Fc");
        assert_eq!(query("read,write & x"), "read,write%20%26%20x");
    }

    #[test]
    fn a_server_may_be_named_without_its_scheme() {
        assert_eq!(server("localhost:8080").as_deref(), Ok("http://localhost:8080"));
        assert!(server("ftp://x").is_err());
    }
}
