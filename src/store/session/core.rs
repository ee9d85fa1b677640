//! What a session knows, and all its rules: pure state. Time comes in as a value; who asks the store is left to the session.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

use super::authority::{Authority, Standing, authority_ends, fence};
use crate::bugs::{self, Bug};
use crate::model::{Mono, NodeName};
use crate::store::{Compare, LeaseId, Pair};

/// Without a tick of the controller for this long, authority is over.
pub(super) const TICKS_MISSED: Duration = Duration::from_secs(3);

/// Ticks closer together than this are one.
const TICK_GRAIN: Duration = Duration::from_millis(250);

/// The leader key's value.
#[derive(Debug, Deserialize)]
struct LeaderValue {
    node: NodeName,
    #[serde(default)]
    url: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Leadership {
    Unknown,
    Nobody,
    Other { node: Option<NodeName>, url: String },
    Own { term: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    lease: LeaseId,
    /// Before the last answered renewal was sent.
    sent: Mono,
    until: Mono,
}

/// How a term of this node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Others may do better: held down for T where another node is ready.
    Involuntary,
    /// Nobody's fault: the lease was gone, or the store's history.
    Blameless,
    /// On request: not again for 2 T, unless nobody takes the lead for T.
    HandedOver,
}

/// What keeps this node from campaigning after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    loss: Loss,
    until: Mono,
    lease: Option<LeaseId>,
}

/// Whether this node may campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Campaign {
    Yes,
    /// Only where no other node of the region is ready.
    IfAlone,
    No,
}

/// What a session knows.
#[derive(Debug)]
pub(super) struct Core {
    leader_key: String,
    node: NodeName,
    url: String,
    /// T.
    ttl: Duration,
    held: Option<Held>,
    leadership: Leadership,
    /// The highest term seen in this history of the store.
    highest: i64,
    /// The term that was given up last: it is never resumed.
    abandoned: i64,
    /// A lease to be ended before a new one is asked for.
    retired: Option<LeaseId>,
    /// The revision that `leadership` was seen at.
    as_of: i64,
    /// The store's history that all this is of.
    generation: u64,
    /// When the controller ticked last.
    ticked: Option<Mono>,
    hold: Option<Hold>,
    /// Since when the leader key is known to be absent.
    vacant_since: Option<Mono>,
    /// The leader known last, and its term.
    last_leader: Option<(NodeName, i64)>,
    transitions: u64,
    reason: Arc<str>,
    /// The reason as it stood when the leader known last was learned of.
    leader_reason: Arc<str>,
}

impl Core {
    pub(super) fn new(leader_key: String, node: NodeName, url: String, ttl: Duration, generation: u64) -> Self {
        Self {
            leader_key,
            node,
            url,
            ttl,
            held: None,
            leadership: Leadership::Unknown,
            highest: 0,
            abandoned: 0,
            retired: None,
            as_of: 0,
            generation,
            ticked: None,
            hold: None,
            vacant_since: None,
            last_leader: None,
            transitions: 0,
            reason: Arc::from("the store has not answered yet"),
            leader_reason: Arc::from(""),
        }
    }

    pub(super) fn lease(&self) -> Option<LeaseId> {
        self.held.map(|h| h.lease)
    }

    pub(super) const fn retired(&self) -> Option<LeaseId> {
        self.retired
    }

    pub(super) fn retirement_done(&mut self, lease: LeaseId) {
        if self.retired == Some(lease) {
            self.retired = None;
        }
    }

    pub(super) const fn as_of(&self) -> i64 {
        self.as_of
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) const fn transitions(&self) -> u64 {
        self.transitions
    }

    pub(super) const fn reason(&self) -> &Arc<str> {
        &self.reason
    }

