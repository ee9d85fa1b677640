//! `/__gtg`, over a raw socket.

use std::{sync::Arc, time::Duration};

use bellwether::model::{Ack, GtgAnswer, Role, View, view::PreparedGtg};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{web_server::*, web_view::*};

fn mixed() -> Fixture {
    Fixture {
        resilient: vec!["res", "res2"],
        disabled: vec!["off"],
        latched: vec!["stuck"],
        empty: vec!["void"],
        ..Fixture::of(vec![
            up("cart-1", &["read", "res", "off", "stuck"]),
            down("cart-2", &["res"]),
            up("search-1", &["read", "write"]),
            down("mail-1", &["bad", "res2"]),
        ])
    }
}

#[tokio::test]
async fn answers_of_the_table() {
    let server = start(mixed().view()).await;
    for (path, status, body) in [
        ("/__gtg", 503, "cart-2 is down: 503 Service Unavailable"),
        ("/__gtg/", 503, "cart-2 is down: 503 Service Unavailable"),
        ("/__gtg?categories=read", 200, "OK"),
        ("/__gtg/?categories=read", 200, "OK"),
        ("/__gtg?categories=", 503, "cart-2 is down: 503 Service Unavailable"),
        ("/__gtg?categories=,,", 503, "cart-2 is down: 503 Service Unavailable"),
        ("/__gtg?categories=read,write", 200, "OK"),
        ("/__gtg?categories=read&categories=write", 200, "OK"),
        ("/__gtg?categories=read,bad", 503, "mail-1 is down: 503 Service Unavailable"),
        ("/__gtg?categories=%72ead", 200, "OK"),
        ("/__gtg?categories=+read+", 200, "OK"),
        ("/__gtg?x=1&categories=read", 200, "OK"),
        ("/__gtg?categories=off", 503, "category off is disabled"),
        ("/__gtg?categories=bad,off", 503, "category off is disabled"),
        ("/__gtg?categories=void", 503, "category void has no targets"),
        ("/__gtg?categories=read,void", 503, "category void has no targets"),
        ("/__gtg?categories=res", 200, "OK"),
        // Resilient only if all are: with `read` the failed cart-2 counts.
        ("/__gtg?categories=res,read", 503, "cart-2 is down: 503 Service Unavailable"),
        ("/__gtg?categories=res,res2", 503, "service mail failed: its only target failed"),
        ("/__gtg?categories=nope", 400, "no known category among: nope"),
        ("/__gtg?categories=nope,nada", 400, "no known category among: nope,nada"),
        ("/__gtg?categories=%252C", 400, "no known category among: %2C"),
        ("/__gtg?categories=%zz", 400, "no known category among: %zz"),
        ("/__gtg?categories=a%0d%0ab", 400, "no known category among: a??b"),
        ("/__gtg/cart", 200, "OK"),
        ("/__gtg?service=cart", 200, "OK"),
        ("/__gtg?service=cart,search", 200, "OK"),
        ("/__gtg/%63art", 200, "OK"),
        ("/__gtg/mail", 503, "service mail failed: its only target failed"),
        ("/__gtg?service=cart&service=mail", 503, "service mail failed: its only target failed"),
        ("/__gtg/nope", 404, "no known service: nope"),
        ("/__gtg?service=nope", 404, "no known service: nope"),
        ("/__gtg?service=cart&categories=read", 400, "ask for service or for categories, not for both"),
    ] {
        let reply = get(server.address, path).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{path}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        let head = ask(server.address, "HEAD", path, &[], "").await;
        assert_eq!((head.status, head.body.as_str()), (status, ""), "HEAD {path}");
        assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()), "HEAD {path}");
    }
    let reply = get(server.address, "/__gtg?categories=stuck").await;
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("sticky latch") && reply.body.contains("node-a"), "{}", reply.body);
    let reply = get(server.address, "/__gtg?categories=bad,stuck").await;
    assert!(reply.body.contains("sticky latch"), "a latch is told before a failure: {}", reply.body);
}

