//! What goes into the controller's core and what comes out, as values. What is done with them is left to `core` and to
//! the loop around it.

use std::sync::Arc;

use super::{core::Question, status::StatusValue, transitions::Transition};
use crate::{
    config::LastGood,
    model::{
        CategoryName, Fault, HealthState, Latch, Mono, NodeName, RegionName, Role, StoreState, Target, TargetName,
        Timestamp, cluster::Summary,
    },
};

/// Who this node is; fixed for the process.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This node's name.
    pub node: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Whether `--region` was given; without it a latch also switches FT's plain `enabled` off.
    pub region_named: bool,
    /// The environment's name.
    pub environment: String,
    /// When the process started.
    pub started: Timestamp,
    /// The program's version.
    pub version: &'static str,
}

/// What the session and the feed say of the node's standing in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// It may write.
    pub leads: bool,
    /// The session stands: its lease was renewed in time.
    pub session: bool,
    /// The highest term seen by the session.
    pub term: i64,
    /// Which history of the store the terms belong to; terms are compared within one.
    pub generation: u64,
    /// The leader's name, as the session sees it.
    pub leader: Option<NodeName>,
    /// Where the leader is.
    pub leader_url: Option<String>,
    /// Whether the store answers.
    pub store: StoreState,
    /// The process is shutting down.
    pub draining: bool,
}

impl Default for Standing {
    /// Nothing is known.
    fn default() -> Self {
        Self {
            leads: false,
            session: false,
            term: 0,
            generation: 0,
            leader: None,
            leader_url: None,
            store: StoreState::Lost,
            draining: false,
        }
    }
}

/// A write that only the leader makes, fenced.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A target's transition.
    Status(TargetName, StatusValue),
    /// A target is gone.
    DropStatus(TargetName),
    /// A sticky category turned bad.
    Latch {
        /// Which.
        category: CategoryName,
        /// The latch.
        latch: Latch,
        /// Also put FT's plain `enabled` to `false`.
        disable_plain: bool,
    },
    /// An operator switched it on again: the latch goes, unless it was made anew.
    Unlatch {
        /// Which.
        category: CategoryName,
        /// The latch's modification revision.
        revision: i64,
    },
    /// Last good values and a held removal.
    LastGood(LastGood),
    /// What the region's leader says of it, every 5 s.
    Summary(Summary),
}

/// One change worth a log line and an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A target's state changed.
    Target {
        /// Which.
        target: TargetName,
        /// From which state to which.
        from: HealthState,
        /// The new state.
        to: HealthState,
        /// Why.
        reason: Arc<str>,
    },
    /// A category's verdict changed.
    Category {
        /// Which.
        category: CategoryName,
        /// The new verdict.
        ok: bool,
        /// The deciding reason.
        reason: String,
        /// Nothing has failed; results or targets are still missing.
        nothing_failed: bool,
    },
    /// A value was refused.
    FaultAppeared(Fault),
    /// A value is good again.
    FaultGone(String),
    /// The role changed.
    Role {
        /// The new one.
        role: Role,
        /// Why; one line.
        reason: Arc<str>,
    },
}

/// What the loop has to carry out.
#[derive(Debug, Default)]
pub struct Effects {
    /// The targets to probe changed; none while another probes.
    pub targets: Option<Vec<Arc<Target>>>,
    /// When these targets were last probed by whoever probed them before.
    pub last: Vec<(TargetName, Mono)>,
    /// Targets whose state is changing (or no longer is).
    pub fast: Vec<(TargetName, bool)>,
    /// Leader writes, in order.
    pub writes: Vec<Write>,
    /// Changes of states that this node found, in order: for its log, and as events where it leads.
    pub transitions: Vec<Transition>,
    /// What the guard against isolation asks.
    pub question: Option<Question>,
    /// The lead is to be given away: why.
    pub hand_over: Option<String>,
    /// What to tell people.
    pub changes: Vec<Change>,
    /// Latches held by this node changed: keep them on disk.
    pub own_latches_changed: bool,
}
