//! The network between nodes, in memory, with links that the script breaks.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::targets::Field;
use crate::{
    chance::Chance,
    clock::Clock,
    latest::Latest,
    model::{Observation, Outcome, TargetName, View, cluster::PeerNode},
    replication::{Hub, PeerError, Peers, Refreshed, Seen, hub::Subscription},
};

/// How long a call to a peer that does not answer takes.
const CALL: Duration = Duration::from_millis(800);
/// How often an open stream is looked at: is the link whole, does the other process live.
const LOOK: Duration = Duration::from_millis(250);
/// Lines that may wait for a slow reader.
const STREAM_QUEUE: usize = 4;
/// A reader that takes so many lines after a spoiled one has not noticed.
const UNNOTICED: u32 = 8;

#[derive(Default)]
struct Links {
    /// Pairs between which nothing passes, the lower index first.
    cut: BTreeSet<(usize, usize)>,
    nodes: Vec<Option<Door>>,
    /// Grows with each process.
    lives: Vec<u64>,
    /// Percent of deltas that a node's streams lose.
    lossy: Vec<u64>,
    /// Nodes that do not read their streams.
    deaf: Vec<bool>,
    /// The last full frame in one line of each node, with its term's place in the line: what a stale proxy would give.
    old: Vec<Option<(i64, Bytes)>>,
    /// Percent of full frames that such a line follows.
    stale: u64,
    /// What readers did not notice.
    unnoticed: Vec<String>,
}

/// What a node shows to its peers while its process runs.
#[derive(Clone)]
pub struct Door {
    pub view: Latest<View>,
    /// Where its followers read.
    pub hub: Hub,
    /// Its process is stopped: it takes connections and says nothing.
    pub paused: bool,
}

impl Links {
    fn grow(&mut self, nodes: usize) {
        let nodes = nodes.max(self.nodes.len());
        self.nodes.resize(nodes, None);
        self.lives.resize(nodes, 0);
        self.lossy.resize(nodes, 0);
        self.deaf.resize(nodes, false);
        self.old.resize(nodes, None);
    }
}

/// All links; clones share them.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<Links>>);

impl Network {
    fn links(&self) -> MutexGuard<'_, Links> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process began, or ended.
    pub fn set(&self, node: usize, door: Option<Door>) {
        let mut links = self.links();
        links.grow(node + 1);
        links.lives[node] += 1;
        links.nodes[node] = door;
    }

    /// Percent of deltas that a node's streams lose.
    pub fn lose(&self, node: usize, percent: u64) {
        let mut links = self.links();
        links.grow(node + 1);
        links.lossy[node] = percent;
    }

    /// Whether a node reads its streams.
    pub fn deafen(&self, node: usize, deaf: bool) {
        let mut links = self.links();
        links.grow(node + 1);
        links.deaf[node] = deaf;
    }

    /// Percent of full frames that are followed by an old line.
    pub fn stale(&self, percent: u64) {
        self.links().stale = percent;
    }

    /// What readers should have noticed and did not.
    pub fn take_unnoticed(&self) -> Vec<String> {
        std::mem::take(&mut self.links().unnoticed)
    }

    /// A process is stopped, or goes on.
    pub fn pause(&self, node: usize, paused: bool) {
        if let Some(Some(door)) = self.links().nodes.get_mut(node) {
            door.paused = paused;
        }
    }

    /// Cuts or mends a link.
    pub fn cut(&self, a: usize, b: usize, cut: bool) {
        let pair = (a.min(b), a.max(b));
        let mut links = self.links();
        if cut {
            links.cut.insert(pair)
        } else {
            links.cut.remove(&pair)
        };
    }

    /// Mends all.
    pub fn heal(&self) {
        let mut links = self.links();
        links.cut.clear();
        links.lossy.fill(0);
        links.deaf.fill(false);
        links.stale = 0;
    }

    /// Whether anything passes between two nodes.
    pub fn joined(&self, a: usize, b: usize) -> bool {
        !self.links().cut.contains(&(a.min(b), a.max(b)))
    }

    fn door(&self, node: usize) -> Option<Door> {
        self.links().nodes.get(node).cloned().flatten()
    }

    fn life(&self, node: usize) -> u64 {
        self.links().lives.get(node).copied().unwrap_or(0)
    }

    fn is_deaf(&self, node: usize) -> bool {
        self.links().deaf.get(node).copied().unwrap_or(false)
    }

    fn lossy(&self, node: usize) -> u64 {
        self.links().lossy.get(node).copied().unwrap_or(0)
    }

    /// Keeps a node's line of a term; gives the one that was kept of an earlier term.
    fn old_line(&self, node: usize, line: &Line, bytes: &Bytes) -> Option<Bytes> {
        let mut links = self.links();
        links.grow(node + 1);
        let old = links.old[node].clone();
        match old {
            Some((term, _)) if term > line.term => None,
            Some((term, old)) if term < line.term => Some(old),
            Some(_) => None,
            None => {
                links.old[node] = Some((line.term, bytes.clone()));
                None
            }
        }
    }
}

/// What of a line tells what it is.
#[derive(serde::Deserialize)]
struct Line {
    kind: String,
    term: i64,
    #[serde(default)]
    part: u32,
    last: Option<bool>,
}

/// One node's way to the others.
pub struct SimPeers {
    pub node: usize,
    pub network: Network,
    pub field: Arc<Field>,
    pub clock: Clock,
    pub chance: Chance,
}

impl SimPeers {
    fn unreachable(url: &str, reason: &str) -> PeerError {
        PeerError::Unreachable { url: url.to_owned(), reason: reason.to_owned() }
    }

