//! TLS for probes: rustls with ring, the system's roots (read once) and an extra CA file (read again each minute).
//!
//! A leaf certificate outside its dates does not fail the handshake: it is judged afterwards, as `Bad` with its date,
//! where every other fault of the certificate is `Unreachable`. Sessions are not resumed: a renewed certificate must be
//! seen at once. What the dates mean is left to `judge::certificate`.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::judge::certificate::Dates;
use crate::{
    clock::Clock,
    model::{Mono, target::TlsOptions},
};

const KEEP: Duration = Duration::from_secs(60);
const MAX_CA_FILE: usize = 4 * 1024 * 1024;

/// Why there is no TLS session.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The handshake failed.
    #[error("TLS: {}", describe(.0))]
    Handshake(#[source] io::Error),
    /// The name for SNI is none.
    #[error("TLS: {0:?} is no server name")]
    Name(String),
    /// The CA file cannot be used.
    #[error("TLS: cannot use the CA file {file}: {problem}")]
    Ca {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No configuration could be made.
    #[error("TLS: {0}")]
    Config(String),
    /// The server showed no certificate, or one that cannot be read.
    #[error("TLS: the server's certificate cannot be read")]
    Certificate,
}

fn describe(error: &io::Error) -> String {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForName)) => {
            "the certificate is for another name".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the certificate's issuer is not trusted".to_owned()
        }
        Some(error) => error.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the connection was closed in the handshake".to_owned(),
        None => super::connect::describe(error),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    verify: bool,
    ca: Option<PathBuf>,
    http2: bool,
}

/// The configurations in use.
#[derive(Debug)]
pub struct Tls {
    clock: Clock,
    provider: Arc<CryptoProvider>,
    native: OnceCell<Arc<RootCertStore>>,
    configs: RefCell<BTreeMap<Key, (Mono, Arc<ClientConfig>)>>,
}

impl Tls {
    /// Nothing read yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { clock, provider, native: OnceCell::new(), configs: RefCell::default() }
    }

    /// Shakes hands on a connection. `host` is the name asked for where the options give none.
    ///
    /// # Errors
    /// `TlsError` for everything but a leaf outside its dates.
    pub async fn connect(
        &self,
        stream: TcpStream,
        options: &TlsOptions,
        host: &str,
        http2: bool,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let name = options.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        let config = self.config(options, http2).await?;
        TlsConnector::from(config).connect(name, stream).await.map_err(TlsError::Handshake)
    }

    /// The dates of the certificate that the server showed.
    ///
    /// # Errors
    /// `TlsError::Certificate` when there is none that can be read.
    pub fn dates(stream: &TlsStream<TcpStream>) -> Result<Dates, TlsError> {
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).ok_or(TlsError::Certificate)?;
        dates_of(leaf).ok_or(TlsError::Certificate)
    }

    async fn config(&self, options: &TlsOptions, http2: bool) -> Result<Arc<ClientConfig>, TlsError> {
        let key = Key { verify: options.verify, ca: options.ca.clone(), http2 };
        let now = self.clock.mono();
        let fresh = |at: Mono| key.ca.is_none() || now.since(at) < KEEP;
        let known = self.configs.borrow().get(&key).filter(|(at, _)| fresh(*at)).map(|(_, c)| Arc::clone(c));
        if let Some(config) = known {
            return Ok(config);
        }
        let config = Arc::new(self.build(&key).await?);
        let mut configs = self.configs.borrow_mut();
        configs.retain(|k, (at, _)| k.ca.is_none() || now.since(*at) < KEEP);
        configs.insert(key, (now, Arc::clone(&config)));
        Ok(config)
    }

    async fn build(&self, key: &Key) -> Result<ClientConfig, TlsError> {
        let fault = |e: &dyn std::fmt::Display| TlsError::Config(e.to_string());
        let inner = if key.verify {
            let roots = self.roots(key.ca.as_deref()).await?;
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider));
            Some(builder.build().map_err(|e| fault(&e))?)
        } else {
            None
        };
        let verifier = Arc::new(Verifier { inner, provider: Arc::clone(&self.provider) });
        let time = Arc::new(Time(self.clock.clone()));
        let mut config = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_safe_default_protocol_versions()
            .map_err(|e| fault(&e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = if key.http2 { vec![b"h2".to_vec()] } else { Vec::new() };
        Ok(config)
    }

    async fn roots(&self, ca: Option<&Path>) -> Result<Arc<RootCertStore>, TlsError> {
        let native = self.native.get_or_try_init(|| async {
            let load = || {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Arc::new(store)
            };
            tokio::task::spawn_blocking(load).await.map_err(|e| TlsError::Config(e.to_string()))
        });
        let native = Arc::clone(native.await?);
        let Some(file) = ca else { return Ok(native) };
        let fault = |problem: String| TlsError::Ca { file: file.display().to_string(), problem };
        let pem = tokio::fs::read(file).await.map_err(|e| fault(super::connect::describe(&e)))?;
        if pem.len() > MAX_CA_FILE {
            return Err(fault("it is over 4 MiB".to_owned()));
        }
        let mut store = RootCertStore::clone(&native);
        let before = store.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| fault(e.to_string()))?;
            store.add(certificate).map_err(|e| fault(e.to_string()))?;
        }
        if store.len() == before {
            return Err(fault("it has no certificate".to_owned()));
        }
        Ok(Arc::new(store))
    }
}

fn dates_of(leaf: &CertificateDer<'_>) -> Option<Dates> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf.as_ref()).ok()?;
    let validity = certificate.validity();
    Some(Dates { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
}

#[derive(Debug)]
struct Time(Clock);

impl rustls::time_provider::TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now().wall.as_secs()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

/// The usual verification, or none; a leaf outside its own dates passes, to be judged.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        let verified = inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match &verified {
            Err(rustls::Error::InvalidCertificate(
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
            )) => {
                let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                // Only where the judge will see the same; an intermediate's dates are no business of its.
                let leaf_is_out = dates_of(end_entity).is_some_and(|dates| dates.fault(now).is_some());
                if leaf_is_out { Ok(ServerCertVerified::assertion()) } else { verified }
            }
            _ => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
