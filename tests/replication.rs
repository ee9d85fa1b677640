//! The leader's stream over real sockets: a listener with a hub behind it, the real HTTP peers, and a follower.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(dead_code)]

#[path = "support/ports.rs"]
mod ports;
#[path = "support/web_server.rs"]
mod web_server;
#[path = "support/web_view.rs"]
mod web_view;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bellwether::{
    chance::Chance,
    clock::Clock,
    evaluation::health::Counters,
    model::{Health, HealthState, Mono, NodeName, Now, Observation, Outcome, TargetName, Timestamp},
    replication::{
        Entry, Heard, HttpPeers, Hub, Leader, NotServing, PeerError, PeerFiles, Peers, Refreshed, Seen, Serving,
        follow, frame::Decoder, hub::Limits, wire,
    },
    web::{
        Doors, Options, TlsFiles, Token,
        port::{ClusterError, ClusterPort, Lines},
    },
};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use web_server::{Running, options, start_cluster};
use web_view::Fixture;

const SOON: Duration = Duration::from_secs(30);
const TERM: i64 = 5;

/// What `controller` does for the routes.
struct HubPort(Hub);

#[async_trait]
impl ClusterPort for HubPort {
    fn may_write(&self) -> bool {
        true
    }

    fn subscribe(&self, after: Option<(i64, u64)>) -> Result<Lines, ClusterError> {
        match self.0.subscribe(after) {
            Ok(subscription) => Ok(Box::pin(subscription.lines())),
            Err(NotServing::TooMany) => Err(ClusterError::TooMany),
            Err(error) => Err(ClusterError::NotServing(error.to_string())),
        }
    }

    async fn refresh(&self, targets: Vec<TargetName>) -> Result<Bytes, ClusterError> {
        let entries = targets.iter().filter(|t| t.as_str() != "slow").map(|t| entry(t.as_str(), "fresh")).collect();
        let not_refreshed = targets.into_iter().filter(|t| t.as_str() == "slow").collect();
        wire::refreshed(at(60_000), &Refreshed { entries, not_refreshed })
            .map_err(|e| ClusterError::Other(e.to_string()))
    }

    async fn witness(&self, targets: Vec<TargetName>) -> Result<Bytes, ClusterError> {
        let seen = |target: TargetName| {
            let observation = entry(target.as_str(), "seen").observation.unwrap();
            Seen { target, observation }
        };
        let seen: Vec<Seen> = targets.into_iter().map(seen).collect();
        wire::witnessed(at(1000), &seen).map_err(|e| ClusterError::Other(e.to_string()))
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn target(text: &str) -> TargetName {
    TargetName::new(text).unwrap()
}

fn entry(name: &str, output: &str) -> Entry {
    let now = Now { wall: at(0), mono: Mono::default() };
    Entry {
        target: target(name),
        health: Health { state: HealthState::Up, term: TERM, n: 1, ..Health::unknown(now.wall) },
        counters: Counters::default(),
        observation: Some(Arc::new(Observation::plain(Outcome::Good, Duration::from_millis(12), output, now))),
    }
}

fn serving(limits: Limits) -> Hub {
    let hub = Hub::new(limits);
    hub.serve(Some(Serving { node: NodeName::new("a").unwrap(), term: TERM, degraded: false }));
    hub
}

async fn listen(hub: &Hub, options: Options, doors: Doors) -> Running {
    start_cluster(Fixture::default().view(), options, doors, Arc::new(HubPort(hub.clone()))).await
}

fn peers(files: PeerFiles) -> HttpPeers {
    HttpPeers::new(files, Clock::system())
}

struct Follower {
    whom: watch::Sender<Option<Leader>>,
    heard: mpsc::Receiver<Heard>,
    cancel: CancellationToken,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn follow_at(url: &str) -> Follower {
    let leader = Leader { node: NodeName::new("a").unwrap(), url: url.to_owned(), term: TERM };
    let (whom, watched) = watch::channel(Some(leader));
    let cancel = CancellationToken::new();
    let peers = Arc::new(peers(PeerFiles::default()));
    let (heard, _) = follow::spawn(peers, Clock::system(), Chance::seeded(1), watched, cancel.clone());
    Follower { whom, heard, cancel }
}

impl Follower {
    async fn next(&mut self) -> Heard {
        tokio::time::timeout(SOON, self.heard.recv()).await.expect("in time").expect("goes on")
    }

    /// Reads on until `wanted`; what came before is returned with it.
    async fn until(&mut self, wanted: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if wanted(all.last().unwrap()) {
                return all;
            }
        }
    }
}

/// A relay whose connections can be cut.
struct Relay {
    address: SocketAddr,
    cut: watch::Sender<u32>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.borrow_and_update();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut }
    }
}

