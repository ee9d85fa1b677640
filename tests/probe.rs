//! The probe room over real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/ports.rs"]
mod ports;
#[path = "support/probe.rs"]
mod support;

use std::{
    io::Write,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use bellwether::{
    model::{
        Outcome,
        secret::Secret,
        target::{Auth, Check, Kind},
    },
    probe::{Engine, EngineConfig},
};
use support::*;

const FT_BAD: &str = r#"{"schemaVersion":1,"systemCode":"sys","checks":[
    {"id":"a","name":"A ok","ok":true},{"id":"b","name":"B broken","ok":false,"severity":1,"checkOutput":"no db"}]}"#;

#[tokio::test]
async fn an_ft_document_is_read_and_judged() {
    let server = answering(answer("200 OK", "application/json", FT_BAD), false);
    let mut engine = start(config());
    let seen = engine.once(check(Kind::Http, server.address)).await;
    let o = &seen.observation;
    assert_eq!((o.outcome, o.status), (Outcome::Bad, Some(200)));
    assert_eq!(&*o.output, "1 of 2 checks fail: B broken");
    assert_eq!(o.system_code.as_deref(), Some("sys"));
    let checks = o.checks.as_ref().unwrap();
    assert_eq!(checks.len(), 2);
    assert_eq!((&*checks[1].id, &*checks[1].check_output, checks[1].severity.get()), ("b", "no db", 1));
    assert!(seen.refreshed);
}

