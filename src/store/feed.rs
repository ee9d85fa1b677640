//! List, then watch, for ever: what stands below some prefixes as a stream of changes without gaps. It hides lost
//! connections, compaction and a store restored from a backup; an error never looks like emptiness.
//! What the keys mean is left to `config` and `controller`.

mod memory;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::memory::{Memory, Replaced};
use super::{Event, Horizon, Listing, Pair, Store, StoreError, Troubles, WatchMessage};
use crate::bugs::{self, Bug};
use crate::chance::Chance;

/// What a feed follows, and its times.
#[derive(Clone, Debug)]
pub struct FeedOptions {
    /// Prefixes relative to ROOT; none may begin another.
    pub prefixes: Vec<String>,
    /// How often everything is listed again, as a net below the watch (5 min).
    pub resync_every: Duration,
    /// The shortest wait after a failure (50 ms); it doubles from try to try.
    pub backoff_min: Duration,
    /// The longest wait after a failure (1 s).
    pub backoff_max: Duration,
    /// Where a denial is told, by prefix.
    pub troubles: Troubles,
    /// Spreads waits.
    pub chance: Chance,
    /// What the reader knows already, from disk: the first list is told as the difference from it, deletes included. None at first.
    pub seed: Vec<Pair>,
    /// Where a list is asked for: a watch that lives may lag, and a new leader cannot wait for it.
    pub lists: Arc<Notify>,
}

impl FeedOptions {
    /// The usual times, and a chance of the process's own.
    #[must_use]
    pub fn new(prefixes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            prefixes: prefixes.into_iter().map(Into::into).collect(),
            resync_every: Duration::from_secs(300),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            troubles: Troubles::default(),
            chance: Chance::system(),
            seed: Vec::new(),
            lists: Arc::default(),
        }
    }
}

/// What a feed tells. Applied in order, the events give what the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedItem {
    /// Everything was listed: at first, after a compaction, after a reset, and each `resync_every`.
    Synced {
        /// The revision of the list.
        revision: i64,
        /// The difference from what was told before, deletes included; the first time from the seed, without one every pair
        /// as a put.
        events: Vec<Event>,
        /// The store has another history than what was told before (restored from a backup): revisions and terms from before
        /// mean nothing now; every pair comes as a put again, and what is there no more as a delete.
        reset: bool,
        /// The store's generation that it was listed in.
        generation: u64,
    },
    /// Changes, never empty; below one prefix in order of revision.
    Events(Vec<Event>),
    /// The store cannot be reached; what was told stays the last known.
    Lost {
        /// What the last try saw.
        reason: String,
    },
    /// It is reached again; what was missed follows, if it was not told already.
    Back,
}

/// Items that may wait for a slow reader; behind them the store's history waits.
const QUEUE: usize = 16;

/// Starts a feed. It ends when `cancel` is cancelled or the receiver is dropped, and the channel closes then.
#[must_use]
pub fn spawn(
    store: Arc<dyn Store>,
    mut options: FeedOptions,
    cancel: CancellationToken,
) -> (mpsc::Receiver<FeedItem>, JoinHandle<()>) {
    let (out, items) = mpsc::channel(QUEUE);
    let memory = Memory::new(&options.prefixes, &std::mem::take(&mut options.seed));
    let store = Horizon::over(store);
    let feed = Feed { generation: store.number(), store, options, out, memory, lost: false, standing: None };
    let task = tokio::spawn(async move { cancel.run_until_cancelled_owned(feed.run()).await.unwrap_or_default() });
    (items, task)
}

/// After a watch was cut everything is listed within this. A restore from a backup cuts every watch, and may be all that is
/// seen of it: the look at the past (`Feed::remembers`) needs history that a compaction may have taken.
const RESYNC_SOON: Duration = Duration::from_secs(10);
/// How long a periodic list may take.
const RESYNC_BOUND: Duration = Duration::from_secs(2);

/// The proof that `Feed::remembers` finds.
const ANOTHER_PAST: &str = "at the revision of the put that is known last it held something else";

/// A list of everything.
struct Listed {
    /// The store's generation that it was begun in.
    generation: u64,
    listing: Listing,
    /// The store's past is not the one that is known.
    other_past: bool,
}

/// The reader is gone.
struct Gone;

/// Why a watch ended.
enum Ended {
    Gone,
    /// The connection was lost, or a call failed.
    Lost(String),
    /// Changes were missed for good, or the store has another history.
    Relist,
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { .. } => Self::Relist,
            other => Self::Lost(other.to_string()),
        }
    }
}