    /// The leader, its URL and its term, where they are known and the session's time is not over.
    pub(super) fn leader(&self, now: Mono) -> Option<(&NodeName, &str, i64)> {
        self.alive(now)?;
        match &self.leadership {
            Leadership::Other { node: Some(node), url } => Some((node, url, self.highest)),
            Leadership::Own { term } => Some((&self.node, &self.url, *term)),
            _ => None,
        }
    }

    /// Whether the leader key was ours when it was seen last.
    pub(super) const fn leads(&self) -> bool {
        matches!(self.leadership, Leadership::Own { .. })
    }

    /// When the session's time ends unless it is renewed, and the controller ticks.
    pub(super) fn ends(&self) -> Option<Mono> {
        let until = self.held?.until;
        Some(self.ticked.map_or(until, |ticked| until.min(ticked.plus(TICKS_MISSED))))
    }

    fn alive(&self, now: Mono) -> Option<Held> {
        self.held.filter(|_| self.ends().is_some_and(|ends| now < ends))
    }

    /// The controller ticked, and then stood still for too long: this session neither renews nor asks for a lease.
    pub(super) fn lapsed(&self, now: Mono) -> bool {
        self.ticked.is_some_and(|ticked| now.since(ticked) >= TICKS_MISSED)
    }

    /// Whether this node may campaign now, as far as this session knows.
    pub(super) fn campaign(&self, now: Mono) -> Campaign {
        let able = self.leadership == Leadership::Nobody && self.ticked.is_some() && self.alive(now).is_some();
        match self.hold {
            _ if !able => Campaign::No,
            Some(hold) if now < hold.until => match hold.loss {
                Loss::HandedOver if !self.vacant_for(self.ttl, now) => Campaign::No,
                Loss::Involuntary => Campaign::IfAlone,
                _ => Campaign::Yes,
            },
            _ => Campaign::Yes,
        }
    }

    fn vacant_for(&self, time: Duration, now: Mono) -> bool {
        self.vacant_since.is_some_and(|since| now.since(since) >= time)
    }

    /// How long a loss may still keep this node from campaigning.
    pub(super) fn held_down(&self, now: Mono) -> Option<Duration> {
        self.hold.map(|hold| hold.until.since(now)).filter(|left| !left.is_zero())
    }

    pub(super) fn authority(&self, now: Mono) -> Authority {
        let term = self.highest;
        let (standing, leader_url) = match (self.alive(now).and(self.ends()), &self.leadership) {
            (None, _) | (Some(_), Leadership::Unknown) => (Standing::None { term }, None),
            (Some(_), Leadership::Nobody) => (Standing::Follower { leader: None, term }, None),
            (Some(_), Leadership::Other { node, url }) => {
                (Standing::Follower { leader: node.clone(), term }, Some(url.clone()))
            }
            (Some(until), Leadership::Own { term }) => {
                (Standing::Leader { term: *term, until }, Some(self.url.clone()))
            }
        };
        Authority { standing, lease: self.lease(), leader_url, generation: self.generation }
    }

    pub(super) fn granted(&mut self, lease: LeaseId, sent: Mono, ttl: Duration) {
        self.held = Some(Held { lease, sent, until: authority_ends(sent, ttl) });
    }

    /// A renewal was answered at `now`.
    pub(super) fn renewed(&mut self, lease: LeaseId, sent: Mono, ttl: Duration, now: Mono) {
        if ttl.is_zero() {
            return self.lost(lease, now);
        }
        // First the old time: an answer that comes after its end does not bring a term back.
        self.tick(now);
        if let Some(held) = self.held.as_mut().filter(|h| h.lease == lease) {
            held.until = held.until.max(authority_ends(sent, ttl));
            held.sent = held.sent.max(sent);
        }
    }

    /// The store says that the lease is gone. That is no fault of this node (etcd can lose one when it thaws): it may
    /// campaign at once.
    pub(super) fn lost(&mut self, lease: LeaseId, now: Mono) {
        if self.lease() == Some(lease) {
            self.lose(Loss::Blameless, "the lease was lost", now);
            self.held = None;
        }
        // Its key may have gone first.
        if self.hold.is_some_and(|hold| hold.loss == Loss::Involuntary && hold.lease == Some(lease)) {
            self.hold = None;
            self.reason = Arc::from("the lease was lost");
        }
    }

