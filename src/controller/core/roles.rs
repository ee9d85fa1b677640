//! What the node is: gathers the facts for `controller::standing` and carries its decision into the core. What each place
//! entails for results is in `leading` and `following`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Change, Core, Effects, Place, Standing, Whom};
use crate::{
    controller::{
        standing::{self, Facts},
        writer::Reign,
    },
    model::{
        HealthState, NodeName, Now, Role, StoreState, Timestamp,
        cluster::{LeaderStatus, PeerNode},
    },
};

/// Most other nodes that are remembered, and whose answers are looked at.
const MAX_PEERS: usize = 64;

/// In which term this node's stream goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// The term.
    pub term: i64,
    /// It has lost the store.
    pub degraded: bool,
}

/// What the node is, and what it remembers of who led.
#[derive(Debug)]
pub(super) struct Roles {
    pub place: Place,
    pub reason: Arc<str>,
    pub since: Timestamp,
    /// The term in which this node led, while nobody is known to have led since.
    pub led_last: Option<i64>,
    /// The term in which this node led last, whoever has led since.
    led_in: i64,
    /// Whom it took for the leader last.
    pub last: Option<Whom>,
    /// Since when it has had neither a leader in the store nor a stream.
    pub without: Option<crate::model::Mono>,
    /// What other nodes said lately.
    pub peers: Vec<PeerNode>,
    /// Where nodes of the region are, or were: without the store they are asked.
    pub urls: BTreeMap<NodeName, String>,
    /// The highest term seen in this generation.
    pub term: i64,
    /// A generation has begun, and the store has not yet said in it who leads: what other nodes say may be of the one before.
    anew: bool,
    pub leader: Option<LeaderStatus>,
    pub leader_term: i64,
    /// Who led last, as far as this node knows.
    known: Option<NodeName>,
    /// Changes of the leader or its term that this node has seen; the first leader is none.
    pub transitions: u64,
}

impl Roles {
    pub(super) fn new(since: Timestamp) -> Self {
        Self {
            place: Place::Starting,
            reason: Arc::from("the catalog is not read yet"),
            since,
            led_last: None,
            led_in: 0,
            last: None,
            without: None,
            peers: Vec::new(),
            urls: BTreeMap::new(),
            term: 0,
            anew: false,
            leader: None,
            leader_term: 0,
            known: None,
            transitions: 0,
        }
    }

    /// Notes who leads; true where it is another one, or in another term.
    fn led_by(&mut self, whom: Option<Whom>, now: Timestamp) -> bool {
        let same = match (&self.leader, &whom) {
            (Some(known), Some(whom)) => {
                known.node == whom.node && known.url == whom.url && self.leader_term == whom.term
            }
            (known, whom) => known.is_none() && whom.is_none(),
        };
        if same {
            return false;
        }
        if let Some(whom) = whom {
            let first = self.leader_term == 0;
            let same = self.leader_term == whom.term && self.known.as_ref() == Some(&whom.node);
            self.transitions = self.transitions.saturating_add(u64::from(!first && !same));
            self.known = Some(whom.node.clone());
            self.leader_term = whom.term;
            self.leader = Some(LeaderStatus { node: whom.node, url: whom.url, since: now });
        } else {
            self.leader = None;
        }
        true
    }
}

