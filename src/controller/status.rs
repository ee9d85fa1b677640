//! The value of `ROOT/regions/<region>/status/targets/<target>`: a target's last transition. No volatile text in it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Health, HealthState, Now, Timestamp};

/// One target's last transition, as the leader wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusValue {
    /// Version of the value.
    pub v: u32,
    /// The damped state.
    pub health: HealthState,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
    /// Term of the leader that saw it.
    pub term: i64,
    /// Grows with each transition of the target.
    pub n: u64,
}

impl StatusValue {
    /// What is written of a health.
    #[must_use]
    pub fn of(health: &Health) -> Self {
        Self {
            v: 1,
            health: health.state,
            since: health.since,
            reason: health.reason.to_string(),
            term: health.term,
            n: health.n,
        }
    }

    /// The health that a node starts with when it finds this: `down` holds, anything else has to be seen again.
    #[must_use]
    pub fn restored(&self, now: Now) -> Health {
        let known = Health { term: self.term, n: self.n, ..Health::unknown(now.wall) };
        if self.health == HealthState::Down {
            return Health { state: HealthState::Down, since: self.since, reason: Arc::from(&*self.reason), ..known };
        }
        known
    }
}
