//! The embedded store's memory: keys, a bounded history, leases. Plain data and rules, no I/O, no clock.
//! A change is first planned against the state, then (by the caller) made durable, then applied.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::model::Mono;
use crate::store::{Compare, Event, LeaseId, Listing, Op, Pair, StoreError, Txn, TxnOutcome};

/// Most changes that are remembered for watches and for ranges at an older revision.
pub(crate) const HISTORY_EVENTS: usize = 10_000;
/// Most bytes of keys and values that the history may hold.
pub(crate) const HISTORY_BYTES: usize = 64 << 20;

/// One change with what it replaced, so that it can be undone for a range at an older revision.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) event: Event,
    previous: Option<Pair>,
}

impl Change {
    /// A change of which nothing but the event counts.
    pub(crate) const fn new(event: Event) -> Self {
        Self { event, previous: None }
    }

    fn bytes(&self) -> usize {
        let new = match &self.event {
            Event::Put(pair) => pair.key.len() + pair.value.len(),
            Event::Delete { key, .. } => key.len(),
        };
        new + self.previous.as_ref().map_or(0, |p| p.key.len() + p.value.len())
    }
}

/// What would be written, all at one revision.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) revision: i64,
    pub(crate) changes: Vec<Change>,
    ended: Vec<LeaseId>,
}

/// What a transaction would do.
#[derive(Debug)]
pub(crate) enum Planned {
    /// Nothing to write: refused, or done without an effect.
    Settled(TxnOutcome),
    /// To be made durable and applied.
    Write(Plan),
}

#[derive(Clone, Debug)]
struct Lease {
    ttl: Duration,
    ends: Mono,
    keys: BTreeSet<String>,
}

/// Changes for a watch.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Those that match, in order.
    pub(crate) events: Vec<Event>,
    /// The revision to go on from.
    pub(crate) next: i64,
}

/// Everything in memory.
#[derive(Clone, Debug)]
pub(crate) struct State {
    revision: i64,
    compacted: i64,
    keys: BTreeMap<String, Pair>,
    history: VecDeque<Change>,
    history_bytes: usize,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: i64,
}

impl State {
    /// A state that shows `pairs` at `revision`; nothing older is known.
    pub(crate) fn new(revision: i64, pairs: impl IntoIterator<Item = Pair>) -> Self {
        Self {
            revision,
            compacted: revision,
            keys: pairs.into_iter().map(|p| (p.key.clone(), p)).collect(),
            history: VecDeque::new(),
            history_bytes: 0,
            leases: BTreeMap::new(),
            // Other ids than an earlier process gave: one that is still remembered must not fit a new lease.
            next_lease: revision.saturating_mul(1 << 16).saturating_add(1),
        }
    }

