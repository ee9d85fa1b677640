//! The master of one run: one virtual time, one thread, one fixed order. It carries out the script, steps server and nodes,
//! and has every step checked.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use super::{
    checker::{Broken, Checker},
    client::{SharedServer, lock},
    network::{Door, Network},
    node::{REMOVAL_HOLD, Shared, SimNode},
    script::{self, Act, Script},
    server::{self, Link, Server},
    targets::Field,
    trace::Trace,
};
use crate::{bugs, bugs::Bug, store::Op};

/// Virtual milliseconds from step to step.
pub const TICK: u64 = 20;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub broken: Option<Broken>,
    pub trace: Trace,
    /// What happened in it, to see that runs are worth something.
    pub figures: Figures,
}

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub virtual_ms: u64,
    pub leaders: u64,
    pub writes: u64,
    pub probes: u64,
    pub flips: u64,
}

/// A run under way.
pub struct World {
    pub now: u64,
    pub server: SharedServer,
    pub nodes: Vec<SimNode>,
    pub network: Network,
    pub field: Arc<Field>,
    pub trace: Trace,
    /// When something of a node was last broken.
    pub disturbed: Vec<u64>,
    /// When operators' keys last changed, or a mass removal may still be held.
    pub edited: u64,
    pub script: Script,
    pub figures: Figures,
    shared: Shared,
}

/// Runs a seed; `keep` for a trace that can be read.
pub fn run(seed: u64, bug: Option<Bug>, keep: bool) -> Outcome {
    bugs::seed(bug);
    let script = script::of(seed);
    let server = Arc::new(Mutex::new(Server::new(script.nodes, seed ^ 0x5e11)));
    let field = Arc::new(Field { services: script.services.clone(), ..Field::default() });
    let network = Network::default();
    let shared = Shared { server: Arc::clone(&server), field: Arc::clone(&field), network: network.clone(), seed };
    let nodes = script.drifts.iter().enumerate().map(|(i, drift)| SimNode::new(i, *drift)).collect();
    let disturbed = vec![0; script.nodes];
    let trace = Trace::new(keep);
    let figures = Figures::default();
    let mut world =
        World { now: 0, server, nodes, network, field, trace, disturbed, edited: 0, script, figures, shared };
    let mut checker = Checker::new(&world);
    let broken = world.go(&mut checker).err();
    if let Some(broken) = &broken {
        world.trace.say(&format!("BROKEN {broken}"));
    }
    bugs::seed(None);
    world.figures.virtual_ms = world.now;
    Outcome { seed, broken, trace: world.trace, figures: world.figures }
}

impl World {
    fn go(&mut self, checker: &mut Checker) -> Result<(), Broken> {
        let mut acts = std::mem::take(&mut self.script.acts).into_iter().peekable();
        while self.now < self.script.end {
            self.now += TICK;
            self.trace.at(self.now);
            self.field.now.store(self.now, Ordering::SeqCst);
            while let Some((_, act)) = acts.next_if(|(at, _)| *at <= self.now) {
                self.act(act);
            }
            lock(&self.server).tick(self.now);
            // Nobody is always first.
            let (count, first) = (self.nodes.len(), (self.now / TICK) as usize);
            for i in 0..count {
                let node = (first + i) % count;
                self.nodes[node].step(self.now);
                self.note_end(node)?;
            }
            self.note_disturbed();
            checker.step(self)?;
        }
        checker.finish(self)
    }

    /// A process that ended by itself is broken; one that was told to is gone now.
    fn note_end(&mut self, node: usize) -> Result<(), Broken> {
        let Some(end) = self.nodes[node].ended() else { return Ok(()) };
        let name = self.nodes[node].name.clone();
        self.trace.say(&format!("{name} ended: {end}"));
        let excused = self.nodes[node].ended_late() && end.contains("did not end in time");
        self.nodes[node].crash(false);
        self.network.set(node, None);
        if end.starts_with("failed") && !excused {
            return Err(Broken {
                invariant: "a node runs until it is told to end",
                at: self.now,
                what: format!("{name} {end}"),
            });
        }
        Ok(())
    }

