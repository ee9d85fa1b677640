//! One subscriber's place in the stream.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Instant;

use super::{Shared, State, packed::Packed};

/// Shows a subscriber that waits that its connection lives; readers skip it.
const ALIVE: Bytes = Bytes::from_static(b"\n");

/// A subscriber: asks for the next bytes whenever it has sent the last ones. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    id: u64,
    epoch: u64,
    /// It has everything up to this delta; none: it needs a full frame.
    has: Option<u64>,
    /// It had something before, and fell behind.
    fell_behind: bool,
    /// What it had then: it must not go back.
    floor: u64,
    /// The last heartbeat that it saw.
    beat: u64,
    sending: Option<Sending>,
    last_full: Option<Instant>,
}

#[derive(Debug)]
struct Sending {
    frame: Arc<Packed>,
    next: usize,
    /// What the subscriber has once the frame is out.
    seq: u64,
}

/// What comes next for a subscriber.
enum Step {
    Ended,
    Frame(Sending),
    Line(Bytes),
    Wait(Option<Instant>),
}

impl Subscription {
    pub(super) const fn new(shared: Arc<Shared>, id: u64, epoch: u64, has: Option<u64>, beat: u64) -> Self {
        Self { shared, id, epoch, has, fell_behind: false, floor: 0, beat, sending: None, last_full: None }
    }

    /// The next bytes, a whole line each; none when this node serves no more. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        let shared = Arc::clone(&self.shared);
        loop {
            // Made before the look: a change in between wakes it.
            let changed = shared.changed.notified();
            if let Some(bytes) = self.part() {
                return Some(bytes);
            }
            match self.step() {
                Step::Ended => return None,
                Step::Frame(sending) => self.sending = Some(sending),
                Step::Line(line) => return Some(line),
                Step::Wait(None) => changed.await,
                Step::Wait(Some(until)) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
    }

    /// The same as a stream, for a response's body.
    pub fn lines(self) -> impl Stream<Item = Bytes> + Send + 'static {
        futures_util::stream::unfold(self, |mut subscription| async move {
            let line = subscription.next().await?;
            Some((line, subscription))
        })
    }

    /// The next part of the frame that is under way; encoded here, not under the hub's lock.
    fn part(&mut self) -> Option<Bytes> {
        let sending = self.sending.as_mut()?;
        let line = sending.frame.part(sending.next);
        sending.next = sending.next.saturating_add(1);
        let mut state = self.shared.lock();
        // A term that has ended ends in the middle of a frame too.
        if let Some(line) = line.filter(|_| state.epoch == self.epoch) {
            state.stats.bytes = state.stats.bytes.saturating_add(line.len() as u64);
            return Some(line);
        }
        self.has = Some(sending.seq);
        state.subscribers.insert(self.id, self.has);
        drop(state);
        self.sending = None;
        None
    }

    fn step(&mut self) -> Step {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.epoch != self.epoch {
            return Step::Ended;
        }
        if let Some(has) = self.has {
            if !state.is_far_behind(has, &shared.limits) {
                return self.follow(&mut state, has);
            }
            self.has = None;
            self.fell_behind = true;
            self.floor = has;
            state.subscribers.insert(self.id, None);
        }
        self.resync(&mut state)
    }

    /// The next delta, or a heartbeat where there is none.
    fn follow(&mut self, state: &mut State, has: u64) -> Step {
        if let Some(kept) = state.after(has) {
            let sending = Sending { frame: Arc::clone(&kept.frame), next: 0, seq: kept.seq };
            state.stats.frames = state.stats.frames.saturating_add(1);
            return Step::Frame(sending);
        }
        match &state.beat {
            Some(beat) if beat.number != self.beat => {
                self.beat = beat.number;
                // One from before the last delta says less than that did.
                if beat.seq != has {
                    return Step::Wait(None);
                }
                let line = beat.line.clone();
                state.stats.frames = state.stats.frames.saturating_add(1);
                state.stats.bytes = state.stats.bytes.saturating_add(line.len() as u64);
                Step::Line(line)
            }
            _ => Step::Wait(None),
        }
    }

    /// A full frame, once one is due and there.
    fn resync(&mut self, state: &mut State) -> Step {
        let now = Instant::now();
        let due = self.last_full.and_then(|at| at.checked_add(self.shared.limits.full_every)).filter(|due| *due > now);
        if due.is_none() {
            let kept = state.full.as_ref().filter(|full| full.seq >= self.floor && state.can_follow(full.seq));
            if let Some(full) = kept {
                let sending = Sending { frame: Arc::clone(&full.frame), next: 0, seq: full.seq };
                self.last_full = Some(now);
                state.stats.frames = state.stats.frames.saturating_add(1);
                state.stats.fulls = state.stats.fulls.saturating_add(1);
                state.stats.resyncs = state.stats.resyncs.saturating_add(u64::from(self.fell_behind));
                self.fell_behind = false;
                return Step::Frame(sending);
            }
            if !state.full_wanted {
                state.full_wanted = true;
                self.shared.wanted.notify_waiters();
            }
        }
        match &state.beat {
            Some(beat) if beat.number != self.beat => {
                self.beat = beat.number;
                Step::Line(ALIVE)
            }
            _ => Step::Wait(due),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.subscribers.remove(&self.id);
    }
}
