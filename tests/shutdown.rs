//! SIGTERM (design section 4.2): not ready first, the lead handed over at once, true answers for the drain delay, exit 0; a
//! second signal at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[allow(dead_code)]
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/etcd_ctl.rs"]
mod etcd_ctl;
#[path = "support/gateway.rs"]
mod gateway;
#[path = "support/http.rs"]
mod http;
#[path = "support/node.rs"]
mod node;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/signal.rs"]
mod signal;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use gateway::{Behaviour, Gateway};
use http::{get, get_json, wait_for};
use node::Node;

const SOON: Duration = Duration::from_secs(15);

/// The status and header lines of an answer to a client that would keep its connection.
fn head(addr: SocketAddr, path: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines().map(|l| l.unwrap().to_lowercase());
    lines.take_while(|l| !l.is_empty()).collect()
}

fn status(node: &Node) -> serde_json::Value {
    get_json(node.addr, "/api/v1/node")
}

#[test]
fn a_draining_node_hands_over_at_once_and_goes_on_answering() {
    let (etcd, gateway) = (etcd::Member::single(&[]), Gateway::start());
    wait_for("etcd", SOON, || TcpStream::connect(("127.0.0.1", etcd.port)), Result::is_ok).unwrap();
    for (key, value) in [("healthcheck-categories/read/period_seconds", "1"), ("healthcheck/foo-1/categories", "read")]
    {
        etcd_ctl::etcdctl(&etcd.url, &["put", &format!("/ft/{key}"), value]);
    }
    let vulcand = gateway.addr.to_string();
    let start = |name| {
        let args = ["--etcd-endpoints", &etcd.url, "--vulcand", &vulcand, "--node", name, "--region", "eu"];
        let node = Node::start(&[&args[..], &["--drain-delay", "12s"]].concat());
        wait_for("good to go", SOON, || get(node.addr, "/__gtg?categories=read"), |a| a.status == 200);
        node
    };
    let old = start("a");
    wait_for("leads", SOON, || status(&old), |s| s["role"] == "leader");
    let new = start("b");
    wait_for("follows", SOON, || status(&new), |s| s["role"] == "follower" && s["leader"] == "a");
    assert!(!head(old.addr, "/__gtg").contains(&"connection: close".to_owned()));

    let began = Instant::now();
    old.signal("TERM");
    while status(&new)["role"] != "leader" {
        assert!(began.elapsed() < SOON, "nobody leads");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let took = began.elapsed();
    println!("the other leads {took:?} after SIGTERM (to reach: 250 ms)");
    assert!(took < Duration::from_secs(2), "not after the delay: {took:?}");
    assert_eq!(get(old.addr, "/__ready").status, 503, "it turns first");
    let said = status(&old);
    assert_eq!((&said["ready"], &said["static_leader"]), (&false.into(), &false.into()), "{said}");
    let lines = head(old.addr, "/__gtg?categories=read");
    assert!(lines[0].contains(" 200 ") && lines.contains(&"connection: close".to_owned()), "{lines:?}");

    // What fails now is seen by the one that leads, and told by both.
    gateway.set("foo-1", Behaviour::Failing);
    for node in [&new, &old] {
        wait_for("the truth", Duration::from_secs(9), || get(node.addr, "/__gtg?categories=read"), |a| a.status == 503);
    }
    let said = status(&old);
    assert_eq!((&said["role"], &said["store"]), (&"follower".into(), &"ok".into()), "{said}");
    assert!(said["leader"].is_null() || said["leader"] == "b", "{said}");
    assert_eq!(old.end(), Some(0));
    let lived = began.elapsed();
    println!("it ended {lived:?} after SIGTERM, with a drain delay of 12 s");
    assert!(lived > Duration::from_secs(11), "{lived:?}");
    new.kill();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let node = Node::start(&["--drain-delay", "10m"]);
    wait_for("ready", SOON, || get(node.addr, "/__ready"), |a| a.status == 200);
    node.signal("TERM");
    wait_for("not ready", SOON, || get(node.addr, "/__ready"), |a| a.status == 503);
    assert_eq!(get(node.addr, "/__live").status, 200);
    let began = Instant::now();
    node.signal("TERM");
    assert_eq!(node.end(), Some(1));
    println!("ended {:?} after the second signal", began.elapsed());
}
