//! Links are cut, silent, slow; the leader's own network is dead.

use std::time::{Duration, Instant};

use crate::{
    SEEN_OVER_FAILOVER,
    cluster::{Plan, SOON, TTL},
    figures::{self, Bound},
    hold,
    http::wait_for,
    proxy::Mode,
};

#[test]
#[ignore = "long: scripts/chaos"]
fn s05_leader_and_follower_cut_off_in_turn() {
    let cluster = Plan::default().start();
    let (audit, roles, load) = (cluster.audit(), cluster.roles(), cluster.load(100, SEEN_OVER_FAILOVER));
    let (mut took, mut healed) = (Vec::new(), Vec::new());
    for (round, mode) in [Mode::Refuse, Mode::Blackhole, Mode::Refuse, Mode::Blackhole].into_iter().enumerate() {
        let good = round % 2 == 1;
        let (leader, term) = cluster.settled(SOON);
        let began = Instant::now();
        cluster.etcd_links(&leader, mode);
        let (next, new_term, time) = cluster.successor(term, began, SOON);
        println!("{leader} cut off ({mode:?}): {next} leads after {time:?}");
        took.push(time);
        cluster.flip(good);
        cluster.good_everywhere("flip", good);
        let began = Instant::now();
        cluster.etcd_heal(&leader);
        assert_eq!(cluster.settled(SOON), (next.clone(), new_term), "it takes nothing back");
        healed.push(began.elapsed());
        // A follower cut off follows the stream and answers right; it changes nothing for the others.
        let follower = cluster.others(&[&next]).pop().unwrap();
        cluster.etcd_links(&follower, mode);
        wait_for("it has noticed", SOON, || cluster.status(&follower), |s| s["store"] == "lost");
        cluster.flip(!good);
        cluster.good_everywhere("flip", !good);
        cluster.etcd_heal(&follower);
        assert_eq!(cluster.settled(SOON), (next, new_term));
        cluster.flip(good);
        cluster.good_everywhere("flip", good);
    }
    figures::times("failover, leader cut off from etcd", &took, Bound::NONE);
    figures::times("healed leader follows", &healed, Bound::max(10_000.0));
    cluster.agree("eu", &["flip-1", "steady-1"]);
    load.end().assert_clean(1000);
    roles.assert_clean();
    audit.assert_clean();
}

#[test]
#[ignore = "long: scripts/chaos"]
fn s06_half_open_and_slow_links() {
    let cluster = Plan::default().start();
    let (audit, roles, load) = (cluster.audit(), cluster.roles(), cluster.load(100, SEEN_OVER_FAILOVER));
    let before = cluster.settled(SOON);
    let leader = &before.0;
    // One member after the other hears and does not answer: the next one is asked, the lead is kept.
    for member in 0..3 {
        cluster.etcd_link(leader, member, Mode::HalfOpen);
        hold(Duration::from_secs(7));
        assert_eq!(cluster.settled(SOON), before, "member {member}");
        cluster.etcd_heal(leader);
        hold(Duration::from_secs(2));
    }
    // All are slow: 40 ms each way, and that for each piece.
    cluster.etcd_links(leader, Mode::Delay(Duration::from_millis(40)));
    cluster.flip(false);
    cluster.good_everywhere("flip", false);
    hold(Duration::from_secs(10));
    assert_eq!(cluster.settled(SOON), before, "slow links");
    cluster.etcd_heal(leader);
    // All hear and none answers.
    let began = Instant::now();
    cluster.etcd_links(leader, Mode::HalfOpen);
    let (next, term, took) = cluster.successor(before.1, began, SOON);
    println!("{leader} half cut off: {next} leads after {took:?}");
    cluster.flip(true);
    cluster.good_everywhere("flip", true);
    cluster.etcd_heal(leader);
    assert_eq!(cluster.settled(SOON), (next, term));
    cluster.agree("eu", &["flip-1", "steady-1"]);
    load.end().assert_clean(1000);
    roles.assert_clean();
    audit.assert_clean();
}

