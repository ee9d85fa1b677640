//! Transitions as events: one value per flush at `events/<region>/<number>`, in the transaction that writes the states, and the
//! one 256 before deleted with it (design section 4.4). Who reads them is left to history and webhooks.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Reign;
use crate::{
    controller::transitions::Transition,
    model::RegionName,
    store::{Compare, Op, Store, StoreError, keys::NodeKey},
};

/// Most event values of a region that stand.
pub const KEPT: u64 = 256;
/// Most transitions in one event value.
pub const MOST: usize = 100;
/// Operations that an event needs.
pub const OPS: usize = 2;

/// The value of one event key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventValue {
    /// Version of the value.
    pub v: u32,
    /// The term of the leader that wrote it.
    pub term: i64,
    /// In the order in which they happened.
    pub transitions: Vec<Transition>,
}

/// Where events are numbered from; read from the store once a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    reign: Reign,
    /// The number of the next event.
    pub next: u64,
}

fn key(region: &RegionName, number: u64) -> String {
    NodeKey::OutboxEvent(region.clone(), format!("{number:020}")).to_string()
}

impl Numbers {
    /// Goes on after the last event that stands.
    ///
    /// # Errors
    /// As `Store::list`.
    pub async fn read(store: &dyn Store, region: &RegionName, reign: Reign) -> Result<Self, StoreError> {
        let prefix = format!("events/{region}/");
        let listing = store.list(&prefix, None).await?;
        let number = |key: &str| key.strip_prefix(&prefix)?.parse::<u64>().ok();
        let last = listing.pairs.iter().filter_map(|pair| number(&pair.key)).max();
        Ok(Self { reign, next: last.map_or(1, |last| last.saturating_add(1)) })
    }

    /// Whether they were read in this reign.
    pub const fn are_of(&self, reign: Reign) -> bool {
        self.reign.generation == reign.generation && self.reign.term == reign.term
    }

    /// Holds as long as the next event is not written. Every write of a leader carries it: a copy of a write that the network
    /// held up, and that comes in after a later one of the same key and term, passes the fence, but not this.
    pub fn guard(&self, region: &RegionName) -> Compare {
        Compare::Absent(key(region, self.next))
    }

    /// The next event, where it is written already and of this reign's term: a write that seemed to have failed did happen.
    ///
    /// # Errors
    /// As `Store::get`.
    pub async fn written(&self, store: &dyn Store, region: &RegionName) -> Result<Option<EventValue>, StoreError> {
        let (_, pair) = store.get(&key(region, self.next)).await?;
        let value = pair.and_then(|pair| serde_json::from_slice::<EventValue>(&pair.value).ok());
        Ok(value.filter(|value| value.term == self.reign.term))
    }

    /// The operations that write the next event.
    pub fn ops(&self, region: &RegionName, transitions: &[Transition]) -> Vec<Op> {
        let value = EventValue { v: 1, term: self.reign.term, transitions: transitions.to_vec() };
        let Ok(value) = serde_json::to_vec(&value) else { return Vec::new() };
        let mut ops = vec![Op::Put { key: key(region, self.next), value: Bytes::from(value), lease: None }];
        ops.extend(self.next.checked_sub(KEPT).filter(|old| *old > 0).map(|old| Op::Delete(key(region, old))));
        ops
    }
}
