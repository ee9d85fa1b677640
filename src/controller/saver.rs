//! Puts files on disk beside the controller's task: the latest content of a file wins, appended pieces are gathered, one write at a
//! time. On a blocking thread in the world, at once in a simulation (which knows no threads). What is in the files is left to
//! `kept` and `transitions`.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::disk::Disk;

/// Most bytes that wait to be appended to one file while the disk hangs; what comes after is dropped, and told.
const MAX_WAITING: usize = 4 * 1024 * 1024;

type Make = Box<dyn FnOnce() -> io::Result<Vec<u8>> + Send>;

/// Where writes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// On one of tokio's blocking threads; `save` and `append` are then called inside a runtime.
    BlockingThread,
    /// In the call itself: for a simulation.
    Here,
}

#[derive(Default)]
struct Job {
    replace: Option<Make>,
    append: Vec<u8>,
}

#[derive(Default)]
struct Inner {
    waiting: BTreeMap<String, Job>,
    running: bool,
    /// Files whose last write failed: told once.
    failing: BTreeMap<String, String>,
}

/// Saves files; clones share one queue.
#[derive(Clone)]
pub struct Saver {
    disk: Arc<dyn Disk>,
    place: Where,
    inner: Arc<Mutex<Inner>>,
    /// Whether nothing waits or runs.
    idle: watch::Sender<bool>,
}

impl std::fmt::Debug for Saver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saver").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Saver {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, place: Where) -> Self {
        Self { disk, place, inner: Arc::default(), idle: watch::channel(true).0 }
    }

    /// Where it saves.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Replaces a file by what `make` yields, which runs where the write does. What waited for the file is overtaken, pieces
    /// to append included. A failure is logged, once until it works again; the old file stands.
    pub fn save(&self, name: &str, make: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) {
        let job = Job { replace: Some(Box::new(make)), append: Vec::new() };
        self.lock().waiting.insert(name.to_owned(), job);
        self.start();
    }

    /// Puts a piece at a file's end, after what waits for it. False: too much waits, and the piece is dropped.
    pub fn append(&self, name: &str, piece: &[u8]) -> bool {
        let mut inner = self.lock();
        let job = inner.waiting.entry(name.to_owned()).or_default();
        if job.append.len().saturating_add(piece.len()) > MAX_WAITING {
            return false;
        }
        job.append.extend_from_slice(piece);
        drop(inner);
        self.start();
        true
    }

    /// Returns once everything given so far is written or has failed. The bound is the caller's.
    pub async fn flush(&self) {
        // The sender is in self: it cannot close.
        let _ = self.idle.subscribe().wait_for(|idle| *idle).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) {
        if std::mem::replace(&mut self.lock().running, true) {
            return;
        }
        self.idle.send_replace(false);
        let worker = self.clone();
        match self.place {
            Where::Here => worker.work(),
            // Ends by itself once nothing waits; `flush` waits for it.
            Where::BlockingThread => drop(tokio::task::spawn_blocking(move || worker.work())),
        }
    }

    fn work(&self) {
        loop {
            let mut inner = self.lock();
            let Some((name, job)) = inner.waiting.pop_first() else {
                inner.running = false;
                self.idle.send_replace(true);
                return;
            };
            drop(inner);
            let written = self.write(&name, job);
            self.tell(name, written);
        }
    }

    fn write(&self, name: &str, job: Job) -> io::Result<()> {
        if let Some(make) = job.replace {
            self.disk.save(name, &make()?)?;
        }
        if job.append.is_empty() { Ok(()) } else { self.disk.append(name, &job.append) }
    }

    fn tell(&self, name: String, written: io::Result<()>) {
        let mut inner = self.lock();
        match written {
            Ok(()) => {
                if inner.failing.remove(&name).is_some() {
                    tracing::info!(file = %name, "the file is kept on disk again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if inner.failing.get(&name) != Some(&error) {
                    tracing::error!(file = %name, %error, "the file cannot be kept on disk");
                    inner.failing.insert(name, error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Directory;

    #[tokio::test]
    async fn the_latest_wins_and_appends_follow_in_order() {
        for place in [Where::Here, Where::BlockingThread] {
            let dir = tempfile::tempdir().unwrap();
            let saver = Saver::new(Arc::new(Directory::new(dir.path())), place);
            for i in 0..100_u32 {
                saver.save("a", move || Ok(i.to_string().into_bytes()));
                assert!(saver.append("b", format!("{i};").as_bytes()));
            }
            saver.flush().await;
            assert_eq!(saver.disk().load("a").unwrap().unwrap(), b"99");
            let all: String = (0..100).map(|i| format!("{i};")).collect();
            assert_eq!(saver.disk().load("b").unwrap().unwrap(), all.as_bytes());
            saver.save("b", || Err(io::Error::other("no")));
            saver.append("b", b"lost with it");
            saver.append("c", b"x");
            saver.flush().await;
            assert_eq!(saver.disk().load("c").unwrap().unwrap(), b"x", "another file's failure stops nothing");
            assert!(!saver.append("d", &vec![0; MAX_WAITING + 1]));
        }
    }
}
