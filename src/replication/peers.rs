//! How a node reaches another: a trait, so that a simulation can stand in for the network.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::Entry;
use crate::model::{Observation, TargetName, cluster::PeerNode};

/// Why a peer could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No connection, or no answer in time.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// Whom we asked.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// It answered that it does not want to, or with something that we do not understand.
    #[error("{url} refuses: {reason}")]
    Refused {
        /// Whom we asked.
        url: String,
        /// What it said.
        reason: String,
    },
}

/// The answer to `refresh`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refreshed {
    /// Fresh states.
    pub entries: Vec<Entry>,
    /// Targets that did not answer within the bound.
    pub not_refreshed: Vec<TargetName>,
}

/// What a witness saw of one target, by a probe of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The target.
    pub target: TargetName,
    /// Its result.
    pub observation: Arc<Observation>,
}

/// Other nodes. Every call ends within a bound of its own.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Opens the stream of a leader at `url`, going on after (term, seq) where it still can; otherwise it begins with a full
    /// frame. The channel carries bytes as they come, is bounded, and closes when the connection is lost.
    async fn stream(&self, url: &str, after: Option<(i64, u64)>) -> Result<mpsc::Receiver<Bytes>, PeerError>;

    /// Asks a node for `/api/v1/node`.
    async fn node(&self, url: &str) -> Result<PeerNode, PeerError>;

    /// Asks the leader to probe these again (`cache=false`), at most 3 s.
    async fn refresh(&self, url: &str, targets: &[TargetName]) -> Result<Refreshed, PeerError>;

    /// Asks a node to probe these once with its own eyes, at most 3 s (the isolation guard of design section 4.5).
    async fn witness(&self, url: &str, targets: &[TargetName]) -> Result<Vec<Seen>, PeerError>;
}

/// Reaches nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl NoPeers {
    fn nobody<T>(url: &str) -> Result<T, PeerError> {
        Err(PeerError::Unreachable { url: url.to_owned(), reason: "this node knows no others".to_owned() })
    }
}

#[async_trait]
impl Peers for NoPeers {
    async fn stream(&self, url: &str, _: Option<(i64, u64)>) -> Result<mpsc::Receiver<Bytes>, PeerError> {
        Self::nobody(url)
    }

    async fn node(&self, url: &str) -> Result<PeerNode, PeerError> {
        Self::nobody(url)
    }

    async fn refresh(&self, url: &str, _: &[TargetName]) -> Result<Refreshed, PeerError> {
        Self::nobody(url)
    }

    async fn witness(&self, url: &str, _: &[TargetName]) -> Result<Vec<Seen>, PeerError> {
        Self::nobody(url)
    }
}