    /// The controller ticked.
    pub(super) fn tick_of_controller(&mut self, now: Mono) {
        // First the old time: a tick after its end does not bring a term back.
        self.tick(now);
        // A busy loop ticks often: each tick taken changes the authority, and wakes all who watch it.
        if self.ticked.is_none_or(|ticked| now.since(ticked) >= TICK_GRAIN) {
            self.ticked = Some(now);
        }
    }

    /// Lets time pass. A leader whose time is over gives its term and its lease up for good; a node whose controller stands
    /// still gives its lease up, leader or not.
    pub(super) fn tick(&mut self, now: Mono) {
        let Some(held) = self.held else { return };
        if self.lapsed(now) {
            self.lose(Loss::Involuntary, &format!("the controller stood still for {TICKS_MISSED:?}"), now);
            self.retire();
        } else if held.until <= now && !bugs::is(Bug::TermResumed) {
            let silent = held.until.since(held.sent);
            if self.leads() {
                let reason = format!("authority ran out: no answer from the store for {silent:.1?}");
                self.lose(Loss::Involuntary, &reason, now);
                self.retire();
            } else {
                self.say(&format!("no answer from the store for {silent:.1?}"));
            }
        }
    }

    fn retire(&mut self) {
        if let Some(held) = self.held.take() {
            self.retired = Some(held.lease);
        }
    }

    fn say(&mut self, reason: &str) {
        if *self.reason != *reason {
            self.reason = Arc::from(reason);
        }
    }

    /// Gives the own term up, where there is one.
    fn lose(&mut self, loss: Loss, reason: &str, now: Mono) {
        let Leadership::Own { term } = self.leadership else { return };
        self.abandoned = term;
        self.leadership = Leadership::Unknown;
        self.vacant_since = None;
        self.say(reason);
        let time = match loss {
            Loss::Blameless => Duration::ZERO,
            Loss::Involuntary => self.ttl,
            Loss::HandedOver => self.ttl.saturating_mul(2),
        };
        self.hold = Some(Hold { loss, until: now.plus(time), lease: self.lease() });
    }

    /// A write of this term was refused.
    pub(super) fn step_down(&mut self, term: i64, now: Mono) {
        if self.leadership == (Leadership::Own { term }) {
            self.lose(Loss::Involuntary, "the fence refused a write", now);
        }
    }

    /// This node gives its term away.
    pub(super) fn hand_over(&mut self, reason: &str, now: Mono) -> bool {
        self.tick(now);
        let leads = self.leads();
        self.lose(Loss::HandedOver, &format!("handed over: {reason}"), now);
        leads
    }

    /// The store has another history: nothing of the old one holds. Returns whether this is news.
    pub(super) fn enter(&mut self, generation: u64, now: Mono) -> bool {
        // Who asked before another did comes late.
        if generation <= self.generation {
            return false;
        }
        self.lose(Loss::Blameless, "", now);
        self.say(&format!("the store has another history than before: generation {generation}"));
        self.retire();
        self.leadership = Leadership::Unknown;
        (self.highest, self.abandoned, self.as_of) = (0, 0, 0);
        (self.hold, self.vacant_since) = (None, None);
        self.generation = generation;
        true
    }

    /// A change of the leader key was told by the watch.
    pub(super) fn told(&mut self, pair: Option<&Pair>, revision: i64, now: Mono) {
        // What was asked or written since knows better.
        if revision > self.as_of {
            self.learn(pair, revision, now);
        }
    }

    /// The leader key was read.
    pub(super) fn read(&mut self, pair: Option<&Pair>, revision: i64, now: Mono) {
        if revision >= self.as_of {
            self.learn(pair, revision, now);
        }
    }

