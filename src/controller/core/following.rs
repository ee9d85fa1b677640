//! Another node's results: frames of its stream and the values that it wrote, by the rule that the higher (term, n) counts
//! (design section 4.4). A follower computes no transition; ages and times are the leader's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Change, Core, Effects, Entry, Place, Stamp, StatusValue, Whom};
use crate::{
    bugs::{self, Bug},
    evaluation::health::{Counters, Params, Track},
    model::{Health, HealthState, Mono, Now, StoreState, Target, TargetName, Timestamp, cluster::ResultsFrom},
    replication::{self, Frame, Head},
    store::Event,
};

/// Most entries kept for targets that the catalog does not name yet.
pub const MAX_ASIDE: usize = 20_000;
/// A summary written within this time is fresh: its states are as good as a living leader's.
const FRESH_SUMMARY: Duration = Duration::from_secs(15);
/// Without a stream for this long, what was found alone gives way to what the store says.
const STREAM_GRACE: Duration = Duration::from_secs(3);

/// The stream that is connected.
#[derive(Debug)]
struct Stream {
    from: Whom,
    since: Timestamp,
    seq: u64,
    degraded: bool,
}

/// An entry for a target that the catalog does not name yet, and when it came.
#[derive(Debug)]
struct Aside {
    stamp: Stamp,
    entry: replication::Entry,
    came: Now,
}

/// What a follower keeps beside its entries.
#[derive(Debug)]
pub(super) struct Following {
    stream: Option<Stream>,
    /// Why there is no stream.
    reason: Arc<str>,
    /// Since when there is none.
    without: Option<Mono>,
    /// The leader's wall clock at some moment of ours.
    anchor: Option<Now>,
    /// The next stream must begin with a full frame: nobody is dialled until the next tick, so that the old one is forgotten.
    anew: bool,
    /// The states are those that were kept on disk: nobody has said anything since.
    kept: bool,
    aside: BTreeMap<TargetName, Aside>,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            stream: None,
            reason: Arc::from("it has not begun yet"),
            without: None,
            anchor: None,
            anew: false,
            kept: false,
            aside: BTreeMap::new(),
        }
    }
}

impl Following {
    /// Whose stream is alive: a frame has come, and it was not lost since.
    pub fn alive(&self) -> Option<&Whom> {
        self.stream.as_ref().map(|s| &s.from)
    }

    /// Another one is followed, or nobody.
    pub fn turned(&mut self) {
        self.stream = None;
        self.without = None;
        self.aside.clear();
        self.reason = Arc::from("it has not begun yet");
    }

    /// The leader's wall clock at some moment of ours.
    pub const fn anchor(&self) -> Option<Now> {
        self.anchor
    }

    /// This node probes: its own clock counts, and what it finds gives way to a full frame only.
    pub fn probing(&mut self) {
        self.anchor = None;
        self.anew = true;
        self.kept = false;
    }

    /// A second has passed.
    pub const fn tick(&mut self) {
        self.anew = false;
    }

    /// States that were kept on disk wait for the catalog that was kept with them.
    pub fn keep(&mut self, entries: Vec<replication::Entry>, now: Now) {
        self.kept = true;
        for entry in entries.into_iter().take(MAX_ASIDE) {
            let stamp = Stamp::of(0, &entry.health);
            self.aside.insert(entry.target.clone(), Aside { stamp, entry, came: now });
        }
    }

    pub fn forget_aside(&mut self) {
        self.aside.clear();
    }

    #[cfg(test)]
    pub fn kept_aside(&self) -> usize {
        self.aside.len()
    }

    /// The store is another one.
    pub fn forget(&mut self) {
        self.turned();
        self.anchor = None;
    }
}

impl Core {
    /// The cluster's time: the leader's wall clock, advanced by this node's monotonic one.
    #[must_use]
    pub fn cluster_now(&self, now: Now) -> Now {
        match self.following.anchor {
            Some(anchor) if !self.roles.place.probes() => {
                Now { wall: anchor.wall.plus(now.mono.since(anchor.mono)), mono: now.mono }
            }
            _ => now,
        }
    }

