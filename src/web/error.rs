//! Why the listeners could not be opened. What a single request gets wrong is left to `problem`.

use std::{net::SocketAddr, path::PathBuf};

/// A failure at the start; each names the flag that it comes from.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address cannot be listened on.
    #[error("{flag} {address}: cannot listen: {source}")]
    Bind {
        /// `--listen` or `--admin-listen`.
        flag: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the listener's TLS cannot be read.
    #[error("{flag} {}: {source}", path.display())]
    TlsFile {
        /// `--tls-cert`, `--tls-key` or `--client-ca`.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the listener's TLS holds something else than expected.
    #[error("{flag} {}: expected {expected}: {problem}", path.display())]
    TlsContent {
        /// `--tls-cert`, `--tls-key` or `--client-ca`.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Certificate and key do not go together, or are not usable.
    #[error("--tls-cert {} with --tls-key {}: {source}", cert.display(), key.display())]
    TlsPair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A token's file cannot be read or is empty.
    #[error("{flag} {}: {problem}", path.display())]
    TokenFile {
        /// `--admin-token-file` or `--cluster-token-file`.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl WebError {
    /// The flag with its file or address, and what is wrong with it.
    pub(super) fn told(&self) -> (String, String) {
        match self {
            Self::Bind { flag, address, source } => (format!("{flag} {address}"), format!("cannot listen: {source}")),
            Self::TlsFile { flag, path, source } => (format!("{flag} {}", path.display()), source.to_string()),
            Self::TlsContent { flag, path, expected, problem } => {
                (format!("{flag} {}", path.display()), format!("expected {expected}: {problem}"))
            }
            Self::TlsPair { cert, key, source } => {
                (format!("--tls-cert {}", cert.display()), format!("with --tls-key {}: {source}", key.display()))
            }
            Self::TokenFile { flag, path, problem } => (format!("{flag} {}", path.display()), problem.clone()),
        }
    }
}
