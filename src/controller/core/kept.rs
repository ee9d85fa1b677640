//! What is kept on disk of the core, and a start from it: without the store a node answers by what it knew, as old as it is, until
//! it hears from somebody (design section 4.5). When that is done is left to `controller::keeper`.

use bytes::Bytes;

use super::{Core, Effects, Whom};
use crate::{
    controller::kept::{KeptCatalog, KeptState},
    model::Now,
    store::{Event, Pair, keys::NodeKey},
};

fn put(key: &NodeKey, value: &impl serde::Serialize, revision: i64) -> Option<Event> {
    let value = Bytes::from(serde_json::to_vec(value).ok()?);
    let key = key.to_string();
    Some(Event::Put(Pair { key, value, create_revision: revision, mod_revision: revision, lease: None }))
}

impl Core {
    /// What is to be kept beside the operators' keys, which who saves it has.
    #[must_use]
    pub fn kept(&self) -> KeptCatalog {
        KeptCatalog {
            revision: 0,
            generation: self.standing.generation,
            term: self.roles.term,
            leader: self.roles.last.as_ref().map(|w| w.node.clone()).or_else(|| {
                let led = self.roles.place.streams();
                led.then(|| self.identity.node.clone())
            }),
            pairs: Vec::new(),
            last_good: self.last_good.clone(),
            latches: self.store_latches.clone(),
            nodes: self.regions.nodes(&self.identity.region),
        }
    }

    /// Starts from what was kept: `events` are the operators' keys. Returns the other keys that were taken from there, which the
    /// store has to confirm once it answers.
    pub fn restore(
        &mut self,
        kept: KeptCatalog,
        state: KeptState,
        mut events: Vec<Event>,
        now: Now,
    ) -> (Effects, Vec<String>) {
        let region = self.identity.region.clone();
        let nodes = kept.nodes.iter().filter_map(|n| put(&NodeKey::Node(region.clone(), n.node.clone()), n, 0));
        let latches = kept.latches.iter();
        let latches =
            latches.filter_map(|(c, latch)| put(&NodeKey::Latch(region.clone(), c.clone()), latch, latch.revision));
        let own: Vec<Event> = nodes.chain(latches).collect();
        let lent = own.iter().map(|e| e.key().to_owned()).collect();
        events.extend(put(&NodeKey::CatalogStatus(region.clone()), &kept.last_good, 0));
        events.extend(own);
        let url = |node| kept.nodes.iter().find(|n| n.node == node).map(|n| n.url.clone());
        self.roles.last = kept
            .leader
            .filter(|node| *node != self.identity.node)
            .and_then(|node| Some(Whom { url: url(node.clone())?, node, term: kept.term }));
        self.roles.term = self.roles.term.max(kept.term);
        self.following.keep(state.entries, now);
        let mut effects = self.apply(kept.revision, &events, true, now);
        self.following.forget_aside();
        for entry in &mut self.entries {
            // As old as it is: what nobody has seen for long is unknown, and what this node makes of it gives way.
            entry.track.age(now, &entry.params, kept.term);
            entry.stamp.said = 0;
        }
        self.decide(now, &mut effects);
        (effects, lent)
    }
}
