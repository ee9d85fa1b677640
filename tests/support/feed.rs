//! A reader of a feed that applies what it is told and keeps count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether::store::feed::{self, FeedItem, FeedOptions};
use bellwether::store::{Event, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub struct Reader {
    items: mpsc::Receiver<FeedItem>,
    pub told: BTreeMap<String, Vec<u8>>,
    pub puts: usize,
    /// `synced`, `reset`, `events`, `lost`, `back`, in order.
    pub seen: Vec<&'static str>,
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    pub fn start(store: Arc<dyn Store>, prefixes: &[&str]) -> Self {
        let (items, task) = feed::spawn(store, FeedOptions::new(prefixes.iter().copied()), CancellationToken::new());
        Self { items, told: BTreeMap::new(), puts: 0, seen: Vec::new(), _task: AbortOnDropHandle::new(task) }
    }

    pub async fn next(&mut self) -> FeedItem {
        let item = tokio::time::timeout(Duration::from_secs(20), self.items.recv()).await;
        let item = item.unwrap_or_else(|_| panic!("an item in time; seen: {:?}", self.seen)).expect("the feed lives");
        let (word, events) = match &item {
            FeedItem::Synced { events, reset: false, .. } => ("synced", events.as_slice()),
            FeedItem::Synced { events, .. } => ("reset", events.as_slice()),
            FeedItem::Events(events) => ("events", events.as_slice()),
            FeedItem::Lost { .. } => ("lost", &[][..]),
            FeedItem::Back => ("back", &[][..]),
        };
        self.seen.push(word);
        for event in events {
            match event {
                Event::Put(pair) => {
                    self.puts += 1;
                    self.told.insert(pair.key.clone(), pair.value.to_vec());
                }
                Event::Delete { key, .. } => {
                    self.told.remove(key).unwrap_or_else(|| panic!("a delete of {key}, which was never told"));
                }
            }
        }
        item
    }

    pub async fn until(&mut self, word: &str) -> FeedItem {
        loop {
            let item = self.next().await;
            if self.seen.last() == Some(&word) {
                return item;
            }
        }
    }

    /// Reads on until what was told equals `all`.
    pub async fn until_equal(&mut self, all: &BTreeMap<String, Vec<u8>>) {
        while self.told != *all {
            self.next().await;
        }
    }
}

/// What a store holds below a prefix.
pub async fn content(store: &dyn Store, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let listing = store.list(prefix, None).await.unwrap();
    listing.pairs.into_iter().map(|p| (p.key, p.value.to_vec())).collect()
}
