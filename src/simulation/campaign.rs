//! Many seeds: a fixed number in the ordinary tests, any number by `scripts/simulate`, which sets what to run in the
//! environment
//! (`SIMULATE_SEEDS`, `SIMULATE_FROM`, `SIMULATE_SEED`, `SIMULATE_BUG`, `SIMULATE_BUGS`, `SIMULATE_THREADS`).

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::world::{self, Figures, Outcome};
use crate::{bugs::Bug, clock::Clock};

/// Runs that go on at once, unless it is said otherwise (`SIMULATE_THREADS`).
const THREADS: u64 = 2;

/// A long campaign says how far it is after so many seeds.
const TELL_EVERY: u64 = 1000;

fn setting(name: &str) -> Option<String> {
    std::env::var(format!("SIMULATE_{name}")).ok().filter(|v| !v.is_empty())
}

fn number(name: &str, default: u64) -> u64 {
    setting(name).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("SIMULATE_{name}={v} is no number")))
}

fn named(name: &str) -> Bug {
    let all: Vec<String> = Bug::ALL.iter().map(|b| format!("{b:?}")).collect();
    *Bug::ALL.iter().find(|b| format!("{b:?}") == name).unwrap_or_else(|| panic!("no bug {name}; there are {all:?}"))
}

/// Runs seeds until `enough` have failed; returns those that did, and the sums.
pub fn seeds(from: u64, count: u64, bug: Option<Bug>, enough: usize) -> (Vec<Outcome>, Figures, u64) {
    let next = AtomicU64::new(from);
    let failed: Mutex<Vec<Outcome>> = Mutex::default();
    let sums: Mutex<(Figures, u64)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..number("THREADS", THREADS) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    let done = failed.lock().unwrap_or_else(PoisonError::into_inner).len() >= enough;
                    if seed >= from + count || done {
                        return;
                    }
                    let outcome = world::run(seed, bug, false);
                    let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                    add(&mut sums.0, outcome.figures);
                    sums.1 += 1;
                    if sums.1.is_multiple_of(TELL_EVERY) {
                        println!("{} seeds have run", sums.1);
                    }
                    drop(sums);
                    if outcome.broken.is_some() {
                        // At once: a long campaign may be ended before its end.
                        report(std::slice::from_ref(&outcome), bug);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|o| o.seed);
    let (sums, ran) = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    (failed, sums, ran)
}

fn add(sum: &mut Figures, one: Figures) {
    sum.virtual_ms += one.virtual_ms;
    sum.leaders += one.leaders;
    sum.writes += one.writes;
    sum.probes += one.probes;
    sum.flips += one.flips;
}

fn report(failed: &[Outcome], bug: Option<Bug>) {
    for outcome in failed {
        let Some(broken) = &outcome.broken else { continue };
        let with = bug.map_or_else(String::new, |b| format!(" --bug {b:?}"));
        println!("seed {} {broken}\n    replay: scripts/simulate --seed {}{with}", outcome.seed, outcome.seed);
    }
}

/// One line of figures.
fn told(from: u64, ran: u64, sums: Figures, failed: usize, took: f64) -> String {
    format!(
        "seeds {from}..{}: {ran} run, {failed} failed; {took:.1} s, {:.1} seeds/s; {:.1} virtual hours, {} terms, {} node writes, {} probes, {} turns seen",
        from + ran,
        ran as f64 / took.max(0.001),
        sums.virtual_ms as f64 / 3_600_000.0,
        sums.leaders,
        sums.writes,
        sums.probes,
        sums.flips
    )
}

fn replay(seed: u64, bug: Option<Bug>) {
    let outcome = world::run(seed, bug, true);
    println!("{}", outcome.trace.lines());
    match &outcome.broken {
        Some(broken) => panic!("seed {seed} {broken}"),
        None => println!("seed {seed} holds; trace {:016x}", outcome.trace.hash()),
    }
}

/// How many seeds a deliberate fault may take to be seen.
const WITHIN: u64 = 300;

fn all_bugs() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let (failed, _, ran) = seeds(0, WITHIN, Some(bug), 1);
        match failed.first().and_then(|o| o.broken.as_ref().map(|b| (o.seed, b))) {
            Some((seed, broken)) => println!("{bug:?}: seen after {ran} seeds, by seed {seed}: {broken}"),
            None => {
                println!("{bug:?}: NOT SEEN in {ran} seeds");
                missed.push(bug);
            }
        }
    }
    assert!(missed.is_empty(), "not seen: {missed:?}");
}

/// What `scripts/simulate` runs.
#[test]
#[ignore = "run by scripts/simulate"]
pub fn campaign() {
    let bug = setting("BUG").map(|name| named(&name));
    if setting("BUGS").is_some() {
        return all_bugs();
    }
    if let Some(seed) = setting("SEED") {
        return replay(seed.parse().expect("SIMULATE_SEED is a number"), bug);
    }
    let (from, count) = (number("FROM", 0), number("SEEDS", 300));
    let clock = Clock::system();
    let began = clock.mono();
    let (failed, sums, ran) = seeds(from, count, bug, number("ENOUGH", u64::MAX) as usize);
    println!("{}", told(from, ran, sums, failed.len(), clock.mono().since(began).as_secs_f64()));
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

/// A glimpse for whoever runs `cargo test` alone; `scripts/test` runs 300 seeds.
#[test]
fn the_first_seeds_hold() {
    let (failed, sums, ran) = seeds(0, number("SEEDS", 8), None, 10);
    assert!(failed.is_empty(), "{} of {ran} seeds failed", failed.len());
    // A simulation in which nothing happens proves nothing.
    assert!(sums.leaders > ran && sums.flips > ran * 10 && sums.writes > ran * 10, "{sums:?}");
}

/// A seed that shows each deliberate fault, as `scripts/simulate --bugs` or a look at what it needs found it.
const fn shown_by(bug: Bug) -> u64 {
    match bug {
        Bug::FenceDropped => 5,
        Bug::AuthorityFromReply => 41,
        Bug::AuthorityUnchecked => 4,
        Bug::WatchFromCompact => 11,
        Bug::DeletesIgnored => 2,
        Bug::DeltaOverGap => 125,
        Bug::LowerTermTaken => 209,
        Bug::LateStatusWins => 125,
        Bug::StaticNeverYields => 1,
        Bug::TermResumed => 59,
        Bug::RestartForgetsN => 4,
        Bug::TakeoverForgets => 1,
        Bug::ResetUnnoticed => 43,
    }
}

/// Each deliberate fault is seen within the first seeds; the one that showed it last is asked first.
#[test]
fn every_deliberate_fault_is_seen() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let remembered = shown_by(bug);
        assert!(remembered < WITHIN);
        if world::run(remembered, Some(bug), false).broken.is_some() {
            continue;
        }
        // Whatever changed, the seed shows it no more: another must.
        match seeds(0, WITHIN, Some(bug), 1).0.first() {
            Some(outcome) => println!("{bug:?} is shown by seed {} now, not by {remembered}", outcome.seed),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not seen within {WITHIN} seeds: {missed:?}");
}
