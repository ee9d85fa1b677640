//! One suite for every store: embedded in memory, embedded on disk, and a real etcd behind a proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/feed.rs"]
#[allow(dead_code)]
mod feed;
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

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use bellwether::clock::Clock;
use bellwether::store::{
    Compare, Embedded, Etcd, EtcdOptions, Event, LeaseId, Op, Store, StoreError, Txn, TxnOutcome, WatchMessage,
    write_batches,
};
use bytes::Bytes;
use tokio::sync::mpsc;

use self::feed::{Reader, content};
use self::proxy::{Mode, Proxy};

enum Kind {
    Embedded(Embedded, #[allow(dead_code)] Option<tempfile::TempDir>),
    Etcd { member: member::Member, proxy: Proxy },
}

struct Fixture {
    /// What is tested; for etcd it goes through the proxy.
    store: Arc<dyn Store>,
    /// The same store, never cut off.
    direct: Arc<dyn Store>,
    kind: Kind,
}

impl Fixture {
    async fn memory() -> Self {
        let store = Embedded::open(None, Clock::system()).unwrap();
        Self { store: Arc::new(store.clone()), direct: Arc::new(store.clone()), kind: Kind::Embedded(store, None) }
    }

    async fn disk() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Some(&dir.path().join("data")), Clock::system()).unwrap();
        Self { store: Arc::new(store.clone()), direct: Arc::new(store.clone()), kind: Kind::Embedded(store, Some(dir)) }
    }

    async fn etcd() -> Self {
        let member = member::Member::single(&[]);
        let proxy = Proxy::start(member.port).await;
        let direct = Arc::new(member.store());
        member::ready(&*direct).await;
        let store = Arc::new(Etcd::new(EtcdOptions::new([proxy.url()], "/ft")).unwrap());
        Self { store, direct, kind: Kind::Etcd { member, proxy } }
    }

    fn compact(&self, revision: i64) {
        match &self.kind {
            Kind::Embedded(store, _) => store.compact(revision),
            Kind::Etcd { member, .. } => drop(member.ctl(&["compact", &revision.to_string()])),
        }
    }

    fn cut(&self) {
        if let Kind::Etcd { proxy, .. } = &self.kind {
            proxy.cut();
        }
    }

    fn reachable(&self, yes: bool) {
        if let Kind::Etcd { proxy, .. } = &self.kind {
            proxy.set(if yes { Mode::Pass } else { Mode::Refuse });
            if !yes {
                proxy.cut();
            }
        }
    }

    async fn revision(&self) -> i64 {
        self.direct.get("x").await.unwrap().0
    }

    async fn ops(&self, ops: Vec<Op>) -> i64 {
        match self.direct.txn(Txn { compares: vec![], ops }).await.unwrap() {
            TxnOutcome::Done { revision } => revision,
            refused => panic!("{refused:?}"),
        }
    }

    async fn put(&self, key: &str, value: &str) -> i64 {
        self.ops(vec![put(key, value)]).await
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), lease: None }
}

fn put_on(key: &str, lease: LeaseId) -> Op {
    Op::Put { key: key.to_owned(), value: Bytes::new(), lease: Some(lease) }
}

fn delete(key: &str) -> Op {
    Op::Delete(key.to_owned())
}

