use super::{
    super::{
        frame::{Decoder, Frame},
        testing::{at, entry, name},
    },
    *,
};
use crate::model::Mono;

fn serving(term: i64) -> Serving {
    Serving { node: name("a"), term, degraded: false }
}

fn hub(limits: Limits) -> Hub {
    let hub = Hub::new(limits);
    hub.serve(Some(serving(5)));
    hub
}

/// Reads lines until a whole frame is there; blank ones are skipped.
async fn next(subscription: &mut Subscription) -> Option<Frame> {
    let mut decoder = Decoder::default();
    loop {
        decoder.push(&tokio::time::timeout(Duration::from_secs(60), subscription.next()).await.expect("in time")?);
        if let Some(frame) = decoder.next(Mono::default()).unwrap() {
            return Some(frame);
        }
    }
}

async fn seqs(subscription: &mut Subscription, count: usize) -> Vec<(char, u64)> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(match next(subscription).await.unwrap() {
            Frame::Full(head, _) => ('f', head.seq),
            Frame::Delta(head, _) => ('d', head.seq),
            Frame::Heartbeat(head) => ('h', head.seq),
        });
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_new_subscriber_gets_a_full_frame_then_deltas_then_heartbeats() {
    let hub = hub(Limits::default());
    hub.delta(at(0), None, vec![entry("t", 1)]);
    let mut s = hub.subscribe(None).unwrap();
    let mut other = hub.subscribe(Some((4, 1))).unwrap();
    assert!(!hub.wants_full(), "nobody has asked yet");
    let wanted = async {
        hub.full_wanted().await;
        hub.delta(at(100), None, vec![entry("t", 2)]);
        hub.full(at(200), Some(at(1)), vec![entry("t", 2), entry("u", 1)]);
        hub.delta(at(300), None, vec![entry("t", 3)]);
        hub.heartbeat(at(400), None);
    };
    let ((), got) = tokio::join!(wanted, seqs(&mut s, 3));
    assert_eq!(got, [('f', 2), ('d', 3), ('h', 3)]);
    assert!(!hub.wants_full());
    assert_eq!(seqs(&mut other, 3).await, [('f', 2), ('d', 3), ('h', 3)], "from what is kept, without asking again");
    assert!(!hub.wants_full());
    assert_eq!(hub.stats().followers, 2);
    drop(other);
    assert_eq!(hub.followers(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_listened_to_is_a_gap_to_who_comes_back() {
    let hub = hub(Limits::default());
    assert!(!hub.is_followed(at(0)));
    hub.skip();
    let mut back = hub.subscribe(Some((5, 0))).unwrap();
    assert!(hub.is_followed(at(100)));
    let wanted = async {
        hub.full_wanted().await;
        // Decided before the subscriber came: it is not forgotten.
        hub.skip();
        assert!(hub.wants_full());
        hub.full(at(200), None, vec![entry("t", 2)]);
        hub.delta(at(300), None, vec![entry("t", 3)]);
    };
    let ((), got) = tokio::join!(wanted, seqs(&mut back, 2));
    assert_eq!(got, [('f', 2), ('d', 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_resumes_where_the_ring_still_can() {
    let hub = hub(Limits { ring_age: Duration::from_secs(10), ..Limits::default() });
    let first = hub.subscribe(None).unwrap();
    for n in 1..=20 {
        hub.delta(at(n * 1000), None, vec![entry("t", 1)]);
    }
    let mut s = hub.subscribe(Some((5, 15))).unwrap();
    assert_eq!(seqs(&mut s, 5).await, [('d', 16), ('d', 17), ('d', 18), ('d', 19), ('d', 20)]);
    let mut level = hub.subscribe(Some((5, 20))).unwrap();
    hub.heartbeat(at(21_000), None);
    assert_eq!(seqs(&mut level, 1).await, [('h', 20)]);
    for after in [Some((5, 3)), Some((5, 21)), Some((6, 20)), Some((4, 20)), None] {
        let mut s = hub.subscribe(after).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(1), s.next()).await.is_err(), "{after:?}");
        assert!(hub.wants_full(), "{after:?}");
        hub.full(at(21_000), None, vec![entry("t", 1)]);
        assert_eq!(seqs(&mut s, 1).await, [('f', 20)], "{after:?}");
        hub.heartbeat(at(21_000), None);
        hub.heartbeat(at(21_000), None);
    }
    // Nobody follows for longer than the ring: it is let go, and grows no more.
    drop((first, s, level));
    hub.delta(at(40_000), None, vec![entry("t", 1)]);
    assert_eq!(hub.0.lock().ring.len(), 0);
    let mut s = hub.subscribe(Some((5, 20))).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1), s.next()).await.is_err());
    assert!(hub.wants_full());
}

#[tokio::test(start_paused = true)]
async fn who_falls_behind_gets_a_full_frame_at_most_each_two_seconds() {
    let hub = hub(Limits { lag_frames: 3, ..Limits::default() });
    let mut s = hub.subscribe(Some((5, 0))).unwrap();
    let behind = |hub: &Hub| {
        for _ in 0..5 {
            hub.delta(at(0), None, vec![entry("t", 1)]);
        }
    };
    behind(&hub);
    assert_eq!(hub.stats().lag, 5);
    let (got, ()) = tokio::join!(seqs(&mut s, 1), async {
        hub.full_wanted().await;
        hub.full(at(0), None, vec![entry("t", 1)]);
    });
    assert_eq!(got, [('f', 5)]);
    behind(&hub);
    let again = tokio::time::Instant::now();
    let (line, ()) = tokio::join!(s.next(), async { hub.heartbeat(at(0), None) });
    assert_eq!(line.unwrap(), "\n", "alive, and no full frame yet");
    hub.full(at(0), None, vec![entry("t", 2)]);
    assert_eq!(seqs(&mut s, 1).await, [('f', 10)]);
    assert!(again.elapsed() >= Duration::from_secs(2), "{:?}", again.elapsed());
    hub.heartbeat(at(0), None);
    assert_eq!(seqs(&mut s, 1).await, [('h', 10)]);
    let stats = hub.stats();
    assert_eq!((stats.fulls, stats.resyncs, stats.lag), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_bound_the_ring_and_the_lag() {
    let hub = hub(Limits { ring_bytes: 2000, lag_bytes: 1000, ..Limits::default() });
    let mut s = hub.subscribe(Some((5, 0))).unwrap();
    for _ in 0..20 {
        hub.delta(at(0), None, vec![entry("t", 1)]);
    }
    assert!(hub.0.lock().ring_bytes <= 2000 && hub.0.lock().ring.len() > 1);
    assert!(tokio::time::timeout(Duration::from_millis(1), s.next()).await.is_err());
    assert!(hub.wants_full());
    let mut near = hub.subscribe(Some((5, 19))).unwrap();
    assert_eq!(seqs(&mut near, 1).await, [('d', 20)]);
}

#[tokio::test(start_paused = true)]
async fn another_term_or_none_ends_every_subscription_even_in_a_frame() {
    let hub = hub(Limits::default());
    let big: Vec<Entry> = (0..3000).map(|n| entry(&format!("t-{n}"), 1)).collect();
    hub.full(at(0), None, big);
    let mut s = hub.subscribe(None).unwrap();
    assert!(s.next().await.unwrap().len() > 100_000);
    hub.serve(Some(Serving { degraded: true, ..serving(5) }));
    assert!(s.next().await.is_some(), "the same term goes on");
    hub.serve(Some(serving(6)));
    assert_eq!(s.next().await, None);
    hub.serve(None);
    assert_eq!(hub.subscribe(None).unwrap_err(), NotServing::NotLeading);
    hub.delta(at(0), None, vec![entry("t", 1)]);
    hub.heartbeat(at(0), None);
    hub.full(at(0), None, vec![]);
    assert!(!hub.wants_full());
    // The same term again: what happened meanwhile is a gap.
    hub.serve(Some(serving(6)));
    let mut s = hub.subscribe(Some((6, 0))).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1), s.next()).await.is_err());
    assert!(hub.wants_full());
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_bounded() {
    let hub = hub(Limits::default());
    let all: Vec<_> = (0..64).map(|_| hub.subscribe(None).unwrap()).collect();
    assert_eq!(hub.subscribe(None).unwrap_err(), NotServing::TooMany);
    drop(all);
    assert!(hub.subscribe(None).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_encoded_once_for_all() {
    let hub = hub(Limits::default());
    let (mut a, mut b) = (hub.subscribe(Some((5, 0))).unwrap(), hub.subscribe(Some((5, 0))).unwrap());
    hub.delta(at(0), None, vec![entry("t", 1)]);
    let (a, b) = (a.next().await.unwrap(), b.next().await.unwrap());
    assert_eq!(a.as_ptr(), b.as_ptr());
}
