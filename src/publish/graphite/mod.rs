//! Graphite, plaintext over TCP (design section 8). `points` renders and keeps; this file flushes and sends.
//!
//! - FT sent every result; we send one point per target and flush, the newest check under its own time: carbon's usual
//!   schema keeps one value a minute, and the last one wins.
//! - Each batch has a connection of its own, closed towards carbon and then read to its end. Carbon closes only after it
//!   has read everything; a reset, a refusal or a time-out means that the batch is sent again whole (same path and time
//!   is the same point). So a carbon that dies with unread bytes in its socket loses nothing. (What it has read and not
//!   yet written to disk is its own: Debian's carbon 1.1 drops that on SIGTERM.)
//! - A receiver that never closes would get one batch for ever: after three times it is taken as sent, and counted.
//! - Whoever is not active makes no new points; what is left in its ring is still sent.
//! - A follower keeps the points that it would have sent, as far as the leader's mark does not show them as taken, and sends
//!   them when it becomes the leader: what the lost leader had not flushed makes no hole.

pub mod points;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::points::{Kept, Points, Ring};
use crate::{
    clock::Clock,
    latest::Latest,
    model::{RegionName, Role, Timestamp, View, cluster::ResultsFrom},
};

/// How often a follower looks for fresh checks, at least.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// What the ring is sized for when no size is given.
const OUTAGE: Duration = Duration::from_secs(600);
/// Smallest and largest ring that is sized by itself, in points.
const RING_BOUNDS: (usize, usize) = (1_000, 2_000_000);
/// Most points of one connection.
const BATCH: usize = 10_000;
/// First wait after a failure; it doubles up to the interval or 30 s.
const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Batches that carbon took but never closed on, before they count as sent.
const UNCONFIRMED_TRIES: u32 = 3;
/// Longest wait for a reset after the receiver's end was read.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// Bound on the last flush at shutdown.
const LAST_FLUSH: Duration = Duration::from_secs(3);

/// Where and how points are sent.
#[derive(Clone, Debug)]
pub struct GraphiteOptions {
    /// Carbon's host name or address.
    pub host: String,
    /// Carbon's plaintext port, usually 2003.
    pub port: u16,
    /// What paths begin with; FT's is `coco`.
    pub prefix: String,
    /// The environment's name.
    pub environment: String,
    /// The region, when one was named.
    pub region: Option<RegionName>,
    /// Time between flushes; FT's is 60 s.
    pub interval: Duration,
    /// Most points kept while carbon is away; none: ten minutes of the present targets.
    pub ring_points: Option<usize>,
    /// Bound on resolving and connecting.
    pub connect_timeout: Duration,
    /// Bound on sending one batch, its confirmation included.
    pub write_timeout: Duration,
    /// Up to when carbon has taken every point.
    pub marks: Marks,
}

/// Up to when carbon has every point, as instants of flushes.
#[derive(Clone, Debug)]
pub struct Marks {
    /// Of what this node sent: for the leader's summary and frames.
    pub sent: Latest<Option<Timestamp>>,
    /// Of what the leader sent, as its frames say; its summary is in the view.
    pub heard: Latest<Option<Timestamp>>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { sent: Latest::new(None), heard: Latest::new(None) }
    }
}

impl GraphiteOptions {
    /// The defaults for a host: port 2003, prefix `coco`, each minute, 5 s to connect, 10 s to send.
    #[must_use]
    pub fn new(host: impl Into<String>, environment: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: 2003,
            prefix: "coco".to_owned(),
            environment: environment.into(),
            region: None,
            interval: Duration::from_secs(60),
            ring_points: None,
            connect_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            marks: Marks::default(),
        }
    }

    fn capacity(&self, per_flush: usize) -> usize {
        self.ring_points.unwrap_or_else(|| {
            let flushes = OUTAGE.as_millis() / self.interval.as_millis().max(1) + 1;
            let wanted = per_flush.saturating_mul(usize::try_from(flushes).unwrap_or(usize::MAX));
            wanted.clamp(RING_BOUNDS.0, RING_BOUNDS.1)
        })
    }
}

/// Figures of the sender; read at any time.
#[derive(Debug, Default)]
pub struct GraphiteStats {
    sent: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicU64,
    failures: AtomicU64,
    unconfirmed: AtomicU64,
    connected: AtomicU64,
    kept: AtomicU64,
    /// In milliseconds; 0: none.
    mark: AtomicI64,
}

