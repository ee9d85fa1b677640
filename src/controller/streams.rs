//! The loop's ends of the streams between nodes: what followers are given, whom this node follows, whom it asks what they
//! are. What is given and followed is decided by `core`.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::core::Core;
use crate::{
    model::{Now, cluster::PeerNode},
    replication::{Heard, Hub, Leader, Serving, scout::Round},
};

/// Shortest time between two deltas (design section 4.4).
const DELTA_PAUSE: Duration = Duration::from_millis(100);

/// What connects the controller with `replication`.
pub struct Streams {
    /// Where this node's followers read.
    pub hub: Hub,
    /// Whom to follow.
    pub whom: watch::Sender<Option<Leader>>,
    /// What comes from there.
    pub heard: mpsc::Receiver<Heard>,
    /// Where other nodes are.
    pub urls: watch::Sender<Vec<String>>,
    /// Whether they should be asked what they are.
    pub scouting: watch::Sender<bool>,
    /// What they said.
    pub rounds: mpsc::Receiver<Round>,
    /// When the last delta went out.
    pub last_delta: Option<Instant>,
}

impl Streams {
    /// How long the next delta has to wait; `None` where there is nothing to tell.
    pub(super) fn until_delta(&self, core: &Core) -> Option<Duration> {
        let waited = self.last_delta.map_or(DELTA_PAUSE, |last| last.elapsed());
        core.has_delta().then(|| DELTA_PAUSE.saturating_sub(waited))
    }

    /// Brings the streams in line with what the node is now, and sends what is due.
    pub(super) fn settle(&mut self, core: &mut Core, now: Now) {
        let node = core.node().clone();
        let serving = core.serving().map(|s| Serving { node, term: s.term, degraded: s.degraded });
        let began = serving.is_some() && !self.hub.is_serving();
        self.hub.serve(serving);
        if began {
            self.beat(core, now);
        }
        let whom = core.dials().map(|w| Leader { node: w.node.clone(), url: w.url.clone(), term: w.term });
        self.whom.send_if_modified(|known| {
            let other = *known != whom;
            *known = whom;
            other
        });
        let scouting = core.wants_scouts();
        self.scouting.send_if_modified(|known| std::mem::replace(known, scouting) != scouting);
        if self.until_delta(core).is_some_and(|wait| wait.is_zero()) {
            if self.hub.is_followed(now.wall) {
                self.hub.delta(now.wall, core.graphite_mark(), core.take_delta(now));
            } else if core.drop_delta() {
                self.hub.skip();
            }
            self.last_delta = Some(Instant::now());
        }
    }

    /// What is due each second.
    pub(super) fn beat(&self, core: &Core, now: Now) {
        self.hub.heartbeat(now.wall, core.graphite_mark());
    }

    /// Where other nodes are, as far as is known.
    pub(super) fn tell_urls(&self, core: &Core) {
        let urls = core.peer_urls();
        self.urls.send_if_modified(|known| {
            let other = *known != urls;
            *known = urls;
            other
        });
    }
}

/// Those that answered.
pub(super) fn answers(round: Round) -> Vec<PeerNode> {
    round.into_iter().filter_map(|(_, answer)| answer.ok()).collect()
}
