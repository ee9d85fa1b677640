//! The one loop: gather what the store, the probes and the clock say, evaluate, hand on. The steps are in `core`;
//! leader writes are made by `writer`, operators' edits by `edits`. Which tasks there are is left to `runtime`.

pub mod cluster;
pub mod core;
pub mod edits;
pub mod effects;
pub mod fresh;
pub mod keeper;
pub mod kept;
pub mod latch_file;
pub mod saver;
pub mod standing;
pub mod stats;
pub mod status;
pub mod streams;
pub mod takeover;
pub mod transitions;
pub mod writer;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::core::{Change, Core, Effects, Question, Standing, Witness};
use self::takeover::{Step, Takeover};
use self::writer::Reign;
use crate::{
    clock::Clock,
    evaluation::isolation::{ANSWERS_WITHIN, Answer},
    latest::Latest,
    model::{Fault, Mono, StoreState, TargetName, View},
    probe::{Observed, Prober},
    replication::{self, Frame, Heard, Peers, scout::Round},
    store::{
        feed::FeedItem,
        session::{self, Session},
    },
};

/// Shortest time between two evaluations (design section 2).
const EVALUATION_PAUSE: Duration = Duration::from_millis(10);
/// Steady beat for ageing.
const BEAT: Duration = Duration::from_secs(1);
/// Most combinations of categories kept prepared.
const MAX_COMBINATIONS: usize = 64;

/// Combinations of categories that were asked for lately, newest last; bounded.
#[derive(Debug, Default)]
pub struct Combinations(Mutex<Vec<Box<str>>>);

impl Combinations {
    /// Remembers one; true when it is new.
    pub fn remember(&self, categories: &str) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.iter().any(|c| **c == *categories) || categories.len() > 1024 {
            return false;
        }
        if kept.len() >= MAX_COMBINATIONS {
            kept.remove(0);
        }
        kept.push(Box::from(categories));
        true
    }

    fn list(&self) -> Vec<Box<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the loop reads and writes.
pub struct Wiring {
    /// Time.
    pub clock: Clock,
    /// The store's changes.
    pub feed: mpsc::Receiver<FeedItem>,
    /// Where the feed is asked to list at once.
    pub lists: Arc<Notify>,
    /// Results of probes.
    pub observations: mpsc::Receiver<Vec<Observed>>,
    /// Faults found elsewhere: source and list.
    pub faults: mpsc::Receiver<(&'static str, Vec<Fault>)>,
    /// The session: the node's authority; told when this node may campaign.
    pub session: Session,
    /// Who probes.
    pub prober: Arc<dyn Prober>,
    /// Leader writes.
    pub writer: writer::Queue,
    /// Combinations asked for.
    pub combinations: Arc<Combinations>,
    /// What readers get.
    pub view: Latest<View>,
    /// Counts batches of results that are in the cells; `cache=false` waits on it.
    pub results: watch::Sender<u64>,
    /// Whether this node sends outputs (Graphite): the leader, and without the store who led last (design section 4.5).
    pub outputs: watch::Sender<bool>,
    /// What the loop counts about itself.
    pub stats: Arc<stats::LoopStats>,
    /// Streams from and to other nodes.
    pub streams: streams::Streams,
    /// What the port asks of the core.
    pub asks: mpsc::Receiver<Ask>,
    /// Other nodes.
    pub peers: Arc<dyn Peers>,
    /// What is kept on disk for a start without the store.
    pub keeper: keeper::Keeper,
    /// Every transition, numbered, on disk.
    pub log: transitions::TransitionLog,
    /// Own latches, kept on disk.
    pub latch_file: latch_file::LatchFile,
    /// Set when the process begins to shut down: turns `/__ready` first.
    pub draining: CancellationToken,
}

/// What is asked of the core from outside the loop.
#[derive(Debug)]
pub enum Ask {
    /// These targets as they are now.
    Entries(Vec<TargetName>, oneshot::Sender<Vec<replication::Entry>>),
    /// The leader's fresh word on some targets; told once it is taken in.
    Take(Vec<replication::Entry>, oneshot::Sender<()>),
}

/// The controller's failure: something that it needs is gone.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The feed's task ended.
    #[error("the store's feed ended")]
    FeedEnded,
    /// The probe engine's thread ended.
    #[error("the probe engine ended")]
    EngineEnded,
}

