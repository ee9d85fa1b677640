//! What service and region specs may say (design section 7): shapes that are more than words, contradictions inside one
//! spec, and references between them. What placement makes of them is left to `evaluation`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    problem::{Path, Problem, Problems},
    schema::{
        Noun,
        Shape::{Int, List, Name, Object, Rule, Time, Word},
        short, walk,
    },
    words,
};
use crate::model::{
    ServiceName,
    spec::{RegionSpec, ServiceSpec},
};

const YEAR: u64 = 366 * 86_400_000;

/// `auto`, `manual`, or a delay.
pub fn failback(value: &mut Value, path: &Path, out: &mut Problems) {
    let expected = "auto, manual, or a delay such as 10m";
    match value.as_str() {
        Some("auto" | "manual") => return,
        Some(text) if text.chars().next().is_some_and(char::is_alphabetic) => {
            let near = words::nearest(text, ["auto", "manual"]);
            return out.add_near(path, format!("{} is not accepted", short(value)), expected, near);
        }
        _ => {}
    }
    let mut inner = Problems::default();
    walk(value, &Time(0, YEAR), path, &mut inner);
    for problem in inner.0 {
        out.add(path, problem.reason, expected);
    }
}

fn percent(text: &str) -> Option<f64> {
    text.trim().strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok()).filter(|p| (0.0..=100.0).contains(p))
}

/// A count, or percent as text.
pub fn count_or_percent(value: &mut Value, path: &Path, out: &mut Problems) {
    let good = match value {
        Value::Number(n) => n.as_u64().is_some_and(|n| n <= 1_000_000),
        Value::String(text) => percent(text).is_some() || text.trim().parse::<u32>().is_ok(),
        _ => false,
    };
    if !good {
        out.add(path, format!("{} is not accepted", short(value)), "a count such as 2, or percent such as \"50%\"");
    }
}

fn share(value: &mut Value, path: &Path, out: &mut Problems) {
    let good = match value {
        Value::Number(n) => n.as_f64().is_some_and(|n| (0.0..=100.0).contains(&n)),
        Value::String(text) => percent(text).is_some(),
        _ => false,
    };
    if !good {
        out.add(path, format!("{} is not accepted", short(value)), "percent from 0 to 100, such as \"50%\"");
    }
}

/// What a region needs to be viable: percent alone, or an object.
pub fn minimum(value: &mut Value, path: &Path, out: &mut Problems) {
    if !value.is_object() {
        return share(value, path, out);
    }
    let shape = Object(&[
        ("percent", Rule(share)),
        ("services", List(&Name(Noun::Service), true)),
        ("categories", List(&Name(Noun::Category), true)),
    ]);
    walk(value, &shape, path, out);
}

/// One entry of `depends_on`: a service's name, or an object with one of `service`, `any_of`, `n_of`.
pub fn dependency(value: &mut Value, path: &Path, out: &mut Problems) {
    const SERVICES: super::schema::Shape = List(&Name(Noun::Service), false);
    if value.is_string() {
        return walk(value, &Name(Noun::Service), path, out);
    }
    let shape = Object(&[
        ("service", Name(Noun::Service)),
        ("any_of", SERVICES),
        ("n_of", Object(&[("n", Int(1, 1000)), ("services", SERVICES)])),
        ("require", Word(&["hard", "soft"])),
        ("scope", Word(&["region", "any"])),
    ]);
    walk(value, &shape, path, out);
    let Some(map) = value.as_object() else { return };
    let forms = ["service", "any_of", "n_of"].iter().filter(|f| map.contains_key(**f)).count();
    if forms != 1 {
        out.add(path, format!("it has {forms} of service, any_of and n_of"), "exactly one of service, any_of, n_of");
    }
    if let Some(n_of) = map.get("n_of") {
        let of = n_of.get("services").and_then(Value::as_array).map_or(0, Vec::len);
        match n_of.get("n").and_then(Value::as_u64) {
            None => out.add(&path.field("n_of"), "it has no n", "{\"n\": 2, \"services\": [\"a\", \"b\", \"c\"]}"),
            Some(n) if n > of as u64 => {
                out.add(&path.field("n_of").field("n"), format!("{n} of {of} can never be"), format!("at most {of}"));
            }
            Some(_) => {}
        }
    }
}

/// Contradictions inside one service spec.
pub fn check_service(spec: &ServiceSpec, path: &Path, out: &mut Problems) {
    if let (Some(min), Some(max)) = (spec.min_active, spec.max_active)
        && min > max
    {
        out.add(&path.field("min_active"), format!("{min} is more than max_active {max}"), format!("at most {max}"));
    }
    if let Some(regions) = &spec.regions {
        let mut seen = BTreeSet::new();
        for (n, region) in regions.iter().enumerate() {
            if !seen.insert(region) {
                out.add(&path.field("regions").index(n), format!("{region:?} is named twice"), "each region once");
            }
        }
    }
}

/// A service named by a spec, where it is named, and whether it must be there.
struct Reference<'a> {
    path: Path,
    service: &'a str,
    hard: bool,
}

