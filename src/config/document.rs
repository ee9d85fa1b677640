//! The catalog as one document, to keys and back: `apply`, `get catalog`, `serve --catalog` and the API go through here.
//! Reading text is left to `file`, comparing with what is stored to `diff`.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    placement,
    problem::{Path, Problem, Problems, Step, name_reason},
    redact,
    route::{Routed, route},
    schema::{self, NAME_EXPECTED, Shape},
    shapes, values,
};
use crate::model::{
    Ack, CategoryName, Fault, RegionName, ServiceName, TargetName, Timestamp,
    document::{AckDocument, CategoryDocument, Document, RegionDocument, ServiceDocument, TargetDocument},
    key::{self, CategoryField, Key, Parsed, TargetField},
    secret::{REDACTED, Secret},
    spec::{AuthSpec, RegionSpec, ServiceSpec, TargetSpec},
};

/// What a document says, key by key, and where each key comes from.
#[derive(Debug, Default)]
struct Keys {
    values: BTreeMap<String, String>,
    places: BTreeMap<String, Path>,
    problems: Problems,
}

/// The keys (relative to ROOT) and values of a document. A key that the document leaves alone is not among them; an
/// empty ack, failover or cluster ack means: delete it.
///
/// # Errors
/// Every fault found, its `key` being the field's path in the document. `since` is not set: nothing here knows the time.
pub fn to_keys(document: &Document) -> Result<BTreeMap<String, String>, Vec<Fault>> {
    let problems = judge(document);
    match problems {
        Ok(keys) => Ok(keys),
        Err(problems) => Err(problems.0.iter().map(|p| fault_of(document, p)).collect()),
    }
}

/// The same as `to_keys`, with problems that a file's line can be found for.
pub(super) fn judge(document: &Document) -> Result<BTreeMap<String, String>, Problems> {
    let mut keys = Keys::default();
    if document.v.is_some_and(|v| u64::from(v) > schema::VERSION) {
        keys.problems.add(&Path::of("v"), "this version cannot be read", "1 (or leave it out)");
    }
    document.targets.iter().for_each(|(name, target)| keys.target(name, target));
    document.categories.iter().for_each(|(name, category)| keys.category(name, category));
    document.services.iter().for_each(|(name, service)| keys.service(name, service));
    document.regions.iter().for_each(|(name, region)| keys.region(name, region));
    if let Some(ack) = &document.cluster_ack {
        keys.put(key::CLUSTER_ACK.to_owned(), ack_text(ack), Path::of("cluster_ack"));
    }
    keys.circles(document);
    keys.check();
    if keys.problems.0.is_empty() { Ok(keys.values) } else { Err(keys.problems) }
}

impl Keys {
    fn put(&mut self, key: String, value: String, place: Path) {
        self.places.insert(key.clone(), place);
        self.values.insert(key, value);
    }

    fn name(&mut self, checked: Result<(), crate::model::NameError>, at: &Path) {
        if let Err(e) = checked {
            self.problems.0.push(Problem::new(at, name_reason(&e), NAME_EXPECTED).at_key());
        }
    }

    fn target(&mut self, name: &str, target: &TargetDocument) {
        let at = Path::of("targets").field(name);
        self.name(TargetName::new(name).map(|_| ()), &at);
        let key = |word: &str| format!("healthcheck/{name}/{word}");
        let before = self.values.len();
        if let Some(path) = &target.path {
            self.put(key("path"), path.clone(), at.field("path"));
        }
        if let Some(categories) = &target.categories {
            for (n, category) in categories.iter().enumerate() {
                self.name(CategoryName::new(category).map(|_| ()), &at.field("categories").index(n));
            }
            self.put(key("categories"), categories.join(","), at.field("categories"));
        }
        if target.spec != TargetSpec::default() {
            self.put(key("spec"), spec_text(&target.spec), at.clone());
        }
        if self.values.len() == before {
            // A target exists when a key below it does.
            self.put(key("path"), "/__health".to_owned(), at.field("path"));
        }
        if let Some(ack) = &target.ack {
            self.put(key("ack"), ack_text(ack), at.field("ack"));
        }
    }

