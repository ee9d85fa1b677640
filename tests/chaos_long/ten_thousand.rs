//! 10,000 targets: what etcd is asked to do when nothing changes, a follower that is frozen meanwhile, a compaction, and all
//! targets failing while etcd is away.

use std::time::{Duration, Instant};

use crate::{
    cluster::{Cluster, Plan, SOON},
    figures::{self, Bound},
    hold,
    http::{self, wait_for},
    proxy::Mode,
};

const TARGETS: usize = 10_000;
const LONG: Duration = Duration::from_secs(180);

fn metric(cluster: &Cluster, member: usize, name: &str) -> f64 {
    let address = format!("127.0.0.1:{}", cluster.etcd[member].port).parse().unwrap();
    let text = http::get(address, "/metrics").body;
    let line = text.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|l| l.split(' ').nth(1)).and_then(|v| v.parse().ok()).unwrap_or(f64::NAN)
}

fn resident_mib(cluster: &Cluster, node: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.node(node).id())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn summary(cluster: &Cluster, field: &str) -> u64 {
    let kept = cluster.list("/ft/regions/eu/summary");
    let value: serde_json::Value = kept.values().next().and_then(|v| serde_json::from_str(v).ok()).unwrap_or_default();
    value[field].as_u64().unwrap_or(0)
}

fn targets() -> impl Iterator<Item = String> {
    (0..TARGETS).map(|i| format!("t-{i:05}"))
}

