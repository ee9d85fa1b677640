//! The single-process store: memory, and a file for what must survive. It needs no peer, so the first run needs
//! nothing and tests are fast. Two nodes need etcd: a second process on the same directory is refused.

mod disk;
pub(crate) mod state;
#[cfg(test)]
mod trouble_tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use self::disk::Disk;
use self::state::{Plan, Planned, State};
use super::{LeaseId, Listing, Pair, Store, StoreError, Troubles, TroublesReceiver, Txn, TxnOutcome, WatchMessage};
use crate::clock::Clock;

/// Messages that may wait for a slow reader; behind them the history waits.
const WATCH_QUEUE: usize = 16;
/// About how many changes one message carries.
const WATCH_BATCH: usize = 500;
/// The shortest lease.
const MIN_TTL: Duration = Duration::from_secs(1);
/// How often the task that ends leases looks, where none ends sooner. Not above `MIN_TTL`: a new lease is never missed.
const EXPIRY_LOOK: Duration = MIN_TTL;

/// How often a disk that failed is tried again where nobody writes.
const MEND_LOOK: Duration = Duration::from_secs(5);

/// A store in this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Embedded(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    /// One writer at a time, held over the disk's commit, so that readers go on meanwhile.
    writer: Mutex<()>,
    state: Mutex<State>,
    disk: Option<Disk>,
    /// The revision, for those who watch.
    revision: watch::Sender<i64>,
    /// Why the last write to the disk failed; none: it went well.
    troubles: Troubles,
    upkeep: std::sync::Once,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these; should it ever, the data are still whole (plans apply in one go).
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Durable first, visible second. The caller holds the writer's lock since it planned.
    fn write(&self, plan: Plan) -> Result<(), StoreError> {
        if let Some(disk) = &self.disk
            && !plan.changes.is_empty()
        {
            self.commit(disk, &plan)?;
        }
        let revision = plan.revision;
        self.state().apply(plan);
        self.revision.send_replace(revision);
        Ok(())
    }

    /// Writes to the disk, and tells whether that goes well.
    fn commit(&self, disk: &Disk, plan: &Plan) -> Result<(), StoreError> {
        let done = disk.commit(plan, || self.state().all());
        let path = disk.path().display().to_string();
        match &done {
            Err(error) => {
                let reason = format!("edits and statuses are not kept until a write works again: {error}");
                if self.troubles.note(&path, reason) {
                    tracing::error!(%error, "the store's file cannot be written; reads go on");
                }
            }
            Ok(()) => {
                if self.troubles.gone(&path) {
                    tracing::info!(path, "the store's file is written again");
                }
            }
        }
        done
    }

    /// Tries a disk that failed: an edit need not be the first to find out that it is well again.
    fn mend(&self) -> Result<(), StoreError> {
        let _writer = lock(&self.writer);
        let plan = self.state().plan_nothing();
        match &self.disk {
            Some(disk) if self.troubles.any() => self.commit(disk, &plan),
            _ => Ok(()),
        }
    }

    fn txn(&self, txn: &Txn) -> Result<TxnOutcome, StoreError> {
        let _writer = lock(&self.writer);
        let planned = self.state().plan(txn)?;
        match planned {
            Planned::Settled(outcome) => Ok(outcome),
            Planned::Write(plan) => {
                let revision = plan.revision;
                self.write(plan).map(|()| TxnOutcome::Done { revision })
            }
        }
    }

    fn end_leases(&self, pick: impl FnOnce(&State) -> Vec<LeaseId>) -> Result<usize, StoreError> {
        let _writer = lock(&self.writer);
        let plan = {
            let state = self.state();
            let ended = pick(&state);
            if ended.is_empty() {
                return Ok(0);
            }
            state.plan_end(ended)
        };
        let deleted = plan.changes.len();
        self.write(plan).map(|()| deleted)
    }

    fn expire(&self) -> Result<usize, StoreError> {
        let now = self.clock.mono();
        self.end_leases(|state| state.due(now))
    }
}

impl Embedded {
    /// Opens the store below `dir`, or one in memory alone. Leases end by `clock`.
    ///
    /// The directory is made with mode 0700 where it is missing, its files with 0600. Blocks for the disk.
    ///
    /// # Errors
    /// `StoreError::Disk`: the directory cannot be made, read or written, is another format, or is in use by
    /// another process.
    pub fn open(dir: Option<&Path>, clock: Clock) -> Result<Self, StoreError> {
        Self::open_with(dir, clock, disk::plain)
    }

    fn open_with(dir: Option<&Path>, clock: Clock, opener: disk::Opener) -> Result<Self, StoreError> {
        let (disk, state) = match dir {
            None => (None, State::new(1, [])),
            Some(dir) => {
                let (disk, revision, pairs) = Disk::open(dir, opener)?;
                // One ahead: the keys on leases are gone with the process that held them.
                (Some(disk), State::new(revision.saturating_add(1), pairs))
            }
        };
        let revision = watch::Sender::new(state.revision());
        let (writer, state, upkeep) = (Mutex::new(()), Mutex::new(state), std::sync::Once::new());
        let troubles = Troubles::default();
        Ok(Self(Arc::new(Inner { clock, writer, state, disk, revision, troubles, upkeep })))
    }

