//! What a node says of itself.

use serde::Serialize;

use super::{NodeName, RegionName, Timestamp};

/// Design section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Its catalog is not read yet.
    Starting,
    /// Another node leads its region.
    Follower,
    /// It may write.
    Leader,
    /// The store is out of reach; it probes for itself.
    Autonomous,
}

impl Role {
    /// The word in JSON, logs and pages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Follower => "follower",
            Self::Leader => "leader",
            Self::Autonomous => "autonomous",
        }
    }
}

/// Whether the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    /// It answers.
    Ok,
    /// It does not.
    Lost,
}

/// `GET /api/v1/node` (design section 4.1).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeStatus {
    /// This node.
    pub node: NodeName,
    /// Its region.
    pub region: RegionName,
    /// The environment's name, as in `<environment> cluster health`.
    pub environment: String,
    /// Its role.
    pub role: Role,
    /// The highest term seen, 0 where there is none.
    pub term: i64,
    /// The leader's name, where one is known.
    pub leader: Option<NodeName>,
    /// Where the leader is reached.
    pub leader_url: Option<String>,
    /// In which term that leader leads; below `term` where a later one is over already.
    pub leader_term: Option<i64>,
    /// An autonomous node that led last and goes on in its old term (design section 4.5).
    pub static_leader: bool,
    /// It may take requests.
    pub ready: bool,
    /// Something it needs is missing.
    pub degraded: bool,
    /// Since when it has its role.
    pub since: Timestamp,
    /// Whether the store answers.
    pub store: StoreState,
    /// When the process started.
    pub started: Timestamp,
    /// The program's version.
    pub version: &'static str,
}
