//! Operators' edits through the API, and fresh results on demand: the web room's port. Any node may make an edit; each
//! is a transaction on the operator's own keys, guarded by what was read, so no leadership is needed.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Combinations, fresh::Fresh};
use crate::{
    clock::Clock,
    config::{diff, document, words},
    latest::Latest,
    model::{
        Ack, CategoryName, Fault, RegionName, StoreState, TargetName, View,
        document::Document,
        key::{self, CategoryField, Key, TargetField},
    },
    store::{Compare, MAX_TXN_BYTES, MAX_TXN_OPS, Op, Store, StoreError, Txn, TxnOutcome},
    web::port::{ApplyOptions, Edit, EditError, KeyChange, Port, Refreshed},
};

/// Bytes of keys and values in one transaction, far below the store's bound.
const BATCH_BYTES: usize = MAX_TXN_BYTES / 2;
/// Tries of an edit that somebody else's edit overtakes.
const TRIES: usize = 4;

/// The port's implementation.
pub struct Edits {
    /// The store.
    pub store: Arc<dyn Store>,
    /// ROOT, for whole keys in answers.
    pub root: String,
    /// This node's region, whose overlay decides here.
    pub region: RegionName,
    /// What is in force.
    pub view: Latest<View>,
    /// Fresh results.
    pub fresh: Arc<Fresh>,
    /// Combinations asked for.
    pub combinations: Arc<Combinations>,
    /// Time.
    pub clock: Clock,
}

fn refused(error: &StoreError) -> EditError {
    match error {
        StoreError::Unavailable { .. }
        | StoreError::NoSpace(_)
        | StoreError::Disk { .. }
        // The node's user lacks a right: nothing that who asks could do better.
        | StoreError::Denied(_) => EditError::StoreLost(error.to_string()),
        other => EditError::Other(other.to_string()),
    }
}

fn ack_value(ack: &Ack) -> String {
    let plain = ack.by.is_none() && ack.until.is_none() && !ack.message.trim_start().starts_with('{');
    if plain {
        return ack.message.clone();
    }
    let mut value = serde_json::Map::new();
    value.insert("v".to_owned(), 1.into());
    value.insert("message".to_owned(), ack.message.clone().into());
    value.extend(ack.by.clone().map(|by| ("by".to_owned(), by.into())));
    value.extend(ack.until.map(|until| ("until".to_owned(), until.to_string().into())));
    serde_json::Value::Object(value).to_string()
}

/// Cut by what the store takes in one transaction: operations, and bytes (the largest alone, should it be too large).
/// The keys of one target, category, service or region stay together: half of them would be another one, with faults.
fn batches(changes: &[diff::Change]) -> Vec<&[diff::Change]> {
    let mut batches: Vec<&[diff::Change]> = Vec::new();
    let mut rest = changes;
    while !rest.is_empty() {
        let (mut length, mut bytes) = (0_usize, 0_usize);
        for change in rest {
            bytes = bytes.saturating_add(size(change));
            if length > 0 && (length >= MAX_TXN_OPS || bytes > BATCH_BYTES) {
                break;
            }
            length += 1;
        }
        let next = rest.get(length).map(owner);
        let whole = rest.iter().take(length).rposition(|change| Some(owner(change)) != next).map_or(0, |i| i + 1);
        let (batch, after) = rest.split_at(if next.is_some() && whole > 0 { whole } else { length });
        batches.push(batch);
        rest = after;
    }
    batches
}

fn size(change: &diff::Change) -> usize {
    change.key.len().saturating_add(change.new.as_ref().map_or(0, String::len))
}

/// The key up to what it belongs to: `healthcheck/<target>`.
fn owner(change: &diff::Change) -> &str {
    let end = change.key.match_indices('/').nth(1).map_or(change.key.len(), |(at, _)| at);
    change.key.get(..end).unwrap_or(&change.key)
}

impl Edits {
    async fn make(&self, edit: Edit) -> Result<(), EditError> {
        self.need_store()?;
        match edit {
            Edit::Ack(target, ack) => {
                self.need_target(&target)?;
                self.put(&Key::Target(target, TargetField::Ack), ack_value(&ack)).await
            }
            Edit::Unack(target) => {
                self.need_target(&target)?;
                self.remove(&Key::Target(target, TargetField::Ack)).await
            }
            Edit::Enabled { category, enabled, .. } => {
                self.need_category(&category)?;
                self.put(&Key::Category(category, CategoryField::Enabled), enabled.to_string()).await
            }
            Edit::ClusterAck(ack) => self.put(&Key::ClusterAck, ack_value(&ack)).await,
            Edit::ClearClusterAck => self.remove(&Key::ClusterAck).await,
        }
    }

    fn need_store(&self) -> Result<(), EditError> {
        if self.view.peek().node.store == StoreState::Lost {
            return Err(EditError::StoreLost(format!("it does not answer: {}", self.store.describe())));
        }
        Ok(())
    }

    fn need_target(&self, target: &TargetName) -> Result<(), EditError> {
        let view = self.view.load();
        if view.catalog.target(target.as_str()).is_some() {
            return Ok(());
        }
        let nearest = words::nearest(target.as_str(), view.catalog.targets.iter().map(|t| t.name.as_str()));
        Err(EditError::NotFound { what: "target", name: target.to_string(), nearest: nearest.map(str::to_owned) })
    }

    fn need_category(&self, category: &CategoryName) -> Result<(), EditError> {
        let view = self.view.load();
        if view.catalog.categories.contains_key(category) {
            return Ok(());
        }
        let nearest = words::nearest(category.as_str(), view.catalog.categories.keys().map(AsRef::as_ref));
        Err(EditError::NotFound { what: "category", name: category.to_string(), nearest: nearest.map(str::to_owned) })
    }