async fn next(watch: &mut mpsc::Receiver<WatchMessage>) -> WatchMessage {
    let wait = async {
        loop {
            match watch.recv().await.expect("the watch lives") {
                WatchMessage::Alive => {}
                other => return other,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("a message in time")
}

async fn events(watch: &mut mpsc::Receiver<WatchMessage>) -> Vec<Event> {
    match next(watch).await {
        WatchMessage::Events(events) => events,
        other => panic!("{other:?}"),
    }
}

fn owned(prefixes: &[&str]) -> Vec<String> {
    prefixes.iter().map(|&p| p.to_owned()).collect()
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        contract!(memory: $($name)*);
        contract!(disk: $($name)*);
        contract!(etcd: $($name)*);
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

contract!(
    a_list_shows_one_revision_an_old_one_too,
    a_long_list_comes_whole_from_one_revision,
    each_compare_holds_or_refuses,
    many_writers_lose_no_update,
    long_batches_are_split_and_stop_at_a_broken_guard,
    what_can_never_succeed_is_refused_as_such,
    a_watch_tells_history_then_news,
    a_watch_keeps_prefixes_apart_and_transactions_whole,
    a_watch_from_a_compacted_revision_says_so,
    a_feed_loses_nothing_over_cut_connections,
    compaction_while_cut_off_is_mended_with_deletes,
    a_lease_keeps_its_keys_while_it_is_renewed_and_takes_them_along,
    a_revoked_lease_takes_its_keys_at_once,
);

async fn a_list_shows_one_revision_an_old_one_too(f: Fixture) {
    f.put("a/1", "old").await;
    f.put("a/2", "x").await;
    let then = f.put("ab", "beside").await;
    f.ops(vec![put("a/1", "new"), delete("a/2")]).await;
    let now = f.store.list("a/", None).await.unwrap();
    assert_eq!(now.pairs.len(), 1);
    assert_eq!((&*now.pairs[0].value, now.pairs[0].mod_revision), (&b"new"[..], now.revision));
    assert!(now.pairs[0].create_revision < now.pairs[0].mod_revision);
    let old = f.store.list("a/", Some(then)).await.unwrap();
    let values: Vec<_> = old.pairs.iter().map(|p| (&*p.key, &*p.value)).collect();
    assert_eq!(values, [("a/1", &b"old"[..]), ("a/2", &b"x"[..])]);
    assert_eq!(old.revision, then);
    let ahead = f.store.list("a/", Some(now.revision + 10)).await;
    assert!(matches!(ahead, Err(StoreError::Invalid(_))), "{ahead:?}");
    f.compact(now.revision);
    let gone = f.store.list("a/", Some(then)).await;
    assert!(matches!(gone, Err(StoreError::Compacted { .. })), "{gone:?}");
    assert_eq!(
        f.store.list("a/", Some(now.revision)).await.unwrap(),
        now,
        "the compacted revision itself can be listed"
    );
    assert_eq!(f.store.list("none/", None).await.unwrap().pairs, []);
    let (revision, pair) = f.store.get("a/1").await.unwrap();
    assert_eq!((revision, pair), (now.revision, Some(now.pairs[0].clone())));
}

async fn a_long_list_comes_whole_from_one_revision(f: Fixture) {
    let ops = (0..1203).map(|i| put(&format!("a/{i:05}"), "x")).collect();
    write_batches(&*f.store, ops, &[]).await.unwrap();
    // Somebody writes while it is listed: no page may show it.
    let direct = Arc::clone(&f.direct);
    let writer = tokio::spawn(async move {
        for i in 0.. {
            let ops = vec![put("a/00000", &i.to_string()), put("a/01202", &i.to_string())];
            direct.txn(Txn { compares: vec![], ops }).await.unwrap();
        }
    });
    let mut written = std::collections::BTreeSet::new();
    while written.len() < 5 {
        let listing = f.store.list("a/", None).await.unwrap();
        assert_eq!(listing.pairs.len(), 1203);
        assert!(listing.pairs.is_sorted_by(|a, b| a.key < b.key));
        assert!(listing.pairs.iter().all(|p| p.mod_revision <= listing.revision));
        assert_eq!(listing.pairs[0].value, listing.pairs[1202].value);
        written.insert(listing.pairs[0].value.clone());
    }
    writer.abort();
}

async fn each_compare_holds_or_refuses(f: Fixture) {
    let (lease, _) = f.store.grant(Duration::from_secs(30)).await.unwrap();
    let created = f.put("a", "1").await;
    let modified = f.ops(vec![Op::Put { key: "a".into(), value: "2".into(), lease: Some(lease) }]).await;
    let a = || "a".to_owned();
    let holds = [
        Compare::Absent("b".into()),
        Compare::CreateRevision(a(), created),
        Compare::ModRevision(a(), modified),
        Compare::Lease(a(), lease),
        Compare::Value(a(), "2".into()),
    ];
    let refused = [
        Compare::Absent(a()),
        Compare::CreateRevision(a(), modified),
        Compare::ModRevision(a(), created),
        Compare::Lease(a(), LeaseId(lease.0 + 1)),
        Compare::Value(a(), "1".into()),
        Compare::CreateRevision("b".into(), created),
        Compare::ModRevision("b".into(), created),
        Compare::Lease("b".into(), lease),
        Compare::Value("b".into(), "2".into()),
    ];
    for compare in &refused {
        let txn = Txn { compares: vec![holds[0].clone(), compare.clone()], ops: vec![put("c", "x"), delete("a")] };
        let outcome = f.store.txn(txn).await.unwrap();
        assert_eq!(outcome, TxnOutcome::Refused { revision: modified }, "{compare:?}");
    }
    assert_eq!(f.revision().await, modified, "a refused transaction writes nothing");
    let txn = Txn { compares: holds.to_vec(), ops: vec![put("c", "x")] };
    assert_eq!(f.store.txn(txn).await.unwrap(), TxnOutcome::Done { revision: modified + 1 });
    let nothing = f.store.txn(Txn { compares: vec![], ops: vec![delete("b")] }).await.unwrap();
    assert_eq!(nothing, TxnOutcome::Done { revision: modified + 1 }, "deleting what is not there is no change");
}

async fn many_writers_lose_no_update(f: Fixture) {
    f.put("n", "0").await;
    let writers = (0..8).map(|_| {
        let store = Arc::clone(&f.store);
        tokio::spawn(async move {
            let mut done = 0;
            while done < 5 {
                let pair = store.get("n").await.unwrap().1.unwrap();
                let n: u32 = std::str::from_utf8(&pair.value).unwrap().parse().unwrap();
                let compares = vec![Compare::ModRevision("n".into(), pair.mod_revision)];
                let txn = Txn { compares, ops: vec![put("n", &(n + 1).to_string())] };
                done += u32::from(matches!(store.txn(txn).await.unwrap(), TxnOutcome::Done { .. }));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(f.store.get("n").await.unwrap().1.unwrap().value, "40");
}

async fn long_batches_are_split_and_stop_at_a_broken_guard(f: Fixture) {
    let term = f.put("leader", "me").await;
    let guard = [Compare::CreateRevision("leader".into(), term)];
    let ops = |value: &str| (0..350).map(|i| put(&format!("a/{i:03}"), value)).collect::<Vec<_>>();
    let outcome = write_batches(&*f.store, ops("1"), &guard).await.unwrap();
    assert!(matches!(outcome, TxnOutcome::Done { revision } if revision == term + 4), "{outcome:?}");
    let listing = f.store.list("a/", None).await.unwrap();
    assert_eq!(listing.pairs.len(), 350);
    f.ops(vec![delete("leader")]).await;
    let outcome = write_batches(&*f.store, ops("2"), &guard).await.unwrap();
    assert!(matches!(outcome, TxnOutcome::Refused { .. }));
    assert_eq!(f.store.list("a/", None).await.unwrap().pairs, listing.pairs);
    let nothing = write_batches(&*f.store, vec![], &guard).await.unwrap();
    assert!(matches!(nothing, TxnOutcome::Refused { .. }), "without operations the guard alone is asked for");
}

async fn what_can_never_succeed_is_refused_as_such(f: Fixture) {
    let before = f.revision().await;
    let large = Op::Put { key: "a".into(), value: Bytes::from(vec![0; 1_500_000]), lease: None };
    for ops in [
        (0..129).map(|i| put(&format!("a/{i}"), "x")).collect(),
        vec![put("a", "1"), put("a", "2")],
        vec![put("a", "1"), delete("a")],
        vec![large],
    ] {
        let refused = f.store.txn(Txn { compares: vec![], ops }).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    let no_lease = f.store.txn(Txn { compares: vec![], ops: vec![put_on("a", LeaseId(4711))] }).await;
    assert!(matches!(no_lease, Err(StoreError::LeaseNotFound)), "{no_lease:?}");
    assert!(matches!(f.store.watch(&owned(&["a"]), 0).await, Err(StoreError::Invalid(_))));
    assert_eq!(f.revision().await, before);
    let fits = Op::Put { key: "a".into(), value: Bytes::from(vec![0; 1_399_000]), lease: None };
    f.ops(vec![fits]).await;
}

async fn a_watch_tells_history_then_news(f: Fixture) {
    let first = f.put("a/1", "1").await;
    f.put("a/1", "2").await;
    let mut watch = f.store.watch(&owned(&["a/"]), first + 1).await.unwrap();
    let told = events(&mut watch).await;
    assert!(matches!(&told[..], [Event::Put(p)] if p.value == "2" && p.create_revision == first), "{told:?}");
    f.put("b/1", "x").await;
    let deleted = f.ops(vec![delete("a/1")]).await;
    let told = events(&mut watch).await;
    assert_eq!(told, [Event::Delete { key: "a/1".into(), revision: deleted }]);
    // A watch from the future waits for it.
    let mut watch = f.store.watch(&owned(&["a/"]), deleted + 2).await.unwrap();
    f.put("a/2", "too early").await;
    f.put("a/3", "in time").await;
    let told = events(&mut watch).await;
    assert_eq!(told.iter().map(Event::key).collect::<Vec<_>>(), ["a/3"]);
}

async fn a_watch_keeps_prefixes_apart_and_transactions_whole(f: Fixture) {
    let from = f.revision().await + 1;
    let watch = || async { f.store.watch(&owned(&["a/", "c/"]), from).await.unwrap() };
    let live = watch().await;
    let value = "x".repeat(10_000);
    for round in 0..20 {
        let ops = (0..100).map(|i| put(&format!("{}/{round}/{i}", ["a", "b", "c"][round % 3]), &value)).collect();
        f.ops(ops).await;
    }
    // One that catches up gets many revisions of 1 MB at once: etcd sends them in fragments.
    for mut watch in [live, watch().await] {
        let mut told: BTreeMap<i64, usize> = BTreeMap::new();
        while told.values().sum::<usize>() < 1300 {
            let mut here: BTreeMap<i64, usize> = BTreeMap::new();
            for event in events(&mut watch).await {
                assert!(event.key().starts_with("a/") || event.key().starts_with("c/"), "{}", event.key());
                *here.entry(event.revision()).or_default() += 1;
            }
            for (revision, n) in here {
                assert_eq!(told.insert(revision, n), None, "revision {revision} came in two messages");
            }
        }
        assert!(told.values().all(|n| *n == 100));
    }
}

async fn a_watch_from_a_compacted_revision_says_so(f: Fixture) {
    let first = f.put("a/1", "1").await;
    f.put("a/1", "2").await;
    let last = f.put("a/1", "3").await;
    f.compact(last);
    let mut watch = f.store.watch(&owned(&["a/", "b/"]), first).await.unwrap();
    assert_eq!(next(&mut watch).await, WatchMessage::Compacted { compact_revision: last });
    let mut watch = f.store.watch(&owned(&["a/"]), last + 1).await.unwrap();
    f.put("a/1", "4").await;
    assert_eq!(events(&mut watch).await.len(), 1);
}

async fn a_feed_loses_nothing_over_cut_connections(f: Fixture) {
    f.put("a/0", "").await;
    let mut reader = Reader::start(Arc::clone(&f.store), &["a/", "quiet/"]);
    reader.until("synced").await;
    for i in 0..300 {
        f.put(&format!("a/{}", i % 7), &i.to_string()).await;
        if i % 40 == 20 {
            f.cut();
        }
    }
    f.ops(vec![delete("a/3")]).await;
    reader.until_equal(&content(&*f.direct, "a/").await).await;
    assert_eq!(reader.puts, 301, "each change is told once");
    assert_eq!(reader.seen.iter().filter(|w| **w == "synced").count(), 1, "a cut needs no list: {:?}", reader.seen);
}

async fn compaction_while_cut_off_is_mended_with_deletes(f: Fixture) {
    for key in ["a/changed", "a/deleted", "a/same"] {
        f.put(key, "1").await;
    }
    let mut reader = Reader::start(Arc::clone(&f.store), &["a/"]);
    reader.until("synced").await;
    f.reachable(false);
    if matches!(f.kind, Kind::Etcd { .. }) {
        reader.until("lost").await;
    }
    f.put("a/changed", "2").await;
    f.ops(vec![delete("a/deleted"), put("a/new", "1")]).await;
    f.compact(f.revision().await);
    f.reachable(true);
    reader.until_equal(&content(&*f.direct, "a/").await).await;
    assert_eq!(reader.puts, 5, "what did not change is not told again");
    f.put("a/after", "").await;
    reader.until_equal(&content(&*f.direct, "a/").await).await;
    if matches!(f.kind, Kind::Etcd { .. }) {
        let count = |word| reader.seen.iter().filter(|w| **w == word).count();
        assert_eq!((count("lost"), count("back"), count("synced"), count("reset")), (1, 1, 2, 0), "{:?}", reader.seen);
    }
}

async fn a_lease_keeps_its_keys_while_it_is_renewed_and_takes_them_along(f: Fixture) {
    let asked = Duration::from_secs(1);
    let (lease, ttl) = f.store.grant(asked).await.unwrap();
    assert!(ttl >= asked && lease.0 != 0, "{ttl:?}");
    let written = f.ops(vec![put_on("a/leased", lease), put("a/kept", "")]).await;
    let (_, pair) = f.store.get("a/leased").await.unwrap();
    assert_eq!(pair.unwrap().lease, Some(lease));
    let mut watch = f.store.watch(&owned(&["a/"]), written + 1).await.unwrap();
    let started = tokio::time::Instant::now();
    while started.elapsed() < ttl + Duration::from_millis(700) {
        assert_eq!(f.store.renew(lease).await.unwrap(), ttl);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(f.store.get("a/leased").await.unwrap().1.is_some(), "it is renewed");
    let told = events(&mut watch).await;
    assert!(matches!(&told[..], [Event::Delete { key, .. }] if key == "a/leased"), "{told:?}");
    assert!(started.elapsed() > ttl * 2, "it lasts its time from the last renewal");
    assert!(matches!(f.store.renew(lease).await, Err(StoreError::LeaseNotFound)));
    let late = f.store.txn(Txn { compares: vec![], ops: vec![put_on("a/late", lease)] }).await;
    assert!(matches!(late, Err(StoreError::LeaseNotFound)), "{late:?}");
}

async fn a_revoked_lease_takes_its_keys_at_once(f: Fixture) {
    let (lease, _) = f.store.grant(Duration::from_secs(60)).await.unwrap();
    let (other, _) = f.store.grant(Duration::from_secs(60)).await.unwrap();
    assert_ne!(lease, other);
    f.ops(vec![put_on("a/1", lease), put_on("a/2", lease), put_on("a/moved", lease), put_on("a/freed", lease)]).await;
    let before = f.ops(vec![put_on("a/moved", other), put("a/freed", "")]).await;
    f.store.revoke(lease).await.unwrap();
    f.store.revoke(lease).await.expect("a lease that is gone is no error");
    let listing = f.store.list("a/", None).await.unwrap();
    let left: Vec<_> = listing.pairs.iter().map(|p| (p.key.as_str(), p.lease)).collect();
    assert_eq!(left, [("a/freed", None), ("a/moved", Some(other))]);
    assert_eq!(listing.revision, before + 1, "all keys go at one revision");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_durable_store_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    let open = || Embedded::open(Some(&data), Clock::system());
    let store = open().unwrap();
    let (lease, _) = store.grant(Duration::from_secs(60)).await.unwrap();
    let ops = vec![put("kept", "1"), put("deleted", "1"), put("moved", "1"), put_on("leased", lease), put("freed", "")];
    store.txn(Txn { compares: vec![], ops }).await.unwrap();
    let ops = vec![put("kept", "2"), delete("deleted"), put_on("moved", lease)];
    store.txn(Txn { compares: vec![], ops }).await.unwrap();
    let (revision, kept) = store.get("kept").await.unwrap();
    let second = open().unwrap_err().to_string();
    assert!(second.contains("another bellwether uses"), "{second}");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in std::fs::read_dir(&data).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    // Also a change that touches no durable key moves the revision for good.
    let (other, _) = store.grant(Duration::from_secs(60)).await.unwrap();
    store.txn(Txn { compares: vec![], ops: vec![put_on("other", other)] }).await.unwrap();
    store.revoke(other).await.unwrap();
    drop(store);

    let store = open().unwrap();
    let listing = store.list("", None).await.unwrap();
    assert_eq!(listing.pairs.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(), ["freed", "kept"]);
    assert_eq!(Some(&listing.pairs[1]), kept.as_ref(), "value and revisions are the same");
    assert!(listing.revision > revision + 2, "{} after {revision}", listing.revision);
    assert!(matches!(store.renew(lease).await, Err(StoreError::LeaseNotFound)));
    let mut watch = store.watch(&owned(&[""]), revision).await.unwrap();
    assert!(matches!(next(&mut watch).await, WatchMessage::Compacted { .. }), "what was before is not remembered");
    let outcome = store.txn(Txn { compares: vec![], ops: vec![put("new", "")] }).await.unwrap();
    assert_eq!(outcome, TxnOutcome::Done { revision: listing.revision + 1 });
}

#[tokio::test]
async fn a_manual_clock_ends_leases() {
    let clock = Clock::manual(bellwether::model::Timestamp::from_millis(1_000_000));
    let store = Embedded::open(None, clock.clone()).unwrap();
    let (lease, ttl) = store.grant(Duration::from_secs(5)).await.unwrap();
    assert_eq!(ttl, Duration::from_secs(5));
    store.txn(Txn { compares: vec![], ops: vec![put_on("a", lease), put_on("b", lease)] }).await.unwrap();
    clock.advance(Duration::from_millis(4999));
    assert_eq!(store.expire_due().await.unwrap(), 0);
    store.renew(lease).await.unwrap();
    clock.advance(Duration::from_millis(4999));
    assert!(store.get("a").await.unwrap().1.is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.expire_due().await.unwrap(), 2);
    assert!(store.get("a").await.unwrap().1.is_none());
}
