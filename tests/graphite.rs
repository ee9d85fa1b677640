//! Graphite against a real carbon-cache (Debian's graphite-carbon); what arrived is read back from its whisper files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bellwether::{
    clock::Clock,
    latest::Latest,
    model::{Health, HealthState, RegionName, Role, Timestamp, View},
    publish::{
        Graphite, GraphiteOptions, GraphiteStats, Marks,
        graphite::points::{Points, base},
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[path = "support/ports.rs"]
mod ports;
#[path = "support/signal.rs"]
mod signal;
#[path = "support/publish.rs"]
mod support;
use support::{Carbon, observe, past, until, view};

const NAMES: [&str; 3] = ["bar-1", "foo.x", "foo_2"];

struct Running {
    graphite: Graphite,
    stats: Arc<GraphiteStats>,
    view: Latest<View>,
    active: watch::Sender<bool>,
    clock: Clock,
    stop: CancellationToken,
}

/// A sender that flushes each 20 ms.
fn spawn(port: u16, clock: Clock, change: impl FnOnce(&mut GraphiteOptions)) -> Running {
    let mut options = GraphiteOptions::new("127.0.0.1", "test");
    options.port = port;
    options.interval = Duration::from_millis(20);
    change(&mut options);
    let view = Latest::new(view(&NAMES));
    let (active, told) = watch::channel(true);
    let stop = CancellationToken::new();
    let graphite = Graphite::spawn(options, view.clone(), told, clock.clone(), stop.clone());
    Running { stats: graphite.stats(), graphite, view, active, clock, stop }
}

impl Running {
    fn made(&self) -> u64 {
        self.stats.sent() + self.stats.dropped() + self.stats.waiting()
    }

    /// The next second: its results (bad each third second), and at least one whole flush of them.
    async fn second(&self, second: i64) {
        self.clock.advance(Duration::from_secs(1));
        observe(&self.view, second % 3 != 0, second);
        let before = self.made();
        // Two flushes: the first may have begun before the results were there.
        until("flushed", || self.made() >= before + 2 * (NAMES.len() as u64 + 1)).await;
    }

    /// The next second of a follower that has heard no new mark.
    async fn kept_second(&self, second: i64) {
        self.clock.advance(Duration::from_secs(1));
        observe(&self.view, second % 3 != 0, second);
        let before = self.stats.kept();
        until("kept", || self.stats.kept() >= before + 2 * (NAMES.len() as u64 + 1)).await;
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.graphite.finished()).await.expect("ends").unwrap();
    }
}

fn expected(from: i64, to: i64) -> Vec<(i64, u8)> {
    (from..=to).map(|second| (second, u8::from(second % 3 == 0))).collect()
}

#[tokio::test]
async fn points_arrive_in_whisper_under_ft_paths() {
    let mut carbon = Carbon::new();
    carbon.start().await;
    let (start, clock) = past();
    let running = spawn(carbon.port, clock, |o| o.region = Some(RegionName::new("eu.1").unwrap()));
    for second in start + 1..=start + 10 {
        running.second(second).await;
    }
    until("sent", || running.stats.waiting() == 0).await;
    running.end().await;
    for name in ["bar-1", "foo-x", "foo_2"] {
        let metric = format!("coco.health.test.eu-1.services.{name}");
        carbon.holds(&metric, &expected(start + 1, start + 10)).await;
    }
    let light = carbon.read("coco.health.test.eu-1.pilot-light", start + 1, start + 10);
    assert_eq!(light.len(), 10);
    assert!(light.values().all(|v| *v == 1));
}

