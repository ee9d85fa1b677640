//! What a document would change: keys wanted against keys stored. Acks, switches and failovers belong to operators: they
//! are left alone unless the document names them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{redact, values};
use crate::model::{
    CategoryName, Fault, FaultLevel, RegionName, ServiceName, TargetName, Timestamp,
    key::{self, CategoryField, Key, Parsed, TargetField},
    secret::REDACTED,
};

/// One key that changes. `old` and `new` hold secrets as the store does: show only `redacted`.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to ROOT.
    pub key: String,
    /// The stored value.
    pub old: Option<String>,
    /// The value to write; `None`: delete.
    pub new: Option<String>,
}

impl Change {
    /// The same with its secrets replaced.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let hide = |text: &Option<String>| text.as_ref().map(|text| redact::value(&self.key, text));
        Self { key: self.key.clone(), old: hide(&self.old), new: hide(&self.new) }
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.redacted();
        f.debug_struct("Change").field("key", &shown.key).field("old", &shown.old).field("new", &shown.new).finish()
    }
}

/// The changes that make `current` what `wanted` (from `document::to_keys`) says, sorted by key. Without `prune` nothing is
/// deleted but what `wanted` has as empty.
///
/// # Errors
/// A fault for each `***` that stands for no stored secret.
pub fn diff(
    current: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    prune: bool,
) -> Result<Vec<Change>, Vec<Fault>> {
    let (mut changes, mut faults) = (Vec::new(), Vec::new());
    for (key, value) in wanted {
        let old = current.get(key);
        let new = match with_secrets(key, value, old.map(String::as_str)) {
            Ok(new) => new,
            Err(field) => {
                faults.push(no_secret(key, &field));
                continue;
            }
        };
        let new = Some(new).filter(|new| !(new.trim().is_empty() && is_operators(key)));
        let same = match (old, &new) {
            (Some(old), Some(new)) => means_the_same(key, old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            changes.push(Change { key: key.clone(), old: old.cloned(), new });
        }
    }
    if prune {
        let remaining = Remaining::of(wanted);
        let gone = current.iter().filter(|(key, _)| !wanted.contains_key(*key) && remaining.may_go(key));
        changes.extend(gone.map(|(key, old)| Change { key: key.clone(), old: Some(old.clone()), new: None }));
        changes.sort_by(|a, b| a.key.cmp(&b.key));
    }
    if faults.is_empty() { Ok(changes) } else { Err(faults) }
}

/// The key whose kind decides: the overlaid one of an overlay.
fn plain(key: &str) -> Parsed {
    match key::parse(key) {
        Parsed::Key(Key::Overlay(_, inner)) => key::parse(&inner),
        other => other,
    }
}

/// Acks and failovers: an empty one is none.
fn is_operators(key: &str) -> bool {
    let parsed = plain(key);
    matches!(parsed, Parsed::Key(Key::Target(_, TargetField::Ack) | Key::ClusterAck | Key::ServiceFailover(_)))
        && !key.contains("/overlay/")
}

/// Equal text, or equal meaning: `True` and `true`, JSON written in another way.
fn means_the_same(key: &str, old: &str, new: &str) -> bool {
    if old == new {
        return true;
    }
    let Parsed::Key(key) = plain(key) else { return false };
    let region = RegionName::default_region();
    let read = |text: &str| values::decode(&key, text.as_bytes(), &region).ok();
    read(old).is_some_and(|old| Some(old) == read(new))
}

fn no_secret(key: &str, field: &str) -> Fault {
    Fault {
        key: key.to_owned(),
        level: FaultLevel::Fault,
        value: REDACTED.to_owned(),
        reason: format!("{field}: {REDACTED} stands for a stored secret, and none is stored here"),
        expected: "the secret itself, or {\"file\": …}".to_owned(),
        nearest: None,
        since: Timestamp::default(),
    }
}

/// Puts stored secrets where `***` stands.
///
/// The error is the field for which none is stored.
fn with_secrets(key: &str, wanted: &str, stored: Option<&str>) -> Result<String, String> {
    if !wanted.contains(REDACTED) || !matches!(plain(key), Parsed::Key(Key::Target(_, TargetField::Spec))) {
        return Ok(wanted.to_owned());
    }
    let Ok(mut spec) = serde_json::from_str::<Value>(wanted) else { return Ok(wanted.to_owned()) };
    let stored: Value = stored.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let names: Vec<String> =
        spec.get("headers").and_then(Value::as_object).map(|h| h.keys().cloned().collect()).unwrap_or_default();
    let mut places: Vec<Vec<String>> = names.into_iter().map(|name| vec!["headers".to_owned(), name]).collect();
    places.push(vec!["auth".to_owned(), "bearer".to_owned()]);
    places.push(vec!["auth".to_owned(), "basic".to_owned(), "password".to_owned()]);
    let mut changed = false;
    for place in places {
        let Some(here) = place.iter().try_fold(&mut spec, |at, step| at.get_mut(step.as_str())) else { continue };
        if here.as_str() != Some(REDACTED) {
            continue;
        }
        match place.iter().try_fold(&stored, |at, step| at.get(step.as_str())).filter(|v| v.is_string()) {
            Some(secret) => *here = secret.clone(),
            None => return Err(place.join(".")),
        }
        changed = true;
    }
    Ok(if changed { spec.to_string() } else { wanted.to_owned() })
}

/// What the wanted keys still name.
struct Remaining {
    targets: BTreeSet<TargetName>,
    categories: BTreeSet<CategoryName>,
    services: BTreeSet<ServiceName>,
}

impl Remaining {
    fn of(wanted: &BTreeMap<String, String>) -> Self {
        let default = CategoryName::default_category();
        let mut this =
            Self { targets: BTreeSet::new(), categories: BTreeSet::from([default]), services: BTreeSet::new() };
        let region = RegionName::default_region();
        for (key, value) in wanted {
            let Parsed::Key(key) = plain(key) else { continue };
            match (&key, values::decode(&key, value.as_bytes(), &region)) {
                (Key::Target(..), Ok(values::Value::Categories(names))) => {
                    this.categories.extend(names.iter().cloned())
                }
                (Key::Target(..), Ok(values::Value::Target(spec))) => {
                    this.services.extend(spec.service.as_deref().and_then(|s| ServiceName::new(s).ok()));
                }
                _ => {}
            }
            match key {
                Key::Target(name, _) => {
                    this.services.insert(ServiceName::of_target(&name));
                    this.targets.insert(name);
                }
                Key::Category(name, _) => this.categories.extend([name]),
                Key::ServiceSpec(name) | Key::ServiceFailover(name) => this.services.extend([name]),
                _ => {}
            }
        }
        this
    }

    /// Whether a key that the document does not name is deleted when pruning.
    fn may_go(&self, key: &str) -> bool {
        if matches!(key::parse(key), Parsed::Foreign) {
            return false;
        }
        match plain(key) {
            Parsed::Key(Key::Target(name, TargetField::Ack)) => !self.targets.contains(&name),
            Parsed::Key(Key::Category(name, CategoryField::Enabled)) => !self.categories.contains(&name),
            Parsed::Key(Key::ServiceFailover(name)) => !self.services.contains(&name),
            // A region is where nodes run: a file that does not name it does not end its draining.
            Parsed::Key(Key::RegionEnabled(_) | Key::ClusterAck) => false,
            _ => true,
        }
    }
}