#[tokio::test]
async fn a_follower_hears_the_leader_and_resumes_after_a_cut() {
    let hub = serving(Limits::default());
    let server = listen(&hub, options(), Doors::default()).await;
    let relay = Relay::to(server.address).await;
    let mut f = follow_at(&format!("http://{}", relay.address));
    assert_eq!(f.next().await, Heard::Connected);
    tokio::time::timeout(SOON, hub.full_wanted()).await.expect("a full frame is wanted");
    let many: Vec<Entry> = (0..3000).map(|n| entry(&format!("t-{n}"), "first")).collect();
    hub.full(at(0), None, many);
    let Heard::Full(head, entries) = f.next().await else { panic!("no full frame") };
    assert_eq!((head.term, head.seq, entries.len()), (TERM, 0, 3000));
    hub.delta(at(1), None, vec![entry("t-1", "second")]);
    assert!(matches!(f.next().await, Heard::Delta(head, _) if head.seq == 1));
    hub.heartbeat(at(2), Some(at(0)));
    assert!(matches!(f.next().await, Heard::Heartbeat(head) if head.graphite_mark == Some(at(0))));
    relay.cut.send_modify(|n| *n += 1);
    assert!(matches!(f.next().await, Heard::Lost { .. }));
    for _ in 0..3 {
        hub.delta(at(3), None, vec![entry("t-2", "third")]);
    }
    let all = f.until(|h| matches!(h, Heard::Delta(head, _) if head.seq == 4)).await;
    assert!(!all.iter().any(|h| matches!(h, Heard::Full(..))), "from the ring: {all:?}");
    assert!(!hub.wants_full());
    // It leads no more: the stream ends, and nobody is served.
    hub.serve(None);
    let lost = |h: &Heard| matches!(h, Heard::Lost { reason } if reason.contains("503") && reason.contains("lead"));
    f.until(lost).await;
    assert_eq!(hub.followers(), 0);
}

#[tokio::test]
async fn a_draining_node_ends_its_streams_and_takes_no_more() {
    let hub = serving(Limits::default());
    let server = listen(&hub, options(), Doors::default()).await;
    let mut f = follow_at(&format!("http://{}", server.address));
    assert_eq!(f.next().await, Heard::Connected);
    server.draining.cancel();
    let drains = |h: &Heard| matches!(h, Heard::Lost { reason } if reason.contains("503") && reason.contains("drains"));
    f.until(drains).await;
    assert_eq!(hub.followers(), 0);
}

