//! The feed over an embedded store behind a wrapper that fails, cuts, repeats and goes back in time on command.

mod past;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::clock::Clock;
use crate::store::{Embedded, LeaseId, Op, Txn, TxnOutcome};

#[derive(Debug)]
struct Faulty {
    inner: Mutex<Embedded>,
    /// Calls fail while it is set.
    down: AtomicBool,
    /// They take this long before they fail, in milliseconds.
    silent: AtomicU32,
    /// Watches opened from now on end after this many messages.
    cut_after: AtomicU32,
    /// Each message is delivered again after its successor.
    repeat: AtomicBool,
    /// Subtracted from every revision of a reply: another history.
    back: AtomicI64,
    cut: tokio::sync::watch::Sender<u32>,
    watches: AtomicU32,
}

impl Faulty {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Embedded::open(None, Clock::system()).unwrap()),
            down: AtomicBool::new(false),
            silent: AtomicU32::new(0),
            cut_after: AtomicU32::new(u32::MAX),
            repeat: AtomicBool::new(false),
            back: AtomicI64::new(0),
            cut: tokio::sync::watch::Sender::new(0),
            watches: AtomicU32::new(0),
        })
    }
    fn inner(&self) -> Embedded {
        self.inner.lock().unwrap().clone()
    }
    async fn check(&self) -> Result<(), StoreError> {
        if self.down.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(self.silent.load(SeqCst).into())).await;
            return Err(StoreError::Unavailable { reason: "down on command".to_owned(), cause: None });
        }
        Ok(())
    }
    fn cut_all(&self) {
        self.cut.send_modify(|n| *n += 1);
    }
    async fn put(&self, key: &str, value: &str) {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let op = Op::Put { key: key.to_owned(), value, lease: None };
        self.inner().txn(Txn { compares: vec![], ops: vec![op] }).await.unwrap();
    }
    async fn delete(&self, key: &str) {
        self.inner().txn(Txn { compares: vec![], ops: vec![Op::Delete(key.to_owned())] }).await.unwrap();
    }
    async fn all(&self) -> BTreeMap<String, Bytes> {
        let listing = self.inner().list("a/", None).await.unwrap();
        listing.pairs.into_iter().map(|p| (p.key, p.value)).collect()
    }
}