#[tokio::test]
async fn nothing_is_lost_while_carbon_is_dead_or_killed_with_unread_bytes() {
    let mut carbon = Carbon::new();
    let (start, clock) = past();
    // Not there at the start.
    let running = spawn(carbon.port, clock, |_| {});
    for second in start + 1..=start + 10 {
        running.second(second).await;
    }
    assert!(running.stats.failures() > 0 && running.stats.sent() == 0 && running.stats.dropped() == 0);
    carbon.start().await;
    until("the first points", || running.stats.sent() > 0).await;
    for second in start + 11..=start + 15 {
        running.second(second).await;
    }
    // Gone while points keep coming, then back.
    let metric = "coco.health.test.services.foo_2";
    until("caught up", || running.stats.waiting() < 20).await;
    carbon.holds(metric, &expected(start + 1, start + 15)).await;
    carbon.stop().await;
    for second in start + 16..=start + 30 {
        running.second(second).await;
    }
    carbon.start().await;
    until("caught up", || running.stats.waiting() < 20).await;
    carbon.holds(metric, &expected(start + 1, start + 30)).await;
    // Stopped with its socket open: the kernel goes on taking bytes for it, and they die with it.
    carbon.signal("STOP");
    let connected = running.stats.connected();
    for second in start + 31..=start + 35 {
        running.second(second).await;
    }
    until("the kernel took a connection", || running.stats.connected() > connected).await;
    carbon.kill();
    carbon.start().await;
    running.second(start + 36).await;
    until("caught up", || running.stats.waiting() < 20).await;
    let stats = Arc::clone(&running.stats);
    running.end().await;
    assert_eq!((stats.dropped(), stats.unconfirmed(), stats.waiting()), (0, 0, 0));
    for name in ["bar-1", "foo-x", "foo_2"] {
        let metric = format!("coco.health.test.services.{name}");
        carbon.holds(&metric, &expected(start + 1, start + 36)).await;
    }
}

#[tokio::test]
async fn a_full_ring_drops_the_oldest_and_counts_them() {
    let mut carbon = Carbon::new();
    let (start, clock) = past();
    let running = spawn(carbon.port, clock, |o| {
        o.ring_points = Some(40);
        // One flush for each second, made by switching it on again: what the ring holds is known.
        o.interval = Duration::from_secs(600);
    });
    until("the first flush", || running.made() == 1).await;
    for second in start + 1..=start + 20 {
        running.active.send(false).unwrap();
        tokio::task::yield_now().await;
        running.clock.advance(Duration::from_secs(1));
        observe(&running.view, second % 3 != 0, second);
        let before = running.made();
        until("off is seen", || {
            running.active.send(true).unwrap();
            running.made() > before
        })
        .await;
    }
    assert_eq!((running.stats.waiting(), running.stats.sent()), (40, 0));
    assert_eq!(running.stats.dropped(), running.made() - 40);
    let kept = start + 20 - 40 / 4 + 1;
    carbon.start().await;
    until("sent", || running.stats.waiting() == 0).await;
    assert_eq!(running.stats.sent(), 40);
    running.active.send(false).unwrap();
    running.end().await;
    // Only the newest ten seconds.
    let metric = "coco.health.test.services.bar-1";
    carbon.holds(metric, &expected(kept, start + 20)).await;
    assert!(carbon.read(metric, start + 1, kept - 1).is_empty());
}

/// Whoever closes early, before, in the midst of or right after a batch, gets that batch again, whole; what was read to
/// its end makes one unbroken, ordered row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_cut_comes_again_whole_and_in_order() {
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (start, clock) = past();
    let running = spawn(port, clock, |_| {});
    let whole = Arc::new(Mutex::new(Vec::<String>::new()));
    let receiver = tokio::spawn({
        let whole = Arc::clone(&whole);
        async move {
            for count in 1.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut cut = match count % 5 {
                    1 => Vec::new(),
                    2 => vec![0; 1],
                    3 => vec![0; 150],
                    _ => {
                        let mut text = String::new();
                        stream.read_to_string(&mut text).await.unwrap();
                        assert!(text.ends_with('\n'), "a split line: {text:?}");
                        whole.lock().unwrap().extend(text.lines().map(str::to_owned));
                        continue;
                    }
                };
                let _ = stream.read(&mut cut).await;
            }
        }
    });
    for second in start + 1..=start + 40 {
        running.second(second).await;
    }
    running.active.send(false).unwrap();
    until("all is sent", || running.stats.waiting() == 0).await;
    let (stats, seen) = (Arc::clone(&running.stats), Arc::clone(&whole));
    running.end().await;
    receiver.abort();
    let whole = seen.lock().unwrap().clone();
    assert_eq!(
        (stats.sent(), stats.dropped(), stats.unconfirmed()),
        (whole.len() as u64, 0, 0),
        "none lost, none twice"
    );
    assert!(stats.failures() > 3);
    let light = |line: &&String| line.contains("pilot-light");
    let mut times: Vec<i64> =
        whole.iter().filter(light).map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted(), "order is kept");
    times.dedup();
    assert!(times.windows(2).all(|two| two[1] == two[0] + 1) && times.last() == Some(&(start + 40)), "{times:?}");
    let paths: Vec<&str> = whole.iter().map(|l| l.split(' ').next().unwrap()).collect();
    let first = paths.iter().position(|p| p.ends_with(".bar-1")).unwrap();
    assert!(paths[first..].chunks(4).all(|flush| flush == &paths[first..first + 4]), "each flush is whole");
}

