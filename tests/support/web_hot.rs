//! The first stage of a connection, which answers `/__gtg` by itself: nothing that a client can see tells it from the HTTP library.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bellwether::model::Role;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{web_server::*, web_view::*};

const BOUND: Duration = Duration::from_secs(20);
/// Ends a connection, so that a test can read to its end.
const LAST: &str = "GET /__ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn fixture() -> Fixture {
    let stale = T { stale: true, seen: Some(good(90)), ..up("old-1", &["old"]) };
    Fixture::of(vec![up("cart-1", &["read", "write"]), down("mail-1", &["bad"]), stale])
}

fn ask_for(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Everything that a connection gives for these pieces, each sent by itself.
async fn all(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let run = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    };
    timeout(BOUND, run).await.expect("the connection was not ended")
}

/// The answers in a stream of them, by their lengths; dates cut out.
fn answers(text: &str) -> Vec<String> {
    let mut left = text;
    let mut all = Vec::new();
    while !left.is_empty() {
        let (head, rest) = left.split_once("\r\n\r\n").unwrap_or_else(|| panic!("half an answer: {left:?}"));
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
        let lines: Vec<&str> = head.lines().filter(|l| !l.starts_with("date: ")).collect();
        assert_eq!(lines.len() + 1, head.lines().count(), "one date: {head}");
        all.push(format!("{}\n{}", lines.join("\n"), &rest[..length]));
        left = &rest[length..];
    }
    all
}

#[tokio::test]
async fn both_stages_answer_the_same() {
    let server = start(fixture().view()).await;
    let paths = [
        "/__gtg",
        "/__gtg/",
        "/__gtg?categories=read",
        "/__gtg?categories=bad",
        "/__gtg?categories=old",
        "/__gtg?service=cart",
        "/__gtg/cart",
        "/__gtg/mail",
        "/__gtg?categories=read,write",
        "/__gtg?categories=read,nope",
        "/__gtg?categories=nope",
        "/__gtg/nope",
        "/__gtgx",
        "/__gtg?categories=%72ead",
        "/__gtg?categories=read&x=1",
        "/__gtg?cache=false&categories=read",
    ];
    // The second time as well: by then a combination has been prepared.
    for path in paths.iter().chain(&paths) {
        let first = all(server.address, &[ask_for(path).as_bytes(), LAST.as_bytes()]).await;
        // A header that the first stage does not take.
        let library = format!("GET {path} HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n");
        let second = all(server.address, &[library.as_bytes(), LAST.as_bytes()]).await;
        assert_eq!(answers(&first), answers(&second), "{path}");
        assert_eq!(answers(&first).len(), 2, "{path}");
    }
}

#[tokio::test]
async fn a_starting_node_and_an_expired_answer_are_503() {
    let server = start(Fixture { role: Role::Starting, ..fixture() }.view()).await;
    let text = all(server.address, &[ask_for("/__gtg").as_bytes(), LAST.as_bytes()]).await;
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
    assert!(text.contains("the node is starting"), "{text}");
    let mut view = fixture().view();
    view.gtg.default.valid_until = Some(server.clock.mono().plus(Duration::from_secs(1)));
    view.gtg.default.status = 200;
    server.view.store(Arc::new(view));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for (moved, status) in [(0, "200"), (999, "200"), (1, "503"), (1, "503")] {
        server.clock.advance(Duration::from_millis(moved));
        stream.write_all(ask_for("/__gtg").as_bytes()).await.unwrap();
        let text = next(&mut stream).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "after {moved} ms: {text}");
    }
}

/// The next answer.
async fn next(stream: &mut TcpStream) -> String {
    let run = async {
        let mut text = String::new();
        loop {
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
                if rest.len() >= length {
                    return text;
                }
            }
            let mut room = [0; 4096];
            let count = stream.read(&mut room).await.unwrap();
            assert!(count > 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&room[..count]).unwrap());
        }
    };
    timeout(BOUND, run).await.expect("no answer in time")
}

