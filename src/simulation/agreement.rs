//! What must hold once all is mended: one leader known to all, the operators' keys in force everywhere, health as the services
//! are, verdicts that follow from it, and every state in the store.

use std::collections::{BTreeMap, BTreeSet};

use super::{checker::Broken, client::lock, node::SimNode, world::World};
use crate::model::{HealthState, Role, StoreState, View};

pub const ONE_LEADER: &str = "I5 after healing all nodes agree who leads, in which term";
pub const CATALOG: &str = "I5 after healing all nodes have the operators' keys in force";
pub const HEALTH: &str = "I5 after healing every node's health is the services' own";
pub const VERDICTS: &str = "I5 after healing every verdict follows from keys and services";
pub const STORED: &str = "I6 the last state of every target reaches the store";

/// What the operators' keys and the services come to.
struct Truth {
    /// Target: up, acked, categories.
    targets: BTreeMap<String, (bool, bool, Vec<String>)>,
    /// Category: enabled, latched.
    categories: BTreeMap<String, (bool, bool)>,
    /// Status keys: target and health.
    statuses: BTreeMap<String, String>,
    leader: Option<(String, i64)>,
}

fn truth(world: &World) -> Truth {
    let server = lock(&world.server);
    let (pairs, leader) = (server.pairs(), server.leader());
    drop(server);
    let text = |key: &str| pairs.get(key).map(|p| String::from_utf8_lossy(&p.value).into_owned());
    let mut truth = Truth { targets: BTreeMap::new(), categories: BTreeMap::new(), statuses: BTreeMap::new(), leader };
    let mut names: BTreeSet<String> = BTreeSet::from(["default".to_owned()]);
    for key in pairs.keys() {
        if let Some((name, _)) = key.strip_prefix("healthcheck/").and_then(|k| k.split_once('/')) {
            let up = world.field.services.get(name).is_some_and(|s| s.up(world.now));
            let acked = text(&format!("healthcheck/{name}/ack")).is_some_and(|a| !a.is_empty());
            let listed = text(&format!("healthcheck/{name}/categories")).unwrap_or_default();
            let mut categories: BTreeSet<String> = listed.split(',').map(str::to_owned).collect();
            categories.remove("");
            categories.insert("default".to_owned());
            names.extend(categories.iter().cloned());
            truth.targets.insert(name.to_owned(), (up, acked, categories.into_iter().collect()));
        } else if let Some((name, _)) = key.strip_prefix("healthcheck-categories/").and_then(|k| k.split_once('/')) {
            names.insert(name.to_owned());
        } else if let Some(name) = key.strip_prefix("regions/eu/status/targets/") {
            let value: serde_json::Value = text(key).and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
            truth.statuses.insert(name.to_owned(), value["health"].as_str().unwrap_or_default().to_owned());
        }
    }
    for name in names {
        let enabled = text(&format!("healthcheck-categories/{name}/enabled")).is_none_or(|v| v == "true");
        let latched = pairs.contains_key(&format!("regions/eu/latches/{name}"));
        truth.categories.insert(name, (enabled, latched));
    }
    truth
}

/// Whether the operators' keys are in force at one node.
pub fn edits(world: &World, node: &SimNode) -> Option<String> {
    catalog(&truth(world), &*node.view()?)
}

/// All of it, at this moment.
pub fn check(world: &World) -> Result<(), Broken> {
    let mut truth = truth(world);
    held_down(world, &mut truth);
    for node in &world.nodes {
        let Some(view) = node.view() else { continue };
        let broken =
            |invariant, what: String| Err(Broken { invariant, at: world.now, what: format!("{}: {what}", node.name) });
        if let Some(what) = leadership(&truth, &node.name, &view) {
            return broken(ONE_LEADER, what);
        }
        if let Some(what) = catalog(&truth, &view) {
            return broken(CATALOG, what);
        }
        if let Some(what) = health(&truth, &view) {
            return broken(HEALTH, what);
        }
        if let Some(what) = verdicts(&truth, &view) {
            return broken(VERDICTS, what);
        }
    }
    for (name, (up, ..)) in &truth.targets {
        let stored = truth.statuses.get(name).map_or("nothing", String::as_str);
        if stored != if *up { "up" } else { "down" } {
            let what = format!("{name} is {} and the store says {stored}", if *up { "up" } else { "down" });
            return Err(Broken { invariant: STORED, at: world.now, what });
        }
    }
    if let Some(name) = truth.statuses.keys().find(|name| !truth.targets.contains_key(*name)) {
        let what = format!("{name} is gone and its status is still there");
        return Err(Broken { invariant: STORED, at: world.now, what });
    }
    Ok(())
}