impl GraphiteStats {
    /// Points that carbon has read.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
    /// Points dropped because the ring was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
    /// Points that wait in the ring.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
    /// Connections and batches that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
    /// Batches taken as sent although the receiver never closed.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        self.unconfirmed.load(Ordering::Relaxed)
    }
    /// Points that a follower keeps for the case that the leader is lost.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }
    /// Up to when carbon has taken every point that this node sent.
    #[must_use]
    pub fn mark(&self) -> Option<Timestamp> {
        Some(self.mark.load(Ordering::Relaxed)).filter(|mark| *mark != 0).map(Timestamp::from_millis)
    }
    /// Connections made.
    #[must_use]
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }
}

/// Why a batch was not sent.
#[derive(Debug, thiserror::Error)]
pub enum GraphiteError {
    /// No connection within the time-out.
    #[error("no connection to {address} within {timeout:?}")]
    ConnectTimeout {
        /// Host and port.
        address: String,
        /// The bound.
        timeout: Duration,
    },
    /// Refused, unreachable, or no such name.
    #[error("no connection to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Carbon did not take the batch within the time-out.
    #[error("the batch was not taken within {0:?}")]
    WriteTimeout(Duration),
    /// The connection broke before carbon had read the batch.
    #[error("the connection broke before the batch was read")]
    Broken(#[source] std::io::Error),
    /// Everything was written, but the receiver did not close within the time-out.
    #[error("the batch was written, but not confirmed within {0:?}")]
    Unconfirmed(Duration),
}

/// The running sender.
#[derive(Debug)]
pub struct Graphite {
    task: JoinHandle<()>,
    stats: Arc<GraphiteStats>,
}

impl Graphite {
    /// Starts to send; returns at once, connected or not. Flushes come each interval while `active` is true, and at once
    /// when it becomes true, so that a leader change leaves no gap. Ends after `stop`, within a few seconds, having
    /// flushed once more.
    #[must_use]
    pub fn spawn(
        options: GraphiteOptions,
        view: Latest<View>,
        active: watch::Receiver<bool>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        let stats = Arc::new(GraphiteStats::default());
        let sender = Sender {
            points: Mutex::new(Points::new(points::base(
                &options.prefix,
                &options.environment,
                options.region.as_ref(),
            ))),
            ring: Mutex::default(),
            kept: Mutex::default(),
            wake: Notify::new(),
            options,
            view,
            clock,
            stop,
            stats: Arc::clone(&stats),
        };
        Self { task: tokio::spawn(sender.run(active)), stats }
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> Arc<GraphiteStats> {
        Arc::clone(&self.stats)
    }

    /// Waits for its end after `stop`; for the supervisor, an error tells that it panicked.
    ///
    /// # Errors
    /// The task's own.
    pub async fn finished(self) -> Result<(), tokio::task::JoinError> {
        self.task.await
    }
}

/// Writes a batch, closes towards the receiver, and waits for it to close in turn: then it has read everything.
async fn hand_over(
    stream: &mut TcpStream,
    lines: &[u8],
    bound: Duration,
    round_trip: Duration,
) -> Result<(), GraphiteError> {
    let until = Instant::now() + bound;
    let write = async {
        stream.write_all(lines).await?;
        stream.shutdown().await
    };
    timeout_at(until, write).await.map_err(|_| GraphiteError::WriteTimeout(bound))?.map_err(GraphiteError::Broken)?;
    timeout_at(until, read_to_end(stream))
        .await
        .map_err(|_| GraphiteError::Unconfirmed(bound))?
        .map_err(GraphiteError::Broken)?;
    // A receiver that closed before it had everything answers our last bytes with a reset, one round trip later; the
    // end that was read hides it until then.
    sleep(round_trip).await;
    match stream.take_error() {
        Ok(None) => Ok(()),
        Ok(Some(error)) | Err(error) => Err(GraphiteError::Broken(error)),
    }
}

/// Carbon says nothing; its close says that it has read all. A talkative receiver is read, bounded by time.
async fn read_to_end(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut ignored = [0_u8; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// The beat after `planned`. After a pause of the process the rhythm begins anew: no burst of repeats.
fn following(planned: Instant, interval: Duration) -> Instant {
    let (next, now) = (planned + interval, Instant::now());
    if next > now { next } else { now + interval }
}

/// Up to when carbon has taken every point, as the region's leader says in its summary and its frames.
fn heard(view: &View, marks: &Marks) -> Option<Timestamp> {
    let summary = view.regions.get(&view.node.region).and_then(|region| region.summary.as_ref());
    summary.and_then(|summary| summary.graphite_mark).max(*marks.heard.load())
}

/// Whether the node's results are another's, who sends.
fn follows(view: &View) -> bool {
    view.node.role == Role::Follower || matches!(view.cluster.results, ResultsFrom::Stream { .. })
}

struct Sender {
    options: GraphiteOptions,
    view: Latest<View>,
    clock: Clock,
    stop: CancellationToken,
    stats: Arc<GraphiteStats>,
    points: Mutex<Points>,
    ring: Mutex<Ring>,
    kept: Mutex<Kept>,
    wake: Notify,
}

impl Sender {
    async fn run(self, active: watch::Receiver<bool>) {
        tokio::join!(self.collect(active.clone()), self.send());
        if *active.borrow() {
            self.flush();
        }
        // Bounded: what does not get through now is lost with the process.
        let _ = timeout(LAST_FLUSH, async { while !self.ring().is_empty() && self.batch().await.is_ok() {} }).await;
    }

    /// Puts points into the ring each interval; never waits for carbon.
    async fn collect(&self, mut active: watch::Receiver<bool>) {
        let interval = self.options.interval.max(Duration::from_millis(1));
        let mut next = Instant::now();
        // When a follower repeats last results, as the leader does at each flush; none: it has just come to know any.
        let mut repeat = next + interval;
        let keep_every = KEEP_EVERY.min(interval);
        let mut look = next + keep_every;
        let mut told = true;
        loop {
            let on = *active.borrow_and_update();
            if on && Instant::now() >= next {
                self.flush();
                next = following(next, interval);
            }
            if !on && Instant::now() >= look {
                let repeats = Instant::now() >= repeat;
                self.keep(repeats);
                if repeats {
                    repeat = following(repeat, interval);
                }
                look = Instant::now() + keep_every;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                changed = active.changed(), if told => {
                    told = changed.is_ok();
                    if !on {
                        next = Instant::now();
                    }
                }
                () = sleep_until(next), if on => {}
                () = sleep_until(look), if !on => {}
            }
        }
    }

    fn flush(&self) {
        let view = self.view.load();
        let now = self.clock.now().wall;
        let (mut points, new) = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let mut made = self.points.lock().unwrap_or_else(PoisonError::into_inner);
            let mut points = Vec::new();
            if !kept.is_empty() {
                // It has just become the leader: what the lost one may not have flushed comes first.
                kept.push(made.fresh(&view), usize::MAX);
                if let Some(mark) = heard(&view, &self.options.marks) {
                    kept.taken(mark, self.options.interval);
                }
                points = kept.take();
                self.stats.kept.store(0, Ordering::Relaxed);
                tracing::info!(points = points.len(), "graphite: sends what the last leader may not have sent");
            }
            (points, made.flush(&view, now))
        };
        let capacity = self.options.capacity(new.len());
        points.extend(new);
        let dropped = {
            let mut ring = self.ring();
            ring.push(points, capacity, now);
            ring.dropped()
        };
        if dropped > self.stats.dropped() {
            tracing::warn!(dropped, "graphite: the ring is full, the oldest points are dropped");
        }
        self.figures();
        self.wake.notify_one();
    }

    /// A follower's part: keeps fresh checks, and at each interval what the leader sends then (the last results and the pilot
    /// light, at this moment), as long as the leader's mark does not show them as taken.
    fn keep(&self, repeats: bool) {
        let view = self.view.load();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = heard(&view, &self.options.marks) {
            kept.taken(mark, self.options.interval);
            self.ring().taken(mark, self.options.interval);
        }
        if follows(&view) {
            let mut made = self.points.lock().unwrap_or_else(PoisonError::into_inner);
            let capacity = self.options.capacity(view.catalog.targets.len().saturating_mul(2));
            kept.push(made.fresh(&view), capacity);
            if repeats {
                kept.push(made.flush(&view, self.clock.now().wall), capacity);
            }
        }
        self.stats.kept.store(kept.len() as u64, Ordering::Relaxed);
        drop(kept);
        self.figures();
    }

    /// Sends what the ring holds, oldest first, until `stop`.
    async fn send(&self) {
        let longest = self.options.interval.min(BACKOFF_MAX).max(BACKOFF);
        let mut wait = BACKOFF;
        let mut unconfirmed = 0;
        loop {
            let empty = self.ring().is_empty();
            let outcome = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wake.notified(), if empty => continue,
                outcome = self.batch(), if !empty => outcome,
            };
            match outcome {
                Ok(()) => (wait, unconfirmed) = (BACKOFF, 0),
                Err((GraphiteError::Unconfirmed(_), end)) if unconfirmed + 1 >= UNCONFIRMED_TRIES => {
                    tracing::warn!(tries = UNCONFIRMED_TRIES, "graphite: a batch was never confirmed, taken as sent");
                    self.stats.unconfirmed.fetch_add(1, Ordering::Relaxed);
                    self.arrived(end);
                    unconfirmed = 0;
                }
                Err((error, _)) => {
                    unconfirmed = if matches!(error, GraphiteError::Unconfirmed(_)) { unconfirmed + 1 } else { 0 };
                    self.stats.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(error = &error as &dyn std::error::Error, retry_in = ?wait, "graphite");
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return,
                        () = sleep(wait) => {}
                    }
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    /// One connection, one batch; its points leave the ring when carbon has read them.
    async fn batch(&self) -> Result<(), (GraphiteError, u64)> {
        let (lines, end) = self.ring().batch(BATCH);
        self.deliver(lines.as_bytes()).await.map_err(|error| (error, end))?;
        self.arrived(end);
        Ok(())
    }

    async fn deliver(&self, lines: &[u8]) -> Result<(), GraphiteError> {
        let options = &self.options;
        let address = || format!("{}:{}", options.host, options.port);
        let began = Instant::now();
        let connect = TcpStream::connect((options.host.as_str(), options.port));
        let mut stream = timeout(options.connect_timeout, connect)
            .await
            .map_err(|_| GraphiteError::ConnectTimeout { address: address(), timeout: options.connect_timeout })?
            .map_err(|source| GraphiteError::Connect { address: address(), source })?;
        let round_trip = began.elapsed().min(SETTLE_MAX);
        self.stats.connected.fetch_add(1, Ordering::Relaxed);
        hand_over(&mut stream, lines, options.write_timeout, round_trip).await
    }

    fn arrived(&self, end: u64) {
        let (count, flushed) = {
            let mut ring = self.ring();
            (ring.done(end), ring.flushed())
        };
        self.stats.sent.fetch_add(count, Ordering::Relaxed);
        if let Some(mark) = flushed {
            self.stats.mark.store(mark.as_millis(), Ordering::Relaxed);
            self.options.marks.sent.store(Arc::new(Some(mark)));
        }
        self.figures();
    }

    fn figures(&self) {
        let ring = self.ring();
        self.stats.dropped.store(ring.dropped(), Ordering::Relaxed);
        self.stats.waiting.store(ring.len() as u64, Ordering::Relaxed);
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_that_came_before_our_last_bytes_confirms_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        // It closes with nothing unread: an orderly end, then a reset for what comes after it.
        drop(listener.accept().await.unwrap());
        stream.readable().await.unwrap();
        let given = hand_over(&mut stream, b"a 1 2\n", Duration::from_secs(5), Duration::from_millis(5)).await;
        assert!(matches!(given, Err(GraphiteError::Broken(_))), "{given:?}");
    }

    #[test]
    fn the_ring_is_sized_for_ten_minutes() {
        let mut options = GraphiteOptions::new("h", "e");
        assert_eq!(options.capacity(10_001), 11 * 10_001, "the flush that fails and ten minutes after it");
        assert_eq!(options.capacity(3), RING_BOUNDS.0);
        options.interval = Duration::from_millis(1);
        assert_eq!(options.capacity(10_001), RING_BOUNDS.1);
        options.ring_points = Some(7);
        assert_eq!(options.capacity(10_001), 7);
    }
}
