//! Looks beside the schedule, and a schedule taken over, over real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/ports.rs"]
mod ports;
#[path = "support/probe.rs"]
mod support;

use std::{
    io::Read,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use bellwether::{
    clock::Clock,
    model::{Outcome, target::Kind},
    probe::{EngineConfig, Prober, Sentinel},
};
use support::*;

/// A server that takes connections and never answers; each ends when the other side closes it.
fn silent() -> Server {
    server(|mut stream, requests| {
        requests.fetch_add(1, SeqCst);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        requests.fetch_sub(1, SeqCst);
    })
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let all = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

#[tokio::test]
async fn a_look_sees_each_target_once_and_the_schedule_hears_nothing() {
    let good = answering(answer("200 OK", "text/plain", "OK"), false);
    let bad = answering(answer("503 Gone", "text/plain", "no"), false);
    let quiet = silent();
    let mut engine = start(config());
    let mut reused = check(Kind::Http, good.address);
    reused.reuse = true;
    let targets = vec![
        target("good", check(Kind::Http, good.address), Duration::from_secs(60)),
        target("kept", reused, Duration::from_secs(60)),
        target("bad", check(Kind::Http, bad.address), Duration::from_secs(60)),
        target("quiet", check(Kind::Http, quiet.address), Duration::from_secs(60)),
    ];
    let mut seen = engine.handle.once(targets.clone(), Duration::from_secs(2)).await;
    seen.sort_by(|a, b| a.target.cmp(&b.target));
    let told: Vec<_> = seen.iter().map(|s| (s.target.as_str(), s.observation.outcome)).collect();
    assert_eq!(
        told,
        [("bad", Outcome::Bad), ("good", Outcome::Good), ("kept", Outcome::Good)],
        "the quiet one is left out"
    );
    assert!(
        seen.iter().all(|s| targets.iter().any(|t| Arc::ptr_eq(&t.check, &s.check))),
        "told by the check asked for"
    );
    until("what did not end is broken off", || quiet.requests.load(SeqCst) == 0).await;
    assert_eq!(good.connections.load(SeqCst), 2);
    assert!(engine.results.try_recv().is_err(), "nothing for the schedule's reader");
    assert_eq!(engine.handle.stats().targets.load(SeqCst), 0);
}

#[tokio::test]
async fn a_look_has_a_small_allowance_and_ends_with_its_asker() {
    let quiet = silent();
    let engine = start(config());
    let of = move |i: u32| target(&format!("t-{i}"), check(Kind::Http, quiet.address), Duration::from_secs(60));
    let handle = engine.handle.clone();
    let asker = tokio::spawn(async move { handle.once((0..100).map(of).collect(), PATIENCE).await });
    until("16 at once", || quiet.requests.load(SeqCst) == 16).await;
    assert_eq!(quiet.most_at_once.load(SeqCst), 16);
    asker.abort();
    until("all let go", || quiet.requests.load(SeqCst) == 0).await;
    assert_eq!(quiet.most_at_once.load(SeqCst), 16);
    // The allowance is free again.
    let good = answering(answer("200 OK", "text/plain", "OK"), false);
    let t = target("good", check(Kind::Http, good.address), Duration::from_secs(60));
    assert_eq!(engine.handle.once(vec![t], PATIENCE).await.len(), 1);
    let t = target("late", check(Kind::Http, quiet.address), Duration::from_secs(60));
    engine.handle.shutdown();
    engine.handle.ended().await;
    let ended = tokio::time::timeout(PATIENCE, engine.handle.once(vec![t], Duration::from_millis(50)));
    assert!(ended.await.expect("an ended engine holds nobody").is_empty());
}

#[tokio::test]
async fn a_target_that_ends_by_its_own_time_out_within_the_bound_is_told() {
    let quiet = silent();
    let engine = start(config());
    let mut asked = check(Kind::Http, quiet.address);
    asked.timeout = Duration::from_millis(100);
    let seen = engine.handle.once(vec![target("t", asked, Duration::from_secs(60))], PATIENCE).await;
    assert_eq!(seen[0].observation.outcome, Outcome::Timeout);
}

#[tokio::test]
async fn any_answer_of_a_sentinel_counts() {
    let refused = ports::nobody();
    let (error, quiet) = (answering(answer("500 No", "text/plain", "no"), false), silent());
    let ask = async |urls: &[String], bound: Duration| {
        let sentinels = urls.iter().map(|u| Sentinel::parse(u).unwrap()).collect();
        let engine = start(EngineConfig { sentinels, ..config() });
        engine.handle.sentinels(bound).await
    };
    let dead = format!("tcp://{refused}");
    assert_eq!(ask(&[], PATIENCE).await, None);
    assert_eq!(ask(std::slice::from_ref(&dead), PATIENCE).await, Some(false));
    assert_eq!(
        ask(&[dead.clone(), format!("http://{}/x", error.address)], PATIENCE).await,
        Some(true),
        "an error is an answer"
    );
    assert_eq!(ask(&[dead.clone(), format!("tcp://{}", quiet.address)], PATIENCE).await, Some(true), "a connection is");
    let silent = format!("http://{}/", quiet.address);
    assert_eq!(ask(&[dead, silent], Duration::from_millis(200)).await, Some(false), "silence is none");
}

#[tokio::test]
async fn a_schedule_taken_over_goes_on_and_one_taken_away_stops() {
    let server = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut engine = start(config());
    let targets: Vec<_> = (0..20)
        .map(|i| target(&format!("t-{i}"), check(Kind::Http, server.address), Duration::from_secs(3600)))
        .collect();
    // Known and not due; only one is overdue.
    let now = Clock::system().mono();
    // The last word for a name counts.
    let overdue = (targets[7].name.clone(), Default::default());
    let last = targets.iter().map(|t| (t.name.clone(), now)).chain([overdue]).collect();
    engine.handle.set_targets(targets.clone(), last);
    let first = engine.next().await;
    assert_eq!(first.target.as_str(), "t-7");
    assert_eq!(engine.handle.stats().started.load(SeqCst), 1, "the others wait for their time");
    engine.handle.refresh(targets.iter().map(|t| t.name.clone()).collect());
    for _ in 0..20 {
        engine.next().await;
    }
    engine.handle.set_targets(Vec::new(), Vec::new());
    until("no targets", || engine.handle.stats().targets.load(SeqCst) == 0).await;
    engine.handle.refresh(targets.iter().map(|t| t.name.clone()).collect());
    let good = target("x", check(Kind::Http, server.address), Duration::from_secs(60));
    assert_eq!(engine.handle.once(vec![good], PATIENCE).await.len(), 1, "a follower still looks");
    assert_eq!(engine.handle.stats().started.load(SeqCst), 21, "and probes nothing else");
    engine.handle.set_targets(targets.clone(), Vec::new());
    engine.handle.refresh(vec![targets[0].name.clone()]);
    assert_eq!(engine.next().await.target.as_str(), "t-0", "a later set starts again");
}
