//! A running server over a made-up view, and a raw TCP client.
#![allow(dead_code, missing_docs)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bellwether::{
    clock::Clock,
    latest::Latest,
    model::{Fault, Timestamp, View},
    web::{
        BuildInfo, Doors, Fragments, Options, Server, Token, Web,
        port::{Alone, ClusterPort},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::web_view::{FakePort, NOW};

pub struct Running {
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    pub view: Latest<View>,
    pub port: Arc<FakePort>,
    pub clock: Clock,
    pub draining: CancellationToken,
    pub stop: CancellationToken,
    /// Faults of the listener's own files.
    pub faults: tokio::sync::Mutex<mpsc::Receiver<(&'static str, Vec<Fault>)>>,
    pub task: tokio::task::JoinHandle<()>,
}

pub fn options() -> Options {
    Options::new("127.0.0.1:0".parse().unwrap())
}

pub async fn start(view: View) -> Running {
    start_with(view, options(), None).await
}

pub async fn start_with(view: View, options: Options, token: Option<Token>) -> Running {
    let doors = Doors { admin_token: token, ..Doors::default() };
    start_cluster(view, options, doors, Arc::new(Alone)).await
}

pub async fn start_cluster(view: View, options: Options, doors: Doors, cluster: Arc<dyn ClusterPort>) -> Running {
    let server = Server::bind(options).unwrap();
    let (address, admin) = (server.address(), server.admin_address());
    let view = Latest::new(view);
    let port = Arc::new(FakePort::default());
    let clock = Clock::manual(Timestamp::from_millis(NOW));
    let draining = CancellationToken::new();
    let stop = CancellationToken::new();
    let (faults, faults_in) = mpsc::channel(16);
    let web = Web {
        view: view.clone(),
        port: port.clone(),
        clock: clock.clone(),
        doors: Doors { admin_listen: admin, ..doors },
        cluster,
        build: BuildInfo { name: "bellwether", version: "0.1.0", revision: Some("abc") },
        metrics: Arc::new(|| "bellwether_up 1\n".to_owned()),
        faults: Some(faults),
        requests: Arc::default(),
        fragments: Fragments::default(),
        draining: draining.clone(),
    };
    let task = tokio::spawn(server.serve(Arc::new(web), stop.clone()));
    let faults = tokio::sync::Mutex::new(faults_in);
    Running { address, admin, view, port, clock, draining, stop, faults, task }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Sends raw bytes, reads to the end.
pub async fn raw(address: SocketAddr, request: &[u8]) -> Reply {
    let run = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server may answer, and close, before it has read everything.
        let _ = stream.write_all(request).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        parse(&bytes)
    };
    tokio::time::timeout(Duration::from_secs(20), run).await.expect("no answer in time")
}

#[track_caller]
pub fn parse(bytes: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"));
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// One request on its own connection.
pub async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        request.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body);
    raw(address, request.as_bytes()).await
}

pub async fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, "GET", path, &[], "").await
}

pub const AS_JSON: [(&str, &str); 1] = [("Accept", "application/json")];
