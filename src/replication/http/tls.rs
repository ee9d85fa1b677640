//! TLS towards other nodes: rustls with ring, the system's roots (read once) and `--cluster-ca`; this node's own certificate
//! for peers that ask for one. Files are read for each new connection; the configuration is built anew when one has changed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{TlsConnector, client::TlsStream};

const MAX_FILE: usize = 4 * 1024 * 1024;

/// What configurations are made of.
#[derive(Debug)]
pub(super) struct Tls {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    native: OnceCell<Arc<RootCertStore>>,
    /// The last one, with the contents that it was built from.
    built: Mutex<Option<(Contents, Arc<ClientConfig>)>>,
}

/// The files as they are.
#[derive(Clone, Default, PartialEq, Eq)]
struct Contents {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// The key stays out of every log.
impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(ca: Option<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> Self {
        Self { ca, identity, native: OnceCell::new(), built: Mutex::default() }
    }

    /// Shakes hands with the node named `host`.
    pub(super) async fn connect(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let config = self.config().await?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no server name"))?;
        TlsConnector::from(config).connect(name, stream).await.map_err(|e| format!("TLS: {e}"))
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let contents = self.contents().await?;
        let last = self.built.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, config)) = last.filter(|(from, _)| *from == contents) {
            return Ok(config);
        }
        let config = Arc::new(self.build(&contents).await?);
        *self.built.lock().unwrap_or_else(PoisonError::into_inner) = Some((contents, Arc::clone(&config)));
        Ok(config)
    }

    async fn contents(&self) -> Result<Contents, String> {
        let ca = match &self.ca {
            Some(path) => Some(read("--cluster-ca", path).await?),
            None => None,
        };
        let identity = match &self.identity {
            Some((cert, key)) => Some((read("--tls-cert", cert).await?, read("--tls-key", key).await?)),
            None => None,
        };
        Ok(Contents { ca, identity })
    }

    async fn build(&self, contents: &Contents) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::clone(self.native().await?);
        if let Some(pem) = &contents.ca {
            let wrong = |problem: &dyn std::fmt::Display| format!("--cluster-ca: {problem}");
            for certificate in certificates(pem).map_err(|e| wrong(&e))? {
                roots.add(certificate).map_err(|e| wrong(&e))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        let Some((cert, key)) = &contents.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(cert).map_err(|e| format!("--tls-cert: {e}"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("--tls-key: {e}"))?;
        builder.with_client_auth_cert(chain, key).map_err(|e| format!("--tls-cert with --tls-key: {e}"))
    }

    async fn native(&self) -> Result<&RootCertStore, String> {
        let load = || {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(store)
        };
        let loaded = self.native.get_or_try_init(|| async { tokio::task::spawn_blocking(load).await });
        loaded.await.map(Arc::as_ref).map_err(|e| e.to_string())
    }
}

async fn read(flag: &str, path: &Path) -> Result<Vec<u8>, String> {
    let pem = tokio::fs::read(path).await.map_err(|e| format!("{flag} {}: {e}", path.display()))?;
    if pem.len() > MAX_FILE { Err(format!("{flag} {}: it is over 4 MiB", path.display())) } else { Ok(pem) }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|e| e.to_string())?;
    if all.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(all) }
}
