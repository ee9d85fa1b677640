//! The parts of the FT report that only an edit changes, each target's written and escaped once per catalog: of 10,000
//! checks only what was seen last is written for each request.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::Serialize;

use crate::model::{Catalog, Severity, Target, TargetName};

/// The fragments of the catalog that was asked for last.
#[derive(Debug, Default)]
pub struct Fragments(ArcSwapOption<Ready>);

/// All fragments of one catalog.
#[derive(Debug)]
pub(super) struct Ready {
    catalog: Arc<Catalog>,
    targets: Vec<Fragment>,
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
        let ready = Arc::new(Ready { catalog: Arc::clone(catalog), targets });
        self.0.store(Some(Arc::clone(&ready)));
        Ok(ready)
    }
}

impl Ready {
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