    fn learn(&mut self, pair: Option<&Pair>, revision: i64, now: Mono) {
        self.as_of = revision;
        self.tick(now);
        let Some(pair) = pair else {
            self.lose(Loss::Involuntary, "the leader key was deleted", now);
            match &self.leadership {
                Leadership::Other { node: Some(node), .. } => self.say(&format!("node {node} leads no more")),
                Leadership::Unknown if self.last_leader.is_none() => self.say("nobody leads yet"),
                _ => {}
            }
            self.leadership = Leadership::Nobody;
            self.vacant_since = self.vacant_since.or(Some(now));
            return;
        };
        self.vacant_since = None;
        let term = pair.create_revision;
        self.highest = self.highest.max(term);
        let ours = self.alive(now).is_some_and(|h| pair.lease == Some(h.lease));
        if ours && term != self.abandoned {
            if self.leadership != (Leadership::Own { term }) {
                self.lead(term);
            }
            return;
        }
        self.lose(Loss::Involuntary, "another node took over", now);
        self.leadership = match serde_json::from_slice::<LeaderValue>(&pair.value) {
            // Our own earlier life: it leads no more.
            Ok(value) if value.node == self.node => Leadership::Other { node: None, url: String::new() },
            Ok(value) => {
                self.follow(&value.node, term);
                Leadership::Other { node: Some(value.node), url: value.url }
            }
            Err(_) => Leadership::Other { node: None, url: String::new() },
        };
    }

    /// The campaign's transaction was written at `revision` on this lease.
    pub(super) fn won(&mut self, lease: LeaseId, revision: i64, now: Mono) {
        self.tick(now);
        self.as_of = self.as_of.max(revision);
        self.highest = self.highest.max(revision);
        if self.alive(now).is_some_and(|h| h.lease == lease) {
            self.lead(revision);
        } else {
            self.abandoned = revision;
        }
    }

    fn lead(&mut self, term: i64) {
        self.leadership = Leadership::Own { term };
        (self.hold, self.vacant_since) = (None, None);
        let node = self.node.clone();
        self.changed(node, term, &format!("won term {term}"));
    }

    fn follow(&mut self, node: &NodeName, term: i64) {
        let took = if self.last_leader.is_some() { "took over" } else { "leads" };
        self.changed(node.clone(), term, &format!("node {node} {took} in term {term}"));
    }

    fn changed(&mut self, node: NodeName, term: i64, reason: &str) {
        let leader = Some((node, term));
        if self.last_leader != leader {
            if self.last_leader.is_some() {
                self.transitions = self.transitions.saturating_add(1);
            }
            self.last_leader = leader;
            self.leader_reason = Arc::from(reason);
        }
        // The same leader again after a time without the store: no new reason.
        self.reason = Arc::clone(&self.leader_reason);
    }

    /// The compares to delete a leader key that hangs on a lease of ours, but of a term given up or of an earlier history.
    pub(super) fn leftover(&self, pair: &Pair) -> Option<Vec<Compare>> {
        let lease = pair.lease?;
        let given_up = self.lease() == Some(lease) && pair.create_revision == self.abandoned;
        (given_up || self.retired == Some(lease)).then(|| fence(&self.leader_key, pair.create_revision, lease))
    }

    /// Ends the session: the fence to delete the leader key with, and the lease to revoke.
    pub(super) fn close(&mut self, now: Mono) -> (Option<Vec<Compare>>, Option<LeaseId>) {
        let lease = self.lease().or(self.retired);
        let fence = match (&self.leadership, self.lease()) {
            (Leadership::Own { term }, Some(lease)) => Some(fence(&self.leader_key, *term, lease)),
            _ => None,
        };
        self.lose(Loss::HandedOver, "handed over at shutdown", now);
        self.leadership = Leadership::Unknown;
        self.held = None;
        (fence, lease)
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
