//! Real processes: three etcd members and three nodes of one region, killed, cut off and restored while load balancers ask.
//! This is the short selection; `scripts/chaos` runs the rest (tests/chaos_long.rs, where the table of all scenarios is).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/chaos_mods.rs"]
mod support;
pub use support::{audit, cluster, etcd, farm, figures, http, load, node, ports, proxy, roles, signal};

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cluster::{Cluster, Plan, SOON};
use http::wait_for;
use proxy::Mode;

/// How long a change may take to be seen everywhere before an answer against it is wrong: one period, its fast repetition, a
/// flush of the stream, and much for a busy machine.
const SEEN: Duration = Duration::from_secs(5);

/// One cluster at a time, under any runner.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn s01_leader_killed() {
    let _alone = alone();
    let mut cluster = Plan::default().start();
    let (audit, mut roles, mut load) = (cluster.audit(), cluster.roles(), cluster.load(100, SEEN));
    let (leader, term) = cluster.settled(SOON);
    load.leave(&leader);
    roles.off(&leader);
    let began = Instant::now();
    cluster.kill(&leader);
    let (next, new_term, took) = cluster.successor(term, began, SOON);
    println!("killed {leader} of term {term}: {next} leads in term {new_term} after {took:?}");
    cluster.flip(false);
    cluster.good_everywhere("flip", false);
    cluster.start_node(&leader);
    assert_eq!(cluster.settled(SOON).1, new_term, "the one that comes back follows");
    cluster.agree("eu", &["flip-1", "steady-1", "dead-1"]);
    load.end().assert_clean(200);
    roles.assert_clean();
    assert!(audit.assert_clean() > 0);
}

#[test]
fn s02_leader_terminated() {
    let _alone = alone();
    let mut cluster = Plan::default().arg("--drain-delay").arg("1s").start();
    let (audit, mut roles, mut load) = (cluster.audit(), cluster.roles(), cluster.load(100, SEEN));
    let (leader, term) = cluster.settled(SOON);
    load.off(&leader);
    roles.off(&leader);
    let node = cluster.take(&leader);
    let began = Instant::now();
    let ending = std::thread::spawn(move || node.terminate());
    let (next, _, took) = cluster.successor(term, began, SOON);
    println!("terminated {leader}: {next} leads after {took:?}");
    assert!(took < Duration::from_secs(3), "handed over, not waited for: {took:?}");
    assert_eq!(ending.join().unwrap(), Some(0));
    cluster.settled(SOON);
    cluster.flip(false);
    cluster.good_everywhere("flip", false);
    load.end().assert_clean(50);
    roles.assert_clean();
    audit.assert_clean();
}

#[test]
fn s05_leader_cut_off_from_etcd() {
    let _alone = alone();
    let cluster = Plan::default().start();
    let (audit, roles, load) = (cluster.audit(), cluster.roles(), cluster.load(100, SEEN));
    let (leader, term) = cluster.settled(SOON);
    let began = Instant::now();
    cluster.etcd_links(&leader, Mode::Refuse);
    let (next, new_term, took) = cluster.successor(term, began, SOON);
    println!("cut off {leader}: {next} leads after {took:?}");
    // It hears the new leader's stream, so it knows what the others know.
    cluster.flip(false);
    cluster.good_everywhere("flip", false);
    let lost = cluster.status(&leader);
    assert!(lost["store"] == "lost" && lost["role"] != "leader", "{lost}");
    cluster.etcd_links(&leader, Mode::Pass);
    assert_eq!(cluster.settled(SOON).1, new_term, "it follows, and takes nothing back");
    cluster.agree("eu", &["flip-1", "steady-1"]);
    load.end().assert_clean(500);
    roles.assert_clean();
    audit.assert_clean();
}

#[test]
fn s09_all_of_etcd_down_for_10_s() {
    let _alone = alone();
    let mut cluster = Plan::default().start();
    let (roles, load) = (cluster.roles(), cluster.load(60, Duration::from_secs(15)));
    let (leader, term) = cluster.settled(SOON);
    cluster.etcd_kill();
    let down = Instant::now();
    let fixed = || cluster.status(&leader);
    wait_for("a static leader", SOON, fixed, |s| s["static_leader"] == true && s["store"] == "lost");
    let edit = http::request(
        cluster.address(&leader).unwrap(),
        "PUT",
        "/api/v1/acks/dead-1",
        &[("Content-Type", "application/json")],
        r#"{"message":"known"}"#,
    )
    .unwrap();
    assert_eq!(edit.status, 503, "{}", edit.body);
    for good in [false, true, false] {
        cluster.flip(good);
        cluster.good_everywhere("flip", good);
    }
    let rest = Duration::from_secs(10).saturating_sub(down.elapsed());
    std::thread::park_timeout(rest);
    cluster.etcd_restart();
    let (_, new_term) = cluster.settled(SOON);
    assert!(new_term > term, "one new term");
    cluster.good_everywhere("flip", false);
    cluster.agree("eu", &["flip-1", "steady-1", "dead-1"]);
    load.end().assert_clean(500);
    roles.assert_clean();
    cluster.audit_now();
}

#[test]
fn s11_cold_start_without_etcd() {
    let _alone = alone();
    let mut cluster = Plan::default().start();
    cluster.flip(false);
    cluster.good_everywhere("flip", false);
    cluster.kept("a");
    for name in cluster.names() {
        cluster.kill(&name);
    }
    cluster.etcd_kill();
    let began = Instant::now();
    cluster.start_node("a");
    let first = cluster.gtg("a", "steady");
    println!("answers {:?} {:?} after the start", first, began.elapsed());
    cluster.good_everywhere("steady", true);
    cluster.good_everywhere("flip", false);
    println!("serves from its disk after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "by itself it would probe after 10 s");
    cluster.wipe("b");
    cluster.start_node("b");
    let live = http::get(cluster.address("b").unwrap(), "/__live");
    let ready = http::get(cluster.address("b").unwrap(), "/__ready");
    assert_eq!((live.status, ready.status), (200, 503), "{}", ready.body);
    assert_eq!(cluster.gtg("b", "steady").unwrap().0, 503);
}

#[test]
fn s26_restored_from_a_backup() {
    let _alone = alone();
    let mut cluster = Plan::default().start();
    let (_, old) = cluster.settled(SOON);
    assert_eq!(cluster.leader_key(), Some(old));
    let backup = cluster.snapshot();
    // What the backup does not have: a target, an ack, and many revisions.
    cluster.put("/ft/healthcheck/later-1/categories", "later");
    cluster.put("/ft/healthcheck/dead-1/ack", "known");
    cluster.good_everywhere("dead", true);
    let load = cluster.load_of(&["steady"], 60, Duration::from_secs(15));
    cluster.restore(&backup);
    let known = |c: &Cluster, n: &str| c.api(n, "/api/v1/targets/later-1")["health"]["state"].is_string();
    for name in cluster.live() {
        wait_for("what was restored is listed", SOON, || known(&cluster, &name), |k| !k);
    }
    cluster.good_everywhere("dead", false);
    wait_for("a new campaign", SOON, || cluster.leader_key(), |k| k.is_some_and(|k| k != old));
    let (_, term) = cluster.settled(SOON);
    assert_eq!(cluster.leader_key(), Some(term));
    println!("term {old} before, {term} after");
    // It goes on: edits arrive, statuses are written.
    cluster.flip(false);
    cluster.good_everywhere("flip", false);
    cluster.agree("eu", &["flip-1", "steady-1", "dead-1"]);
    load.end().assert_clean(100);
}
