//! What a seed comes to: how many nodes, which services and their histories, what breaks when, what operators do.

use std::collections::BTreeMap;

use super::targets::Service;
use crate::chance::Chance;

/// Something that the master does at its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Start(usize),
    Crash {
        node: usize,
        machine: bool,
    },
    Stop(usize),
    Pause(usize),
    Resume(usize),
    /// Nothing passes between a node and the store.
    Cut(usize, bool),
    /// Answers take up to this many milliseconds.
    Slow(usize, u64),
    /// Percent of requests and of answers that are lost.
    Lossy(usize, u64, u64),
    /// Percent of requests that come late, by up to this many milliseconds.
    Late(usize, u64, u64),
    /// A node's watches live and say nothing until then.
    Stall(usize, u64),
    /// A node's watches lag by up to this many milliseconds.
    Lag(usize, u64),
    CutWatches(usize),
    Down,
    Up,
    LoseLease(usize),
    LoseLeader,
    Compact,
    Snapshot,
    Restore,
    StepWall(usize, i64),
    CutPeers(usize, usize, bool),
    /// Percent of deltas that a node's streams lose.
    LosePeer(usize, u64),
    /// A node does not read its streams.
    Deafen(usize, bool),
    /// Percent of full frames that are followed by one of an earlier term.
    StalePeers(u64),
    /// An operator's keys: value, or none for a delete.
    Edit(Vec<(String, Option<String>)>),
    /// Everything is mended; nothing breaks after this.
    Heal,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Script {
    pub nodes: usize,
    pub drifts: Vec<i64>,
    pub services: BTreeMap<String, Service>,
    /// In order of time (milliseconds).
    pub acts: Vec<(u64, Act)>,
    pub heal: u64,
    pub end: u64,
}

/// After healing the cluster has this long to agree.
pub const BOUND: u64 = 35_000;
/// Nothing breaks before this.
const CALM: u64 = 8_000;
const CATEGORIES: [&str; 3] = ["read", "write", "sticky"];

struct Writer {
    chance: Chance,
    acts: Vec<(u64, Act)>,
    nodes: usize,
    heal: u64,
}

impl Writer {
    fn range(&self, from: u64, to: u64) -> u64 {
        from + self.chance.below(to.saturating_sub(from).max(1))
    }

    fn node(&self) -> usize {
        self.chance.below(self.nodes as u64) as usize
    }

    fn put(&mut self, at: u64, act: Act) {
        self.acts.push((at, act));
    }

    /// A fault with its end.
    fn fault(&mut self) {
        let (at, node) = (self.range(CALM, self.heal - 2_000), self.node());
        let end = (at + self.range(500, 16_000)).min(self.heal - 500);
        match self.chance.below(24) {
            0 | 1 => {
                let machine = self.chance.below(2) == 0;
                self.put(at, Act::Crash { node, machine });
                self.put(end, Act::Start(node));
            }
            2 => {
                self.put(at, Act::Stop(node));
                self.put(end.max(at + 4_000), Act::Start(node));
            }
            3 | 4 => {
                self.put(at, Act::Pause(node));
                self.put(end, Act::Resume(node));
            }
            5 | 6 => {
                self.put(at, Act::Cut(node, true));
                self.put(end, Act::Cut(node, false));
            }
            7 => {
                let slow = self.range(100, 2_500);
                self.put(at, Act::Slow(node, slow));
                self.put(end, Act::Slow(node, 0));
            }
            8 => {
                let (requests, replies) = (self.range(0, 40), self.range(0, 60));
                self.put(at, Act::Lossy(node, requests, replies));
                self.put(end, Act::Lossy(node, 0, 0));
            }
            9 | 10 => {
                let (percent, by) = (self.range(10, 90), self.range(500, 9_000));
                self.put(at, Act::Late(node, percent, by));
                self.put(end, Act::Late(node, 0, 0));
            }
            11 => self.put(at, if self.chance.below(3) == 0 { Act::CutWatches(node) } else { Act::Stall(node, end) }),
            12 => {
                let lag = self.range(200, 3_000);
                self.put(at, Act::Lag(node, lag));
                self.put(end, Act::Lag(node, 0));
            }
            13 => self.put(at, if self.chance.below(3) == 0 { Act::LoseLeader } else { Act::LoseLease(node) }),
            14 => self.missed_history(at, node),
            15 => {
                self.put(at, Act::Snapshot);
                self.put(end, Act::Down);
                let back = self.range(200, 4_000);
                self.put((end + back).min(self.heal - 200), Act::Restore);
            }
            16 => {
                self.put(at, Act::Down);
                self.put(end, Act::Up);
            }
            17 => {
                let by = self.chance.below(120_000) as i64 - 60_000;
                self.put(at, Act::StepWall(node, by));
            }
            18 => self.frozen_renewal(at, node),
            19 => {
                self.put(at, Act::LosePeer(node, 30));
                self.put(end, Act::LosePeer(node, 0));
            }
            20 => {
                self.put(at, Act::Deafen(node, true));
                self.put(end, Act::Deafen(node, false));
            }
            21 => {
                self.put(at, Act::StalePeers(80));
                self.put(self.heal - 300, Act::StalePeers(0));
            }
            _ => {
                let other = (node + 1) % self.nodes;
                self.put(at, Act::CutPeers(node, other, true));
                self.put(end, Act::CutPeers(node, other, false));
            }
        }
    }

