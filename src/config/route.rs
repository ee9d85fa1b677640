//! Where a key's value belongs: plain or overlaid field of a target or category, service, region; or nowhere, with the
//! problem that says so.

use super::{
    problem::{Path, Problem, name_reason},
    schema::NAME_EXPECTED,
    slots::Layer,
    values, words,
};
use crate::model::{
    CategoryName, RegionName, ServiceName, TargetName,
    key::{self, CategoryField, Key, Parsed, TargetField},
};

/// What a key is about.
#[derive(Debug)]
pub enum Place {
    /// A target's field; `None`: an unknown word, which only makes the target exist.
    Target(TargetName, Layer, Option<TargetField>),
    /// A category's field.
    Category(CategoryName, Layer, Option<CategoryField>),
    /// The cluster ack.
    ClusterAck,
    /// A service's spec (true) or failover.
    Service(ServiceName, bool),
    /// A region's spec (true) or switch.
    Region(RegionName, bool),
    /// Only judged: another region's overlay, or a key with a bad name.
    Nowhere,
}

/// A key, read.
#[derive(Debug)]
pub struct Routed {
    /// What it is about.
    pub place: Place,
    /// The key that decodes its value.
    pub decoded_as: Option<Key>,
    /// What is wrong with the key itself.
    pub problems: Vec<Problem>,
}

/// Routes a key relative to ROOT, seen from a region. `None`: it is not ours.
#[must_use]
pub fn route(relative: &str, here: &RegionName) -> Option<Routed> {
    let at = Path::of(relative);
    let routed = |place, decoded_as| Routed { place, decoded_as: Some(decoded_as), problems: Vec::new() };
    Some(match key::parse(relative) {
        Parsed::Foreign => return None,
        Parsed::BadName(e) => nowhere(Problem::new(&at, name_reason(&e), NAME_EXPECTED)),
        Parsed::UnknownWord { word, known, target, category } => {
            let place = match (target, category) {
                (Some(target), _) => Place::Target(target, Layer::Plain, None),
                (None, Some(category)) => Place::Category(category, Layer::Plain, None),
                (None, None) => Place::Nowhere,
            };
            Routed { place, decoded_as: None, problems: vec![values::unknown_word(&word, known)] }
        }
        Parsed::Key(Key::Overlay(region, inner)) => overlay(&region, &inner, here, &at),
        Parsed::Key(key) => match key.clone() {
            Key::Target(name, field) => routed(Place::Target(name, Layer::Plain, Some(field)), key),
            Key::Category(name, field) => routed(Place::Category(name, Layer::Plain, Some(field)), key),
            Key::ServiceSpec(name) => routed(Place::Service(name, true), key),
            Key::ServiceFailover(name) => routed(Place::Service(name, false), key),
            Key::RegionSpec(name) => routed(Place::Region(name, true), key),
            Key::RegionEnabled(name) => routed(Place::Region(name, false), key),
            Key::ClusterAck | Key::Overlay(..) => routed(Place::ClusterAck, key),
        },
    })
}

fn nowhere(problem: Problem) -> Routed {
    Routed { place: Place::Nowhere, decoded_as: None, problems: vec![problem] }
}

fn overlay(region: &RegionName, inner: &str, here: &RegionName, at: &Path) -> Routed {
    let expected = "a key below healthcheck/ or healthcheck-categories/";
    match key::parse(inner) {
        Parsed::BadName(e) => nowhere(Problem::new(at, name_reason(&e), NAME_EXPECTED)),
        Parsed::Key(Key::Target(..) | Key::Category(..)) | Parsed::UnknownWord { .. } => {
            let Some(mut routed) = route(inner, here) else {
                return nowhere(Problem::new(at, "it overlays no key", expected));
            };
            routed.place = match routed.place {
                Place::Target(name, _, field) if region == here => Place::Target(name, Layer::Overlay, field),
                Place::Category(name, _, field) if region == here => Place::Category(name, Layer::Overlay, field),
                _ => Place::Nowhere,
            };
            routed
        }
        Parsed::Key(_) => {
            let reason = "only targets and categories can be overlaid: every region must rank alike";
            nowhere(Problem::new(at, reason, expected))
        }
        Parsed::Foreign => {
            let room = inner.split('/').next().unwrap_or_default();
            let near = words::nearest(room, ["healthcheck", "healthcheck-categories"]);
            nowhere(Problem::new(at, "it overlays no key of a target or category", expected).near(near))
        }
    }
}
