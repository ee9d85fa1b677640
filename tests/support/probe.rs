//! What the probe's tests share: checks with defaults, and small servers that behave as they are told.
#![allow(dead_code)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bellwether::{
    clock::Clock,
    model::{
        ServiceName, Severity, Target, TargetName,
        target::{Check, Format, Kind, TlsOptions},
    },
    probe::{Engine, EngineConfig, EngineHandle, Observed},
};
use tokio::sync::mpsc::Receiver;

/// Bound on every wait.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn check(kind: Kind, address: SocketAddr) -> Check {
    Check {
        kind,
        host: address.ip().to_string(),
        port: address.port(),
        via_gateway: false,
        path: "/__health".to_owned(),
        host_header: "svc".to_owned(),
        method: http::Method::GET,
        headers: Vec::new(),
        auth: None,
        format: Format::Auto,
        expect_status: Vec::new(),
        expect_body: None,
        expect_json: Vec::new(),
        min_days_left: None,
        timeout: Duration::from_secs(5),
        rise: 1,
        fall: 1,
        fast_interval: Duration::from_secs(1),
        reuse: false,
        redirects: 0,
        tls: TlsOptions::default(),
        grpc_service: String::new(),
        properties: std::collections::BTreeMap::new(),
    }
}

pub fn target(name: &str, check: Check, interval: Duration) -> Arc<Target> {
    let name = TargetName::new(name).unwrap();
    Arc::new(Target {
        service: ServiceName::of_target(&name),
        name,
        path: check.path.clone(),
        categories: Vec::new(),
        ack: None,
        check: Arc::new(check),
        interval,
        severity: Severity::MEDIUM,
        business_impact: String::new(),
        technical_summary: String::new(),
        panic_guide: String::new(),
    })
}

/// An engine that is ended with the test.
pub struct Running {
    pub handle: EngineHandle,
    pub results: Receiver<Vec<Observed>>,
    seen: std::collections::VecDeque<Observed>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

pub fn config() -> EngineConfig {
    EngineConfig::new(Clock::system())
}

pub fn start(config: EngineConfig) -> Running {
    let (handle, results) = Engine::start(config).unwrap();
    Running { handle, results, seen: std::collections::VecDeque::new() }
}

impl Running {
    /// The next result.
    pub async fn next(&mut self) -> Observed {
        while self.seen.is_empty() {
            let batch = tokio::time::timeout(PATIENCE, self.results.recv()).await.expect("a result in time");
            self.seen.extend(batch.expect("the engine runs"));
        }
        self.seen.pop_front().unwrap()
    }

    /// Probes one check once.
    pub async fn once(&mut self, check: Check) -> Observed {
        let target = target("t", check, Duration::from_secs(3600));
        self.handle.set_targets(vec![Arc::clone(&target)], Vec::new());
        self.handle.refresh(vec![target.name.clone()]);
        loop {
            let seen = self.next().await;
            if Arc::ptr_eq(&seen.check, &target.check) {
                return seen;
            }
        }
    }
}

/// A server on loopback: one thread for each connection, which counts them. It lives until the process ends.
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    pub most_at_once: Arc<AtomicUsize>,
}

/// Serves each connection with `serve`.
pub fn server(serve: impl Fn(TcpStream, &AtomicUsize) + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        connections: Arc::default(),
        requests: Arc::default(),
        most_at_once: Arc::default(),
    };
    let (connections, requests, most) =
        (server.connections.clone(), server.requests.clone(), server.most_at_once.clone());
    let now = Arc::new(AtomicUsize::new(0));
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            connections.fetch_add(1, SeqCst);
            let (serve, requests, most, now) = (serve.clone(), requests.clone(), most.clone(), now.clone());
            std::thread::spawn(move || {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                serve(stream, &requests);
                now.fetch_sub(1, SeqCst);
            });
        }
    });
    server
}

/// Reads one request's head.
pub fn read_request(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.extend_from_slice(&byte);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// A server that answers every request of a connection with the same bytes, then, unless `keep`, closes.
pub fn answering(bytes: impl Into<Vec<u8>>, keep: bool) -> Server {
    let bytes = bytes.into();
    server(move |mut stream, requests| {
        while read_request(&mut stream).is_some() {
            requests.fetch_add(1, SeqCst);
            if stream.write_all(&bytes).is_err() || !keep {
                return;
            }
        }
    })
}

/// An answer with a body of a content type.
pub fn answer(status: &str, content_type: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
