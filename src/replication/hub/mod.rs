//! The leader's side of the stream: numbers the frames, keeps the last deltas for those who come back, and lets each
//! subscriber read at its own pace. A subscriber is only a place in the ring: one that falls too far behind gets a full
//! frame instead, and nobody's slowness reaches the leader. It reads no clock: time comes with the frames.
//! Which targets a frame holds is decided by `controller`.

mod packed;
mod subscription;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use self::packed::Packed;
pub use self::subscription::Subscription;
use super::frame::{Entry, Head, Kind, encode_heartbeat};
use crate::model::{NodeName, Timestamp};

/// Who sends, in which term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// This node.
    pub node: NodeName,
    /// Its term: the one it leads in, or led in last (a static leader).
    pub term: i64,
    /// It has lost the store.
    pub degraded: bool,
}

/// Why nobody can subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServing {
    /// This node does not lead.
    #[error("this node does not lead its region")]
    NotLeading,
    /// As many followers as are allowed.
    #[error("too many nodes follow this one")]
    TooMany,
}

/// What bounds a hub.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far back a follower may resume.
    pub ring_age: Duration,
    /// Most bytes of deltas that are kept, about.
    pub ring_bytes: usize,
    /// A subscriber this many deltas behind gets a full frame.
    pub lag_frames: u64,
    /// A subscriber this many bytes behind gets a full frame.
    pub lag_bytes: u64,
    /// Most subscribers.
    pub subscribers: usize,
    /// A subscriber gets at most one full frame in this time.
    pub full_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            ring_age: Duration::from_secs(60),
            ring_bytes: 64 * MIB,
            lag_frames: 600,
            lag_bytes: 16 * 1024 * 1024,
            subscribers: 64,
            full_every: Duration::from_secs(2),
        }
    }
}

/// What the hub has done, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Frames handed to subscribers, whole ones.
    pub frames: u64,
    /// Bytes handed to subscribers.
    pub bytes: u64,
    /// Full frames handed to subscribers.
    pub fulls: u64,
    /// Of these, to subscribers that had fallen behind.
    pub resyncs: u64,
    /// Deltas that the slowest subscriber is behind.
    pub lag: u64,
    /// Subscribers.
    pub followers: usize,
}

/// The leader's side; clones share it.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
    /// Something for subscribers.
    changed: Notify,
    /// Something for the controller.
    wanted: Notify,
}

/// One delta in the ring.
#[derive(Debug)]
struct Kept {
    seq: u64,
    at: Timestamp,
    /// Bytes of all deltas up to this one, itself included.
    total: u64,
    frame: Arc<Packed>,
}

/// The last full frame, for those who need one soon after.
#[derive(Debug)]
struct KeptFull {
    seq: u64,
    /// Heartbeats until it is let go.
    beats: u8,
    frame: Arc<Packed>,
}

#[derive(Debug)]
struct Beat {
    number: u64,
    seq: u64,
    line: Bytes,
}

#[derive(Debug, Default)]
struct State {
    serving: Option<Serving>,
    /// Grows whenever all subscribers have to go.
    epoch: u64,
    /// Whose numbers `seq` are.
    numbered: Option<(NodeName, i64)>,
    seq: u64,
    ring: VecDeque<Kept>,
    ring_bytes: usize,
    /// Bytes of all deltas so far.
    total: u64,
    beat: Option<Beat>,
    full: Option<KeptFull>,
    full_wanted: bool,
    /// Deltas each subscriber has; none: it waits for a full frame.
    subscribers: BTreeMap<u64, Option<u64>>,
    next_id: u64,
    /// When the last subscriber was seen: without any the ring need not be kept for ever.
    followed: Option<Timestamp>,
    stats: HubStats,
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Hub {
    /// Serves nobody yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let state = Mutex::new(State::default());
        Self(Arc::new(Shared { limits, state, changed: Notify::new(), wanted: Notify::new() }))
    }

    /// Begins to serve, goes on in another state, or ends. Another node or term, and none, end all subscriptions.
    pub fn serve(&self, serving: Option<Serving>) {
        let mut state = self.0.lock();
        let who = |s: &Serving| (s.node.clone(), s.term);
        if state.serving.as_ref().map(who) != serving.as_ref().map(who) {
            state.epoch = state.epoch.saturating_add(1);
            state.forget();
            if let Some(serving) = &serving {
                let numbered = Some(who(serving));
                // What happened since in the same term is a gap to those who come back.
                state.seq = if state.numbered == numbered { state.seq.saturating_add(1) } else { 0 };
                state.numbered = numbered;
            }
        }
        state.serving = serving;
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Whether this node serves at all.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.0.lock().serving.is_some()
    }

    /// Sends the targets that were touched since the last delta; nothing while nobody is served. `now` is this node's wall
    /// clock.
    pub fn delta(&self, now: Timestamp, graphite_mark: Option<Timestamp>, entries: Vec<Entry>) {
        let mut state = self.0.lock();
        if entries.is_empty() || state.serving.is_none() {
            return;
        }
        state.seq = state.seq.saturating_add(1);
        if state.is_followed(now, self.0.limits.ring_age) {
            let Some(head) = state.head(now, graphite_mark) else { return };
            let frame = Arc::new(Packed::new(Kind::Delta, head, entries));
            state.keep(now, frame, &self.0.limits);
            drop(state);
            self.0.changed.notify_waiters();
        } else {
            // A follower that comes now begins with a full frame.
            state.forget();
        }
    }

    /// Whether anybody listens, or did lately and may come back: who does not need not be given what changed.
    #[must_use]
    pub fn is_followed(&self, now: Timestamp) -> bool {
        self.0.lock().is_followed(now, self.0.limits.ring_age)
    }

