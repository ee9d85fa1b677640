//! Reads a health document of any known shape in one pass, keeping no more of its checks than the bound allows. Pure.
//! Failing checks are kept before passing ones.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    loose::{Key, Loose},
    text::{clean, push_clean, shared},
};
use crate::model::{DocumentCheck, Severity};

/// Most bytes of a document's checks that are kept (design section 5).
pub const MAX_KEPT: usize = 4 * 1024;
/// What a check counts at least, so that empty ones cannot add up.
const MIN_COST: usize = 64;
const MAX_FIELD: usize = 512;
const MAX_NAME: usize = 128;

/// What `checks`, `components` or `details` held.
#[derive(Debug, Default)]
pub enum Checks<'a> {
    /// Absent or null.
    #[default]
    None,
    /// A list (FT).
    List(Collected<'a>),
    /// An object by name (health+json, Spring).
    Map(Collected<'a>),
    /// Another type.
    Wrong,
}

/// The checks seen, counted; those that may be kept.
#[derive(Debug, Default)]
pub struct Collected<'a> {
    /// All checks.
    pub total: usize,
    /// Those that fail.
    pub failing: usize,
    failed: Kept<'a>,
    passed: Kept<'a>,
}

#[derive(Debug, Default)]
struct Kept<'a> {
    entries: Vec<(usize, Entry<'a>)>,
    bytes: usize,
}

impl<'a> Kept<'a> {
    fn take(&mut self, index: usize, entry: Entry<'a>) {
        let cost = entry.cost();
        if self.bytes + cost <= MAX_KEPT {
            self.bytes += cost;
            self.entries.push((index, entry));
        }
    }
}

impl<'a> Collected<'a> {
    fn take(&mut self, mut entry: Entry<'a>, ok: bool) {
        entry.passes = ok;
        self.total += 1;
        if ok {
            self.passed.take(self.total, entry);
        } else {
            self.failing += 1;
            self.failed.take(self.total, entry);
        }
    }

    /// The names of failing checks, as far as `out` has room within `max` bytes.
    pub fn push_failing(&self, out: &mut String, max: usize) {
        for (n, (index, entry)) in self.failed.entries.iter().enumerate() {
            out.push_str(if n == 0 { ": " } else { ", " });
            push_clean(out, &entry.shown_name(*index), max);
            if out.len() + 8 > max {
                break;
            }
        }
    }

    /// What is kept of the checks, in the document's order, and how many were left out.
    #[must_use]
    pub fn keep(self) -> (Option<Arc<[DocumentCheck]>>, u32) {
        let (mut entries, mut bytes) = (self.failed.entries, self.failed.bytes);
        for (index, entry) in self.passed.entries {
            bytes += entry.cost();
            if bytes > MAX_KEPT {
                break;
            }
            entries.push((index, entry));
        }
        entries.sort_by_key(|(index, _)| *index);
        let left_out = u32::try_from(self.total - entries.len()).unwrap_or(u32::MAX);
        let checks: Vec<_> = entries.iter().map(|(index, entry)| entry.keep(*index)).collect();
        (if checks.is_empty() { None } else { Some(Arc::from(checks)) }, left_out)
    }
}

/// One check of any shape.
#[derive(Debug, Default)]
struct Entry<'a> {
    is_object: bool,
    passes: bool,
    id: Loose<'a>,
    name: Loose<'a>,
    ok: Loose<'a>,
    status: Loose<'a>,
    severity: Loose<'a>,
    business_impact: Loose<'a>,
    technical_summary: Loose<'a>,
    panic_guide: Loose<'a>,
    output: Loose<'a>,
    last_updated: Loose<'a>,
}

