//! A whole node in this process: start, ready, edits, end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{options::StoreOptions, *};
use crate::{
    model::{CategoryName, NodeName, Role, document::Document},
    web::port::{ApplyOptions, Edit, EditError},
};

const BOUND: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertise_url: None,
        node: NodeName::new("n1").unwrap(),
        region: None,
        environment: "test".to_owned(),
        store: StoreOptions::Embedded,
        root: "/ft".to_owned(),
        data_dir: None,
        catalog: None,
        mass_removal_hold: Duration::from_secs(30),
        session_ttl: Duration::from_secs(5),
        drain_delay: Duration::ZERO,
        gateway: None,
        socks_proxy: None,
        sev_1_apps: Vec::new(),
        max_probes: 100,
        max_probes_per_host: 10,
        sentinels: Vec::new(),
        graphite: None,
        statsd: None,
        metrics_targets: false,
        admin_token_file: None,
        admin_listen: None,
        cluster_token_file: None,
        cluster_ca: None,
        tls: None,
    }
}

async fn until(view: &Latest<View>, what: &str, holds: impl Fn(&View) -> bool) {
    let mut changes = view.changes();
    let wait = async {
        while !holds(&view.load()) {
            changes.wait().await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("{what} did not come: {:?}", view.load().node));
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn start_ready_edits_end() {
    let running = start(options()).await.unwrap();
    let (address, view, port) = (running.address(), running.view(), running.port());
    let (signal, asked) = tokio::sync::oneshot::channel::<()>();
    let node = tokio::spawn(running.run_until(async {
        let _ = asked.await;
    }));
    until(&view, "leader", |v| v.node.role == Role::Leader && v.node.ready).await;
    assert!(get(address, "/__ready").await.starts_with("HTTP/1.1 200"));
    let document: Document =
        serde_json::from_str(r#"{"targets": {"a-1": {"categories": ["read"], "url": "http://127.0.0.1:1/"}}}"#)
            .unwrap();
    let changes = port.apply(document, ApplyOptions { dry_run: false, prune: false }).await.unwrap();
    assert!(!changes.is_empty());
    until(&view, "the target", |v| v.catalog.target("a-1").is_some()).await;
    let read = CategoryName::new("read").unwrap();
    port.edit(Edit::Enabled { category: read.clone(), enabled: false, by: None, reason: None }).await.unwrap();
    until(&view, "the switch", |v| !v.catalog.categories[&read].enabled).await;
    assert!(get(address, "/__gtg?categories=read").await.contains("disabled"));
    let nobody = CategoryName::new("raed").unwrap();
    let refused = port.edit(Edit::Enabled { category: nobody, enabled: true, by: None, reason: None }).await;
    assert!(matches!(refused, Err(EditError::NotFound { nearest: Some(n), .. }) if n == "read"));
    signal.send(()).unwrap();
    tokio::time::timeout(BOUND, node).await.expect("it ends in time").unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ends_early_ends_the_node_and_is_named() {
    let mut running = start(options()).await.unwrap();
    running.tasks.spawn(Stage::State, "saboteur", async { Err::<(), _>("cut its own branch") });
    let ended = tokio::time::timeout(BOUND, running.run_until(std::future::pending())).await.expect("it ends in time");
    assert_eq!(ended.unwrap_err().to_string(), "saboteur ended: cut its own branch");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_advertised_url_is_one_that_others_can_use() {
    let given = |listen: &str, url: Option<&str>| {
        let options = Options { advertise_url: url.map(str::to_owned), ..options() };
        advertise(&options, listen.parse().unwrap())
    };
    assert_eq!(given("127.0.0.1:80", None), "http://127.0.0.1:80");
    assert_eq!(given("[2001:db8::1]:80", None), "http://[2001:db8::1]:80");
    let all = given("0.0.0.0:8080", None);
    assert!(!all.contains("0.0.0.0") && all.ends_with(":8080"), "{all}");
    assert_eq!(given("0.0.0.0:8080", Some("https://lb")), "https://lb");
}

#[test]
fn an_error_names_its_cause_once_alone_and_with_its_chain() {
    let disk = StoreError::Disk { reason: "opening x: gone".to_owned(), cause: Some("gone".into()) };
    let cause = std::io::Error::other("gone");
    let ended = TaskEnded { task: "session".to_owned(), reason: "gone".to_owned() };
    let errors = [
        RuntimeError::Store(disk),
        RuntimeError::File { flag: "--data-dir", path: "/x".to_owned(), cause },
        RuntimeError::Ended(ended),
    ];
    for error in errors {
        let alone = error.to_string();
        let chain = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(alone, chain);
        assert_eq!(chain.matches("gone").count(), 1, "{chain}");
    }
}
