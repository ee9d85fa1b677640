//! Probes over TLS, gRPC and SOCKS against real peers: rustls, tonic's health server, microsocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/ports.rs"]
mod ports;
#[path = "support/probe.rs"]
mod support;

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use bellwether::{
    clock::Clock,
    model::{
        Outcome,
        target::{Check, Kind, TlsOptions},
    },
    probe::EngineConfig,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::*;

const DAY: i64 = 86_400;

/// A certificate authority, and the file that a check names.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

fn ca() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), issuer.pem()).unwrap();
    Ca { issuer, file }
}

impl Ca {
    /// A certificate for a name, valid from and until so many days from now.
    fn issue(&self, name: &str, from: i64, until: i64) -> (rcgen::Certificate, KeyPair) {
        let at = |days: i64| {
            let secs = Clock::system().now().wall.as_secs() + days * DAY + 3600;
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(secs as u64)
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = at(from);
        params.not_after = at(until);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A TLS server with such a certificate that answers each request with `OK`.
    fn server(&self, name: &str, from: i64, until: i64) -> Server {
        let (certificate, key) = self.issue(name, from, until);
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        let config = Arc::new(config);
        server(move |stream, requests| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream);
            // Requests until the client goes.
            let mut head = Vec::new();
            let mut byte = [0];
            while matches!(std::io::Read::read(&mut stream, &mut byte), Ok(1)) {
                head.push(byte[0]);
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    requests.fetch_add(1, SeqCst);
                    let _ = stream.write_all(answer("200 OK", "text/plain", "OK").as_bytes());
                }
            }
        })
    }

    fn check(&self, kind: Kind, address: SocketAddr) -> Check {
        let tls = TlsOptions { ca: Some(self.file.path().to_owned()), ..TlsOptions::default() };
        Check { tls, host: "localhost".to_owned(), ..check(kind, address) }
    }
}

#[tokio::test]
async fn https_and_tls_judge_the_certificate() {
    let ca = ca();
    let mut engine = start(config());
    let good = ca.server("localhost", -10, 30);
    for kind in [Kind::Https, Kind::Tls] {
        let o = engine.once(ca.check(kind, good.address)).await.observation;
        assert_eq!((o.outcome, o.days_left), (Outcome::Good, Some(30)), "{kind:?}: {}", o.output);
        let asked = Check { min_days_left: Some(31), ..ca.check(kind, good.address) };
        let o = engine.once(asked).await.observation;
        assert_eq!((o.outcome, o.days_left), (Outcome::Bad, Some(30)));
        assert_eq!(
            o.output.split(';').next().unwrap(),
            "the certificate is valid for 30 more days, expected at least 31"
        );
    }
    assert_eq!(good.requests.load(SeqCst), 2, "tls only shakes hands");
    let expired = ca.server("localhost", -10, -3);
    let early = ca.server("localhost", 2, 30);
    for verify in [true, false] {
        for kind in [Kind::Https, Kind::Tls] {
            let with = |address| {
                let mut asked = ca.check(kind, address);
                asked.tls.verify = verify;
                asked
            };
            let o = engine.once(with(expired.address)).await.observation;
            assert_eq!((o.outcome, o.days_left), (Outcome::Bad, Some(-3)), "{}", o.output);
            assert!(o.output.starts_with("the certificate expired 2 days ago"), "{}", o.output);
            let o = engine.once(with(early.address)).await.observation;
            assert_eq!(o.outcome, Outcome::Bad);
            assert!(o.output.starts_with("the certificate is not valid for another"), "{}", o.output);
        }
    }
}

