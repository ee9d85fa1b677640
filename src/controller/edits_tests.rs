//! Tests of edits against the embedded store, and of `cache=false` against a server that answers late.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{mpsc, watch},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    config::{CatalogBuilder, Settings},
    controller::{
        core::{Core, Identity, Standing},
        fresh::{RECENT, REFRESH_BOUND, Runs},
    },
    model::{NodeName, Timestamp},
    probe::{Engine, EngineConfig, Observed},
    replication::NoPeers,
    store::{Embedded, Event, LeaseId, Listing, Pair, WatchMessage},
};

/// An embedded store in which a rival writes just before the next transactions.
#[derive(Debug)]
struct Racing {
    inner: Embedded,
    races: AtomicUsize,
}

const RIVAL: &str = "healthcheck/a-1/path";

#[async_trait]
impl Store for Racing {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        self.inner.list(prefix, revision).await
    }
    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
        self.inner.get(key).await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let left = self.races.load(Ordering::SeqCst);
        if left > 0 {
            self.races.store(left - 1, Ordering::SeqCst);
            let op = Op::Put { key: RIVAL.to_owned(), value: Bytes::from(format!("/rival-{left}")), lease: None };
            self.inner.txn(Txn { compares: Vec::new(), ops: vec![op] }).await?;
        }
        self.inner.txn(txn).await
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
        "the store".to_owned()
    }
}

struct Bench {
    edits: Arc<Edits>,
    store: Arc<Racing>,
    core: Core,
    observations: mpsc::Receiver<Vec<Observed>>,
}

impl Bench {
    /// Keys in the store, and a view of them.
    async fn new(keys: &[(&str, &str)]) -> Self {
        let clock = Clock::system();
        let inner = Embedded::open(None, clock.clone()).unwrap();
        let store = Arc::new(Racing { inner, races: AtomicUsize::new(0) });
        for (key, value) in keys {
            let op = Op::Put { key: (*key).to_owned(), value: Bytes::from((*value).to_owned()), lease: None };
            store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
        }
        let region = RegionName::new("eu").unwrap();
        let identity = Identity {
            node: NodeName::new("n1").unwrap(),
            region: region.clone(),
            region_named: true,
            environment: "test".to_owned(),
            started: Timestamp::default(),
            version: "0",
        };
        let builder = CatalogBuilder::new(Settings {
            root: "/ft".to_owned(),
            region: region.clone(),
            gateway: None,
            sev_1_apps: Vec::new(),
            mass_removal_hold: Duration::ZERO,
        });
        let mut core = Core::new(identity, builder, BTreeMap::new());
        let listing = store.list("", None).await.unwrap();
        let events: Vec<Event> = listing.pairs.into_iter().map(Event::Put).collect();
        let now = clock.now();
        core.apply(listing.revision, &events, true, now);
        let targets = core.stand(standing(StoreState::Ok), now).targets.unwrap_or_default();
        let view = Latest::new(core.evaluate(&[], now).0);
        let (engine, observations) = Engine::start(EngineConfig::new(clock.clone())).unwrap();
        engine.set_targets(targets, Vec::new());
        let edits = Edits {
            store: Arc::clone(&store) as Arc<dyn Store>,
            root: "/ft".to_owned(),
            region,
            view: view.clone(),
            fresh: Arc::new(Fresh {
                view,
                prober: Arc::new(engine),
                results: watch::channel(0).0,
                peers: Arc::new(NoPeers),
                asks: mpsc::channel(1).0,
                clock: clock.clone(),
                runs: Runs::default(),
            }),
            combinations: Arc::default(),
            clock,
        };
        Self { edits: Arc::new(edits), store, core, observations }
    }

    async fn value(&self, key: &str) -> Option<String> {
        let pair = self.store.inner.get(key).await.unwrap().1;
        pair.map(|p| String::from_utf8_lossy(&p.value).into_owned())
    }

