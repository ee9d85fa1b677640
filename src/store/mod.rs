//! Where operators' keys and nodes' keys live: one small trait, two engines (`etcd`, `embedded`), and what is built on
//! the trait alone: keys of nodes, the feed (list, watch, resync), the session lease, election and the fence.
//! What the values mean is left to `config` and `controller`.
//!
//! Keys given to a store are relative to ROOT (no leading slash); the engine adds and cuts ROOT.

mod batch;
pub mod embedded;
pub mod etcd;
pub mod feed;
pub mod horizon;
pub mod keys;
pub mod metered;
pub mod session;
pub mod troubles;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

pub use batch::write_batches;
pub use embedded::Embedded;
pub use etcd::{Etcd, EtcdOptions};
pub use horizon::{Generation, Horizon};
pub use metered::{Metered, StoreStats};
pub use troubles::{Troubles, TroublesReceiver};

/// Most operations in one transaction; longer batches are split by `write_batches` (etcd refuses 129).
pub const MAX_TXN_OPS: usize = 100;

/// Most bytes of keys and values in one transaction. etcd refuses a request of 1.5 MiB with all that is around the
/// values (measured: a value of 1535 KiB passes, one of 1536 KiB does not); this leaves room for that.
pub const MAX_TXN_BYTES: usize = 1_400_000;

/// A lease's id; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// One stored pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Relative to ROOT.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Revision of the put that made it (again).
    pub create_revision: i64,
    /// Revision of its last put.
    pub mod_revision: i64,
    /// The lease it hangs on.
    pub lease: Option<LeaseId>,
}

/// All pairs below a prefix at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The revision that it shows.
    pub revision: i64,
    /// Sorted by key.
    pub pairs: Vec<Pair>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Put.
    Put(Pair),
    /// Deleted, or its lease ended.
    Delete {
        /// Relative to ROOT.
        key: String,
        /// Revision of the delete.
        revision: i64,
    },
}

impl Event {
    /// The key, relative to ROOT.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(pair) => &pair.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        match self {
            Self::Put(pair) => pair.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// What a raw watch delivers; it ends (channel closed) when the connection is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchMessage {
    /// Changes. Below one prefix they come in order of revision, and a revision is never split over two messages; changes
    /// below different prefixes may overtake each other.
    Events(Vec<Event>),
    /// The watch lives; it says nothing about how far it has come.
    Alive,
    /// The start revision is compacted; nothing more will come.
    Compacted {
        /// The compacted revision: only later ones can be watched; 0 where the store does not say.
        compact_revision: i64,
    },
}

/// A guard of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key exists with this create revision.
    CreateRevision(String, i64),
    /// The key exists with this modification revision.
    ModRevision(String, i64),
    /// The key hangs on this lease.
    Lease(String, LeaseId),
    /// The key has this value.
    Value(String, Bytes),
}

/// A write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Put a key, on a lease if given.
    Put {
        /// Relative to ROOT.
        key: String,
        /// The value.
        value: Bytes,
        /// The lease it hangs on.
        lease: Option<LeaseId>,
    },
    /// Delete one key.
    Delete(String),
}

/// All or nothing: `ops` happen if every compare holds. At most `MAX_TXN_OPS` operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// What is written then.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Whether any store would take it: bounds that etcd has, kept by both engines so that they refuse alike.
    ///
    /// # Errors
    /// `StoreError::Invalid`: more than `MAX_TXN_OPS` operations or compares, more than `MAX_TXN_BYTES`, a key that is
    /// empty, or written twice.
    pub fn check(&self) -> Result<(), StoreError> {
        let most = self.ops.len().max(self.compares.len());
        if most > MAX_TXN_OPS {
            return Err(StoreError::Invalid(format!("{most} operations in one transaction; at most {MAX_TXN_OPS}")));
        }
        let mut keys = BTreeSet::new();
        let mut bytes = 0_usize;
        for op in &self.ops {
            let key = op.key();
            if key.is_empty() || !keys.insert(key) {
                return Err(StoreError::Invalid(format!("key {key:?} is empty or written twice in a transaction")));
            }
            bytes = bytes.saturating_add(op.bytes());
        }
        if bytes > MAX_TXN_BYTES {
            let keys: Vec<_> = keys.into_iter().take(3).collect();
            let keys = keys.join(", ");
            return Err(StoreError::Invalid(format!("{bytes} bytes for {keys}; at most {MAX_TXN_BYTES}")));
        }
        Ok(())
    }
}

