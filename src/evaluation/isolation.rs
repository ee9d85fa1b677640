//! The guard against a leader's own isolation (design section 4.5, last row of the table), PURE: when most targets begin to fail
//! at once, other nodes and the sentinels are asked before anything flips. Who asks them, what is withheld meanwhile, and how
//! the lead is handed over is left to `controller`.
//!
//! What counts, and why:
//! - *Targets*: every probed one of the catalog. Acks and switched-off categories say nothing about the network: they count too.
//!   Heartbeat targets report by themselves: they do not.
//! - *Failing*: a bad result, seen by this node, since the last good one. *Within one cycle*: it began no longer ago than the median
//!   of interval + time-out, the time in which over half of the targets show a network that has gone. What fails longer says
//!   nothing about now: it is taken out of both sides of the share. So targets that fail one after another over a
//!   longer time raise no alarm.
//! - *No witness, no guard*: with nobody to hand over to, only a flip is left, and sentinels could but delay it.
//! - A *witness* agrees when most of what it saw is bad. One without a route itself agrees too: so the witnesses vote, and a tie flips,
//!   as no answer does. A hand-over waits for the sentinels, a flip for nobody.
//! - *Once*: a node that has handed over does not do so again for a minute and two cycles, it flips: the lead does not go to and
//!   fro over the same targets. One that has just taken the lead may: its own network can be the one that is cut. A hand-over that
//!   nobody took flips 5 s later.
//! - *Again*: after a flip there is no new alarm until the share has fallen to a half.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::model::{Mono, NodeName, Target, target::Kind};

/// Fewest targets with a guard.
pub const AT_LEAST: usize = 8;
/// Most other nodes that are asked.
pub const WITNESSES: usize = 3;
/// Targets that each of them probes.
pub const TARGETS_EACH: usize = 5;
/// Witnesses and sentinels have this long.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// Without any answer it flips this long after the alarm.
pub const FLIP_AFTER: Duration = Duration::from_secs(5);
/// How long a node that has handed over does not do so again, beside two cycles.
const ONCE_WITHIN: Duration = Duration::from_secs(60);

/// One target as this node sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Which.
    pub target: &'a Arc<Target>,
    /// Since when this node sees it fail: the first bad result after the last good one.
    pub failing_since: Option<Mono>,
}

/// What is to be asked, each of the others at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What each witness is to probe, in the order of the nodes given to `look`; different targets for each.
    pub witnesses: Vec<(NodeName, Vec<Arc<Target>>)>,
    /// Try the sentinels.
    pub sentinels: bool,
    /// How many targets began to fail within one cycle, for the log.
    pub failing: usize,
    /// Of how many.
    pub of: usize,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What a witness saw; nothing: it could not be reached, or saw nothing in time.
    Witness {
        /// Which.
        node: NodeName,
        /// Good results.
        good: usize,
        /// Bad ones.
        bad: usize,
    },
    /// Whether a sentinel answered.
    Sentinels(bool),
}

/// What the guard has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The failures are real, or nobody can say: they take effect now.
    Flip {
        /// Why, one line.
        why: String,
    },
    /// This node is cut off: another one shall lead. Nothing flips here meanwhile.
    HandOver {
        /// Why, one line.
        why: String,
    },
    /// Not yet.
    Wait,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Armed,
    Asking(Asking),
    /// It has ruled to hand over, then.
    HandedOver(Mono),
    Flipped,
}

#[derive(Clone, Debug)]
struct Asking {
    since: Mono,
    /// It has handed over a moment ago: not again.
    again: bool,
    asked: BTreeSet<NodeName>,
    agree: usize,
    disagree: usize,
    sentinels_pending: bool,
}

/// The guard of one node; it is asked only while the node leads with the store.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    state: State,
    /// The last time it ruled to hand over; kept from one time of leading to the next.
    handed_over: Option<Mono>,
}

impl Guard {
    /// This node begins to lead, or leads no longer: what was asked is over.
    pub fn reset(&mut self) {
        self.state = State::Armed;
    }

