//! Latches that this node holds by itself, on disk: without the store they must outlive a restart (design section 3).

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    disk::Disk,
    model::{CategoryName, Latch, NodeName},
};

/// Where they are kept.
#[derive(Clone, Debug)]
pub struct LatchFile {
    disk: Arc<dyn Disk>,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    latch: Latch,
    revision: i64,
}

impl LatchFile {
    /// `latches-<node>.json` in the data directory: nodes of one machine may share the directory.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, node: &NodeName) -> Self {
        Self { disk, name: format!("latches-{node}.json") }
    }

    /// What was kept; nothing where there is no file. A file that cannot be read is logged and left alone.
    #[must_use]
    pub fn load(&self) -> BTreeMap<CategoryName, Latch> {
        let text = match self.disk.load(&self.name) {
            Ok(Some(text)) => text,
            Ok(None) => return BTreeMap::new(),
            Err(error) => {
                tracing::error!(file = %self.name, %error, "kept latches cannot be read");
                return BTreeMap::new();
            }
        };
        match serde_json::from_slice::<BTreeMap<CategoryName, Stored>>(&text) {
            Ok(stored) => {
                let restore = |s: Stored| Latch { revision: s.revision, ..s.latch };
                stored.into_iter().map(|(category, s)| (category, restore(s))).collect()
            }
            Err(error) => {
                tracing::error!(file = %self.name, %error, "kept latches cannot be read");
                BTreeMap::new()
            }
        }
    }

    /// Replaces the file whole. A failure is logged: the latches still hold in memory.
    pub fn save(&self, latches: &BTreeMap<CategoryName, Latch>) {
        let stored: BTreeMap<_, _> =
            latches.iter().map(|(c, l)| (c, Stored { latch: l.clone(), revision: l.revision })).collect();
        let saved = serde_json::to_vec_pretty(&stored).map_err(Into::into).and_then(|t| self.disk.save(&self.name, &t));
        if let Err(error) = saved {
            tracing::error!(file = %self.name, %error, "latches cannot be kept on disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk::Directory, model::Timestamp};

    #[test]
    fn latches_outlive_a_restart() {
        let node = NodeName::new("a").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(Directory::new(dir.path()));
        let file = LatchFile::new(Arc::clone(&disk), &node);
        assert!(file.load().is_empty());
        let latch =
            Latch { v: 1, by: "a".into(), at: Timestamp::from_millis(5), reason: "x is down".into(), revision: 7 };
        let latches = BTreeMap::from([(CategoryName::new("read").unwrap(), latch)]);
        file.save(&latches);
        assert_eq!(LatchFile::new(disk, &node).load(), latches, "with the revision that clears it");
        std::fs::write(dir.path().join("latches-a.json"), "{").unwrap();
        assert!(file.load().is_empty(), "a broken file stops nothing");
    }
}
