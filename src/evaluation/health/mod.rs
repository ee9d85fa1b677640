//! One target's damped state: rise and fall, flapping, stale and unknown by age (design sections 4.5 end and 5).
//! When a target is probed is left to `probe`; what its state means for categories is left to `aggregate`.

pub mod flapping;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use self::flapping::History;
use crate::model::{Health, HealthState, Mono, Now, Observation, Target, Timestamp};

/// Shortest time without a result after which a state is unknown.
const UNKNOWN_AT_LEAST: Duration = Duration::from_secs(60);
/// Longest reason, in characters.
const REASON_CHARS: usize = 300;

/// What damps one target: read from its spec at each call, so that a changed spec keeps the health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Good results in a row that make it up.
    pub rise: u32,
    /// Bad results in a row that make it down.
    pub fall: u32,
    /// Time between probes.
    pub interval: Duration,
    /// Time between probes while a state is changing.
    pub fast_interval: Duration,
    /// Bound on one probe.
    pub timeout: Duration,
}

impl Params {
    /// The parameters of a target.
    #[must_use]
    pub fn of(target: &Target) -> Self {
        let check = &target.check;
        Self {
            rise: check.rise,
            fall: check.fall,
            interval: target.interval,
            fast_interval: check.fast_interval,
            timeout: check.timeout,
        }
    }

    /// Without a result for this long a health is stale (design section 4.5).
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.interval.saturating_mul(2).saturating_add(self.timeout)
    }

    /// Without a result for this long a health is unknown (design section 4.5).
    #[must_use]
    pub fn unknown_after(&self) -> Duration {
        self.interval.saturating_mul(10).max(UNKNOWN_AT_LEAST)
    }
}

/// What an observation or the passing of time changed in a health.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The state before.
    pub from: HealthState,
    /// The state now; the same where only marks changed.
    pub to: HealthState,
    /// When.
    pub at: Timestamp,
    /// Why, for people; one line.
    pub reason: Arc<str>,
    /// The health's number now; a transition has made it grow.
    pub n: u64,
    /// The mark `stale` now.
    pub stale: bool,
    /// The mark `flapping` now.
    pub flapping: bool,
}

impl Change {
    /// The state changed, not only marks.
    #[must_use]
    pub fn is_transition(&self) -> bool {
        self.from != self.to
    }
}

/// What of a track beside its health survives a takeover or a restart (design section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Good results in a row.
    pub good: u32,
    /// Bad results in a row.
    pub bad: u32,
    /// Which of the last 20 results changed; bit 0 is the newest.
    pub changes: u32,
    /// Time of the last result, on the wall clock.
    pub last_result: Option<Timestamp>,
    /// That time is the newest result of the whole region: when this target was probed itself is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// One target's state machine.
#[derive(Clone, Debug)]
pub struct Track {
    health: Health,
    good: u32,
    bad: u32,
    history: History,
    /// The first bad result that was seen here since the last good one.
    failing_since: Option<Mono>,
    last_result: Option<Mono>,
    /// As `Counters::shared`.
    shared: bool,
    /// Ages count from here while there is no result.
    created: Mono,
}

