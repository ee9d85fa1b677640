//! In-memory peers over hubs, with faults that a test sets. For tests only.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Entry, Hub, PeerError, Peers, Refreshed, Seen};
use crate::{
    evaluation::health::Counters,
    model::{Health, HealthState, Mono, NodeName, Now, Observation, Outcome, TargetName, Timestamp, cluster::PeerNode},
};

/// A network of hubs by URL.
#[derive(Default)]
pub(super) struct Net {
    hubs: Mutex<BTreeMap<String, Hub>>,
    /// What nodes say of themselves; none: no answer ever.
    pub(super) nodes: Mutex<BTreeMap<String, Option<PeerNode>>>,
    /// Streams that were opened, with what they asked for.
    pub(super) asked: Mutex<Vec<Option<(i64, u64)>>>,
    /// Bytes after which the next stream is cut; none: never.
    pub(super) cut_after: Mutex<Option<usize>>,
    /// Chunks are cut to at most so many bytes; 0: as they come.
    pub(super) chunk: AtomicUsize,
    /// Streams accept, and then stay silent.
    pub(super) silent: AtomicBool,
    /// How many streams may wait in a connection.
    pub(super) room: AtomicUsize,
}

impl Net {
    pub(super) fn with(url: &str, hub: &Hub) -> Arc<Self> {
        let net = Self::default();
        net.put(url, hub);
        Arc::new(net)
    }

    pub(super) fn put(&self, url: &str, hub: &Hub) {
        self.hubs.lock().unwrap().insert(url.to_owned(), hub.clone());
    }

    fn unreachable<T>(url: &str) -> Result<T, PeerError> {
        Err(PeerError::Unreachable { url: url.to_owned(), reason: "refused".to_owned() })
    }
}

#[async_trait]
impl Peers for Net {
    async fn stream(&self, url: &str, after: Option<(i64, u64)>) -> Result<mpsc::Receiver<Bytes>, PeerError> {
        self.asked.lock().unwrap().push(after);
        let Some(hub) = self.hubs.lock().unwrap().get(url).cloned() else { return Self::unreachable(url) };
        let refused = |e: super::NotServing| PeerError::Refused { url: url.to_owned(), reason: e.to_string() };
        let mut subscription = hub.subscribe(after).map_err(refused)?;
        let (out, bytes) = mpsc::channel(self.room.load(Ordering::SeqCst).max(1));
        let chunk = Some(self.chunk.load(Ordering::SeqCst)).filter(|c| *c > 0).unwrap_or(usize::MAX);
        let mut left = self.cut_after.lock().unwrap().take();
        let silent = self.silent.load(Ordering::SeqCst);
        tokio::spawn(async move {
            loop {
                let line = tokio::select! {
                    biased;
                    () = out.closed() => return,
                    line = subscription.next() => line,
                };
                let Some(line) = line else { return };
                if silent {
                    out.closed().await;
                    return;
                }
                for piece in line.chunks(chunk.min(line.len()).max(1)) {
                    let piece = Bytes::copy_from_slice(&piece[..piece.len().min(left.unwrap_or(usize::MAX))]);
                    left = left.map(|l| l - piece.len());
                    if out.send(piece).await.is_err() || left == Some(0) {
                        return;
                    }
                }
            }
        });
        Ok(bytes)
    }

    async fn node(&self, url: &str) -> Result<PeerNode, PeerError> {
        let node = self.nodes.lock().unwrap().get(url).cloned();
        match node {
            Some(Some(node)) => Ok(node),
            Some(None) => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Self::unreachable(url)
            }
            None => Self::unreachable(url),
        }
    }

    async fn refresh(&self, url: &str, _: &[TargetName]) -> Result<Refreshed, PeerError> {
        Self::unreachable(url)
    }

    async fn witness(&self, url: &str, _: &[TargetName]) -> Result<Vec<Seen>, PeerError> {
        Self::unreachable(url)
    }
}

pub(super) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

/// An entry whose content is told by `n`.
pub(super) fn entry(target: &str, n: u64) -> Entry {
    let now = Now { wall: at(i64::try_from(n).unwrap()), mono: Mono::from_origin(Duration::from_secs(100)) };
    let output = format!("said {n}");
    Entry {
        target: TargetName::new(target).unwrap(),
        health: Health { state: HealthState::Up, n, term: 5, ..Health::unknown(now.wall) },
        counters: Counters { good: 3, bad: 0, changes: 5, last_result: Some(now.wall), shared: false },
        observation: Some(Arc::new(Observation::plain(Outcome::Good, Duration::from_micros(1234), output, now))),
    }
}

/// What does not depend on the clock of whoever has it.
pub(super) fn essence(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    entry.observation = entry.observation.map(|o| {
        let mut o = Observation::clone(&o);
        o.at.mono = Mono::default();
        Arc::new(o)
    });
    entry
}
