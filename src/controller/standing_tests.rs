//! Tests of who a node takes itself for, row by row of design section 4.5, and as properties.

use proptest::prelude::*;

use super::*;
use crate::model::RegionName;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn whom(node: &str, term: i64) -> Whom {
    Whom { node: name(node), url: format!("http://{node}"), term }
}

/// A peer that follows nobody and has no store.
fn peer(node: &str, term: i64) -> PeerNode {
    PeerNode {
        node: name(node),
        region: RegionName::new("eu").unwrap(),
        role: Role::Follower,
        term,
        leader: None,
        leader_url: None,
        leader_term: None,
        store: StoreState::Lost,
        static_leader: false,
    }
}

fn says(node: &str, leader: &str, term: i64) -> PeerNode {
    let (leader, leader_url) = (Some(name(leader)), Some(format!("http://{leader}")));
    PeerNode { leader, leader_url, ..peer(node, term) }
}

fn live(node: &str, leader: &str, term: i64) -> PeerNode {
    PeerNode { store: StoreState::Ok, ..says(node, leader, term) }
}

fn fixed(node: &str, term: i64) -> PeerNode {
    PeerNode { static_leader: true, role: Role::Autonomous, ..says(node, node, term) }
}

struct Given {
    me: NodeName,
    leads: bool,
    session: bool,
    leader: Option<Whom>,
    store: StoreState,
    stream: Option<Whom>,
    peers: Vec<PeerNode>,
    led_last: Option<i64>,
    last: Option<Whom>,
    without: u64,
    draining: bool,
    synced: bool,
}

/// Node `m`, cut off from the store, that never led and knows nobody.
fn cut() -> Given {
    Given {
        me: name("m"),
        leads: false,
        session: false,
        leader: None,
        store: StoreState::Lost,
        stream: None,
        peers: Vec::new(),
        led_last: None,
        last: None,
        without: 0,
        draining: false,
        synced: true,
    }
}

impl Given {
    fn decide(&self) -> Decision {
        decide(&Facts {
            node: &self.me,
            synced: self.synced,
            draining: self.draining,
            leads: self.leads,
            session: self.session,
            leader: self.leader.as_ref(),
            store: self.store,
            stream: self.stream.as_ref(),
            peers: &self.peers,
            led_last: self.led_last,
            last: self.last.as_ref(),
            without: Duration::from_secs(self.without),
            bound: Duration::from_secs(12),
        })
    }

    fn place(&self) -> Place {
        self.decide().place
    }
}

fn following(node: &str, term: i64) -> Place {
    Place::Follower { whom: Some(whom(node, term)) }
}

#[test]
fn with_a_store_the_leader_key_decides() {
    assert_eq!(Given { synced: false, ..cut() }.place(), Place::Starting);
    let up = || Given { session: true, store: StoreState::Ok, ..cut() };
    assert_eq!(Given { leads: true, ..up() }.place(), Place::Leader);
    // Authority counts, not what the feed says.
    assert_eq!(Given { leads: true, ..cut() }.place(), Place::Leader);
    let told = Given { leader: Some(whom("a", 9)), led_last: Some(5), peers: vec![fixed("z", 99)], ..up() }.decide();
    assert_eq!((told.place, told.gave_way), (following("a", 9), true));
    // Nobody leads: it stands for election, and does not probe meanwhile.
    assert_eq!(up().place(), Place::Follower { whom: None });
    assert_eq!(Given { led_last: Some(5), without: 2, ..up() }.place(), Place::Follower { whom: None });
    // Nobody can take the key (NOSPACE).
    assert_eq!(Given { led_last: Some(5), without: 3, ..up() }.place(), Place::StaticLeader { term: 5 });
    assert_eq!(Given { without: 12, ..up() }.place(), Place::Autonomous { whom: None });
    assert_eq!(Given { without: 12, stream: Some(whom("a", 5)), ..up() }.place(), following("a", 5));
}

#[test]
fn who_led_last_goes_on_until_somebody_has_led_since() {
    let old = || Given { led_last: Some(5), without: 60, ..cut() };
    let fixed_place = Place::StaticLeader { term: 5 };
    assert_eq!(old().place(), fixed_place);
    assert_eq!(Given { without: 0, ..old() }.place(), fixed_place, "at once");
    // Followers of its own, one that still believes in it with a store, and a lower static leader change nothing.
    let peers = vec![says("a", "m", 5), live("b", "m", 5), fixed("c", 4), peer("d", 3)];
    assert_eq!(Given { peers, ..old() }.place(), fixed_place);
    // A live store and another leader, even of a lower number (another generation).
    for term in [4, 6] {
        let told = Given { peers: vec![live("a", "b", term)], ..old() }.decide();
        assert_eq!((told.place, told.gave_way), (following("b", term), true));
    }
    // A higher term alone.
    let told = Given { peers: vec![peer("a", 6)], ..old() }.decide();
    assert_eq!((told.place, told.gave_way), (Place::Follower { whom: None }, true));
    let told = Given { peers: vec![fixed("a", 6), peer("b", 7)], ..old() }.decide();
    assert_eq!((told.place, told.gave_way), (following("a", 6), true));
    // One that ends is nobody's leader.
    assert_eq!(Given { draining: true, ..old() }.place(), Place::Follower { whom: None });
}