#[test]
#[ignore = "long: scripts/chaos"]
fn f10k_ten_thousand_targets() {
    let mut cluster = Plan::default().start_empty();
    cluster.targets();
    cluster.put("/ft/healthcheck-categories/many/period_seconds", "60");
    cluster.put_all(targets().map(|t| (format!("healthcheck/{t}/categories"), "many".to_owned())));
    cluster.put_all(targets().map(|t| (format!("healthcheck/{t}/spec"), r#"{"rise":1,"fall":1}"#.to_owned())));
    cluster.put("/ft/healthcheck-categories/default/period_seconds", "60");
    let began = Instant::now();
    cluster.start_nodes();
    cluster.settled(SOON);
    wait_for("all up", LONG, || cluster.gtg("a", "many"), |a| a.as_ref().is_some_and(|a| a.0 == 200));
    cluster.good_everywhere("many", true);
    println!("all {TARGETS} up on every node after {:?}", began.elapsed());
    let (leader, term) = cluster.settled(SOON);
    let follower = cluster.others(&[&leader]).pop().unwrap();
    idle(&cluster, &leader);
    frozen_follower(&mut cluster, &leader, &follower);
    compacted(&cluster, &follower);
    assert_eq!(cluster.settled(SOON).1, term, "one term up to here");
    mass_outage(&mut cluster);
}

/// Nothing changes for 60 s.
fn idle(cluster: &Cluster, leader: &str) {
    hold(Duration::from_secs(15));
    let member = 0;
    let read = || {
        ["etcd_mvcc_put_total", "etcd_debugging_mvcc_total_put_size_in_bytes", "etcd_disk_wal_write_bytes_total"]
            .map(|m| metric(cluster, member, m))
    };
    let (began, before) = (Instant::now(), read());
    hold(Duration::from_secs(60));
    let (seconds, after) = (began.elapsed().as_secs_f64(), read());
    let rate = |i: usize| (after[i] - before[i]) / seconds;
    figures::record("etcd puts, 10,000 targets, nothing changing, 60 s", "/s", &[rate(0)], Bound::max(5.0));
    figures::record(
        "the same, bytes written to its log (keep-alives included)",
        "KB/s",
        &[rate(2) / 1000.0],
        Bound::max(20.0),
    );
    let size = metric(cluster, member, "etcd_mvcc_db_total_size_in_bytes") / 1e6;
    figures::record("etcd's database then", "MB", &[size], Bound::max(100.0));
    for name in cluster.live() {
        let what = if name == leader { "memory of the leader" } else { "memory of a follower" };
        figures::record(&format!("{what}, 10,000 targets"), "MiB", &[resident_mib(cluster, &name)], Bound::NONE);
    }
}

/// A follower that reads nothing for 25 s costs the others nothing, and is right soon after.
fn frozen_follower(cluster: &mut Cluster, leader: &str, follower: &str) {
    let before = resident_mib(cluster, leader);
    cluster.pause(follower);
    for good in [false, true, false, true, false] {
        cluster.farm.set_all((0..200).map(|i| format!("t-{i:05}")), good);
        cluster.flip(good);
        let began = Instant::now();
        cluster.good_everywhere("flip", good);
        println!("a change among others passed in {:?}", began.elapsed());
        hold(Duration::from_secs(4));
    }
    let after = resident_mib(cluster, leader);
    figures::record(
        "leader's memory gained while a follower was frozen for 25 s",
        "MiB",
        &[after - before],
        Bound::NONE,
    );
    cluster.resume(follower);
    let began = Instant::now();
    cluster.good_everywhere("flip", false);
    cluster.settled(SOON);
    figures::times("thawed follower right again", &[began.elapsed()], Bound::NONE);
    cluster.farm.set_all(targets(), true);
    cluster.flip(true);
    cluster.good_everywhere("flip", true);
    wait_for("all up", LONG, || cluster.gtg(leader, "many"), |a| a.as_ref().is_some_and(|a| a.0 == 200));
    cluster.good_everywhere("many", true);
}

/// Cut off, compacted, healed: listed again and diffed.
fn compacted(cluster: &Cluster, follower: &str) {
    let mut took = Vec::new();
    for round in 0..5 {
        let since = cluster.api(follower, "/api/v1/targets/t-05000")["health"]["since"].clone();
        cluster.etcd_links(follower, Mode::Refuse);
        wait_for("it has noticed", SOON, || cluster.status(follower), |s| s["store"] == "lost");
        let (now, gone) = (format!("new-{round}"), format!("new-{}", round - 1));
        cluster.put(&format!("/ft/healthcheck/{now}/categories"), "many");
        cluster.ctl(&["del", "--prefix", &format!("/ft/healthcheck/{gone}/")]);
        let got: serde_json::Value = serde_json::from_str(&cluster.ctl(&["get", "x", "-w", "json"])).unwrap();
        cluster.ctl(&["compact", &got["header"]["revision"].to_string()]);
        cluster.etcd_heal(follower);
        // From when the store is there for it again; how soon it tries is another matter.
        let began = Instant::now();
        wait_for("the store is back", SOON, || cluster.status(follower), |s| s["store"] == "ok");
        let back = began.elapsed();
        let there = |name: &str| cluster.api(follower, &format!("/api/v1/targets/{name}"))["health"].is_object();
        wait_for("listed and diffed", SOON, || (there(&now), there(&gone)), |t| *t == (true, false));
        println!("store back after {back:?}, catalog right after {:?}", began.elapsed());
        took.push(began.elapsed());
        assert_eq!(cluster.api(follower, "/api/v1/targets/t-05000")["health"]["since"], since, "nothing flipped");
    }
    cluster.ctl(&["del", "--prefix", "/ft/healthcheck/new-"]);
    figures::times("10,000 targets: link's return → re-listed after a compaction", &took, Bound::NONE);
}

/// All targets fail while etcd is away; then every state must reach it.
fn mass_outage(cluster: &mut Cluster) {
    cluster.etcd_kill();
    cluster.farm.set_all(targets(), false);
    let names = cluster.names();
    let all_down = |c: &Cluster, n: &str| {
        let counts = c.api(n, "/__health");
        let failed = |c: &&serde_json::Value| c["ok"] == false;
        counts["checks"].as_array().map_or(0, |checks| checks.iter().filter(failed).count())
    };
    for name in &names {
        wait_for("all down", LONG, || all_down(cluster, name), |n| *n >= TARGETS);
    }
    cluster.etcd_restart();
    cluster.etcd_answers();
    // Compacted before: a watch from the beginning is refused. Somebody may lead already.
    let key = "/ft/regions/eu/leader";
    let got: serde_json::Value = serde_json::from_str(&cluster.ctl(&["get", key, "-w", "json"])).unwrap();
    let audit = crate::audit::Audit::start_now(&cluster.endpoints(), key, &got);
    let (_, _) = cluster.settled(LONG);
    let count = || audit.count("/status/targets/t-", r#""health":"down""#);
    wait_for("every state is in etcd", LONG, count, |n| n.0 >= TARGETS);
    let (n, first, last) = count();
    let took = last.unwrap().duration_since(first.unwrap());
    println!("{n} transitions in etcd, {took:?} from the first to the last");
    figures::times(
        "10,000 transitions durable, first to last (all happened while etcd was away)",
        &[took],
        Bound::max(2000.0),
    );
    wait_for("the summary", SOON, || summary(cluster, "down"), |n| *n >= TARGETS as u64);
    // And back, with etcd there: the guard first, then all within a period.
    let (_, term) = cluster.settled(SOON);
    cluster.farm.set_all(targets(), true);
    wait_for("all up", LONG, || summary(cluster, "up"), |n| *n >= TARGETS as u64);
    cluster.good_everywhere("many", true);
    assert_eq!(cluster.settled(SOON).1, term);
    audit.assert_clean();
}