#[tokio::test]
async fn names_and_issuers_are_verified_unless_told_otherwise() {
    let ca = ca();
    let mut engine = start(config());
    let other = ca.server("other.example", -1, 30);
    let mut asked = ca.check(Kind::Https, other.address);
    let o = engine.once(asked.clone()).await.observation;
    assert_eq!(o.outcome, Outcome::Unreachable);
    assert!(o.output.contains("other.example") || o.output.contains("another name"), "{}", o.output);
    asked.tls.server_name = Some("other.example".to_owned());
    assert_eq!(engine.once(asked.clone()).await.observation.outcome, Outcome::Good);
    asked.tls.ca = None;
    let o = engine.once(asked.clone()).await.observation;
    assert_eq!((o.outcome, &*o.output), (Outcome::Unreachable, "TLS: the certificate's issuer is not trusted"));
    asked.tls.server_name = None;
    asked.tls.verify = false;
    let o = engine.once(asked.clone()).await.observation;
    assert_eq!((o.outcome, o.days_left), (Outcome::Good, Some(30)));
    asked.tls = TlsOptions { ca: Some("/nonexistent/ca.pem".into()), ..TlsOptions::default() };
    let o = engine.once(asked).await.observation;
    assert_eq!(o.outcome, Outcome::Unreachable);
    assert!(o.output.starts_with("TLS: cannot use the CA file /nonexistent/ca.pem"), "{}", o.output);
}

#[tokio::test]
async fn https_is_reused_too() {
    let ca = ca();
    let server = ca.server("localhost", -1, 30);
    let mut engine = start(config());
    let asked = Check { reuse: true, ..ca.check(Kind::Https, server.address) };
    let t = target("t", asked.clone(), Duration::from_secs(3600));
    engine.handle.set_targets(vec![t.clone()], Vec::new());
    for _ in 0..4 {
        engine.handle.refresh(vec![t.name.clone()]);
        let o = engine.next().await.observation;
        assert_eq!((o.outcome, o.days_left), (Outcome::Good, Some(30)));
    }
    assert_eq!((server.connections.load(SeqCst), server.requests.load(SeqCst)), (1, 4));
    // A catalog made anew, with an equal check, keeps the connection.
    let t = target("t", asked, Duration::from_secs(3600));
    engine.handle.set_targets(vec![t.clone()], Vec::new());
    engine.handle.refresh(vec![t.name.clone()]);
    assert_eq!(engine.next().await.observation.outcome, Outcome::Good);
    assert_eq!((server.connections.load(SeqCst), server.requests.load(SeqCst)), (1, 5));
}