    /// Whom to dial now.
    #[must_use]
    pub fn dials(&self) -> Option<&Whom> {
        self.whom().filter(|whom| !self.following.anew && !whom.url.is_empty())
    }

    /// The stream is open; nothing has come yet.
    pub fn stream_connected(&mut self) {
        self.following.reason = Arc::from("it is open, and its first frame is on the way");
    }

    /// The stream is lost.
    pub fn stream_lost(&mut self, reason: &str, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.dirty |= self.following.stream.take().is_some() || *self.following.reason != *reason;
        self.following.reason = Arc::from(reason);
        self.following.without.get_or_insert(now.mono);
        self.decide(now, &mut effects);
        effects
    }

    /// A frame of the stream. Frames of a lower term than the leader's, or of anybody else, say nothing.
    pub fn frame(&mut self, frame: Frame, now: Now) -> Effects {
        let mut effects = Effects::default();
        let (Frame::Full(head, _) | Frame::Delta(head, _) | Frame::Heartbeat(head)) = &frame;
        if !self.heed(head, now) {
            tracing::debug!(node = %head.node, term = head.term, "a frame is not heeded");
            return effects;
        }
        match frame {
            Frame::Full(head, entries) => {
                self.following.aside.clear();
                self.take_all(&head, entries, now, &mut effects);
            }
            Frame::Delta(head, entries) => self.take_all(&head, entries, now, &mut effects),
            Frame::Heartbeat(_) => {}
        }
        // It may be what an autonomous node waited for.
        self.decide(now, &mut effects);
        effects
    }

    /// Whether a frame counts; notes what its head says. That frames come without a gap, the first one a full one, is seen to by
    /// `replication::follow`.
    fn heed(&mut self, head: &Head, now: Now) -> bool {
        let Some(whom) = self.roles.place.whom().filter(|w| w.node == head.node && head.term >= w.term) else {
            return false;
        };
        let from = Whom { term: head.term, ..whom.clone() };
        if self.is_unheard_of(head.term) {
            // What it sent so far is missed: it has to begin anew, with a full frame.
            self.following.stream = None;
            self.following.anew = true;
            return false;
        }
        let known = self.following.stream.take();
        if known.as_ref().is_some_and(|s| head.term < s.from.term) {
            self.following.stream = known;
            return false;
        }
        let since = known.as_ref().map_or(now.wall, |s| s.since);
        self.dirty |= known.is_none_or(|s| s.degraded != head.degraded);
        if head.graphite_mark.is_some() && *self.marks.heard.load() != head.graphite_mark {
            self.marks.heard.store(Arc::new(head.graphite_mark));
        }
        self.following.stream = Some(Stream { from, since, seq: head.seq, degraded: head.degraded });
        self.following.without = None;
        self.following.kept = false;
        self.following.anchor = Some(Now { wall: head.now, mono: now.mono });
        self.roles.term = self.roles.term.max(head.term);
        true
    }

    /// A term that a node which has the store does not find there. It may be one of a history that is over, whose leader has not
    /// noticed; one of this history is told by the store soon.
    pub(super) fn is_unheard_of(&self, term: i64) -> bool {
        let by_keys = self.leader_by_keys().map_or(0, |leader| leader.term);
        self.standing.session && term > self.standing.term.max(by_keys)
    }

    fn take_all(&mut self, head: &Head, entries: Vec<replication::Entry>, now: Now, effects: &mut Effects) {
        for entry in entries {
            let stamp = Stamp::of(head.term, &entry.health);
            self.take(stamp, entry, Now { wall: head.now, mono: now.mono }, effects);
        }
    }

