//! The one etcd of a run: the embedded store's rules on the master's time, and between it and each node a link that the
//! script breaks in every way. How a node's client waits and repeats is in `client`.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    chance::Chance,
    model::Mono,
    store::{
        Compare, LeaseId, Listing, Op, Pair, StoreError, Txn, TxnOutcome, WatchMessage,
        embedded::state::{Planned, State},
    },
};

/// The region's leader key.
pub const LEADER: &str = "regions/eu/leader";
/// Messages that may wait for a slow reader.
const WATCH_QUEUE: usize = 64;
/// A watch says that it lives this often.
const ALIVE_EVERY: u64 = 1000;
/// After this silence the client finds a watch dead.
const DEAD_AFTER: u64 = 3000;
/// The server looks for leases that are over this often, as etcd does.
const EXPIRY_EVERY: u64 = 500;

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Request {
    List(String, Option<i64>),
    Get(String),
    Txn(Txn),
    Watch(Vec<String>, i64),
    Grant(Duration),
    Renew(LeaseId),
    Revoke(LeaseId),
}

/// What it gets.
#[derive(Debug)]
pub enum Reply {
    List(Listing),
    Get(i64, Option<Pair>),
    Txn(TxnOutcome),
    Watch(mpsc::Receiver<WatchMessage>),
    Lease(LeaseId, Duration),
    Renewed(Duration),
    Revoked,
}

type Answer = Result<Reply, StoreError>;

/// What becomes of one request.
pub enum Fate {
    /// The answer, and how long it takes.
    Answer(Answer, Duration),
    /// The answer comes with the master's time, if the client still waits.
    Later(oneshot::Receiver<Answer>),
    /// No answer comes.
    Silence,
    /// The connection is refused: it did not happen.
    Refused,
}

/// How a node reaches the store.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// An answer takes up to this.
    pub slow: Duration,
    /// Percent of requests that are lost.
    pub lose_requests: u64,
    /// Percent of answers that are lost.
    pub lose_replies: u64,
    /// Percent of requests that come late, by up to this.
    pub late: (u64, Duration),
    /// Watches live and say nothing until then.
    pub stalled_until: u64,
    /// Watches lag by up to this many milliseconds.
    pub lag: u64,
}

/// A change that the server took.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Who made it; `None`: an operator.
    pub by: Option<usize>,
    pub revision: i64,
    pub keys: Vec<(String, Option<bytes::Bytes>)>,
    /// The leader key just before: node and create revision.
    pub leader: Option<(String, i64)>,
    /// The term that the transaction's fence names.
    pub fence: Option<i64>,
}

#[derive(Debug)]
struct Watch {
    node: usize,
    /// Prefix, the next revision, and when it is told again.
    marks: Vec<(String, i64, u64)>,
    out: mpsc::Sender<WatchMessage>,
    heard: u64,
    alive: u64,
}

/// A request under way: of which node, and who waits for its answer.
type Late = (usize, Request, Option<oneshot::Sender<Answer>>);

/// The server.
pub struct Server {
    state: State,
    chance: Chance,
    now: u64,
    /// Its own clock stands still while it is down.
    lived: u64,
    next_expiry: u64,
    pub down: bool,
    pub generation: u32,
    pub links: Vec<Link>,
    watches: Vec<Watch>,
    late: BTreeMap<(u64, u64), Late>,
    counted: u64,
    accepted: Vec<Accepted>,
    snapshot: Option<State>,
    /// Leases that are ended before their time, for the checker: when.
    pub revoked_early: Vec<u64>,
}

impl Server {
    pub fn new(nodes: usize, seed: u64) -> Self {
        Self {
            state: State::new(1, []),
            chance: Chance::seeded(seed),
            now: 0,
            lived: 0,
            next_expiry: 0,
            down: false,
            generation: 0,
            links: vec![Link::default(); nodes],
            watches: Vec::new(),
            late: BTreeMap::new(),
            counted: 0,
            accepted: Vec::new(),
            snapshot: None,
            revoked_early: Vec::new(),
        }
    }

    const fn mono(&self) -> Mono {
        Mono::from_origin(Duration::from_millis(self.lived))
    }

