//! Two regions over one etcd: each has a leader of its own, and what happens to one leaves the other alone.

use std::time::Instant;

use crate::{
    SEEN_WITHOUT_ETCD,
    cluster::{Cluster, Plan, SOON},
    http::wait_for,
    proxy::Mode,
};

/// Who leads a region, in which term.
type Lead = (String, i64);

fn everyone_sees(cluster: &Cluster, leads: [(&str, &Lead); 2]) {
    for name in cluster.live() {
        let told = || cluster.api(&name, "/api/v1/regions");
        wait_for(&format!("{name} sees both"), SOON, told, |told| {
            leads.iter().all(|(region, (node, term))| {
                told.as_array().is_some_and(|all| {
                    all.iter().any(|r| {
                        r["name"] == *region && r["leader"] == *node && r["term"] == *term && r["summary"].is_object()
                    })
                })
            })
        });
    }
}

fn answers(cluster: &Cluster, names: [&str; 2], category: &str, status: u16) {
    for name in names {
        let ask = || cluster.gtg(name, category);
        wait_for(&format!("{status} of {name}"), SOON, ask, |a| a.as_ref().is_some_and(|a| a.0 == status));
    }
}

#[test]
#[ignore = "long: scripts/chaos"]
fn two_regions_fail_apart() {
    let mut cluster = Plan::default().nodes(&[("a", "eu"), ("b", "eu"), ("c", "us"), ("d", "us")]).start();
    let (eu, us) = (cluster.settled_in("eu", SOON), cluster.settled_in("us", SOON));
    let roles_eu = cluster.roles_of(&["a", "b"].map(str::to_owned));
    let mut roles_us = cluster.roles_of(&["c", "d"].map(str::to_owned));
    everyone_sees(&cluster, [("eu", &eu), ("us", &us)]);
    // What only one region cannot reach is down only there.
    for (cut, status) in [(true, 503), (false, 200)] {
        for name in ["c", "d"] {
            cluster.farm.cut(name, cut);
        }
        answers(&cluster, ["c", "d"], "steady", status);
        answers(&cluster, ["a", "b"], "steady", 200);
    }
    // One leader dies: the other region keeps its own.
    let us = cluster.settled_in("us", SOON);
    let mut load = cluster.load(100, SEEN_WITHOUT_ETCD);
    roles_us.off(&us.0);
    load.leave(&us.0);
    let began = Instant::now();
    cluster.kill(&us.0);
    let other = ["c", "d"].map(str::to_owned).into_iter().find(|n| *n != us.0).unwrap();
    let (next, term, took) = cluster.successor_among(&[other], us.1, began, SOON);
    println!("{} of us killed: {next} leads after {took:?}", us.0);
    assert_eq!(cluster.settled_in("eu", SOON), eu, "nothing changed there");
    let us = (next, term);
    everyone_sees(&cluster, [("eu", &eu), ("us", &us)]);
    // One region is cut off from etcd: both go on, and the other still knows who belongs to it.
    for name in ["a", "b"] {
        cluster.etcd_links(name, Mode::Blackhole);
    }
    for name in ["a", "b"] {
        wait_for("it has noticed", SOON, || cluster.status(name), |s| s["store"] == "lost");
    }
    cluster.flip(false);
    cluster.good_everywhere("flip", false);
    assert_eq!(cluster.settled_in("us", SOON), us, "nothing changed there either");
    for name in ["a", "b"] {
        cluster.etcd_heal(name);
    }
    let eu = cluster.settled_in("eu", SOON);
    everyone_sees(&cluster, [("eu", &eu), ("us", &us)]);
    for region in ["eu", "us"] {
        cluster.agree(region, &["flip-1", "steady-1", "dead-1"]);
    }
    load.end().assert_clean(500);
    roles_eu.assert_clean();
    roles_us.assert_clean();
    cluster.audit_now();
}
