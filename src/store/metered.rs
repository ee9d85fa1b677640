//! A store that measures another one: how long each kind of call takes, and how often it fails. It changes nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::mpsc, time::Instant};

use super::{Horizon, LeaseId, Listing, Pair, Store, StoreError, TroublesReceiver, Txn, TxnOutcome, WatchMessage};
use crate::meters::Timings;

/// One kind of call.
#[derive(Debug, Default)]
pub struct Calls {
    /// How long they took, failed ones included.
    pub took: Timings,
    /// How many failed.
    pub failed: AtomicU64,
}

/// Figures of a store.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Reads: lists and single keys.
    pub read: Calls,
    /// Transactions.
    pub txn: Calls,
    /// Leases: granted, renewed, revoked.
    pub lease: Calls,
    /// Watches opened.
    pub watch: Calls,
}

impl StoreStats {
    /// All kinds by their word.
    #[must_use]
    pub const fn all(&self) -> [(&'static str, &Calls); 4] {
        [("read", &self.read), ("txn", &self.txn), ("lease", &self.lease), ("watch", &self.watch)]
    }
}

impl Calls {
    async fn measure<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let began = Instant::now();
        let outcome = call.await;
        self.took.record(began.elapsed());
        if outcome.is_err() {
            self.failed.fetch_add(1, Relaxed);
        }
        outcome
    }
}

/// The measured store.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Store>,
    stats: Arc<StoreStats>,
}

impl Metered {
    /// Around a store.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, stats: Arc::default() }
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> Arc<StoreStats> {
        Arc::clone(&self.stats)
    }
}

#[async_trait]
impl Store for Metered {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        self.stats.read.measure(self.inner.list(prefix, revision)).await
    }

    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
        self.stats.read.measure(self.inner.get(key)).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.stats.txn.measure(self.inner.txn(txn)).await
    }

    async fn watch(&self, prefixes: &[String], from_revision: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        self.stats.watch.measure(self.inner.watch(prefixes, from_revision)).await
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        self.stats.lease.measure(self.inner.grant(ttl)).await
    }

    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.stats.lease.measure(self.inner.renew(lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.stats.lease.measure(self.inner.revoke(lease)).await
    }

    fn troubles(&self) -> Option<TroublesReceiver> {
        self.inner.troubles()
    }

    fn cluster_id(&self) -> Option<u64> {
        self.inner.cluster_id()
    }

    fn horizon(&self) -> Option<&Horizon> {
        self.inner.horizon()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, store::Embedded};

    #[tokio::test]
    async fn calls_and_failures_are_counted_by_kind() {
        let store = Metered::new(Arc::new(Embedded::open(None, Clock::system()).unwrap()));
        store.list("", None).await.unwrap();
        store.txn(Txn::default()).await.unwrap();
        store.renew(LeaseId(77)).await.unwrap_err();
        let stats = store.stats();
        let counted: Vec<_> =
            stats.all().iter().map(|(word, c)| (*word, c.took.figures().count, c.failed.load(Relaxed))).collect();
        assert_eq!(counted, [("read", 1, 0), ("txn", 1, 0), ("lease", 1, 1), ("watch", 0, 0)]);
    }
}