    fn refused(url: &str, reason: &str) -> PeerError {
        PeerError::Refused { url: url.to_owned(), reason: reason.to_owned() }
    }

    /// Finds whom a URL means, or fails as the network does.
    async fn reach(&self, url: &str) -> Result<(usize, Door), PeerError> {
        let index = url.strip_prefix("http://n").and_then(|n| n.parse::<usize>().ok());
        let index = index.and_then(|n| n.checked_sub(1)).ok_or_else(|| Self::unreachable(url, "no such host"))?;
        if !self.network.joined(self.node, index) {
            tokio::time::sleep(CALL).await;
            return Err(Self::unreachable(url, "no answer"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let door = self.network.door(index).ok_or_else(|| Self::unreachable(url, "connection refused"))?;
        if door.paused {
            tokio::time::sleep(CALL).await;
            return Err(Self::unreachable(url, "no answer"));
        }
        Ok((index, door))
    }
}

/// One open stream, from a node's hub to its reader.
struct Pipe {
    from: usize,
    to: usize,
    life: u64,
    network: Network,
    chance: Chance,
    out: mpsc::Sender<Bytes>,
    /// What was done to it, and how many lines were taken since.
    spoiled: Option<(&'static str, u32)>,
}

impl Pipe {
    async fn run(mut self, mut lines: Subscription) {
        loop {
            let line = tokio::select! {
                biased;
                () = self.out.closed() => return,
                line = lines.next() => line,
                () = tokio::time::sleep(LOOK) => {
                    if self.network.life(self.from) != self.life {
                        return;
                    }
                    continue;
                }
            };
            let Some(line) = line else { return };
            if self.pass(line).await.is_none() {
                return;
            }
        }
    }

    /// Hands a line on, or does to it what the script says; none: the stream is over.
    async fn pass(&mut self, line: Bytes) -> Option<()> {
        // What is sent over a broken link comes once it is whole, if the reader still waits.
        while !self.network.joined(self.from, self.to) || self.network.is_deaf(self.to) {
            tokio::time::sleep(LOOK).await;
            if self.out.is_closed() || self.network.life(self.from) != self.life {
                return None;
            }
        }
        let lossy = self.network.lossy(self.to);
        let opening = line.get(..line.len().min(60)).unwrap_or_default();
        let full = opening.windows(6).any(|w| w == b"\"full\"");
        if (full || lossy > 0 || self.spoiled.is_some())
            && let Ok(read) = serde_json::from_slice::<Line>(&line)
        {
            let whole = read.part == 0 && read.last.unwrap_or(true);
            if let Some((what, taken)) = &mut self.spoiled {
                *taken += 1;
                if *taken == UNNOTICED {
                    let text = format!("n{} reads on from n{} although the stream {what}", self.to + 1, self.from + 1);
                    self.network.links().unnoticed.push(text);
                }
            }
            if read.kind == "delta" && whole && lossy > 0 && self.chance.below(100) < lossy && self.spoiled.is_none() {
                self.spoiled = Some(("lacks a delta", 0));
                return Some(());
            }
            if read.kind == "full" && whole {
                let old = self.network.old_line(self.from, &read, &line);
                let stale = self.network.links().stale;
                if let Some(old) = old.filter(|_| stale > 0 && self.chance.below(100) < stale && self.spoiled.is_none())
                {
                    // After the newer one: before it, a reader that has not heard of the newer term yet (cut off from the
                    // store) could not know that the older one is over, and takes no harm from it. Then the newer one again:
                    // who took the older one in goes on with it as if nothing had been.
                    self.out.send(line.clone()).await.ok()?;
                    self.spoiled = Some(("has a frame of an earlier term", 0));
                    self.out.send(old).await.ok()?;
                }
            }
        }
        self.out.send(line).await.ok()
    }
}

#[async_trait]
impl Peers for SimPeers {
    async fn stream(&self, url: &str, after: Option<(i64, u64)>) -> Result<mpsc::Receiver<Bytes>, PeerError> {
        let (from, door) = self.reach(url).await?;
        let lines = door.hub.subscribe(after).map_err(|e| Self::refused(url, &e.to_string()))?;
        let (out, bytes) = mpsc::channel(STREAM_QUEUE);
        let pipe = Pipe {
            from,
            to: self.node,
            life: self.network.life(from),
            network: self.network.clone(),
            chance: self.chance.clone(),
            out,
            spoiled: None,
        };
        tokio::spawn(pipe.run(lines));
        Ok(bytes)
    }

    async fn node(&self, url: &str) -> Result<PeerNode, PeerError> {
        let (_, door) = self.reach(url).await?;
        let node = door.view.load().node.clone();
        Ok(PeerNode {
            node: node.node,
            region: node.region,
            role: node.role,
            term: node.term,
            leader: node.leader,
            leader_url: node.leader_url,
            leader_term: node.leader_term,
            store: node.store,
            static_leader: node.static_leader,
        })
    }

    async fn refresh(&self, url: &str, _: &[TargetName]) -> Result<Refreshed, PeerError> {
        self.reach(url).await?;
        Err(Self::refused(url, "nobody asks for fresh results in a simulation"))
    }

    /// What the other node sees now; its probes take no time here.
    async fn witness(&self, url: &str, targets: &[TargetName]) -> Result<Vec<Seen>, PeerError> {
        let (node, _) = self.reach(url).await?;
        let seen = |target: &TargetName| {
            let outcome = if self.field.seen_up(node, target.as_str()) { Outcome::Good } else { Outcome::Unreachable };
            let took = Duration::from_millis(5);
            let observation = Arc::new(Observation::plain(outcome, took, "seen by another", self.clock.now()));
            Seen { target: target.clone(), observation }
        };
        Ok(targets.iter().map(seen).collect())
    }
}