#[tokio::test]
async fn other_questions_are_answered_on_the_asker_s_clock() {
    let hub = serving(Limits::default());
    let server = listen(&hub, options(), Doors::default()).await;
    let (peers, url) = (peers(PeerFiles::default()), format!("http://{}", server.address));
    let node = peers.node(&url).await.unwrap();
    assert_eq!(node.node, server.view.load().node.node);
    let before = Clock::system().mono();
    let answer = peers.refresh(&url, &[target("t-1"), target("slow")]).await.unwrap();
    assert_eq!((answer.entries.len(), answer.not_refreshed), (1, vec![target("slow")]));
    let observed = answer.entries[0].observation.clone().unwrap();
    let age = Clock::system().mono().since(observed.at.mono);
    assert!(age >= Duration::from_secs(60).min(before.elapsed()), "{age:?}");
    let seen = peers.witness(&url, &[target("t-9")]).await.unwrap();
    assert_eq!((seen.len(), &*seen[0].observation.output), (1, "seen"));
    let too_many: Vec<TargetName> = (0..17).map(|n| target(&format!("t-{n}"))).collect();
    let refused = peers.witness(&url, &too_many).await.unwrap_err();
    assert!(matches!(&refused, PeerError::Refused { reason, .. } if reason.contains("at most 16")), "{refused}");
    let nobody = ports::nobody();
    let refused = peers.node(&format!("http://{nobody}")).await.unwrap_err();
    assert!(matches!(&refused, PeerError::Unreachable { .. }), "{refused}");
    for wrong in ["127.0.0.1:80", "ftp://a", "http://u:p@127.0.0.1:1", "http://a b", ""] {
        assert!(matches!(peers.node(wrong).await, Err(PeerError::Unreachable { .. })), "{wrong}");
    }
}

#[tokio::test]
async fn nodes_need_the_token_once_one_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, token: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, token).unwrap();
        path
    };
    let hub = serving(Limits::default());
    let token = Token::from_file("--cluster-token-file", &file("server", "geheim\n")).unwrap();
    let doors = Doors { cluster_token: Some(token), ..Doors::default() };
    let server = listen(&hub, Options { reload_every: Duration::from_millis(20), ..options() }, doors).await;
    let url = format!("http://{}", server.address);
    let with = |path: PathBuf| peers(PeerFiles { token: Some(path), ..PeerFiles::default() });
    let why = |e: Result<mpsc::Receiver<Bytes>, PeerError>| e.unwrap_err().to_string();
    let none = why(peers(PeerFiles::default()).stream(&url, None).await);
    assert!(none.contains("401") && none.contains("cluster token"), "{none}");
    let wrong = why(with(file("wrong", "geheimer")).stream(&url, None).await);
    assert!(wrong.contains("403") && !wrong.contains("geheim"), "{wrong}");
    let missing = why(with(dir.path().join("missing")).stream(&url, None).await);
    assert!(missing.contains("--cluster-token-file"), "{missing}");
    let mine = file("mine", " geheim \n");
    let right = with(mine.clone());
    let stream = right.stream(&url, None).await.unwrap();
    assert_eq!(hub.followers(), 1);
    drop(stream);
    assert!(right.witness(&url, &[target("t-1")]).await.is_ok());
    assert!(peers(PeerFiles::default()).node(&url).await.is_ok(), "open to all");
    // A new token comes into force on both sides without a restart; a moment without a file is bridged.
    std::fs::remove_file(&mine).unwrap();
    assert!(right.witness(&url, &[target("t-1")]).await.is_ok());
    file("server", "neu");
    file("mine", "neu");
    let deadline = tokio::time::Instant::now() + SOON;
    while right.witness(&url, &[target("t-1")]).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the new token is taken");
        tokio::task::yield_now().await;
    }
}

/// A CA with leaves, as files.
fn certificates(dir: &Path) -> impl Fn(&str, &str) -> PathBuf {
    let issuer = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    for name in ["ours", "theirs"] {
        let issuer = issuer(name);
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.join(format!("{name}.ca")), issuer.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), leaf.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let dir = dir.to_owned();
    move |name, kind| dir.join(format!("{name}.{kind}"))
}

