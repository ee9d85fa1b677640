//! What a node is and whom it follows, from what it knows at one moment: pure (design sections 4.1, 4.2 and 4.5). The facts are
//! gathered by `core::roles`; what a place entails (who probes, who writes, who streams) is left to the rest of `core`.

use std::time::Duration;

use crate::bugs::{self, Bug};
use crate::model::{NodeName, Role, StoreState, cluster::PeerNode};

/// Shortest time with neither store nor stream after which a node probes for itself (design section 4.5).
pub const ALONE_AT_LEAST: Duration = Duration::from_secs(10);
/// Nodes spread over this much more, lest all begin to probe at one moment.
const ALONE_SPREAD: Duration = Duration::from_secs(2);
/// With a session but without a leader for this long, who led last goes on as static leader: nobody can take the key (NOSPACE).
pub const VACANT_FOR: Duration = Duration::from_secs(3);

/// A node whose results count here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whom {
    /// Its name.
    pub node: NodeName,
    /// Where it is.
    pub url: String,
    /// In which term it leads, or led.
    pub term: i64,
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// It has no catalog yet.
    #[default]
    Starting,
    /// It may write.
    Leader,
    /// It answers by another's results.
    Follower {
        /// Whose; none while nobody is known.
        whom: Option<Whom>,
    },
    /// It led last, the store is out of reach, and nobody else leads: it goes on in its old term.
    StaticLeader {
        /// That term.
        term: i64,
    },
    /// It knows nobody whose results it could take: it probes for itself.
    Autonomous {
        /// Whom it tries to follow meanwhile.
        whom: Option<Whom>,
    },
}

impl Place {
    /// The role that it shows.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Starting => Role::Starting,
            Self::Leader => Role::Leader,
            Self::Follower { .. } => Role::Follower,
            Self::StaticLeader { .. } | Self::Autonomous { .. } => Role::Autonomous,
        }
    }

    /// It probes and computes health.
    #[must_use]
    pub const fn probes(&self) -> bool {
        matches!(self, Self::Leader | Self::StaticLeader { .. } | Self::Autonomous { .. })
    }

    /// Others may follow it.
    #[must_use]
    pub const fn streams(&self) -> bool {
        matches!(self, Self::Leader | Self::StaticLeader { .. })
    }

    /// Whom it follows, or tries to.
    #[must_use]
    pub const fn whom(&self) -> Option<&Whom> {
        match self {
            Self::Follower { whom } | Self::Autonomous { whom } => whom.as_ref(),
            Self::Starting | Self::Leader | Self::StaticLeader { .. } => None,
        }
    }
}

/// What is known at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// It has a catalog: the store's, or one kept on disk.
    pub synced: bool,
    /// It is shutting down.
    pub draining: bool,
    /// The session may write.
    pub leads: bool,
    /// The session stands: its lease was renewed in time.
    pub session: bool,
    /// Another node that the store shows as the region's leader.
    pub leader: Option<&'a Whom>,
    /// Whether the store answers.
    pub store: StoreState,
    /// Whom its stream comes from, while it is alive and began with a full frame.
    pub stream: Option<&'a Whom>,
    /// What other nodes of the region said lately of themselves.
    pub peers: &'a [PeerNode],
    /// The term in which this node led, while nobody is known to have led since.
    pub led_last: Option<i64>,
    /// Whom it took for the leader last.
    pub last: Option<&'a Whom>,
    /// For how long it has had neither a leader in the store nor a stream.
    pub without: Duration,
    /// For how long it bears that before it probes for itself.
    pub bound: Duration,
}

/// What follows from the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the node is.
    pub place: Place,
    /// Why; one line.
    pub reason: String,
    /// Another led after this node: it is the static leader of its term no more, whatever comes.
    pub gave_way: bool,
}

/// How long a node bears to be without store and stream: max(2 × longest interval, 10 s) and a spread that is the same for a
/// name in every process.
#[must_use]
pub fn bound(longest: Duration, node: &NodeName) -> Duration {
    let mut hash =
        node.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    // Short names differ little in FNV's high bits.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let share = u16::try_from(hash >> 48).unwrap_or(0);
    let spread = ALONE_SPREAD.mul_f64(f64::from(share) / f64::from(u16::MAX));
    longest.saturating_mul(2).max(ALONE_AT_LEAST).saturating_add(spread)
}

/// The best of those whom the other nodes tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    /// A live store stands behind it.
    live: bool,
    whom: Whom,
}

impl Candidate {
    /// The address decides last: of a node that moved, two may be told, and all are to choose the same.
    fn rank(&self) -> (bool, i64, &str, &str) {
        (self.live, self.whom.term, self.whom.node.as_str(), self.whom.url.as_str())
    }