impl Entry<'_> {
    fn fields(&self) -> [&Loose<'_>; 7] {
        [
            &self.id,
            &self.name,
            &self.business_impact,
            &self.technical_summary,
            &self.panic_guide,
            &self.output,
            &self.last_updated,
        ]
    }

    fn cost(&self) -> usize {
        let text: usize = self.fields().iter().map(|f| f.text().map_or(0, |t| t.len().min(MAX_FIELD))).sum();
        text.max(MIN_COST)
    }

    fn shown_name(&self, index: usize) -> String {
        let name = [&self.name, &self.id].map(|f| clean(&f.shown(), MAX_NAME)).into_iter().find(|n| !n.is_empty());
        name.unwrap_or_else(|| format!("check {index}"))
    }

    fn keep(&self, index: usize) -> DocumentCheck {
        let field = |value: &Loose<'_>, max| shared(&value.shown(), max);
        let mut name = field(&self.name, MAX_NAME);
        let mut id = field(&self.id, MAX_NAME);
        if name.is_empty() {
            name = if id.is_empty() { Arc::from(format!("check {index}")) } else { Arc::clone(&id) };
        }
        if id.is_empty() || id == name {
            id = Arc::clone(&name);
        }
        let field = |value: &Loose<'_>| field(value, MAX_FIELD);
        DocumentCheck {
            id,
            name,
            ok: self.passes,
            severity: self.severity.small().and_then(Severity::new).unwrap_or(Severity::MEDIUM),
            business_impact: field(&self.business_impact),
            technical_summary: field(&self.technical_summary),
            panic_guide: field(&self.panic_guide),
            check_output: field(&self.output),
            last_updated: field(&self.last_updated),
        }
    }
}

impl<'de> Deserialize<'de> for Entry<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Entry<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a check")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entry = Entry { is_object: true, ..Entry::default() };
                while let Some(Key(key)) = map.next_key()? {
                    let field = match &*key {
                        "id" | "componentId" => &mut entry.id,
                        "name" => &mut entry.name,
                        "ok" => &mut entry.ok,
                        "status" => &mut entry.status,
                        "severity" => &mut entry.severity,
                        "businessImpact" => &mut entry.business_impact,
                        "technicalSummary" => &mut entry.technical_summary,
                        "panicGuide" => &mut entry.panic_guide,
                        "checkOutput" | "output" | "description" => &mut entry.output,
                        "lastUpdated" | "time" => &mut entry.last_updated,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = map.next_value()?;
                }
                Ok(entry)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Entry::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Entry::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Entry::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Entry::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Entry::default())
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                // A bare word by name, as some frameworks write `"db": "UP"`.
                Ok(Entry { is_object: true, status: Loose::Text(Cow::Borrowed(v)), ..Entry::default() })
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Entry { is_object: true, status: Loose::Text(Cow::Owned(v.to_owned())), ..Entry::default() })
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Entry::default())
            }
        }
        d.deserialize_any(V)
    }
}

/// What a status word means, whatever its case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `pass`, `ok`, `up`…
    Pass,
    /// `warn`…: good, with a note.
    Warn,
    /// `UNKNOWN`: Spring answers 200 with it.
    Unknown,
    /// `fail`, `down`, and every word that is not known.
    Fail,
}

impl Word {
    /// Reads a status word.
    #[must_use]
    pub fn read(word: &str) -> Self {
        let is = |words: &[&str]| words.iter().any(|w| word.eq_ignore_ascii_case(w));
        if is(&["pass", "ok", "up", "healthy", "passing"]) {
            Self::Pass
        } else if is(&["warn", "warning", "degraded"]) {
            Self::Warn
        } else if is(&["unknown"]) {
            Self::Unknown
        } else {
            Self::Fail
        }
    }

    /// Whether the word is one that health documents use at all.
    #[must_use]
    pub fn is_known(word: &str) -> bool {
        let known = ["fail", "error", "down", "unhealthy", "critical", "out_of_service"];
        Self::read(word) != Self::Fail || known.iter().any(|w| word.eq_ignore_ascii_case(w))
    }
}