    pub(crate) const fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &str) -> Option<Pair> {
        self.keys.get(key).cloned()
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Pair> {
        self.keys.range(prefix.to_owned()..).take_while(move |(k, _)| k.starts_with(prefix)).map(|(_, p)| p)
    }

    /// All pairs below `prefix`; an older revision is reached by undoing the history.
    pub(crate) fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        let at = revision.unwrap_or(self.revision);
        if at < self.compacted {
            return Err(StoreError::Compacted { compact_revision: self.compacted });
        }
        if at > self.revision {
            return Err(StoreError::Invalid(format!("revision {at} lies ahead of {}", self.revision)));
        }
        let mut pairs: BTreeMap<&str, &Pair> = self.below(prefix).map(|p| (p.key.as_str(), p)).collect();
        for change in self.history.iter().rev().take_while(|c| c.event.revision() > at) {
            if change.event.key().starts_with(prefix) {
                match &change.previous {
                    Some(before) => pairs.insert(change.event.key(), before),
                    None => pairs.remove(change.event.key()),
                };
            }
        }
        Ok(Listing { revision: at, pairs: pairs.into_values().cloned().collect() })
    }

    /// Changes from revision `from` on, whole revisions, about `most` at once.
    pub(crate) fn events(&self, prefixes: &[String], from: i64, most: usize) -> Result<Batch, StoreError> {
        if from <= self.compacted {
            return Err(StoreError::Compacted { compact_revision: self.compacted });
        }
        let start = self.history.partition_point(|c| c.event.revision() < from);
        let mut batch = Batch { events: Vec::new(), next: from };
        for change in self.history.iter().skip(start) {
            let revision = change.event.revision();
            if batch.events.len() >= most && revision >= batch.next {
                return Ok(batch);
            }
            batch.next = revision.saturating_add(1);
            if prefixes.iter().any(|p| change.event.key().starts_with(p.as_str())) {
                batch.events.push(change.event.clone());
            }
        }
        Ok(batch)
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::CreateRevision(key, r) => self.keys.get(key).is_some_and(|p| p.create_revision == *r),
            Compare::ModRevision(key, r) => self.keys.get(key).is_some_and(|p| p.mod_revision == *r),
            Compare::Lease(key, lease) => self.keys.get(key).is_some_and(|p| p.lease == Some(*lease)),
            Compare::Value(key, value) => self.keys.get(key).is_some_and(|p| p.value == *value),
        }
    }

    /// What the transaction would do now. The transaction was checked by `Txn::check`.
    pub(crate) fn plan(&self, txn: &Txn) -> Result<Planned, StoreError> {
        if !txn.compares.iter().all(|c| self.holds(c)) {
            return Ok(Planned::Settled(TxnOutcome::Refused { revision: self.revision }));
        }
        let revision = self.revision.saturating_add(1);
        let mut changes = Vec::with_capacity(txn.ops.len());
        for op in &txn.ops {
            match op {
                Op::Put { key, value, lease } => {
                    if lease.is_some_and(|l| !self.leases.contains_key(&l)) {
                        return Err(StoreError::LeaseNotFound);
                    }
                    let previous = self.keys.get(key).cloned();
                    let create_revision = previous.as_ref().map_or(revision, |p| p.create_revision);
                    let (key, value, lease) = (key.clone(), value.clone(), *lease);
                    let pair = Pair { key, value, create_revision, mod_revision: revision, lease };
                    changes.push(Change { event: Event::Put(pair), previous });
                }
                Op::Delete(key) => changes.extend(self.planned_delete(key, revision)),
            }
        }
        if changes.is_empty() {
            return Ok(Planned::Settled(TxnOutcome::Done { revision: self.revision }));
        }
        Ok(Planned::Write(Plan { revision, changes, ended: Vec::new() }))
    }

    fn planned_delete(&self, key: &str, revision: i64) -> Option<Change> {
        let previous = self.keys.get(key).cloned()?;
        Some(Change { event: Event::Delete { key: key.to_owned(), revision }, previous: Some(previous) })
    }

    /// Changes nothing: what is written to see whether the disk takes a write.
    pub(crate) const fn plan_nothing(&self) -> Plan {
        Plan { revision: self.revision, changes: Vec::new(), ended: Vec::new() }
    }

    /// The end of leases: their keys are deleted at one revision.
    pub(crate) fn plan_end(&self, ended: Vec<LeaseId>) -> Plan {
        let next = self.revision.saturating_add(1);
        let keys = ended.iter().filter_map(|id| self.leases.get(id)).flat_map(|lease| lease.keys.iter());
        let changes: Vec<_> = keys.filter_map(|key| self.planned_delete(key, next)).collect();
        Plan { revision: if changes.is_empty() { self.revision } else { next }, changes, ended }
    }

    /// Leases whose time is over.
    pub(crate) fn due(&self, now: Mono) -> Vec<LeaseId> {
        self.leases.iter().filter(|(_, l)| l.ends <= now).map(|(id, _)| *id).collect()
    }

    /// When the next lease ends.
    pub(crate) fn next_end(&self) -> Option<Mono> {
        self.leases.values().map(|l| l.ends).min()
    }

    /// All pairs and the revision.
    pub(crate) fn all(&self) -> (i64, Vec<Pair>) {
        (self.revision, self.keys.values().cloned().collect())
    }

    /// Makes a plan true. It must have been planned against this very state.
    pub(crate) fn apply(&mut self, plan: Plan) {
        self.revision = plan.revision;
        for change in plan.changes {
            let key = change.event.key();
            if let Some(lease) = change.previous.as_ref().and_then(|p| p.lease)
                && let Some(lease) = self.leases.get_mut(&lease)
            {
                lease.keys.remove(key);
            }
            match &change.event {
                Event::Put(pair) => {
                    if let Some(lease) = pair.lease.and_then(|l| self.leases.get_mut(&l)) {
                        lease.keys.insert(pair.key.clone());
                    }
                    self.keys.insert(pair.key.clone(), pair.clone());
                }
                Event::Delete { key, .. } => {
                    self.keys.remove(key);
                }
            }
            self.history_bytes += change.bytes();
            self.history.push_back(change);
        }
        for id in plan.ended {
            self.leases.remove(&id);
        }
        while self.history.len() > HISTORY_EVENTS || self.history_bytes > HISTORY_BYTES {
            let Some(oldest) = self.history.front().map(|c| c.event.revision()) else { break };
            self.compact(oldest);
        }
    }

    /// Forgets the history up to and with `revision`; the state at `revision` can still be listed.
    pub(crate) fn compact(&mut self, revision: i64) {
        while let Some(oldest) = self.history.front().filter(|c| c.event.revision() <= revision) {
            self.history_bytes = self.history_bytes.saturating_sub(oldest.bytes());
            self.history.pop_front();
        }
        self.compacted = self.compacted.max(revision.min(self.revision));
    }

    pub(crate) fn grant(&mut self, ttl: Duration, now: Mono) -> LeaseId {
        let id = LeaseId(self.next_lease);
        self.next_lease = self.next_lease.saturating_add(1);
        self.leases.insert(id, Lease { ttl, ends: now.plus(ttl), keys: BTreeSet::new() });
        id
    }

    /// Renews a lease that has not ended.
    pub(crate) fn renew(&mut self, id: LeaseId, now: Mono) -> Result<Duration, StoreError> {
        match self.leases.get_mut(&id) {
            Some(lease) if lease.ends > now => {
                lease.ends = now.plus(lease.ttl);
                Ok(lease.ttl)
            }
            _ => Err(StoreError::LeaseNotFound),
        }
    }

    /// Every lease has its full time again, as after etcd's promotion of a new leader.
    #[cfg(test)]
    pub(crate) fn refresh_leases(&mut self, now: Mono) {
        for lease in self.leases.values_mut() {
            lease.ends = now.plus(lease.ttl);
        }
    }

    /// This state is put back in the place of `later`: what comes now must not be taken for what came then. A lease's id is never
    /// given again: etcd makes it of its member's id and its wall clock, which no restore takes back.
    #[cfg(test)]
    pub(crate) fn restored(&mut self, later: &Self, now: Mono) {
        self.refresh_leases(now);
        self.compacted = self.revision;
        self.history.clear();
        self.history_bytes = 0;
        self.next_lease = self.next_lease.max(later.next_lease).saturating_add(1 << 40);
    }

    pub(crate) fn has_lease(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn put(key: &str, value: &str) -> Op {
        Op::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), lease: None }
    }

    fn write(state: &mut State, ops: Vec<Op>) {
        match state.plan(&Txn { compares: vec![], ops }).unwrap() {
            Planned::Write(plan) => state.apply(plan),
            Planned::Settled(_) => {}
        }
    }

    #[test]
    fn a_history_over_its_bound_is_cut_at_whole_revisions() {
        let mut state = State::new(1, []);
        for i in 0..HISTORY_EVENTS {
            write(&mut state, vec![put("a", &i.to_string()), put("b", &i.to_string())]);
        }
        assert_eq!(state.history.len(), HISTORY_EVENTS);
        assert_eq!(state.compacted, state.revision - HISTORY_EVENTS as i64 / 2);
        assert!(matches!(state.list("", Some(state.compacted - 1)), Err(StoreError::Compacted { .. })));
        let oldest = state.list("", Some(state.compacted)).unwrap();
        assert_eq!(oldest.pairs[0].mod_revision, state.compacted);
        assert!(state.events(&[String::new()], state.compacted, 10).is_err());
        let first = state.events(&[String::new()], state.compacted + 1, 3).unwrap();
        assert_eq!(first.events.len(), 4, "a revision is never split");
    }

    proptest! {
        /// Any list at a revision equals the state as it was then, and the events lead from one to the other.
        #[test]
        fn an_old_revision_lists_as_it_was(steps in prop::collection::vec((0_u8..4, prop::option::of("[a-c]{1,2}")), 1..60)) {
            let mut state = State::new(1, []);
            let mut then = vec![(1, state.list("", None).unwrap().pairs)];
            for (key, value) in steps {
                let key = format!("k{key}");
                write(&mut state, vec![value.map_or_else(|| Op::Delete(key.clone()), |v| put(&key, &v))]);
                if then.last().unwrap().0 != state.revision {
                    then.push((state.revision, state.list("", None).unwrap().pairs));
                }
            }
            for (revision, pairs) in &then {
                prop_assert_eq!(&state.list("", Some(*revision)).unwrap().pairs, pairs);
                let mut replayed: BTreeMap<String, Pair> = pairs.iter().map(|p| (p.key.clone(), p.clone())).collect();
                for event in state.events(&[String::new()], revision + 1, usize::MAX).unwrap().events {
                    match event {
                        Event::Put(pair) => replayed.insert(pair.key.clone(), pair),
                        Event::Delete { key, .. } => replayed.remove(&key),
                    };
                }
                prop_assert_eq!(replayed.into_values().collect::<Vec<_>>(), state.list("", None).unwrap().pairs);
            }
        }
    }
}