    /// The key that decides here: the region's overlay where there is one, else the plain key.
    async fn deciding(&self, key: &Key) -> Result<String, EditError> {
        let overlay = Key::Overlay(self.region.clone(), key.to_string()).to_string();
        match self.store.get(&overlay).await {
            Ok((_, Some(_))) => Ok(overlay),
            Ok((_, None)) => Ok(key.to_string()),
            Err(error) => Err(refused(&error)),
        }
    }

    async fn put(&self, key: &Key, value: String) -> Result<(), EditError> {
        let key = if matches!(key, Key::ClusterAck) { key.to_string() } else { self.deciding(key).await? };
        self.write(vec![Op::Put { key, value: Bytes::from(value), lease: None }]).await
    }

    async fn remove(&self, key: &Key) -> Result<(), EditError> {
        let mut ops = vec![Op::Delete(key.to_string())];
        if !matches!(key, Key::ClusterAck) {
            ops.push(Op::Delete(Key::Overlay(self.region.clone(), key.to_string()).to_string()));
        }
        self.write(ops).await
    }

    async fn write(&self, ops: Vec<Op>) -> Result<(), EditError> {
        match self.store.txn(Txn { compares: Vec::new(), ops }).await {
            Ok(TxnOutcome::Done { .. }) => Ok(()),
            Ok(TxnOutcome::Refused { .. }) => Err(EditError::Conflict),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Operator keys as they are now, with the revision of each.
    async fn current(&self) -> Result<BTreeMap<String, (String, i64)>, EditError> {
        let mut current = BTreeMap::new();
        for prefix in key::OPERATOR_PREFIXES {
            let listing = self.store.list(prefix, None).await.map_err(|e| refused(&e))?;
            for pair in listing.pairs {
                if matches!(key::parse(&pair.key), key::Parsed::Key(_)) {
                    let value = String::from_utf8_lossy(&pair.value).into_owned();
                    current.insert(pair.key, (value, pair.mod_revision));
                }
            }
        }
        Ok(current)
    }

    async fn try_apply(
        &self,
        wanted: &BTreeMap<String, String>,
        options: ApplyOptions,
    ) -> Result<Vec<KeyChange>, EditError> {
        let current = self.current().await?;
        let values: BTreeMap<String, String> = current.iter().map(|(k, (v, _))| (k.clone(), v.clone())).collect();
        let since = self.clock.now().wall;
        let whole = |f: Fault| Fault { key: format!("{}/{}", self.root, f.key), since, ..f };
        let changes = diff::diff(&values, wanted, options.prune)
            .map_err(|faults| EditError::Invalid { faults: faults.into_iter().map(whole).collect() })?;
        // Many megabytes with a large catalog, while the writes below make their own.
        drop(values);
        if !options.dry_run {
            for batch in batches(&changes) {
                self.write_guarded(batch, &current).await?;
            }
        }
        let shown = changes.iter().map(diff::Change::redacted);
        Ok(shown.map(|c| KeyChange { key: format!("{}/{}", self.root, c.key), old: c.old, new: c.new }).collect())
    }

    async fn write_guarded(
        &self,
        batch: &[diff::Change],
        current: &BTreeMap<String, (String, i64)>,
    ) -> Result<(), EditError> {
        let mut txn = Txn::default();
        for change in batch {
            txn.compares.push(match current.get(&change.key) {
                Some((_, revision)) => Compare::ModRevision(change.key.clone(), *revision),
                None => Compare::Absent(change.key.clone()),
            });
            txn.ops.push(match &change.new {
                Some(value) => Op::Put { key: change.key.clone(), value: Bytes::from(value.clone()), lease: None },
                None => Op::Delete(change.key.clone()),
            });
        }
        match self.store.txn(txn).await {
            Ok(TxnOutcome::Done { .. }) => Ok(()),
            Ok(TxnOutcome::Refused { .. }) => Err(EditError::Conflict),
            Err(error) => Err(refused(&error)),
        }
    }
}

#[async_trait]
impl Port for Edits {
    async fn edit(&self, edit: Edit) -> Result<(), EditError> {
        let asked = format!("{edit:?}");
        let done = self.make(edit).await;
        match &done {
            Ok(()) => tracing::info!(edit = %asked, "edit made"),
            Err(error) => tracing::warn!(edit = %asked, %error, "edit not made"),
        }
        done
    }

    async fn document(&self) -> Result<Document, EditError> {
        self.need_store()?;
        let current = self.current().await?;
        let pairs = current.iter().map(|(key, (value, _))| (key.as_str(), value.as_bytes()));
        Ok(document::redact(document::from_keys(pairs)))
    }

    async fn apply(&self, document: Document, options: ApplyOptions) -> Result<Vec<KeyChange>, EditError> {
        let now = self.clock.now().wall;
        let wanted = document::to_keys(&document).map_err(|faults| EditError::Invalid {
            faults: faults.into_iter().map(|f| Fault { since: now, ..f }).collect(),
        })?;
        self.need_store()?;
        let mut last = EditError::Conflict;
        for _ in 0..TRIES {
            match self.try_apply(&wanted, options).await {
                Err(EditError::Conflict) => last = EditError::Conflict,
                other => return other,
            }
        }
        Err(last)
    }

    async fn refresh(&self, targets: Vec<TargetName>) -> Refreshed {
        self.fresh.refresh(targets).await
    }

    fn prepare_combination(&self, categories: &str) {
        self.combinations.remember(categories);
    }
}

#[cfg(test)]
#[path = "edits_tests.rs"]
mod tests;
