//! I4: no state and no verdict turns without an observation, an edit, a due time or a declared loss behind it.

use std::collections::{BTreeMap, VecDeque};

use super::{checker::Broken, client::lock, targets::Probe, world::World};
use crate::model::{Catalog, Evaluation, Health, HealthState, View};

pub const BACKED: &str = "I4 no state turns without results, an edit or a loss behind it";
pub const VERDICT: &str = "I4 no verdict turns without a state, an edit, a latch or a due time behind it";

/// Results of this age may still be behind a turn: it may come by way of a node that heard of it late.
const REMEMBERED: u64 = 60_000;
/// Results of this time before a leader's last one may be lost with it.
const UNTOLD: u64 = 500;
/// Fewest bad results in a row that make a target down (its spec says nothing else), and good ones that make it up.
const FALL: usize = 3;
const RISE: usize = 2;

/// What was seen of the targets.
pub struct Flips {
    /// Results of each target, oldest first.
    results: BTreeMap<String, VecDeque<(u64, usize, bool)>>,
    /// When an operator took each target's keys away last.
    removed: BTreeMap<String, u64>,
    nodes: usize,
    /// The store has gone back in time in this run.
    pub restored: bool,
}

impl Flips {
    pub const fn new(nodes: usize) -> Self {
        Self { results: BTreeMap::new(), removed: BTreeMap::new(), nodes, restored: false }
    }

    pub fn note_probes(&mut self, probes: &[Probe]) {
        for probe in probes {
            let results = self.results.entry(probe.target.clone()).or_default();
            results.push_back((probe.at, probe.node, probe.good));
            while results.front().is_some_and(|(at, ..)| at + REMEMBERED < probe.at) {
                results.pop_front();
            }
        }
    }

    /// An operator took a key of a target away.
    pub fn note_removal(&mut self, key: &str, now: u64) {
        if let Some((target, _)) = key.strip_prefix("healthcheck/").and_then(|k| k.split_once('/')) {
            self.removed.insert(target.to_owned(), now);
        }
    }

    /// Whether a target may be another one than the one of its name that a node showed before.
    pub fn removed_lately(&self, target: &str, now: u64) -> bool {
        self.removed.get(target).is_some_and(|at| now < at + REMEMBERED)
    }

    /// Whether some run of results, of one node or of one after another, calls for this state.
    fn backed(&self, target: &str, state: HealthState) -> bool {
        let Some(results) = self.results.get(target) else { return false };
        let (good, needed) = match state {
            HealthState::Up => (true, RISE),
            HealthState::Down => (false, FALL),
            HealthState::Unknown => return false,
        };
        let longest = |results: &mut dyn Iterator<Item = bool>| {
            let (mut run, mut longest) = (0, 0);
            for result in results {
                run = if result == good { run + 1 } else { 0 };
                longest = longest.max(run);
            }
            longest
        };
        let all = longest(&mut results.iter().map(|r| r.2));
        let own = (0..self.nodes).map(|node| longest(&mut results.iter().filter(|r| r.1 == node).map(|r| r.2)));
        // A leader that is lost takes along what it had not told: who follows it goes on before that.
        let follows = |i: &usize| results.get(i.wrapping_sub(1)).is_some_and(|before| before.1 != results[*i].1);
        let told = (1..results.len()).filter(follows).flat_map(|i| {
            let last = results[i - 1].0;
            let first = results.partition_point(|r| r.0 + UNTOLD < last).min(i - 1);
            (first..i).map(move |from| (from, i))
        });
        let told = told.map(|(from, to)| longest(&mut results.range(..from).chain(results.range(to..)).map(|r| r.2)));
        own.chain([all]).chain(told).max().unwrap_or(0) >= needed
    }

    /// When the target was last probed by a node.
    fn last_result(&self, target: &str, node: usize) -> u64 {
        self.results.get(target).and_then(|r| r.iter().rev().find(|r| r.1 == node)).map_or(0, |r| r.0)
    }

    /// One view after another of one node.
    pub fn check(
        &self,
        world: &mut World,
        node: usize,
        before: Option<&View>,
        view: &View,
        restored: bool,
    ) -> Result<(), Broken> {
        let name = world.nodes[node].name.clone();
        let Some(before) = before else { return Ok(()) };
        let mut turned = false;
        for (target, health) in view.catalog.targets.iter().zip(view.health.iter()) {
            let old = before.catalog.index_of(target.name.as_str()).and_then(|i| before.health.get(i));
            let Some(old) = old.filter(|old| old.state != health.state) else { continue };
            turned = true;
            world.figures.flips += 1;
            let (from, to) = (old.state.word(), health.state.word());
            world.trace.say(&format!(
                "{name}: {} {from} -> {to} ({}, {}) {}",
                target.name, health.term, health.n, health.reason
            ));
            // One that was removed and made again is a new target; who missed the removal sees its old state turn unknown.
            let removed = self.removed_lately(target.name.as_str(), world.now);
            let lost = health.state == HealthState::Unknown
                && (restored
                    || removed
                    || world.now >= self.last_result(target.name.as_str(), node) + 59_000
                    || missed(world, target.name.as_str(), old, health));
            if !lost && !self.backed(target.name.as_str(), health.state) {
                let what = format!("{name}: {} {from} -> {to}: {}", target.name, health.reason);
                return Err(Broken { invariant: BACKED, at: world.now, what });
            }
        }
        let edited = edited(&before.catalog, &view.catalog, self.restored) || before.latches != view.latches;
        let due = before.evaluation.next_due.is_some_and(|due| due <= view.built.wall);
        let excused = turned || edited || due || before.node.role != view.node.role;
        for (category, ok) in verdicts(&view.evaluation) {
            let old = verdicts(&before.evaluation).find(|(c, _)| *c == category);
            let Some(old) = old.filter(|(_, old)| *old != ok) else { continue };
            world.trace.say(&format!("{name}: category {category} {} -> {ok}", old.1));
            if !excused {
                let what = format!("{name}: category {category} {} -> {ok}", old.1);
                return Err(Broken { invariant: VERDICT, at: world.now, what });
            }
        }
        Ok(())
    }
}

/// The leader has just started: what it found up in the store it has to see again (a restart restores down, never up), under the
/// number that was written. A node that had not heard of that transition has nothing that is better.
fn missed(world: &World, target: &str, old: &Health, health: &Health) -> bool {
    let key = format!("regions/eu/status/targets/{target}");
    let pairs = lock(&world.server).pairs();
    let Some(status) = pairs.get(&key).and_then(|p| serde_json::from_slice::<serde_json::Value>(&p.value).ok()) else {
        return false;
    };
    let written = (status["term"].as_i64().unwrap_or(0), status["n"].as_u64().unwrap_or(0));
    let number = (health.term, health.n);
    status["health"] == "up" && written == number && number > (old.term, old.n)
}

/// Whether what operators wrote is in force otherwise than before. A held removal falls due at the revision at which the hold began, and
/// a restored store may have other keys at the very revision that was known before: there the catalogs themselves are compared.
fn edited(before: &Catalog, now: &Catalog, restored: bool) -> bool {
    let due = before.held.is_some() && now.held.is_none();
    let other = || (&before.targets, &before.categories) != (&now.targets, &now.categories);
    before.revision != now.revision || due || (restored && other())
}

fn verdicts(evaluation: &Evaluation) -> impl Iterator<Item = (&str, bool)> {
    evaluation.categories.iter().map(|(name, verdict)| (AsRef::<str>::as_ref(name), verdict.ok))
}