    /// Time passes: leases end, late requests come in, watches are told.
    pub fn tick(&mut self, now: u64) {
        let passed = now - self.now;
        self.now = now;
        if !self.down {
            self.lived += passed;
            if self.lived >= self.next_expiry {
                self.next_expiry = self.lived + EXPIRY_EVERY;
                let due = self.state.due(self.mono());
                self.end(due);
            }
            while let Some(entry) = self.late.first_entry().filter(|e| e.key().0 <= now) {
                let (node, request, reply) = entry.remove();
                let answer = self.carry_out(Some(node), request);
                if let Some(reply) = reply {
                    let _ = reply.send(answer);
                }
            }
        }
        self.pump();
    }

    fn end(&mut self, leases: Vec<LeaseId>) {
        if leases.is_empty() {
            return;
        }
        let plan = self.state.plan_end(leases);
        self.state.apply(plan);
    }

    fn percent(&self, percent: u64) -> bool {
        percent > 0 && self.chance.below(100) < percent
    }

    /// A node asks.
    pub fn ask(&mut self, node: usize, request: Request) -> Fate {
        let link = self.links[node].clone();
        if link.cut || (self.down && self.chance.below(2) == 0) || self.percent(link.lose_requests) {
            return Fate::Silence;
        }
        if self.down {
            return Fate::Refused;
        }
        if self.percent(link.late.0) {
            let due = self.now + 1 + self.chance.below(link.late.1.as_millis() as u64);
            let (reply, answer) = oneshot::channel();
            self.counted += 1;
            self.late.insert((due, self.counted), (node, request, Some(reply)));
            return Fate::Later(answer);
        }
        let answer = self.carry_out(Some(node), request);
        if self.percent(link.lose_replies) {
            return Fate::Silence;
        }
        let usual = Duration::from_millis(1 + self.chance.below(3));
        Fate::Answer(answer, usual + self.chance.up_to(link.slow))
    }

    fn carry_out(&mut self, node: Option<usize>, request: Request) -> Answer {
        match request {
            Request::List(prefix, revision) => self.state.list(&prefix, revision).map(Reply::List),
            Request::Get(key) => Ok(Reply::Get(self.state.revision(), self.state.get(&key))),
            Request::Txn(txn) => {
                txn.check()?;
                self.write(node, &txn).map(Reply::Txn)
            }
            Request::Watch(prefixes, from) => {
                let (out, messages) = mpsc::channel(WATCH_QUEUE);
                let marks = prefixes.into_iter().map(|p| (p, from, 0)).collect();
                let node = node.unwrap_or_default();
                self.watches.push(Watch { node, marks, out, heard: self.now, alive: self.now });
                Ok(Reply::Watch(messages))
            }
            Request::Grant(ttl) => Ok(Reply::Lease(self.state.grant(ttl, self.mono()), ttl)),
            Request::Renew(lease) => self.state.renew(lease, self.mono()).map(Reply::Renewed),
            Request::Revoke(lease) => {
                if self.state.has_lease(lease) {
                    self.end(vec![lease]);
                }
                Ok(Reply::Revoked)
            }
        }
    }

    /// Who holds the leader key, and its create revision.
    pub fn leader(&self) -> Option<(String, i64)> {
        let pair = self.state.get(LEADER)?;
        let value: serde_json::Value = serde_json::from_slice(&pair.value).unwrap_or_default();
        Some((value["node"].as_str().unwrap_or_default().to_owned(), pair.create_revision))
    }

    fn write(&mut self, by: Option<usize>, txn: &Txn) -> Result<TxnOutcome, StoreError> {
        let leader = self.leader();
        match self.state.plan(txn)? {
            Planned::Settled(outcome) => Ok(outcome),
            Planned::Write(plan) => {
                let revision = plan.revision;
                let keys = txn.ops.iter().map(|op| match op {
                    Op::Put { key, value, .. } => (key.clone(), Some(value.clone())),
                    Op::Delete(key) => (key.clone(), None),
                });
                let fence = txn.compares.iter().find_map(|c| match c {
                    Compare::CreateRevision(key, term) if key == LEADER => Some(*term),
                    _ => None,
                });
                self.accepted.push(Accepted { by, revision, keys: keys.collect(), leader, fence });
                self.state.apply(plan);
                Ok(TxnOutcome::Done { revision })
            }
        }
    }

