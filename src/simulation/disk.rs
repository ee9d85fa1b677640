//! A disk in memory that outlives its node's crash, and may lose the save that the crash cut short.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::disk::Disk;

#[derive(Debug, Default)]
struct Files {
    now: BTreeMap<String, Vec<u8>>,
    /// The last save: its file, and what was there before.
    last: Option<(String, Option<Vec<u8>>)>,
}

/// One node's disk.
#[derive(Debug, Default)]
pub struct MemoryDisk(Mutex<Files>);

impl MemoryDisk {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine fails: the last save was not on the disk yet.
    pub fn lose_last(&self) {
        let mut files = self.files();
        match files.last.take() {
            Some((name, Some(before))) => files.now.insert(name, before),
            Some((name, None)) => files.now.remove(&name),
            None => None,
        };
    }
}

impl Disk for MemoryDisk {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files().now.get(name).cloned())
    }

    fn save(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let before = files.now.insert(name.to_owned(), content.to_vec());
        files.last = Some((name.to_owned(), before));
        Ok(())
    }
}
