//! What the web room asks of the rest: edits, fresh results, the catalog as a document, and what other nodes want.
//! Implemented by `controller`.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use crate::model::{Ack, CategoryName, Fault, TargetName, document::Document};

/// One change that an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Put a target's ack.
    Ack(TargetName, Ack),
    /// Remove a target's ack.
    Unack(TargetName),
    /// Switch a category.
    Enabled {
        /// Which.
        category: CategoryName,
        /// On or off.
        enabled: bool,
        /// Who asks.
        by: Option<String>,
        /// Why; logged.
        reason: Option<String>,
    },
    /// Put the cluster ack.
    ClusterAck(Ack),
    /// Remove the cluster ack.
    ClearClusterAck,
}

/// How a document is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Only say what would change.
    pub dry_run: bool,
    /// Delete what the document does not name.
    pub prune: bool,
}

/// One key that a document changes. Values have their secrets replaced.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyChange {
    /// The whole key.
    pub key: String,
    /// Its value until now.
    pub old: Option<String>,
    /// Its value from now on; none: deleted.
    pub new: Option<String>,
}

/// Why an edit was not done.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// 503: the store does not answer, or takes no write now; the text says why.
    #[error("edits need the store: {0}")]
    StoreLost(String),
    /// 404: no such target or category; with the nearest known name.
    #[error("there is no {what} named {name:?}{}", nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    NotFound {
        /// `target` or `category`.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// 422: the document or value is refused, by field.
    #[error("{}", faults.first().map_or_else(|| "refused".to_owned(), |f| format!("{}: {}", f.key, f.reason)))]
    Invalid {
        /// Every fault found.
        faults: Vec<Fault>,
    },
    /// 409: somebody else changed it meanwhile, again and again.
    #[error("the catalog changed meanwhile; try again")]
    Conflict,
    /// 500.
    #[error("{0}")]
    Other(String),
}

/// A fresh run of some targets (`cache=false`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refreshed {
    /// Targets that did not answer within the bound; their last result counts.
    pub not_refreshed: Vec<TargetName>,
}

/// What the web room asks for.
#[async_trait]
pub trait Port: Send + Sync + 'static {
    /// Does one edit; returns once the store has it.
    async fn edit(&self, edit: Edit) -> Result<(), EditError>;

    /// The catalog as a document, read from the keys (values that are faulty included, secrets replaced).
    async fn document(&self) -> Result<Document, EditError>;

    /// Applies a document; returns what changes (or would).
    async fn apply(&self, document: Document, options: ApplyOptions) -> Result<Vec<KeyChange>, EditError>;

    /// Probes these targets again, sharing a run that is under way, and returns when each has a result, at most 3 s
    /// later. Results land in the view's cells; the answer uses those raw results.
    async fn refresh(&self, targets: Vec<TargetName>) -> Refreshed;

    /// Keeps a combination of categories prepared in coming views (bounded; the oldest falls out).
    fn prepare_combination(&self, categories: &str);
}

/// The lines of the stream for one follower, as they come; ends when this node serves no more.
pub type Lines = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// Why another node does not get what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// 503: this node does not lead, or cannot probe now; the text says why.
    #[error("{0}")]
    NotServing(String),
    /// 503, to be asked again: as many followers as are allowed.
    #[error("too many nodes follow this one")]
    TooMany,
    /// 500.
    #[error("{0}")]
    Other(String),
}

/// What other nodes of the cluster ask for (design sections 4.4 and 4.5). Bodies are written by `replication`.
#[async_trait]
pub trait ClusterPort: Send + Sync + 'static {
    /// The stream of this leader's observations for one follower, going on after (term, number) where it still can. How
    /// many there may be is bounded.
    fn subscribe(&self, after: Option<(i64, u64)>) -> Result<Lines, ClusterError>;

    /// Probes these targets again, as `Port::refresh`, and returns their whole states: `replication::wire::refreshed`. At
    /// most 3 s.
    async fn refresh(&self, targets: Vec<TargetName>) -> Result<Bytes, ClusterError>;

    /// Probes these targets once with this node's own eyes: `replication::wire::witnessed`. At most 3 s.
    async fn witness(&self, targets: Vec<TargetName>) -> Result<Bytes, ClusterError>;

    /// Whether this node may write at this instant. The view may be older than that: a process that was frozen answers
    /// before its view is built again.
    fn may_write(&self) -> bool;
}

/// Serves no other node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Alone {
    fn nothing<T>() -> Result<T, ClusterError> {
        Err(ClusterError::NotServing("this node serves no others".to_owned()))
    }
}

#[async_trait]
impl ClusterPort for Alone {
    fn subscribe(&self, _: Option<(i64, u64)>) -> Result<Lines, ClusterError> {
        Self::nothing()
    }

    fn may_write(&self) -> bool {
        true
    }

    async fn refresh(&self, _: Vec<TargetName>) -> Result<Bytes, ClusterError> {
        Self::nothing()
    }

    async fn witness(&self, _: Vec<TargetName>) -> Result<Bytes, ClusterError> {
        Self::nothing()
    }
}
