//! Frames: what the leader's stream carries, as JSON lines. A frame with entries is cut into parts of at most 256 KiB, so
//! that neither side holds up its other work; a reader hands on whole frames only. What bounds a reader is here, because
//! the stream may be hostile: a wrong URL must not inject results, nor fill the memory.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::wire::{self, Arrival, EntryIn, EntryOut};
use crate::{
    evaluation::health::Counters,
    model::{Health, Mono, NodeName, Observation, TargetName, Timestamp},
};

/// Longest line, its end included.
pub const MAX_PART: usize = 256 * 1024;
/// Most parts of one frame.
const MAX_PARTS: u32 = 16_384;
/// Most entries of one frame.
const MAX_ENTRIES: usize = 200_000;
/// Most bytes of one frame.
const MAX_FRAME: usize = 256 * 1024 * 1024;

/// One target's whole state.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The target.
    pub target: TargetName,
    /// Its damped state, with (term, n).
    pub health: Health,
    /// What of the state machine survives a takeover.
    pub counters: Counters,
    /// The last result. Its `at.mono` is the receiver's: the age at the sender, taken from the receiver's clock at arrival.
    pub observation: Option<Arc<Observation>>,
}

/// What every frame begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Who sends.
    pub node: NodeName,
    /// In which term.
    pub term: i64,
    /// Number of the last delta that this frame holds or follows: grows by one with each delta of a term.
    pub seq: u64,
    /// The sender's wall clock.
    pub now: Timestamp,
    /// The sender has lost the store.
    pub degraded: bool,
    /// Up to when Graphite has every point.
    pub graphite_mark: Option<Timestamp>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Every target: replaces what the receiver had, as of `seq`. (On the wire it is cut into parts; a receiver hands on
    /// whole ones only.)
    Full(Head, Vec<Entry>),
    /// The targets that changed since `seq` - 1.
    Delta(Head, Vec<Entry>),
    /// Nothing changed since `seq`.
    Heartbeat(Head),
}

/// What cannot be read as a frame, or not be written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A line over the bound.
    #[error("a line is longer than {MAX_PART} bytes")]
    LineTooLong,
    /// Not the JSON that was expected.
    #[error("not a frame: {0}")]
    Json(String),
    /// Another version than this node reads.
    #[error("version {0} is not read here")]
    Version(u32),
    /// A value outside its range.
    #[error("{0} has no usable value")]
    Value(&'static str),
    /// Parts of different frames, or in another order.
    #[error("part {got} of a frame came where {expected} was due")]
    Part {
        /// The part that was due.
        expected: u32,
        /// The one that came.
        got: u32,
    },
    /// Something else between two parts of a frame.
    #[error("a frame was broken off for another")]
    BrokenOff,
    /// More parts than a frame may have.
    #[error("a frame has more than {MAX_PARTS} parts")]
    TooManyParts,
    /// More entries than allowed.
    #[error("there are more than {0} entries")]
    TooManyEntries(usize),
    /// More bytes than a frame may have.
    #[error("a frame is larger than {MAX_FRAME} bytes")]
    TooLarge,
    /// It cannot be written.
    #[error("cannot be written: {0}")]
    Write(String),
}

impl FrameError {
    /// The reader's complaint, bounded.
    pub(super) fn json(error: &serde_json::Error) -> Self {
        Self::Json(error.to_string().chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect())
    }
}

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Every target.
    Full,
    /// Changed targets.
    Delta,
    /// None.
    Heartbeat,
    /// One of a later version: skipped.
    #[serde(other)]
    Unknown,
}

#[derive(Serialize)]
struct LineHead<'a> {
    v: u32,
    kind: Kind,
    node: &'a NodeName,
    term: i64,
    seq: u64,
    now: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    graphite_mark: Option<Timestamp>,
}

#[derive(Deserialize)]
struct LineIn {
    v: u32,
    kind: Kind,
    node: NodeName,
    term: i64,
    seq: u64,
    now: Timestamp,
    #[serde(default)]
    degraded: bool,
    #[serde(default)]
    graphite_mark: Option<Timestamp>,
    #[serde(default)]
    part: u32,
    #[serde(default = "yes")]
    last: bool,
    #[serde(default)]
    entries: Vec<EntryIn>,
}

const fn yes() -> bool {
    true
}

/// `{"v":1,…` without the closing brace.
fn opening(kind: Kind, head: &Head) -> Vec<u8> {
    let head = LineHead {
        v: wire::VERSION,
        kind,
        node: &head.node,
        term: head.term,
        seq: head.seq,
        now: head.now,
        degraded: head.degraded,
        graphite_mark: head.graphite_mark,
    };
    // Names, numbers and times always serialise.
    let mut out = serde_json::to_vec(&head).unwrap_or_default();
    out.pop();
    out
}

