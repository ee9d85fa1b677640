//! What follows from the catalog and the healths: verdicts with severity and reasons. Made by `evaluation`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{CategoryName, HealthState, RegionName, ServiceName, Severity, TargetName, Timestamp};

/// Why a verdict is what it is. Every output prints the same reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// A target that counts as failed.
    TargetFailed {
        /// Which.
        target: TargetName,
        /// Down, or unknown.
        state: HealthState,
        /// What its health says.
        detail: Arc<str>,
    },
    /// All targets of a service in the category have failed (resilient).
    ServiceFailed {
        /// Which.
        service: ServiceName,
        /// How many targets it has there.
        targets: u32,
    },
    /// A known category without targets.
    NoTargets {
        /// Which.
        category: CategoryName,
    },
    /// The manual switch is off.
    Disabled {
        /// Which.
        category: CategoryName,
    },
    /// The sticky latch holds.
    Latched {
        /// Which.
        category: CategoryName,
        /// The node that latched.
        by: String,
        /// When.
        at: Timestamp,
        /// Why it latched.
        reason: String,
    },
    /// The region is drained by an operator.
    RegionDisabled {
        /// Which.
        region: RegionName,
    },
    /// The node has not read its catalog.
    Starting,
}

impl fmt::Display for Reason {
    /// One plain line that a non-expert understands (FT gtg standard).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TargetFailed { target, state, detail } => write!(f, "{target} is {}: {detail}", state.word()),
            Self::ServiceFailed { service, targets: 0 } => write!(f, "service {service} has no targets here"),
            Self::ServiceFailed { service, targets: 1 } => {
                write!(f, "service {service} failed: its only target failed")
            }
            Self::ServiceFailed { service, targets } => {
                write!(f, "service {service} failed: all {targets} targets failed")
            }
            Self::NoTargets { category } => write!(f, "category {category} has no targets"),
            Self::Disabled { category } => write!(f, "category {category} is disabled"),
            Self::Latched { category, by, at, reason } => {
                write!(f, "category {category} was switched off by its sticky latch at {at} on {by}: {reason}")
            }
            Self::RegionDisabled { region } => write!(f, "region {region} is drained by an operator"),
            Self::Starting => f.write_str("the node is starting"),
        }
    }
}

/// One target's part in the verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetVerdict {
    /// Its state is up.
    pub ok: bool,
    /// An ack in force covers it (also while it is up).
    pub acked: bool,
}

impl TargetVerdict {
    /// Failed, and nobody has acked it.
    #[must_use]
    pub const fn counts_as_failed(self) -> bool {
        !self.ok && !self.acked
    }
}

/// A category's verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct CategoryVerdict {
    /// Health alone: resilience and acks applied, switch and latch not.
    pub healthy: bool,
    /// Good to go: healthy, enabled, not latched, region not drained.
    pub ok: bool,
    /// The worst severity among the failures that count.
    pub severity: Option<Severity>,
    /// Why not ok (bounded: the first 16), the deciding one first.
    pub reasons: Vec<Reason>,
    /// The manual switch.
    pub enabled: bool,
    /// The latch in force.
    pub latch: Option<Latch>,
    /// Unhealthy only because targets are unknown: such a category does not latch (design section 6).
    pub only_unknown: bool,
}

/// A service's verdict over all its targets here.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceVerdict {
    /// At least one target is up, or all its failures are acked.
    pub ok: bool,
    /// The worst severity among its failures that count.
    pub severity: Option<Severity>,
    /// Why not ok.
    pub reasons: Vec<Reason>,
    /// Targets that are up.
    pub up: u32,
    /// Targets in all.
    pub total: u32,
}

/// A sticky latch: `ROOT/regions/<region>/latches/<category>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latch {
    /// Version of the value.
    #[serde(default = "version")]
    pub v: u32,
    /// The node that latched.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// The key's modification revision; for one not yet written, the newest revision known when it was made.
    #[serde(skip)]
    pub revision: i64,
}

const fn version() -> u32 {
    1
}

/// Everything that one run of the decision core found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Aligned with `Catalog::targets`.
    pub targets: Vec<TargetVerdict>,
    /// Every known category.
    pub categories: BTreeMap<CategoryName, CategoryVerdict>,
    /// Every known service.
    pub services: BTreeMap<ServiceName, ServiceVerdict>,
    /// Sticky, enabled categories that turned bad now: to be latched by who may write.
    pub new_latches: BTreeMap<CategoryName, String>,
    /// Latches that an operator's later `enabled` cleared: to be deleted by who may write.
    pub cleared_latches: Vec<CategoryName>,
    /// The cluster ack in force.
    pub cluster_acked: bool,
    /// The next instant at which the answer changes by itself (an ack expires).
    pub next_due: Option<Timestamp>,
}
