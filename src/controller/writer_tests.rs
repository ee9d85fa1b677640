//! Tests of the writer against a store that fails when told to.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::*;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::{
    config::last_good::{LastGood, LastHeld},
    controller::status::StatusValue,
    model::{CategoryName, HealthState, Latch, NodeName, Timestamp},
    store::{
        Embedded, LeaseId, Listing, Pair, WatchMessage,
        session::{Session, SessionError, SessionOptions},
    },
};

/// What the store does with the next writer's transactions; then it works.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Unavailable,
    Refused,
    Denied,
    /// No answer comes.
    Silent,
}

/// An embedded store that fails by script, and remembers what the writer asked for.
#[derive(Debug)]
struct Faulty {
    inner: Embedded,
    script: Mutex<VecDeque<Trouble>>,
    seen: Mutex<Vec<Txn>>,
    /// Something that happens while a transaction is under way.
    meanwhile: Mutex<Option<(Queue, Reign, Write)>>,
}

#[async_trait]
impl Store for Faulty {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        self.inner.list(prefix, revision).await
    }
    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
        self.inner.get(key).await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let of_session = txn.ops.iter().all(|op| op.key().ends_with("/leader") || op.key().contains("/nodes/"));
        if of_session {
            return self.inner.txn(txn).await;
        }
        self.seen.lock().unwrap().push(txn.clone());
        if let Some((queue, reign, write)) = self.meanwhile.lock().unwrap().take() {
            queue.push(reign, Vec::new(), vec![write]);
        }
        let trouble = self.script.lock().unwrap().pop_front();
        match trouble {
            None => self.inner.txn(txn).await,
            Some(Trouble::Unavailable) => Err(StoreError::Unavailable { reason: "cut".to_owned(), cause: None }),
            Some(Trouble::Refused) => Ok(TxnOutcome::Refused { revision: 1 }),
            Some(Trouble::Denied) => Err(StoreError::Denied("no".to_owned())),
            Some(Trouble::Silent) => std::future::pending().await,
        }
    }
    async fn watch(&self, prefixes: &[String], from: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        self.inner.watch(prefixes, from).await
    }
    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        self.inner.grant(ttl).await
    }
    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.inner.renew(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }
    fn describe(&self) -> String {
        "faulty".to_owned()
    }
}

/// A leader's writer, with its session.
struct Bench {
    store: Arc<Faulty>,
    queue: Queue,
    authority: Session,
    stop: CancellationToken,
    writer: tokio::task::JoinHandle<()>,
    session: tokio::task::JoinHandle<Result<(), SessionError>>,
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 10 s in vain: {what}");
}