    /// Edits that a node's watch misses for good: cut off, edits, a compaction, back.
    fn missed_history(&mut self, at: u64, node: usize) {
        self.put(at, Act::Cut(node, true));
        for i in 0..3 {
            self.edit(at + 100 + 100 * i);
        }
        self.put(at + 600, Act::Compact);
        let length = self.range(3_500, 6_000);
        self.put((at + length).min(self.heal - 200), Act::Cut(node, false));
    }

    /// A process is stopped while its renewal is answered, and cut off once it goes on.
    fn frozen_renewal(&mut self, at: u64, node: usize) {
        self.put(at.saturating_sub(3_000), Act::Slow(node, 380));
        self.put(at, Act::Pause(node));
        let frozen = self.range(2_000, 3_600);
        let after = (at + frozen).min(self.heal - 300);
        self.put(after, Act::Cut(node, true));
        self.put(after, Act::Slow(node, 0));
        self.put(after, Act::Resume(node));
        self.put((after + 8_000).min(self.heal - 100), Act::Cut(node, false));
    }

    fn edit(&mut self, at: u64) {
        let target = format!("svc{}-1", self.chance.below(8) + 1);
        let key = |field: &str| format!("healthcheck/{target}/{field}");
        let category = CATEGORIES[self.chance.below(3) as usize];
        let edit = match self.chance.below(7) {
            0 | 1 => vec![(key("ack"), Some(format!("seen at {at}")))],
            2 => vec![(key("ack"), None)],
            3 => {
                let on = self.chance.below(3) > 0;
                vec![(format!("healthcheck-categories/{category}/enabled"), Some(on.to_string()))]
            }
            4 => vec![(key("spec"), Some(spec(self.range(1, 4), false)))],
            5 => ["path", "categories", "spec", "ack"].iter().map(|f| (key(f), None)).collect(),
            _ => vec![
                (key("spec"), Some(spec(self.range(1, 4), true))),
                (key("categories"), Some(format!("{category},read"))),
            ],
        };
        self.put(at, Act::Edit(edit));
    }
}

fn spec(interval: u64, long: bool) -> String {
    let timeout = if long { 2 } else { 1 };
    format!(r#"{{"interval": {interval}, "timeout": {timeout}, "fast_interval": "500ms"}}"#)
}

fn service(chance: &Chance, nodes: usize, heal: u64) -> Service {
    let mut service = Service { hangs: chance.below(4) == 0, ..Service::default() };
    let mut at = if chance.below(8) == 0 { 0 } else { 5_000 + chance.below(60_000) };
    while at < heal {
        service.turns.push(at);
        // Mostly long enough to be seen, sometimes a blip.
        at += if chance.below(4) == 0 { 300 + chance.below(2_000) } else { 8_000 + chance.below(50_000) };
    }
    if chance.below(6) == 0 {
        let from = 5_000 + chance.below(50_000);
        let to = (from + 2_000 + chance.below(20_000)).min(heal);
        service.hidden.push((chance.below(nodes as u64) as usize, from, to));
    }
    service
}

/// The script of a seed.
pub fn of(seed: u64) -> Script {
    let chance = Chance::seeded(seed ^ 0x5eed_0000);
    let nodes = 2 + chance.below(3) as usize;
    let heal = 40_000 + chance.below(40_000);
    let count = 8 + chance.below(9);
    let mut writer = Writer { chance: chance.clone(), acts: Vec::new(), nodes, heal };
    let mut services = BTreeMap::new();
    let mut keys = vec![("healthcheck-categories/sticky/sticky".to_owned(), Some("true".to_owned()))];
    keys.push(("healthcheck-categories/default/period_seconds".to_owned(), Some("4".to_owned())));
    for category in CATEGORIES {
        keys.push((format!("healthcheck-categories/{category}/period_seconds"), Some("20".to_owned())));
    }
    for i in 1..=count {
        let name = format!("svc{i}-1");
        keys.push((format!("healthcheck/{name}/spec"), Some(spec(1 + chance.below(3), false))));
        let category = CATEGORIES[chance.below(3) as usize];
        keys.push((format!("healthcheck/{name}/categories"), Some(category.to_owned())));
        services.insert(name, service(&chance, nodes, heal));
    }
    writer.put(0, Act::Edit(keys));
    for node in 0..nodes {
        let at = chance.below(2_000);
        writer.put(at, Act::Start(node));
    }
    for _ in 0..2 + chance.below(8) {
        writer.fault();
    }
    for _ in 0..chance.below(8) {
        let at = writer.range(4_000, heal + 12_000);
        writer.edit(at);
    }
    if chance.below(10) == 0 {
        let at = writer.range(10_000, heal - 4_000);
        let gone = services.keys().take(count as usize * 2 / 3);
        let keys =
            gone.flat_map(|name| ["spec", "categories", "ack"].map(|f| (format!("healthcheck/{name}/{f}"), None)));
        writer.put(at, Act::Edit(keys.collect()));
    }
    writer.put(heal, Act::Heal);
    let mut acts = writer.acts;
    acts.sort_by_key(|(at, _)| *at);
    let drifts = (0..nodes).map(|_| chance.below(15_000) as i64 - 7_500).collect();
    Script { nodes, drifts, services, acts, heal, end: heal + BOUND }
}