#[tokio::test]
async fn other_methods_are_refused_with_allow() {
    let server = start(mixed().view()).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        for path in ["/__gtg", "/__gtg/", "/__gtg/cart"] {
            let reply = ask(server.address, method, path, &[], "").await;
            assert_eq!(reply.status, 405, "{method}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD"));
            assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
            assert!(reply.body.contains(method), "{}", reply.body);
        }
    }
}

#[tokio::test]
async fn unknown_categories_beside_known_ones_are_named_and_ignored() {
    let server = start(mixed().view()).await;
    for path in ["/__gtg?categories=read,nope,a%0ab", "/__gtg?categories=nope,read&categories=a%0ab"] {
        let reply = get(server.address, path).await;
        assert_eq!((reply.status, reply.header("bellwether-unknown")), (200, Some("nope,a%0Ab")));
    }
    assert!(server.port.combinations.lock().unwrap().is_empty(), "one known category is always prepared");
    let _ = get(server.address, "/__gtg?categories=bad,nope,read").await;
    assert_eq!(*server.port.combinations.lock().unwrap(), ["bad,read"], "only known names are kept prepared");
}

#[tokio::test]
async fn a_combination_is_asked_to_be_prepared_and_then_used() {
    let server = start(mixed().view()).await;
    let _ = get(server.address, "/__gtg?categories=read&categories=bad").await;
    assert_eq!(*server.port.combinations.lock().unwrap(), ["read,bad"]);
    let mut view = mixed().view();
    let ready = GtgAnswer { status: 200, body: "prepared".into(), ..GtgAnswer::default() };
    view.gtg.categories.insert("read,bad".into(), ready);
    server.view.store(Arc::new(view));
    for path in ["/__gtg?categories=read,bad", "/__gtg?categories=read&categories=bad"] {
        assert_eq!(get(server.address, path).await.body, "prepared", "{path}");
    }
    assert_eq!(server.port.combinations.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_starting_node_is_not_good_to_go() {
    let server = start(Fixture { role: Role::Starting, ready: false, ..mixed() }.view()).await;
    for path in ["/__gtg", "/__gtg?categories=read", "/__gtg?categories=nope", "/__gtg/cart", "/__gtg?cache=false"] {
        let reply = get(server.address, path).await;
        assert_eq!((reply.status, reply.body.as_str()), (503, "the node is starting"), "{path}");
    }
    assert_eq!(ask(server.address, "POST", "/__gtg", &[], "").await.status, 405);
    assert_eq!(get(server.address, "/__ready").await.status, 503);
    assert_eq!(get(server.address, "/__live").await.status, 200);
    let health = ask(server.address, "GET", "/__health", &AS_JSON, "").await;
    assert_eq!((health.status, health.json()["ok"].as_bool()), (200, Some(false)));
    // Whatever stands prepared.
    let ready = GtgAnswer { status: 200, body: "OK".into(), ..GtgAnswer::default() };
    let mut view = with_default(ready);
    view.node.role = Role::Starting;
    server.view.store(Arc::new(view));
    assert_eq!(get(server.address, "/__gtg").await.status, 503);
}

fn with_default(answer: GtgAnswer) -> View {
    let mut view = mixed().view();
    view.gtg = PreparedGtg { default: answer, ..PreparedGtg::default() };
    view
}

#[tokio::test]
async fn stale_answers_say_so_and_authority_runs_out_at_each_request() {
    let stale = GtgAnswer {
        status: 200,
        body: "OK".into(),
        stale_since: Some(ago(12).mono),
        valid_until: Some(now().mono.plus(Duration::from_secs(2))),
        ..GtgAnswer::default()
    };
    let server = start(with_default(stale)).await;
    let reply = get(server.address, "/__gtg").await;
    assert_eq!((reply.status, reply.header("bellwether-stale")), (200, Some("12")));
    server.clock.advance(Duration::from_millis(1999));
    assert_eq!(get(server.address, "/__gtg").await.status, 200);
    server.clock.advance(Duration::from_millis(1));
    let reply = get(server.address, "/__gtg").await;
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("authority"), "{}", reply.body);
}

/// A load balancer's connection: the same question again and again.
struct Kept(TcpStream);

impl Kept {
    async fn ask(&mut self, path: &str) -> Reply {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = async {
            loop {
                self.0.read_buf(&mut bytes).await.unwrap();
                let text = String::from_utf8_lossy(&bytes);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
                if body.len() >= length.parse().unwrap() {
                    return parse(&bytes);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("no answer in time")
    }
}

#[tokio::test]
async fn the_same_question_on_one_connection_is_answered_as_things_are_now() {
    let answer = |status: u16| GtgAnswer { status, body: status.to_string().into(), ..GtgAnswer::default() };
    let until = Some(now().mono.plus(Duration::from_millis(9500)));
    let server = start(with_default(GtgAnswer { valid_until: until, ..answer(200) })).await;
    let mut kept = Kept(TcpStream::connect(server.address).await.unwrap());
    let first = kept.ask("/__gtg").await;
    let second = kept.ask("/__gtg").await;
    assert_eq!((first.status, &first.head, first.body.as_str()), (200, &second.head, "200"));
    assert_eq!(second.body, "200");
    // Time passes: the date, then the answer's authority.
    server.clock.advance(Duration::from_secs(1));
    let later = kept.ask("/__gtg").await;
    assert_eq!(later.status, 200);
    assert_ne!(later.header("date"), second.header("date"));
    server.clock.advance(Duration::from_millis(8499));
    assert_eq!(kept.ask("/__gtg").await.status, 200);
    server.clock.advance(Duration::from_millis(1));
    assert_eq!(kept.ask("/__gtg").await.status, 503);
    // Another view, another question, and the first one again.
    server.view.store(Arc::new(with_default(answer(200))));
    assert_eq!(kept.ask("/__gtg").await.status, 200);
    server.view.store(Arc::new(with_default(answer(503))));
    assert_eq!(kept.ask("/__gtg").await.body, "503");
    assert_eq!(kept.ask("/__gtg/none").await.status, 404);
    assert_eq!(kept.ask("/__gtg").await.body, "503");
    // An age grows in the middle of a second of the date.
    let mut stale = Kept(TcpStream::connect(server.address).await.unwrap());
    let since = Some(ago(13).mono.plus(Duration::from_millis(250)));
    server.view.store(Arc::new(with_default(GtgAnswer { stale_since: since, ..answer(200) })));
    server.clock.advance(Duration::from_millis(500));
    let age = |reply: Reply| reply.header("bellwether-stale").map(str::to_owned);
    let first = age(stale.ask("/__gtg").await);
    server.clock.advance(Duration::from_millis(249));
    assert_eq!((first.as_deref(), age(stale.ask("/__gtg").await).as_deref()), (Some("22"), Some("22")));
    server.clock.advance(Duration::from_millis(1));
    assert_eq!(age(stale.ask("/__gtg").await).as_deref(), Some("23"));
    // A draining node says so at once.
    server.view.store(Arc::new(with_default(answer(200))));
    let mut drained = Kept(TcpStream::connect(server.address).await.unwrap());
    assert_eq!(drained.ask("/__gtg").await.header("connection"), None);
    server.draining.cancel();
    tokio::time::timeout(Duration::from_secs(10), async {
        while drained.ask("/__gtg").await.header("connection") != Some("close") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("never told of the drain");
}

#[tokio::test]
async fn cache_false_judges_the_raw_results() {
    let view = mixed().view();
    let cells = Arc::clone(&view.cells);
    let index = view.catalog.index_of("search-1").unwrap();
    let server = start(view).await;
    // The damped state stays up; the fresh result is bad.
    *server.port.on_refresh.lock().unwrap() = Some(Box::new(move || cells[index].store(Arc::new(bad(0, "500 Oops")))));
    *server.port.not_refreshed.lock().unwrap() = vec!["cart-1".parse().unwrap()];
    let reply = get(server.address, "/__gtg?categories=read&cache=false").await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "search-1 is down: 500 Oops"));
    assert_eq!(reply.header("bellwether-not-refreshed"), Some("cart-1"));
    let asked = server.port.refreshed.lock().unwrap().clone();
    assert_eq!(asked, [vec!["cart-1".parse().unwrap(), "search-1".parse().unwrap()]]);
    assert_eq!(get(server.address, "/__gtg?categories=read").await.status, 200, "the cache is damped");
    assert_eq!(get(server.address, "/__gtg?categories=read&cache=true").await.status, 200);
    assert_eq!(get(server.address, "/__gtg/search?cache=false").await.status, 503);
    assert_eq!(get(server.address, "/__gtg/cart?cache=false").await.status, 200);
    let runs = server.port.refreshed.lock().unwrap().len();
    assert_eq!(get(server.address, "/__gtg?categories=off&cache=false").await.body, "category off is disabled");
    assert_eq!(server.port.refreshed.lock().unwrap().len(), runs, "what is off needs no probe");
    assert_eq!(get(server.address, "/__gtg?categories=nope&cache=false").await.status, 400);
}

#[tokio::test]
async fn cache_false_counts_every_last_result_and_keeps_what_is_stale_marked() {
    // Damped down, last result good; damped up, last result bad; never probed: by its health, as the leader told it.
    let mut rising = down("rising-1", &["rise"]);
    rising.seen = Some(good(70));
    rising.stale = true;
    let mut falling = up("falling-1", &["fall"]);
    falling.seen = Some(bad(1, "500 Oops"));
    let mut told = up("told-1", &["told"]);
    told.seen = None;
    let server = start(Fixture::of(vec![rising, falling, told]).view()).await;
    *server.port.not_refreshed.lock().unwrap() = vec!["rising-1".parse().unwrap(), "told-1".parse().unwrap()];
    for (categories, status, body, stale) in [
        ("rise", 200, "OK", Some("70")),
        ("fall", 503, "falling-1 is down: 500 Oops", None),
        ("told", 200, "OK", None),
        ("rise,told", 200, "OK", Some("70")),
        ("rise,fall", 503, "falling-1 is down: 500 Oops", Some("70")),
    ] {
        let reply = get(server.address, &format!("/__gtg?cache=false&categories={categories}")).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{categories}");
        assert_eq!(reply.header("bellwether-stale"), stale, "{categories}");
    }
    let reply = get(server.address, "/__gtg/rising?cache=false").await;
    assert_eq!((reply.status, reply.header("bellwether-stale")), (200, Some("70")));
}

#[tokio::test]
async fn acked_failures_do_not_count_and_the_cluster_ack_is_ignored() {
    let mut acked = down("mail-1", &["bad"]);
    acked.ack = Some(Ack::text("known"));
    let server = start(Fixture::of(vec![acked, up("cart-1", &["read"])]).view()).await;
    assert_eq!(get(server.address, "/__gtg?categories=bad,read").await.status, 200);
    assert_eq!(get(server.address, "/__gtg?categories=bad&cache=false").await.status, 200);
    let whole = Fixture { cluster_ack: Some(Ack::text("seen")), ..mixed() };
    server.view.store(Arc::new(whole.view()));
    assert_eq!(get(server.address, "/__gtg").await.status, 503);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start(mixed().view()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut request = String::new();
    for i in 0..50 {
        let path = if i % 2 == 0 { "/__gtg?categories=read" } else { "/__gtg?categories=bad" };
        request.push_str(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    request.push_str("GET /__ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|r| &r[..3]).collect();
    let expected: Vec<&str> = ["200", "503"].into_iter().cycle().take(50).chain(["200"]).collect();
    assert_eq!(statuses, expected);
    assert!(text.ends_with("pong"));
}
