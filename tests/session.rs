//! Sessions and elections on both stores: one leader, handed over, lost, fenced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/etcd.rs"]
#[allow(dead_code)]
mod member;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "support/signal.rs"]
mod signal;

use std::sync::Arc;
use std::time::Duration;

use bellwether::chance::Chance;
use bellwether::clock::Clock;
use bellwether::model::{NodeName, RegionName, Timestamp};
use bellwether::store::session::{Authority, Session, SessionError, SessionOptions, Standing};
use bellwether::store::{Embedded, Etcd, EtcdOptions, Op, Store, StoreError, Txn, TxnOutcome, write_batches};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::proxy::{Mode, Proxy};

const LEADER: &str = "regions/eu/leader";

struct Fixture {
    store: Arc<dyn Store>,
    _member: Option<member::Member>,
}

impl Fixture {
    async fn memory() -> Self {
        Self { store: Arc::new(Embedded::open(None, Clock::system()).unwrap()), _member: None }
    }
    async fn etcd() -> Self {
        let member = member::Member::single(&[]);
        let store = Arc::new(member.store());
        member::ready(&*store).await;
        Self { store, _member: Some(member) }
    }
}

struct Node {
    session: Session,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), SessionError>>,
    _controller: tokio_util::task::AbortOnDropHandle<()>,
}

impl Node {
    fn start(store: &Arc<dyn Store>, name: &str, instance: &str, ttl: u64) -> Self {
        let options = SessionOptions {
            region: RegionName::new("eu").unwrap(),
            node: NodeName::new(name).unwrap(),
            url: format!("http://{name}"),
            version: "0".to_owned(),
            started: Timestamp::from_millis(0),
            instance: instance.to_owned(),
            ttl: Duration::from_secs(ttl),
        };
        let cancel = CancellationToken::new();
        let (session, task) =
            Session::spawn(Arc::clone(store), Clock::system(), Chance::system(), options, cancel.clone());
        let ticking = session.clone();
        let controller = tokio::spawn(async move {
            loop {
                ticking.ticked();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self { session, cancel, task, _controller: tokio_util::task::AbortOnDropHandle::new(controller) }
    }

    fn ready(store: &Arc<dyn Store>, name: &str) -> Self {
        let node = Self::start(store, name, name, 3);
        node.session.set_ready(true);
        node
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
        let in_time = tokio::time::timeout(Duration::from_secs(15), wait).await;
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

    fn may_write(&self) -> bool {
        self.session.may_write(Clock::system().mono())
    }

    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap().unwrap();
        assert!(!self.session.may_write(Clock::system().mono()));
    }

    /// Dies without a word.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn put(key: &str) -> Vec<Op> {
    vec![Op::Put { key: key.to_owned(), value: "x".into(), lease: None }]
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        on_both!(memory: $($name)*);
        on_both!(etcd: $($name)*);
    };
    ($kind:ident: $($name:ident)*) => {
        mod $kind {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Fixture::$kind().await).await;
            })*
        }
    };
}

on_both!(
    only_a_ready_node_leads_and_the_others_follow,
    a_leader_that_goes_hands_over_at_once,
    a_leader_that_dies_is_followed_after_its_lease,
    a_lost_lease_ends_the_term_and_a_new_one_begins,
    an_old_terms_fence_refuses,
    a_name_is_taken_over_from_an_earlier_life_but_not_from_a_stranger,
    a_deleted_node_key_is_written_anew,
);

