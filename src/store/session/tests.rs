//! Sessions on a virtual clock, over an embedded store behind a wrapper that is slow, silent or forgetful on command.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::model::Now;
use crate::store::{Embedded, Event, LeaseId, Listing, Pair, TxnOutcome, WatchMessage};

const LEADER: &str = "regions/eu/leader";

/// One node's way to the store.
#[derive(Debug)]
struct Link {
    store: Mutex<Embedded>,
    /// Calls other than renewals are not answered while it is set.
    calls_hang: AtomicBool,
    /// Renewals are not answered while it is set.
    renewals_hang: AtomicBool,
    renewals: AtomicU32,
}

impl Link {
    fn new(store: &Embedded) -> Arc<Self> {
        let (calls_hang, renewals_hang) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { store: Mutex::new(store.clone()), calls_hang, renewals_hang, renewals: AtomicU32::new(0) })
    }
    fn inner(&self) -> Embedded {
        self.store.lock().unwrap().clone()
    }
    /// The store was restored: from now on it is this one.
    fn restore(&self, store: &Embedded) {
        *self.store.lock().unwrap() = store.clone();
    }
    fn silent(&self, silent: bool) {
        self.calls_hang.store(silent, SeqCst);
        self.renewals_hang.store(silent, SeqCst);
    }
    async fn call(&self) -> Result<(), StoreError> {
        if self.calls_hang.load(SeqCst) {
            return silence(Duration::from_secs(5)).await;
        }
        Ok(())
    }
}

async fn silence<T>(time: Duration) -> Result<T, StoreError> {
    tokio::time::sleep(time).await;
    Err(StoreError::Unavailable { reason: "silent on command".to_owned(), cause: None })
}

#[async_trait]
impl Store for Link {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        self.call().await?;
        self.inner().list(prefix, revision).await
    }
    async fn get(&self, key: &str) -> Result<(i64, Option<crate::store::Pair>), StoreError> {
        self.call().await?;
        self.inner().get(key).await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.call().await?;
        self.inner().txn(txn).await
    }
    async fn watch(&self, prefixes: &[String], from: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        self.call().await?;
        self.inner().watch(prefixes, from).await
    }
    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        self.call().await?;
        self.inner().grant(ttl).await
    }
    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.renewals.fetch_add(1, SeqCst);
        if self.renewals_hang.load(SeqCst) {
            return silence(Duration::from_millis(400)).await;
        }
        self.inner().renew(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call().await?;
        self.inner().revoke(lease).await
    }
    fn describe(&self) -> String {
        "link".to_owned()
    }
}

fn clock() -> Clock {
    Clock::tokio(Now { wall: Timestamp::from_millis(0), mono: Mono::from_origin(Duration::from_secs(1)) })
}

struct Node {
    clock: Clock,
    link: Arc<Link>,
    session: Session,
    /// Set, the controller stands still.
    stuck: Arc<AtomicBool>,
    _controller: tokio_util::task::AbortOnDropHandle<()>,
    _task: tokio_util::task::AbortOnDropHandle<Result<(), SessionError>>,
}

impl Node {
    fn start(store: &Embedded, name: &str) -> Self {
        Self::with(store, name, clock())
    }

