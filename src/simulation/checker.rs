//! The invariants, checked after every step from what the server took, what the probes saw and what nodes answer with; it
//! takes no node's word for what the node should know.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use super::{
    agreement,
    client::lock,
    flips::Flips,
    node::SimNode,
    server::{self, Accepted},
    targets::Probe,
    world::World,
};
use crate::model::{Role, StoreState, View};

/// What was broken, and when (virtual milliseconds).
#[derive(Clone, Debug)]
pub struct Broken {
    pub invariant: &'static str,
    pub at: u64,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}.{:03} s: {}: {}", self.at / 1000, self.at % 1000, self.invariant, self.what)
    }
}

pub const ONE_WRITER: &str = "I1 no write is accepted of a term that is over";
pub const TERM_FALLS: &str = "I2 a served term never falls within a generation";
pub const TWO_LEADERS: &str = "I3 at most one node believes that it may write";
pub const TERM_RESUMED: &str = "I9 a term that was given up is never resumed";
pub const NUMBER_FALLS: &str =
    "I10 a target's n in the store never falls within a generation, nor (term, n) within a term";
pub const STREAM: &str = "I11 a follower gives up a stream with a gap or of an earlier term";
pub const SHOWN_FALLS: &str =
    "I12 what a follower shows of a target never goes back to an older (term, n) under one leader";
pub const YIELDS: &str = "I13 a static leader gives way once it can reach a node with a store and a leader";
pub const BURST: &str = "I7 no node probes faster than twice the normal rate";
pub const EDIT: &str = "I8 an edit reaches every connected node within the bound";

/// A lease that is ended early, or a restore, is no node's mistake: its holder's authority has this long to run out.
const AUTHORITY: u64 = 4_500;
/// How long an agreement may take to be looked for again.
const AGREE_EVERY: u64 = 100;
/// A restore may bring back a target that was deleted: for this long it may turn unknown by the word of a new leader.
const RESTORED: u64 = 10_000;
/// How often it is looked whether edits are in force.
const EDITS_EVERY: u64 = 500;
/// A node whose ways have been whole for this long has every edit older than the next.
const WHOLE: u64 = 12_000;
const EDIT_BOUND: u64 = 2_000;
/// A static leader has this long to hear of another, and give way.
const YIELD: u64 = 5_000;
/// Over this time probes are counted.
const RATE_OVER: u64 = 10_000;

/// What is remembered of one node's life.
#[derive(Default)]
struct Life {
    lives: u64,
    view: Option<Arc<View>>,
    term: i64,
    /// Generations of the store whose lower terms it has taken.
    generation: u32,
    /// The generation by its own count, and when it entered that.
    entered: (u64, u64),
    led: Option<Led>,
}

/// The term that a node led last.
#[derive(Clone, Copy)]
struct Led {
    term: i64,
    /// The node's own count of the store's histories.
    history: u64,
    /// The store's generation when the term was first seen.
    began: u32,
    /// It still does.
    still: bool,
}

impl Led {
    /// The same term again. A number is another term only where the store went back in time since the first one began, and the
    /// node knows: terms are compared within a generation.
    const fn is_again(self, term: i64, history: u64, generation: u32) -> bool {
        self.term == term && (self.history == history || self.began == generation)
    }
}

/// The checker's memory.
pub struct Checker {
    lives: Vec<Life>,
    flips: Flips,
    /// Holder's term, and (term, n), of each status key in this generation.
    numbers: BTreeMap<String, (i64, i64, u64)>,
    /// Since when a static leader could reach a node with a store and a leader.
    yielding: Vec<Option<u64>>,
    /// Starts of probes in the last ten seconds: node and target.
    starts: BTreeMap<(usize, String), VecDeque<u64>>,
    /// When the store last went back in time.
    reset: u64,
    generation: u32,
    agreed: bool,
    leader: Option<(String, i64)>,
    version: (u32, i64),
}

