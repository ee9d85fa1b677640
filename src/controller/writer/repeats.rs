//! Which keys were written since the last event. A copy of a write that the network held up passes the fence of its own term; it
//! is the next event that breaks its guard. Who writes a key for the second time must not wait for a transition to come by.

use std::collections::BTreeSet;

use super::queue::{Reign, Slot, slot};
use crate::controller::core::Write;

/// Keys written in one reign since its last event, or tried to be.
#[derive(Debug, Default)]
pub struct Repeats {
    reign: Reign,
    written: BTreeSet<Slot>,
}

impl Repeats {
    /// These are about to be written; true where one of them was before, so that an event has to go out with them.
    pub fn note(&mut self, reign: Reign, batch: &[Write]) -> bool {
        if self.reign != reign {
            *self = Self { reign, ..Self::default() };
        }
        let mut again = false;
        // An old summary stands for some seconds at most: the next one is on the way.
        for write in batch.iter().filter(|write| !matches!(write, Write::Summary(_))) {
            again |= !self.written.insert(slot(write));
        }
        again
    }

    /// Whether an event may have to go out with the next batch.
    pub fn may_need_event(&self, reign: Reign) -> bool {
        self.reign == reign && !self.written.is_empty()
    }

    /// An event was written: no copy of what came before it passes.
    pub fn guarded(&mut self) {
        self.written.clear();
    }
}