struct Feed {
    store: Horizon,
    /// The store's generation that the memory is of.
    generation: u64,
    options: FeedOptions,
    out: mpsc::Sender<FeedItem>,
    memory: Memory,
    /// `Lost` was told, `Back` not yet.
    lost: bool,
    /// Since when the watch of this attempt is followed; none where it did not come so far.
    standing: Option<tokio::time::Instant>,
}

impl Feed {
    async fn run(mut self) {
        let mut relist = true;
        let mut failures = 0_u32;
        loop {
            let before = self.memory.revision();
            self.standing = None;
            let Err(ended) = self.attempt(relist).await;
            if self.standing.is_some_and(|since| since.elapsed() >= self.options.backoff_max) {
                // It stood for a while: what broke now is a new trouble. (An attempt at a silent store takes long as well.)
                failures = 0;
            }
            match ended {
                Ended::Gone => return,
                Ended::Relist => {
                    // A list that is compacted again and again (a very busy store) must not spin.
                    relist = true;
                    failures += 1;
                    if failures > 1 {
                        self.wait(failures).await;
                    }
                }
                Ended::Lost(reason) => {
                    // What was listed stays listed: the next try resumes where this one came to.
                    relist = relist && self.memory.revision() == before;
                    failures += 1;
                    // One cut is mended in silence, at once; it is a loss when the first try to mend it fails.
                    if failures > 1 || self.memory.revision() == 0 {
                        if self.tell_lost(reason).await.is_err() {
                            return;
                        }
                        self.wait(failures).await;
                    }
                }
            }
            if self.out.is_closed() {
                return;
            }
        }
    }

    async fn wait(&self, failures: u32) {
        let factor = 1_u32 << failures.saturating_sub(1).min(10);
        let longest = self.options.backoff_min.saturating_mul(factor).min(self.options.backoff_max);
        tokio::time::sleep(self.options.chance.jitter(longest)).await;
    }

    async fn tell_lost(&mut self, reason: String) -> Result<(), Gone> {
        if self.lost {
            return Ok(());
        }
        self.lost = true;
        if self.memory.revision() == 0 {
            tracing::warn!(reason, "the store cannot be read yet; it is tried again");
        } else {
            tracing::warn!(reason, "the store is lost; what was read from it stays in force");
        }
        self.send(FeedItem::Lost { reason }).await
    }

    async fn send(&self, item: FeedItem) -> Result<(), Gone> {
        self.out.send(item).await.map_err(|_| Gone)
    }

    fn note(&self, prefix: &str, error: &StoreError) {
        if self.options.troubles.note_denied(prefix, error) {
            tracing::error!(prefix, %error, "the store's user may not read this; it is tried again");
        }
    }

    /// Lists if asked to, watches from there, until something breaks.
    async fn attempt(&mut self, relist: bool) -> Result<std::convert::Infallible, Ended> {
        let soon = !relist && !self.is_over();
        if !soon {
            self.sync().await?;
        }
        let first = self.options.prefixes.first().map_or("", String::as_str);
        let mut watch = match self.store.watch(&self.options.prefixes, self.memory.resume()).await {
            Err(denied @ StoreError::Denied(_)) => {
                // A watch does not say which of them; lists do.
                self.list().await?;
                return Err(denied.into());
            }
            watch => watch?,
        };
        // A restored store would leave a watch from a revision ahead of it silent. This read is begun after the watch is
        // open, so that a restore in between is seen as well.
        let (revision, _) = self.store.get(first).await.inspect_err(|e| self.note(first, e))?;
        // The watch is of all of them.
        for prefix in &self.options.prefixes {
            self.options.troubles.gone(prefix);
        }
        if self.is_over() || revision < self.memory.revision() {
            return Err(Ended::Relist);
        }
        if soon && !self.remembers(revision).await? {
            self.store.another_history(self.generation, ANOTHER_PAST);
            return Err(Ended::Relist);
        }
        if self.lost {
            self.lost = false;
            tracing::info!(revision, "the store is back");
            self.send(FeedItem::Back).await?;
        }
        self.follow(&mut watch, soon).await
    }

    /// Whether the store's history that the memory is of is over.
    fn is_over(&self) -> bool {
        self.store.number() != self.generation
    }