impl Checker {
    pub fn new(world: &World) -> Self {
        let lives = world.nodes.iter().map(|_| Life::default()).collect();
        let flips = Flips::new(world.nodes.len());
        let (yielding, numbers, starts) = (vec![None; world.nodes.len()], BTreeMap::new(), BTreeMap::new());
        Self {
            lives,
            flips,
            numbers,
            yielding,
            starts,
            reset: 0,
            generation: 0,
            agreed: false,
            leader: None,
            version: (0, 0),
        }
    }

    /// After each step.
    pub fn step(&mut self, world: &mut World) -> Result<(), Broken> {
        let accepted = self.gather(world);
        for accepted in &accepted {
            self.check_write(world, accepted)?;
            let gone = accepted.keys.iter().filter(|(_, value)| accepted.by.is_none() && value.is_none());
            gone.for_each(|(key, _)| self.flips.note_removal(key, world.now));
        }
        let probes = world.field.take_probes();
        world.figures.probes += probes.len() as u64;
        self.flips.note_probes(&probes);
        self.check_rate(world, &probes)?;
        self.check_authority(world)?;
        if world.now.is_multiple_of(AGREE_EVERY) {
            self.check_yielding(world)?;
        }
        if let Some(what) = world.network.take_unnoticed().pop() {
            return Err(Broken { invariant: STREAM, at: world.now, what });
        }
        if world.now.is_multiple_of(EDITS_EVERY) {
            self.check_edits(world)?;
        }
        for index in 0..world.nodes.len() {
            self.check_view(world, index)?;
        }
        if world.now > world.script.heal && world.now.is_multiple_of(AGREE_EVERY) && !self.agreed {
            self.agreed = agreement::check(world).is_ok();
            if self.agreed {
                world.trace.say("agreed");
            }
        }
        Ok(())
    }

    /// At the end all must agree, and have agreed for good.
    pub fn finish(&mut self, world: &mut World) -> Result<(), Broken> {
        agreement::check(world)
    }

    fn gather(&mut self, world: &mut World) -> Vec<Accepted> {
        let names: Vec<String> = world.nodes.iter().map(|n| n.name.clone()).collect();
        let mut server = lock(&world.server);
        let accepted = server.take_accepted();
        if server.generation != self.generation {
            self.generation = server.generation;
            self.reset = world.now;
            self.flips.restored = true;
            self.numbers.clear();
        }
        let version = server.version();
        let leader = if version == self.version { self.leader.clone() } else { server.leader() };
        self.version = version;
        drop(server);
        for accepted in &accepted {
            world.trace.say(&server::shown(accepted, &names));
            world.figures.writes += u64::from(accepted.by.is_some());
        }
        if leader != self.leader {
            world.figures.leaders += u64::from(leader.is_some());
            world.trace.say(&format!("leader key: {leader:?}"));
            self.leader = leader;
        }
        accepted
    }

    /// I1: a leader's key is written by who holds the leader key, and under its fence.
    fn check_write(&mut self, world: &World, accepted: &Accepted) -> Result<(), Broken> {
        let Some(node) = accepted.by.and_then(|i| world.nodes.get(i)) else { return Ok(()) };
        for (key, value) in &accepted.keys {
            let Some(rest) = key.strip_prefix("regions/eu/") else { continue };
            let fenced = ["status/", "latches/", "summary"].iter().any(|p| rest.starts_with(p));
            if !fenced {
                continue;
            }
            let holds = accepted.leader.as_ref().is_some_and(|(holder, _)| *holder == node.name);
            let term = accepted.leader.as_ref().map(|(_, term)| *term);
            if !holds || accepted.fence.is_some() && accepted.fence != term {
                let what = format!("{} wrote {key} while the leader key said {:?}", node.name, accepted.leader);
                return Err(Broken { invariant: ONE_WRITER, at: world.now, what });
            }
            if rest.starts_with("status/targets/") {
                self.check_number(world, key, value.as_deref(), term.unwrap_or(0))?;
            }
        }
        Ok(())
    }