/// The leader dies before it has flushed; whisper has no empty second, for no target and not for the pilot light.
#[tokio::test]
async fn what_a_dead_leader_had_not_flushed_is_sent_by_the_next() {
    let mut carbon = Carbon::new();
    carbon.start().await;
    let (start, clock) = past();
    let leader = spawn(carbon.port, clock.clone(), |o| o.interval = Duration::from_secs(600));
    until("the leader has flushed once", || leader.stats.mark().is_some()).await;
    assert_eq!(leader.stats.mark(), Some(Timestamp::from_millis(start * 1000)));
    let (follower, marks) = spawn_follower(carbon.port, clock);
    marks.heard.store(Arc::new(leader.stats.mark()));
    for second in start + 1..=start + 10 {
        follower.kept_second(second).await;
    }
    assert_eq!((follower.made(), leader.made()), (0, 1), "only the leader sends");
    // Dead: without its last flush.
    leader.active.send(false).unwrap();
    leader.end().await;
    let metric = "coco.health.test.services.foo_2";
    assert!(carbon.read(metric, start + 1, start + 10).is_empty());
    follower.active.send(true).unwrap();
    for second in start + 11..=start + 15 {
        follower.second(second).await;
    }
    until("sent", || follower.stats.waiting() == 0).await;
    assert_eq!((follower.stats.kept(), follower.stats.dropped()), (0, 0));
    for name in ["bar-1", "foo-x", "foo_2"] {
        carbon.holds(&format!("coco.health.test.services.{name}"), &expected(start + 1, start + 15)).await;
    }
    let light: Vec<_> = (start + 1..=start + 15).map(|second| (second, 1)).collect();
    carbon.holds("coco.health.test.pilot-light", &light).await;
    follower.end().await;
}

/// What carbon has is not sent again, but for the last interval.
#[tokio::test]
async fn a_follower_drops_what_lies_before_the_mark() {
    let mut carbon = Carbon::new();
    carbon.start().await;
    let (start, clock) = past();
    let (follower, marks) = spawn_follower(carbon.port, clock);
    for second in start + 1..=start + 10 {
        follower.kept_second(second).await;
    }
    let kept = follower.stats.kept();
    marks.heard.store(Arc::new(Some(Timestamp::from_millis((start + 8) * 1000))));
    until("dropped", || follower.stats.kept() < kept).await;
    follower.active.send(true).unwrap();
    until("sent", || follower.stats.sent() > 0 && follower.stats.waiting() == 0).await;
    let metric = "coco.health.test.services.bar-1";
    carbon.holds(metric, &expected(start + 8, start + 10)).await;
    assert!(carbon.read(metric, start + 1, start + 7).is_empty());
    follower.end().await;
}

fn spawn_follower(port: u16, clock: Clock) -> (Running, Marks) {
    let marks = Marks::default();
    let follower = spawn(port, clock, |o| o.marks = marks.clone());
    follower.active.send(false).unwrap();
    let mut view = support::view(&NAMES);
    view.node.role = Role::Follower;
    follower.view.store(Arc::new(view));
    (follower, marks)
}

#[tokio::test(start_paused = true)]
async fn only_who_is_active_makes_points() {
    let (_, clock) = past();
    let running = spawn(ports::free(), clock, |_| {});
    running.active.send(false).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(running.made(), 0);
    running.active.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert_eq!(running.made(), 51, "the pilot light at once, and each 20 ms");
    running.active.send(false).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(running.made(), 51);
}

/// A port whose backlog is full: the kernel answers no further connection.
fn black_hole() -> (socket2::Socket, Vec<socket2::Socket>, u16) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let fill = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        socket
    };
    let filled = (0..8).map(|_| fill()).collect();
    (listener, filled, address.as_socket().unwrap().port())
}

