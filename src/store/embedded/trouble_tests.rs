//! A disk that fails on command.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use redb::{Database, DatabaseError, StorageBackend, backends::FileBackend};

use super::*;
use crate::store::Op;

/// What the disk does; one per test, as an opener captures nothing.
struct Switches {
    writes_fail: AtomicBool,
    syncs_fail: AtomicBool,
}

#[derive(Debug)]
struct Faulty(FileBackend, &'static Switches);

impl std::fmt::Debug for Switches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("switches")
    }
}

fn full(switch: &AtomicBool) -> io::Result<()> {
    if switch.load(Ordering::SeqCst) { Err(io::Error::other("No space left on device")) } else { Ok(()) }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        full(&self.1.writes_fail)?;
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        // What was written before a failed sync is on the disk all the same.
        self.0.sync_data()?;
        full(&self.1.syncs_fail)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        full(&self.1.writes_fail)?;
        self.0.write(offset, data)
    }
}

fn put(key: &str, value: &str) -> Txn {
    let op = Op::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), lease: None };
    Txn { compares: Vec::new(), ops: vec![op] }
}

async fn value(store: &Embedded, key: &str) -> Option<Bytes> {
    store.get(key).await.unwrap().1.map(|p| p.value)
}

macro_rules! disk {
    ($switches:ident, $opener:ident) => {
        static $switches: Switches =
            Switches { writes_fail: AtomicBool::new(false), syncs_fail: AtomicBool::new(false) };
        fn $opener(file: File) -> Result<Database, DatabaseError> {
            Database::builder().create_with_backend(Faulty(FileBackend::new(file)?, &$switches))
        }
    };
}

async fn fails_and_recovers(switch: &AtomicBool, opener: disk::Opener) {
    let dir = tempfile::tempdir().unwrap();
    let open = || Embedded::open_with(Some(dir.path()), Clock::system(), opener).unwrap();
    let store = open();
    let (lease, _) = store.grant(Duration::from_secs(60)).await.unwrap();
    store.txn(put("a", "1")).await.unwrap();
    store.txn(put("gone", "1")).await.unwrap();
    let before = store.list("", None).await.unwrap();
    switch.store(true, Ordering::SeqCst);
    for i in 0..3 {
        // Each fails by its own cause, not by what redb says of an earlier one; nothing of it is seen.
        let error = store.txn(put("a", &format!("failed {i}"))).await.unwrap_err();
        assert!(error.is_retryable() && error.is_ambiguous());
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(store.txn(put(&format!("new {i}"), "failed")).await.is_err());
        assert!(store.txn(Txn { compares: vec![], ops: vec![Op::Delete("gone".into())] }).await.is_err());
    }
    assert_eq!(store.list("", None).await.unwrap(), before, "reads go on, and show what stood");
    store.renew(lease).await.unwrap();
    let troubles = store.troubles().unwrap();
    let told = troubles.borrow().clone();
    let (key, reason) = told.first_key_value().unwrap();
    assert!(key.ends_with("store.redb") && reason.contains("No space left"), "{told:?}");
    switch.store(false, Ordering::SeqCst);
    store.txn(put("b", "2")).await.unwrap();
    assert!(troubles.borrow().is_empty());
    let listed = store.list("", None).await.unwrap();
    assert_eq!(listed.pairs.len(), 3);
    drop((store, troubles));
    let again = open();
    assert_eq!(again.list("", None).await.unwrap().pairs, listed.pairs, "the disk holds what memory held");
}

#[tokio::test]
async fn a_disk_that_was_full_is_written_again() {
    disk!(SWITCHES, opener);
    fails_and_recovers(&SWITCHES.writes_fail, opener).await;
}

#[tokio::test]
async fn what_a_failed_write_left_on_the_disk_is_undone() {
    disk!(SWITCHES, opener);
    fails_and_recovers(&SWITCHES.syncs_fail, opener).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_well_again_is_found_without_an_edit() {
    disk!(SWITCHES, opener);
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open_with(Some(dir.path()), Clock::system(), opener).unwrap();
    store.grant(Duration::from_secs(3600)).await.unwrap();
    SWITCHES.writes_fail.store(true, Ordering::SeqCst);
    store.txn(put("a", "1")).await.unwrap_err();
    let mut troubles = store.troubles().unwrap();
    assert!(!troubles.borrow().is_empty());
    SWITCHES.writes_fail.store(false, Ordering::SeqCst);
    let well =
        tokio::time::timeout(Duration::from_secs(60), troubles.wait_for(std::collections::BTreeMap::is_empty)).await;
    well.expect("the store tries its disk by itself").unwrap();
    assert_eq!(value(&store, "a").await, None);
}
