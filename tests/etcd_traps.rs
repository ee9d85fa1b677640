//! The traps of etcd and its client that can be provoked, on real members: killed, paused, silent, compacted, full, locked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/etcd.rs"]
#[allow(dead_code)]
mod etcd;
#[path = "support/feed.rs"]
#[allow(dead_code)]
mod feed;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "support/signal.rs"]
mod signal;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bellwether::model::secret::Secret;
use bellwether::store::etcd::{Credentials, TlsFiles};
use bellwether::store::{
    Compare, Etcd, EtcdOptions, LeaseId, Op, Store, StoreError, Txn, TxnOutcome, WatchMessage, write_batches,
};
use bytes::Bytes;
use tokio::time::Instant;

use self::etcd::Member;
use self::feed::{Reader, content};
use self::proxy::{Mode, Proxy};

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), lease: None }
}

async fn write(store: &dyn Store, ops: Vec<Op>) -> Result<TxnOutcome, StoreError> {
    store.txn(Txn { compares: vec![], ops }).await
}

fn store(urls: &[&str]) -> Arc<Etcd> {
    Arc::new(Etcd::new(EtcdOptions::new(urls.iter().copied(), "/ft")).unwrap())
}

async fn three() -> (Vec<Member>, Arc<Etcd>) {
    let members = etcd::cluster(3, &[], "http");
    let urls: Vec<_> = members.iter().map(|m| m.url.as_str()).collect();
    let store = store(&urls);
    etcd::ready(&*store).await;
    (members, store)
}

/// Writes `from..to`, trying again until each is in.
async fn numbers(store: &dyn Store, from: u32, to: u32) {
    for i in from..to {
        while write(store, vec![put(&format!("a/{i}"), "x")]).await.is_err() {}
    }
}