    /// As `delta`, for what nobody listens to: only its number counts. Who comes now begins with a full frame; one who has
    /// just come still gets the one that it waits for.
    pub fn skip(&self) {
        let mut state = self.0.lock();
        if state.serving.is_some() {
            state.seq = state.seq.saturating_add(1);
            let wanted = state.full_wanted;
            state.forget();
            state.full_wanted = wanted;
        }
    }

    /// Says that nothing else has changed; each 1 s.
    pub fn heartbeat(&self, now: Timestamp, graphite_mark: Option<Timestamp>) {
        let mut state = self.0.lock();
        let Some(head) = state.head(now, graphite_mark) else { return };
        let number = state.beat.as_ref().map_or(0, |b| b.number).saturating_add(1);
        state.beat = Some(Beat { number, seq: head.seq, line: encode_heartbeat(&head) });
        let left = state.full.as_mut().map(|full| {
            full.beats = full.beats.saturating_sub(1);
            full.beats
        });
        if left == Some(0) {
            state.full = None;
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Whether a subscriber waits for a full frame.
    #[must_use]
    pub fn wants_full(&self) -> bool {
        self.0.lock().full_wanted
    }

    /// Returns once a subscriber waits for a full frame.
    pub async fn full_wanted(&self) {
        loop {
            let wanted = self.0.wanted.notified();
            if self.wants_full() {
                return;
            }
            wanted.await;
        }
    }

    /// Hands over every target, no older than the last delta.
    pub fn full(&self, now: Timestamp, graphite_mark: Option<Timestamp>, entries: Vec<Entry>) {
        // Kept for this many heartbeats: as long as a subscriber has to wait for another one anyway.
        const BEATS: u8 = 2;
        let mut state = self.0.lock();
        let Some(head) = state.head(now, graphite_mark) else { return };
        let seq = head.seq;
        let frame = Arc::new(Packed::new(Kind::Full, head, entries));
        state.full = Some(KeptFull { seq, beats: BEATS, frame });
        state.full_wanted = false;
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// A new subscriber, which goes on after (term, seq) where the ring still can, and otherwise begins with a full frame.
    ///
    /// # Errors
    /// `NotServing`.
    pub fn subscribe(&self, after: Option<(i64, u64)>) -> Result<Subscription, NotServing> {
        let mut state = self.0.lock();
        let Some(serving) = &state.serving else { return Err(NotServing::NotLeading) };
        if state.subscribers.len() >= self.0.limits.subscribers {
            return Err(NotServing::TooMany);
        }
        let has = after.filter(|(term, seq)| *term == serving.term && state.can_follow(*seq)).map(|(_, seq)| seq);
        let id = state.next_id;
        state.next_id = id.saturating_add(1);
        state.subscribers.insert(id, has);
        let (epoch, beat) = (state.epoch, state.beat.as_ref().map_or(0, |b| b.number));
        drop(state);
        Ok(Subscription::new(Arc::clone(&self.0), id, epoch, has, beat))
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.0.lock().subscribers.len()
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let state = self.0.lock();
        let lags = state.subscribers.values().flatten().map(|has| state.seq.saturating_sub(*has));
        HubStats { lag: lags.max().unwrap_or(0), followers: state.subscribers.len(), ..state.stats }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn head(&self, now: Timestamp, graphite_mark: Option<Timestamp>) -> Option<Head> {
        let Serving { node, term, degraded } = self.serving.clone()?;
        Some(Head { node, term, seq: self.seq, now, degraded, graphite_mark })
    }

    /// Lets go of what was kept for subscribers.
    fn forget(&mut self) {
        self.ring.clear();
        self.ring_bytes = 0;
        self.beat = None;
        self.full = None;
        self.full_wanted = false;
    }

    fn is_followed(&mut self, now: Timestamp, keep: Duration) -> bool {
        if !self.subscribers.is_empty() {
            self.followed = Some(now);
        }
        self.followed.is_some_and(|at| now.since(at) <= keep)
    }

    fn keep(&mut self, now: Timestamp, frame: Arc<Packed>, limits: &Limits) {
        self.ring_bytes = self.ring_bytes.saturating_add(frame.weight);
        self.total = self.total.saturating_add(frame.weight as u64);
        self.ring.push_back(Kept { seq: self.seq, at: now, total: self.total, frame });
        while let Some(oldest) = self.ring.front() {
            let old = now.since(oldest.at) > limits.ring_age;
            if !old && self.ring_bytes <= limits.ring_bytes {
                break;
            }
            self.ring_bytes = self.ring_bytes.saturating_sub(oldest.frame.weight);
            self.ring.pop_front();
        }
    }

    /// Whether who has everything up to `seq` can go on with deltas alone.
    fn can_follow(&self, seq: u64) -> bool {
        match self.ring.front() {
            _ if seq == self.seq => true,
            Some(oldest) => seq < self.seq && oldest.seq <= seq.saturating_add(1),
            None => false,
        }
    }

    /// The delta after `seq`.
    fn after(&self, seq: u64) -> Option<&Kept> {
        let first = self.ring.front()?.seq;
        let index = usize::try_from(seq.saturating_add(1).checked_sub(first)?).ok()?;
        self.ring.get(index)
    }

    /// Whether who has everything up to `seq` is too far behind.
    fn is_far_behind(&self, seq: u64, limits: &Limits) -> bool {
        let bytes = self.after(seq).map_or(0, |next| {
            let before = next.total.saturating_sub(next.frame.weight as u64);
            self.total.saturating_sub(before)
        });
        !self.can_follow(seq) || self.seq.saturating_sub(seq) > limits.lag_frames || bytes > limits.lag_bytes
    }
}