    /// What was taken since the last call.
    pub fn take_accepted(&mut self) -> Vec<Accepted> {
        std::mem::take(&mut self.accepted)
    }

    fn pump(&mut self) {
        let mut watches = std::mem::take(&mut self.watches);
        watches.retain_mut(|watch| !watch.out.is_closed() && self.tell(watch));
        self.watches = watches;
    }

    /// Tells one watch what is new; false: it is over.
    fn tell(&self, watch: &mut Watch) -> bool {
        let link = &self.links[watch.node];
        if link.cut || self.down {
            return self.now - watch.heard < DEAD_AFTER;
        }
        watch.heard = self.now;
        if self.now - watch.alive >= ALIVE_EVERY {
            watch.alive = self.now;
            let _ = watch.out.try_send(WatchMessage::Alive);
        }
        if link.stalled_until > self.now {
            return true;
        }
        for (prefix, next, due) in &mut watch.marks {
            if *due > self.now || *next > self.state.revision() {
                continue;
            }
            let Ok(room) = watch.out.try_reserve() else { return true };
            match self.state.events(std::slice::from_ref(prefix), *next, 64) {
                Ok(batch) => {
                    *next = batch.next;
                    if !batch.events.is_empty() {
                        room.send(WatchMessage::Events(batch.events));
                        *due = self.now + self.chance.below(link.lag.max(1));
                    }
                }
                Err(StoreError::Compacted { compact_revision }) => {
                    room.send(WatchMessage::Compacted { compact_revision });
                    return false;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// An operator writes, as with etcdctl: no link of a node is in the way.
    pub fn edit(&mut self, ops: Vec<Op>) {
        let _ = self.write(None, &Txn { compares: Vec::new(), ops });
    }

    /// All watches of a node end.
    pub fn cut_watches(&mut self, node: usize) {
        self.watches.retain(|watch| watch.node != node);
    }

    /// The history goes, up to and with the present.
    pub fn compact(&mut self) {
        let revision = self.state.revision();
        self.state.compact(revision);
    }

    /// A lease ends before its time (seen of etcd after a pause of its leader): that of a node, or of the leader.
    pub fn lose_lease(&mut self, key: &str) {
        if let Some(lease) = self.state.get(key).and_then(|pair| pair.lease) {
            self.revoked_early.push(self.now);
            self.end(vec![lease]);
        }
    }

    /// It comes back after it was down: leases have their full time again, connections are new.
    pub fn up(&mut self) {
        if self.down {
            self.down = false;
            let now = self.mono();
            self.state.refresh_leases(now);
            self.watches.clear();
        }
    }

    /// What a restore will bring back.
    pub fn take_snapshot(&mut self) {
        self.snapshot = Some(self.state.clone());
    }

    /// The state of the snapshot, with its leases and its lower revision; false where there is none.
    pub fn restore(&mut self) -> bool {
        let Some(mut state) = self.snapshot.clone() else { return false };
        if state.revision() >= self.state.revision() {
            return false;
        }
        state.restored(&self.state, self.mono());
        self.state = state;
        self.generation += 1;
        self.watches.clear();
        self.late.clear();
        true
    }

    /// Changes with whatever may have changed the keys.
    pub const fn version(&self) -> (u32, i64) {
        (self.generation, self.state.revision())
    }

    /// All pairs, by key.
    pub fn pairs(&self) -> BTreeMap<String, Pair> {
        self.state.all().1.into_iter().map(|p| (p.key.clone(), p)).collect()
    }
}

/// For the trace.
pub fn shown(event: &Accepted, names: &[String]) -> String {
    let by = event.by.map_or("operator", |n| names.get(n).map_or("?", String::as_str));
    let mut text = format!("store {} {by}:", event.revision);
    for (key, value) in event.keys.iter().take(6) {
        let value = value.as_ref().map_or_else(|| "deleted".into(), |v| String::from_utf8_lossy(v).into_owned());
        text.push_str(&format!(" {key}={value:.90}"));
    }
    if event.keys.len() > 6 {
        text.push_str(&format!(" and {} more", event.keys.len() - 6));
    }
    text
}
