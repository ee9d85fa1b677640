//! A small HTTP server for tests that stands where vulcand stood: `/health/<target><path>` answers as the target would.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    /// 200, a check with ok false.
    Failing,
    Status(u16),
}

#[derive(Default)]
struct Shared {
    behaviour: Mutex<HashMap<String, Behaviour>>,
    hits: Mutex<HashMap<String, u64>>,
    hosts: Mutex<HashMap<String, String>>,
}

/// Serves until the process ends; unknown targets are good.
#[derive(Clone)]
pub struct Gateway {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Gateway {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || drop(answer(stream, &shared)));
            }
        });
        Self { addr, shared }
    }
    pub fn set(&self, target: &str, behaviour: Behaviour) {
        self.shared.behaviour.lock().unwrap().insert(target.to_owned(), behaviour);
    }
    pub fn hits(&self, target: &str) -> u64 {
        self.shared.hits.lock().unwrap().get(target).copied().unwrap_or(0)
    }
    /// The `Host` header that the target's last probe carried.
    pub fn host_of(&self, target: &str) -> Option<String> {
        self.shared.hosts.lock().unwrap().get(target).cloned()
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut host = String::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header == "\r\n" {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("host:") {
            host = value.trim().to_owned();
        }
    }
    let target = path.strip_prefix("/health/").unwrap_or(&path).split('/').next().unwrap_or_default().to_owned();
    *shared.hits.lock().unwrap().entry(target.clone()).or_default() += 1;
    shared.hosts.lock().unwrap().insert(target.clone(), host);
    let behaviour = shared.behaviour.lock().unwrap().get(&target).copied().unwrap_or(Behaviour::Good);
    let (status, ok) = match behaviour {
        Behaviour::Good => (200, true),
        Behaviour::Failing => (200, false),
        Behaviour::Status(status) => (status, true),
    };
    let body = format!(
        r#"{{"schemaVersion":1,"systemCode":"{target}","name":"{target}","checks":[{{"id":"db","name":"database reachable","ok":{ok},"severity":1,"businessImpact":"none","technicalSummary":"asks the database","panicGuide":"call","checkOutput":"said {ok}","lastUpdated":"2026-01-01T00:00:00Z"}}]}}"#
    );
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