    /// What the controller does with results.
    fn pump(mut self) -> Arc<Edits> {
        let edits = Arc::clone(&self.edits);
        tokio::spawn(async move {
            while let Some(batch) = self.observations.recv().await {
                self.core.observe(&batch);
                self.edits.fresh.results.send_modify(|n| *n += 1);
            }
        });
        edits
    }
}

/// It leads while the store answers.
fn standing(store: StoreState) -> Standing {
    let up = store == StoreState::Ok;
    Standing { leads: up, session: up, term: 1, store, ..Standing::default() }
}

fn target(name: &str) -> TargetName {
    TargetName::new(name).unwrap()
}

fn enabled(category: &str, enabled: bool) -> Edit {
    Edit::Enabled { category: CategoryName::new(category).unwrap(), enabled, by: None, reason: None }
}

fn document(text: &str) -> Document {
    serde_json::from_str(text).unwrap()
}

const APPLY: ApplyOptions = ApplyOptions { dry_run: false, prune: false };

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_writes_the_key_that_decides_here() {
    let keys = [
        ("healthcheck/a-1/path", "/x"),
        ("healthcheck/a-1/categories", "read,write"),
        ("regions/eu/overlay/healthcheck-categories/read/enabled", "true"),
        ("regions/us/overlay/healthcheck-categories/write/enabled", "true"),
    ];
    let bench = Bench::new(&keys).await;
    bench.edits.edit(enabled("read", false)).await.unwrap();
    bench.edits.edit(enabled("write", false)).await.unwrap();
    assert_eq!(bench.value("regions/eu/overlay/healthcheck-categories/read/enabled").await.as_deref(), Some("false"));
    assert_eq!(bench.value("healthcheck-categories/read/enabled").await, None);
    assert_eq!(bench.value("healthcheck-categories/write/enabled").await.as_deref(), Some("false"));
    assert_eq!(bench.value("regions/us/overlay/healthcheck-categories/write/enabled").await.as_deref(), Some("true"));
    // An ack goes where it counts, and is gone everywhere when it is removed.
    let overlay = "regions/eu/overlay/healthcheck/a-1/ack";
    let put = Op::Put { key: overlay.to_owned(), value: Bytes::from("old"), lease: None };
    bench.store.txn(Txn { compares: Vec::new(), ops: vec![put] }).await.unwrap();
    bench.edits.edit(Edit::Ack(target("a-1"), Ack::text("new"))).await.unwrap();
    assert_eq!(bench.value(overlay).await.as_deref(), Some("new"));
    assert_eq!(bench.value("healthcheck/a-1/ack").await, None);
    bench.edits.edit(Edit::Unack(target("a-1"))).await.unwrap();
    assert_eq!(bench.value(overlay).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_is_plain_text_where_that_says_it_all() {
    let bench = Bench::new(&[("healthcheck/a-1/path", "/x")]).await;
    let until = Timestamp::from_millis(1_800_000_000_000);
    let full = Ack { by: Some("me".to_owned()), until: Some(until), ..Ack::text("planned") };
    let braced = Ack::text("{not json");
    for (ack, plain) in [(Ack::text("planned"), true), (full, false), (braced, false)] {
        bench.edits.edit(Edit::Ack(target("a-1"), ack.clone())).await.unwrap();
        let value = bench.value("healthcheck/a-1/ack").await.unwrap();
        if plain {
            assert_eq!(value, ack.message);
        } else {
            let read: Ack = serde_json::from_str(&value).unwrap();
            assert_eq!(Ack { v: None, ..read }, ack, "{value}");
        }
    }
    bench.edits.edit(Edit::ClusterAck(Ack::text("all seen"))).await.unwrap();
    assert_eq!(bench.value(key::CLUSTER_ACK).await.as_deref(), Some("all seen"));
    bench.edits.edit(Edit::ClearClusterAck).await.unwrap();
    assert_eq!(bench.value(key::CLUSTER_ACK).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_refused_with_the_nearest_and_a_lost_store_by_name() {
    let mut bench = Bench::new(&[("healthcheck/shop-1/categories", "read")]).await;
    let refused = bench.edits.edit(Edit::Ack(target("shpo-1"), Ack::text("x"))).await.unwrap_err();
    assert!(refused.to_string().contains("did you mean \"shop-1\""), "{refused}");
    let refused = bench.edits.edit(enabled("raed", false)).await.unwrap_err();
    assert!(refused.to_string().contains("did you mean \"read\""), "{refused}");
    bench.core.stand(standing(StoreState::Lost), bench.edits.clock.now());
    bench.edits.view.store(Arc::new(bench.core.evaluate(&[], bench.edits.clock.now()).0));
    for edit in [Edit::Unack(target("shop-1")), enabled("read", false), Edit::ClearClusterAck] {
        let refused = bench.edits.edit(edit).await;
        assert!(matches!(refused, Err(EditError::StoreLost(_))), "{refused:?}");
    }
    assert!(matches!(bench.edits.document().await, Err(EditError::StoreLost(_))));
    assert!(matches!(bench.edits.apply(Document::default(), APPLY).await, Err(EditError::StoreLost(_))));
    assert_eq!(bench.value("healthcheck-categories/read/enabled").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overtaken_apply_is_tried_again_a_few_times() {
    let bench = Bench::new(&[(RIVAL, "/old")]).await;
    let wanted = document(r#"{"targets": {"a-1": {"path": "/new"}}}"#);
    bench.store.races.store(TRIES - 1, Ordering::SeqCst);
    let changes = bench.edits.apply(wanted.clone(), APPLY).await.unwrap();
    assert_eq!(bench.value(RIVAL).await.as_deref(), Some("/new"));
    let shown: Vec<_> = changes.iter().map(|c| (c.key.as_str(), c.old.as_deref(), c.new.as_deref())).collect();
    assert_eq!(shown, [("/ft/healthcheck/a-1/path", Some("/rival-1"), Some("/new"))], "what it really replaced");
    bench.store.races.store(100, Ordering::SeqCst);
    let again = document(r#"{"targets": {"a-1": {"path": "/newer"}}}"#);
    assert!(matches!(bench.edits.apply(again.clone(), APPLY).await, Err(EditError::Conflict)));
    assert_eq!(bench.store.races.load(Ordering::SeqCst), 100 - TRIES);
    // A dry run writes nothing.
    let dry = ApplyOptions { dry_run: true, prune: false };
    assert_eq!(bench.edits.apply(again, dry).await.unwrap().len(), 1);
    assert!(bench.value(RIVAL).await.unwrap().starts_with("/rival"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_any_length_is_applied_and_read_again() {
    let bench = Bench::new(&[]).await;
    let long = "x".repeat(20_000);
    let entry = |i: usize| format!(r#""t-{i}": {{"path": "/x", "technical_summary": "{long}"}}"#);
    let targets: Vec<String> = (0..150).map(entry).collect();
    let wanted = document(&format!(r#"{{"targets": {{{}}}}}"#, targets.join(",")));
    let changes = bench.edits.apply(wanted.clone(), APPLY).await.unwrap();
    assert_eq!(changes.len(), 300);
    let read = bench.edits.document().await.unwrap();
    assert_eq!(read.targets.len(), 150);
    assert!(bench.edits.apply(wanted, APPLY).await.unwrap().is_empty(), "nothing left to change");
    let prune = ApplyOptions { dry_run: false, prune: true };
    let few = document(r#"{"targets": {"t-1": {"path": "/x"}}}"#);
    bench.edits.apply(few, prune).await.unwrap();
    assert_eq!(bench.edits.document().await.unwrap().targets.len(), 1);
}

/// Answers 200 after `delay`; counts requests.
async fn late(delay: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let hits = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&hits);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                tokio::time::sleep(delay).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            });
        }
    });
    (url, hits)
}

fn spec(url: &str) -> String {
    format!(r#"{{"url": "{url}", "format": "status", "interval": "1h"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_is_shared_and_a_recent_result_is_taken_as_it_is() {
    let (url, hits) = late(Duration::from_millis(1500)).await;
    let bench = Bench::new(&[("healthcheck/a-1/spec", &spec(&url))]).await;
    let edits = bench.pump();
    let first = tokio::spawn({
        let edits = Arc::clone(&edits);
        async move { edits.refresh(vec![target("a-1")]).await }
    });
    while hits.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = edits.refresh(vec![target("a-1"), target("nobody")]).await;
    let first = first.await.unwrap();
    assert_eq!((first.not_refreshed.len(), second.not_refreshed.len()), (0, 0), "unknown names are nobody's");
    assert_eq!(hits.load(Ordering::SeqCst), 1, "one run for both");
    // Within the second after its result it is not probed again, after that it is.
    let began = Instant::now();
    assert_eq!(edits.refresh(vec![target("a-1")]).await, Refreshed::default());
    assert!(hits.load(Ordering::SeqCst) == 1 || began.elapsed() > RECENT, "probed within the last second");
    tokio::time::sleep(RECENT).await;
    let before = hits.load(Ordering::SeqCst);
    assert_eq!(edits.refresh(vec![target("a-1")]).await, Refreshed::default());
    assert_eq!(hits.load(Ordering::SeqCst), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_ends_after_three_seconds_and_names_what_is_missing() {
    let (slow, _) = late(Duration::from_secs(60)).await;
    let (quick, hits) = late(Duration::ZERO).await;
    let keys = [("healthcheck/quick-1/spec", &*spec(&quick)), ("healthcheck/slow-1/spec", &*spec(&slow))];
    let edits = Bench::new(&keys).await.pump();
    let began = Instant::now();
    let refreshed = edits.refresh(vec![target("quick-1"), target("slow-1")]).await;
    let took = began.elapsed();
    assert_eq!(refreshed.not_refreshed, [target("slow-1")]);
    assert!(took >= REFRESH_BOUND && took < REFRESH_BOUND + Duration::from_millis(500), "{took:?}");
    assert!(hits.load(Ordering::SeqCst) >= 1);
}

fn change(key: &str, size: usize) -> diff::Change {
    diff::Change { key: key.to_owned(), old: None, new: Some("x".repeat(size)) }
}

#[test]
fn batches_keep_what_belongs_together() {
    // 60 targets of three keys: 100 operations would cut the 34th.
    let words = ["categories", "path", "spec"];
    let keys = (0..60).flat_map(|i| words.map(|word| format!("healthcheck/t-{i:02}/{word}")));
    let changes: Vec<_> = keys.map(|key| change(&key, 10)).collect();
    let cut = batches(&changes);
    assert_eq!(cut.iter().map(|b| b.len()).collect::<Vec<_>>(), [99, 81]);
    assert_eq!(cut.concat(), changes);
    // By bytes; one that is too large stands alone and goes its own way.
    let sizes = [(0, BATCH_BYTES / 2), (1, BATCH_BYTES / 3), (2, BATCH_BYTES * 3), (3, 1)];
    let changes: Vec<_> = sizes.iter().map(|(i, n)| change(&format!("healthcheck/t-{i}/spec"), *n)).collect();
    assert_eq!(batches(&changes).iter().map(|b| b.len()).collect::<Vec<_>>(), [2, 1, 1]);
    // A region's overlay of any length is cut all the same.
    let changes: Vec<_> = (0..250).map(|i| change(&format!("regions/eu/overlay/x/{i:03}"), 10)).collect();
    assert_eq!(batches(&changes).iter().map(|b| b.len()).collect::<Vec<_>>(), [100, 100, 50]);
    assert!(batches(&[]).is_empty());
}