/// Runs until `stop`.
///
/// # Errors
/// When the feed or the probe engine ends before that.
pub async fn run(core: Core, wiring: Wiring, stop: CancellationToken) -> Result<(), ControllerError> {
    let mut authority = wiring.session.authority().changes();
    let asked = FuturesUnordered::new();
    let mut looper = Loop {
        core,
        standing_store: StoreState::Lost,
        wiring,
        last_evaluation: None,
        unpublished: None,
        asked,
        heard_store: false,
        takeover: Takeover::default(),
    };
    let patience = tokio::time::sleep(keeper::PATIENCE);
    tokio::pin!(patience);
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut draining = false;
    let hub = looper.wiring.streams.hub.clone();
    looper.evaluate();
    loop {
        let pause = looper.pause();
        let serves = looper.core.serving().is_some();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = authority.wait() => looper.stand(),
            item = looper.wiring.feed.recv() => looper.feed(item.ok_or(ControllerError::FeedEnded)?),
            Some(heard) = looper.wiring.streams.heard.recv() => looper.hear(heard),
            batch = looper.wiring.observations.recv() => looper.observe(&batch.ok_or(ControllerError::EngineEnded)?),
            () = hub.full_wanted(), if serves => {
                let now = looper.wiring.clock.now();
                hub.full(now.wall, looper.core.graphite_mark(), looper.core.full(now));
            },
            Some(round) = looper.wiring.streams.rounds.recv() => looper.scouted(round),
            Some(ask) = looper.wiring.asks.recv() => looper.answer(ask),
            Some(answer) = looper.asked.next(), if !looper.asked.is_empty() => looper.answered(&answer),
            () = &mut patience, if !looper.core.is_synced() && !patience.is_elapsed() => looper.start_from_disk(),
            Some((source, faults)) = looper.wiring.faults.recv() => looper.faults(source, faults),
            () = looper.wiring.draining.cancelled(), if !draining => { draining = true; looper.stand(); }
            _ = beat.tick() => looper.beat(),
            () = tokio::time::sleep(pause.unwrap_or(BEAT)), if pause.is_some() => looper.due(),
        }
        looper.wiring.streams.settle(&mut looper.core, looper.wiring.clock.now());
        looper.evaluate_if_due();
    }
    let now = looper.wiring.clock.now();
    looper.wiring.keeper.end(&looper.core, now).await;
    Ok(())
}

struct Loop {
    core: Core,
    standing_store: StoreState,
    wiring: Wiring,
    last_evaluation: Option<tokio::time::Instant>,
    /// When the oldest result came in that changed what no view shows yet.
    unpublished: Option<Mono>,
    /// Witnesses and sentinels that the guard waits for; each ends within its own bound.
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// The store has told its keys.
    heard_store: bool,
    /// Between the election and the lead.
    takeover: Takeover,
}

impl Loop {
    /// How long the loop may sleep before something is due; `None`: until the beat.
    fn pause(&self) -> Option<Duration> {
        let evaluation = self.core.is_dirty().then(|| self.until_evaluation());
        let delta = self.wiring.streams.until_delta(&self.core);
        let now = self.wiring.clock.now();
        let due = self.core.next_due(now).filter(|due| *due < BEAT);
        let takeover = self.takeover.next_due(now.mono);
        [evaluation, delta, due, takeover].into_iter().flatten().min()
    }

    /// Something is due: what the evaluation or the streams do comes after each step anyway.
    fn due(&mut self) {
        if self.takeover.next_due(self.wiring.clock.mono()).is_some_and(|due| due.is_zero()) {
            self.stand();
        }
        if self.core.next_due(self.wiring.clock.now()).is_some_and(|due| due.is_zero()) {
            self.tick();
        }
    }

    fn until_evaluation(&self) -> Duration {
        self.last_evaluation.map_or(Duration::ZERO, |last| EVALUATION_PAUSE.saturating_sub(last.elapsed()))
    }

    fn feed(&mut self, item: FeedItem) {
        let now = self.wiring.clock.now();
        match item {
            FeedItem::Synced { revision, events, reset, generation } => {
                self.standing_store = StoreState::Ok;
                if reset {
                    self.core.store_was_reset();
                }
                self.core.keys_are_of(generation);
                let first = !std::mem::replace(&mut self.heard_store, true);
                let events = if first { self.wiring.keeper.reconcile(events, revision) } else { events };
                self.wiring.keeper.told(&events, revision, now.mono);
                let effects = self.core.apply(revision, &events, true, now);
                self.carry_out(effects);
                self.stand();
                if let Some(term) = self.core.contradicted(revision) {
                    let proof = format!("term {term} was seen, and a later list has a leader key of an earlier one");
                    self.wiring.session.has_another_history(generation, &proof);
                }
                self.wiring.session.set_ready(true);
            }
            FeedItem::Events(events) => {
                let revision = events.last().map_or(0, crate::store::Event::revision);
                self.wiring.keeper.told(&events, revision, now.mono);
                let effects = self.core.apply(revision, &events, false, now);
                self.carry_out(effects);
                if self.takeover.waits() {
                    self.stand();
                }
            }
            // The feed has logged it, with its reason.
            FeedItem::Lost { .. } => {
                self.standing_store = StoreState::Lost;
                self.start_from_disk();
                self.stand();
            }
            FeedItem::Back => {
                self.standing_store = StoreState::Ok;
                self.stand();
            }
        }
    }