/// Keeps a lease until `until`, then returns the longest time between two renewals that were answered.
async fn keep(store: Arc<Etcd>, lease: LeaseId, until: Instant) -> Result<Duration, StoreError> {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while Instant::now() < until {
        match store.renew(lease).await {
            Ok(_) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error),
        }
    }
    Ok(longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_costs_no_event_and_no_lease() {
    let (mut members, store) = three().await;
    let mut reader = Reader::start(Arc::clone(&store) as Arc<dyn Store>, &["a/"]);
    reader.until("synced").await;
    let (lease, _) = store.grant(Duration::from_secs(5)).await.unwrap();
    let renewals = tokio::spawn(keep(Arc::clone(&store), lease, Instant::now() + Duration::from_secs(6)));
    numbers(&*store, 0, 20).await;
    // The one in use: the first of the list.
    members[0].kill();
    let killed = Instant::now();
    numbers(&*store, 20, 21).await;
    let gap = killed.elapsed();
    numbers(&*store, 21, 60).await;
    reader.until_equal(&content(&*store, "a/").await).await;
    assert!(gap < Duration::from_secs(4), "writes stood still for {gap:?}");
    let longest = renewals.await.unwrap().expect("the lease is kept");
    assert!(longest < Duration::from_secs(4), "{longest:?} between two renewals");
    let pair = store.get("a/59").await.unwrap().1;
    assert!(pair.is_some() && reader.seen.iter().all(|w| *w != "reset"), "{:?}", reader.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_member_is_left_and_its_watch_found_dead() {
    let (members, store) = three().await;
    let mut reader = Reader::start(Arc::clone(&store) as Arc<dyn Store>, &["a/"]);
    reader.until("synced").await;
    numbers(&*store, 0, 5).await;
    reader.until_equal(&content(&*store, "a/").await).await;
    members[0].pause();
    let paused = Instant::now();
    numbers(&*store, 5, 10).await;
    let gap = paused.elapsed();
    reader.until_equal(&content(&*store, "a/").await).await;
    let told = paused.elapsed();
    members[0].resume();
    assert!(gap < Duration::from_secs(5), "writes stood still for {gap:?}");
    assert!(told < Duration::from_secs(9), "the feed stood still for {told:?}");
    numbers(&*store, 10, 20).await;
    reader.until_equal(&content(&*store, "a/").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_found_dead_and_nothing_is_lost() {
    let member = Member::single(&[]);
    let direct = member.store();
    etcd::ready(&direct).await;
    let proxy = Proxy::start(member.port).await;
    let store = store(&[&proxy.url()]);
    let mut reader = Reader::start(Arc::clone(&store) as Arc<dyn Store>, &["a/"]);
    reader.until("synced").await;
    let mut raw = store.watch(&["a/".to_owned()], 1).await.unwrap();
    for (round, mode) in [Mode::HalfOpen, Mode::Blackhole].into_iter().enumerate() {
        proxy.set(mode);
        let silent = Instant::now();
        let from = u32::try_from(round).unwrap() * 5;
        numbers(&direct, from, from + 5).await;
        let closed = async { while raw.recv().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(6), closed).await.expect("the raw watch closes by itself");
        let took = silent.elapsed();
        assert!(took < Duration::from_secs(5), "found dead after {took:?}");
        let renewal = Instant::now();
        assert!(matches!(store.renew(LeaseId(1)).await, Err(StoreError::Unavailable { .. })));
        assert!(renewal.elapsed() < Duration::from_millis(1300), "{:?}", renewal.elapsed());
        let call = Instant::now();
        let error = store.get("a/1").await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains(&proxy.url()), "{error}");
        assert!(call.elapsed() < Duration::from_secs(6), "{:?}", call.elapsed());
        proxy.set(Mode::Pass);
        proxy.cut();
        reader.until_equal(&content(&direct, "a/").await).await;
        raw = store.watch(&["a/".to_owned()], 1).await.unwrap();
    }
    assert_eq!(reader.puts, 5 + 5, "all that was written, once");
    // Slow is not dead.
    proxy.set(Mode::Delay(Duration::from_millis(150)));
    numbers(&direct, 10, 12).await;
    reader.until_equal(&content(&direct, "a/").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_watch_stays_open_and_its_progress_moves_nothing() {
    let member = Member::single(&[]);
    let store = Arc::new(member.store());
    etcd::ready(&*store).await;
    let (from, _) = store.get("x").await.unwrap();
    let mut watch = store.watch(&["quiet/".to_owned()], from + 1).await.unwrap();
    let mut alive = 0;
    // Longer than the 5 s after which etcd closes connections that are pinged too often. First nobody writes at all: then
    // the watch lies ahead of the store, and etcd 3.5 answers no question about it.
    let opened = Instant::now();
    while opened.elapsed() < Duration::from_millis(7500) {
        if opened.elapsed() > Duration::from_millis(4200) {
            write(&*store, vec![put("busy", "x")]).await.unwrap();
        }
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(100), watch.recv()).await {
            assert_eq!(message, Some(WatchMessage::Alive), "after {:?}", opened.elapsed());
            alive += 1;
        }
    }
    assert!((5..=10).contains(&alive), "about one sign of life each second: {alive}");
    write(&*store, vec![put("quiet/1", "x")]).await.unwrap();
    loop {
        match watch.recv().await.unwrap() {
            WatchMessage::Alive => {}
            WatchMessage::Events(events) => break assert_eq!(events[0].key(), "quiet/1"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_another_history() {
    let mut member = Member::single(&[]);
    let store = Arc::new(member.store());
    etcd::ready(&*store).await;
    numbers(&*store, 0, 3).await;
    let mut reader = Reader::start(Arc::clone(&store) as Arc<dyn Store>, &["a/"]);
    reader.until("synced").await;
    member.kill();
    let backup = tempfile::tempdir().unwrap();
    let copy = backup.path().join("data");
    assert!(Command::new("cp").arg("-a").arg(member.data()).arg(&copy).status().unwrap().success());
    member.restart();
    etcd::ready(&*store).await;
    numbers(&*store, 3, 20).await;
    reader.until_equal(&content(&*store, "a/").await).await;
    member.kill();
    member.restart_with_data_of(&copy);
    etcd::ready(&*store).await;
    reader.until("reset").await;
    assert_eq!(reader.told.len(), 3);
    numbers(&*store, 5, 6).await;
    reader.until_equal(&content(&*store, "a/").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_that_has_grown_past_what_was_known_is_another_history() {
    let mut member = Member::single(&[]);
    let direct = member.store();
    etcd::ready(&direct).await;
    let proxy = Proxy::start(member.port).await;
    let mut reader = Reader::start(store(&[&proxy.url()]), &["a/"]);
    write(&direct, vec![put("a/kept", "x")]).await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    let backup = backup.path().join("backup.db");
    member.ctl(&["snapshot", "save", &backup.display().to_string()]);
    write(&direct, vec![put("a/lost", "x")]).await.unwrap();
    reader.until_equal(&content(&direct, "a/").await).await;
    // Nobody's key is older than it was known, and the revision is higher, before the feed sees any of it.
    proxy.set(Mode::Refuse);
    proxy.cut();
    member.kill();
    member.restart_from_snapshot(&backup);
    let direct = member.store();
    etcd::ready(&direct).await;
    for i in 0..5 {
        write(&direct, vec![put("other", &i.to_string())]).await.unwrap();
    }
    proxy.set(Mode::Pass);
    reader.until("reset").await;
    assert_eq!(reader.told, content(&direct, "a/").await);
    assert_eq!(reader.told.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_says_so_and_goes_on_reading_and_renewing() {
    let member = Member::single(&["--quota-backend-bytes=6291456"]);
    let store = member.store();
    etcd::ready(&store).await;
    let (lease, _) = store.grant(Duration::from_secs(60)).await.unwrap();
    let value = "x".repeat(1 << 20);
    let mut refused = None;
    for i in 0..20 {
        match write(&store, vec![put(&format!("a/{i}"), &value)]).await {
            Ok(_) => {}
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(StoreError::NoSpace(_))), "{refused:?}");
    let again = store.grant(Duration::from_secs(60)).await;
    assert!(matches!(again, Err(StoreError::NoSpace(_))), "{again:?}");
    assert!(store.get("a/0").await.unwrap().1.is_some());
    assert!(store.list("a/", None).await.unwrap().pairs.len() >= 3);
    store.renew(lease).await.unwrap();
    write(&store, vec![Op::Delete("a/0".to_owned())]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_are_listed_watched_and_batched() {
    let member = Member::single(&[]);
    let store = member.store();
    etcd::ready(&store).await;
    let (from, _) = store.get("x").await.unwrap();
    let mut watch = store.watch(&["a/".to_owned()], from + 1).await.unwrap();
    // 80 MB: over the limit of one reply, so that pages must shrink, and over gRPC's own 4 MB many times.
    let value = "x".repeat(400_000);
    let ops = (0..200).map(|i| put(&format!("a/{i:03}"), &value)).collect();
    write_batches(&store, ops, &[]).await.unwrap();
    let listing = store.list("a/", None).await.unwrap();
    assert_eq!(listing.pairs.len(), 200);
    let mut told = 0;
    while told < 200 {
        if let Some(WatchMessage::Events(events)) = watch.recv().await {
            told += events.len();
        }
    }
    let oversized = "x".repeat(1_536 << 10);
    let refused = write(&store, vec![put("a/x", &oversized)]).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_are_down_or_silent_are_passed_over() {
    let member = Member::single(&[]);
    let direct = member.store();
    etcd::ready(&direct).await;
    let down = ports::nobody().to_string();
    let proxy = Proxy::start(member.port).await;
    proxy.set(Mode::Blackhole);
    let bare = format!("{down},{},127.0.0.1:{}", proxy.address, member.port);
    let store = Etcd::new(EtcdOptions::new([bare], "/ft")).unwrap();
    let first = Instant::now();
    store.get("x").await.unwrap();
    assert!(first.elapsed() < Duration::from_secs(3), "{:?}", first.elapsed());
    let tried = proxy.accepted();
    assert!(tried > 0);
    for _ in 0..20 {
        store.get("x").await.unwrap();
    }
    assert_eq!(proxy.accepted(), tried, "it stays where it was answered");
    let nowhere = Etcd::new(EtcdOptions::new([&down], "/ft")).unwrap();
    let error = nowhere.get("x").await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { reason, .. } if reason.contains(&down)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_neither_written_twice_nor_reported_as_refused() {
    let member = Member::single(&[]);
    let direct = member.store();
    etcd::ready(&direct).await;
    let proxy = Proxy::start(member.port).await;
    let store = store(&[&proxy.url(), &member.url]);
    let (lease, _) = store.grant(Duration::from_secs(60)).await.unwrap();
    // It is the first endpoint's connection that loses the reply; the second endpoint gets the repetition.
    store.get("x").await.unwrap();
    proxy.set(Mode::HalfOpen);
    let op = Op::Put { key: "leader".to_owned(), value: "me".into(), lease: Some(lease) };
    let txn = Txn { compares: vec![Compare::Absent("leader".to_owned())], ops: vec![op] };
    let outcome = store.txn(txn.clone()).await.unwrap();
    let (revision, pair) = direct.get("leader").await.unwrap();
    let pair = pair.expect("it is written");
    assert_eq!((pair.create_revision, pair.mod_revision, revision), (revision, revision, revision), "once");
    assert_eq!(outcome, TxnOutcome::Done { revision: pair.create_revision });
    assert!(matches!(store.txn(txn).await.unwrap(), TxnOutcome::Refused { .. }), "an honest refusal stays one");
    // Without a guard nothing is repeated: the caller is told that it is unclear.
    proxy.set(Mode::Pass);
    let alone = Etcd::new(EtcdOptions::new([proxy.url()], "/ft")).unwrap();
    alone.get("x").await.unwrap();
    proxy.set(Mode::HalfOpen);
    let unclear = write(&alone, vec![put("n", "1")]).await.unwrap_err();
    assert!(unclear.is_ambiguous(), "{unclear}");
    assert_eq!(direct.get("n").await.unwrap().1.unwrap().mod_revision, revision + 1);
}

fn with_user(url: &str, name: &str, password: &str) -> Etcd {
    let mut options = EtcdOptions::new([url], "/ft");
    options.user = Some(Credentials { name: name.to_owned(), password: Secret::Inline(password.to_owned()) });
    Etcd::new(options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_passwords_and_roles_are_kept_to() {
    // Tokens live 2 s: they run out while the test runs.
    let member = Member::single(&["--auth-token-ttl=2"]);
    etcd::ready(&member.store()).await;
    let before = with_user(&member.url, "bell", "secret");
    before.get("x").await.expect("while authentication is off a user is no hindrance");
    for args in [
        &["user", "add", "root:root"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "bell:secret"],
        &["role", "add", "bell"],
        &["role", "grant-permission", "--prefix=true", "bell", "readwrite", "/ft/a/"],
        &["user", "grant-role", "bell", "bell"],
        &["auth", "enable"],
    ] {
        member.ctl(args);
    }
    let store = Arc::new(with_user(&member.url, "bell", "secret"));
    write(&*store, vec![put("a/1", "x")]).await.unwrap();
    let denied = store.get("b/1").await.unwrap_err();
    assert!(matches!(&denied, StoreError::Denied(m) if m.contains("b/1")), "{denied}");
    let denied = write(&*store, vec![put("b/1", "x")]).await.unwrap_err();
    assert!(matches!(&denied, StoreError::Denied(m) if m.contains("b/1")), "{denied}");
    let denied = store.watch(&["a/".to_owned(), "b/".to_owned()], 1).await.unwrap_err();
    assert!(matches!(&denied, StoreError::Denied(m) if m.contains("b/")), "{denied}");
    write(&before, vec![put("a/0", "x")]).await.expect("a client from before authentication was on finds its way");
    let wrong = with_user(&member.url, "bell", "wrong").get("a/1").await.unwrap_err();
    assert!(matches!(&wrong, StoreError::Denied(_)) && !wrong.to_string().contains("wrong"), "{wrong}");
    let nobody = member.store().get("a/1").await.unwrap_err();
    assert!(matches!(&nobody, StoreError::Denied(_)), "{nobody}");
    let mut reader = Reader::start(Arc::clone(&store) as Arc<dyn Store>, &["a/"]);
    reader.until("synced").await;
    tokio::time::sleep(Duration::from_millis(4500)).await;
    let (lease, _) = store.grant(Duration::from_secs(5)).await.unwrap();
    store.renew(lease).await.unwrap();
    write(&*store, vec![put("a/2", "x")]).await.unwrap();
    store.watch(&["a/".to_owned()], 1).await.expect("a token that ran out is renewed");
    reader.until_equal(&content(&*store, "a/").await).await;
    // A changed password is read again from its file.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    let mut options = EtcdOptions::new([&member.url], "/ft");
    let password = Secret::File { file: file.path().to_owned() };
    options.user = Some(Credentials { name: "bell".to_owned(), password });
    let by_file = Etcd::new(options).unwrap();
    by_file.get("a/1").await.unwrap();
    member.ctl_reading(&["--user=root:root", "user", "passwd", "bell", "--interactive=false"], "changed\nchanged\n");
    std::fs::write(file.path(), "changed\n").unwrap();
    by_file.get("a/1").await.expect("the new password is used");
    // A silent endpoint hangs in the very first step, authentication: that too has an end.
    let proxy = Proxy::start(member.port).await;
    proxy.set(Mode::Blackhole);
    let silent = with_user(&proxy.url(), "bell", "wrong");
    let call = Instant::now();
    assert!(matches!(silent.get("a/1").await, Err(StoreError::Unavailable { .. })));
    assert!(call.elapsed() < Duration::from_secs(6), "{:?}", call.elapsed());
}

struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        use rcgen::{
            BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
        };
        let dir = tempfile::tempdir().unwrap();
        let save = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        save("ca.pem", params.self_signed(&key).unwrap().pem());
        let ca = Issuer::new(params, key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
            // etcd's own gateway is a client of its server: it uses the server's certificate.
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            save(&format!("{name}.pem"), params.signed_by(&key, &ca).unwrap().pem());
            save(&format!("{name}.key"), key.serialize_pem());
        }
        Self { dir }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn server_args(&self) -> Vec<String> {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.path(name).display());
        let mut args = vec!["--client-cert-auth".to_owned()];
        args.extend([
            file("trusted-ca-file", "ca.pem"),
            file("cert-file", "server.pem"),
            file("key-file", "server.key"),
        ]);
        args
    }
    fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: Some(self.path("ca.pem")),
            cert: Some(self.path("client.pem")),
            key: Some(self.path("client.key")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_client_certificates_and_through_a_proxy() {
    let pki = Pki::new();
    let args = pki.server_args();
    let member = Member::single_tls(&args.iter().map(String::as_str).collect::<Vec<_>>());
    // Without a scheme: TLS files make it https.
    let mut options = EtcdOptions::new([format!("127.0.0.1:{}", member.port)], "/ft");
    options.tls = pki.files();
    let store = Etcd::new(options.clone()).unwrap();
    etcd::ready(&store).await;
    write(&store, vec![put("a/1", "x")]).await.unwrap();
    let mut stranger = options.clone();
    (stranger.tls.cert, stranger.tls.key) = (None, None);
    let error = Etcd::new(stranger).unwrap().get("a/1").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let (mut unknown, other) = (options.clone(), Pki::new());
    unknown.tls.ca = Some(other.path("ca.pem"));
    let error = Etcd::new(unknown).unwrap().get("a/1").await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "the reason is told: {error}");
    let mut missing = options.clone();
    missing.tls.ca = Some(pki.path("none.pem"));
    let error = Etcd::new(missing).unwrap().get("a/1").await.unwrap_err();
    assert!(error.to_string().contains("none.pem"), "{error}");
    let socks = Socks::start().await;
    options.socks_proxy = Some(socks.address.clone());
    let through = Etcd::new(options).unwrap();
    assert!(through.get("a/1").await.unwrap().1.is_some());
}

struct Socks {
    child: Child,
    address: String,
}

impl Socks {
    async fn start() -> Self {
        let port = ports::free();
        let child = Command::new("microsocks")
            .args(["-i", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("microsocks is installed (apt: microsocks)");
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), up).await.expect("microsocks listens");
        Self { child, address: format!("127.0.0.1:{port}") }
    }
}

impl Drop for Socks {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_etcd_through_socks() {
    let member = Member::single(&[]);
    etcd::ready(&member.store()).await;
    let mut socks = Socks::start().await;
    let mut options = EtcdOptions::new([&member.url], "/ft");
    options.socks_proxy = Some(format!("socks5://{}", socks.address));
    let store = Arc::new(Etcd::new(options).unwrap());
    let mut reader = Reader::start(Arc::clone(&store) as Arc<dyn Store>, &["a/"]);
    reader.until("synced").await;
    write(&*store, vec![put("a/1", "x")]).await.unwrap();
    reader.until_equal(&content(&*store, "a/").await).await;
    socks.child.kill().unwrap();
    socks.child.wait().unwrap();
    assert!(store.get("a/1").await.is_err(), "it did go through the proxy");
    reader.until("lost").await;
}
