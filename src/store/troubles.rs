//! What keeps a part of the store from being used although the store answers: a full disk, a user with too few rights.
//! Who shows it is left to `runtime` and `controller`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::StoreError;

/// Most troubles that are kept; a few keys are enough to see what is wrong.
const MOST: usize = 16;

/// The troubles of one part, each until it is gone; clones share them.
#[derive(Clone, Debug)]
pub struct Troubles(Arc<watch::Sender<BTreeMap<String, String>>>);

/// By key or file, what is wrong with it.
pub type TroublesReceiver = watch::Receiver<BTreeMap<String, String>>;

impl Default for Troubles {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Troubles {
    /// Notes one. Returns whether it is a new one: only that is worth a line in the log.
    pub fn note(&self, key: &str, reason: String) -> bool {
        let mut new = false;
        self.0.send_if_modified(|all| {
            if !all.contains_key(key) && all.len() >= MOST {
                return false;
            }
            let before = all.insert(key.to_owned(), reason.clone());
            new = before.is_none();
            before.is_none_or(|before| before != reason)
        });
        new
    }

    /// Notes an error where it is a denial, which lasts until somebody gives the rights. Returns whether it is new.
    pub fn note_denied(&self, key: &str, error: &StoreError) -> bool {
        matches!(error, StoreError::Denied(_)) && self.note(key, error.to_string())
    }

    /// It is gone. Returns whether it was there.
    pub fn gone(&self, key: &str) -> bool {
        self.0.send_if_modified(|all| all.remove(key).is_some())
    }

    /// All are gone.
    pub fn clear(&self) {
        self.0.send_if_modified(|all| !std::mem::take(all).is_empty());
    }

    /// Whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// For who shows them.
    #[must_use]
    pub fn subscribe(&self) -> TroublesReceiver {
        self.0.subscribe()
    }
}
