//! What is kept of the FT report from request to request: the parts that only an edit changes, each target's written and escaped
//! once per catalog; and the last large report itself, of which every check is taken over that nothing new is known of.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use serde::Serialize;

use crate::model::{Catalog, Cell, Observation, Severity, Target, TargetName};

/// Reports that are kept: as many as are written at once (`aside`).
const WRITERS: usize = 2;

/// The fragments of the catalog that was asked for last.
#[derive(Debug, Default)]
pub struct Fragments(ArcSwapOption<Ready>);

/// All fragments of one catalog.
#[derive(Debug)]
pub(super) struct Ready {
    catalog: Arc<Catalog>,
    targets: Vec<Fragment>,
    last: Mutex<Vec<Written>>,
}

/// A report over all targets as it was sent last.
#[derive(Debug, Default)]
pub(super) struct Written {
    body: Bytes,
    /// By the target's index; none where its check is not to be taken over.
    checks: Vec<Option<WrittenCheck>>,
}

/// Where a check lies in a report, and all that it was made from beside the catalog.
#[derive(Debug)]
struct WrittenCheck {
    /// Held, so that no other one can come to lie in its place.
    seen: Arc<Observation>,
    /// Its outcome, which the check's `ok` agrees with.
    good: bool,
    start: u32,
    end: u32,
}

impl Written {
    /// Bytes of the whole.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// Appends a target's check to a report, where it would be written as it was: its cell holds the same result, which still
    /// agrees with its state.
    pub(super) fn take_over(&self, index: usize, cell: &Cell, ok: bool, out: &mut Vec<u8>) -> bool {
        let check = self.checks.get(index).and_then(Option::as_ref);
        let Some(check) = check.filter(|check| check.good == ok && cell.holds(&check.seen)) else { return false };
        let Some(bytes) = self.body.get(check.start as usize..check.end as usize) else { return false };
        out.extend_from_slice(bytes);
        true
    }

    /// Notes where a target's check was written anew, and the result that it was made from, if from that alone.
    pub(super) fn note(&mut self, index: usize, seen: Option<Arc<Observation>>) {
        if self.checks.len() <= index {
            self.checks.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.checks.get_mut(index) {
            *slot = seen.map(|seen| WrittenCheck { good: seen.outcome.is_good(), seen, start: 0, end: 0 });
        }
    }

    /// Moves a target's check to where it lies in the report that is being written.
    pub(super) fn place(&mut self, index: usize, start: usize, end: usize) {
        let Some(slot) = self.checks.get_mut(index) else { return };
        match (slot.as_mut(), u32::try_from(start), u32::try_from(end)) {
            (Some(check), Ok(start), Ok(end)) => (check.start, check.end) = (start, end),
            _ => *slot = None,
        }
    }

    /// The report that the places are in.
    pub(super) fn finish(&mut self, body: Bytes) {
        self.body = body;
    }
}

/// One target's: a JSON object's fields without its braces.
#[derive(Debug)]
pub(super) struct Fragment {
    text: Box<[u8]>,
    /// Where the first half ends.
    middle: usize,
}

#[derive(Serialize)]
struct Before<'a> {
    id: &'a TargetName,
    name: &'a TargetName,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct After<'a> {
    severity: Severity,
    business_impact: &'a str,
    technical_summary: &'a str,
    panic_guide: &'a str,
}

impl Fragments {
    /// The fragments of this very catalog; made where another was asked for before.
    ///
    /// # Errors
    /// When a text cannot be written as JSON; ours always can.
    pub(super) fn of(&self, catalog: &Arc<Catalog>) -> Result<Arc<Ready>, serde_json::Error> {
        if let Some(ready) = self.0.load_full()
            && Arc::ptr_eq(&ready.catalog, catalog)
        {
            return Ok(ready);
        }
        let targets = catalog.targets.iter().map(|t| Fragment::of(t)).collect::<Result<Vec<_>, _>>()?;
        let ready = Arc::new(Ready { catalog: Arc::clone(catalog), targets, last: Mutex::default() });
        self.0.store(Some(Arc::clone(&ready)));
        Ok(ready)
    }
}

impl Ready {
    /// The report that was kept last, for one writer; an empty one where none is left.
    pub(super) fn take(&self) -> Written {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps it for the next.
    pub(super) fn keep(&self, written: Written) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() < WRITERS {
            last.push(written);
        }
    }

    /// A target's, by its index.
    pub(super) fn get(&self, index: usize) -> Option<&Fragment> {
        self.targets.get(index)
    }
}

impl Fragment {
    fn of(target: &Target) -> Result<Self, serde_json::Error> {
        let mut text = Vec::new();
        write_fields(&mut text, &Before { id: &target.name, name: &target.name })?;
        let middle = text.len();
        let (impact, summary) = (&target.business_impact, &target.technical_summary);
        let after = After {
            severity: target.severity,
            business_impact: impact,
            technical_summary: summary,
            panic_guide: &target.panic_guide,
        };
        write_fields(&mut text, &after)?;
        Ok(Self { text: text.into_boxed_slice(), middle })
    }

    /// `"id":…,"name":…` and `"severity":…,…,"panicGuide":…`.
    pub(super) fn halves(&self) -> (&[u8], &[u8]) {
        self.text.split_at_checked(self.middle).unwrap_or_default()
    }
}

/// An object's fields without its braces.
pub(super) fn write_fields(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), serde_json::Error> {
    let whole = serde_json::to_vec(value)?;
    let inner = whole.strip_prefix(b"{").and_then(|w| w.strip_suffix(b"}")).unwrap_or(&whole);
    out.extend_from_slice(inner);
    Ok(())
}
