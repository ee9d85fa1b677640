//! The embedded store's durable half: one `redb` file in the data directory. Keys on a lease are never written: they
//! belong to a living process.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::state::{Change, Plan};
use crate::store::{Event, Pair, StoreError};

/// Key to (create revision, modification revision, value).
const KEYS: TableDefinition<'_, &str, (i64, i64, &[u8])> = TableDefinition::new("keys");
const META: TableDefinition<'_, &str, i64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
const FORMAT: &str = "format";
/// The layout of the tables above; a file with another number is refused.
const FORMAT_VERSION: i64 = 1;
/// Small: the whole content is in memory anyhow.
const CACHE_BYTES: usize = 8 << 20;

fn failed<E>(reason: impl Into<String>) -> impl FnOnce(E) -> StoreError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let reason = reason.into();
    move |e| StoreError::Disk { reason: format!("{reason}: {e}"), cause: Some(Box::new(e)) }
}

fn refused(reason: String) -> StoreError {
    StoreError::Disk { reason, cause: None }
}

/// Opens the database in a file: a seam for tests, whose disks fail on command.
pub(super) type Opener = fn(File) -> Result<Database, redb::DatabaseError>;

/// The database in a file of the file system.
pub(super) fn plain(file: File) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create_file(file)
}

/// The open file; a lock beside it keeps a second process out until this is dropped.
#[derive(Debug)]
pub(super) struct Disk {
    /// None after a failure: redb refuses all further work on a database that saw an I/O error, even when the disk is
    /// well again. The next write opens it anew.
    database: Mutex<Option<Database>>,
    opener: Opener,
    path: PathBuf,
    _lock: File,
}

impl Disk {
    /// Opens or makes the file below `dir` and reads all of it: the last revision (0 for a new one) and the pairs.
    pub(super) fn open(dir: &Path, opener: Opener) -> Result<(Self, i64, Vec<Pair>), StoreError> {
        let shown = dir.display();
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(format!("making {shown}")))?;
        let lock = private_file(&dir.join("store.lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(refused(format!("another bellwether uses {shown}"))),
            Err(TryLockError::Error(e)) => return Err(failed(format!("locking {shown}"))(e)),
        }
        let disk = Self { database: Mutex::new(None), opener, path: dir.join("store.redb"), _lock: lock };
        let database = disk.database()?;
        let (revision, pairs) = disk.read(&database)?;
        *disk.database.lock().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok((disk, revision, pairs))
    }

    fn database(&self) -> Result<Database, StoreError> {
        (self.opener)(private_file(&self.path)?).map_err(failed(format!("opening {}", self.path.display())))
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, database: &Database) -> Result<(i64, Vec<Pair>), StoreError> {
        let what = format!("reading {}", self.path.display());
        // A write transaction makes the tables where the file is new.
        let transaction = database.begin_write().map_err(failed(&what))?;
        {
            let mut meta = transaction.open_table(META).map_err(failed(&what))?;
            transaction.open_table(KEYS).map_err(failed(&what))?;
            let format = meta.get(FORMAT).map_err(failed(&what))?.map_or(FORMAT_VERSION, |v| v.value());
            if format != FORMAT_VERSION {
                let path = self.path.display();
                return Err(refused(format!("{path} has format {format}; this program reads {FORMAT_VERSION}")));
            }
            meta.insert(FORMAT, FORMAT_VERSION).map_err(failed(&what))?;
        }
        transaction.commit().map_err(failed(&what))?;
        let transaction = database.begin_read().map_err(failed(&what))?;
        let meta = transaction.open_table(META).map_err(failed(&what))?;
        let revision = meta.get(REVISION).map_err(failed(&what))?.map_or(0, |v| v.value());
        let keys = transaction.open_table(KEYS).map_err(failed(&what))?;
        let mut pairs = Vec::new();
        for entry in keys.iter().map_err(failed(&what))? {
            let (key, value) = entry.map_err(failed(&what))?;
            let (create_revision, mod_revision, bytes) = value.value();
            let value = Bytes::copy_from_slice(bytes);
            pairs.push(Pair { key: key.value().to_owned(), value, create_revision, mod_revision, lease: None });
        }
        Ok((revision, pairs))
    }

    /// Makes a plan durable; blocks for the disk. `memory` are the pairs as they stand before the plan: where the file is
    /// opened anew after a failure, it is first made to hold them, whatever the failed write left behind.
    pub(super) fn commit(&self, plan: &Plan, memory: impl FnOnce() -> (i64, Vec<Pair>)) -> Result<(), StoreError> {
        let mut open = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: whatever fails below drops it.
        let database = match open.take() {
            Some(database) => database,
            None => self.reopen(memory)?,
        };
        self.write(&database, plan.revision, &plan.changes)?;
        *open = Some(database);
        Ok(())
    }

    /// Opens the file anew and mends what it holds.
    fn reopen(&self, memory: impl FnOnce() -> (i64, Vec<Pair>)) -> Result<Database, StoreError> {
        let database = self.database()?;
        let (_, found) = self.read(&database)?;
        let (revision, pairs) = memory();
        let mends = mends(found, pairs, revision);
        if !mends.is_empty() {
            self.write(&database, revision, &mends)?;
        }
        Ok(database)
    }

    fn write(&self, database: &Database, revision: i64, changes: &[Change]) -> Result<(), StoreError> {
        let what = format!("writing {}", self.path.display());
        let transaction = database.begin_write().map_err(failed(&what))?;
        {
            let mut keys = transaction.open_table(KEYS).map_err(failed(&what))?;
            for change in changes {
                match &change.event {
                    Event::Put(pair) if pair.lease.is_none() => {
                        let value = (pair.create_revision, pair.mod_revision, &*pair.value);
                        keys.insert(pair.key.as_str(), value).map_err(failed(&what))?;
                    }
                    // A key that moved onto a lease must not come back after a restart either.
                    event => {
                        keys.remove(event.key()).map_err(failed(&what))?;
                    }
                }
            }
            let mut meta = transaction.open_table(META).map_err(failed(&what))?;
            meta.insert(REVISION, revision).map_err(failed(&what))?;
        }
        transaction.commit().map_err(failed(&what))
    }
}

/// What makes the pairs `found` on disk equal to the lasting ones of `memory`.
fn mends(found: Vec<Pair>, memory: Vec<Pair>, revision: i64) -> Vec<Change> {
    let mut found: BTreeMap<String, Pair> = found.into_iter().map(|p| (p.key.clone(), p)).collect();
    let mut mends = Vec::new();
    for pair in memory.into_iter().filter(|p| p.lease.is_none()) {
        if found.remove(&pair.key).as_ref() != Some(&pair) {
            mends.push(Change::new(Event::Put(pair)));
        }
    }
    mends.extend(found.into_keys().map(|key| Change::new(Event::Delete { key, revision })));
    mends
}

fn private_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed(format!("opening {}", path.display())))
}
