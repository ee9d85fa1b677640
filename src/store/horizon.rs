//! Notices that the store has another history than before (restored from a backup, or another cluster): a new generation
//! begins then (design sections 4.2 and 4.5). A wrapper around any store; what ends with a generation is left to `session`,
//! `feed` and `controller`.
//!
//! Proofs of another history: a linearizable reply (a list of the newest revision, a read, a transaction) whose revision
//! lies below the highest that was known before it was sent, by a reply or by a term heard of from another node (`saw`); another
//! cluster id; the put that is known last, asked for at its revision, was another one, and a key that was last put before the
//! put that is known already (`another_history`: the feed finds both); a leader key of an earlier term than one that was seen
//! (the controller finds it and tells by `Session::has_another_history`).
//!
//! `etcdctl snapshot restore` with the same names, URLs and token keeps the cluster id; another token changes it (measured,
//! 3.4.23). A store restored under its old id that has grown past the known revision before its first reply is noticed as
//! soon as the feed has opened its watch again, by the put that is known last. What remains: where that revision is compacted
//! meanwhile, it is noticed only by a key of an earlier put, within 10 s after the watch was cut (and else each 5 min), and
//! not at all where all keys that the feed reads are as they were, or were put later: then the list mends all. Until then
//! resumed watches may miss changes; leader writes stay safe, for the fence is checked in the new history.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Event, LeaseId, Listing, Pair, Store, StoreError, TroublesReceiver, Txn, TxnOutcome, WatchMessage};
use crate::bugs::{self, Bug};
use crate::latest::{Changes, Latest};

/// Messages of a watch that may wait; behind them the engine's own queue waits.
const WATCH_QUEUE: usize = 16;

/// One history of the store, as this process saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Counts from 1 since the process started; it is compared with nothing outside it.
    pub number: u64,
    /// The revision at which it was noticed; 0 where that is not known.
    pub began: i64,
}

/// A store that notices other histories. Clones share what is known.
#[derive(Clone, Debug)]
pub struct Horizon(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    known: Mutex<Known>,
    generation: Latest<Generation>,
}

#[derive(Debug)]
struct Known {
    number: u64,
    /// The highest revision seen in this generation.
    highest: i64,
    cluster: Option<u64>,
}

/// What was known before a request was sent.
#[derive(Clone, Copy, Debug)]
struct Before {
    number: u64,
    highest: i64,
}

impl Horizon {
    /// A store's horizon: its own where it has one, else a new one around it.
    #[must_use]
    pub fn over(store: Arc<dyn Store>) -> Self {
        if let Some(own) = store.horizon() {
            return own.clone();
        }
        let known = Mutex::new(Known { number: 1, highest: 0, cluster: None });
        Self(Arc::new(Inner { store, known, generation: Latest::new(Generation { number: 1, began: 0 }) }))
    }

    /// The generation, and its changes.
    #[must_use]
    pub fn generation(&self) -> &Latest<Generation> {
        &self.0.generation
    }

