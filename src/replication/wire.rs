//! The JSON shapes of what nodes send each other: versioned, snake_case, times in RFC 3339, durations in seconds; unknown
//! fields are ignored, so that v and v - 1 run side by side. Secrets are in none of them. How frames are cut and put
//! together is left to `frame`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

use super::{
    Entry,
    frame::FrameError,
    peers::{Refreshed, Seen},
};
use crate::{
    evaluation::health::Counters,
    model::{DocumentCheck, Health, HealthState, Mono, Now, Observation, Outcome, TargetName, Timestamp},
};

/// What is written. A node reads this version and the one before.
pub const VERSION: u32 = 1;
/// The oldest version that is read: there was none before the first.
const OLDEST: u32 = 1;
/// Deeper values of properties are left out: JSON readers bound depth, and one target's answer must not make a frame
/// unreadable.
const MAX_DEPTH: usize = 32;
/// Most targets in one question or answer.
pub const MAX_ASKED: usize = 20_000;

/// Whether a version is read.
///
/// # Errors
/// `FrameError::Version`.
pub(super) fn readable(v: u32) -> Result<(), FrameError> {
    if (OLDEST..=VERSION).contains(&v) { Ok(()) } else { Err(FrameError::Version(v)) }
}

/// One entry as it is written.
#[derive(Debug, Serialize)]
pub struct EntryOut<'a> {
    target: &'a TargetName,
    health: HealthOut<'a>,
    counters: &'a Counters,
    #[serde(skip_serializing_if = "Option::is_none")]
    observation: Option<ObservationOut<'a>>,
}

#[derive(Debug, Serialize)]
struct HealthOut<'a> {
    state: HealthState,
    since: Timestamp,
    reason: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    stale: bool,
    #[serde(skip_serializing_if = "is_false")]
    flapping: bool,
    term: i64,
    n: u64,
}

/// One observation as it is written.
#[derive(Debug, Serialize)]
pub struct ObservationOut<'a> {
    outcome: Outcome,
    latency: f64,
    output: &'a str,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days_left: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a [DocumentCheck]>,
    #[serde(skip_serializing_if = "is_zero")]
    checks_left_out: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Shallow<'a>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Properties less those that are too deep.
#[derive(Debug)]
struct Shallow<'a>(&'a BTreeMap<String, Value>);

impl Serialize for Shallow<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        for (name, value) in self.0.iter().filter(|(_, value)| is_shallow(value, MAX_DEPTH)) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn is_shallow(value: &Value, left: usize) -> bool {
    let Some(left) = left.checked_sub(1) else { return false };
    match value {
        Value::Array(items) => items.iter().all(|v| is_shallow(v, left)),
        Value::Object(fields) => fields.values().all(|v| is_shallow(v, left)),
        _ => true,
    }
}

impl<'a> EntryOut<'a> {
    /// The whole entry.
    #[must_use]
    pub fn new(entry: &'a Entry) -> Self {
        let health = &entry.health;
        Self {
            target: &entry.target,
            health: HealthOut {
                state: health.state,
                since: health.since,
                reason: &health.reason,
                stale: health.stale,
                flapping: health.flapping,
                term: health.term,
                n: health.n,
            },
            counters: &entry.counters,
            observation: entry.observation.as_deref().map(ObservationOut::new),
        }
    }

    /// Without what may be large: for an entry that fits into no part.
    pub(super) fn without_details(mut self) -> Self {
        if let Some(observation) = &mut self.observation {
            let kept = observation.checks.take().map_or(0, <[_]>::len);
            let more = u32::try_from(kept).unwrap_or(u32::MAX);
            observation.checks_left_out = observation.checks_left_out.saturating_add(more);
            observation.properties = None;
        }
        self
    }
}

impl<'a> ObservationOut<'a> {
    /// The whole observation.
    #[must_use]
    pub fn new(observation: &'a Observation) -> Self {
        Self {
            outcome: observation.outcome,
            latency: observation.latency.as_secs_f64(),
            output: &observation.output,
            at: observation.at.wall,
            status: observation.status,
            days_left: observation.days_left,
            checks: observation.checks.as_deref(),
            checks_left_out: observation.checks_left_out,
            system_code: observation.system_code.as_deref(),
            properties: observation.properties.as_deref().map(Shallow),
        }
    }
}

/// One entry as it is read.
#[derive(Debug, Deserialize)]
pub struct EntryIn {
    target: TargetName,
    health: HealthIn,
    #[serde(default)]
    counters: Counters,
    #[serde(default)]
    observation: Option<ObservationIn>,
}

#[derive(Debug, Deserialize)]
struct HealthIn {
    state: HealthState,
    since: Timestamp,
    reason: Arc<str>,
    #[serde(default)]
    stale: bool,
    #[serde(default)]
    flapping: bool,
    term: i64,
    n: u64,
}

/// One observation as it is read.
#[derive(Debug, Deserialize)]
pub struct ObservationIn {
    outcome: Outcome,
    latency: f64,
    output: Arc<str>,
    at: Timestamp,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    days_left: Option<i64>,
    #[serde(default)]
    checks: Option<Arc<[DocumentCheck]>>,
    #[serde(default)]
    checks_left_out: u32,
    #[serde(default)]
    system_code: Option<Arc<str>>,
    #[serde(default)]
    properties: Option<Arc<BTreeMap<String, Value>>>,
}

/// When something that was sent was received: the sender's wall clock, and the receiver's monotonic one.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The sender's `now`.
    pub sent: Timestamp,
    /// The receiver's clock when it began to arrive.
    pub mono: Mono,
}