/// What flaps by the leader's own count stays down until it has been calm for long enough (design section 5).
fn held_down(world: &World, truth: &mut Truth) {
    let leads = |node: &&SimNode| truth.leader.as_ref().is_some_and(|(leader, _)| *leader == node.name);
    let Some(view) = world.nodes.iter().find(leads).and_then(SimNode::view) else { return };
    for (target, health) in view.catalog.targets.iter().zip(view.health.iter()) {
        if health.flapping
            && health.state == HealthState::Down
            && let Some((up, ..)) = truth.targets.get_mut(target.name.as_str())
        {
            *up = false;
        }
    }
}

fn leadership(truth: &Truth, name: &str, view: &View) -> Option<String> {
    let Some((leader, term)) = &truth.leader else { return Some("nobody leads".to_owned()) };
    let node = &view.node;
    let role = if leader == name { Role::Leader } else { Role::Follower };
    let same = node.role == role
        && node.term == *term
        && node.leader.as_ref().is_some_and(|l| l.as_ref() == leader.as_str())
        && node.store == StoreState::Ok
        && node.ready;
    (!same).then(|| {
        format!(
            "{leader} leads in term {term}; it says {} of itself, leader {:?}, term {}, store {:?}, ready {}",
            node.role.word(),
            node.leader,
            node.term,
            node.store,
            node.ready
        )
    })
}

fn catalog(truth: &Truth, view: &View) -> Option<String> {
    let names: Vec<&str> = view.catalog.targets.iter().map(|t| t.name.as_str()).collect();
    let expected: Vec<&str> = truth.targets.keys().map(String::as_str).collect();
    if names != expected {
        return Some(format!("targets {names:?} instead of {expected:?}"));
    }
    for target in &view.catalog.targets {
        let (_, acked, categories) = truth.targets.get(target.name.as_str())?;
        if target.ack.is_some() != *acked {
            return Some(format!("{}: acked is {}", target.name, target.ack.is_some()));
        }
        let seen: Vec<&str> = target.categories.iter().map(AsRef::as_ref).collect();
        if seen != categories.iter().map(String::as_str).collect::<Vec<_>>() {
            return Some(format!("{}: categories {seen:?} instead of {categories:?}", target.name));
        }
    }
    for (name, category) in &view.catalog.categories {
        let enabled = truth.categories.get(AsRef::<str>::as_ref(name)).is_none_or(|(enabled, _)| *enabled);
        if category.enabled != enabled {
            return Some(format!("{name}: enabled is {}", category.enabled));
        }
    }
    None
}

fn health(truth: &Truth, view: &View) -> Option<String> {
    for (target, health) in view.catalog.targets.iter().zip(view.health.iter()) {
        let (up, ..) = truth.targets.get(target.name.as_str())?;
        let expected = if *up { HealthState::Up } else { HealthState::Down };
        if health.state != expected || health.stale {
            let stale = if health.stale { " (stale)" } else { "" };
            return Some(format!("{} is {}{stale}, not {}", target.name, health.state.word(), expected.word()));
        }
    }
    None
}

fn verdicts(truth: &Truth, view: &View) -> Option<String> {
    for (name, (enabled, latched)) in &truth.categories {
        let members = || truth.targets.values().filter(|(.., categories)| categories.contains(name));
        let well = members().count() > 0 && members().all(|(up, acked, _)| *up || *acked);
        let expected = *enabled && !*latched && well;
        let verdict = view.evaluation.categories.iter().find(|(n, _)| AsRef::<str>::as_ref(*n) == name);
        let Some((_, verdict)) = verdict else { return Some(format!("category {name} is not known")) };
        if verdict.ok != expected {
            return Some(format!(
                "category {name}: ok is {}; enabled {enabled}, latched {latched}, well {well}",
                verdict.ok
            ));
        }
    }
    None
}
