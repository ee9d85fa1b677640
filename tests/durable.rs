//! A mass outage against a real etcd: how long until 10,000 transitions are durable (design section 9).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[allow(dead_code)]
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/signal.rs"]
mod signal;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bellwether::{
    chance::Chance,
    clock::Clock,
    controller::{
        core::Write,
        status::StatusValue,
        transitions::Transition,
        writer::{self, Queue, Reign},
    },
    model::{HealthState, NodeName, RegionName, TargetName, Timestamp},
    store::{
        Etcd, EtcdOptions, Store,
        session::{Session, SessionOptions},
    },
};
use tokio_util::sync::CancellationToken;

const TARGETS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_transitions_are_durable_soon() {
    let member = etcd::Member::single(&[]);
    let clock = Clock::system();
    let store: Arc<dyn Store> = Arc::new(Etcd::new(EtcdOptions::new([member.url.clone()], "/ft")).unwrap());
    let (region, node) = (RegionName::new("eu").unwrap(), NodeName::new("a").unwrap());
    let session = SessionOptions {
        region: region.clone(),
        node: node.clone(),
        url: "http://a".to_owned(),
        version: "0".to_owned(),
        started: Timestamp::default(),
        instance: "i".to_owned(),
        ttl: Duration::from_secs(5),
    };
    let stop = CancellationToken::new();
    let (session, task) = Session::spawn(Arc::clone(&store), clock.clone(), Chance::seeded(1), session, stop.clone());
    session.set_ready(true);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !session.may_write(clock.mono()) {
        session.ticked();
        assert!(Instant::now() < deadline, "it does not lead");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let queue = Queue::default();
    let writer = tokio::spawn(writer::run(queue.clone(), Arc::clone(&store), session.clone(), region, stop.clone()));
    let reason = format!("3 bad results in a row: {}", "no answer within 5 s ".repeat(10));
    let name = |n: u64| TargetName::new(&format!("target-{n:05}")).unwrap();
    let (from, to, at) = (HealthState::Up, HealthState::Down, clock.now().wall);
    let status = |n| StatusValue { v: 1, health: to, since: at, reason: reason.clone(), term: 1, n: 1 + n % 2 };
    let told = |n| Transition {
        number: n,
        at,
        target: name(n),
        from,
        to,
        reason: Arc::from(reason.as_str()),
        term: 1,
        n: 1 + n % 2,
        node: node.clone(),
    };
    let began = Instant::now();
    let states = (0..TARGETS).map(|n| Write::Status(name(n), status(n))).collect();
    let reign = Reign::of(&session.authority().peek());
    queue.push(reign, (0..TARGETS).map(told).collect(), states);
    while queue.depth() > 0 {
        session.ticked();
        assert!(began.elapsed() < Duration::from_secs(30), "{} wait", queue.depth());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = began.elapsed();
    let listing = store.list("regions/eu/status/targets/", None).await.unwrap();
    println!("{TARGETS} transitions durable in {taken:?} (the last batch under way: {:?})", began.elapsed());
    let events = store.list("events/eu/", None).await.unwrap();
    assert!(listing.pairs.len() as u64 >= TARGETS - 100, "{}", listing.pairs.len());
    assert!(events.pairs.len() >= 100, "{}", events.pairs.len());
    stop.cancel();
    writer.await.unwrap();
    task.await.unwrap().unwrap();
}