    /// Whether failures must not take effect yet.
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(self.state, State::Asking(_) | State::HandedOver(_))
    }

    /// When `tick` has something to rule.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        match &self.state {
            State::Armed | State::Flipped => None,
            State::HandedOver(at) => Some(at.plus(FLIP_AFTER)),
            State::Asking(asking) => {
                let decided = asking.agree + asking.disagree > 0;
                Some(asking.since.plus(if decided { ANSWERS_WITHIN } else { FLIP_AFTER }))
            }
        }
    }

    /// Looks at the targets after results came in. An alarm says what to ask. `others`: nodes that can be asked, in the
    /// order of preference. An alarm under way ends by itself when the targets are well again.
    pub fn look<'a>(
        &mut self,
        now: Mono,
        sights: impl Iterator<Item = Sight<'a>> + Clone,
        others: &[NodeName],
        has_sentinels: bool,
    ) -> Option<Ask> {
        let share = Share::of(now, sights.clone());
        if !share.alarms() {
            // A hand-over stands: this node's view is not to be trusted.
            if !matches!(self.state, State::HandedOver(_)) {
                self.state = State::Armed;
            }
            return None;
        }
        if !matches!(self.state, State::Armed) || others.is_empty() {
            return None;
        }
        let nodes = others.iter().take(WITNESSES);
        let mut witnesses: Vec<(NodeName, Vec<Arc<Target>>)> = nodes.map(|n| (n.clone(), Vec::new())).collect();
        let chosen = choose(now, &share, sights, witnesses.len() * TARGETS_EACH);
        for (i, target) in chosen.into_iter().enumerate() {
            let turn = i.checked_rem(witnesses.len()).unwrap_or(0);
            if let Some((_, targets)) = witnesses.get_mut(turn) {
                targets.push(target);
            }
        }
        self.state = State::Asking(Asking {
            since: now,
            again: self
                .handed_over
                .is_some_and(|at| now.since(at) < ONCE_WITHIN.saturating_add(share.cycle.saturating_mul(2))),
            asked: witnesses.iter().map(|(node, _)| node.clone()).collect(),
            agree: 0,
            disagree: 0,
            sentinels_pending: has_sentinels,
        });
        Some(Ask { witnesses, sentinels: has_sentinels, failing: share.failing, of: share.base })
    }

    /// An answer has come; `None` where nothing is asked (any more). Each witness counts once.
    pub fn answer(&mut self, now: Mono, answer: &Answer) -> Option<Ruling> {
        let State::Asking(asking) = &mut self.state else { return None };
        if now.since(asking.since) >= FLIP_AFTER {
            // Too late, however late `tick` comes.
            return Some(self.rule(now));
        }
        match answer {
            Answer::Sentinels(true) => {
                return Some(self.flip("a sentinel answers: the network around this node works"));
            }
            Answer::Sentinels(false) => asking.sentinels_pending = false,
            Answer::Witness { node, good, bad } => {
                if !asking.asked.remove(node) {
                    return Some(Ruling::Wait);
                }
                if bad > good {
                    asking.agree += 1;
                } else if *good > 0 {
                    asking.disagree += 1;
                }
            }
        }
        Some(self.rule(now))
    }

    /// Time passes; `None` where nothing is asked.
    pub fn tick(&mut self, now: Mono) -> Option<Ruling> {
        match &self.state {
            State::Armed | State::Flipped => None,
            State::Asking(_) => Some(self.rule(now)),
            State::HandedOver(at) if now.since(*at) >= FLIP_AFTER => Some(self.flip("nobody has taken the lead over")),
            State::HandedOver(_) => Some(Ruling::Wait),
        }
    }

    fn rule(&mut self, now: Mono) -> Ruling {
        let State::Asking(asking) = &self.state else { return Ruling::Wait };
        let (agree, disagree, again) = (asking.agree, asking.disagree, asking.again);
        let waited = now.since(asking.since);
        let late = waited >= ANSWERS_WITHIN;
        let open = if late { 0 } else { asking.asked.len() };
        let votes = agree + disagree;
        if votes == 0 {
            return if waited >= FLIP_AFTER {
                self.flip("no other node and no sentinel answers")
            } else {
                Ruling::Wait
            };
        }
        if agree >= disagree + open {
            return self.flip(&format!("{agree} of {votes} other nodes see the same"));
        }
        if disagree <= agree + open {
            return Ruling::Wait;
        }
        if again {
            return self.flip(
                "other nodes see the targets well, but this one gave the lead away a moment ago: it does not go to and fro",
            );
        }
        if asking.sentinels_pending && !late {
            return Ruling::Wait;
        }
        self.state = State::HandedOver(now);
        self.handed_over = Some(now);
        Ruling::HandOver {
            why: format!("{disagree} of {votes} other nodes see the targets well: this node is cut off"),
        }
    }

    fn flip(&mut self, why: &str) -> Ruling {
        self.state = State::Flipped;
        Ruling::Flip { why: why.to_owned() }
    }
}

/// How many began to fail within one cycle, and of how many.
#[derive(Clone, Copy, Debug)]
struct Share {
    cycle: Duration,
    failing: usize,
    base: usize,
}

impl Share {
    fn of<'a>(now: Mono, sights: impl Iterator<Item = Sight<'a>> + Clone) -> Self {
        let sights = sights.filter(|s| s.target.check.kind != Kind::Heartbeat);
        let all = sights.clone().count();
        let failing = sights.clone().filter(|s| s.failing_since.is_some()).count();
        // Mostly nothing fails: then there is no median to look for.
        if failing == 0 || all < AT_LEAST {
            return Self { cycle: Duration::ZERO, failing: 0, base: all };
        }
        let mut cycles: Vec<Duration> = sights.clone().map(|s| cycle(s.target)).collect();
        let cycle = *cycles.select_nth_unstable(all / 2).1;
        let fresh = sights.filter(|s| is_fresh(now, cycle, s)).count();
        Self { cycle, failing: fresh, base: all.saturating_sub(failing.saturating_sub(fresh)) }
    }

    const fn alarms(&self) -> bool {
        self.base >= AT_LEAST && self.failing * 2 > self.base
    }
}

fn cycle(target: &Target) -> Duration {
    target.interval.saturating_add(target.check.timeout)
}

fn is_fresh(now: Mono, cycle: Duration, sight: &Sight<'_>) -> bool {
    sight.failing_since.is_some_and(|since| now.since(since) <= cycle)
}

/// Up to `count` that began to fail, of as many services and hosts as there are.
fn choose<'a>(now: Mono, share: &Share, sights: impl Iterator<Item = Sight<'a>>, count: usize) -> Vec<Arc<Target>> {
    let mut left: Vec<&Arc<Target>> = sights
        .filter(|s| s.target.check.kind != Kind::Heartbeat && is_fresh(now, share.cycle, s))
        .map(|s| s.target)
        .collect();
    let (mut services, mut hosts, mut chosen) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    // First new services on new hosts, then new services, then any.
    for pass in 0..3 {
        left.retain(|target| {
            let service_used = services.contains(&target.service);
            let host_used = hosts.contains(target.check.host.as_str());
            let fits = pass == 2 || (!service_used && (pass == 1 || !host_used));
            if chosen.len() >= count || !fits {
                return true;
            }
            services.insert(target.service.clone());
            hosts.insert(target.check.host.as_str());
            chosen.push(Arc::clone(target));
            false
        });
    }
    chosen
}

#[cfg(test)]
#[path = "isolation_tests.rs"]
mod tests;