    fn take(&mut self, stamp: Stamp, entry: replication::Entry, came: Now, effects: &mut Effects) {
        let index = self.catalog.index_of(entry.target.as_str());
        let Some(known) = index.and_then(|index| self.entries.get_mut(index)) else {
            if self.following.aside.len() < MAX_ASIDE || self.following.aside.contains_key(&entry.target) {
                self.following.aside.insert(entry.target.clone(), Aside { stamp, entry, came });
            }
            return;
        };
        if stamp < known.stamp {
            return;
        }
        self.dirty |= known.follow(stamp, entry, came, effects);
    }

    /// Fresh states that the leader gave on being asked (`cache=false`).
    pub fn take_refreshed(&mut self, entries: Vec<replication::Entry>, now: Now) -> Effects {
        let mut effects = Effects::default();
        let Some(term) = self.whom().map(|w| w.term).filter(|_| !self.roles.place.probes()) else { return effects };
        let came = self.cluster_now(now);
        for entry in entries {
            let stamp = Stamp::of(term, &entry.health);
            self.take(stamp, entry, came, &mut effects);
        }
        effects
    }

    /// Which leader wrote a value of this revision: a term is the leader key's create revision, so what was written after it, and
    /// is no later leader's, is its. 0 where it was one before.
    fn said_at(&self, revision: i64) -> i64 {
        let by_keys = self.regions.leader(&self.identity.region).map_or(0, |l| l.term);
        let term = self.standing.term.max(by_keys);
        if revision > term { term } else { 0 }
    }

    pub(super) fn apply_status(&mut self, target: TargetName, event: &Event, now: Now, effects: &mut Effects) {
        let Event::Put(pair) = event else {
            self.statuses.remove(&target);
            self.following.aside.remove(&target);
            // Its leader took the target for removed. Made again it begins with low numbers, which a node that missed the
            // removal must not hold against it.
            if !self.roles.place.probes()
                && let Some(entry) = self.catalog.index_of(target.as_str()).and_then(|i| self.entries.get_mut(i))
            {
                entry.stamp = Stamp::default();
            }
            return;
        };
        let Ok(status) = serde_json::from_slice::<StatusValue>(&pair.value) else { return };
        let index = self.catalog.index_of(target.as_str());
        let stamp = status.stamp(self.said_at(pair.mod_revision));
        let (came, probed_at) = (self.cluster_now(now), self.followed_probed_at());
        if self.synced
            && !self.roles.place.probes()
            && let Some(entry) = index.and_then(|index| self.entries.get_mut(index))
            && (stamp > entry.stamp || bugs::is(Bug::LateStatusWins))
            && !entry.outlives(stamp)
        {
            self.dirty |= entry.follow_status(stamp, &status, probed_at, came, effects);
        }
        self.statuses.insert(target, (status, pair.mod_revision));
    }

    /// The leader's summary came: without a stream it carries the cluster's time.
    pub(super) fn apply_summary(&mut self, now: Now) {
        let Some(summary) = self.regions.summary(&self.identity.region) else { return };
        let current = self.store_leader().is_some_and(|l| l.term == summary.term);
        if current && self.following.alive().is_none() {
            self.following.anchor = Some(Now { wall: summary.now, mono: now.mono });
        }
    }

    /// When the newest result came in, as the leader wrote it.
    pub(super) fn followed_probed_at(&self) -> Option<Timestamp> {
        self.regions.summary(&self.identity.region).and_then(|s| s.probed_at)
    }

    /// A target that is new here, with all that is known of it.
    pub(super) fn known(&mut self, target: &Arc<Target>, now: Now) -> Entry {
        let mut entry = Entry {
            params: Params::of(target),
            track: Track::new(now),
            cell: Arc::default(),
            fast: false,
            stamp: Stamp::default(),
            read: None,
            own: false,
            survived: None,
            withheld: None,
            target: Arc::clone(target),
        };
        if let Some(aside) = self.following.aside.remove(&target.name) {
            entry.follow(aside.stamp, aside.entry, aside.came, &mut Effects::default());
        } else if let Some((status, revision)) = self.statuses.get(&target.name) {
            if bugs::is(Bug::RestartForgetsN) {
                return entry;
            }
            entry.stamp = status.stamp(self.said_at(*revision));
            // With a living leader its word counts. Without one a failure stays one until it is disproved, and an up target
            // has to show it again. The number goes on in any case.
            entry.track = match self.vouched(now) {
                Some(came) => status.track(self.followed_probed_at(), came),
                None => Track::restore(status.restored(now), None, now),
            };
        }
        entry
    }

