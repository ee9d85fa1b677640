//! The page: everything in it that comes from outside is escaped, and what an operator must see is there in words.

use bellwether::model::{Ack, Role, Timestamp};

use super::{web_server::*, web_view::*};

const EVIL: &str = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

fn full() -> Fixture {
    let mut acked = down("mail-1", &["write"]);
    let until = Some(Timestamp::from_millis(NOW + 3_600_000));
    acked.ack = Some(Ack { message: EVIL.to_owned(), by: Some(EVIL.to_owned()), until, v: None });
    let mut flapping = down("search-1", &["read"]);
    (flapping.flapping, flapping.severity) = (true, 1);
    flapping.reason = EVIL.to_owned();
    flapping.seen = Some(bad(2, EVIL));
    let mut stale = up("cart-1", &["read"]);
    stale.stale = true;
    stale.seen = Some(good(400));
    let mut faulty = fault();
    (faulty.key, faulty.value, faulty.reason, faulty.expected) =
        (EVIL.to_owned(), EVIL.to_owned(), EVIL.to_owned(), EVIL.to_owned());
    faulty.nearest = Some(EVIL.to_owned());
    Fixture {
        disabled: vec!["off"],
        latched: vec!["write"],
        faults: vec![faulty, hint()],
        cluster_ack: Some(Ack { message: EVIL.to_owned(), by: Some(EVIL.to_owned()), until: None, v: None }),
        held: true,
        ..Fixture::of(vec![acked, flapping, stale, unknown("new-1", &["off"]), up("lonely", &[])])
    }
}

#[tokio::test]
async fn everything_from_outside_is_escaped() {
    let server = start(full().view()).await;
    for path in ["/", "/__health", "/?categories=read,%3Cscript%3Ealert(3)%3C/script%3E", "/?cache=false"] {
        let reply = get(server.address, path).await;
        assert_eq!(reply.status, 200);
        let live = !path.contains("cache=false");
        // The only script is the page's own.
        assert_eq!(reply.body.matches("<script").count(), usize::from(live), "{path}");
        assert_eq!(reply.body.matches("</script").count(), usize::from(live), "{path}");
        assert!(!reply.body.contains("<img") && !reply.body.contains("\"'>"), "{path}");
        assert!(reply.body.contains("prod &#60;eu&#62; cluster health"));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
        let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(nonce.len(), 32);
        assert_eq!(reply.body.contains(&format!("<script nonce=\"{nonce}\">")), live);
        assert_ne!(
            get(server.address, path).await.header("content-security-policy"),
            Some(policy),
            "a new nonce each time"
        );
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        // No outside resource.
        for word in ["src=", "<link", "@import", "url(", "http-equiv=\"refresh\" content=\"0"] {
            assert!(!reply.body.replace("src=x", "").contains(word), "{path}: {word}");
        }
    }
}

#[tokio::test]
async fn what_an_operator_must_see_is_there_in_words() {
    let server = start(full().view()).await;
    let page = get(server.address, "/").await.body;
    for words in [
        "CRITICAL",
        "5 targets",
        "2 up",
        "2 down",
        "1 unknown",
        "1 acked",
        "1 stale",
        "1 flapping",
        "Cluster acked",
        "A removal of 2 targets is held until",
        "gone-1, gone-2",
        "1 fault and 1 hint",
        "did you mean",
        "DISABLED",
        "LATCHED",
        "sticky latch",
        "cart-1 is down",
        "NOT GOOD TO GO",
        "UP",
        "DOWN",
        "UNKNOWN",
        "ACKED",
        "STALE",
        "FLAPPING",
        "severity 1",
        "6 min ago",
        "down for 10 min",
        "until 2026-09-21 15:13:20 UTC",
        "node-a",
        "region",
        "leader",
        "store answers",
        "from cache",
        "without cache",
        "targets in no other category",
        "no result here",
    ] {
        assert!(page.contains(words), "{words:?} is missing");
    }
    let mut lost = full().view();
    lost.node.store = bellwether::model::StoreState::Lost;
    (lost.node.role, lost.node.degraded, lost.node.ready) = (Role::Autonomous, true, false);
    server.view.store(std::sync::Arc::new(lost));
    let page = get(server.address, "/").await.body;
    for words in ["autonomous", "The store does not answer", "not ready", "store LOST"] {
        assert!(page.contains(words), "{words:?} is missing");
    }
    server.view.store(std::sync::Arc::new(Fixture { role: Role::Starting, ready: false, ..Fixture::default() }.view()));
    assert!(get(server.address, "/").await.body.contains("STARTING"));
}

#[tokio::test]
async fn many_healthy_targets_are_folded() {
    let mut targets: Vec<T> = (0..1000).map(|i| up(&format!("svc-{}-{}", i / 4, i % 4), &["many"])).collect();
    targets.push(down("broken-1", &["many"]));
    let server = start(Fixture::of(targets).view()).await;
    let page = get(server.address, "/").await.body;
    assert!(page.contains("<details id=\"fine-many\"><summary"), "folded, not open");
    assert!(page.contains("250 healthy services, 1000 targets"));
    assert!(page.find("broken-1").unwrap() < page.find("svc-0-0").unwrap());
}