    fn note_disturbed(&mut self) {
        let server = lock(&self.server);
        for (i, node) in self.nodes.iter().enumerate() {
            let link = &server.links[i];
            let broken = link.cut
                || !link.slow.is_zero()
                || link.lose_requests + link.lose_replies + link.late.0 + link.lag > 0
                || link.stalled_until > self.now;
            if broken || server.down || node.paused || !node.serves() {
                self.disturbed[i] = self.now;
            }
        }
    }

    fn act(&mut self, act: Act) {
        self.trace.say(&format!("act {act:?}"));
        match act {
            Act::Start(node) => self.start(node),
            Act::Crash { node, machine } => {
                self.nodes[node].crash(machine);
                self.network.set(node, None);
            }
            Act::Stop(node) => self.nodes[node].stop(),
            Act::Pause(node) => {
                self.nodes[node].paused = true;
                self.network.pause(node, true);
            }
            Act::Resume(node) => self.resume(node),
            Act::StepWall(node, by) => self.nodes[node].step_wall(by),
            Act::CutPeers(a, b, cut) => self.network.cut(a, b, cut),
            Act::LosePeer(node, percent) => self.network.lose(node, percent),
            Act::Deafen(node, deaf) => self.network.deafen(node, deaf),
            Act::StalePeers(percent) => self.network.stale(percent),
            Act::Heal => self.heal(),
            store => {
                if let Act::Edit(keys) = &store {
                    let held = keys.iter().filter(|(_, value)| value.is_none()).count() > 8;
                    let until = self.now + if held { REMOVAL_HOLD.as_millis() as u64 + 2_000 } else { 0 };
                    // A small edit does not end the hold of a mass removal before it.
                    self.edited = self.edited.max(until);
                }
                self.disturb_all(&store);
                act_on(&mut lock(&self.server), store);
            }
        }
    }

    /// Faults of a moment disturb whom they touch.
    fn disturb_all(&mut self, act: &Act) {
        match act {
            Act::CutWatches(node) | Act::LoseLease(node) => self.disturbed[*node] = self.now,
            Act::Compact | Act::Restore | Act::LoseLeader => self.disturbed.fill(self.now),
            _ => {}
        }
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].life.is_some() {
            return;
        }
        self.nodes[node].start(self.now, &self.shared);
        let core = self.nodes[node].life.as_ref().map(|life| &life.core);
        let door = core.map(|core| Door { view: core.view.clone(), hub: core.hub.clone(), paused: false });
        self.network.set(node, door);
    }

    fn resume(&mut self, node: usize) {
        if self.nodes[node].paused {
            self.network.pause(node, false);
            self.nodes[node].resume(self.now);
        }
    }

    fn heal(&mut self) {
        self.network.heal();
        {
            let mut server = lock(&self.server);
            server.up();
            server.links.fill(Link::default());
        }
        for node in 0..self.nodes.len() {
            self.resume(node);
            if self.nodes[node].life.as_ref().is_some() && !self.nodes[node].serves() {
                self.nodes[node].crash(false);
            }
            self.start(node);
        }
    }
}

/// What is done to the store and its links.
fn act_on(server: &mut Server, act: Act) {
    match act {
        Act::Cut(node, cut) => server.links[node].cut = cut,
        Act::Slow(node, by) => server.links[node].slow = Duration::from_millis(by),
        Act::Lossy(node, requests, replies) => {
            server.links[node].lose_requests = requests;
            server.links[node].lose_replies = replies;
        }
        Act::Late(node, percent, by) => server.links[node].late = (percent, Duration::from_millis(by)),
        Act::Stall(node, until) => server.links[node].stalled_until = until,
        Act::Lag(node, by) => server.links[node].lag = by,
        Act::CutWatches(node) => server.cut_watches(node),
        Act::Down => server.down = true,
        Act::Up => server.up(),
        Act::LoseLease(node) => server.lose_lease(&format!("regions/eu/nodes/n{}", node + 1)),
        Act::LoseLeader => server.lose_lease(server::LEADER),
        Act::Compact => server.compact(),
        Act::Snapshot => server.take_snapshot(),
        Act::Restore => {
            server.up();
            server.restore();
        }
        Act::Edit(keys) => server.edit(
            keys.into_iter()
                .map(|(key, value)| match value {
                    Some(value) => Op::Put { key, value: value.into(), lease: None },
                    None => Op::Delete(key),
                })
                .collect(),
        ),
        _ => {}
    }
}