#[tokio::test]
async fn the_request_says_what_it_should() {
    let (sender, heard) = std::sync::mpsc::channel();
    let server = server(move |mut stream, _| {
        let request = read_request(&mut stream).unwrap();
        sender.send(request).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let mut engine = start(config());
    let mut asked = check(Kind::Http, server.address);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from file\r\n").unwrap();
    asked.path = "/a b\r\nX: y?q=ü".to_owned();
    asked.headers = vec![
        (http::HeaderName::from_static("x-one"), Secret::Inline("1".to_owned())),
        (http::HeaderName::from_static("x-two"), Secret::File { file: file.path().to_owned() }),
        (http::HeaderName::from_static("connection"), Secret::Inline("keep-alive".to_owned())),
    ];
    asked.auth = Some(Auth::Basic { user: "me".to_owned(), password: Secret::Inline("pw".to_owned()) });
    assert_eq!(engine.once(asked).await.observation.outcome, Outcome::Good);
    let request = heard.recv_timeout(PATIENCE).unwrap();
    let lines: Vec<&str> = request.split("\r\n").collect();
    assert_eq!(lines[0], "GET /a%20b%0D%0AX:%20y?q=%C3%BC HTTP/1.1");
    let agent = format!("User-Agent: bellwether/{}", env!("CARGO_PKG_VERSION"));
    for wanted in
        ["Host: svc", &agent, "x-one: 1", "x-two: from file", "Authorization: Basic bWU6cHc=", "Connection: close"]
    {
        assert_eq!(lines.iter().filter(|l| **l == wanted).count(), 1, "{wanted} in {request}");
    }
    assert!(lines.iter().any(|l| l.starts_with("Accept: application/json")));
    assert!(!request.to_lowercase().contains("keep-alive") && !request.to_lowercase().contains("accept-encoding"));
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_or_sent_is_told_without_its_text() {
    let server = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut engine = start(config());
    let mut asked = check(Kind::Http, server.address);
    asked.auth = Some(Auth::Bearer(Secret::File { file: "/nonexistent/token".into() }));
    let o = engine.once(asked.clone()).await.observation;
    assert_eq!(o.outcome, Outcome::Unreachable);
    assert!(o.output.starts_with("cannot read the secret in /nonexistent/token"), "{}", o.output);
    asked.auth = Some(Auth::Bearer(Secret::Inline("geheim\r\nX: y".to_owned())));
    let o = engine.once(asked).await.observation;
    assert_eq!(o.outcome, Outcome::Unreachable);
    assert!(o.output.contains("Authorization") && !o.output.contains("geheim"), "{}", o.output);
    assert_eq!(server.connections.load(SeqCst), 0);
}

#[tokio::test]
async fn answers_in_pieces_chunks_and_until_close() {
    let body = "x".repeat(300_000) + "END";
    let mut chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for part in body.as_bytes().chunks(7001) {
        chunked.push_str(&format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap()));
    }
    chunked.push_str("0\r\n\r\n");
    let until_close = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
    let mut engine = start(config());
    for text in [answer("200 OK", "text/plain", &body), chunked, until_close] {
        let server = answering(text, false);
        let mut asked = check(Kind::Http, server.address);
        asked.expect_body = Some("xEND".to_owned());
        let o = engine.once(asked).await.observation;
        assert_eq!((o.outcome, &*o.output), (Outcome::Good, "200 OK"));
    }
    let server = server(|mut stream, _| {
        read_request(&mut stream);
        for byte in answer("200 OK", "application/json", r#"{"checks":[{"ok":true}]}"#).bytes() {
            let _ = stream.write_all(&[byte]).and_then(|()| stream.flush());
        }
    });
    let o = engine.once(check(Kind::Http, server.address)).await.observation;
    assert_eq!((o.outcome, &*o.output), (Outcome::Good, "1 check ok"));
}

#[tokio::test]
async fn bad_servers_are_told_apart() {
    let mut engine = start(config());
    let outcome = async |engine: &mut Running, server: &Server| {
        let mut asked = check(Kind::Http, server.address);
        asked.timeout = Duration::from_millis(300);
        let o = engine.once(asked).await.observation;
        (o.outcome, o.output.to_string())
    };
    // Garbage, nothing, half an answer, too much.
    let (o, text) = outcome(&mut engine, &answering("SSH-2.0-OpenSSH\r\n\r\n", false)).await;
    assert_eq!(o, Outcome::Protocol, "{text}");
    let (o, text) = outcome(&mut engine, &answering("", false)).await;
    assert_eq!((o, text.as_str()), (Outcome::Protocol, "the connection was closed without an answer"));
    let (o, text) = outcome(&mut engine, &answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", false)).await;
    assert_eq!((o, text.as_str()), (Outcome::Protocol, "the connection was closed before the whole answer was in"));
    let giant = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1_100_000));
    let (o, text) = outcome(&mut engine, &answering(giant, false)).await;
    assert_eq!((o, text.as_str()), (Outcome::Protocol, "the body is over 1 MiB"));
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
    let (o, text) = outcome(&mut engine, &answering(endless, false)).await;
    assert_eq!((o, text.as_str()), (Outcome::Protocol, "the answer's head is over 32 KiB"));
    // Reset after the request.
    let resets = server(|mut stream, _| {
        read_request(&mut stream);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let (o, text) = outcome(&mut engine, &resets).await;
    assert_eq!((o, text.as_str()), (Outcome::Unreachable, "connection reset"));
    // Hangs before and inside the answer.
    for sent in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
        let hangs = server(move |mut stream, _| {
            read_request(&mut stream);
            let _ = stream.write_all(sent.as_bytes());
            let _ = read_request(&mut stream);
        });
        let (o, text) = outcome(&mut engine, &hangs).await;
        assert_eq!((o, text.as_str()), (Outcome::Timeout, "no answer within 0.3 s"));
    }
    // Nobody listens.
    let address = ports::nobody();
    let o = engine.once(check(Kind::Http, address)).await.observation;
    assert_eq!(
        (o.outcome, o.output.to_string()),
        (Outcome::Unreachable, format!("cannot connect to {address}: connection refused"))
    );
}

#[tokio::test]
async fn names_are_resolved() {
    let server = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut engine = start(config());
    let mut asked = check(Kind::Http, server.address);
    asked.host = "localhost".to_owned();
    assert_eq!(engine.once(asked.clone()).await.observation.outcome, Outcome::Good);
    asked.host = "no-such-name.invalid".to_owned();
    let o = engine.once(asked).await.observation;
    assert_eq!(o.outcome, Outcome::Unreachable);
    assert!(o.output.starts_with("cannot resolve no-such-name.invalid"), "{}", o.output);
}

#[tokio::test]
async fn head_and_tcp() {
    let server = answering("HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n", false);
    let mut engine = start(config());
    let mut asked = check(Kind::Http, server.address);
    asked.method = http::Method::HEAD;
    assert_eq!(engine.once(asked).await.observation.outcome, Outcome::Good);
    let o = engine.once(check(Kind::Tcp, server.address)).await.observation;
    assert_eq!((o.outcome, &*o.output), (Outcome::Good, "connected"));
    let address = ports::nobody();
    assert_eq!(engine.once(check(Kind::Tcp, address)).await.observation.outcome, Outcome::Unreachable);
}

#[tokio::test]
async fn redirects_are_followed_only_when_asked_and_tell_no_secrets() {
    let (sender, heard) = std::sync::mpsc::channel();
    let other = server(move |mut stream, _| {
        sender.send(read_request(&mut stream).unwrap()).unwrap();
        let _ = stream.write_all(answer("200 OK", "text/plain", "there").as_bytes());
    });
    let away = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/new\r\nContent-Length: 0\r\n\r\n", other.address);
    let first = answering(away, false);
    let mut engine = start(config());
    let mut asked = check(Kind::Http, first.address);
    asked.headers = vec![(http::HeaderName::from_static("x-secret"), Secret::Inline("s".to_owned()))];
    asked.auth = Some(Auth::Bearer(Secret::Inline("geheim".to_owned())));
    let o = engine.once(asked.clone()).await.observation;
    assert_eq!((o.outcome, o.status), (Outcome::Bad, Some(302)));
    asked.redirects = 1;
    let o = engine.once(asked).await.observation;
    assert_eq!((o.outcome, o.status), (Outcome::Good, Some(200)));
    let request = heard.recv_timeout(PATIENCE).unwrap();
    assert!(request.starts_with("GET /new HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("Host: {}\r\n", other.address)), "{request}");
    assert!(!request.contains("geheim") && !request.contains("x-secret"), "{request}");
    let looping = answering("HTTP/1.1 307 Again\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", false);
    let mut asked = check(Kind::Http, looping.address);
    asked.redirects = 3;
    let o = engine.once(asked).await.observation;
    assert_eq!((o.outcome, &*o.output), (Outcome::Bad, "more than 3 redirects"));
    assert_eq!(looping.connections.load(SeqCst), 4);
}

#[tokio::test]
async fn reuse_keeps_one_connection_and_survives_its_loss() {
    let keeps = answering(answer("200 OK", "text/plain", "OK"), true);
    let mut engine = start(config());
    let mut asked = check(Kind::Http, keeps.address);
    asked.reuse = true;
    let t = target("t", asked, Duration::from_secs(3600));
    engine.handle.set_targets(vec![t.clone()], Vec::new());
    for _ in 0..5 {
        engine.handle.refresh(vec![t.name.clone()]);
        assert_eq!(engine.next().await.observation.outcome, Outcome::Good);
    }
    assert_eq!((keeps.connections.load(SeqCst), keeps.requests.load(SeqCst)), (1, 5));
    // One answer for each connection, which promises more and then closes.
    let drops = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut asked = check(Kind::Http, drops.address);
    asked.reuse = true;
    let t = target("t", asked, Duration::from_secs(3600));
    engine.handle.set_targets(vec![t.clone()], Vec::new());
    for _ in 0..3 {
        engine.handle.refresh(vec![t.name.clone()]);
        assert_eq!(engine.next().await.observation.outcome, Outcome::Good);
    }
    assert_eq!(drops.requests.load(SeqCst), 3);
    // Closes the kept connection only after it has read the second request: the retry is what saves it.
    let sly = server(|mut stream, requests| {
        read_request(&mut stream);
        requests.fetch_add(1, SeqCst);
        let _ = stream.write_all(answer("200 OK", "text/plain", "OK").as_bytes());
        read_request(&mut stream);
    });
    let mut asked = check(Kind::Http, sly.address);
    asked.reuse = true;
    let t = target("t", asked, Duration::from_secs(3600));
    engine.handle.set_targets(vec![t.clone()], Vec::new());
    for _ in 0..2 {
        engine.handle.refresh(vec![t.name.clone()]);
        assert_eq!(engine.next().await.observation.outcome, Outcome::Good);
    }
    assert_eq!((sly.connections.load(SeqCst), sly.requests.load(SeqCst)), (2, 2));
}

/// A server that holds each request for a while.
fn slow(hold: Duration) -> Server {
    server(move |mut stream, requests| {
        read_request(&mut stream);
        requests.fetch_add(1, SeqCst);
        let (_never, wait) = std::sync::mpsc::channel::<()>();
        let _ = wait.recv_timeout(hold);
        let _ = stream.write_all(answer("200 OK", "text/plain", "OK").as_bytes());
    })
}

async fn run_all(config: EngineConfig, address: std::net::SocketAddr, via_gateway: bool, n: usize) {
    let mut engine = start(config);
    let targets: Vec<_> = (0..n)
        .map(|i| {
            target(&format!("t-{i}"), Check { via_gateway, ..check(Kind::Http, address) }, Duration::from_secs(3600))
        })
        .collect();
    engine.handle.set_targets(targets.clone(), Vec::new());
    engine.handle.refresh(targets.iter().map(|t| t.name.clone()).collect());
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < n {
        let o = engine.next().await;
        assert_eq!(o.observation.outcome, Outcome::Good);
        assert!(seen.insert(o.target.clone()), "{} once", o.target);
    }
    assert_eq!(engine.handle.stats().started.load(SeqCst), n as u64);
}

#[tokio::test]
async fn limits_hold_and_the_gateway_is_no_host() {
    let server = slow(Duration::from_millis(50));
    run_all(EngineConfig { max_per_host: 5, ..config() }, server.address, false, 40).await;
    let most = server.most_at_once.load(SeqCst);
    assert!((3..=5).contains(&most), "{most}");
    let server = slow(Duration::from_millis(300));
    run_all(EngineConfig { max_per_host: 5, ..config() }, server.address, true, 40).await;
    let most = server.most_at_once.load(SeqCst);
    assert!(most > 20, "{most}");
    let server = slow(Duration::from_millis(50));
    run_all(EngineConfig { max_probes: 7, ..config() }, server.address, true, 40).await;
    let most = server.most_at_once.load(SeqCst);
    assert!((4..=7).contains(&most), "{most}");
}

#[tokio::test]
async fn a_slow_target_delays_no_other_and_periods_are_kept() {
    let hangs = slow(Duration::from_secs(60));
    let quick = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut engine = start(config());
    let mut targets: Vec<_> = (0..100)
        .map(|i| target(&format!("h-{i}"), check(Kind::Http, hangs.address), Duration::from_millis(500)))
        .collect();
    let asked = Check { fast_interval: Duration::from_millis(100), ..check(Kind::Http, quick.address) };
    targets.push(target("q", asked, Duration::from_millis(500)));
    engine.handle.set_targets(targets, Vec::new());
    let mut ends = Vec::new();
    while ends.len() < 6 {
        let o = engine.next().await;
        if o.target.as_str() == "q" {
            assert_eq!(o.observation.outcome, Outcome::Good);
            ends.push(o.observation.at.mono);
        }
    }
    let span = ends[5].since(ends[0]).as_millis();
    assert!((2_400..3_400).contains(&span), "five periods of 500 ms took {span} ms");
    let name = bellwether::model::TargetName::new("q").unwrap();
    engine.handle.set_fast(vec![(name, true)]);
    let mut fast = Vec::new();
    while fast.len() < 8 {
        let o = engine.next().await;
        if o.target.as_str() == "q" {
            fast.push(o.observation.at.mono);
        }
    }
    let span = fast[7].since(fast[2]).as_millis();
    assert!((430..1_400).contains(&span), "five fast periods of 100 ms took {span} ms");
}

#[tokio::test]
async fn a_changed_check_is_probed_at_once_and_the_result_says_which_check_it_was() {
    let server = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut engine = start(config());
    let before = target("t", check(Kind::Http, server.address), Duration::from_secs(3600));
    engine.handle.set_targets(vec![before.clone()], Vec::new());
    engine.handle.refresh(vec![before.name.clone()]);
    assert!(Arc::ptr_eq(&engine.next().await.check, &before.check));
    let mut changed = check(Kind::Http, server.address);
    changed.expect_body = Some("no".to_owned());
    let after = target("t", changed, Duration::from_secs(3600));
    engine.handle.set_targets(vec![after.clone()], Vec::new());
    let seen = engine.next().await;
    assert!(Arc::ptr_eq(&seen.check, &after.check) && !seen.refreshed);
    assert_eq!(seen.observation.outcome, Outcome::Bad);
}

#[tokio::test]
async fn heartbeat_targets_are_never_probed() {
    let server = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut engine = start(config());
    let beat = target("beat", check(Kind::Heartbeat, server.address), Duration::from_millis(100));
    let other = target("other", check(Kind::Http, server.address), Duration::from_millis(200));
    engine.handle.set_targets(vec![beat.clone(), other], Vec::new());
    engine.handle.refresh(vec![beat.name.clone()]);
    for _ in 0..4 {
        assert_eq!(engine.next().await.target.as_str(), "other");
    }
}

/// Twenty targets of one server, ten times a second each.
fn twenty(server: std::net::SocketAddr) -> Vec<Arc<bellwether::model::Target>> {
    let named = |i| target(&format!("t-{i}"), check(Kind::Http, server), Duration::from_millis(100));
    (0..20).map(named).collect()
}

#[tokio::test]
async fn a_reader_that_sleeps_delays_nothing_and_the_end_is_noticed() {
    let server = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut engine = start(config());
    engine.handle.set_targets(twenty(server.address), Vec::new());
    let stats = engine.handle.stats();
    let waited = tokio::time::timeout(PATIENCE, async {
        while stats.finished() < 600 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("probing goes on while nobody reads");
    assert_eq!(stats.finished(), stats.good.load(SeqCst));
    let mut batches = 0;
    while batches < 40 {
        assert!(!engine.results.recv().await.unwrap().is_empty());
        batches += 1;
    }
    engine.handle.shutdown();
    tokio::time::timeout(PATIENCE, engine.handle.ended()).await.expect("the thread ends");
    let drained = tokio::time::timeout(PATIENCE, async { while engine.results.recv().await.is_some() {} });
    drained.await.expect("the receiver closes");
}

/// Results that say nothing new are handed on together, ten times a second; their reader is not woken each tick.
#[tokio::test]
async fn results_that_say_nothing_new_come_together() {
    let server = answering(answer("200 OK", "text/plain", "OK"), false);
    let mut engine = start(config());
    engine.handle.set_targets(twenty(server.address), Vec::new());
    let (mut first, mut batches, mut results) = (std::collections::BTreeSet::new(), 0, 0);
    while results < 400 {
        let batch = tokio::time::timeout(PATIENCE, engine.results.recv()).await.expect("in time").unwrap();
        if first.len() == 20 {
            (batches, results) = (batches + 1, results + batch.len());
        }
        first.extend(batch.into_iter().map(|observed| observed.target));
    }
    // Twenty in each 100 ms, spread over ten ticks.
    assert!(batches <= 50, "{results} results in {batches} batches");
}

#[tokio::test]
async fn the_last_handle_ends_the_engine() {
    let (handle, mut results) = Engine::start(config()).unwrap();
    drop(handle.clone());
    drop(handle);
    assert!(tokio::time::timeout(PATIENCE, results.recv()).await.expect("in time").is_none());
}

#[tokio::test]
async fn fresh_connections_leave_no_time_wait() {
    // The server keeps its side open: whoever closes first would be left in TIME_WAIT.
    let server = answering(answer("200 OK", "text/plain", "OK"), true);
    run_all(config(), server.address, true, 50).await;
    assert_eq!(server.connections.load(SeqCst), 50);
    let port = format!(":{:04X}", server.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let left: Vec<&str> = table.lines().filter(|l| l.contains(&port) && l.contains(" 06 ")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn each_answer_is_judged_by_itself() {
    let good = answer("200 OK", "application/json", r#"{"checks":[{"name":"a","ok":true}]}"#);
    let other = answer("503 Gone", "application/json", r#"{"checks":[{"name":"a","ok":true}]}"#);
    let bad = answer("200 OK", "application/json", r#"{"checks":[{"name":"a","ok":false}]}"#);
    let answers = [good.clone(), good.clone(), bad.clone(), bad, good.clone(), other, good];
    let served = answers.clone();
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let server = server(move |mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(served[turn.fetch_add(1, SeqCst)].as_bytes());
    });
    let mut engine = start(config());
    let t = target("t", check(Kind::Http, server.address), Duration::from_secs(3600));
    engine.handle.set_targets(vec![t.clone()], Vec::new());
    let mut seen = Vec::new();
    for _ in &answers {
        engine.handle.refresh(vec![t.name.clone()]);
        let o = engine.next().await.observation;
        seen.push((o.outcome, o.status.unwrap(), o.checks.as_ref().unwrap()[0].ok));
    }
    let (good, bad, other) = ((Outcome::Good, 200, true), (Outcome::Bad, 200, false), (Outcome::Bad, 503, true));
    assert_eq!(seen, [good, good, bad, bad, good, other, good]);
}

#[tokio::test]
async fn a_hundred_giants_do_not_fill_the_memory() {
    let giant = server(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        let _ = stream.write_all(&[b'x'; 900_000]);
        let _ = read_request(&mut stream);
    });
    let mut engine = start(config());
    let asked = Check { via_gateway: true, timeout: Duration::from_secs(3), ..check(Kind::Http, giant.address) };
    let targets: Vec<_> =
        (0..150).map(|i| target(&format!("t-{i}"), asked.clone(), Duration::from_secs(3600))).collect();
    engine.handle.set_targets(targets.clone(), Vec::new());
    engine.handle.refresh(targets.iter().map(|t| t.name.clone()).collect());
    let (mut given_up, mut hung) = (0, 0);
    for _ in 0..150 {
        let o = engine.next().await.observation;
        match o.outcome {
            Outcome::Timeout => hung += 1,
            Outcome::Protocol if o.output.contains("together over 64 MiB") => given_up += 1,
            other => panic!("{other:?} {}", o.output),
        }
    }
    assert!(given_up >= 50 && hung >= 20, "{given_up} given up, {hung} hung");
    // And the room is free again.
    let body = "x".repeat(1_000_000);
    let large = answering(answer("200 OK", "text/plain", &body), false);
    assert_eq!(engine.once(check(Kind::Http, large.address)).await.observation.outcome, Outcome::Good);
}
