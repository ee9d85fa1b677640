//! Between the election and the lead: a new leader first reads what the terms before its own wrote. Its watch may lag, and by an old
//! copy of the store it would write older states over newer ones. Its own leader key in the feed is the proof: one prefix is told
//! in order. A pure state; the loop carries out what it asks for.

use std::time::Duration;

use super::writer::Reign;
use crate::model::Mono;

/// A watch that keeps up tells of the key within milliseconds; after this a list is asked for.
const TOLD_WITHIN: Duration = Duration::from_millis(50);
/// How often it is asked for again.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Who cannot read the store for so long lets another lead.
const GIVE_UP: Duration = Duration::from_secs(3);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It does not hold the leader key.
    Idle,
    /// It holds the key, and has read all that earlier terms wrote.
    Lead,
    /// It has not read it yet.
    Wait,
    /// As `Wait`, and a list is to be asked for.
    List,
    /// As `Wait`, for too long: the lead is to be given away.
    GiveUp,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Takeover {
    waits: Option<Waits>,
    /// The reign that it has read up to.
    leads: Option<Reign>,
}

#[derive(Clone, Copy, Debug)]
struct Waits {
    reign: Reign,
    since: Mono,
    ask: Mono,
}

impl Takeover {
    /// `holds`: the reign in which this node may write; `read`: its leader key has come through the feed.
    pub fn step(&mut self, holds: Option<Reign>, read: bool, now: Mono) -> Step {
        let Some(reign) = holds else {
            *self = Self::default();
            return Step::Idle;
        };
        if read || self.leads == Some(reign) {
            *self = Self { waits: None, leads: Some(reign) };
            return Step::Lead;
        }
        self.leads = None;
        let begun = self.waits.filter(|waits| waits.reign == reign);
        let mut waits = begun.unwrap_or(Waits { reign, since: now, ask: now.plus(TOLD_WITHIN) });
        let step = if now.since(waits.since) >= GIVE_UP {
            Step::GiveUp
        } else if waits.ask <= now {
            waits.ask = now.plus(ASK_EVERY);
            Step::List
        } else {
            Step::Wait
        };
        self.waits = Some(waits);
        step
    }

    /// Whether it waits to read its own key.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.waits.is_some()
    }

    /// Whether it leads in this reign.
    #[must_use]
    pub fn leads(&self, reign: Reign) -> bool {
        self.leads == Some(reign)
    }

    /// When it is to be looked at again.
    #[must_use]
    pub fn next_due(&self, now: Mono) -> Option<Duration> {
        self.waits.map(|waits| waits.ask.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(millis))
    }
    const FIRST: Reign = Reign { generation: 1, term: 7 };

    #[test]
    fn it_leads_once_its_key_has_come_and_stays_leader_in_that_reign_only() {
        let mut takeover = Takeover::default();
        assert_eq!(takeover.step(None, false, at(0)), Step::Idle);
        assert_eq!(takeover.step(Some(FIRST), false, at(0)), Step::Wait);
        assert!(takeover.waits() && !takeover.leads(FIRST));
        assert_eq!(takeover.step(Some(FIRST), true, at(5)), Step::Lead);
        assert!(takeover.leads(FIRST) && !takeover.waits());
        assert_eq!(
            takeover.step(Some(FIRST), false, at(9)),
            Step::Lead,
            "the feed may be told of the next leader first"
        );
        let next = Reign { term: 9, ..FIRST };
        assert_eq!(takeover.step(Some(next), false, at(10)), Step::Wait);
        assert!(!takeover.leads(FIRST) && !takeover.leads(next));
        assert_eq!(takeover.step(None, false, at(11)), Step::Idle);
        assert!(!takeover.waits());
    }

    #[test]
    fn a_watch_that_lags_is_not_waited_for_and_a_store_that_cannot_be_read_costs_the_lead() {
        let mut takeover = Takeover::default();
        let mut asked = Vec::new();
        for millis in (1_000..).step_by(10) {
            match takeover.step(Some(FIRST), false, at(millis)) {
                Step::Wait => {}
                Step::List => asked.push(millis),
                Step::GiveUp => {
                    assert_eq!(millis, 4_000);
                    break;
                }
                step => panic!("{step:?}"),
            }
            assert!(takeover.next_due(at(millis)).is_some_and(|due| due <= ASK_EVERY));
        }
        assert_eq!(asked, [1_050, 1_550, 2_050, 2_550, 3_050, 3_550]);
    }
}