#[tokio::test]
async fn a_black_hole_blocks_nothing() {
    let (_listener, _filled, port) = black_hole();
    let (start, clock) = past();
    let began = tokio::time::Instant::now();
    let running = spawn(port, clock, |o| o.connect_timeout = Duration::from_millis(200));
    assert!(began.elapsed() < Duration::from_millis(100), "spawn returns at once");
    for second in start + 1..=start + 5 {
        running.second(second).await;
    }
    until("connecting timed out", || running.stats.failures() > 0).await;
    assert_eq!((running.stats.connected(), running.stats.sent()), (0, 0));
    let stats = Arc::clone(&running.stats);
    let began = tokio::time::Instant::now();
    running.end().await;
    assert!(began.elapsed() < Duration::from_secs(5), "the last flush is bounded");
    assert!(stats.waiting() > 0);
}

#[tokio::test]
async fn one_that_never_closes_gets_a_batch_three_times_only() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let running = spawn(port, past().1, |o| {
        o.write_timeout = Duration::from_millis(50);
        o.interval = Duration::from_secs(600);
    });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap());
    }
    until("taken as sent", || running.stats.unconfirmed() == 1).await;
    assert_eq!((running.stats.sent(), running.stats.waiting()), (1, 0));
    running.active.send(false).unwrap();
    running.end().await;
}

#[tokio::test]
async fn who_is_not_active_makes_no_points_and_the_last_flush_comes_at_the_end() {
    let mut carbon = Carbon::new();
    carbon.start().await;
    let (start, clock) = past();
    let running = spawn(carbon.port, clock, |o| o.interval = Duration::from_secs(600));
    until("flushed at once", || running.stats.sent() == 1).await;
    running.active.send(false).unwrap();
    running.clock.advance(Duration::from_secs(1));
    observe(&running.view, false, start + 1);
    let stats = Arc::clone(&running.stats);
    running.stop.cancel();
    running.graphite.finished().await.unwrap();
    assert_eq!((stats.sent(), stats.waiting()), (1, 0));

    let (start, clock) = past();
    let running = spawn(carbon.port, clock, |o| o.interval = Duration::from_secs(600));
    until("flushed at once", || running.stats.sent() == 1).await;
    observe(&running.view, false, start);
    running.end().await;
    carbon.holds("coco.health.test.services.bar-1", &[(start, 1)]).await;
}

#[test]
fn a_minute_without_a_check_repeats_the_last_result_at_flush_time() {
    let view = Latest::new(view(&["b-1", "a-1"]));
    let mut points = Points::new(base("coco", "x", None));
    let at = |secs: i64| Timestamp::from_millis(secs * 1000 + 250);
    let mut flush = |view: &View, secs| {
        let points = points.flush(view, at(secs));
        let line = |p: &bellwether::publish::graphite::points::Point| {
            let mut line = String::new();
            p.render(&mut line);
            line
        };
        points.iter().map(line).collect::<String>()
    };
    assert_eq!(flush(&view.load(), 100), "coco.health.x.pilot-light 1 100\n", "no result, no point");
    observe(&view, true, 110);
    let lines = |value: u8, time: i64, now: i64| {
        format!(
            "coco.health.x.services.a-1 {value} {time}\ncoco.health.x.services.b-1 {value} {time}\n\
             coco.health.x.pilot-light 1 {now}\n"
        )
    };
    assert_eq!(flush(&view.load(), 160), lines(0, 110, 160));
    assert_eq!(flush(&view.load(), 220), lines(0, 220, 220));
    observe(&view, false, 230);
    assert_eq!(flush(&view.load(), 280), lines(1, 230, 280));
    // A good result is not repeated for ever: once the health is unknown it counts as failed.
    observe(&view, true, 290);
    assert_eq!(flush(&view.load(), 340), lines(0, 290, 340));
    let mut unknown = support::view(&["b-1", "a-1"]);
    unknown.cells = Arc::clone(&view.load().cells);
    unknown.health = (0..2).map(|_| Health { state: HealthState::Unknown, ..Health::unknown(at(900)) }).collect();
    assert_eq!(flush(&unknown, 940), lines(1, 940, 940));
}
