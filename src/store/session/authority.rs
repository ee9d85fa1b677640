//! Who leads, and until when this node may write: values and arithmetic (design section 4.2). Time comes in as a value.

use std::time::Duration;

use crate::bugs::{self, Bug};
use crate::model::{Mono, NodeName};
use crate::store::{Compare, LeaseId};

/// The safety margin of a lease of `ttl`: 1.0 s + 2 % for clocks that run at different rates.
#[must_use]
pub fn margin(ttl: Duration) -> Duration {
    Duration::from_secs(1).saturating_add(ttl / 50)
}

/// Until when a renewal gives authority: counted from the moment before it was sent, for the server may have counted from
/// then on. A TTL within the margin gives none.
#[must_use]
pub fn authority_ends(sent: Mono, ttl: Duration) -> Mono {
    sent.plus(ttl.saturating_sub(margin(ttl)))
}

/// What this node is in its region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may write in this term, until then.
    Leader {
        /// The leader key's create revision.
        term: i64,
        /// When the authority ends, unless the lease is renewed, and the controller ticks, before.
        until: Mono,
    },
    /// Another node leads, or none.
    Follower {
        /// The leader, where one is known.
        leader: Option<NodeName>,
        /// The highest term seen, 0 where there was none.
        term: i64,
    },
    /// No session: the store did not answer yet, or not for longer than the session's time.
    None {
        /// The highest term seen.
        term: i64,
    },
}

/// What the session says of this node, swapped whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its standing.
    pub standing: Standing,
    /// The session's lease.
    pub lease: Option<LeaseId>,
    /// The leader's advertised URL, where one is known.
    pub leader_url: Option<String>,
    /// The store's generation (`store::Horizon`): terms are compared within one.
    pub generation: u64,
}

impl Authority {
    /// Whether this node may write at `now`. To be asked at each write: the standing alone may be out of date after a pause.
    #[must_use]
    pub fn may_write(&self, now: Mono) -> bool {
        matches!(self.standing, Standing::Leader { until, .. } if now < until || bugs::is(Bug::AuthorityUnchecked))
    }

    /// The highest term seen.
    #[must_use]
    pub const fn term(&self) -> i64 {
        match self.standing {
            Standing::Leader { term, .. } | Standing::Follower { term, .. } | Standing::None { term } => term,
        }
    }

    /// The compares that guard each write of a leader: the leader key's create revision and its lease. `None` where this
    /// node may not write.
    #[must_use]
    pub fn fence(&self, leader_key: &str, now: Mono) -> Option<Vec<Compare>> {
        match (&self.standing, self.lease) {
            (Standing::Leader { term, .. }, Some(lease)) if self.may_write(now) => {
                Some(if bugs::is(Bug::FenceDropped) { Vec::new() } else { fence(leader_key, *term, lease) })
            }
            _ => None,
        }
    }
}

/// The compares of a term's writes.
pub(super) fn fence(leader_key: &str, term: i64, lease: LeaseId) -> Vec<Compare> {
    vec![Compare::CreateRevision(leader_key.to_owned(), term), Compare::Lease(leader_key.to_owned(), lease)]
}