async fn only_a_ready_node_leads_and_the_others_follow(f: Fixture) {
    let a = Node::start(&f.store, "a", "1", 3);
    a.until("registered", |x| matches!(x.standing, Standing::Follower { leader: None, .. })).await;
    let b = Node::ready(&f.store, "b");
    let term = b.leads().await;
    assert_eq!(a.follows("b").await, term);
    assert_eq!(a.session.authority().load().leader_url.as_deref(), Some("http://b"));
    a.session.set_ready(true);
    let (_, pair) = f.store.get(LEADER).await.unwrap();
    let pair = pair.unwrap();
    assert_eq!((pair.value.as_ref(), pair.create_revision), (&br#"{"node":"b","url":"http://b"}"#[..], term));
    assert!(b.may_write() && !a.may_write() && a.session.fence().is_none());
    let nodes = f.store.list("regions/eu/nodes/", None).await.unwrap();
    assert_eq!(nodes.pairs.len(), 2);
    assert!(nodes.pairs.iter().all(|p| p.lease.is_some()));
    // It goes on: longer than the lease.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(b.may_write());
    assert_eq!((b.leads().await, a.follows("b").await), (term, term));
}

async fn a_leader_that_goes_hands_over_at_once(f: Fixture) {
    let a = Node::ready(&f.store, "a");
    let term = a.leads().await;
    let b = Node::ready(&f.store, "b");
    b.follows("a").await;
    let went = Instant::now();
    a.stop().await;
    assert!(b.leads().await > term);
    // The watch told it: the poll comes each 2 s, the lease would end after 3.
    assert!(went.elapsed() < Duration::from_millis(1500), "{:?}", went.elapsed());
    let nodes = f.store.list("regions/eu/nodes/", None).await.unwrap();
    assert_eq!(nodes.pairs.len(), 1, "its key went with it");
}

async fn a_leader_that_dies_is_followed_after_its_lease(f: Fixture) {
    let a = Node::ready(&f.store, "a");
    let term = a.leads().await;
    let b = Node::ready(&f.store, "b");
    b.follows("a").await;
    let session = a.session.clone();
    let died = Instant::now();
    a.kill().await;
    let next = b.leads().await;
    assert!(next > term);
    assert!(!session.may_write(Clock::system().mono()), "the dead one's authority ended by itself before");
    assert!(died.elapsed() < Duration::from_millis(4500), "{:?}", died.elapsed());
}

async fn a_lost_lease_ends_the_term_and_a_new_one_begins(f: Fixture) {
    let a = Node::ready(&f.store, "a");
    let term = a.leads().await;
    let lease = a.session.authority().load().lease.unwrap();
    f.store.revoke(lease).await.unwrap();
    a.until("steps down", |x| !matches!(x.standing, Standing::Leader { term: t, .. } if t == term)).await;
    let again = a.until("leads", |x| matches!(x.standing, Standing::Leader { .. })).await;
    assert!(again.term() > term && again.lease != Some(lease));
    let nodes = f.store.list("regions/eu/nodes/", None).await.unwrap();
    assert_eq!(nodes.pairs.iter().map(|p| p.lease).collect::<Vec<_>>(), [again.lease]);
}

async fn an_old_terms_fence_refuses(f: Fixture) {
    let a = Node::ready(&f.store, "a");
    let term = a.leads().await;
    let old = a.session.fence().unwrap();
    assert!(matches!(write_batches(&*f.store, put("x"), &old).await.unwrap(), TxnOutcome::Done { .. }));
    // A fence was refused, says the controller.
    a.session.step_down(term);
    assert!(!a.may_write());
    let next = a.until("leads anew", |x| matches!(x.standing, Standing::Leader { term: t, .. } if t > term)).await;
    assert!(matches!(write_batches(&*f.store, put("x"), &old).await.unwrap(), TxnOutcome::Refused { .. }));
    let new = a.session.fence().unwrap();
    assert!(matches!(write_batches(&*f.store, put("x"), &new).await.unwrap(), TxnOutcome::Done { .. }));
    // Somebody deletes the key: the watch tells.
    f.store.txn(Txn { compares: vec![], ops: vec![Op::Delete(LEADER.to_owned())] }).await.unwrap();
    a.until("leads anew", |x| matches!(x.standing, Standing::Leader { term: t, .. } if t > next.term())).await;
}

async fn a_name_is_taken_over_from_an_earlier_life_but_not_from_a_stranger(f: Fixture) {
    let a = Node::ready(&f.store, "a");
    let term = a.leads().await;
    a.kill().await;
    let began = Instant::now();
    let a = Node::ready(&f.store, "a");
    assert!(a.leads().await > term);
    assert!(began.elapsed() < Duration::from_millis(2500), "the earlier life is ended at once: {:?}", began.elapsed());
    let stranger = Node::start(&f.store, "a", "another", 3);
    let refused = tokio::time::timeout(Duration::from_secs(10), stranger.task).await.unwrap().unwrap().unwrap_err();
    assert!(refused.to_string().contains("http://a"), "it names the holder: {refused}");
    assert!(a.may_write(), "and the holder goes on");
}

async fn a_deleted_node_key_is_written_anew(f: Fixture) {
    let a = Node::ready(&f.store, "a");
    let term = a.leads().await;
    let key = "regions/eu/nodes/a";
    let before = f.store.get(key).await.unwrap().1.expect("the node's key").create_revision;
    f.store.txn(Txn { compares: vec![], ops: vec![Op::Delete(key.to_owned())] }).await.unwrap();
    let again = async {
        loop {
            if let Some(pair) = f.store.get(key).await.unwrap().1 {
                return pair;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let pair = tokio::time::timeout(Duration::from_secs(10), again).await.expect("the key comes back");
    assert!(pair.create_revision > before && pair.lease.is_some());
    assert_eq!(a.session.authority().load().term(), term, "the lead was not touched");
    assert!(a.may_write());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_stops_before_its_lease_can_end() {
    let etcd = member::Member::single(&[]);
    let direct: Arc<dyn Store> = Arc::new(etcd.store());
    member::ready(&*direct).await;
    let proxy = Proxy::start(etcd.port).await;
    let through: Arc<dyn Store> = Arc::new(Etcd::new(EtcdOptions::new([proxy.url()], "/ft")).unwrap());
    let a = Node::ready(&through, "a");
    let term = a.leads().await;
    let b = Node::ready(&direct, "b");
    b.follows("a").await;
    proxy.set(Mode::Blackhole);
    let cut = Instant::now();
    a.until("ends", |x| !matches!(x.standing, Standing::Leader { .. })).await;
    let ended = cut.elapsed();
    assert!(ended < Duration::from_millis(2900), "3 s less the margin, from the last renewal: {ended:?}");
    let (_, key) = direct.get(LEADER).await.unwrap();
    assert_eq!(key.unwrap().create_revision, term, "etcd still holds the lease");
    let next = b.leads().await;
    assert!(next > term && !a.may_write());
    assert!(cut.elapsed() < Duration::from_millis(4500), "{:?}", cut.elapsed());
    proxy.set(Mode::Pass);
    proxy.cut();
    assert_eq!(a.follows("b").await, next, "it comes back as a follower");
    let lost = direct.renew(bellwether::store::LeaseId(1)).await;
    assert!(matches!(lost, Err(StoreError::LeaseNotFound)), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_killed_or_paused_costs_no_term() {
    let mut members = member::cluster(3, &[], "http");
    let urls: Vec<_> = members.iter().map(|m| m.url.clone()).collect();
    let store: Arc<dyn Store> = Arc::new(Etcd::new(EtcdOptions::new(urls, "/ft")).unwrap());
    member::ready(&*store).await;
    let a = Node::start(&store, "a", "1", 5);
    a.session.set_ready(true);
    let term = a.leads().await;
    members[0].kill();
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        assert!(a.may_write(), "{:?}", a.session.authority().load());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(a.session.authority().load().term(), term);
    members[0].restart();
    // The others wait for it: etcd needs two of three once another is paused.
    let restarted = members[0].store();
    member::ready(&restarted).await;
    members[1].pause();
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        assert!(a.may_write(), "{:?}", a.session.authority().load());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    members[1].resume();
    assert_eq!(a.session.authority().load().term(), term);
}