    fn stand(&mut self) {
        let now = self.wiring.clock.now();
        let authority = self.wiring.session.authority().load();
        let holds = authority.may_write(now.mono).then(|| Reign::of(&authority));
        let step = self.takeover.step(holds, holds.is_some_and(|reign| self.core.has_read(reign)), now.mono);
        let standing = Standing {
            leads: step == Step::Lead,
            session: !matches!(authority.standing, session::Standing::None { .. }),
            term: authority.term(),
            generation: authority.generation,
            leader_url: authority.leader_url.clone(),
            leader: match &authority.standing {
                session::Standing::Leader { .. } => Some(self.core.node().clone()),
                session::Standing::Follower { leader, .. } => leader.clone(),
                session::Standing::None { .. } => None,
            },
            store: self.standing_store,
            draining: self.wiring.draining.is_cancelled(),
        };
        let effects = self.core.stand(standing, now);
        self.carry_out(effects);
        match step {
            Step::List => self.wiring.lists.notify_one(),
            Step::GiveUp => drop(self.wiring.session.hand_over("it cannot read what earlier terms wrote")),
            Step::Idle | Step::Lead | Step::Wait => {}
        }
    }

    fn observe(&mut self, batch: &[Observed]) {
        let effects = self.core.observe(batch);
        if self.core.is_dirty() {
            let oldest = batch.iter().map(|o| o.observation.at.mono).min();
            self.unpublished = self.unpublished.or(oldest);
        }
        self.wiring.results.send_modify(|n| *n = n.wrapping_add(1));
        self.carry_out(effects);
    }

    fn faults(&mut self, source: &'static str, faults: Vec<Fault>) {
        let effects = self.core.set_faults(source, faults, self.wiring.clock.now());
        self.carry_out(effects);
    }

    fn hear(&mut self, heard: Heard) {
        let now = self.wiring.clock.now();
        let effects = match heard {
            Heard::Connected => return self.core.stream_connected(),
            Heard::Full(head, entries) => self.core.frame(Frame::Full(head, entries), now),
            Heard::Delta(head, entries) => self.core.frame(Frame::Delta(head, entries), now),
            Heard::Heartbeat(head) => self.core.frame(Frame::Heartbeat(head), now),
            Heard::Lost { reason } => self.core.stream_lost(&reason, now),
        };
        self.heard();
        self.carry_out(effects);
    }

    /// The store does not answer at the start: what was kept is used, as old as it is.
    fn start_from_disk(&mut self) {
        if self.core.is_synced() {
            return;
        }
        let now = self.wiring.clock.now();
        let Some((kept, state, events)) = self.wiring.keeper.load(now) else { return };
        tracing::warn!(keys = events.len(), saved = %state.saved, "the store does not answer: starting from what was kept on disk");
        let (effects, lent) = self.core.restore(kept, state, events, now);
        self.heard();
        self.wiring.keeper.lend(lent);
        self.carry_out(effects);
    }

    /// Asks what the guard wants to know; every question ends by itself.
    fn ask(&self, question: Question) {
        for Witness { node, url, targets } in question.witnesses {
            let peers = Arc::clone(&self.wiring.peers);
            let ask = async move {
                let names: Vec<TargetName> = targets.iter().map(|t| t.name.clone()).collect();
                let asked = tokio::time::timeout(ANSWERS_WITHIN, peers.witness(&url, &names)).await;
                let seen = asked.ok().and_then(Result::ok).unwrap_or_default();
                let good = seen.iter().filter(|s| s.observation.outcome.is_good()).count();
                Answer::Witness { node, good, bad: seen.len().saturating_sub(good) }
            };
            self.asked.push(Box::pin(ask));
        }
        if question.sentinels {
            let prober = Arc::clone(&self.wiring.prober);
            let ask = async move { Answer::Sentinels(prober.sentinels(ANSWERS_WITHIN).await.unwrap_or(false)) };
            self.asked.push(Box::pin(ask));
        }
    }

    fn answered(&mut self, answer: &Answer) {
        let effects = self.core.answered(answer, self.wiring.clock.mono());
        self.carry_out(effects);
    }