    fn of(peer: &PeerNode, me: &NodeName) -> Option<Self> {
        if peer.node == *me {
            return None;
        }
        // Only a live store says who leads. Without one a node speaks for itself alone: hearsay could outlive who it is about.
        let live = peer.store == StoreState::Ok || peer.role == Role::Leader;
        let node = match &peer.leader {
            Some(leader) if live => leader,
            _ if peer.static_leader => &peer.node,
            _ => return None,
        };
        let url = peer.leader_url.clone()?;
        // Not the highest term that it has seen: that one may be over, and another's.
        let term = peer.leader_term.unwrap_or(peer.term);
        (node != me).then(|| Self { live, whom: Whom { node: node.clone(), url, term } })
    }
}

/// Decides.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Decision {
    let plain = |place, reason: String| Decision { place, reason, gave_way: false };
    if !facts.synced {
        return plain(Place::Starting, "the catalog is not read yet".to_owned());
    }
    if facts.leads {
        return plain(Place::Leader, "it holds the leader key".to_owned());
    }
    if let Some(leader) = facts.leader {
        let reason = format!("{} leads in term {}", leader.node, leader.term);
        return Decision { gave_way: true, ..plain(follower(Some(leader)), reason) };
    }
    let best = facts.peers.iter().filter_map(|p| Candidate::of(p, facts.node)).max_by(|a, b| a.rank().cmp(&b.rank()));
    match facts.led_last {
        Some(_) if facts.draining => plain(follower(None), "it ends".to_owned()),
        Some(term) => led_last(facts, term, best),
        None => others(facts, best),
    }
}

fn follower(whom: Option<&Whom>) -> Place {
    Place::Follower { whom: whom.cloned() }
}

/// Who led last: it goes on, unless somebody has led since.
fn led_last(facts: &Facts<'_>, term: i64, best: Option<Candidate>) -> Decision {
    let follow = |whom: Whom, reason| Decision { place: follower(Some(&whom)), reason, gave_way: true };
    if let Some(Candidate { live, whom }) = best
        && !bugs::is(Bug::StaticNeverYields)
        && (live || (whom.term, &whom.node) > (term, facts.node))
    {
        let reason = if live {
            format!("{} leads in term {}, as another node with a store says", whom.node, whom.term)
        } else {
            format!("{} is static leader of term {}, above this node's {term}", whom.node, whom.term)
        };
        return follow(whom, reason);
    }
    let higher = facts.peers.iter().find(|p| p.term > term && !bugs::is(Bug::StaticNeverYields));
    if let Some(peer) = higher {
        let reason = format!("{} has seen term {}, above this node's {term}", peer.node, peer.term);
        return Decision { place: follower(None), reason, gave_way: true };
    }
    let (place, reason) = if facts.session && facts.without < VACANT_FOR {
        (follower(None), "nobody leads yet; it stands for election".to_owned())
    } else {
        let why = if facts.session { "nobody can take the leader key" } else { "the store is out of reach" };
        (Place::StaticLeader { term }, format!("{why}; it led last and goes on in term {term}"))
    };
    Decision { place, reason, gave_way: false }
}

/// Whoever did not lead last: it follows the best that it knows, and alone it probes for itself after a while.
fn others(facts: &Facts<'_>, best: Option<Candidate>) -> Decision {
    let decided = |place, reason| Decision { place, reason, gave_way: false };
    if let Some(stream) = facts.stream {
        let better = best.filter(|b| b.whom.node != stream.node && (b.live || b.whom.term > stream.term));
        return match better {
            Some(better) => {
                let reason = format!("{} leads in term {}, as the other nodes say", better.whom.node, better.whom.term);
                decided(follower(Some(&better.whom)), reason)
            }
            None => {
                let reason =
                    format!("without the store it follows the stream of {} in term {}", stream.node, stream.term);
                decided(follower(Some(stream)), reason)
            }
        };
    }
    let whom = best.map(|b| b.whom).or_else(|| facts.last.filter(|last| last.node != *facts.node).cloned());
    if facts.without >= facts.bound {
        let reason = if facts.store == StoreState::Ok {
            "nobody has led for too long, and no stream comes: it probes for itself"
        } else {
            "neither store nor stream for too long: it probes for itself"
        };
        return decided(Place::Autonomous { whom }, reason.to_owned());
    }
    let reason = match (&whom, facts.store) {
        (Some(whom), StoreState::Lost) => {
            format!("the store is out of reach; it waits for the stream of {}", whom.node)
        }
        (None, StoreState::Lost) => "the store is out of reach, and no leader is known".to_owned(),
        (_, StoreState::Ok) => "nobody leads yet".to_owned(),
    };
    decided(Place::Follower { whom }, reason)
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