impl Op {
    /// The key, relative to ROOT.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len().saturating_add(value.len()),
            Self::Delete(key) => key.len(),
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Written at this revision.
    Done {
        /// The store's revision after it.
        revision: i64,
    },
    /// A compare did not hold; nothing was written.
    Refused {
        /// The store's revision at the time.
        revision: i64,
    },
}

/// What a store is asked for. Every call ends within the engine's own time-out.
///
/// Calls that must be linearizable: `list` without a revision, `txn`. A call that failed with an ambiguous error
/// (`StoreError::is_ambiguous`) may have happened; guards make a repeated one harmless.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// All pairs whose key begins with `prefix`, at `revision` or at the newest.
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError>;

    /// One key.
    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError>;

    /// All or nothing.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;

    /// Changes of all keys below any of the prefixes, from `from_revision` (> 0) on. The channel is bounded; it closes
    /// when the connection is lost or found dead.
    async fn watch(&self, prefixes: &[String], from_revision: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError>;

    /// A new lease; the store may grant a longer one than asked for.
    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError>;

    /// Renews a lease once and returns the time it has from now.
    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError>;

    /// Ends a lease; its keys are deleted. A lease that is gone already is no error.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// What keeps the store from taking writes although it answers, where it can tell.
    fn troubles(&self) -> Option<TroublesReceiver> {
        None
    }

    /// The cluster that answered last, where the engine can tell clusters apart.
    fn cluster_id(&self) -> Option<u64> {
        None
    }

    /// What notices another history of the store, where it is wrapped in that.
    fn horizon(&self) -> Option<&Horizon> {
        None
    }

    /// One sentence that names the engine and where it is, without secrets.
    fn describe(&self) -> String;
}

/// Why a store call failed. Each text names its cause, so that it can stand alone in a log field; no error has a
/// `source`, so that a printed chain does not repeat it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No endpoint answered in time; it may or may not have happened.
    #[error("the store does not answer: {reason}")]
    Unavailable {
        /// The last thing that was seen, with the endpoint.
        reason: String,
        /// The cause, which the reason names already: it is no `source`, or it would be printed twice.
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The revision asked for is compacted.
    #[error("revision is compacted; the oldest left is {compact_revision}")]
    Compacted {
        /// The oldest revision left, 0 where the store does not say.
        compact_revision: i64,
    },
    /// The lease is gone.
    #[error("lease not found")]
    LeaseNotFound,
    /// The store refuses writes for want of space (etcd's NOSPACE alarm).
    #[error("the store is out of space: {0}")]
    NoSpace(String),
    /// The request can never succeed as it is (too large, too many operations).
    #[error("the store refuses the request: {0}")]
    Invalid(String),
    /// User, password, certificate or role do not suffice.
    #[error("the store denies access: {0}")]
    Denied(String),
    /// The disk of the embedded store failed.
    #[error("the store's disk fails: {reason}")]
    Disk {
        /// What was attempted.
        reason: String,
        /// The cause, which the reason names already: it is no `source`, or it would be printed twice.
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoSpace(_) | Self::Disk { .. })
    }

    /// Whether the call may have taken effect.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Disk { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_cause_once_alone_and_with_its_chain() {
        let cause = || Some(Box::from(std::io::Error::other("no space left")));
        let errors = [
            StoreError::Unavailable { reason: "http://a:1: no space left".to_owned(), cause: cause() },
            StoreError::Disk { reason: "writing x: no space left".to_owned(), cause: cause() },
            StoreError::NoSpace("no space left".to_owned()),
        ];
        for error in errors {
            let alone = error.to_string();
            let chain = format!("{:#}", anyhow::Error::from(error));
            assert_eq!(alone, chain);
            assert_eq!(chain.matches("no space left").count(), 1, "{chain}");
        }
    }
}