    fn category(&mut self, name: &str, category: &CategoryDocument) {
        let at = Path::of("categories").field(name);
        self.name(CategoryName::new(name).map(|_| ()), &at);
        let flag = |flag: Option<bool>| flag.map(|f| f.to_string());
        // A category is known when a key or a target names it; this key says nothing that is not so anyway.
        let nothing = *category == CategoryDocument::default();
        let fields = [
            ("period_seconds", category.period_seconds.map(|s| s.to_string())),
            ("is_resilient", flag(category.is_resilient.or(nothing.then_some(false)))),
            ("sticky", flag(category.sticky)),
            ("enabled", flag(category.enabled)),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                self.put(format!("healthcheck-categories/{name}/{field}"), value, at.field(field));
            }
        }
    }

    fn service(&mut self, name: &str, service: &ServiceDocument) {
        let at = Path::of("services").field(name);
        self.name(ServiceName::new(name).map(|_| ()), &at);
        if service.spec != ServiceSpec::default() {
            self.put(format!("services/{name}/spec"), plain_text(&service.spec), at.clone());
        }
        if let Some(region) = &service.failover {
            self.put(format!("services/{name}/failover"), region.clone(), at.field("failover"));
        }
    }

    fn region(&mut self, name: &str, region: &RegionDocument) {
        let at = Path::of("regions").field(name);
        self.name(RegionName::new(name).map(|_| ()), &at);
        if region.spec != RegionSpec::default() {
            self.put(format!("regions/{name}/spec"), plain_text(&region.spec), at.clone());
        }
        if let Some(enabled) = region.enabled {
            self.put(format!("regions/{name}/enabled"), enabled.to_string(), at.field("enabled"));
        }
        for (inner, value) in &region.overlay {
            let place = at.field("overlay").field(inner);
            self.put(format!("regions/{name}/overlay/{inner}"), value.clone(), place);
        }
    }

    fn circles(&mut self, document: &Document) {
        let named =
            document.services.iter().filter_map(|(name, service)| Some((ServiceName::new(name).ok()?, service)));
        let named: Vec<(ServiceName, &ServiceDocument)> = named.collect();
        for (name, way) in placement::cycles(named.iter().map(|(name, service)| (name, &service.spec))) {
            let at = Path::of("services").field(name.as_str()).field("depends_on");
            let reason = format!("services need each other in a circle: {way}");
            self.problems.add(&at, reason, "dependencies without a circle, or require: soft");
        }
    }

    /// Reads every key as the catalog will.
    fn check(&mut self) {
        let region = RegionName::default_region();
        for (key, value) in &self.values {
            let root = Path::default();
            let at = self.places.get(key).unwrap_or(&root);
            let Some(Routed { decoded_as, problems, .. }) = route(key, &region) else { continue };
            let bad_name = problems.iter().any(|_| !key.contains("/overlay/"));
            if bad_name {
                continue; // said already
            }
            // In an overlay a misspelt word is refused: a file says what it means.
            let refused = problems.into_iter().map(|p| Problem {
                path: at.clone(),
                level: crate::model::FaultLevel::Fault,
                at_key: true,
                ..p
            });
            self.problems.0.extend(refused);
            let Some(decoded_as) = decoded_as else { continue };
            if let Err(found) = values::decode(&decoded_as, value.as_bytes(), &region) {
                let whole = at.clone();
                // Names of categories were judged one by one.
                let said = matches!(decoded_as, Key::Target(_, TargetField::Categories)) && !key.contains("/overlay/");
                let problems = found.0.into_iter().filter(|_| !said);
                self.problems.0.extend(problems.map(|p| Problem { path: moved(&whole, &p.path), ..p }));
            }
        }
    }
}

/// A path inside a key's value, seen from the document: the key's own word gives way to the place of the key.
fn moved(place: &Path, inner: &Path) -> Path {
    inner.steps().iter().skip(1).fold(place.clone(), |path, step| match step {
        Step::Field(name) => path.field(name),
        Step::Index(index) => path.index(*index),
    })
}

fn fault_of(document: &Document, problem: &Problem) -> Fault {
    // Redacted first, so that no path leads to a secret.
    let whole = serde_json::to_value(redact(document.clone())).unwrap_or_default();
    let mut at = Some(&whole);
    for step in problem.path.steps() {
        at = match step {
            Step::Field(name) => at.and_then(|v| v.get(name)),
            Step::Index(index) => at.and_then(|v| v.get(*index)),
        };
    }
    let value = match at {
        Some(Value::String(text)) => super::words::cut(text, redact::SHOWN),
        Some(Value::Object(_)) | None => String::new(),
        Some(other) => super::words::cut(&other.to_string(), redact::SHOWN),
    };
    Fault {
        key: problem.path.to_string(),
        level: problem.level,
        value,
        reason: problem.reason.clone(),
        expected: problem.expected.clone(),
        nearest: problem.nearest.clone(),
        since: Timestamp::default(),
    }
}

fn plain_text(spec: &impl Serialize) -> String {
    serde_json::to_string(spec).unwrap_or_default()
}

fn ack_text(ack: &AckDocument) -> String {
    match ack {
        AckDocument::Text(text) => text.trim().to_owned(),
        AckDocument::Full(ack) if ack.message.trim().is_empty() => String::new(),
        AckDocument::Full(Ack { message, by: None, until: None, .. }) => message.trim().to_owned(),
        AckDocument::Full(ack) => plain_text(ack),
    }
}

