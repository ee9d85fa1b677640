//! The real binary against a TLS listener on loopback that wants a client certificate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(issuer: &CertifiedIssuer<'static, KeyPair>) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.signed_by(&key, issuer).unwrap(), key)
}

/// Answers every request with 200, to clients whose certificate comes from `issuer`.
fn serve(issuer: &CertifiedIssuer<'static, KeyPair>) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(issuer.der().to_vec())).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let (cert, key) = leaf(issuer);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream.unwrap());
            let mut head = [0; 4096];
            if tls.read(&mut head).is_ok_and(|n| n > 0) {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK");
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
    });
    port
}

fn health(port: u16, flags: &[(&str, &Path)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.env_clear().args(["health", "--server", &format!("https://localhost:{port}")]);
    for (flag, path) in flags {
        command.arg(flag).arg(path);
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn verbs_speak_tls_with_roots_and_a_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let issuer = issuer();
    let (cert, key) = leaf(&issuer);
    let (_, other_key) = leaf(&issuer);
    std::fs::write(path("ca.pem"), issuer.pem()).unwrap();
    std::fs::write(path("me.pem"), cert.pem() + &key.serialize_pem()).unwrap();
    std::fs::write(path("mixed.pem"), cert.pem() + &other_key.serialize_pem()).unwrap();
    std::fs::write(path("empty.pem"), "").unwrap();
    let port = serve(&issuer);
    let (ca, me) = (path("ca.pem"), path("me.pem"));

    assert_eq!(health(port, &[("--ca", &ca), ("--client-cert", &me)]), (0, String::new()));
    let (code, said) = health(port, &[("--client-cert", &me)]);
    assert!(code == 1 && said.contains("UnknownIssuer"), "{code} {said}");
    let (code, said) = health(port, &[("--ca", &ca)]);
    assert_eq!(code, 1, "the listener wants a certificate: {said}");
    let (code, said) = health(port, &[("--ca", &path("empty.pem"))]);
    assert!(code == 1 && said.contains("no PEM certificate"), "{code} {said}");
    let (code, said) = health(port, &[("--ca", &ca), ("--client-cert", &path("mixed.pem"))]);
    assert!(code == 1 && said.contains("do not go together"), "{code} {said}");
}
