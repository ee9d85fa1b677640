//! What a node keeps on disk for a start without the store (design section 4.5): the catalog's keys, and every target's state.
//! Two files for each node, versioned, bounded, 0600 by `Disk` (keys may hold secrets). A file that is broken, or partly, is told
//! and passed over: it never stops a start. When they are saved and what is made of them is left to `core`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    config::LastGood,
    disk::Disk,
    evaluation::health::Counters,
    model::{
        CategoryName, Health, HealthState, Latch, Mono, NodeName, Now, Observation, Outcome, TargetName, Timestamp,
        cluster::NodeInfo,
    },
    replication::Entry,
};

/// Largest file that is read.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes that a target's state usually takes.
const USUAL_TARGET: usize = 512;
/// Version that is written; the one before is read too.
const VERSION: u32 = 1;

/// Names of a node's files: nodes of one machine may share a data directory.
#[must_use]
pub fn catalog_file(node: &NodeName) -> String {
    format!("kept-catalog-{node}.json")
}

/// See `catalog_file`.
#[must_use]
pub fn state_file(node: &NodeName) -> String {
    format!("kept-state-{node}.json")
}

/// One of the operators' keys. Not `Debug`: its value may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptPair {
    /// Relative to ROOT.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Revision of its last put.
    pub mod_revision: i64,
}

/// What is needed to answer from the catalog without the store.
#[derive(Clone, Default, PartialEq)]
pub struct KeptCatalog {
    /// The highest revision seen.
    pub revision: i64,
    /// The generation in which it was (`store::Generation`): that process's own count.
    pub generation: u64,
    /// The highest term seen.
    pub term: i64,
    /// Who led last, where one was known.
    pub leader: Option<NodeName>,
    /// The operators' keys.
    pub pairs: Vec<KeptPair>,
    /// `status/catalog`: last good values of faulty keys.
    pub last_good: LastGood,
    /// Latches of this region, each with its revision.
    pub latches: BTreeMap<CategoryName, Latch>,
    /// Nodes of this region, and where they are.
    pub nodes: Vec<NodeInfo>,
}

/// Every target's state when it was saved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptState {
    /// When, on the wall clock of who saved.
    pub saved: Timestamp,
    /// The states. An observation's `at.mono` is that of the process that reads: its age is counted by the wall clock.
    pub entries: Vec<Entry>,
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    /// The content.
    pub value: T,
    /// Parts that could not be read and were left out.
    pub left_out: usize,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It cannot be read from disk.
    #[error("it cannot be read: {0}")]
    Disk(#[from] std::io::Error),
    /// It is no such file, or cut off.
    #[error("it is broken: {0}")]
    Broken(#[from] serde_json::Error),
    /// A later program wrote it.
    #[error("it has version {0}; this program reads up to {VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct WireHead<P, L, N> {
    v: u32,
    revision: i64,
    generation: u64,
    term: i64,
    leader: Option<NodeName>,
    pairs: P,
    last_good: LastGood,
    latches: L,
    nodes: N,
}

#[derive(Serialize, Deserialize)]
struct WirePair {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    revision: i64,
}

#[derive(Serialize, Deserialize)]
struct WireLatch {
    category: CategoryName,
    latch: Latch,
    revision: i64,
}

#[derive(Serialize, Deserialize)]
struct WireState<T> {
    v: u32,
    saved: Timestamp,
    targets: T,
}

/// Entries, written as `WireTarget`s.
struct Each<'a>(&'a [Entry]);

impl Serialize for Each<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(wire_target))
    }
}

#[derive(Serialize, Deserialize)]
struct WireTarget {
    target: TargetName,
    state: HealthState,
    since: Timestamp,
    reason: Arc<str>,
    #[serde(default)]
    stale: bool,
    #[serde(default)]
    flapping: bool,
    term: i64,
    n: u64,
    counters: Counters,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<WireObservation>,
}

#[derive(Serialize, Deserialize)]
struct WireObservation {
    outcome: Outcome,
    at: Timestamp,
    latency_ms: u64,
    output: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    days_left: Option<i64>,
}

impl KeptCatalog {
    /// The file's content.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn encode(&self) -> std::io::Result<Vec<u8>> {
        let pair = |p: &KeptPair| {
            let (value, base64) = match std::str::from_utf8(&p.value) {
                Ok(text) => (Some(text.to_owned()), None),
                Err(_) => (None, Some(STANDARD.encode(&p.value))),
            };
            WirePair { key: p.key.clone(), value, base64, revision: p.mod_revision }
        };
        let latch = |(category, latch): (&CategoryName, &Latch)| WireLatch {
            category: category.clone(),
            latch: latch.clone(),
            revision: latch.revision,
        };
        let wire = WireHead {
            v: VERSION,
            revision: self.revision,
            generation: self.generation,
            term: self.term,
            leader: self.leader.clone(),
            pairs: self.pairs.iter().map(pair).collect::<Vec<_>>(),
            last_good: self.last_good.clone(),
            latches: self.latches.iter().map(latch).collect::<Vec<_>>(),
            nodes: &self.nodes,
        };
        Ok(serde_json::to_vec(&wire)?)
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// When it is of no use as a whole.
    pub fn decode(content: &[u8]) -> Result<Kept<Self>, KeptError> {
        type Raw<'a> = Vec<&'a RawValue>;
        check_version(content)?;
        let wire: WireHead<Raw<'_>, Raw<'_>, Raw<'_>> = serde_json::from_slice(content)?;
        let mut left_out = 0;
        let pairs = read_each(&wire.pairs, &mut left_out, |p: WirePair| {
            let value = match (p.value, p.base64) {
                (Some(text), None) => text.into_bytes(),
                (None, Some(text)) => STANDARD.decode(text).ok()?,
                _ => return None,
            };
            Some(KeptPair { key: p.key, value, mod_revision: p.revision })
        });
        let latches = read_each(&wire.latches, &mut left_out, |l: WireLatch| {
            Some((l.category, Latch { revision: l.revision, ..l.latch }))
        });
        let value = Self {
            revision: wire.revision,
            generation: wire.generation,
            term: wire.term,
            leader: wire.leader,
            pairs,
            last_good: wire.last_good,
            latches: latches.into_iter().collect(),
            nodes: read_each(&wire.nodes, &mut left_out, Some),
        };
        Ok(Kept { value, left_out })
    }