/// A target's spec as its key holds it: with its secrets, which serde never writes.
fn spec_text(spec: &TargetSpec) -> String {
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    for (name, secret) in spec.headers.iter().flatten() {
        reveal(value.pointer_mut("/headers").and_then(|h| h.get_mut(name)), secret);
    }
    match &spec.auth {
        Some(AuthSpec::Basic { password, .. }) => reveal(value.pointer_mut("/auth/basic/password"), password),
        Some(AuthSpec::Bearer(token)) => reveal(value.pointer_mut("/auth/bearer"), token),
        None => {}
    }
    value.to_string()
}

fn reveal(place: Option<&mut Value>, secret: &Secret) {
    if let (Some(place), Secret::Inline(text)) = (place, secret) {
        *place = Value::String(text.clone());
    }
}

/// The document of stored keys (relative to ROOT), with the secrets as stored. What cannot be read is left out of it.
#[must_use]
pub fn from_keys<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Document {
    let mut document = Document { v: Some(1), ..Document::default() };
    for (key, raw) in pairs {
        let text = String::from_utf8_lossy(raw);
        match key::parse(key) {
            Parsed::Key(key) => take(&mut document, key, &text),
            Parsed::UnknownWord { target: Some(target), .. } => {
                document.targets.entry(target.to_string()).or_default();
            }
            Parsed::UnknownWord { .. } | Parsed::Foreign | Parsed::BadName(_) => {}
        }
    }
    document
}

fn take(document: &mut Document, key: Key, text: &str) {
    let flag = || super::words::parse_bool(text);
    match key {
        Key::Target(name, field) => {
            let target = document.targets.entry(name.to_string()).or_default();
            match field {
                TargetField::Path => target.path = Some(text.trim().to_owned()),
                TargetField::Categories => {
                    let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
                    target.categories = Some(words.map(str::to_owned).collect());
                }
                TargetField::Ack => target.ack = ack_of(text),
                TargetField::Spec => target.spec = spec_of(text, &shapes::TARGET_SPEC),
            }
        }
        Key::Category(name, field) => {
            let category = document.categories.entry(name.to_string()).or_default();
            match field {
                CategoryField::PeriodSeconds => category.period_seconds = text.trim().parse().ok(),
                CategoryField::IsResilient => category.is_resilient = flag(),
                CategoryField::Sticky => category.sticky = flag(),
                // What cannot be read counts as off.
                CategoryField::Enabled => category.enabled = Some(flag().unwrap_or(false)),
            }
        }
        Key::ClusterAck => document.cluster_ack = ack_of(text),
        Key::ServiceSpec(name) => {
            document.services.entry(name.to_string()).or_default().spec = spec_of(text, &shapes::SERVICE_SPEC);
        }
        Key::ServiceFailover(name) => {
            let region = Some(text.trim().to_owned()).filter(|r| !r.is_empty());
            document.services.entry(name.to_string()).or_default().failover = region;
        }
        Key::RegionSpec(name) => {
            document.regions.entry(name.to_string()).or_default().spec = spec_of(text, &shapes::REGION_SPEC);
        }
        Key::RegionEnabled(name) => document.regions.entry(name.to_string()).or_default().enabled = flag(),
        Key::Overlay(region, inner) => {
            document.regions.entry(region.to_string()).or_default().overlay.insert(inner, text.to_owned());
        }
    }
}

fn ack_of(text: &str) -> Option<AckDocument> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return None;
    }
    let full = serde_json::from_str::<Ack>(trimmed).ok().filter(|_| trimmed.starts_with('{'));
    Some(full.map_or_else(|| AckDocument::Text(trimmed.to_owned()), |ack| AckDocument::Full(Ack { v: None, ..ack })))
}

fn spec_of<T: DeserializeOwned + Default>(text: &str, shape: &Shape) -> T {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return T::default() };
    schema::walk(&mut value, shape, &Path::default(), &mut Problems::default());
    serde_json::from_value(value).unwrap_or_default()
}

/// The document without its secrets: what `get catalog` prints. `diff` puts the stored ones back for `***`.
#[must_use]
pub fn redact(mut document: Document) -> Document {
    fn hide(secret: &mut Secret) {
        if let Secret::Inline(text) = secret {
            REDACTED.clone_into(text);
        }
    }
    for target in document.targets.values_mut() {
        target.spec.headers.iter_mut().flatten().for_each(|(_, secret)| hide(secret));
        match &mut target.spec.auth {
            Some(AuthSpec::Basic { password, .. }) => hide(password),
            Some(AuthSpec::Bearer(token)) => hide(token),
            None => {}
        }
        if let Some(url) = &mut target.spec.url {
            *url = redact::url(url);
        }
    }
    for region in document.regions.values_mut() {
        for (inner, value) in &mut region.overlay {
            *value = redact::value(inner, value);
        }
    }
    document
}