    fn with(store: &Embedded, name: &str, clock: Clock) -> Self {
        let options = SessionOptions {
            region: RegionName::new("eu").unwrap(),
            node: NodeName::new(name).unwrap(),
            url: format!("http://{name}"),
            version: "0".to_owned(),
            started: Timestamp::from_millis(0),
            instance: name.to_owned(),
            ttl: Duration::from_secs(5),
        };
        let link = Link::new(store);
        let (session, task) = Session::spawn(
            Arc::clone(&link) as Arc<dyn Store>,
            clock.clone(),
            Chance::seeded(1),
            options,
            CancellationToken::new(),
        );
        session.set_ready(true);
        let stuck = Arc::new(AtomicBool::new(false));
        let (ticking, still) = (session.clone(), Arc::clone(&stuck));
        let controller = tokio::spawn(async move {
            loop {
                if !still.load(SeqCst) {
                    ticking.ticked();
                }
                pass(Duration::from_secs(1)).await;
            }
        });
        let _controller = tokio_util::task::AbortOnDropHandle::new(controller);
        Self { clock, link, session, stuck, _controller, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    /// Waits until the authority is as wished.
    async fn until(&self, what: &str, wish: impl Fn(&Authority) -> bool) -> Arc<Authority> {
        let mut changes = self.session.authority().changes();
        let wait = async {
            loop {
                let authority = self.session.authority().load();
                if wish(&authority) {
                    return authority;
                }
                changes.wait().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), wait).await;
        in_time.unwrap_or_else(|_| panic!("{what}: {:?}", self.session.authority().load()))
    }

    async fn leads(&self) -> i64 {
        self.until("leads", |a| matches!(a.standing, Standing::Leader { .. })).await.term()
    }

    async fn follows(&self, leader: &str) -> i64 {
        let follows =
            |a: &Authority| matches!(&a.standing, Standing::Follower { leader: Some(l), .. } if l.as_str() == leader);
        self.until("follows", follows).await.term()
    }

    fn reason(&self) -> String {
        self.session.leadership().load().last_reason.to_string()
    }

    fn may_write(&self) -> bool {
        self.session.may_write(self.clock.mono())
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_renewals_alone_costs_no_term() {
    let store = Embedded::open(None, clock()).unwrap();
    let a = Node::start(&store, "a");
    let term = a.leads().await;
    a.link.calls_hang.store(true, SeqCst);
    let before = a.link.renewals.load(SeqCst);
    for _ in 0..300 {
        pass(Duration::from_millis(100)).await;
        assert!(a.may_write(), "{:?}", a.session.authority().load());
    }
    assert_eq!(a.session.authority().load().term(), term);
    let renewals = a.link.renewals.load(SeqCst) - before;
    assert!((29..=31).contains(&renewals), "each second: {renewals} in 30 s");
    // And its own end comes in time when renewals are silent too.
    a.link.silent(true);
    pass(Duration::from_millis(3901)).await;
    assert!(!a.may_write());
    let (_, pair) = store.get(LEADER).await.unwrap();
    assert_eq!(pair.map(|p| p.create_revision), Some(term), "the store still holds the lease");
}

async fn leader_of(store: &Embedded) -> Option<(i64, String)> {
    let (_, pair) = store.get(LEADER).await.unwrap();
    pair.map(|p| (p.create_revision, String::from_utf8_lossy(&p.value).into_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_stands_still_costs_the_term_and_the_lease() {
    let store = Embedded::open(None, clock()).unwrap();
    let (a, b) = (Node::start(&store, "a"), Node::start(&store, "b"));
    b.session.set_ready(false);
    let term = a.leads().await;
    b.session.set_ready(true);
    b.follows("a").await;
    a.stuck.store(true, SeqCst);
    let over = a.until("ends", |x| matches!(x.standing, Standing::None { .. }));
    tokio::time::timeout(Duration::from_millis(3001), over).await.expect("3 s after the last tick");
    assert!(!a.may_write() && a.session.fence().is_none());
    assert_eq!(a.reason(), "the controller stood still for 3s");
    // Its lease was given back: nobody waits for it to run out.
    pass(Duration::from_millis(200)).await;
    assert!(b.may_write() && b.session.authority().load().term() > term);
    let renewals = a.link.renewals.load(SeqCst);
    pass(Duration::from_secs(20)).await;
    assert_eq!(a.link.renewals.load(SeqCst), renewals, "it renews no more");
    assert_eq!(a.session.authority().load().lease, None);
    assert_eq!(store.list("regions/eu/nodes/", None).await.unwrap().pairs.len(), 1, "and is no node any more");
    a.stuck.store(false, SeqCst);
    a.follows("b").await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_thaws_finds_its_authority_over_before_it_writes() {
    let store = Embedded::open(None, clock()).unwrap();
    let time = Clock::manual(Timestamp::from_millis(1_000_000));
    let a = Node::with(&store, "a", time.clone());
    let term = a.leads().await;
    assert!(a.may_write() && a.session.fence().is_some());
    // No task runs between the freeze and the question.
    time.advance(Duration::from_secs(10));
    assert!(!a.may_write() && a.session.fence().is_none());
    // The controller runs first, then an answer to a renewal of before comes: neither brings the term back.
    a.session.ticked();
    assert!(!a.may_write());
    let again = a.leads().await;
    assert!(again > term, "a new term, not the old one: {again}");
}

#[tokio::test(start_paused = true)]
async fn the_loser_is_held_down_while_another_node_is_ready_and_no_longer() {
    for other_ready in [true, false] {
        let store = Embedded::open(None, clock()).unwrap();
        let (a, b) = (Node::start(&store, "a"), Node::start(&store, "b"));
        b.session.set_ready(false);
        let term = a.leads().await;
        b.follows("a").await;
        b.session.set_ready(other_ready);
        pass(Duration::from_secs(4)).await;
        // The other one sees nothing of the store's leader key for a while, but is there.
        b.link.calls_hang.store(true, SeqCst);
        pass(Duration::from_secs(6)).await;
        a.session.step_down(term);
        assert_eq!(a.reason(), "the fence refused a write");
        pass(Duration::from_millis(500)).await;
        assert_eq!(leader_of(&store).await.is_none(), other_ready, "held down where another is ready");
        pass(Duration::from_millis(4000)).await;
        assert_eq!(leader_of(&store).await.is_none(), other_ready);
        pass(Duration::from_millis(1500)).await;
        assert!(a.may_write(), "T is over, and nobody took it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_costs_a_term_and_little_time() {
    let store = Embedded::open(None, clock()).unwrap();
    let a = Node::start(&store, "a");
    let term = a.leads().await;
    let b = Node::start(&store, "b");
    b.follows("a").await;
    // The other one is ready, but slow: only the owner is there to take it, and nothing holds it down.
    b.link.calls_hang.store(true, SeqCst);
    pass(Duration::from_secs(6)).await;
    let lease = a.session.authority().load().lease.unwrap();
    store.revoke(lease).await.unwrap();
    pass(Duration::from_millis(400)).await;
    let authority = a.session.authority().load();
    assert!(authority.may_write(a.clock.mono()) && authority.term() > term, "{authority:?} {}", a.reason());
    assert_ne!(authority.lease, Some(lease));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_follows_within_ten_seconds_of_healing() {
    let store = Embedded::open(None, clock()).unwrap();
    let a = Node::start(&store, "a");
    let term = a.leads().await;
    let b = Node::start(&store, "b");
    b.follows("a").await;
    a.link.silent(true);
    let next = tokio::time::timeout(Duration::from_secs(6), b.leads()).await.expect("a new leader within 6 s");
    assert!(next > term);
    assert_eq!(a.reason(), "authority ran out: no answer from the store for 3.9s");
    pass(Duration::from_secs(30)).await;
    a.link.silent(false);
    let followed = tokio::time::timeout(Duration::from_secs(10), a.follows("b")).await.expect("it follows within 10 s");
    assert_eq!(followed, next);
    let leadership = a.session.leadership().load();
    assert_eq!((leadership.transitions, leadership.term), (1, next));
    assert_eq!(*leadership.last_reason, *format!("node b took over in term {next}"));
    assert_eq!(leadership.leader.as_ref().map(|l| l.url.as_str()), Some("http://b"));
    let since = |l: &Leadership| l.leader.as_ref().map(|l| l.since);
    assert!(since(&leadership) > since(&b.session.leadership().load()), "since each knows it");
}

#[tokio::test(start_paused = true)]
async fn the_lead_is_handed_over_on_request_and_comes_back_where_nobody_takes_it() {
    let store = Embedded::open(None, clock()).unwrap();
    let a = Node::start(&store, "a");
    let term = a.leads().await;
    let b = Node::start(&store, "b");
    b.follows("a").await;
    let lease = a.session.authority().load().lease;
    assert!(!b.session.hand_over("it does not lead"));
    assert!(a.session.hand_over("most targets fail from here alone"));
    assert!(!a.may_write() && a.session.fence().is_none());
    pass(Duration::from_millis(150)).await;
    assert!(b.may_write() && b.session.authority().load().term() > term, "within the spread of candidates");
    assert_eq!(a.session.authority().load().lease, lease, "the node and its lease stay");
    assert_eq!(store.list("regions/eu/nodes/", None).await.unwrap().pairs.len(), 2);
    // The other one hands over too, while the first still waits for 2 T: nobody leads until one has waited for T.
    assert!(b.session.hand_over("nor from here"));
    pass(Duration::from_millis(4900)).await;
    assert_eq!(leader_of(&store).await, None);
    pass(Duration::from_millis(2500)).await;
    assert!(leader_of(&store).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_restored_store_that_still_holds_our_leader_key_and_lease_starts_a_new_generation() {
    let store = Embedded::open(None, clock()).unwrap();
    let a = Node::start(&store, "a");
    a.leads().await;
    let lease = a.session.authority().load().lease.unwrap();
    let put = |key: &str, value: String, lease| Txn {
        compares: vec![],
        ops: vec![Op::Put { key: key.to_owned(), value: Bytes::from(value), lease }],
    };
    for i in 0..50 {
        store.txn(put("x", i.to_string(), None)).await.unwrap();
    }
    pass(Duration::from_secs(3)).await;
    let term = a.session.authority().load().term();
    // The backup: a lower revision, our leader key and our lease as they were.
    let backup = Embedded::open(None, clock()).unwrap();
    assert_eq!(backup.grant(Duration::from_secs(600)).await.unwrap().0, lease, "the same number");
    let value = r#"{"node":"a","url":"http://a"}"#.to_owned();
    backup.txn(put(LEADER, value, Some(lease))).await.unwrap();
    let before = leader_of(&backup).await.map(|(revision, _)| revision);
    a.link.restore(&backup);
    let old = a.session.fence().unwrap();
    let anew = a.until("leads anew", |x| x.generation == 2 && matches!(x.standing, Standing::Leader { .. })).await;
    assert!(anew.lease.is_some() && anew.lease != Some(lease), "{anew:?}");
    assert_eq!(leader_of(&backup).await.map(|(revision, _)| revision), Some(anew.term()));
    assert!(before.is_some_and(|before| before < anew.term()) && anew.term() < term + 50);
    let refused = backup.txn(Txn { compares: old, ops: vec![] }).await.unwrap();
    assert!(matches!(refused, TxnOutcome::Refused { .. }), "what the old generation would write");
    assert!(a.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_is_over_writes_nothing_from_that_moment() {
    let store = Embedded::open(None, clock()).unwrap();
    let a = Node::start(&store, "a");
    a.leads().await;
    assert!(a.may_write());
    // Another part of the node has the proof; the session has not run yet.
    assert!(a.session.0.store.another_history(1, "a key was put before"));
    assert!(!a.may_write() && a.session.fence().is_none());
    let anew = a.until("leads anew", |x| x.generation == 2 && matches!(x.standing, Standing::Leader { .. })).await;
    assert!(a.may_write() && anew.term() > 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_told_of_a_history_that_is_over_costs_no_term() {
    let store = Embedded::open(None, clock()).unwrap();
    let a = Node::start(&store, "a");
    a.leads().await;
    assert!(a.session.0.store.another_history(1, "a key was put before"));
    let anew = a.until("leads anew", |x| x.generation == 2 && matches!(x.standing, Standing::Leader { .. })).await;
    // It waited in the watch of the first generation: another node led there later.
    let revision = anew.term() + 50;
    let value = Bytes::from_static(br#"{"node":"b","url":"http://b"}"#);
    let pair = Pair { key: LEADER.to_owned(), value, create_revision: revision, mod_revision: revision, lease: None };
    a.session.told(1, &[Event::Put(pair)]);
    assert!(a.may_write());
    pass(Duration::from_secs(30)).await;
    assert_eq!(a.session.authority().load().term(), anew.term());
    assert!(a.may_write());
}

#[tokio::test(start_paused = true)]
async fn the_nodes_key_says_whether_the_node_is_ready() {
    let store = Embedded::open(None, clock()).unwrap();
    let a = Node::start(&store, "a");
    a.leads().await;
    for ready in [false, true, false] {
        a.session.set_ready(ready);
        pass(Duration::from_millis(300)).await;
        let (_, pair) = store.get("regions/eu/nodes/a").await.unwrap();
        let pair = pair.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&pair.value).unwrap();
        assert_eq!(value["ready"], ready);
        assert!(pair.lease.is_some() && a.may_write(), "a leader stays leader");
    }
}
