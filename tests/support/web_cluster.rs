//! The cluster over HTTP: `/api/v1/cluster`, `/api/v1/regions`, and what the page says of it.

use std::sync::Arc;

use bellwether::model::{Role, StoreState, cluster::ResultsFrom};
use serde_json::{Value, json};

use super::{web_cluster_view::*, web_server::*, web_view::*};

fn fixture() -> bellwether::model::View {
    Fixture::of(vec![up("cart-1", &["read"]), down("mail-1", &["write"])]).view()
}

async fn json_of(server: &Running, path: &str) -> Value {
    let reply = get(server.address, path).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{path}: {reply:?}");
    reply.json()
}

#[tokio::test]
async fn the_cluster_as_the_node_sees_it() {
    let server = start(following(fixture())).await;
    let cluster = json_of(&server, "/api/v1/cluster").await;
    assert_eq!(
        (&cluster["role"], &cluster["term"], &cluster["region"]),
        (&json!("follower"), &json!(42), &json!("eu"))
    );
    assert_eq!(cluster["leader"]["node"], "node-b");
    assert_eq!(cluster["leader"]["since"], ago(185).wall.to_string());
    assert_eq!((&cluster["transitions"], &cluster["nodes"][2]["node"]), (&json!(2), &json!("node-c")));
    assert_eq!((&cluster["results"]["from"], &cluster["results"]["seq"]), (&json!("stream"), &json!(815)));
    assert_eq!((&cluster["newest_result_age"], &cluster["notes"]), (&json!(3), &json!([])));
    let about = json_of(&server, "/api/v1/node").await;
    assert_eq!((&about["leader_url"], &about["static_leader"]), (&json!("http://node-b.example:8080"), &json!(false)));

    server.draining.cancel();
    let cluster = json_of(&server, "/api/v1/cluster").await;
    assert_eq!((&cluster["ready"], &cluster["notes"][0]["what"]), (&json!(false), &json!("This node is draining")));
}

#[tokio::test]
async fn a_node_that_has_lost_something_says_so() {
    let server = start(alone(fixture(), true)).await;
    let said = async || json_of(&server, "/api/v1/cluster").await["notes"].to_string();
    let show = |view| server.view.store(Arc::new(view));
    let text = said().await;
    assert!(text.contains("The store does not answer") && text.contains("Static leader"), "{text}");
    show(alone(fixture(), false));
    let text = said().await;
    assert!(text.contains("Autonomous") && !text.contains("Static leader"), "{text}");

    // Verdicts through the store alone are as fresh as the leader's summary: written 1 s after the newest result, seen 2 s ago.
    let mut view = with(following(fixture()), |c| c.results = ResultsFrom::Store { reason: Arc::from("refused") });
    view.cells = Arc::from([]);
    show(view);
    let cluster = json_of(&server, "/api/v1/cluster").await;
    assert!(cluster["notes"].to_string().contains("No stream from the leader: refused"), "{cluster}");
    assert_eq!(cluster["newest_result_age"], 3, "{cluster}");

    let mut view = following(fixture());
    view.node.store = StoreState::Lost;
    show(view);
    assert!(said().await.contains("Follows node-b without the store"));

    let mut view = with(following(fixture()), |c| c.results = ResultsFrom::Kept);
    show(with(following(fixture()), |c| c.results = ResultsFrom::Kept));
    assert_eq!(said().await, "[]", "results of this life are not kept ones");
    view.node.started = ago(1).wall;
    (view.node.ready, view.node.role) = (false, Role::Follower);
    show(view);
    let text = said().await;
    assert!(text.contains("kept on disk; the newest is 3 s old") && text.contains("not ready"), "{text}");
}

#[tokio::test]
async fn regions_say_how_they_are_and_how_old_that_is() {
    let server = start(following(fixture())).await;
    let regions = json_of(&server, "/api/v1/regions").await;
    let of = |field: &str| -> Vec<Value> { regions.as_array().unwrap().iter().map(|r| r[field].clone()).collect() };
    assert_eq!(of("name"), ["ap", "eu", "sa", "us-east", "us-west", "za"]);
    assert_eq!(of("state"), ["stale", "good", "unknown", "good", "bad", "drained"]);
    assert_eq!(of("own"), [false, true, false, false, false, false]);
    assert_eq!(of("age"), [json!(400), json!(2), Value::Null, json!(3), json!(4), json!(1)]);
    let east = json_of(&server, "/api/v1/regions/us-east").await;
    assert_eq!(east, regions[3]);
    assert_eq!((&east["leader"], &east["summary"]["up"], &east["term"]), (&json!("us-1"), &json!(12), &json!(99)));
    assert_eq!((&east["down"][0]["target"], &east["latched"][0]), (&json!("mail-1"), &json!("write")));
    let nobody = get(server.address, "/api/v1/regions/us-esat").await;
    assert_eq!((nobody.status, nobody.header("content-type")), (404, Some("application/problem+json")));
    assert!(nobody.json()["detail"].as_str().unwrap().contains("did you mean \"us-east\""), "{nobody:?}");
}

#[tokio::test]
async fn the_page_says_who_leads_and_what_is_lost() {
    let server = start(following(fixture())).await;
    let page = get(server.address, "/").await.body;
    for words in [
        "<a href=\"http://node-b.example:8080\" rel=\"noopener noreferrer\">node-b</a>",
        ">follower<",
        "store answers",
        "term 42",
        "(3 min ago)",
        "2 changes seen, the last: node-a gave up the lead: it shuts down",
        "the stream of node-b, connected for 3 min; the newest is 3 s old",
        "3 nodes",
        "node-a</a> (this node)",
        "node-b</a> (leads)",
        ">GOOD<",
        ">BAD<",
        ">STALE<",
        ">UNKNOWN<",
        ">DRAINED<",
        "1 LATCHED",
        "as of 6 min ago; led by us-1, term 99",
        "nothing heard of it yet; nobody leads it",
    ] {
        assert!(page.contains(words), "{words:?} is missing\n{page}");
    }
    for (led_last, words) in
        [(true, "STATIC LEADER"), (false, "Autonomous: neither the store nor a leader is in reach")]
    {
        server.view.store(Arc::new(alone(fixture(), led_last)));
        let page = get(server.address, "/").await.body;
        for words in [words, "store LOST", "The store does not answer", "<b>not known</b>"] {
            assert!(page.contains(words), "{words:?} is missing\n{page}");
        }
    }
}

#[tokio::test]
async fn what_nodes_and_regions_say_is_escaped_and_no_script_is_a_link() {
    const EVIL: &str = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    for url in ["javascript:alert(1)", EVIL, "http://x/\" onmouseover=\"alert(1)"] {
        let mut view = with(following(fixture()), |c| {
            c.last_reason = Arc::from(EVIL);
            c.results = ResultsFrom::Store { reason: Arc::from(EVIL) };
            c.nodes.iter_mut().for_each(|n| n.url = url.to_owned());
        });
        view.node.leader_url = Some(url.to_owned());
        let server = start(view).await;
        let page = get(server.address, "/").await.body;
        assert_eq!(page.matches("<script").count(), 1, "{url}");
        assert!(
            !page.contains("<img") && !page.contains("href=\"javascript") && !page.contains("\" onmouseover"),
            "{url}"
        );
    }
}