#[tokio::test]
async fn requests_in_one_piece_are_answered_in_order() {
    let server = start(fixture().view()).await;
    // More than the first stage has room for, and others in between: from there on the library answers.
    let good = ask_for("/__gtg?categories=read");
    let bad = ask_for("/__gtg?categories=bad");
    let many = format!("{}{}", good.repeat(60), bad.repeat(60));
    let all_of_them = format!("\r\n{many}{}{many}{LAST}", ask_for("/__live"));
    let text = all(server.address, &[all_of_them.as_bytes()]).await;
    let statuses: Vec<String> = answers(&text).iter().map(|a| a.split(' ').nth(1).unwrap().to_owned()).collect();
    let half: Vec<&str> = std::iter::repeat_n("200", 60).chain(std::iter::repeat_n("503", 60)).collect();
    let wanted: Vec<&str> = half.iter().copied().chain(["200"]).chain(half.iter().copied()).chain(["200"]).collect();
    assert_eq!(statuses, wanted);
}

#[tokio::test]
async fn a_request_in_two_pieces_is_answered_wherever_it_was_cut() {
    let server = start(fixture().view()).await;
    let whole = format!("{}{LAST}", ask_for("/__gtg?categories=read"));
    let wanted = answers(&all(server.address, &[whole.as_bytes()]).await);
    for cut in 1..whole.len() {
        let (first, second) = whole.as_bytes().split_at(cut);
        assert_eq!(answers(&all(server.address, &[first, second]).await), wanted, "cut at {cut}");
    }
}

/// A body is no request, whatever stands in it; a head that cannot be read is refused.
#[tokio::test]
async fn bodies_and_broken_heads_are_the_librarys() {
    let server = start(fixture().view()).await;
    let inner = ask_for("/__gtg?categories=bad");
    let with_length =
        format!("GET /__gtg?categories=read HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    let chunked = format!(
        "GET /__gtg?categories=read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
        inner.len()
    );
    for request in [with_length, chunked] {
        let text = all(server.address, &[ask_for("/__gtg").as_bytes(), request.as_bytes(), LAST.as_bytes()]).await;
        let told: Vec<String> = answers(&text).into_iter().filter(|a| a.contains("mail-1")).collect();
        assert_eq!(told.len(), 1, "only the first asks for what mail-1 breaks: {text}");
    }
    for broken in
        ["GET /__gtg HTTP/1.1\r\nContent-Length : 5\r\n\r\n", "GET /__gtg HTTP/9.9\r\n\r\n", "GET /__gtg\r\n\r\n"]
    {
        let text = all(server.address, &[ask_for("/__gtg/cart").as_bytes(), broken.as_bytes()]).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("HTTP/1.1 400 Bad Request\r\n"), "{text}");
    }
    // Longer than the first stage's room.
    let long = format!("GET /__gtg/cart HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(8000));
    let text = all(server.address, &[long.as_bytes(), LAST.as_bytes()]).await;
    assert_eq!(answers(&text).len(), 2, "{text}");
    // Old clients are told when the connection ends, by its end.
    let text = all(server.address, &[b"GET /__gtg/cart HTTP/1.0\r\n\r\n"]).await;
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("OK"), "{text}");
}

#[tokio::test]
async fn draining_and_stopping_reach_a_connection_that_asked_before() {
    let server = start(fixture().view()).await;
    let mut one = TcpStream::connect(server.address).await.unwrap();
    let mut other = TcpStream::connect(server.address).await.unwrap();
    for stream in [&mut one, &mut other] {
        stream.write_all(ask_for("/__gtg/cart").as_bytes()).await.unwrap();
        assert!(!next(stream).await.contains("connection: close"));
    }
    server.draining.cancel();
    // The listener's own note of it comes a moment later.
    let told = async {
        let mut fresh = TcpStream::connect(server.address).await.unwrap();
        loop {
            fresh.write_all(ask_for("/__gtg/cart").as_bytes()).await.unwrap();
            if next(&mut fresh).await.contains("connection: close") {
                return;
            }
        }
    };
    timeout(BOUND, told).await.expect("draining was not told");
    one.write_all(ask_for("/__gtg/cart").as_bytes()).await.unwrap();
    let text = next(&mut one).await;
    assert!(text.contains("connection: close") && text.ends_with("OK"), "{text}");
    assert_eq!(timeout(BOUND, one.read(&mut [0; 1])).await.expect("not closed").unwrap(), 0);
    server.stop.cancel();
    assert_eq!(timeout(BOUND, other.read(&mut [0; 1])).await.expect("not closed").unwrap(), 0);
}
