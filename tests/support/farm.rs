//! The services that are probed: a door for each node, so that a target can fail for one node's probes only. Targets are
//! good until they are told otherwise.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

#[derive(Default)]
struct State {
    down: HashSet<String>,
    /// Nodes whose probes reach nothing.
    cut: HashSet<String>,
    /// The first answer to each target since it was last told how to answer.
    first: HashMap<String, Instant>,
    /// Probes by node and target.
    hits: HashMap<(String, String), u64>,
}

/// Serves until the runtime ends.
#[derive(Clone)]
pub struct Farm {
    state: Arc<Mutex<State>>,
    runtime: Handle,
}

impl Farm {
    pub fn new(runtime: Handle) -> Self {
        Self { state: Arc::default(), runtime }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A door for one node: its `--vulcand`.
    pub fn door(&self, node: &str) -> SocketAddr {
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (farm, node) = (self.clone(), node.to_owned());
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (farm, node) = (farm.clone(), node.clone());
                tokio::spawn(async move { farm.answer(stream, node).await });
            }
        });
        address
    }

    async fn answer(self, mut stream: TcpStream, node: String) -> Option<()> {
        let mut head = Vec::new();
        let mut part = [0; 2048];
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            let n = stream.read(&mut part).await.ok().filter(|n| *n > 0 && head.len() < 1 << 16)?;
            head.extend_from_slice(&part[..n]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1)?;
        let target = path.strip_prefix("/health/")?.split('/').next()?.to_owned();
        let ok = {
            let mut state = self.state();
            if state.cut.contains(&node) {
                return None;
            }
            let ok = !state.down.contains(&target);
            state.first.entry(target.clone()).or_insert_with(Instant::now);
            *state.hits.entry((node, target.clone())).or_default() += 1;
            ok
        };
        let body = format!(
            r#"{{"schemaVersion":1,"systemCode":"{target}","name":"{target}","checks":[{{"id":"db","name":"database reachable","ok":{ok},"severity":2,"businessImpact":"none","technicalSummary":"asks the database","panicGuide":"call","checkOutput":"said {ok}","lastUpdated":"2026-01-01T00:00:00Z"}}]}}"#
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
        // Until the node has closed.
        while stream.read(&mut part).await.is_ok_and(|n| n > 0) {}
        Some(())
    }

    /// Tells a target how it answers from now on.
    pub fn set(&self, target: &str, ok: bool) {
        let mut state = self.state();
        state.first.remove(target);
        if ok {
            state.down.remove(target)
        } else {
            state.down.insert(target.to_owned())
        };
    }

    /// The same for many at once.
    pub fn set_all(&self, targets: impl IntoIterator<Item = String>, ok: bool) {
        let mut state = self.state();
        for target in targets {
            state.first.remove(&target);
            if ok {
                state.down.remove(&target)
            } else {
                state.down.insert(target)
            };
        }
    }

    /// When a target was first asked after it was told how to answer.
    pub fn first_answer(&self, target: &str) -> Option<Instant> {
        self.state().first.get(target).copied()
    }

    /// Cuts a node's probes off from all targets, or heals that.
    pub fn cut(&self, node: &str, cut: bool) {
        let mut state = self.state();
        if cut {
            state.cut.insert(node.to_owned())
        } else {
            state.cut.remove(node)
        };
    }

    /// Probes of one node, of all targets.
    pub fn probes_of(&self, node: &str) -> u64 {
        self.state().hits.iter().filter(|((n, _), _)| n == node).map(|(_, hits)| hits).sum()
    }

    /// Probes of one target, by all nodes.
    pub fn hits(&self, target: &str) -> u64 {
        self.state().hits.iter().filter(|((_, t), _)| t == target).map(|(_, hits)| hits).sum()
    }
}