    /// The generation's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.generation.peek().number
    }

    /// The highest revision seen in this generation.
    #[must_use]
    pub fn highest(&self) -> i64 {
        self.known().highest
    }

    /// Somebody has a proof, gained in that generation, that it is over. Returns whether that is news: then the next one
    /// begins.
    pub fn another_history(&self, number: u64, proof: &str) -> bool {
        let mut known = self.known();
        let news = known.number == number;
        if news {
            self.begin(&mut known, 0, proof);
        }
        news
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before(&self) -> Before {
        let known = self.known();
        Before { number: known.number, highest: known.highest }
    }

    /// A reply came; `revision` is that of a linearizable one.
    fn after(&self, before: Before, revision: Option<i64>) {
        let cluster = self.0.store.cluster_id();
        let mut known = self.known();
        let other = cluster.is_some() && known.cluster.is_some() && cluster != known.cluster;
        known.cluster = cluster.or(known.cluster);
        if other {
            return self.begin(&mut known, revision.unwrap_or(0), "the store's cluster is another one");
        }
        // A reply to what was asked in an earlier generation says nothing about this one.
        let Some(revision) = revision.filter(|_| known.number == before.number) else { return };
        if revision < before.highest {
            let proof = format!("revision {} was known before the store answered with {revision}", before.highest);
            return self.begin(&mut known, revision, &proof);
        }
        known.highest = known.highest.max(revision);
    }

    /// Under the lock, so that the last generation begun is the last told.
    fn begin(&self, known: &mut Known, revision: i64, proof: &str) {
        if bugs::is(Bug::ResetUnnoticed) {
            return;
        }
        known.number = known.number.saturating_add(1);
        known.highest = revision;
        tracing::warn!(
            generation = known.number,
            proof,
            "the store has another history than before: everything is read anew"
        );
        self.0.generation.store(Arc::new(Generation { number: known.number, began: revision }));
    }

    /// This revision is known to have been in this generation.
    pub(super) fn saw(&self, number: u64, revision: i64) {
        let mut known = self.known();
        if known.number == number {
            known.highest = known.highest.max(revision);
        }
    }
}

#[async_trait]
impl Store for Horizon {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        let before = self.before();
        let listing = self.0.store.list(prefix, revision).await?;
        // A list of an earlier moment is as old as it was asked for.
        self.after(before, revision.is_none().then_some(listing.revision));
        Ok(listing)
    }

    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
        let before = self.before();
        let (revision, pair) = self.0.store.get(key).await?;
        self.after(before, Some(revision));
        Ok((revision, pair))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let before = self.before();
        let outcome = self.0.store.txn(txn).await?;
        let (TxnOutcome::Done { revision } | TxnOutcome::Refused { revision }) = outcome;
        self.after(before, Some(revision));
        Ok(outcome)
    }

    /// It ends with its generation: its revisions mean nothing in the next one.
    async fn watch(&self, prefixes: &[String], from_revision: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        // Made before the look at the number: a generation that begins in between is seen.
        let changes = self.0.generation.changes();
        let before = self.before();
        let messages = self.0.store.watch(prefixes, from_revision).await?;
        self.after(before, None);
        let (out, told) = mpsc::channel(WATCH_QUEUE);
        // The task ends with either end of the watch, or with the generation.
        tokio::spawn(pump(self.clone(), before.number, changes, messages, out));
        Ok(told)
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        let before = self.before();
        let granted = self.0.store.grant(ttl).await?;
        self.after(before, None);
        Ok(granted)
    }

    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        let before = self.before();
        let renewed = self.0.store.renew(lease).await;
        self.after(before, None);
        renewed
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.store.revoke(lease).await
    }

    fn troubles(&self) -> Option<TroublesReceiver> {
        self.0.store.troubles()
    }

    fn cluster_id(&self) -> Option<u64> {
        self.0.store.cluster_id()
    }

    fn horizon(&self) -> Option<&Horizon> {
        Some(self)
    }

    fn describe(&self) -> String {
        self.0.store.describe()
    }
}

