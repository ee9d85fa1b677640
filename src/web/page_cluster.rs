//! The cluster on the page: this node's standing, who leads, who is there, and what other regions say of themselves, in
//! words beside the colours.

use super::{
    Web,
    health::Report,
    page_rows::{Mark, clock_time, human, mark},
    respond, standing,
};
use crate::model::{NodeStatus, RegionName, Role, StoreState, cluster::ResultsFrom};

/// Most nodes that are named; the rest is counted.
const MAX_NODES: usize = 20;
/// Most regions that are shown; the rest is in the API.
const MAX_REGIONS: usize = 50;

/// All of it.
pub(super) struct Cluster<'a> {
    pub(super) role: Mark,
    pub(super) role_since: String,
    pub(super) store: Mark,
    pub(super) leader: Option<NodeRow<'a>>,
    pub(super) leader_since: Option<String>,
    pub(super) term: i64,
    pub(super) changes: String,
    pub(super) reason: String,
    pub(super) nodes: Vec<NodeRow<'a>>,
    pub(super) nodes_head: String,
    pub(super) more_nodes: usize,
    pub(super) results: String,
    pub(super) regions: Vec<RegionRow<'a>>,
    pub(super) more_regions: usize,
}

/// One node.
pub(super) struct NodeRow<'a> {
    pub(super) name: &'a str,
    /// Where its page is; none where its URL is none that a link may have.
    pub(super) link: Option<&'a str>,
    /// `this node`, `leads`; may be empty.
    pub(super) marks: String,
}

/// Another region.
pub(super) struct RegionRow<'a> {
    pub(super) name: &'a RegionName,
    pub(super) word: &'static str,
    pub(super) colour: &'static str,
    pub(super) counts: Vec<Mark>,
    pub(super) detail: String,
}

/// Gathers it.
pub(super) fn cluster<'a>(web: &Web, report: &Report<'a>) -> Cluster<'a> {
    let view = report.view;
    let (node, status) = (&view.node, &*view.cluster);
    let ago = |at| human(report.now.wall.since(at));
    let leader = node.leader.as_ref().map(|name| NodeRow {
        name: name.as_str(),
        link: node.leader_url.as_deref().and_then(linkable),
        marks: if *name == node.node { "this node".to_owned() } else { String::new() },
    });
    let of_leader = status.leader.as_ref().filter(|l| Some(&l.node) == node.leader.as_ref());
    let regions = regions(report);
    let others = view.regions.keys().filter(|name| **name != node.region).count();
    let more_regions = others.saturating_sub(regions.len());
    Cluster {
        role: role(node),
        role_since: ago(node.since),
        store: match node.store {
            StoreState::Ok => mark("store answers", "plain"),
            StoreState::Lost => mark("store LOST", "red"),
        },
        leader,
        leader_since: of_leader.map(|l| format!("{} ({} ago)", clock_time(l.since), ago(l.since))),
        term: node.term,
        changes: match status.transitions {
            0 => "no change seen".to_owned(),
            1 => "1 change seen".to_owned(),
            n => format!("{n} changes seen"),
        },
        reason: respond::one_line(&status.last_reason, 300),
        nodes: nodes(report),
        nodes_head: match status.nodes.len() {
            1 => "1 node".to_owned(),
            n => format!("{n} nodes"),
        },
        more_nodes: status.nodes.len().saturating_sub(MAX_NODES),
        results: results(web, report),
        regions,
        more_regions,
    }
}

fn role(node: &NodeStatus) -> Mark {
    match (node.role, node.static_leader) {
        (Role::Leader, _) => mark("leader", "green"),
        (Role::Follower, _) => mark("follower", "green"),
        (Role::Starting, _) => mark("starting", "amber"),
        (Role::Autonomous, true) => mark("autonomous: STATIC LEADER", "amber"),
        (Role::Autonomous, false) => mark("autonomous", "amber"),
    }
}

/// A URL that may stand in a link: what a node writes of itself must not become a script.
fn linkable(url: &str) -> Option<&str> {
    (url.starts_with("http://") || url.starts_with("https://")).then_some(url)
}

fn nodes<'a>(report: &Report<'a>) -> Vec<NodeRow<'a>> {
    let view = report.view;
    let rows = view.cluster.nodes.iter().take(MAX_NODES).map(|of| {
        let leads = view.node.leader.as_ref() == Some(&of.node);
        let own = of.node == view.node.node;
        let marks = match (own, leads) {
            (true, true) => "this node, leads",
            (true, false) => "this node",
            (false, true) => "leads",
            (false, false) => "",
        };
        NodeRow { name: of.node.as_str(), link: linkable(&of.url), marks: marks.to_owned() }
    });
    rows.collect()
}

/// Where the results come from, and how old they are.
fn results(web: &Web, report: &Report<'_>) -> String {
    let from = standing::results_words(&report.view.cluster.results);
    let since = match &report.view.cluster.results {
        ResultsFrom::Stream { since, .. } => {
            format!(", connected for {}", human(report.now.wall.since(*since)))
        }
        _ => String::new(),
    };
    match standing::newest_result(web, report.view) {
        Some((_, age)) => format!("{from}{since}; the newest is {} old", human(age)),
        None => format!("{from}{since}; none yet"),
    }
}

fn regions<'a>(report: &Report<'a>) -> Vec<RegionRow<'a>> {
    let view = report.view;
    let others = view.regions.iter().filter(|(name, _)| **name != view.node.region);
    let rows = others.take(MAX_REGIONS).map(|(name, region)| {
        let state = standing::region_state(region, report.now.wall);
        let mut counts = Vec::new();
        if let Some(s) = &region.summary {
            let all = [(s.up, "up"), (s.down, "down"), (s.unknown, "unknown")];
            counts
                .extend(all.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| mark(format!("{n} {word}"), "plain")));
        }
        if !region.latched.is_empty() {
            counts.push(mark(format!("{} LATCHED", region.latched.len()), "red"));
        }
        let leader = match &region.leader {
            Some(leader) => format!("led by {leader}, term {}", region.term),
            None => "nobody leads it".to_owned(),
        };
        let age = match standing::summary_age(region, report.now.wall) {
            Some(age) => format!("as of {} ago", human(age)),
            None => "nothing heard of it yet".to_owned(),
        };
        RegionRow { name, word: state.word(), colour: state.colour(), counts, detail: format!("{age}; {leader}") }
    });
    rows.collect()
}