#[tokio::test]
async fn nodes_show_their_certificate_where_the_listener_wants_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = certificates(dir.path());
    let identity = |name: &str| (path(name, "pem"), path(name, "key"));
    let hub = serving(Limits::default());
    let tls = TlsFiles { cert: path("ours", "pem"), key: path("ours", "key"), client_ca: Some(path("ours", "ca")) };
    let server = listen(&hub, Options { tls: Some(tls), ..options() }, Doors::default()).await;
    let url = format!("https://127.0.0.1:{}", server.address.port());
    let files = |name: &str| PeerFiles { ca: Some(path("ours", "ca")), identity: Some(identity(name)), token: None };
    let mut stream = peers(files("ours")).stream(&url, None).await.unwrap();
    tokio::time::timeout(SOON, hub.full_wanted()).await.expect("a full frame is wanted");
    hub.full(at(0), None, vec![entry("t-1", "x")]);
    assert!(tokio::time::timeout(SOON, stream.recv()).await.unwrap().is_some());
    // A name in the URL is looked up, and checked against the certificate.
    assert!(peers(files("ours")).node(&format!("https://localhost:{}", server.address.port())).await.is_ok());
    let fails = |files: PeerFiles| {
        let (peers, url) = (peers(files), url.clone());
        async move { peers.node(&url).await.unwrap_err().to_string() }
    };
    fails(PeerFiles { identity: None, ..files("ours") }).await;
    fails(files("theirs")).await;
    let stranger = fails(PeerFiles { ca: None, ..files("ours") }).await;
    assert!(stranger.contains("TLS"), "{stranger}");
    // Files that change are read for the next connection.
    let swapped = (dir.path().join("node.pem"), dir.path().join("node.key"));
    let put = |name: &str| {
        std::fs::copy(path(name, "pem"), &swapped.0).unwrap();
        std::fs::copy(path(name, "key"), &swapped.1).unwrap();
    };
    put("theirs");
    let node = peers(PeerFiles { identity: Some(swapped.clone()), ..files("ours") });
    assert!(node.node(&url).await.is_err());
    put("ours");
    assert!(node.node(&url).await.is_ok());
}

#[tokio::test]
async fn a_reader_that_stops_gets_a_full_frame_and_nobody_waits_for_it() {
    let hub = serving(Limits { lag_frames: 20, ..Limits::default() });
    let server = listen(&hub, options(), Doors::default()).await;
    let peers = peers(PeerFiles::default());
    let mut stream = peers.stream(&format!("http://{}", server.address), Some((TERM, 0))).await.unwrap();
    let text = "x".repeat(4000);
    let (mut truth, mut rounds) = (BTreeMap::new(), 0);
    // As much as the system's buffers take, and then more.
    while hub.stats().lag <= 30 {
        let round: u64 = rounds;
        assert!(round < 1000, "nothing holds it back: {:?}", hub.stats());
        rounds += 1;
        let entries: Vec<Entry> = (0..60).map(|n| entry(&format!("t-{n}"), &format!("{round} {text}"))).collect();
        truth = entries.iter().map(|e| (e.target.clone(), e.observation.clone().unwrap().output.clone())).collect();
        hub.delta(at(0), None, entries);
        tokio::task::yield_now().await;
    }
    let fulls = tokio::spawn({
        let (hub, truth) = (hub.clone(), truth.clone());
        async move {
            hub.full_wanted().await;
            hub.full(at(200), None, truth.iter().map(|(t, output)| entry(t.as_str(), output)).collect());
        }
    });
    let (mut decoder, mut mine, mut last) = (Decoder::default(), BTreeMap::new(), 0);
    while last < rounds {
        let chunk = tokio::time::timeout(SOON, stream.recv()).await.expect("in time").expect("goes on");
        decoder.push(&chunk);
        while let Some(frame) = decoder.next(Mono::default()).unwrap() {
            use bellwether::replication::Frame::{Delta, Full, Heartbeat};
            let (head, entries) = match frame {
                Full(head, entries) => {
                    mine.clear();
                    (head, entries)
                }
                Delta(head, entries) => (head, entries),
                Heartbeat(head) => (head, Vec::new()),
            };
            last = head.seq;
            mine.extend(entries.into_iter().map(|e| (e.target, e.observation.unwrap().output.clone())));
        }
    }
    tokio::time::timeout(SOON, fulls).await.expect("a full frame was wanted").unwrap();
    assert_eq!(mine, truth);
    assert_eq!(hub.stats().resyncs, 1);
}
