//! The listener's TLS: certificate, key and the CA of client certificates, read from files and read again when these
//! change. What cannot be used is refused and the old ones stay in force.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::WebError;

/// Where the listener's TLS comes from; all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// `--tls-cert`: the chain, the server's own certificate first.
    pub cert: PathBuf,
    /// `--tls-key`.
    pub key: PathBuf,
    /// `--client-ca`: where given, every client must show a certificate that one of these signed.
    pub client_ca: Option<PathBuf>,
}

/// The contents of the files: they are small, and comparing them misses no change as a modification time may.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The configuration in force.
pub(super) struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    /// What was tried last, and what was wrong with it.
    tried: std::sync::Mutex<(Contents, Option<Wrong>)>,
}

/// The flag and file that is at fault, and why.
type Wrong = (String, String);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, holds something else, or they do not go together.
    pub(super) fn load(files: TlsFiles) -> Result<Self, WebError> {
        let contents = Contents::read(&files)?;
        let config = ArcSwap::from(build(&files, &contents)?);
        Ok(Self { files, config, tried: std::sync::Mutex::new((contents, None)) })
    }

    /// The configuration for the next handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads the files again. `Ok(true)`: new ones are in force.
    ///
    /// # Errors
    /// The flag and file, and what is wrong there, as long as it is; the old ones stay in force.
    pub(super) fn reload(&self) -> Result<bool, Wrong> {
        let contents = Contents::read(&self.files).map_err(|e| e.told())?;
        let mut tried = self.tried.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tried.0 == contents {
            return tried.1.clone().map_or(Ok(false), Err);
        }
        let built = build(&self.files, &contents).map_err(|e| e.told());
        *tried = (contents, built.as_ref().err().cloned());
        self.config.store(built?);
        Ok(true)
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, WebError> {
        let read = |flag, path: &Path| {
            std::fs::read(path).map_err(|source| WebError::TlsFile { flag, path: path.to_owned(), source })
        };
        Ok(Self {
            cert: read("--tls-cert", &files.cert)?,
            key: read("--tls-key", &files.key)?,
            client_ca: files.client_ca.as_deref().map(|path| read("--client-ca", path)).transpose()?,
        })
    }
}

fn build(files: &TlsFiles, contents: &Contents) -> Result<Arc<ServerConfig>, WebError> {
    let chain = certificates("--tls-cert", &files.cert, &contents.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| WebError::TlsContent {
        flag: "--tls-key",
        path: files.key.clone(),
        expected: "a private key in PEM",
        problem: error.to_string(),
    })?;
    let pair = |source| WebError::TlsPair { cert: files.cert.clone(), key: files.key.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match (&files.client_ca, &contents.client_ca) {
        (Some(path), Some(pem)) => {
            let bad = |problem: String| WebError::TlsContent {
                flag: "--client-ca",
                path: path.clone(),
                expected: "CA certificates in PEM",
                problem,
            };
            let mut roots = RootCertStore::empty();
            for certificate in certificates("--client-ca", path, pem)? {
                roots.add(certificate).map_err(|e| bad(e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| bad(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(flag: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, WebError> {
    let bad = |problem: String| WebError::TlsContent {
        flag,
        path: path.to_owned(),
        expected: "certificates in PEM",
        problem,
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|e| bad(e.to_string()))?;
    if all.is_empty() { Err(bad("there is none".to_owned())) } else { Ok(all) }
}