    fn check_number(&mut self, world: &World, key: &str, value: Option<&[u8]>, said: i64) -> Result<(), Broken> {
        let Some(value) = value else {
            self.numbers.remove(key);
            return Ok(());
        };
        let value: serde_json::Value = serde_json::from_slice(value).unwrap_or_default();
        let number = (said, value["term"].as_i64().unwrap_or(0), value["n"].as_u64().unwrap_or(0));
        if let Some(before) = self.numbers.insert(key.to_owned(), number)
            && (number < before || number.2 < before.2)
        {
            let what = format!("{key}: {number:?} after {before:?}");
            return Err(Broken { invariant: NUMBER_FALLS, at: world.now, what });
        }
        Ok(())
    }

    /// I3, by each node's own clock; I9.
    fn check_authority(&mut self, world: &World) -> Result<(), Broken> {
        let writers: Vec<&SimNode> = world.nodes.iter().filter(|n| n.may_write(world.now)).collect();
        let excused = {
            let server = lock(&world.server);
            let recent = |at: u64| at > 0 && world.now < at + AUTHORITY;
            recent(self.reset) || server.revoked_early.last().is_some_and(|at| recent(*at))
        };
        if writers.len() > 1 && !excused {
            let what = writers.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(" and ");
            return Err(Broken { invariant: TWO_LEADERS, at: world.now, what });
        }
        for (node, life) in world.nodes.iter().zip(&mut self.lives) {
            let leads = node.may_write(world.now);
            let Some(running) = &node.life else {
                life.led = None;
                continue;
            };
            let authority = running.core.session.authority().peek();
            let (term, history) = (authority.term(), authority.generation);
            drop(authority);
            let again = life.led.filter(|led| led.is_again(term, history, self.generation));
            match (&mut life.led, again) {
                (Some(led), _) if !leads => led.still = false,
                (_, Some(led)) if !led.still => {
                    let what = format!("{} leads again in term {term}", node.name);
                    return Err(Broken { invariant: TERM_RESUMED, at: world.now, what });
                }
                (led, None) if leads => *led = Some(Led { term, history, began: self.generation, still: true }),
                _ => {}
            }
        }
        Ok(())
    }

