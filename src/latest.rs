//! A value that is swapped whole, and a wake-up that carries no data: readers take the latest and never wait.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

/// The writing side and the reading side at once; clones share the value.
#[derive(Debug)]
pub struct Latest<T> {
    value: Arc<ArcSwap<T>>,
    version: Arc<Version>,
}

/// How often the value was swapped. Readers are woken in the order in which they wait: a simulation must give one history.
#[derive(Debug, Default)]
struct Version {
    count: AtomicU64,
    told: Notify,
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), version: Arc::clone(&self.version) }
    }
}

impl<T> Latest<T> {
    /// Starts with a value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value: Arc::new(ArcSwap::from_pointee(value)), version: Arc::default() }
    }

    /// The latest value; never waits.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// The latest value for a short look, cheaper than `load`: do not hold it over an await.
    #[must_use]
    pub fn peek(&self) -> arc_swap::Guard<Arc<T>> {
        self.value.load()
    }

    /// How often the value was swapped. Read before `peek`, it tells later whether what was seen then is still the latest.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.count.load(Ordering::SeqCst)
    }

    /// Swaps the value, then wakes all who wait.
    pub fn store(&self, value: Arc<T>) {
        self.value.store(value);
        self.version.count.fetch_add(1, Ordering::SeqCst);
        self.version.told.notify_waiters();
    }

    /// A wake-up for one reader; it sees changes after this call.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes { seen: self.version(), version: Arc::clone(&self.version) }
    }
}

/// Waits for the next change; changes in between are one.
#[derive(Debug)]
pub struct Changes {
    seen: u64,
    version: Arc<Version>,
}

impl Changes {
    /// Returns once the value was swapped since the last return. Who waits for a writer that may be gone, waits for its
    /// end as well.
    pub async fn wait(&mut self) {
        loop {
            // Made before the look at the count: a swap in between wakes it.
            let told = self.version.told.notified();
            let count = self.version.count.load(Ordering::SeqCst);
            if count != self.seen {
                self.seen = count;
                return;
            }
            told.await;
        }
    }
}