impl Arrival {
    /// The sender's instant on the receiver's clock: its age at the sender taken from the arrival, never later than that.
    fn place(self, at: Timestamp) -> Now {
        let age = self.sent.since(at);
        Now { wall: at, mono: Mono::from_origin(self.mono.elapsed().saturating_sub(age)) }
    }
}

impl EntryIn {
    /// The entry on the receiver's clock.
    ///
    /// # Errors
    /// `FrameError::Value` for a latency that is none.
    pub fn entry(self, arrival: Arrival) -> Result<Entry, FrameError> {
        let HealthIn { state, since, reason, stale, flapping, term, n } = self.health;
        let observation = self.observation.map(|o| o.observation(arrival)).transpose()?.map(Arc::new);
        Ok(Entry {
            target: self.target,
            health: Health { state, since, reason, stale, flapping, term, n },
            counters: self.counters,
            observation,
        })
    }
}

impl ObservationIn {
    /// The observation on the receiver's clock.
    ///
    /// # Errors
    /// As for an entry.
    pub fn observation(self, arrival: Arrival) -> Result<Observation, FrameError> {
        let latency = Duration::try_from_secs_f64(self.latency).map_err(|_| FrameError::Value("latency"))?;
        Ok(Observation {
            outcome: self.outcome,
            latency,
            output: self.output,
            at: arrival.place(self.at),
            status: self.status,
            days_left: self.days_left,
            checks: self.checks,
            checks_left_out: self.checks_left_out,
            system_code: self.system_code,
            properties: self.properties,
        })
    }
}

/// `{"v":1,"targets":[…]}`: what is asked of `refresh` and `witness`.
#[derive(Debug, Serialize)]
struct AskedOut<'a> {
    v: u32,
    targets: &'a [TargetName],
}

/// The question's body.
///
/// # Errors
/// `FrameError::Write`; a list of names always serialises.
pub fn asked(targets: &[TargetName]) -> Result<Bytes, FrameError> {
    written(&AskedOut { v: VERSION, targets })
}

#[derive(Serialize)]
struct RefreshedOut<'a> {
    v: u32,
    now: Timestamp,
    entries: Vec<EntryOut<'a>>,
    not_refreshed: &'a [TargetName],
}

#[derive(Deserialize)]
struct RefreshedIn {
    v: u32,
    now: Timestamp,
    entries: Vec<EntryIn>,
    #[serde(default)]
    not_refreshed: Vec<TargetName>,
}

/// The answer to `refresh`, `now` being the answering node's wall clock.
///
/// # Errors
/// `FrameError::Write`.
pub fn refreshed(now: Timestamp, answer: &Refreshed) -> Result<Bytes, FrameError> {
    let entries = answer.entries.iter().map(EntryOut::new).collect();
    written(&RefreshedOut { v: VERSION, now, entries, not_refreshed: &answer.not_refreshed })
}

/// Reads the answer to `refresh`, received at `mono`.
///
/// # Errors
/// `FrameError` for anything else.
pub fn read_refreshed(body: &[u8], mono: Mono) -> Result<Refreshed, FrameError> {
    let RefreshedIn { v, now, entries, not_refreshed } = read(body)?;
    readable(v)?;
    if entries.len() > MAX_ASKED || not_refreshed.len() > MAX_ASKED {
        return Err(FrameError::TooManyEntries(MAX_ASKED));
    }
    let arrival = Arrival { sent: now, mono };
    let entries: Result<Vec<_>, _> = entries.into_iter().map(|e| e.entry(arrival)).collect();
    Ok(Refreshed { entries: entries?, not_refreshed })
}

#[derive(Serialize)]
struct WitnessOut<'a> {
    v: u32,
    now: Timestamp,
    seen: Vec<SeenOut<'a>>,
}

#[derive(Serialize)]
struct SeenOut<'a> {
    target: &'a TargetName,
    observation: ObservationOut<'a>,
}

#[derive(Deserialize)]
struct WitnessIn {
    v: u32,
    now: Timestamp,
    seen: Vec<SeenIn>,
}

#[derive(Deserialize)]
struct SeenIn {
    target: TargetName,
    observation: ObservationIn,
}

/// The answer to `witness`, `now` being the answering node's wall clock.
///
/// # Errors
/// `FrameError::Write`.
pub fn witnessed(now: Timestamp, seen: &[Seen]) -> Result<Bytes, FrameError> {
    let seen =
        seen.iter().map(|s| SeenOut { target: &s.target, observation: ObservationOut::new(&s.observation) }).collect();
    written(&WitnessOut { v: VERSION, now, seen })
}

/// Reads the answer to `witness`, received at `mono`.
///
/// # Errors
/// `FrameError` for anything else.
pub fn read_witnessed(body: &[u8], mono: Mono) -> Result<Vec<Seen>, FrameError> {
    let WitnessIn { v, now, seen } = read(body)?;
    readable(v)?;
    if seen.len() > MAX_ASKED {
        return Err(FrameError::TooManyEntries(MAX_ASKED));
    }
    let arrival = Arrival { sent: now, mono };
    seen.into_iter()
        .map(|s| Ok(Seen { target: s.target, observation: Arc::new(s.observation.observation(arrival)?) }))
        .collect()
}

fn written<T: Serialize>(value: &T) -> Result<Bytes, FrameError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|e| FrameError::Write(e.to_string()))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(|e| FrameError::json(&e))
}
