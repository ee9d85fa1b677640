use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::Ordering},
};

use proptest::prelude::*;

use super::{
    super::{
        Hub, Serving,
        hub::Limits,
        testing::{Net, at, entry, essence, name},
    },
    *,
};
use crate::model::{Now, TargetName};

const URL: &str = "http://a:1";

fn leader(term: i64) -> Leader {
    Leader { node: name("a"), url: URL.to_owned(), term }
}

fn serving(term: i64) -> Serving {
    Serving { node: name("a"), term, degraded: false }
}

fn hub(term: i64) -> Hub {
    let hub = Hub::default();
    hub.serve(Some(serving(term)));
    hub
}

struct Follows {
    whom: watch::Sender<Option<Leader>>,
    heard: mpsc::Receiver<Heard>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn follow(net: &Arc<Net>, whom: Option<Leader>) -> Follows {
    let (whom, watched) = watch::channel(whom);
    let cancel = CancellationToken::new();
    let peers: Arc<dyn Peers> = Arc::<Net>::clone(net);
    let clock = Clock::tokio(Now { wall: at(0), mono: crate::model::Mono::from_origin(Duration::from_secs(1000)) });
    let (heard, task) = spawn(peers, clock, Chance::seeded(1), watched, cancel.clone());
    Follows { whom, heard, cancel, task }
}

impl Follows {
    /// The next message, in short.
    async fn next(&mut self) -> String {
        let heard = timeout(Duration::from_secs(120), self.heard.recv()).await.expect("in time").expect("goes on");
        match heard {
            Heard::Connected => "connected".to_owned(),
            Heard::Full(head, entries) => format!("full {}.{} {}", head.term, head.seq, entries.len()),
            Heard::Delta(head, entries) => format!("delta {}.{} {}", head.term, head.seq, entries.len()),
            Heard::Heartbeat(head) => format!("heartbeat {}.{}", head.term, head.seq),
            Heard::Lost { reason } => format!("lost {reason}"),
        }
    }