/// A follower cannot reach the leader, but etcd: verdicts keep coming.
#[test]
#[ignore = "long: scripts/chaos"]
fn s06_stream_lost_and_etcd_there() {
    let cluster = Plan::default().start();
    let (roles, load) = (cluster.roles(), cluster.load(100, SEEN_OVER_FAILOVER));
    let before = cluster.settled(SOON);
    let mut took = Vec::new();
    for mode in [Mode::Refuse, Mode::Blackhole] {
        cluster.door(&before.0, mode);
        for name in cluster.others(&[&before.0]) {
            let from = || cluster.api(&name, "/api/v1/cluster")["results"].clone();
            wait_for("it has noticed", SOON, from, |f| f["from"] == "store");
        }
        for good in [false, true] {
            let began = Instant::now();
            cluster.flip(good);
            cluster.good_everywhere("flip", good);
            took.push(began.elapsed());
        }
        // No result is lost meanwhile, and nothing becomes unknown.
        hold(Duration::from_secs(20));
        cluster.good_everywhere("steady", true);
        cluster.door(&before.0, Mode::Refuse);
        cluster.door(&before.0, Mode::Pass);
        for name in cluster.others(&[&before.0]) {
            let from = || cluster.api(&name, "/api/v1/cluster")["results"].clone();
            wait_for("the stream is back", SOON, from, |f| f["from"] == "stream");
        }
        assert_eq!(cluster.settled(SOON), before);
    }
    figures::times("change at a target to all answers, stream lost (period 1 s)", &took, Bound::NONE);
    load.end().assert_clean(1000);
    roles.assert_clean();
}

#[test]
#[ignore = "long: scripts/chaos"]
fn s23_leader_cannot_reach_the_targets() {
    let cluster = Plan::default().start();
    cluster.put("/ft/healthcheck-categories/many/period_seconds", "1");
    cluster.put_all((0..12).map(|i| (format!("healthcheck/many-{i}/categories"), "many".to_owned())));
    cluster.good_everywhere("many", true);
    cluster.truth.note("many", true);
    let (audit, roles) = (cluster.audit(), cluster.roles());
    // The guard takes 3 s at most, 5 s without an answer: nothing may flip meanwhile.
    let load = cluster.load_of(&["many", "steady", "dead"], 100, Duration::ZERO);
    let (leader, term) = cluster.settled(SOON);
    let began = Instant::now();
    cluster.farm.cut(&leader, true);
    let (next, new_term, took) = cluster.successor(term, began, SOON);
    println!("{leader} cannot reach the targets: {next} leads after {took:?}");
    figures::times("hand-over, leader's own network dead (period 1 s)", &[took], Bound::NONE);
    // Handed over once: the one that cannot see does not come back.
    hold(Duration::from_secs(20));
    assert_eq!(cluster.settled(SOON), (next.clone(), new_term));
    load.end().assert_clean(1000);
    cluster.farm.cut(&leader, false);
    // One that has led for a moment only hands over too, to whoever sees the targets.
    hold(2 * TTL);
    let load = cluster.load_of(&["many", "steady", "dead"], 100, Duration::ZERO);
    let (leader, term) = (next, new_term);
    cluster.farm.cut(&leader, true);
    let (next, new_term, took) = cluster.successor(term, Instant::now(), SOON);
    println!("{leader} cannot reach the targets either: {next} leads after {took:?}");
    load.end().assert_clean(100);
    cluster.farm.cut(&leader, false);
    // All are really down: the others see the same, so it is told.
    let began = Instant::now();
    cluster.farm.set_all((0..12).map(|i| format!("many-{i}")), false);
    cluster.good_everywhere("many", false);
    println!("told after {:?}", began.elapsed());
    assert_eq!(cluster.settled(SOON), (next, new_term), "nobody handed over for that");
    roles.assert_clean();
    audit.assert_clean();
}