impl Track {
    /// A target that was never probed.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self::restore(Health::unknown(now.wall), None, now)
    }

    /// A target whose health is known from the leader before, or from disk. Without counters, runs begin anew and the
    /// health is as old as `now`.
    #[must_use]
    pub fn restore(health: Health, counters: Option<&Counters>, now: Now) -> Self {
        let counters = counters.copied().unwrap_or_default();
        let last_result = counters.last_result.map(|at| back(now.mono, now.wall.since(at)));
        Self {
            history: History::restore(counters.changes, health.flapping),
            health,
            good: counters.good,
            bad: counters.bad,
            failing_since: None,
            last_result,
            shared: counters.shared,
            created: now.mono,
        }
    }

    /// What has to be kept beside the health. The time of the last result is its age, told by the wall clock as it is now: whoever
    /// reads it knows that clock's time, and a step of it since must not make the result older or newer.
    #[must_use]
    pub fn counters(&self, now: Now) -> Counters {
        let last_result = self.last_result.map(|last| now.wall.minus(now.mono.since(last)));
        let (good, bad, changes) = (self.good, self.bad, self.history.bits());
        Counters { good, bad, changes, last_result, shared: self.shared }
    }

    /// Another's word replaces `before`, which this node knew of the same target: a result that it knew of was there, however old
    /// the last one is by another's clock.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        if self.health.state != HealthState::Unknown && before.last_result > self.last_result {
            self.last_result = before.last_result;
            self.shared = before.shared;
        }
        self
    }

    /// Bad results in a row.
    #[must_use]
    pub const fn bad(&self) -> u32 {
        self.bad
    }

    /// Says whether the time of the last result is not its own.
    pub const fn share(&mut self, shared: bool) {
        self.shared = shared;
    }

    /// Whether the time of the last result is not its own.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// The damped state.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// When the last result came.
    #[must_use]
    pub const fn last_result(&self) -> Option<Mono> {
        self.last_result
    }

    /// A bad result has come since the last good one (the isolation guard of design section 4.5).
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.bad > 0
    }

    /// Since when this node itself sees it fail; none also where another node saw it, and this one has not looked yet.
    #[must_use]
    pub const fn failing_since(&self) -> Option<Mono> {
        self.failing_since
    }

    /// Takes one result in; `None` where neither state nor marks changed. A result older than the last is ignored.
    pub fn observe(&mut self, observation: &Observation, params: &Params, term: i64) -> Option<Change> {
        let at = observation.at;
        if self.last_result.is_some_and(|last| at.mono < last) {
            return None;
        }
        let before = (self.health.state, self.health.stale, self.health.flapping);
        let good = observation.outcome.is_good();
        let changed = if good { self.bad > 0 } else { self.good > 0 };
        self.history.push(self.missing(at.mono, params), changed);
        if good {
            self.good = self.good.saturating_add(1);
            self.bad = 0;
            self.failing_since = None;
        } else {
            self.bad = self.bad.saturating_add(1);
            self.good = 0;
            self.failing_since = self.failing_since.or(Some(at.mono));
        }
        self.last_result = Some(at.mono);
        self.shared = false;
        self.health.stale = false;
        self.health.flapping = self.history.flapping();
        match self.settled(params) {
            Some(HealthState::Up) => self.turn(HealthState::Up, at.wall, run(self.good, "good", ""), term),
            Some(HealthState::Down) => {
                self.turn(HealthState::Down, at.wall, run(self.bad, "bad", &observation.output), term);
            }
            _ => {}
        }
        self.change(before, at.wall)
    }

    /// Lets time pass: stale, then unknown. `None` where nothing changed.
    pub fn age(&mut self, now: Now, params: &Params, term: i64) -> Option<Change> {
        if self.health.state == HealthState::Unknown {
            return None;
        }
        let before = (self.health.state, self.health.stale, self.health.flapping);
        let age = now.mono.since(self.reference());
        if age >= params.unknown_after() {
            self.health.stale = false;
            // Rise and fall count from unknown again.
            self.good = 0;
            self.bad = 0;
            self.failing_since = None;
            self.turn(HealthState::Unknown, now.wall, format!("no result for {} s", age.as_secs()), term);
        } else if age >= params.stale_after() {
            self.health.stale = true;
        }
        self.change(before, now.wall)
    }

    /// Sets the mark `stale` alone, for a node that follows another's results: no state changes. True where it was otherwise.
    pub fn mark_stale(&mut self, stale: bool) -> bool {
        let stale = stale && self.health.state != HealthState::Unknown;
        std::mem::replace(&mut self.health.stale, stale) != stale
    }

    /// The term of the last transition belongs to another history of the store: it means nothing any more.
    pub const fn forget_term(&mut self) {
        self.health.term = 0;
    }

    /// Its number is to be no lower than this, which would be one of this term; 0 asks for nothing.
    pub const fn number_from(&mut self, term: i64, n: u64) {
        if self.health.n < n {
            self.health.term = term;
            self.health.n = n;
        }
    }

    /// When `age` would next change something; `None` while it is unknown.
    #[must_use]
    pub fn next_due(&self, params: &Params) -> Option<Mono> {
        if self.health.state == HealthState::Unknown {
            return None;
        }
        let unknown = params.unknown_after();
        let after = if self.health.stale { unknown } else { params.stale_after().min(unknown) };
        Some(self.reference().plus(after))
    }

    /// A state is changing, so that the next probe should come at `fast_interval`. A flapping target is not hurried:
    /// it would never leave that pace.
    #[must_use]
    pub fn wants_fast(&self, params: &Params) -> bool {
        if self.health.flapping {
            return false;
        }
        match self.health.state {
            HealthState::Unknown => self.good > 0 || self.bad > 0,
            HealthState::Up => self.bad > 0 && self.bad < params.fall,
            HealthState::Down => self.good > 0 && self.good < params.rise,
        }
    }

    fn reference(&self) -> Mono {
        self.last_result.unwrap_or(self.created)
    }

    /// Results that should have come between the last one and `at`.
    fn missing(&self, at: Mono, params: &Params) -> u32 {
        let Some(last) = self.last_result else { return 0 };
        let interval = params.interval.as_millis().max(1);
        u32::try_from((at.since(last).as_millis() / interval).saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The state that the present run calls for, if any.
    fn settled(&self, params: &Params) -> Option<HealthState> {
        if self.bad >= params.fall.max(1) {
            return Some(HealthState::Down);
        }
        // While it flaps the worse state holds (design section 5): nothing makes it up.
        (self.good >= params.rise.max(1) && !self.health.flapping).then_some(HealthState::Up)
    }

    fn turn(&mut self, to: HealthState, at: Timestamp, reason: String, term: i64) {
        if self.health.state != to {
            self.health.state = to;
            self.health.since = at;
            self.health.reason = Arc::from(reason);
            self.health.term = term;
            self.health.n = self.health.n.saturating_add(1);
        }
    }

    fn change(&self, before: (HealthState, bool, bool), at: Timestamp) -> Option<Change> {
        let health = &self.health;
        (before != (health.state, health.stale, health.flapping)).then(|| Change {
            from: before.0,
            to: health.state,
            at,
            reason: Arc::clone(&health.reason),
            n: health.n,
            stale: health.stale,
            flapping: health.flapping,
        })
    }
}

/// `3 bad results in a row: status 503`. The output is hostile text: one line, bounded.
fn run(length: u32, word: &str, output: &str) -> String {
    let mut text = match length {
        1 => format!("1 {word} result"),
        n => format!("{n} {word} results in a row"),
    };
    if !output.is_empty() {
        text.push_str(": ");
        text.extend(output.chars().take(REASON_CHARS).map(|c| if c.is_control() { ' ' } else { c }));
    }
    text
}

fn back(from: Mono, by: Duration) -> Mono {
    Mono::from_origin(from.elapsed().saturating_sub(by))
}

#[cfg(test)]
mod tests;