    async fn expect(&mut self, all: &[&str]) {
        for expected in all {
            let got = self.next().await;
            assert!(got.starts_with(expected), "expected {expected}, got {got}");
        }
    }
}

/// Gives full frames when they are wanted, as the controller does.
fn serve_fulls(hub: &Hub, count: usize) -> JoinHandle<()> {
    let hub = hub.clone();
    tokio::spawn(async move {
        loop {
            hub.full_wanted().await;
            hub.full(at(0), None, (0..count).map(|n| entry(&format!("t-{n}"), 1)).collect());
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_everything_and_resumes_after_a_cut() {
    let hub = hub(5);
    let net = Net::with(URL, &hub);
    let fulls = serve_fulls(&hub, 3);
    let mut f = follow(&net, Some(leader(5)));
    f.expect(&["connected", "full 5.0 3"]).await;
    hub.delta(at(1), None, vec![entry("t-1", 2)]);
    hub.heartbeat(at(2), None);
    f.expect(&["delta 5.1 1", "heartbeat 5.1"]).await;
    // The next connection is cut in the middle of its first line.
    *net.cut_after.lock().unwrap() = Some(30);
    net.silent.store(true, Ordering::SeqCst);
    f.whom.send(Some(Leader { url: "http://elsewhere:1".to_owned(), ..leader(5) })).unwrap();
    f.expect(&["lost http://elsewhere:1 does not answer"]).await;
    net.silent.store(false, Ordering::SeqCst);
    hub.delta(at(3), None, vec![entry("t-2", 2)]);
    f.whom.send(Some(leader(5))).unwrap();
    f.expect(&["connected", "lost the stream was closed", "connected", "delta 5.2 1"]).await;
    assert_eq!(net.asked.lock().unwrap().last(), Some(&Some((5, 1))), "it asked for what it lacked");
    fulls.abort();
    f.cancel.cancel();
    timeout(Duration::from_secs(1), f.task).await.expect("ends on cancel").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_frame_cut_in_the_middle_is_not_handed_on() {
    let hub = hub(5);
    let net = Net::with(URL, &hub);
    net.chunk.store(1000, Ordering::SeqCst);
    *net.cut_after.lock().unwrap() = Some(500_000);
    let fulls = serve_fulls(&hub, 5000);
    let mut f = follow(&net, Some(leader(5)));
    f.expect(&["connected", "lost the stream was closed", "connected", "full 5.0 5000"]).await;
    fulls.abort();
}

#[tokio::test(start_paused = true)]
async fn lower_terms_and_other_nodes_are_refused() {
    let hub = hub(5);
    let net = Net::with(URL, &hub);
    let fulls = serve_fulls(&hub, 1);
    let mut f = follow(&net, Some(leader(6)));
    f.expect(&["connected", "lost a frame of term 5 came, below term 6"]).await;
    f.whom.send(Some(Leader { node: name("b"), ..leader(5) })).unwrap();
    loop {
        if f.next().await == "lost frames of node a came from b's address" {
            break;
        }
    }
    // A higher one is news.
    f.whom.send(Some(leader(4))).unwrap();
    loop {
        if f.next().await == "full 5.0 1" {
            break;
        }
    }
    hub.serve(Some(serving(4)));
    f.expect(&["lost the stream was closed", "connected", "lost a frame of term 4 came, below term 5"]).await;
    fulls.abort();
}

#[tokio::test(start_paused = true)]
async fn a_leader_change_begins_with_a_full_frame() {
    let (a, b) = (hub(5), Hub::default());
    let net = Net::with(URL, &a);
    net.put("http://b:1", &b);
    b.serve(Some(Serving { node: name("b"), term: 9, degraded: false }));
    let fulls = (serve_fulls(&a, 1), serve_fulls(&b, 2));
    let mut f = follow(&net, None);
    assert!(timeout(Duration::from_secs(10), f.heard.recv()).await.is_err(), "nobody to follow");
    f.whom.send(Some(leader(5))).unwrap();
    f.expect(&["connected", "full 5.0 1"]).await;
    f.whom.send(Some(Leader { node: name("b"), url: "http://b:1".to_owned(), term: 9 })).unwrap();
    f.expect(&["connected", "full 9.0 2"]).await;
    f.whom.send(None).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!((a.followers(), b.followers()), (0, 0));
    f.whom.send(Some(leader(5))).unwrap();
    f.expect(&["connected", "full 5.0 1"]).await;
    fulls.0.abort();
}

#[tokio::test(start_paused = true)]
async fn silence_is_death_and_a_slow_controller_is_not() {
    let hub = hub(5);
    let net = Net::with(URL, &hub);
    let fulls = serve_fulls(&hub, 1);
    let mut f = follow(&net, Some(leader(5)));
    f.expect(&["connected", "full 5.0 1"]).await;
    let begun = tokio::time::Instant::now();
    f.expect(&["lost nothing has come for 3 s", "connected"]).await;
    assert!((3.0..3.1).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    // While the controller reads nothing for long, the stream waits, and then goes on without a loss.
    let beats = tokio::spawn({
        let hub = hub.clone();
        async move {
            loop {
                hub.heartbeat(at(0), None);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    for n in 1..=40 {
        hub.delta(at(n), None, vec![entry("t-0", 1)]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut last = String::new();
    while !last.starts_with("delta 5.40") {
        last = f.next().await;
        assert!(!last.starts_with("lost") && !last.starts_with("full"), "{last}");
    }
    fulls.abort();
    beats.abort();
}

/// Says what it is told to, whatever is asked.
struct Script(Mutex<Vec<Vec<Frame>>>, Mutex<Vec<Option<(i64, u64)>>>);

#[async_trait::async_trait]
impl Peers for Script {
    async fn stream(
        &self,
        _: &str,
        after: Option<(i64, u64)>,
    ) -> Result<mpsc::Receiver<Bytes>, crate::replication::PeerError> {
        self.1.lock().unwrap().push(after);
        let (out, bytes) = mpsc::channel(100);
        let frames = self.0.lock().unwrap().pop().unwrap_or_default();
        for line in frames.iter().flat_map(super::super::frame::encode) {
            out.try_send(line).unwrap();
        }
        Ok(bytes)
    }
    async fn node(&self, _: &str) -> Result<crate::model::cluster::PeerNode, crate::replication::PeerError> {
        unreachable!()
    }
    async fn refresh(
        &self,
        _: &str,
        _: &[TargetName],
    ) -> Result<crate::replication::Refreshed, crate::replication::PeerError> {
        unreachable!()
    }
    async fn witness(
        &self,
        _: &str,
        _: &[TargetName],
    ) -> Result<Vec<crate::replication::Seen>, crate::replication::PeerError> {
        unreachable!()
    }
}

#[tokio::test(start_paused = true)]
async fn gaps_are_refused_and_asked_about() {
    let head = |seq| Head { node: name("a"), term: 5, seq, now: at(0), degraded: false, graphite_mark: None };
    let delta = |seq| Frame::Delta(head(seq), vec![entry("t", seq)]);
    let full = |seq| Frame::Full(head(seq), vec![entry("t", seq)]);
    let mut streams = vec![
        vec![delta(1)],
        vec![full(3), delta(5)],
        vec![delta(4), Frame::Heartbeat(head(5))],
        vec![delta(4)],
        vec![full(2)],
        vec![full(2)],
    ];
    streams.reverse();
    let peers = Arc::new(Script(Mutex::new(streams), Mutex::default()));
    let (_whom, watched) = watch::channel(Some(leader(5)));
    let clock = Clock::manual(at(0));
    let dynamic: Arc<dyn Peers> = Arc::<Script>::clone(&peers);
    let (heard, task) = spawn(dynamic, clock, Chance::seeded(1), watched, CancellationToken::new());
    let mut f = Follows { whom: watch::channel(None).0, heard, cancel: CancellationToken::new(), task };
    f.expect(&["connected", "lost the stream does not begin with a full frame"]).await;
    f.expect(&["connected", "full 5.3", "lost a gap: number 5 came after 3"]).await;
    f.expect(&["connected", "delta 5.4", "lost a gap: number 5 came after 4"]).await;
    f.expect(&["connected", "lost a gap: number 4 came after 4"]).await;
    f.expect(&["connected", "lost a gap: number 2 came after 4"]).await;
    f.expect(&["connected", "full 5.2"]).await;
    let asked = peers.1.lock().unwrap()[..6].to_vec();
    assert_eq!(asked, [None, None, Some((5, 3)), Some((5, 4)), Some((5, 4)), None], "the second failure begins anew");
}

#[tokio::test(start_paused = true)]
async fn attempts_are_spread_between_50_ms_and_1_s() {
    let net = Arc::new(Net::default());
    let mut f = follow(&net, Some(leader(5)));
    let begun = tokio::time::Instant::now();
    for _ in 0..20 {
        f.expect(&["lost http://a:1 does not answer"]).await;
    }
    let passed = begun.elapsed();
    assert!(passed > Duration::from_secs(7) && passed < Duration::from_secs(20), "{passed:?}");
}

/// What the leader does in the property below.
#[derive(Clone, Debug)]
enum Deed {
    Touch(u8, u64),
    Beat,
    Wait(u64),
    Cut(usize),
    Away(bool),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (0u8..20, 0u64..1_000_000).prop_map(|(t, n)| Deed::Touch(t, n)),
        2 => Just(Deed::Beat),
        2 => (0u64..4000).prop_map(Deed::Wait),
        1 => (0usize..5000).prop_map(Deed::Cut),
        1 => any::<bool>().prop_map(Deed::Away),
    ];
    proptest::collection::vec(deed, 0..60)
}

type Table = BTreeMap<TargetName, Entry>;

/// The leader's side of a controller: its table, and its frames.
async fn lead(hub: Hub, table: Arc<Mutex<Table>>) {
    loop {
        tokio::select! {
            biased;
            () = hub.full_wanted() => hub.full(at(0), None, table.lock().unwrap().values().cloned().collect()),
            () = tokio::time::sleep(Duration::from_secs(1)) => hub.heartbeat(at(0), None),
        }
    }
}

fn apply(table: &mut Table, heard: Heard) {
    match heard {
        Heard::Full(_, entries) => *table = entries.into_iter().map(|e| (e.target.clone(), e)).collect(),
        Heard::Delta(_, entries) => table.extend(entries.into_iter().map(|e| (e.target.clone(), e))),
        _ => {}
    }
}

async fn run(deeds: Vec<Deed>, chunk: usize, slow: [u64; 2]) {
    let hub = Hub::new(Limits { lag_frames: 5, ring_bytes: 20_000, ..Limits::default() });
    hub.serve(Some(serving(5)));
    let net = Net::with(URL, &hub);
    net.chunk.store(chunk, Ordering::SeqCst);
    let table = Arc::new(Mutex::new(Table::new()));
    let leads = tokio::spawn(lead(hub.clone(), Arc::clone(&table)));
    let followers = slow.map(|slow| {
        let Follows { whom, mut heard, .. } = follow(&net, Some(leader(5)));
        let mine = Arc::new(Mutex::new(Table::new()));
        let filled = Arc::clone(&mine);
        tokio::spawn(async move {
            while let Some(heard) = heard.recv().await {
                apply(&mut filled.lock().unwrap(), heard);
                tokio::time::sleep(Duration::from_millis(slow)).await;
            }
        });
        (whom, mine)
    });
    for deed in deeds {
        match deed {
            Deed::Touch(target, n) => {
                let entry = entry(&format!("t-{target}"), n);
                table.lock().unwrap().insert(entry.target.clone(), entry.clone());
                hub.delta(at(0), None, vec![entry]);
            }
            Deed::Beat => hub.heartbeat(at(0), None),
            Deed::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Deed::Cut(bytes) => *net.cut_after.lock().unwrap() = Some(bytes),
            Deed::Away(away) => {
                let url = if away { "http://away:1" } else { URL };
                for (whom, _) in &followers {
                    whom.send_replace(Some(Leader { url: url.to_owned(), ..leader(5) }));
                }
            }
        }
    }
    for (whom, _) in &followers {
        whom.send_replace(Some(leader(5)));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let truth: Table = table.lock().unwrap().iter().map(|(t, e)| (t.clone(), essence(e))).collect();
    for (_, mine) in &followers {
        let mine: Table = mine.lock().unwrap().iter().map(|(t, e)| (t.clone(), essence(e))).collect();
        assert_eq!(mine, truth);
    }
    leads.abort();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_dropped_and_cut_followers_have_after_quiet_what_the_leader_has(deeds in deeds(), chunk in 0usize..300, slow in 0u64..1500) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(deeds, chunk, [0, slow]));
    }
}