#[tokio::test]
async fn tls_to_what_is_none() {
    let ca = ca();
    let mut engine = start(config());
    let plain = answering("HTTP/1.1 400 Bad\r\n\r\n", false);
    let silent = server(|mut stream, _| {
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    for kind in [Kind::Https, Kind::Tls, Kind::Grpcs] {
        let asked = Check { timeout: Duration::from_millis(500), ..ca.check(kind, silent.address) };
        assert_eq!(engine.once(asked).await.observation.outcome, Outcome::Timeout);
    }
    let o = engine.once(Check { timeout: Duration::from_millis(500), ..ca.check(Kind::Tls, plain.address) }).await;
    assert_ne!(o.observation.outcome, Outcome::Good);
}

/// tonic's own health server, ended with the test's runtime.
async fn grpc_server(identity: Option<(String, String)>) -> (tonic_health::server::HealthReporter, SocketAddr) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let incoming = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let mut builder = tonic::transport::Server::builder();
    if let Some((certificate, key)) = identity {
        let identity = tonic::transport::Identity::from_pem(certificate, key);
        builder = builder.tls_config(tonic::transport::ServerTlsConfig::new().identity(identity)).unwrap();
    }
    tokio::spawn(builder.add_service(service).serve_with_incoming(incoming));
    (reporter, address)
}

#[tokio::test]
async fn grpc_health() {
    use tonic_health::ServingStatus;
    let (reporter, address) = grpc_server(None).await;
    reporter.set_service_status("", ServingStatus::Serving).await;
    reporter.set_service_status("a.Service", ServingStatus::NotServing).await;
    let mut engine = start(config());
    let mut asked = check(Kind::Grpc, address);
    let o = engine.once(asked.clone()).await.observation;
    assert_eq!((o.outcome, &*o.output), (Outcome::Good, "SERVING"));
    asked.grpc_service = "a.Service".to_owned();
    let o = engine.once(asked.clone()).await.observation;
    assert_eq!((o.outcome, &*o.output), (Outcome::Bad, "NOT_SERVING"));
    asked.grpc_service = "no.Such".to_owned();
    let o = engine.once(asked.clone()).await.observation;
    assert_eq!(o.outcome, Outcome::Bad);
    assert!(o.output.starts_with("gRPC status 5 NOT_FOUND"), "{}", o.output);
    let http = answering(answer("200 OK", "text/plain", "OK"), false);
    let o = engine.once(check(Kind::Grpc, http.address)).await.observation;
    assert!(matches!(o.outcome, Outcome::Protocol | Outcome::Unreachable), "{:?} {}", o.outcome, o.output);
    let silent = server(|mut stream, _| {
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    let asked = Check { timeout: Duration::from_millis(300), ..check(Kind::Grpc, silent.address) };
    assert_eq!(engine.once(asked).await.observation.outcome, Outcome::Timeout);
}

#[tokio::test]
async fn grpc_over_tls() {
    let ca = ca();
    let (certificate, key) = ca.issue("localhost", -1, 20);
    let (reporter, address) = grpc_server(Some((certificate.pem(), key.serialize_pem()))).await;
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let mut engine = start(config());
    let o = engine.once(ca.check(Kind::Grpcs, address)).await.observation;
    assert_eq!((o.outcome, &*o.output, o.days_left), (Outcome::Good, "SERVING", Some(20)));
}

/// A microsocks of its own, ended with the test.
struct Socks {
    child: std::process::Child,
    address: SocketAddr,
}

impl Drop for Socks {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn microsocks(user: Option<(&str, &str)>) -> Socks {
    let address = ports::nobody();
    let mut command = std::process::Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &address.port().to_string()]);
    if let Some((user, password)) = user {
        command.args(["-u", user, "-P", password]);
    }
    let null = std::process::Stdio::null;
    let child = command.stdout(null()).stderr(null()).spawn().expect("microsocks is installed");
    let socks = Socks { child, address };
    let listening = tokio::time::timeout(PATIENCE, async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    listening.await.expect("microsocks listens");
    socks
}

#[tokio::test]
async fn every_kind_goes_through_the_socks_proxy() {
    let ca = ca();
    let http = answering(answer("200 OK", "text/plain", "OK"), false);
    let https = ca.server("localhost", -1, 30);
    let (reporter, grpc) = grpc_server(None).await;
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let open = microsocks(None).await;
    let guarded = microsocks(Some(("me", "p@ss"))).await;
    for proxy in [open.address.to_string(), format!("socks5://me:p%40ss@{}", guarded.address)] {
        let mut engine = start(EngineConfig { socks_proxy: Some(proxy), ..config() });
        let mut named = check(Kind::Http, http.address);
        named.host = "localhost".to_owned();
        let tcp = check(Kind::Tcp, http.address);
        let https = ca.check(Kind::Https, https.address);
        for asked in [named, check(Kind::Http, http.address), tcp, https, check(Kind::Grpc, grpc)] {
            let o = engine.once(asked.clone()).await.observation;
            assert_eq!(o.outcome, Outcome::Good, "{:?}: {}", asked.kind, o.output);
        }
        let nobody = ports::nobody();
        let o = engine.once(check(Kind::Http, nobody)).await.observation;
        assert_eq!(o.outcome, Outcome::Unreachable);
        assert!(o.output.starts_with("the SOCKS proxy: "), "{}", o.output);
        let mut unknown = check(Kind::Http, http.address);
        unknown.host = "no-such-name.invalid".to_owned();
        let o = engine.once(unknown).await.observation;
        assert!(o.output.starts_with("the SOCKS proxy: "), "the proxy resolves names: {}", o.output);
    }
    let wrong = format!("socks5://me:wrong@{}", guarded.address);
    let mut engine = start(EngineConfig { socks_proxy: Some(wrong), ..config() });
    let o = engine.once(check(Kind::Http, http.address)).await.observation;
    assert_eq!(o.outcome, Outcome::Unreachable, "{}", o.output);
    drop(open);
    let gone = ports::nobody().to_string();
    let mut engine = start(EngineConfig { socks_proxy: Some(gone), ..config() });
    let o = engine.once(check(Kind::Http, http.address)).await.observation;
    assert_eq!(o.outcome, Outcome::Unreachable);
    assert!(o.output.starts_with("cannot reach the SOCKS proxy: "), "{}", o.output);
    assert!(bellwether::probe::Engine::start(EngineConfig { socks_proxy: Some("x".to_owned()), ..config() }).is_err());
}