    /// What was heard elsewhere tells how far the store was.
    fn heard(&self) {
        let seen = self.core.seen();
        self.wiring.session.heard_of(seen.generation, seen.term);
    }

    fn scouted(&mut self, round: Round) {
        let effects = self.core.scouted(streams::answers(round), self.wiring.clock.now());
        self.heard();
        self.carry_out(effects);
    }

    /// Who asked may have gone: then nobody needs the answer.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Entries(targets, to) => drop(to.send(self.core.entries_of(&targets, self.wiring.clock.now()))),
            Ask::Take(entries, to) => {
                let effects = self.core.take_refreshed(entries, self.wiring.clock.now());
                self.carry_out(effects);
                let _ = to.send(());
            }
        }
    }

    fn beat(&mut self) {
        self.core.set_followers(self.wiring.streams.hub.followers());
        self.tick();
        self.wiring.streams.tell_urls(&self.core);
        let now = self.wiring.clock.now();
        self.wiring.streams.beat(&self.core, now);
        self.wiring.keeper.save_due(&self.core, now);
    }

    fn tick(&mut self) {
        self.wiring.session.ticked();
        // Authority ends by the clock alone, with no event: look at each beat.
        self.stand();
        let effects = self.core.tick(self.wiring.clock.now());
        self.carry_out(effects);
    }

    fn evaluate_if_due(&mut self) {
        if self.core.is_dirty() && self.until_evaluation().is_zero() {
            self.evaluate();
        }
    }

    fn evaluate(&mut self) {
        let began = self.wiring.clock.mono();
        let (view, effects) = self.core.evaluate(&self.wiring.combinations.list(), self.wiring.clock.now());
        self.wiring.view.store(Arc::new(view));
        let (stats, now) = (&self.wiring.stats, self.wiring.clock.mono());
        stats.evaluation.record(now.since(began));
        if let Some(changed) = self.unpublished.take() {
            stats.publish.record(now.since(changed));
        }
        let outputs = self.core.sends_outputs();
        self.wiring.outputs.send_if_modified(|sends| std::mem::replace(sends, outputs) != outputs);
        self.last_evaluation = Some(tokio::time::Instant::now());
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Effects) {
        for change in &effects.changes {
            match change {
                Change::Target { to, .. } => self.wiring.stats.changed(*to),
                Change::Category { .. } => {
                    self.wiring.stats.categories.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
            log(change);
        }
        if effects.changes.iter().any(|c| matches!(c, Change::Target { .. })) {
            self.wiring.keeper.state_changed(self.wiring.clock.mono());
        }
        if let Some(question) = effects.question {
            self.ask(question);
        }
        if let Some(why) = effects.hand_over {
            self.wiring.session.hand_over(&why);
            self.stand();
        }
        if let Some(targets) = effects.targets {
            self.wiring.prober.set_targets(targets, effects.last);
        }
        if !effects.fast.is_empty() {
            self.wiring.prober.set_fast(effects.fast);
        }
        if effects.own_latches_changed {
            self.wiring.latch_file.save(self.core.own_latches());
        }
        let mut transitions = effects.transitions;
        for transition in &mut transitions {
            transition.number = self.wiring.log.push(transition.clone());
        }
        if effects.writes.is_empty() && transitions.is_empty() {
            return;
        }
        let reign = Reign::of(&self.wiring.session.authority().peek());
        // What was decided in a term that is over meanwhile is not to be written in the next.
        let leads = self.takeover.leads(reign) && reign == self.core.reign();
        if leads && self.wiring.session.may_write(self.wiring.clock.mono()) {
            self.wiring.writer.push(reign, transitions, effects.writes);
        } else if !effects.writes.is_empty() {
            self.core.writes_lost();
        }
    }
}

/// One line per fact.
fn log(change: &Change) {
    match change {
        Change::Target { target, from, to, reason } => {
            tracing::info!(%target, from = from.word(), to = to.word(), %reason, "target changed");
        }
        Change::Category { category, ok: true, .. } => tracing::info!(%category, "category is good to go"),
        Change::Category { category, reason, nothing_failed: true, .. } => {
            tracing::info!(%category, %reason, "category is not good to go yet");
        }
        Change::Category { category, reason, .. } => {
            tracing::warn!(%category, %reason, "category is not good to go");
        }
        Change::FaultAppeared(fault) => {
            tracing::warn!(key = %fault.key, value = %fault.value, reason = %fault.reason, expected = %fault.expected,
                nearest = fault.nearest.as_deref().unwrap_or("-"), "a value is refused or doubtful");
        }
        Change::FaultGone(key) => tracing::info!(%key, "the value is good now"),
        Change::Role { role, reason } => tracing::info!(role = role.word(), %reason, "role"),
    }
}
