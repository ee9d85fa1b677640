//! A made-up cluster around a made-up view.
#![allow(dead_code, missing_docs)]

use std::sync::Arc;

use bellwether::model::{
    CategoryName, NodeName, RegionName, Role, StoreState, TargetName, Timestamp, View,
    cluster::{ClusterStatus, DownTarget, LeaderStatus, NodeInfo, RegionStatus, ResultsFrom, Summary},
};

use super::web_view::{NOW, ago};

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub fn info(name: &str) -> NodeInfo {
    let url = format!("http://{name}.example:8080");
    NodeInfo { node: node(name), url, version: "0.1.0".to_owned(), started: ago(9000).wall }
}

pub fn summary(viable: bool) -> Summary {
    Summary {
        v: 1,
        node: node("us-1"),
        term: 99,
        now: ago(3).wall,
        probed_at: Some(ago(4).wall),
        viable,
        up: 12,
        down: 1,
        unknown: 0,
        graphite_mark: Some(Timestamp::from_millis(NOW - 60_000)),
    }
}

pub fn region(viable: bool, age: u64) -> RegionStatus {
    RegionStatus {
        leader: Some(node("us-1")),
        term: 99,
        nodes: vec![info("us-1"), info("us-2")],
        summary: Some(summary(viable)),
        seen: Some(ago(age).wall),
        down: vec![DownTarget {
            target: TargetName::new("mail-1").unwrap(),
            since: ago(60).wall,
            reason: Arc::from("503 Service Unavailable"),
        }],
        latched: vec![CategoryName::new("write").unwrap()],
        enabled: true,
    }
}

/// The view of a follower of `node-b`, with a stream, in a cluster of three nodes and five other regions.
pub fn following(mut view: View) -> View {
    let leader =
        LeaderStatus { node: node("node-b"), url: "http://node-b.example:8080".to_owned(), since: ago(185).wall };
    view.node.role = Role::Follower;
    (view.node.leader, view.node.leader_url) = (Some(leader.node.clone()), Some(leader.url.clone()));
    view.cluster = Arc::new(ClusterStatus {
        region: view.node.region.clone(),
        node: view.node.node.clone(),
        role: Role::Follower,
        static_leader: false,
        term: view.node.term,
        leader: Some(leader),
        transitions: 2,
        last_reason: Arc::from("node-a gave up the lead: it shuts down"),
        nodes: ["node-a", "node-b", "node-c"].map(info).to_vec(),
        results: ResultsFrom::Stream { node: node("node-b"), since: ago(184).wall, seq: 815, degraded: false },
    });
    let silent = RegionStatus { leader: None, summary: None, seen: None, ..region(true, 0) };
    let own = view.node.region.clone();
    let named = |name: &str, status: RegionStatus| (RegionName::new(name).unwrap(), status);
    let all = [
        (own, region(true, 2)),
        named("ap", region(true, 400)),
        named("sa", silent),
        named("us-east", region(true, 3)),
        named("us-west", region(false, 4)),
        named("za", RegionStatus { enabled: false, ..region(true, 1) }),
    ];
    view.regions = Arc::new(all.into());
    view
}

/// The same view with the cluster's status changed.
pub fn with(mut view: View, change: impl FnOnce(&mut ClusterStatus)) -> View {
    change(Arc::make_mut(&mut view.cluster));
    view
}

/// Alone: no store, no leader in reach; a static leader where it led last.
pub fn alone(view: View, led_last: bool) -> View {
    let mut view = following(view);
    (view.node.role, view.node.store, view.node.degraded) = (Role::Autonomous, StoreState::Lost, true);
    view.node.static_leader = led_last;
    (view.node.leader, view.node.leader_url) = (None, None);
    with(view, |c| {
        (c.role, c.static_leader, c.leader) = (Role::Autonomous, led_last, None);
        c.last_reason = Arc::from("the store does not answer");
        c.results = ResultsFrom::Own { followers: 0 };
    })
}