    /// What a node's view newly says.
    fn check_view(&mut self, world: &mut World, index: usize) -> Result<(), Broken> {
        let node = &world.nodes[index];
        let (lives, view) = (node.lives, node.view());
        let life = &mut self.lives[index];
        let Some(view) = view else {
            life.view = None;
            return Ok(());
        };
        if life.lives != lives {
            // What it kept on disk is of the history that it knew, and it may find out later that there is another.
            *life = Life { lives, generation: life.generation, ..Life::default() };
        }
        if life.view.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &view)) {
            return Ok(());
        }
        let before = life.view.replace(Arc::clone(&view));
        let name = node.name.clone();
        if before.as_ref().is_none_or(|b| {
            (b.node.role, b.node.term, &b.node.leader) != (view.node.role, view.node.term, &view.node.leader)
        }) {
            let n = &view.node;
            let leader = n.leader.as_ref().map_or("-", AsRef::as_ref);
            let mark = if n.static_leader { " static" } else { "" };
            world.trace.say(&format!(
                "{name} is {}{mark}, term {}, leader {leader}, store {:?}",
                n.role.word(),
                n.term,
                n.store
            ));
        }
        if view.node.term < life.term {
            if life.generation == self.generation {
                let what = format!("{name}: {} after {}", view.node.term, life.term);
                return Err(Broken { invariant: TERM_FALLS, at: world.now, what });
            }
            life.generation = self.generation;
        }
        life.term = view.node.term;
        let own = world.nodes[index].generation();
        if own != life.entered.0 {
            life.entered = (own, world.now);
        }
        // In another generation of the store all numbers begin anew, for each node once it has heard of it.
        let reset = self.reset.max(life.entered.1);
        let settled = self.reset == 0 || world.now > reset + AUTHORITY;
        if let Some(before) = before.as_ref().filter(|_| settled) {
            shown_falls(world, &self.flips, &name, before, &view)?;
        }
        if view.node.role == Role::Starting {
            return Ok(());
        }
        let restored = self.reset > 0 && world.now < self.reset + RESTORED;
        self.flips.check(world, index, before.as_deref(), &view, restored)
    }

    /// I7: over ten seconds no target is probed more than twice as often as its fast interval asks for, nor the whole faster
    /// than twice its normal rate and what fast ones may add.
    fn check_rate(&mut self, world: &World, probes: &[Probe]) -> Result<(), Broken> {
        for probe in probes {
            let starts = self.starts.entry((probe.node, probe.target.clone())).or_default();
            starts.push_back(probe.at);
            while starts.front().is_some_and(|at| at + RATE_OVER < world.now) {
                starts.pop_front();
            }
            // Every half second at the fastest; twice that, and a new schedule's first one.
            if starts.len() as u64 > RATE_OVER / 250 + 2 {
                let what = format!("n{} probed {} {} times in 10 s", probe.node + 1, probe.target, starts.len());
                return Err(Broken { invariant: BURST, at: world.now, what });
            }
        }
        let mut together = BTreeMap::new();
        for probe in probes {
            *together.entry(probe.node).or_insert(0_usize) += 1;
        }
        // All at once, within one step, is a burst however often each is probed.
        let targets = world.script.services.len();
        match together.into_iter().find(|(_, count)| *count * 2 > targets + 6) {
            Some((node, count)) => {
                let what = format!("n{} probed {count} of {targets} targets within one step", node + 1);
                Err(Broken { invariant: BURST, at: world.now, what })
            }
            None => Ok(()),
        }
    }

    /// I13.
    fn check_yielding(&mut self, world: &World) -> Result<(), Broken> {
        for (index, node) in world.nodes.iter().enumerate() {
            let view = node.view().filter(|v| v.node.static_leader && !node.paused && node.serves());
            let led = |other: &SimNode| {
                let joined = world.network.joined(index, other.index) && !other.paused && other.serves();
                let live = |v: Arc<View>| {
                    v.node.store == StoreState::Ok
                        && v.node.leader.as_ref().is_some_and(|l| l.as_str() != node.name)
                        && v.node.leader.is_some()
                };
                joined && other.index != index && other.view().is_some_and(live)
            };
            let reached = view.is_some() && world.nodes.iter().any(led);
            let since = if reached { *self.yielding[index].get_or_insert(world.now) } else { world.now };
            if !reached {
                self.yielding[index] = None;
            }
            if world.now - since > YIELD {
                return Err(Broken { invariant: YIELDS, at: world.now, what: node.name.clone() });
            }
        }
        Ok(())
    }

    /// I8: a node whose ways have been whole for long has every edit that is not quite new.
    fn check_edits(&self, world: &World) -> Result<(), Broken> {
        if world.edited + EDIT_BOUND > world.now {
            return Ok(());
        }
        for (index, node) in world.nodes.iter().enumerate() {
            if world.disturbed[index] + WHOLE > world.now {
                continue;
            }
            if let Some(what) = agreement::edits(world, node) {
                return Err(Broken { invariant: EDIT, at: world.now, what: format!("{}: {what}", node.name) });
            }
        }
        Ok(())
    }
}

/// I12.
fn shown_falls(world: &World, flips: &Flips, name: &str, before: &View, view: &View) -> Result<(), Broken> {
    let (old, new) = (&before.node, &view.node);
    let steady =
        old.role == Role::Follower && new.role == Role::Follower && old.leader == new.leader && old.term == new.term;
    if !steady || old.leader.is_none() || old.store != StoreState::Ok || new.store != StoreState::Ok {
        return Ok(());
    }
    for (target, health) in view.catalog.targets.iter().zip(view.health.iter()) {
        let Some(was) = before.catalog.index_of(target.name.as_str()).and_then(|i| before.health.get(i)) else {
            continue;
        };
        // Made again after a removal it begins anew, also for a node that saw both at once.
        if flips.removed_lately(target.name.as_str(), world.now) {
            continue;
        }
        // What an earlier term said may give way to anything that this one says.
        if was.term == new.term && (health.term, health.n) < (was.term, was.n) {
            let what =
                format!("{name}: {}: ({}, {}) after ({}, {})", target.name, health.term, health.n, was.term, was.n);
            return Err(Broken { invariant: SHOWN_FALLS, at: world.now, what });
        }
    }
    Ok(())
}