impl Core {
    /// The node's role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.roles.place.role()
    }

    /// What the node is.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.roles.place
    }

    /// Whether outputs are sent from here: by the leader, and without the store by who led last.
    #[must_use]
    pub const fn sends_outputs(&self) -> bool {
        self.roles.place.streams()
    }

    /// Whether other nodes may follow this one's stream.
    #[must_use]
    pub fn serving(&self) -> Option<Serving> {
        let term = match self.roles.place {
            Place::Leader => self.standing.term,
            Place::StaticLeader { term } => term,
            _ => return None,
        };
        Some(Serving { term, degraded: self.degraded() })
    }

    /// Whose stream this node wants.
    #[must_use]
    pub const fn whom(&self) -> Option<&Whom> {
        self.roles.place.whom()
    }

    /// Whether the other nodes should be asked what they are: nobody leads as far as the store says.
    #[must_use]
    pub fn wants_scouts(&self) -> bool {
        self.synced && !self.standing.leads && self.store_leader().is_none()
    }

    /// The term in which this node's own transitions are made.
    pub(super) const fn own_term(&self) -> i64 {
        match self.roles.place {
            Place::Leader => self.standing.term,
            Place::StaticLeader { term } => term,
            _ => self.roles.term,
        }
    }

    /// Latches are this node's to make: it leads, or there is no store and every node latches for itself.
    pub(super) fn latches_by_itself(&self) -> bool {
        match self.roles.place {
            Place::Leader | Place::StaticLeader { .. } | Place::Autonomous { .. } => true,
            Place::Follower { .. } => self.standing.store == StoreState::Lost,
            Place::Starting => false,
        }
    }

    pub(super) fn degraded(&self) -> bool {
        self.standing.store == StoreState::Lost || self.store_troubled() || self.role() == Role::Autonomous
    }

    /// The node's standing changed (or is told again).
    pub fn stand(&mut self, standing: Standing, now: Now) -> Effects {
        let mut effects = Effects::default();
        let alone = self.latches_by_itself();
        let before = std::mem::replace(&mut self.standing, standing);
        if self.standing.generation != before.generation && before.generation != 0 {
            self.new_generation(before.generation != 0);
        }
        // A term may follow another without a look in between: it begins anew all the same.
        let another = (self.standing.generation, self.standing.term) != (before.generation, before.term);
        let gained = self.standing.leads && (!before.leads || another);
        if self.standing.leads {
            self.roles.led_last = Some(self.standing.term);
            self.roles.led_in = self.standing.term;
        }
        if self.standing.session && (self.standing.leads || self.standing.leader.is_some()) {
            // The store has had its first word: what nodes say of terms is of this generation again.
            self.roles.anew = false;
        }
        // Who may latch changes with the store.
        self.dirty |= self.standing != before;
        if gained {
            self.adopt_written(now, &mut effects);
        }
        self.decide(now, &mut effects);
        // What turns bad from now on is another's to latch: whoever decides next judges afresh.
        self.fresh_leader |= alone && !self.latches_by_itself();
        if gained {
            self.fresh_leader = true;
            self.on_leading();
        }
        effects
    }

    /// What the other nodes said of themselves; older answers count no more.
    pub fn scouted(&mut self, peers: Vec<PeerNode>, now: Now) -> Effects {
        let mut effects = Effects::default();
        let ours = |p: &PeerNode| p.region == self.identity.region && p.node != self.identity.node;
        self.roles.peers = peers.into_iter().filter(ours).take(MAX_PEERS).collect();
        self.decide(now, &mut effects);
        effects
    }

    /// A node of the region is known. One that went is remembered while there is room: it may only have lost the store.
    pub(super) fn node_seen(&mut self, node: &NodeName) {
        let nodes = self.regions.nodes(&self.identity.region);
        let Some(url) = nodes.iter().find(|n| n.node == *node).map(|n| n.url.clone()) else { return };
        if *node == self.identity.node || url.is_empty() {
            return;
        }
        self.roles.urls.insert(node.clone(), url);
        while self.roles.urls.len() > MAX_PEERS {
            let gone = self.roles.urls.keys().find(|known| nodes.iter().all(|n| n.node != **known)).cloned();
            let Some(gone) = gone.or_else(|| self.roles.urls.keys().next_back().cloned()) else { return };
            self.roles.urls.remove(&gone);
        }
    }

    /// Where the other nodes of the region are, in the order of their names.
    #[must_use]
    pub fn peer_urls(&self) -> Vec<String> {
        self.roles.urls.values().cloned().collect()
    }

    /// The term that this node leads in, or the highest seen, and the history that it is of.
    #[must_use]
    pub const fn reign(&self) -> Reign {
        Reign { generation: self.standing.generation, term: self.standing.term }
    }

    /// Whether its keys hold all that was written before this term began: the leader key of it, or of a later one, is among them.
    #[must_use]
    pub fn has_read(&self, reign: Reign) -> bool {
        let leader = self.regions.leader(&self.identity.region).filter(|_| self.keys_of == reign.generation);
        leader.is_some_and(|leader| leader.term >= reign.term)
    }

    /// A term that this node saw, where a whole list of that or a later revision has the leader key of an earlier term. Terms are
    /// create revisions of one key, which only grow: the store was restored, and has grown past what was known of it since.
    #[must_use]
    pub fn contradicted(&self, revision: i64) -> Option<i64> {
        let (seen, told) = (self.roles.term, self.leader_by_keys()?.term);
        (told < seen && seen <= revision).then_some(seen)
    }

    /// The highest term that this node has seen or heard of, and the store's generation that it takes it to be of.
    #[must_use]
    pub const fn seen(&self) -> Reign {
        Reign { generation: self.standing.generation, term: self.roles.term }
    }

    /// Leader writes were not made although this node took itself for the leader: what it leads anew, it writes anew.
    pub const fn writes_lost(&mut self) {
        self.standing.leads = false;
    }

    /// Terms and numbers of another history of the store mean nothing here; what is up or down stays so.
    fn new_generation(&mut self, known: bool) {
        tracing::warn!(generation = self.standing.generation, "the store is another one: terms begin anew");
        self.roles.term = 0;
        // The first one is no other than the one before.
        self.roles.anew = known;
        self.roles.led_last = None;
        self.roles.led_in = 0;
        self.roles.last = None;
        self.following.forget();
        for entry in &mut self.entries {
            entry.stamp = super::Stamp::default();
            let health = entry.track.health();
            if health.state != HealthState::Unknown && health.term > 0 {
                entry.survived = Some((health.term, health.n));
            }
            entry.track.forget_term();
        }
        self.dirty = true;
    }

    /// Another node that leads, as the session sees it, or where it cannot tell, the feed.
    pub(super) fn store_leader(&self) -> Option<Whom> {
        let by_keys = self.leader_by_keys();
        let other = |node: &NodeName| *node != self.identity.node;
        if self.standing.session {
            // Either of the two may be behind: the higher term is the later one.
            if let Some(later) = by_keys.filter(|l| l.term > self.standing.term && other(&l.node)) {
                return Some(later.clone());
            }
            let node = self.standing.leader.clone().filter(other)?;
            let url = self.standing.leader_url.clone().filter(|url| !url.is_empty());
            // Without a place it cannot be dialled, but it leads.
            let url = url.or_else(|| by_keys.filter(|k| k.node == node).map(|k| k.url.clone())).unwrap_or_default();
            return Some(Whom { node, url, term: self.standing.term });
        }
        let told = self.standing.store == StoreState::Ok && !self.roles.anew;
        // A watch that lags may still show a leader whose term is known to be over.
        by_keys.filter(|leader| told && other(&leader.node) && leader.term >= self.roles.term).cloned()
    }

    /// The leader key as the feed read it, where that was in the history of the store that the session's terms are of.
    pub(super) fn leader_by_keys(&self) -> Option<&Whom> {
        self.regions.leader(&self.identity.region).filter(|_| self.keys_of == self.standing.generation)
    }

    /// Looks at everything that is known and takes the place that follows.
    pub(super) fn decide(&mut self, now: Now, effects: &mut Effects) {
        if !self.wants_scouts() || self.roles.anew {
            // Nobody is asked now: what was said in this outage must not count in the next, nor in another generation.
            self.roles.peers.clear();
        }
        let leader = self.store_leader();
        let stream = self.following.alive();
        if self.standing.leads || leader.is_some() {
            // They are asked no more: what they said grows old.
            self.roles.peers.clear();
        }
        if self.standing.leads || leader.is_some() || stream.is_some() {
            self.roles.without = None;
        } else if self.roles.without.is_none() {
            self.roles.without = Some(now.mono);
        }
        let mut facts = Facts {
            node: &self.identity.node,
            synced: self.synced,
            draining: self.standing.draining,
            leads: self.standing.leads,
            session: self.standing.session,
            leader: leader.as_ref(),
            store: self.standing.store,
            stream,
            peers: &self.roles.peers,
            led_last: self.roles.led_last,
            last: self.roles.last.as_ref(),
            without: self.roles.without.map_or(Duration::ZERO, |since| now.mono.since(since)),
            bound: standing::bound(self.longest_interval, &self.identity.node),
        };
        let mut decision = standing::decide(&facts);
        if decision.gave_way && facts.led_last.is_some() {
            tracing::info!(reason = %decision.reason, "it led last, and gives way");
            facts.led_last = None;
            decision = standing::decide(&facts);
            self.roles.led_last = None;
        }
        self.take_place(decision.place, Arc::from(decision.reason), now, effects);
    }

    fn take_place(&mut self, place: Place, reason: Arc<str>, now: Now, effects: &mut Effects) {
        self.see_term(&place);
        let me = |term| Whom { node: self.identity.node.clone(), url: self.url.clone(), term };
        let leader = match &place {
            Place::Leader => Some(me(self.standing.term)),
            Place::StaticLeader { term } => Some(me(*term)),
            // With a session and no leader key nobody leads: the one that was known last is only tried.
            Place::Follower { .. }
                if self.standing.session && self.store_leader().is_none() && self.following.alive().is_none() =>
            {
                None
            }
            Place::Follower { whom } => whom.clone(),
            Place::Starting | Place::Autonomous { .. } => None,
        };
        self.dirty |= self.roles.led_by(leader, now.wall);
        if let Some(whom) = place.whom().filter(|whom| !self.is_unheard_of(whom.term)) {
            self.roles.last = Some(whom.clone());
        }
        if place == self.roles.place {
            return;
        }
        let led = self.roles.led_in;
        let before = std::mem::replace(&mut self.roles.place, place);
        self.dirty = true;
        self.roles.reason = Arc::clone(&reason);
        if before.role() != self.role() {
            self.roles.since = now.wall;
            effects.changes.push(Change::Role { role: self.role(), reason });
        }
        let same = match (before.whom(), self.whom()) {
            (Some(before), Some(whom)) => before.node == whom.node && before.url == whom.url,
            _ => false,
        };
        if !same {
            self.following.turned();
        }
        if matches!(before, Place::Leader) || self.is_guarded() {
            self.guard_anew();
        }
        match (before.probes(), self.roles.place.probes()) {
            (false, true) => self.begin_probing(now.mono, effects),
            (true, false) => self.end_probing(&before, led, effects),
            _ => {}
        }
    }

    /// The shown term: the highest seen, never lower within a generation.
    fn see_term(&mut self, place: &Place) {
        let of_place = match place {
            Place::StaticLeader { term } => *term,
            Place::Follower { whom: Some(whom) } if !self.is_unheard_of(whom.term) => whom.term,
            _ => 0,
        };
        let seen = self.standing.term.max(of_place);
        if seen > self.roles.term {
            self.roles.term = seen;
            self.dirty = true;
        }
    }
}