    async fn follow(
        &mut self,
        watch: &mut mpsc::Receiver<WatchMessage>,
        soon: bool,
    ) -> Result<std::convert::Infallible, Ended> {
        self.standing = Some(tokio::time::Instant::now());
        // Spread, so that nodes that came back at one moment do not list at one moment for ever.
        let every = self.options.resync_every;
        let first = if soon { RESYNC_SOON.min(every) } else { every };
        let resync = tokio::time::sleep(self.options.chance.jitter(first));
        tokio::pin!(resync);
        let asked = Arc::clone(&self.options.lists);
        loop {
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(Ended::Gone),
                () = asked.notified() => resync.as_mut().reset(tokio::time::Instant::now()),
                () = &mut resync => {
                    // Changes wait meanwhile, so it has little time. The watch goes on whatever becomes of this.
                    match tokio::time::timeout(RESYNC_BOUND, self.list()).await {
                        // Another history: the watch too must begin anew.
                        Ok(Ok(_)) if self.is_over() => return Err(Ended::Relist),
                        Ok(Ok(listed)) => self.take(listed).await?,
                        Ok(Err(StoreError::Compacted { .. })) => return Err(Ended::Relist),
                        Ok(Err(error)) => tracing::warn!(%error, "the periodic list failed"),
                        Err(_) => tracing::warn!("the periodic list took too long"),
                    }
                    resync.as_mut().reset(tokio::time::Instant::now() + every);
                }
                message = watch.recv() => match message {
                    None if self.is_over() => return Err(Ended::Relist),
                    None => return Err(Ended::Lost("the watch was cut".to_owned())),
                    Some(WatchMessage::Compacted { compact_revision }) if bugs::is(Bug::WatchFromCompact) => {
                        self.memory.skip_to(compact_revision);
                        return Err(Ended::Lost("a deliberate fault".to_owned()));
                    }
                    Some(WatchMessage::Compacted { .. }) => return Err(Ended::Relist),
                    Some(WatchMessage::Alive) => {}
                    Some(WatchMessage::Events(events)) => {
                        let fresh = self.memory.advance(events);
                        if !fresh.is_empty() {
                            self.send(FeedItem::Events(fresh)).await?;
                        }
                    }
                },
            }
        }
    }

    /// Lists everything and tells the difference.
    async fn sync(&mut self) -> Result<(), Ended> {
        let listed = self.list().await?;
        if self.store.number() != listed.generation {
            // Begun in one history and ended in another.
            return Err(Ended::Relist);
        }
        self.take(listed).await.map_err(Ended::from)
    }

    async fn take(&mut self, listed: Listed) -> Result<(), Gone> {
        let Listed { generation, listing: Listing { revision, pairs }, other_past } = listed;
        let known = self.memory.revision();
        let told = self.generation != generation;
        let Replaced { events, reset } = self.memory.replace(revision, pairs, told || other_past);
        self.generation = generation;
        if reset && !told && known > 0 {
            // Nobody has noticed it yet: the store has grown past what was known.
            let proof = if other_past { ANOTHER_PAST } else { "a key was put before the put that is known" };
            let news = self.store.another_history(generation, proof);
            self.generation = generation.saturating_add(u64::from(news));
        }
        if reset {
            tracing::warn!(revision, known, "the store has another history: everything was read again");
        }
        self.send(FeedItem::Synced { revision, events, reset, generation: self.generation }).await
    }

    /// Whether the store held the put that is known last, at its revision. Where that is compacted nobody can tell, and where it
    /// lies ahead of the newest revision, that alone is the proof: neither is looked at here.
    async fn remembers(&self, newest: i64) -> Result<bool, StoreError> {
        let Some(anchor) = self.memory.anchor().filter(|anchor| anchor.revision() <= newest) else { return Ok(true) };
        match self.store.list(&anchor.key, Some(anchor.revision())).await {
            Ok(then) => Ok(anchor.is_in(&then.pairs)),
            Err(StoreError::Compacted { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Lists everything at one revision.
    async fn list(&self) -> Result<Listed, StoreError> {
        let generation = self.store.number();
        let mut revision = None;
        let mut pairs: Vec<Pair> = Vec::new();
        let mut denied = None;
        for prefix in &self.options.prefixes {
            match self.store.list(prefix, revision).await {
                Ok(listing) => {
                    self.options.troubles.gone(prefix);
                    // The first list is of the newest revision; the others follow it, so that all show one moment.
                    revision = Some(listing.revision);
                    pairs.extend(listing.pairs);
                }
                // All that are denied are told at once; a part of the catalog is no catalog.
                Err(error @ StoreError::Denied(_)) => {
                    self.note(prefix, &error);
                    denied.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = denied {
            return Err(error);
        }
        let revision = revision.unwrap_or(0);
        let other_past = generation == self.generation && !self.remembers(revision).await?;
        Ok(Listed { generation, listing: Listing { revision, pairs }, other_past })
    }
}

#[cfg(test)]
mod tests;