impl<'de> Deserialize<'de> for Checks<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Checks<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("checks")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Collected::default();
                while let Some(entry) = seq.next_element::<Entry<'de>>()? {
                    // Missing or of another type is not true: it fails.
                    let ok = entry.is_object && entry.ok == Loose::Bool(true);
                    all.take(entry, ok);
                }
                Ok(Checks::List(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Collected::default();
                while let Some((Key(key), Group(entries))) = map.next_entry::<_, Group<'de>>()? {
                    for mut entry in entries {
                        let ok = match entry.status.text() {
                            Some(word) => Word::read(word) != Word::Fail,
                            None => entry.ok != Loose::Bool(false),
                        };
                        entry.name = Loose::Text(key.clone());
                        all.take(entry, ok);
                    }
                }
                Ok(Checks::Map(all))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Checks::None)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Checks::Wrong)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Checks::Wrong)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Checks::Wrong)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Checks::Wrong)
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Checks::Wrong)
            }
        }
        d.deserialize_any(V)
    }
}

/// What stands behind one name of an object of checks: an entry, or a list of them, of which the failing count.
struct Group<'a>(Vec<Entry<'a>>);

impl<'de> Deserialize<'de> for Group<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Group<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a check or a list of checks")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                // One for the name: the first that fails, else the first.
                let mut chosen: Option<(bool, Entry<'de>)> = None;
                while let Some(entry) = seq.next_element::<Entry<'de>>()? {
                    let ok = entry.status.text().is_none_or(|word| Word::read(word) != Word::Fail);
                    if chosen.as_ref().is_none_or(|(chosen_ok, _)| *chosen_ok && !ok) {
                        chosen = Some((ok, entry));
                    }
                }
                Ok(Group(chosen.into_iter().map(|(_, entry)| entry).collect()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Entry::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(|e| Group(vec![e]))
            }
            fn visit_borrowed_str<E: serde::de::Error>(self, v: &'de str) -> Result<Self::Value, E> {
                Entry::deserialize(serde::de::value::BorrowedStrDeserializer::new(v)).map(|e| Group(vec![e]))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Self::Value, E> {
                self.visit_string(v.to_owned())
            }
            fn visit_string<E: serde::de::Error>(self, v: String) -> Result<Self::Value, E> {
                let status = Loose::Text(Cow::Owned(v));
                Ok(Group(vec![Entry { is_object: true, status, ..Entry::default() }]))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Group(Vec::new()))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Self::Value, E> {
                Ok(Group(vec![Entry { is_object: true, ok: Loose::Bool(v), ..Entry::default() }]))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Group(Vec::new()))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Group(Vec::new()))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Group(Vec::new()))
            }
        }
        d.deserialize_any(V)
    }
}

/// The parts of a health document that any format looks at.
#[derive(Debug, Default)]
pub struct Document<'a> {
    /// `status`.
    pub status: Loose<'a>,
    /// `checks`.
    pub checks: Checks<'a>,
    /// `components`, or Spring's older `details`.
    pub components: Checks<'a>,
    /// `systemCode`, else `serviceId`.
    pub system_code: Loose<'a>,
    /// `output`.
    pub output: Loose<'a>,
    /// `notes`, as text.
    pub notes: Loose<'a>,
    /// `schemaVersion` is there.
    pub is_ft: bool,
}

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Document<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut document = Document::default();
                while let Some(Key(key)) = map.next_key()? {
                    match &*key {
                        "status" => document.status = map.next_value()?,
                        "checks" => document.checks = map.next_value()?,
                        "components" | "details" => document.components = map.next_value()?,
                        "systemCode" => document.system_code = map.next_value()?,
                        "serviceId" if document.system_code.is_none() => document.system_code = map.next_value()?,
                        "output" => document.output = map.next_value()?,
                        "notes" => document.notes = map.next_value()?,
                        "schemaVersion" => {
                            document.is_ft = true;
                            map.next_value::<IgnoredAny>()?;
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(document)
            }
        }
        d.deserialize_map(V)
    }
}

impl<'a> Document<'a> {
    /// Reads a body. `Err`: it is no JSON object.
    ///
    /// # Errors
    /// The parser's words.
    pub fn read(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        // Looked at once as a whole, the text need not be looked at again in each string.
        match std::str::from_utf8(body) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => Err(serde::de::Error::custom("it is no UTF-8 text")),
        }
    }
}
