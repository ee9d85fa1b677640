//! A frame on its way out: encoded part by part when the first subscriber comes to a part, then shared. The controller only
//! hands the entries over; a frame of thousands costs it nothing.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::{
    model::Observation,
    replication::frame::{Entry, Head, Kind, encode_part},
};

/// One frame.
#[derive(Debug)]
pub(super) struct Packed {
    kind: Kind,
    head: Head,
    /// About how many bytes it takes, for bounds.
    pub(super) weight: usize,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    parts: Vec<Bytes>,
    /// Not encoded yet, from `taken` on; none once all are.
    entries: Option<Arc<[Entry]>>,
    taken: usize,
}

impl Packed {
    pub(super) fn new(kind: Kind, head: Head, entries: Vec<Entry>) -> Self {
        let weight = entries.iter().map(weight).fold(0, usize::saturating_add);
        let progress = Progress { parts: Vec::new(), entries: Some(entries.into()), taken: 0 };
        Self { kind, head, weight, progress: Mutex::new(progress) }
    }

    /// Part `index`, encoded now where nobody has asked for it yet; none after the last.
    pub(super) fn part(&self, index: usize) -> Option<Bytes> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        while progress.parts.len() <= index {
            let entries = progress.entries.clone()?;
            let rest = entries.get(progress.taken..).unwrap_or_default();
            let number = u32::try_from(progress.parts.len()).unwrap_or(u32::MAX);
            let (line, taken) = encode_part(self.kind, &self.head, number, rest);
            progress.parts.push(line);
            progress.taken = progress.taken.saturating_add(taken);
            if progress.taken >= entries.len() {
                progress.entries = None;
            }
        }
        progress.parts.get(index).cloned()
    }
}

/// About how many bytes an entry takes on the wire and in memory.
fn weight(entry: &Entry) -> usize {
    const FIXED: usize = 400;
    let texts = entry.target.as_str().len().saturating_add(entry.health.reason.len());
    FIXED.saturating_add(texts).saturating_add(entry.observation.as_deref().map_or(0, of_observation))
}

fn of_observation(observation: &Observation) -> usize {
    const CHECK: usize = 200;
    let checks = observation.checks.iter().flat_map(|checks| checks.iter()).map(|c| {
        [&c.id, &c.name, &c.business_impact, &c.technical_summary, &c.panic_guide, &c.check_output, &c.last_updated]
            .iter()
            .fold(CHECK, |sum, text| sum.saturating_add(text.len()))
    });
    // Properties are bounded by the judge to as much as this.
    let properties = observation.properties.as_ref().map_or(0, |_| 1024);
    checks.fold(observation.output.len().saturating_add(properties), usize::saturating_add)
}