    /// Forgets the history up to and with `revision`, as etcd's compaction does.
    pub fn compact(&self, revision: i64) {
        let _writer = lock(&self.0.writer);
        self.0.state().compact(revision);
    }

    /// Ends the leases whose time is over and returns how many keys went with them. A task does this for leases of the
    /// system's clock, and every call does it first: only a test that moves a manual clock needs it.
    ///
    /// # Errors
    /// `StoreError::Disk`
    pub async fn expire_due(&self) -> Result<usize, StoreError> {
        self.blocking(Inner::expire).await
    }

    /// Runs a write: in place without a disk, else on a thread that may block, where it also ends when the caller is gone.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.0.disk.is_none() {
            return work(&self.0);
        }
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| {
            Err(StoreError::Disk { reason: format!("the writer ended: {e}"), cause: Some(e.into()) })
        })
    }

    /// What each call does first. It also takes part in tokio's budget: calls in memory never wait, and a task that only
    /// makes such calls would never give way to others. A lease that the disk keeps from ending stays: reads go on.
    async fn settle(&self) {
        tokio::task::consume_budget().await;
        let now = self.0.clock.mono();
        let due = self.0.state().next_end().is_some_and(|end| end <= now);
        if due && let Err(error) = self.expire_due().await {
            tracing::debug!(%error, "a lease could not be ended; it is tried again");
        }
    }

    /// Starts the task that ends leases and tries a failed disk again; it lives as long as the store.
    fn keep_up(&self) {
        self.0.upkeep.call_once(|| {
            tokio::spawn(keep_up(Arc::downgrade(&self.0)));
        });
    }
}

async fn keep_up(store: Weak<Inner>) {
    let mut mended = tokio::time::Instant::now();
    loop {
        let Some(inner) = store.upgrade() else { return };
        let embedded = Embedded(inner);
        embedded.settle().await;
        let failing = embedded.0.troubles.any();
        if !failing {
            mended = tokio::time::Instant::now();
        } else if mended.elapsed() >= MEND_LOOK {
            mended = tokio::time::Instant::now();
            // It is told by `commit`.
            let _ = embedded.blocking(Inner::mend).await;
        }
        let now = embedded.0.clock.mono();
        let next = embedded.0.state().next_end().map_or(EXPIRY_LOOK, |end| end.since(now));
        drop(embedded);
        // At least a few milliseconds, and a failing disk must not make this spin.
        let shortest = if failing { EXPIRY_LOOK } else { Duration::from_millis(5) };
        tokio::time::sleep(next.clamp(shortest, EXPIRY_LOOK)).await;
    }
}

async fn pump(
    store: Weak<Inner>,
    mut revision: watch::Receiver<i64>,
    prefixes: Vec<String>,
    from: i64,
    out: mpsc::Sender<WatchMessage>,
) {
    let mut next = from;
    loop {
        revision.borrow_and_update();
        loop {
            let Some(batch) = store.upgrade().map(|inner| inner.state().events(&prefixes, next, WATCH_BATCH)) else {
                return;
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    let compact_revision = match error {
                        StoreError::Compacted { compact_revision } => compact_revision,
                        _ => 0,
                    };
                    let _ = out.send(WatchMessage::Compacted { compact_revision }).await;
                    return;
                }
            };
            if batch.next == next {
                break;
            }
            next = batch.next;
            if !batch.events.is_empty() && out.send(WatchMessage::Events(batch.events)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            biased;
            () = out.closed() => return,
            changed = revision.changed() => if changed.is_err() { return },
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        self.settle().await;
        self.0.state().list(prefix, revision)
    }

    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
        self.settle().await;
        let state = self.0.state();
        Ok((state.revision(), state.get(key)))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        txn.check()?;
        self.settle().await;
        self.blocking(move |inner| inner.txn(&txn)).await
    }

    async fn watch(&self, prefixes: &[String], from_revision: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        if from_revision <= 0 {
            return Err(StoreError::Invalid(format!("a watch from revision {from_revision}")));
        }
        let (out, messages) = mpsc::channel(WATCH_QUEUE);
        // The task ends with its reader, or with the store.
        let revision = self.0.revision.subscribe();
        tokio::spawn(pump(Arc::downgrade(&self.0), revision, prefixes.to_vec(), from_revision, out));
        Ok(messages)
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        let ttl = ttl.max(MIN_TTL);
        let id = self.0.state().grant(ttl, self.0.clock.mono());
        self.keep_up();
        Ok((id, ttl))
    }

    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.settle().await;
        self.0.state().renew(lease, self.0.clock.mono())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.blocking(move |inner| {
            inner.end_leases(|state| if state.has_lease(lease) { vec![lease] } else { Vec::new() })
        })
        .await
        .map(|_| ())
    }

    fn troubles(&self) -> Option<TroublesReceiver> {
        Some(self.0.troubles.subscribe())
    }

    fn describe(&self) -> String {
        match &self.0.disk {
            Some(disk) => format!("embedded store in {}", disk.path().display()),
            None => "embedded store in memory".to_owned(),
        }
    }
}
