//! Targets that are overdue, oldest first, at a pace that keeps all starts together below twice the normal rate (design
//! section 4.3): those of a node that takes probing over, and those whose start was held up (`schedule::LATE`). Pure; what is
//! due by its own phase is left to `schedule`, and is only counted here.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::schedule::TICK;
use crate::model::Mono;

/// One start, in the unit of credit.
const START: u128 = 1_000_000_000;
const SECOND: u128 = 1_000_000_000;
/// Of twice the normal rate, in percent: what is due by its phase comes in clumps of its own.
const SHARE: u128 = 95;

/// The overdue, and the credit that they start by: it grows at nearly twice the normal rate, every start costs one.
#[derive(Debug, Default)]
pub struct Catchup {
    /// When each was due, its index, the stamp of its place.
    queue: BinaryHeap<Reverse<(Mono, usize, u64)>>,
    /// Credit that a second brings.
    per_second: u128,
    credit: i128,
    /// Up to when credit was given.
    at: Mono,
}

impl Catchup {
    /// The targets' intervals: the normal rate is one start in each. Never below one start a second, which is no burst.
    pub fn set_intervals(&mut self, intervals: impl Iterator<Item = Duration>) {
        let normal: u128 =
            intervals.map(|i| (START * SECOND).checked_div(i.as_nanos()).unwrap_or(0)).fold(0, u128::saturating_add);
        self.per_second = (normal.saturating_mul(2).saturating_mul(SHARE) / 100).max(START);
    }

    /// Takes one in that was due at `due`.
    pub fn push(&mut self, due: Mono, index: usize, stamp: u64, now: Mono) {
        if self.queue.is_empty() {
            self.at = now;
            self.credit = signed(START);
        }
        self.queue.push(Reverse((due, index, stamp)));
    }

    /// Forgets those that are no longer to come.
    pub fn retain(&mut self, is_true: impl Fn(usize, u64) -> bool) {
        self.queue.retain(|Reverse((_, index, stamp))| is_true(*index, *stamp));
    }

    /// A target started by its own phase.
    pub fn spend(&mut self) {
        if !self.queue.is_empty() {
            // A second's worth is the most that is owed: windows of a second are what is bounded.
            self.credit = (self.credit - signed(START)).max(-signed(self.per_second));
        }
    }

    /// The oldest one (index, stamp) that may start now; each costs a start.
    pub fn pop(&mut self, now: Mono, is_true: impl Fn(usize, u64) -> bool) -> Option<(usize, u64)> {
        let gained = self.per_second.saturating_mul(now.since(self.at).as_nanos()) / SECOND;
        // What a late wake has missed is not made up for in one go.
        let most = START.saturating_add(self.per_second.saturating_mul(TICK.as_nanos()) / SECOND);
        self.credit = self.credit.saturating_add(signed(gained)).min(signed(most));
        self.at = self.at.max(now);
        self.tidy(&is_true);
        if self.credit < signed(START) {
            return None;
        }
        let Reverse((_, index, stamp)) = self.queue.pop()?;
        self.credit -= signed(START);
        Some((index, stamp))
    }

    /// When `pop` will next have one.
    pub fn next(&mut self, is_true: impl Fn(usize, u64) -> bool) -> Option<Mono> {
        self.tidy(&is_true);
        self.queue.peek()?;
        let missing = u128::try_from(signed(START) - self.credit).unwrap_or(0);
        let wait = missing.saturating_mul(SECOND).div_ceil(self.per_second.max(1));
        Some(self.at.plus(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))))
    }

    fn tidy(&mut self, is_true: &impl Fn(usize, u64) -> bool) {
        while self.queue.peek().is_some_and(|Reverse((_, index, stamp))| !is_true(*index, *stamp)) {
            self.queue.pop();
        }
    }
}

fn signed(credit: u128) -> i128 {
    i128::try_from(credit).unwrap_or(i128::MAX)
}