async fn pump(
    horizon: Horizon,
    number: u64,
    mut changes: Changes,
    mut messages: mpsc::Receiver<WatchMessage>,
    out: mpsc::Sender<WatchMessage>,
) {
    loop {
        if horizon.number() != number {
            return;
        }
        let message = tokio::select! {
            biased;
            () = out.closed() => return,
            () = changes.wait() => continue,
            message = messages.recv() => message,
        };
        let Some(message) = message else { return };
        if let WatchMessage::Events(events) = &message
            && let Some(revision) = events.iter().map(Event::revision).max()
        {
            horizon.saw(number, revision);
        }
        if out.send(message).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

    use bytes::Bytes;

    use super::*;
    use crate::clock::Clock;
    use crate::store::{Embedded, Op};

    /// A store that can be sent back, with a cluster id.
    #[derive(Debug)]
    struct Restored {
        inner: Embedded,
        back: AtomicI64,
        cluster: AtomicU64,
    }

    impl Restored {
        fn new() -> Arc<Self> {
            let inner = Embedded::open(None, Clock::system()).unwrap();
            Arc::new(Self { inner, back: AtomicI64::new(0), cluster: AtomicU64::new(0) })
        }
        async fn put(&self, key: &str) {
            let op = Op::Put { key: key.to_owned(), value: Bytes::new(), lease: None };
            self.inner.txn(Txn { compares: vec![], ops: vec![op] }).await.unwrap();
        }
    }

    #[async_trait]
    impl Store for Restored {
        async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
            let listing = self.inner.list(prefix, revision).await?;
            Ok(Listing { revision: listing.revision - self.back.load(SeqCst), ..listing })
        }
        async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
            let (revision, pair) = self.inner.get(key).await?;
            Ok((revision - self.back.load(SeqCst), pair))
        }
        async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
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
        fn cluster_id(&self) -> Option<u64> {
            Some(self.cluster.load(SeqCst)).filter(|id| *id > 0)
        }
        fn describe(&self) -> String {
            "restored".to_owned()
        }
    }

    async fn next(watch: &mut mpsc::Receiver<WatchMessage>) -> Option<WatchMessage> {
        tokio::time::timeout(Duration::from_secs(5), watch.recv()).await.expect("a message or the end in time")
    }

    #[tokio::test]
    async fn a_reply_below_what_was_known_begins_a_generation_and_ends_its_watches() {
        let store = Restored::new();
        let horizon = Horizon::over(store.clone());
        let (revision, _) = horizon.get("a").await.unwrap();
        let mut watch = horizon.watch(&["a".to_owned()], revision + 1).await.unwrap();
        for _ in 0..3 {
            store.put("a").await;
            assert!(matches!(next(&mut watch).await, Some(WatchMessage::Events(_))));
        }
        assert_eq!(horizon.highest(), revision + 3, "the watch's revisions count, no reply came since");
        // Still ahead of every reply, but behind what the watch told.
        store.back.store(1, SeqCst);
        assert_eq!(horizon.get("a").await.unwrap().0, revision + 2);
        assert_eq!(**horizon.generation().peek(), Generation { number: 2, began: revision + 2 });
        assert_eq!(next(&mut watch).await, None, "the watch ends with its generation");
        horizon.list("a", None).await.unwrap();
        horizon.list("a", Some(revision + 3)).await.unwrap();
        assert_eq!(horizon.number(), 2, "and the new one goes on");
    }

    #[tokio::test]
    async fn a_revision_that_was_heard_of_is_known_too() {
        let store = Restored::new();
        let horizon = Horizon::over(store.clone());
        let (revision, _) = horizon.get("a").await.unwrap();
        horizon.saw(2, revision + 9);
        horizon.get("a").await.unwrap();
        assert_eq!(horizon.number(), 1, "that was of another generation");
        horizon.saw(1, revision + 9);
        horizon.get("a").await.unwrap();
        assert_eq!(horizon.number(), 2);
    }

    #[tokio::test]
    async fn another_cluster_is_another_generation_although_its_revision_is_higher() {
        let store = Restored::new();
        let horizon = Horizon::over(store.clone());
        horizon.get("a").await.unwrap();
        for (id, number) in [(7, 1), (7, 1), (8, 2), (0, 2), (8, 2)] {
            store.cluster.store(id, SeqCst);
            store.put("a").await;
            // A renewal's answer tells it too, though it is an error.
            let _ = horizon.renew(LeaseId(1)).await;
            horizon.get("a").await.unwrap();
            assert_eq!(horizon.number(), number, "{id}");
        }
    }

    #[tokio::test]
    async fn one_horizon_is_shared_and_an_old_proof_counts_for_nothing() {
        let horizon = Horizon::over(Restored::new());
        let same = Horizon::over(Arc::new(horizon.clone()));
        assert!(same.another_history(1, "a key was put before"));
        assert_eq!(horizon.number(), 2);
        assert!(!same.another_history(1, "the same again"));
        assert_eq!(horizon.number(), 2);
    }
}