fn references<'a>(spec: &'a ServiceSpec, path: &Path) -> Vec<Reference<'a>> {
    let mut found = Vec::new();
    for (n, entry) in spec.depends_on.iter().flatten().enumerate() {
        let at = path.field("depends_on").index(n);
        let hard = entry.get("require").and_then(Value::as_str) != Some("soft");
        if let Some(service) = entry.as_str() {
            found.push(Reference { path: at.clone(), service, hard });
        }
        if let Some(service) = entry.get("service").and_then(Value::as_str) {
            found.push(Reference { path: at.field("service"), service, hard });
        }
        let any_of = (entry.get("any_of"), at.field("any_of"), 1);
        let n_of = entry.get("n_of");
        let needed = n_of.and_then(|o| o.get("n")).and_then(Value::as_u64).unwrap_or(1);
        let n_of = (n_of.and_then(|o| o.get("services")), at.field("n_of").field("services"), needed);
        for (list, at, needed) in [any_of, n_of] {
            let Some(list) = list.and_then(Value::as_array) else { continue };
            for (m, service) in list.iter().enumerate() {
                let Some(service) = service.as_str() else { continue };
                // With all of them needed, each is.
                let hard = hard && needed >= list.len() as u64;
                found.push(Reference { path: at.index(m), service, hard });
            }
        }
    }
    found
}

/// Names in a service spec that nothing else names: services are faults, regions hints (one may simply have no key).
#[must_use]
pub fn unknown_names(
    spec: &ServiceSpec,
    path: &Path,
    known_service: Known<'_>,
    services: &dyn Fn() -> Vec<String>,
    regions: &BTreeSet<&str>,
) -> Problems {
    let mut out = Problems::default();
    // Listed once, and only where something is unknown: there may be thousands.
    let all = std::cell::OnceCell::new();
    let mut unknown = |path: &Path, service: &str| {
        if !known_service(service) {
            let all = all.get_or_init(services);
            let near = words::nearest(service, all.iter().map(String::as_str));
            out.add_near(
                path,
                format!("there is no service {service:?}"),
                "a service that a target or key names",
                near,
            );
        }
    };
    for reference in references(spec, path) {
        unknown(&reference.path, reference.service);
    }
    for (n, service) in spec.colocate_with.iter().flatten().enumerate() {
        unknown(&path.field("colocate_with").index(n), service);
    }
    for (n, region) in spec.regions.iter().flatten().enumerate() {
        out.0.extend(unknown_region(region, &path.field("regions").index(n), regions));
    }
    out
}

/// A hint where a region's name is not known.
#[must_use]
pub fn unknown_region(region: &str, path: &Path, regions: &BTreeSet<&str>) -> Option<Problem> {
    if regions.contains(region) {
        return None;
    }
    let near = words::nearest(region, regions.iter().copied());
    Some(Problem::new(path, format!("no key names a region {region:?}"), "a known region").near(near).hint())
}

/// Whether a name is known.
type Known<'a> = &'a dyn Fn(&str) -> bool;

/// Unknown names in a region's minimum.
#[must_use]
pub fn unknown_minimum(
    spec: &RegionSpec,
    path: &Path,
    known_service: Known<'_>,
    known_category: Known<'_>,
) -> Problems {
    let mut out = Problems::default();
    let path = path.field("minimum");
    let checks: [(&str, &str, Known<'_>); 2] =
        [("services", "service", known_service), ("categories", "category", known_category)];
    for (field, what, known) in checks {
        let list = spec.minimum.as_ref().and_then(|m| m.get(field)).and_then(Value::as_array);
        for (n, name) in list.into_iter().flatten().enumerate() {
            let Some(name) = name.as_str().filter(|name| !known(name)) else { continue };
            out.add(&path.field(field).index(n), format!("there is no {what} {name:?}"), format!("a known {what}"));
        }
    }
    out
}

/// Services that need each other in a circle: each with the way round, such as `a → b → a`.
#[must_use]
pub fn cycles<'a>(specs: impl Iterator<Item = (&'a ServiceName, &'a ServiceSpec)>) -> BTreeMap<ServiceName, String> {
    let root = Path::default();
    let edges: BTreeMap<&str, BTreeSet<&str>> = specs
        .map(|(name, spec)| {
            let needs = references(spec, &root).into_iter().filter(|r| r.hard).map(|r| r.service).collect();
            (name.as_str(), needs)
        })
        .filter(|(_, needs): &(_, BTreeSet<&str>)| !needs.is_empty())
        .collect();
    let mut found = BTreeMap::new();
    for start in edges.keys() {
        if let (Some(way), Ok(name)) = (way_back(start, &edges), ServiceName::new(start)) {
            found.insert(name, way);
        }
    }
    found
}

/// The shortest way from a service back to itself.
fn way_back(start: &str, edges: &BTreeMap<&str, BTreeSet<&str>>) -> Option<String> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in edges.get(at).into_iter().flatten() {
            if *next == start {
                let mut way = vec![start, at];
                let mut step = at;
                while let Some(previous) = came_from.get(step).filter(|_| step != start) {
                    way.push(previous);
                    step = previous;
                }
                way.reverse();
                return Some(way.join(" → "));
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}