#[async_trait]
impl Store for Faulty {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        self.check().await?;
        let back = self.back.load(SeqCst);
        let mut listing = self.inner().list(prefix, revision.map(|r| r + back)).await?;
        listing.revision -= back;
        Ok(listing)
    }
    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
        self.check().await?;
        let (revision, pair) = self.inner().get(key).await?;
        Ok((revision - self.back.load(SeqCst), pair))
    }
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.check().await?;
        self.inner().txn(txn).await
    }
    async fn watch(&self, prefixes: &[String], from: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        self.check().await?;
        self.watches.fetch_add(1, SeqCst);
        let mut messages = self.inner().watch(prefixes, from).await?;
        let (out, faulty) = mpsc::channel(1);
        let (mut left, repeat) = (self.cut_after.load(SeqCst), self.repeat.load(SeqCst));
        let mut cut = self.cut.subscribe();
        tokio::spawn(async move {
            let mut last = VecDeque::new();
            loop {
                let message = tokio::select! {
                    biased;
                    _ = cut.changed() => return,
                    message = messages.recv() => message,
                };
                let Some(message) = message else { return };
                if left == 0 || out.send(message.clone()).await.is_err() {
                    return;
                }
                left -= 1;
                if repeat {
                    last.push_back(message);
                    if last.len() > 1 && out.send(last.pop_front().unwrap()).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(faulty)
    }
    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        self.inner().grant(ttl).await
    }
    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.inner().renew(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner().revoke(lease).await
    }
    fn describe(&self) -> String {
        "faulty".to_owned()
    }
}

struct Reader {
    items: mpsc::Receiver<FeedItem>,
    told: BTreeMap<String, Bytes>,
    puts: u32,
    seen: Vec<&'static str>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Reader {
    fn start(store: &Arc<Faulty>, change: impl FnOnce(&mut FeedOptions)) -> Self {
        let mut options = FeedOptions::new(["a/"]);
        options.backoff_min = Duration::from_millis(2);
        options.backoff_max = Duration::from_millis(10);
        change(&mut options);
        let (items, task) = spawn(Arc::clone(store) as Arc<dyn Store>, options, CancellationToken::new());
        let _task = tokio_util::task::AbortOnDropHandle::new(task);
        Self { items, told: BTreeMap::new(), puts: 0, seen: Vec::new(), _task }
    }

    async fn next(&mut self) -> FeedItem {
        let item = tokio::time::timeout(Duration::from_secs(5), self.items.recv()).await.expect("an item in time");
        let item = item.expect("the feed lives");
        let (word, events) = match &item {
            FeedItem::Synced { events, reset: false, .. } => ("synced", events.as_slice()),
            FeedItem::Synced { events, .. } => ("reset", events.as_slice()),
            FeedItem::Events(events) => ("events", events.as_slice()),
            FeedItem::Lost { .. } => ("lost", &[][..]),
            FeedItem::Back => ("back", &[][..]),
        };
        self.seen.push(word);
        for event in events {
            match event {
                Event::Put(pair) => {
                    self.puts += 1;
                    self.told.insert(pair.key.clone(), pair.value.clone());
                }
                Event::Delete { key, .. } => {
                    assert!(self.told.remove(key).is_some(), "a delete of what was never told")
                }
            }
        }
        item
    }

    async fn until(&mut self, word: &str) -> FeedItem {
        loop {
            let item = self.next().await;
            if self.seen.last() == Some(&word) {
                return item;
            }
        }
    }

    async fn until_all(&mut self, store: &Faulty) {
        let all = store.all().await;
        while self.told != all {
            self.next().await;
        }
    }
}

#[tokio::test]
async fn the_first_list_tells_every_pair_and_the_watch_goes_on_from_it() {
    let store = Faulty::new();
    store.put("a/1", "x").await;
    store.put("b/1", "x").await;
    let mut reader = Reader::start(&store, |_| {});
    assert!(matches!(reader.next().await, FeedItem::Synced { events, reset: false, .. } if events.len() == 1));
    store.put("a/2", "y").await;
    store.delete("a/1").await;
    reader.until_all(&store).await;
    assert_eq!(reader.puts, 2);
}

#[tokio::test]
async fn a_cut_watch_resumes_without_loss_or_repetition_and_without_a_list() {
    let store = Faulty::new();
    store.cut_after.store(3, SeqCst);
    let mut reader = Reader::start(&store, |_| {});
    reader.until("synced").await;
    for i in 0..200 {
        store.put(&format!("a/{}", i % 7), &i.to_string()).await;
        if i % 3 == 0 {
            tokio::task::yield_now().await;
        }
        reader.until_all(&store).await;
    }
    assert_eq!(reader.puts, 200);
    assert!(store.watches.load(SeqCst) > 30, "the wrapper did cut");
    assert!(!reader.seen[1..].contains(&"synced"), "a cut needs no list");
}

#[tokio::test]
async fn repeated_and_late_events_are_dropped() {
    let store = Faulty::new();
    store.repeat.store(true, SeqCst);
    let mut reader = Reader::start(&store, |_| {});
    reader.until("synced").await;
    for i in 0..50 {
        store.put("a/1", &i.to_string()).await;
        if i % 5 == 4 {
            store.delete("a/1").await;
        }
        reader.until_all(&store).await;
    }
    store.put("a/end", "").await;
    reader.until_all(&store).await;
    assert_eq!(reader.puts, 51);
}

#[tokio::test]
async fn an_outage_is_told_once_and_nothing_is_unlearned() {
    let store = Faulty::new();
    store.put("a/1", "x").await;
    let mut reader = Reader::start(&store, |_| {});
    reader.until("synced").await;
    store.down.store(true, SeqCst);
    store.cut_all();
    assert!(matches!(reader.next().await, FeedItem::Lost { reason } if reason.contains("down on command")));
    store.put("a/2", "y").await;
    store.delete("a/1").await;
    store.down.store(false, SeqCst);
    reader.until_all(&store).await;
    assert_eq!(reader.seen, ["synced", "lost", "back", "events"]);
}

/// Silence is an outage too: each try takes longer than the longest pause between two.
#[tokio::test]
async fn a_store_that_is_silent_is_told_as_lost() {
    let store = Faulty::new();
    store.put("a/1", "x").await;
    let mut reader = Reader::start(&store, |_| {});
    reader.until("synced").await;
    store.silent.store(40, SeqCst);
    store.down.store(true, SeqCst);
    store.cut_all();
    assert!(matches!(reader.next().await, FeedItem::Lost { .. }));
    store.down.store(false, SeqCst);
    reader.until("back").await;
}

#[tokio::test]
async fn a_start_without_a_store_says_so_and_syncs_later() {
    let store = Faulty::new();
    store.put("a/1", "x").await;
    store.down.store(true, SeqCst);
    let mut reader = Reader::start(&store, |_| {});
    reader.until("lost").await;
    store.down.store(false, SeqCst);
    reader.until("back").await;
    assert_eq!(reader.seen, ["lost", "synced", "back"]);
    assert_eq!(reader.told, store.all().await);
}

#[tokio::test]
async fn compaction_while_cut_off_lists_again_and_tells_the_difference_with_deletes() {
    let store = Faulty::new();
    for key in ["a/changed", "a/deleted", "a/same"] {
        store.put(key, "1").await;
    }
    let mut reader = Reader::start(&store, |_| {});
    reader.until("synced").await;
    store.down.store(true, SeqCst);
    store.cut_all();
    reader.until("lost").await;
    store.put("a/changed", "2").await;
    store.delete("a/deleted").await;
    store.put("a/new", "1").await;
    let (revision, _) = store.inner().get("").await.unwrap();
    store.inner().compact(revision);
    store.down.store(false, SeqCst);
    let FeedItem::Synced { events, reset, .. } = reader.until("synced").await else { unreachable!() };
    let keys: Vec<_> = events.iter().map(Event::key).collect();
    assert_eq!((keys, reset), (vec!["a/changed", "a/new", "a/deleted"], false));
    assert_eq!(reader.told, store.all().await);
}

#[tokio::test]
async fn a_store_that_went_back_in_time_is_read_anew() {
    let store = Faulty::new();
    store.put("a/1", "x").await;
    store.put("a/2", "x").await;
    let mut reader = Reader::start(&store, |_| {});
    reader.until("synced").await;
    store.back.store(2, SeqCst);
    store.cut_all();
    let item = reader.until("reset").await;
    assert!(matches!(item, FeedItem::Synced { events, reset: true, .. } if events.len() == 2), "every pair is news");
    store.back.store(0, SeqCst);
    store.put("a/3", "x").await;
    reader.until_all(&store).await;
}

#[tokio::test]
async fn the_periodic_list_mends_what_the_watch_missed() {
    let store = Faulty::new();
    let mut reader = Reader::start(&store, |o| o.resync_every = Duration::from_millis(20));
    reader.until("synced").await;
    // Replaces the store below the watch: its watch stays open on the old one, silent.
    let other = Embedded::open(None, Clock::system()).unwrap();
    let old = std::mem::replace(&mut *store.inner.lock().unwrap(), other);
    store.put("a/1", "x").await;
    reader.until_all(&store).await;
    drop(old);
}

#[tokio::test]
async fn a_list_that_is_asked_for_comes_at_once() {
    let store = Faulty::new();
    let lists: Arc<Notify> = Arc::default();
    let mut reader = Reader::start(&store, |o| o.lists = Arc::clone(&lists));
    reader.until("synced").await;
    // The watch stays open on the old one, silent.
    let other = Embedded::open(None, Clock::system()).unwrap();
    let old = std::mem::replace(&mut *store.inner.lock().unwrap(), other);
    store.put("a/1", "x").await;
    lists.notify_one();
    reader.until_all(&store).await;
    drop(old);
}

#[tokio::test]
async fn the_periodic_list_finds_another_history_and_watches_that() {
    let store = Faulty::new();
    for i in 0..5 {
        store.put("a/old", &i.to_string()).await;
    }
    let mut reader = Reader::start(&store, |o| o.resync_every = Duration::from_millis(40));
    reader.until("synced").await;
    let other = Embedded::open(None, Clock::system()).unwrap();
    let old = std::mem::replace(&mut *store.inner.lock().unwrap(), other);
    reader.until("reset").await;
    let watches = store.watches.load(SeqCst);
    store.put("a/new", "x").await;
    reader.until_all(&store).await;
    assert!(watches >= 1 && store.watches.load(SeqCst) >= 2, "a new watch was opened");
    drop(old);
}

#[tokio::test]
async fn what_is_known_from_disk_is_told_as_a_difference() {
    let store = Faulty::new();
    for key in ["a/same", "a/changed", "a/gone"] {
        store.put(key, "1").await;
    }
    let seed = store.inner().list("a/", None).await.unwrap().pairs;
    store.put("a/changed", "2").await;
    store.delete("a/gone").await;
    store.down.store(true, SeqCst);
    let mut reader = Reader::start(&store, |options| options.seed = seed.clone());
    reader.told = seed.into_iter().map(|pair| (pair.key, pair.value)).collect();
    reader.until("lost").await;
    store.down.store(false, SeqCst);
    let FeedItem::Synced { events, reset, .. } = reader.until("synced").await else { unreachable!() };
    let keys: Vec<_> = events.iter().map(Event::key).collect();
    assert_eq!((keys, reset), (vec!["a/changed", "a/gone"], false));
    assert_eq!(reader.told, store.all().await);
}

#[tokio::test]
async fn several_prefixes_are_listed_at_one_revision_and_the_feed_ends_with_its_token() {
    let store = Faulty::new();
    store.put("a/1", "x").await;
    store.put("b/1", "x").await;
    store.put("c/1", "x").await;
    let cancel = CancellationToken::new();
    let options = FeedOptions::new(["a/", "c/"]);
    let (mut items, task) = spawn(Arc::clone(&store) as Arc<dyn Store>, options, cancel.clone());
    let Some(FeedItem::Synced { events, .. }) = items.recv().await else { panic!("no list") };
    assert_eq!(events.iter().map(Event::key).collect::<Vec<_>>(), ["a/1", "c/1"]);
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
    assert_eq!(items.recv().await, None);
}