impl Bench {
    async fn new(script: &[Trouble]) -> Self {
        let clock = Clock::system();
        let inner = Embedded::open(None, clock.clone()).unwrap();
        let script = Mutex::new(script.iter().copied().collect());
        let store = Arc::new(Faulty { inner, script, seen: Mutex::default(), meanwhile: Mutex::default() });
        let as_store: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        let options = SessionOptions {
            region: RegionName::default_region(),
            node: NodeName::new("n1").unwrap(),
            url: "http://n1".to_owned(),
            ttl: Duration::from_secs(5),
            version: "0".to_owned(),
            started: Timestamp::default(),
            instance: "i1".to_owned(),
        };
        let stop = CancellationToken::new();
        let (authority, session) =
            Session::spawn(Arc::clone(&as_store), clock.clone(), Chance::seeded(1), options, stop.clone());
        authority.set_ready(true);
        let (ticking, stopped) = (authority.clone(), stop.clone());
        tokio::spawn(async move {
            while !stopped.is_cancelled() {
                ticking.ticked();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        until("it leads", || authority.may_write(clock.mono())).await;
        let queue = Queue::default();
        let region = RegionName::default_region();
        let writer = tokio::spawn(run(queue.clone(), as_store, authority.clone(), region, stop.clone()));
        Self { store, queue, authority, stop, writer, session }
    }

    fn reign(&self) -> Reign {
        Reign::of(&self.authority.authority().peek())
    }

    fn push(&self, writes: Vec<Write>) {
        self.push_with(Vec::new(), writes);
    }

    fn push_with(&self, transitions: Vec<Transition>, writes: Vec<Write>) {
        self.queue.push(self.reign(), transitions, writes);
    }

    async fn value(&self, key: &str) -> Option<String> {
        let pair = self.store.inner.get(key).await.unwrap().1;
        pair.map(|p| String::from_utf8_lossy(&p.value).into_owned())
    }

    async fn count(&self, prefix: &str) -> usize {
        self.store.inner.list(prefix, None).await.unwrap().pairs.len()
    }

    /// Waits until nothing waits and the store holds `n` keys below the prefix.
    async fn holds(&self, prefix: &str, n: usize) {
        for _ in 0..1000 {
            if self.queue.depth() == 0 && self.count(prefix).await == n {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} keys below {prefix}, not {n}; {} wait", self.count(prefix).await, self.queue.depth());
    }

    fn sizes(&self) -> Vec<usize> {
        self.store.seen.lock().unwrap().iter().map(|t| t.ops.len()).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        self.writer.await.unwrap();
        self.session.await.unwrap().unwrap();
    }
}

const STATUS: &str = "regions/default/status/targets/";

fn status(name: &str, n: u64, reason: &str) -> Write {
    let value = StatusValue {
        v: 1,
        health: HealthState::Down,
        since: Timestamp::default(),
        reason: reason.to_owned(),
        term: 1,
        n,
    };
    Write::Status(TargetName::new(name).unwrap(), value)
}

fn latch(name: &str) -> Write {
    let latch = Latch { v: 1, by: "n1".into(), at: Timestamp::default(), reason: "x".into(), revision: 0 };
    Write::Latch { category: CategoryName::new(name).unwrap(), latch, disable_plain: true }
}

fn unlatch(name: &str, revision: i64) -> Write {
    Write::Unlatch { category: CategoryName::new(name).unwrap(), revision }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_fence_ends_the_lead_and_empties_the_queue() {
    let bench = Bench::new(&[Trouble::Refused]).await;
    // The session takes the lead again (the key is still its own): the term tells.
    let mut changes = bench.authority.authority().changes();
    bench.push((0..150).map(|i| status(&format!("t-{i}"), 1, "r")).collect());
    changes.wait().await;
    until("empty", || bench.queue.depth() == 0).await;
    assert_eq!(bench.count(STATUS).await, 0, "nothing of the old queue was written");
    assert_eq!(bench.sizes(), [100], "not even asked for");
    bench.end().await;
}

#[test]
fn what_is_of_a_later_term_is_not_touched_by_an_earlier_one() {
    let (one, two) = (Reign { generation: 1, term: 50 }, Reign { generation: 2, term: 9 });
    let queue = Queue::default();
    queue.push(one, vec![transition(1)], vec![status("a", 1, "r"), status("b", 1, "r")]);
    let (batch, told) = (queue.take(one, 1), queue.take_transitions(one, 9));
    assert_eq!((batch.len(), told.len()), (1, 1));
    // The store was restored meanwhile, and this node leads its new history.
    queue.push(two, vec![transition(2)], vec![status("a", 2, "r")]);
    assert!(queue.take(one, 9).is_empty() && queue.take_transitions(one, 9).is_empty());
    queue.give_back(one, batch.clone());
    queue.give_back_last(one, batch);
    queue.give_back_transitions(one, told);
    queue.push(one, vec![transition(3)], vec![status("c", 1, "r")]);
    queue.clear(one);
    assert_eq!(queue.take_transitions(two, 9), [transition(2)]);
    assert_eq!(queue.take(two, 9), [status("a", 2, "r")]);
    queue.push(two, Vec::new(), vec![status("a", 3, "r")]);
    queue.clear(two);
    assert!(queue.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_written_is_given_back_and_a_newer_write_wins() {
    let bench = Bench::new(&[Trouble::Unavailable]).await;
    *bench.store.meanwhile.lock().unwrap() = Some((bench.queue.clone(), bench.reign(), status("a", 2, "newer")));
    bench.push(vec![status("a", 1, "older"), status("b", 1, "kept")]);
    bench.holds(STATUS, 2).await;
    assert!(bench.value(&format!("{STATUS}a")).await.unwrap().contains("newer"));
    assert!(bench.value(&format!("{STATUS}b")).await.unwrap().contains("kept"));
    assert_eq!(bench.sizes(), [2, 3], "with an event: a copy of the first may still be under way");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_fit_the_store_and_latches_come_first() {
    let bench = Bench::new(&[]).await;
    let mut writes: Vec<Write> = (0..230).map(|i| status(&format!("t-{i}"), 1, "r")).collect();
    writes.extend((0..70).map(|i| latch(&format!("c-{i}"))));
    bench.push(writes);
    bench.holds(STATUS, 230).await;
    assert_eq!(bench.count("regions/default/latches/").await, 70);
    assert_eq!(bench.count("healthcheck-categories/").await, 70, "with FT's plain flag");
    let seen = bench.store.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|t| t.ops.len() <= MAX_TXN_OPS && t.check().is_ok()), "{:?}", bench.sizes());
    assert_eq!(bench.sizes().iter().sum::<usize>(), 370);
    assert!(seen[0].ops.iter().all(|op| !op.key().starts_with(STATUS)), "latches first");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latch_and_its_transition_are_one_transaction() {
    let bench = Bench::new(&[]).await;
    bench.push(vec![latch("read"), status("a", 1, "r")]);
    bench.holds(STATUS, 1).await;
    assert_eq!(bench.sizes(), [3]);
    assert_eq!(bench.value("healthcheck-categories/read/enabled").await.as_deref(), Some("false"));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_too_large_does_not_take_the_others_with_it() {
    let bench = Bench::new(&[]).await;
    let huge = LastHeld { values: BTreeMap::from([("k".to_owned(), "x".repeat(2_000_000))]), ..LastHeld::default() };
    let huge = Write::LastGood(LastGood { v: 1, held: Some(huge), ..LastGood::default() });
    bench.push(vec![status("a", 1, "r"), huge, status("b", 1, "r"), unlatch("read", 5)]);
    bench.holds(STATUS, 2).await;
    assert_eq!(bench.value("regions/default/status/catalog").await, None);
    // Many that are too large only together.
    bench.push((0..20).map(|i| status(&format!("big-{i}"), 1, &"y".repeat(100_000))).collect());
    bench.holds(STATUS, 22).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_write_is_told_keeps_no_other_waiting_and_is_tried_again() {
    // The batch is denied, then of its two writes the first.
    let bench = Bench::new(&[Trouble::Denied, Trouble::Denied]).await;
    bench.push(vec![status("a", 1, "r"), status("b", 1, "r")]);
    let told = bench.queue.troubles().subscribe().wait_for(|t| !t.is_empty()).await.unwrap().clone();
    assert!(told.contains_key("regions/default/status/"), "{told:?}");
    assert_eq!((bench.count(STATUS).await, bench.queue.depth()), (1, 1));
    bench.holds(STATUS, 2).await;
    bench.queue.troubles().subscribe().wait_for(std::collections::BTreeMap::is_empty).await.unwrap();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latch_goes_only_if_it_is_still_the_one_that_was_cleared() {
    let bench = Bench::new(&[]).await;
    bench.push(vec![latch("read")]);
    bench.holds("regions/default/latches/", 1).await;
    let revision = bench.store.inner.get("regions/default/latches/read").await.unwrap().1.unwrap().mod_revision;
    bench.push(vec![unlatch("read", revision - 1), status("a", 1, "r")]);
    bench.holds(STATUS, 1).await;
    assert_eq!(bench.count("regions/default/latches/").await, 1, "made anew: it stays");
    assert!(bench.authority.may_write(Clock::system().mono()), "that guard is no lost fence");
    bench.push(vec![unlatch("read", revision)]);
    bench.holds("regions/default/latches/", 0).await;
    // Latch, then unlatch while it waits: the last one counts.
    let (queue, slot) = (Queue::default(), CategoryName::new("read").unwrap());
    let reign = Reign::default();
    queue.push(reign, Vec::new(), vec![latch("read")]);
    queue.push(reign, Vec::new(), vec![unlatch("read", 9)]);
    assert_eq!(queue.take(reign, FLUSH_OPS), [Write::Unlatch { category: slot, revision: 9 }]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_writes_are_gathered_and_flushed_at_the_end() {
    let bench = Bench::new(&[]).await;
    bench.push(vec![status("first", 1, "r")]);
    bench.holds(STATUS, 1).await;
    let asked = std::time::Duration::from_millis(40);
    for i in 0..10 {
        bench.push(vec![status(&format!("t-{i}"), 1, "r")]);
        tokio::time::sleep(asked / 10).await;
    }
    bench.holds(STATUS, 11).await;
    assert!(bench.sizes().len() <= 3, "one flush each 250 ms: {:?}", bench.sizes());
    // What waits at the stop is written.
    bench.push(vec![status("last", 1, "r")]);
    bench.push(vec![status("very-last", 1, "r")]);
    let (store, stop) = (Arc::clone(&bench.store), bench.stop.clone());
    // The session gives its lease back at the same token here: keep to the writer.
    bench.session.abort();
    stop.cancel();
    bench.writer.await.unwrap();
    assert_eq!(store.inner.list(STATUS, None).await.unwrap().pairs.len(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_flush_is_bounded() {
    for trouble in [Trouble::Unavailable, Trouble::Silent] {
        let bench = Bench::new(&[trouble; 50]).await;
        bench.push(vec![status("a", 1, "r")]);
        until("tried", || !bench.sizes().is_empty()).await;
        bench.stop.cancel();
        tokio::time::timeout(LAST_FLUSH + Duration::from_secs(2), bench.writer).await.expect("bounded").unwrap();
        bench.session.await.unwrap().unwrap();
    }
}

fn transition(n: u64) -> Transition {
    Transition {
        number: n,
        at: Timestamp::default(),
        target: TargetName::new(&format!("t-{n}")).unwrap(),
        from: HealthState::Up,
        to: HealthState::Down,
        reason: "r".into(),
        term: 1,
        n,
        node: NodeName::new("n1").unwrap(),
    }
}

const EVENTS: &str = "events/default/";

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_out_with_its_states_once_also_after_a_failure_and_256_stand() {
    let bench = Bench::new(&[Trouble::Unavailable]).await;
    // The last event of the leader before.
    let before = format!("{EVENTS}{:020}", 299);
    for number in 0..300_u64 {
        let op = Op::Put { key: format!("{EVENTS}{number:020}"), value: Bytes::from_static(b"{}"), lease: None };
        bench.store.inner.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
    }
    let states = (0..150).map(|n| status(&format!("t-{n}"), n, "r")).collect();
    bench.push_with((0..150).map(transition).collect(), states);
    until("written", || bench.queue.is_empty()).await;
    bench.holds(STATUS, 150).await;
    assert_eq!(bench.sizes(), [100, 100, 54], "98 states, an event and a delete; again; the rest");
    let read = |value: Option<String>| serde_json::from_str::<events::EventValue>(&value.unwrap()).unwrap();
    let first = read(bench.value(&format!("{EVENTS}{:020}", 300)).await);
    let second = read(bench.value(&format!("{EVENTS}{:020}", 301)).await);
    assert!(bench.value(&format!("{EVENTS}{:020}", 302)).await.is_none() && bench.value(&before).await.is_some());
    let numbers: Vec<u64> = first.transitions.iter().chain(&second.transitions).map(|t| t.number).collect();
    assert_eq!(numbers, (0..150).collect::<Vec<_>>());
    assert!(bench.value(&format!("{EVENTS}{:020}", 300 - 256)).await.is_none(), "the one 256 before is gone");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_of_an_earlier_write_is_refused_and_costs_no_lead() {
    let bench = Bench::new(&[]).await;
    bench.push_with(vec![transition(1)], vec![status("a", 1, "older")]);
    bench.holds(STATUS, 1).await;
    let first = bench.store.seen.lock().unwrap()[0].clone();
    bench.push_with(vec![transition(2)], vec![status("a", 2, "newer")]);
    until("written", || bench.sizes().len() == 2 && bench.queue.is_empty()).await;
    // The network held a copy of the first one up.
    assert!(matches!(bench.store.inner.txn(first).await, Ok(TxnOutcome::Refused { .. })));
    assert!(bench.value(&format!("{STATUS}a")).await.unwrap().contains("newer"));
    // One that was answered too late for its writer: it did happen, and is not told twice.
    let event = events::EventValue { v: 1, term: bench.reign().term, transitions: vec![transition(3)] };
    let value = Bytes::from(serde_json::to_vec(&event).unwrap());
    let op = Op::Put { key: format!("{EVENTS}{:020}", 3), value, lease: None };
    bench.store.inner.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
    let reign = bench.reign();
    bench.push_with(vec![transition(3), transition(4)], vec![status("a", 4, "newest")]);
    until("written", || bench.queue.is_empty()).await;
    until("settled", || bench.sizes().len() == 4).await;
    bench.holds(STATUS, 1).await;
    assert!(bench.value(&format!("{STATUS}a")).await.unwrap().contains("newest"));
    let told: events::EventValue =
        serde_json::from_str(&bench.value(&format!("{EVENTS}{:020}", 4)).await.unwrap()).unwrap();
    assert_eq!(told.transitions, [transition(4)]);
    assert_eq!(bench.reign(), reign, "that is no lost fence");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_of_a_write_without_a_transition_is_refused_too() {
    let bench = Bench::new(&[]).await;
    bench.push(vec![status("a", 1, "taken over"), status("b", 1, "r")]);
    bench.holds(STATUS, 2).await;
    let first = bench.store.seen.lock().unwrap()[0].clone();
    bench.push(vec![Write::DropStatus(TargetName::new("a").unwrap())]);
    bench.holds(STATUS, 1).await;
    assert!(matches!(bench.store.inner.txn(first).await, Ok(TxnOutcome::Refused { .. })));
    assert_eq!(bench.count(STATUS).await, 1, "what was removed stays so");
    // Only where a key is written again.
    bench.push(vec![status("c", 1, "r")]);
    bench.holds(STATUS, 2).await;
    assert_eq!(bench.count(EVENTS).await, 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_the_store_denies_keep_no_state_waiting() {
    // The batch, then the event alone.
    let bench = Bench::new(&[Trouble::Denied, Trouble::Denied]).await;
    bench.push_with(vec![transition(1), transition(2)], Vec::new());
    bench.push(vec![status("t-1", 1, "r"), status("t-2", 1, "r")]);
    bench.holds(STATUS, 2).await;
    assert_eq!(bench.count(EVENTS).await, 0);
    bench.push_with(vec![transition(3)], Vec::new());
    bench.push(vec![status("t-3", 1, "r")]);
    bench.holds(STATUS, 3).await;
    assert_eq!(bench.count(EVENTS).await, 0, "not in this term");
    bench.end().await;
}
