//! Serves the page over a made-up view, to look at it: `cargo run --example page_preview [MANY] [still] [alone|static|cut|kept]`.
//! Prints its address. `still`: nothing changes, to measure answers. The last word: what the node has lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::{io::Write as _, sync::Arc, time::Duration};

use bellwether::model::{Ack, Role, StoreState, Timestamp, cluster::ResultsFrom};

#[path = "../tests/support/web_cluster_view.rs"]
mod web_cluster_view;
#[path = "../tests/support/web_server.rs"]
mod web_server;
#[path = "../tests/support/web_view.rs"]
mod web_view;

use web_cluster_view::{alone, following, with};
use web_view::*;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let many: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    let server = web_server::start(view(many, true)).await;
    println!("http://{}", server.address);
    std::io::stdout().flush().unwrap();
    if std::env::args().nth(2).is_some_and(|word| word == "still") {
        return std::future::pending().await;
    }
    // One target flips, so that the page's own refresh can be seen.
    for up in [false, true].into_iter().cycle() {
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.view.store(Arc::new(view(many, up)));
    }
}

fn view(many: usize, flipper_is_up: bool) -> bellwether::model::View {
    let mut acked = down("mail-1", &["write", "mail"]);
    acked.ack = Some(Ack {
        message: "Ticket 4711, the <b>vendor</b> is on it".to_owned(),
        by: Some("ann".to_owned()),
        until: Some(Timestamp::from_millis(NOW + 3_600_000)),
        v: None,
    });
    let mut stale = up("search-1", &["read"]);
    stale.stale = true;
    stale.seen = Some(good(400));
    let mut flapping = down("search-2", &["read"]);
    flapping.flapping = true;
    flapping.severity = 1;
    flapping.seen = Some(bad(2, "<script>alert(1)</script> a very long output ".repeat(8).as_str()));
    let mut targets = vec![
        acked,
        stale,
        flapping,
        up("cart-1", &["read", "write"]),
        up("cart-2", &["read", "write"]),
        unknown("new-service-1", &["write"]),
        up("publishing-service-with-a-rather-long-name-that-goes-on-1", &["publish"]),
        up("lonely", &[]),
    ];
    targets.push(if flipper_is_up { up("flipper-1", &["read"]) } else { down("flipper-1", &["read"]) });
    for i in 0..many {
        targets.push(up(&format!("service-{}-{}", i / 3, i % 3), &["many"]));
    }
    let fixture = Fixture {
        resilient: vec!["publish"],
        disabled: vec!["mail"],
        latched: vec!["write"],
        empty: vec!["void"],
        cluster_ack: Some(Ack::text("We know, & are on it")),
        faults: vec![fault(), hint()],
        held: true,
        ..Fixture::of(targets)
    };
    let view = following(fixture.view());
    let lost = |word: &str| std::env::args().any(|arg| arg == word);
    if lost("alone") || lost("static") {
        alone(view, lost("static"))
    } else if lost("cut") {
        let reason = Arc::from("http://node-b.example:8080 does not answer: connection refused");
        with(view, |c| c.results = ResultsFrom::Store { reason })
    } else if lost("kept") {
        let mut view = with(view, |c| c.results = ResultsFrom::Kept);
        view.node.started = ago(1).wall;
        (view.node.ready, view.node.degraded, view.node.store) = (false, true, StoreState::Lost);
        view.node.role = Role::Autonomous;
        view
    } else {
        view
    }
}