/// A heartbeat's line.
#[must_use]
pub fn encode_heartbeat(head: &Head) -> Bytes {
    let mut out = opening(Kind::Heartbeat, head);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

/// The line of part `part`, with as many of `entries` as fit, and how many those are. The line that takes the last of them
/// says so.
#[must_use]
pub fn encode_part(kind: Kind, head: &Head, part: u32, entries: &[Entry]) -> (Bytes, usize) {
    // `],"last":false}` and the line's end.
    const CLOSING: usize = 20;
    let mut out = opening(kind, head);
    out.extend_from_slice(format!(",\"part\":{part},\"entries\":[").as_bytes());
    let (mut taken, empty) = (0_usize, out.len());
    for entry in entries {
        let start = out.len();
        let fits = |out: &Vec<u8>| out.len().saturating_add(CLOSING) <= MAX_PART;
        let mut write = |entry: &EntryOut<'_>| {
            if start > empty {
                out.push(b',');
            }
            let whole = serde_json::to_writer(&mut out, entry).is_ok() && fits(&out);
            if !whole {
                out.truncate(start);
            }
            whole
        };
        if !write(&EntryOut::new(entry)) {
            if start > empty {
                break;
            }
            // Alone it does not fit either: a line over the bound would end the stream for everybody.
            write(&EntryOut::new(entry).without_details());
        }
        taken = taken.saturating_add(1);
    }
    out.extend_from_slice(if taken >= entries.len() { b"]}\n".as_slice() } else { b"],\"last\":false}\n" });
    (Bytes::from(out), taken)
}

/// All lines of a frame at once: for tests, and where a frame is small.
#[must_use]
pub fn encode(frame: &Frame) -> Vec<Bytes> {
    let (kind, head, entries) = match frame {
        Frame::Full(head, entries) => (Kind::Full, head, entries),
        Frame::Delta(head, entries) => (Kind::Delta, head, entries),
        Frame::Heartbeat(head) => return vec![encode_heartbeat(head)],
    };
    let (mut lines, mut from) = (Vec::new(), 0_usize);
    for part in 0.. {
        let (line, taken) = encode_part(kind, head, part, entries.get(from..).unwrap_or_default());
        lines.push(line);
        from = from.saturating_add(taken);
        if from >= entries.len() {
            break;
        }
    }
    lines
}

/// Puts frames together from bytes as they come. After an error nothing more can be read from the stream.
#[derive(Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line's end.
    searched: usize,
    pending: Option<Pending>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

/// A frame of which parts are still to come.
struct Pending {
    kind: Kind,
    head: Head,
    next: u32,
    /// When its first part came.
    mono: Mono,
    bytes: usize,
    entries: Vec<Entry>,
}

impl Decoder {
    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `mono` being the receiver's clock now; none until more bytes are there.
    ///
    /// # Errors
    /// `FrameError`: the stream has to be thrown away.
    pub fn next(&mut self, mono: Mono) -> Result<Option<Frame>, FrameError> {
        while let Some(line) = self.line()? {
            let line = line.trim_ascii();
            // An empty line only shows that the sender lives.
            if !line.is_empty()
                && let Some(frame) = self.take(line, mono)?
            {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<BytesMut>, FrameError> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let end = rest.iter().position(|b| *b == b'\n').map(|at| self.searched.saturating_add(at).saturating_add(1));
        if end.unwrap_or(self.buffer.len()) > MAX_PART {
            return Err(FrameError::LineTooLong);
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        self.searched = 0;
        Ok(Some(self.buffer.split_to(end)))
    }

    fn take(&mut self, line: &[u8], mono: Mono) -> Result<Option<Frame>, FrameError> {
        let line_len = line.len();
        let line: LineIn = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return Err(version_fault(line).unwrap_or_else(|| FrameError::json(&error))),
        };
        wire::readable(line.v)?;
        let LineIn { kind, node, term, seq, now, degraded, graphite_mark, part, last, entries, .. } = line;
        let head = Head { node, term, seq, now, degraded, graphite_mark };
        match kind {
            Kind::Unknown => return Ok(None),
            Kind::Heartbeat if self.pending.is_some() => return Err(FrameError::BrokenOff),
            Kind::Heartbeat => return Ok(Some(Frame::Heartbeat(head))),
            Kind::Full | Kind::Delta => {}
        }
        let mut pending = self.join(kind, head, part, mono)?;
        pending.bytes = pending.bytes.saturating_add(line_len);
        if pending.bytes > MAX_FRAME {
            return Err(FrameError::TooLarge);
        }
        if pending.entries.len().saturating_add(entries.len()) > MAX_ENTRIES {
            return Err(FrameError::TooManyEntries(MAX_ENTRIES));
        }
        let arrival = Arrival { sent: pending.head.now, mono: pending.mono };
        for entry in entries {
            pending.entries.push(entry.entry(arrival)?);
        }
        if !last {
            self.pending = Some(pending);
            return Ok(None);
        }
        let Pending { kind, head, entries, .. } = pending;
        Ok(Some(if kind == Kind::Full { Frame::Full(head, entries) } else { Frame::Delta(head, entries) }))
    }

    /// The frame that a part belongs to: a new one, or the one that waits for it.
    fn join(&mut self, kind: Kind, head: Head, part: u32, mono: Mono) -> Result<Pending, FrameError> {
        match self.pending.take() {
            None if part == 0 => Ok(Pending { kind, head, next: 1, mono, bytes: 0, entries: Vec::new() }),
            None => Err(FrameError::Part { expected: 0, got: part }),
            Some(pending) if pending.kind != kind || pending.head != head => Err(FrameError::BrokenOff),
            Some(pending) if pending.next != part => Err(FrameError::Part { expected: pending.next, got: part }),
            Some(pending) if part >= MAX_PARTS => {
                drop(pending);
                Err(FrameError::TooManyParts)
            }
            Some(mut pending) => {
                pending.next = part.saturating_add(1);
                Ok(pending)
            }
        }
    }
}

/// A later version may have other shapes: it is named, rather than the field that is missing.
fn version_fault(line: &[u8]) -> Option<FrameError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let version: Version = serde_json::from_slice(line).ok()?;
    wire::readable(version.v).err()
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