    /// Whether the written states are a living leader's, or as good as that; with the time by which they age.
    fn vouched(&self, now: Now) -> Option<Now> {
        if self.roles.place.probes() {
            return None;
        }
        let region = &self.identity.region;
        let summary = self.regions.summary(region);
        let apart = |s: Timestamp| now.wall.since(s).max(s.since(now.wall));
        let fresh = summary.is_some_and(|s| apart(s.now) <= FRESH_SUMMARY);
        let led = self.store_leader().is_some()
            || self.regions.leader(region).is_some_and(|l| !self.synced && l.node != self.identity.node);
        match summary {
            _ if fresh => Some(self.cluster_now(now)),
            // Its clock is another one.
            Some(summary) if led => Some(Now { wall: summary.now, mono: now.mono }),
            None if led => Some(self.cluster_now(now)),
            _ => None,
        }
    }

    /// Time passes on a node that does not probe. While its leader is heard of, no state changes: without a stream marks follow
    /// the ages, by the leader's word where it says that it still probes. With neither store nor stream, ages decide.
    pub(super) fn age_followed(&mut self, now: Now, effects: &mut Effects) {
        if self.following.alive().is_some() {
            return;
        }
        let led = self.store_leader().is_some();
        self.following.kept &= !led;
        let (wall, kept, term) = (self.cluster_now(now).wall, self.following.kept, self.roles.term);
        let probed = self.followed_probed_at().filter(|_| led).map(|at| wall.since(at));
        for entry in &mut self.entries {
            let before = entry.track.health().state;
            if self.synced
                && !led
                && let Some(change) = entry.track.age(now, &entry.params, term)
            {
                // A mark is no finding of its own: the state is still the leader's.
                entry.own |= change.is_transition();
                self.dirty = true;
                entry.note(before, effects);
            }
            let age = entry.track.last_result().map(|last| now.mono.since(last));
            let Some(age) = age.into_iter().chain(probed).min() else { continue };
            self.dirty |= entry.track.mark_stale(kept || age >= entry.params.stale_after());
        }
        let since = *self.following.without.get_or_insert(now.mono);
        if led && matches!(self.roles.place, Place::Follower { .. }) && now.mono.since(since) >= STREAM_GRACE {
            self.give_way_to_store(now);
        }
    }

    /// No stream comes: what this node found alone gives way to what the leader wrote. A value that is older than what this leader
    /// has said over its stream is not its last word: that one is on its way to the store.
    fn give_way_to_store(&mut self, now: Now) {
        let (came, probed_at) = (self.cluster_now(now), self.followed_probed_at());
        let led = self.store_leader().map_or(0, |leader| leader.term);
        for entry in self.entries.iter_mut().filter(|e| e.own || e.survived.is_some()) {
            let written = self.statuses.get(&entry.target.name).map(|(status, _)| status);
            let said = entry.stamp.said;
            if written.is_some_and(|w| said >= led && w.stamp(said) < entry.stamp) {
                continue;
            }
            (entry.own, entry.survived) = (false, None);
            if let Some(status) = written {
                let stamp = entry.stamp.max(status.stamp(0));
                self.dirty |= entry.follow_status(stamp, status, probed_at, came, &mut Effects::default());
            }
        }
    }

