//! What a node answers over HTTP: `/__gtg` and its siblings, the JSON API, the page. It reads the `View`; whatever
//! changes something goes through the `port`, which the controller implements.
//! What the answers mean is decided by `evaluation`; when a node stops is decided by `runtime`.

mod accept;
mod agghealth;
mod api;
mod aside;
mod cluster;
mod connection;
mod doors;
mod error;
mod fragments;
mod gtg;
mod health;
mod health_json;
mod hot;
mod node;
mod page;
mod page_cluster;
mod page_rows;
pub mod port;
mod problem;
mod query;
mod reload;
mod requests;
mod respond;
pub mod routes;
mod serve;
mod standing;
mod tls;
mod verdict;

use std::{fmt, sync::Arc};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    latest::Latest,
    model::{Fault, View},
};

pub use doors::{Doors, Token};
pub use error::WebError;
pub use fragments::Fragments;
pub use health::report_json;
pub use requests::{Endpoint, Requests};
pub use serve::{Options, Server};
pub use tls::TlsFiles;

/// What this program is, for `/__build-info`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BuildInfo {
    /// The program's name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The source revision that it was built from, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<&'static str>,
}

/// Everything that answers are made from.
pub struct Web {
    /// The value that readers get.
    pub view: Latest<View>,
    /// Where edits and fresh results come from.
    pub port: Arc<dyn port::Port>,
    /// What other nodes ask of this one.
    pub cluster: Arc<dyn port::ClusterPort>,
    /// Time, for ages and for answers that hold only for a while.
    pub clock: Clock,
    /// Who may edit.
    pub doors: Doors,
    /// What this program is.
    pub build: BuildInfo,
    /// Renders `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Counts answers.
    pub requests: Arc<Requests>,
    /// Parts of reports that are written once per catalog.
    pub fragments: Fragments,
    /// Where faults of the listener's own files go (source and whole list), to be shown with all others.
    pub faults: Option<mpsc::Sender<(&'static str, Vec<Fault>)>>,
    /// Cancelled when the node drains: `/__ready` turns 503 and each answer closes its connection, while verdicts go
    /// on (design section 6). Stopping is another token, given to `Server::serve`.
    pub draining: CancellationToken,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("doors", &self.doors).field("build", &self.build).finish_non_exhaustive()
    }
}