    /// Reads this node's file; what is wrong with it is logged, and nothing comes of it.
    #[must_use]
    pub fn load(disk: &dyn Disk, node: &NodeName) -> Option<Self> {
        load(disk, &catalog_file(node), Self::decode)
    }
}

impl KeptState {
    /// The file's content. Of an observation the checks of a health document are left out.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn encode(&self) -> std::io::Result<Vec<u8>> {
        // One after the other, into room that is enough for most: all of them at once, and a buffer that grows, would be moved again
        // and again.
        let mut content = Vec::with_capacity(self.entries.len().saturating_mul(USUAL_TARGET));
        serde_json::to_writer(
            &mut content,
            &WireState { v: VERSION, saved: self.saved, targets: Each(&self.entries) },
        )?;
        Ok(content)
    }

    /// Reads a file's content at `now`.
    ///
    /// # Errors
    /// When it is of no use as a whole.
    pub fn decode(content: &[u8], now: Now) -> Result<Kept<Self>, KeptError> {
        check_version(content)?;
        let wire: WireState<Vec<&RawValue>> = serde_json::from_slice(content)?;
        let mut left_out = 0;
        let entries = read_each(&wire.targets, &mut left_out, |t| Some(entry(t, now)));
        Ok(Kept { value: Self { saved: wire.saved, entries }, left_out })
    }

    /// Reads this node's file; what is wrong with it is logged, and nothing comes of it.
    #[must_use]
    pub fn load(disk: &dyn Disk, node: &NodeName, now: Now) -> Option<Self> {
        load(disk, &state_file(node), |content| Self::decode(content, now))
    }
}

fn load<T>(disk: &dyn Disk, file: &str, decode: impl Fn(&[u8]) -> Result<Kept<T>, KeptError>) -> Option<T> {
    let read = disk.load_at_most(file, MAX_BYTES).map_err(KeptError::from);
    match read.and_then(|content| content.map(|c| decode(&c)).transpose()) {
        Ok(None) => None,
        Ok(Some(Kept { value, left_out })) => {
            if left_out > 0 {
                tracing::error!(%file, left_out, "parts of a kept file cannot be read and are left out");
            }
            Some(value)
        }
        Err(error) => {
            tracing::error!(%file, %error, "a kept file is of no use and is passed over");
            None
        }
    }
}

fn check_version(content: &[u8]) -> Result<(), KeptError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let Version { v } = serde_json::from_slice(content)?;
    if v > VERSION { Err(KeptError::Version(v)) } else { Ok(()) }
}

/// Reads each part by itself: one that is broken takes no other with it.
fn read_each<W: DeserializeOwned, T>(raw: &[&RawValue], left_out: &mut usize, read: impl Fn(W) -> Option<T>) -> Vec<T> {
    let parts = raw.iter().map(|part| serde_json::from_str::<W>(part.get()).ok().and_then(&read));
    let found: Vec<T> = parts.flatten().collect();
    *left_out += raw.len().saturating_sub(found.len());
    found
}

fn wire_target(entry: &Entry) -> WireTarget {
    let health = &entry.health;
    WireTarget {
        target: entry.target.clone(),
        state: health.state,
        since: health.since,
        reason: Arc::clone(&health.reason),
        stale: health.stale,
        flapping: health.flapping,
        term: health.term,
        n: health.n,
        counters: entry.counters,
        last: entry.observation.as_ref().map(|o| WireObservation {
            outcome: o.outcome,
            at: o.at.wall,
            latency_ms: u64::try_from(o.latency.as_millis()).unwrap_or(u64::MAX),
            output: Arc::clone(&o.output),
            status: o.status,
            days_left: o.days_left,
        }),
    }
}

fn entry(wire: WireTarget, now: Now) -> Entry {
    let WireTarget { target, state, since, reason, stale, flapping, term, n, counters, last } = wire;
    let observation = last.map(|o| {
        let mono = Mono::from_origin(now.mono.elapsed().saturating_sub(now.wall.since(o.at)));
        let at = Now { wall: o.at, mono };
        let plain = Observation::plain(o.outcome, Duration::from_millis(o.latency_ms), o.output, at);
        Arc::new(Observation { status: o.status, days_left: o.days_left, ..plain })
    });
    Entry { target, health: Health { state, since, reason, stale, flapping, term, n }, counters, observation }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