    /// Where the results come from that this node answers with.
    pub(super) fn results(&self) -> ResultsFrom {
        if self.roles.place.probes() {
            return ResultsFrom::Own { followers: self.leading.followers };
        }
        match &self.following.stream {
            Some(stream) => ResultsFrom::Stream {
                node: stream.from.node.clone(),
                since: stream.since,
                seq: stream.seq,
                degraded: stream.degraded,
            },
            _ if self.synced && self.standing.store == StoreState::Ok => {
                ResultsFrom::Store { reason: Arc::clone(&self.following.reason) }
            }
            _ => ResultsFrom::Kept,
        }
    }
}

impl Entry {
    /// Takes the leader's whole word; true where readers see a difference beyond the cell.
    fn follow(&mut self, stamp: Stamp, entry: replication::Entry, came: Now, effects: &mut Effects) -> bool {
        let replication::Entry { health, counters, observation, .. } = entry;
        if self.knows_better(&health) {
            (self.stamp, self.own) = (stamp, false);
            return false;
        }
        let changed = self.replace(stamp, Track::restore(health, Some(&counters), came), came, effects);
        if let Some(observation) = observation {
            self.cell.store(observation);
        }
        changed
    }

    /// A leader that has just started, and had no state of its own, has yet to see the target: its unknown carries the number that
    /// the store had, or none. That is no news to who knows this transition or a later one: a takeover turns nothing (design
    /// section 4.3). A target that turns unknown gets a number of its own.
    fn knows_better(&self, said: &Health) -> bool {
        let known = self.track.health();
        said.state == HealthState::Unknown
            && known.state != HealthState::Unknown
            && (said.term, said.n) <= (known.term, known.n)
    }

    /// After a restore: a value of the backup that this node knew a later one of. A backup is a part of the past, and must turn
    /// nothing; what a leader of this history writes comes under a term of its own.
    fn outlives(&self, written: Stamp) -> bool {
        let told = (written.term, written.n);
        self.survived.is_some_and(|known| told <= known && (written.said == 0 || written.term == known.0))
    }

    /// Takes a value that the leader wrote; details stay as they were.
    pub(super) fn follow_status(
        &mut self,
        stamp: Stamp,
        status: &StatusValue,
        probed_at: Option<Timestamp>,
        came: Now,
        effects: &mut Effects,
    ) -> bool {
        self.replace(stamp, status.track(probed_at, came), came, effects)
    }

    fn replace(&mut self, stamp: Stamp, track: Track, came: Now, effects: &mut Effects) -> bool {
        let track = track.after(&self.track);
        if track.last_result() != self.track.last_result() {
            self.read = Some(came);
        }
        let before = std::mem::replace(&mut self.track, track);
        (self.stamp, self.own, self.survived) = (stamp, false, None);
        self.withheld = None;
        self.note(before.health().state, effects);
        before.health() != self.track.health()
    }

    /// Tells people where the state is another one than before.
    fn note(&self, before: HealthState, effects: &mut Effects) {
        let health = self.track.health();
        if before != health.state {
            effects.changes.push(Change::Target {
                target: self.target.name.clone(),
                from: before,
                to: health.state,
                reason: Arc::clone(&health.reason),
            });
        }
    }
}

impl StatusValue {
    fn stamp(&self, said: i64) -> Stamp {
        Stamp { said, term: self.term, n: self.n }
    }

    /// The state as it was written, as old as its newest result: it was probed when it changed, and by the summary since. Its own
    /// time is not known where that is the summary's word, or lies ahead of the clock that it is read by (an earlier leader's clock
    /// was another), as it would for all targets at once.
    fn track(&self, probed_at: Option<Timestamp>, came: Now) -> Track {
        let health = Health {
            state: self.health,
            since: self.since,
            reason: Arc::from(&*self.reason),
            stale: false,
            flapping: false,
            term: self.term,
            n: self.n,
        };
        let probed = self.health != HealthState::Unknown;
        let own = Some(self.since);
        let last_result = probed_at.max(own).filter(|_| probed);
        let shared = last_result > own || last_result > Some(came.wall);
        Track::restore(health, Some(&Counters { last_result, shared, ..Counters::default() }), came)
    }
}