#[test]
fn the_others_follow_the_highest_term_and_keep_a_stream_that_lives() {
    let peers = || vec![fixed("a", 4), fixed("b", 6), says("c", "x", 9)];
    assert_eq!(Given { peers: peers(), ..cut() }.place(), following("b", 6), "hearsay does not count");
    let streaming = |term| Given { stream: Some(whom("s", term)), peers: peers(), ..cut() };
    assert_eq!(streaming(6).place(), following("s", 6));
    assert_eq!(streaming(5).place(), following("b", 6));
    let peers = vec![live("c", "x", 2)];
    assert_eq!(Given { stream: Some(whom("s", 6)), peers, ..cut() }.place(), following("x", 2), "a live store decides");
    // Nobody answers: it waits for whom it knew, then probes for itself and goes on trying.
    let lost = |without| Given { last: Some(whom("a", 5)), without, ..cut() };
    assert_eq!(lost(11).place(), following("a", 5));
    assert_eq!(lost(12).place(), Place::Autonomous { whom: Some(whom("a", 5)) });
    assert_eq!(
        Given { peers: vec![fixed("b", 6)], ..lost(12) }.place(),
        Place::Autonomous { whom: Some(whom("b", 6)) }
    );
    assert_eq!(Given { stream: Some(whom("b", 6)), ..lost(0) }.place(), following("b", 6));
}

#[test]
fn the_bound_is_twice_the_longest_interval_and_spread_by_name() {
    let spread: std::collections::BTreeSet<Duration> =
        (0..50).map(|i| bound(Duration::from_secs(3), &name(&format!("n-{i}")))).collect();
    assert!(spread.len() > 10);
    assert!(spread.iter().all(|b| (10..=12).contains(&b.as_secs())), "{spread:?}");
    assert!(bound(Duration::from_secs(60), &name("a")) >= Duration::from_secs(120));
}

#[test]
fn the_highest_term_that_a_peer_has_seen_is_not_its_leaders() {
    // `b` heard of term 9, which is over, and knows the leader of term 5; `c` knows the leader of term 7.
    let behind = PeerNode { leader_term: Some(5), ..live("b", "old", 9) };
    let given = Given { peers: vec![behind.clone(), live("c", "new", 7)], ..cut() };
    assert_eq!(given.place().whom(), Some(&whom("new", 7)));
    let given = Given { peers: vec![behind], ..cut() };
    assert_eq!(given.place().whom(), Some(&whom("old", 5)), "better than nobody");
}

fn any_peer() -> impl Strategy<Value = PeerNode> {
    let names = prop::sample::select(vec!["a", "b", "m", "x", "z"]);
    (names.clone(), prop::option::of(names), 0_i64..8, any::<bool>(), any::<bool>()).prop_map(
        |(node, leader, term, store, static_leader)| PeerNode {
            leader: leader.map(name),
            leader_url: leader.map(|l| format!("http://{l}")),
            store: if store { StoreState::Ok } else { StoreState::Lost },
            static_leader,
            ..peer(node, term)
        },
    )
}

proptest! {
    #[test]
    fn nobody_leads_without_authority_and_nobody_follows_itself(
        peers in prop::collection::vec(any_peer(), 0..6),
        led_last in prop::option::of(0_i64..8),
        without in 0_u64..20,
        (session, stream, draining) in any::<(bool, bool, bool)>(),
    ) {
        let store = if session { StoreState::Ok } else { StoreState::Lost };
        let stream = stream.then(|| whom("s", 5));
        let given = Given { session, store, peers: peers.clone(), led_last, without, stream, draining, ..cut() };
        let decision = given.decide();
        prop_assert_ne!(decision.place.role(), Role::Leader);
        prop_assert!(decision.place.whom().is_none_or(|w| w.node != given.me));
        if let Place::StaticLeader { term } = decision.place {
            prop_assert_eq!(Some(term), led_last);
            prop_assert!(!draining && !decision.gave_way);
            prop_assert!(peers.iter().all(|p| p.term <= term));
        }
        let mut turned = Given { peers: peers.into_iter().rev().collect(), ..given };
        prop_assert_eq!(&turned.place(), &decision.place, "the order of the answers does not matter");
        // Who once gave way does not lead its old term again.
        if decision.gave_way {
            turned.led_last = None;
            turned.peers.clear();
            let resumed = matches!(turned.place(), Place::StaticLeader { .. });
            prop_assert!(!resumed);
        }
    }

    /// Of two static leaders that see each other exactly one goes on.
    #[test]
    fn two_static_leaders_become_one(a in 1_i64..5, b in 1_i64..5) {
        let one = |me: &str, term, other: &str, their| {
            let given = Given { me: name(me), led_last: Some(term), peers: vec![fixed(other, their)], ..cut() };
            matches!(given.place(), Place::StaticLeader { .. })
        };
        prop_assert!(one("m", a, "n", b) ^ one("n", b, "m", a));
    }
}
