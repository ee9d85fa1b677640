//! Property tests of the verdicts, and the builder of small catalogs that all tests of this room use.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{aggregate::*, combination::combine, invariants::breaches};
use crate::model::{
    Ack, Catalog, Category, CategoryName, Check, Evaluation, Health, HealthState, Latch, Region, RegionName, Service,
    ServiceName, Severity, Target, TargetName, Timestamp,
};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000_000);

pub(super) fn check() -> Arc<Check> {
    let check = Check::http("127.0.0.1", 80, "/__health");
    Arc::new(Check { via_gateway: true, host_header: "x".into(), ..check })
}

pub(super) fn category(name: &str) -> CategoryName {
    CategoryName::new(name).unwrap()
}

/// One target of a world.
#[derive(Clone, Debug)]
pub(super) struct T {
    pub name: String,
    pub state: HealthState,
    pub ack: Option<Ack>,
    pub severity: u8,
    pub categories: Vec<&'static str>,
}

impl T {
    /// Up, in the categories given beside `default`, severity 2, no ack.
    pub(super) fn up(name: &str, categories: &[&'static str]) -> Self {
        Self { name: name.into(), state: HealthState::Up, ack: None, severity: 2, categories: categories.to_vec() }
    }
    pub(super) fn down(name: &str, categories: &[&'static str]) -> Self {
        Self { state: HealthState::Down, ..Self::up(name, categories) }
    }
    pub(super) fn unknown(name: &str, categories: &[&'static str]) -> Self {
        Self { state: HealthState::Unknown, ..Self::up(name, categories) }
    }
    pub(super) fn acked(self, until: Option<Timestamp>) -> Self {
        Self { ack: Some(Ack { until, ..Ack::text("seen") }), ..self }
    }
}

/// A catalog with its healths and latches.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub catalog: Catalog,
    pub health: Vec<Health>,
    pub latches: BTreeMap<CategoryName, Latch>,
    pub starting: bool,
}

impl World {
    /// Targets in any order; categories `default`, `a`, `b`, `c` are known.
    pub(super) fn new(mut targets: Vec<T>) -> Self {
        targets.sort_by(|x, y| x.name.cmp(&y.name));
        targets.dedup_by(|x, y| x.name == y.name);
        let mut catalog = Catalog::empty(RegionName::default_region());
        for name in ["default", "a", "b", "c"] {
            let name = category(name);
            let one = Category {
                name: name.clone(),
                period: Duration::from_secs(60),
                resilient: false,
                sticky: false,
                enabled: true,
                enabled_revision: 0,
                members: Vec::new(),
            };
            catalog.categories.insert(name, one);
        }
        let check = check();
        let mut health = Vec::new();
        for (index, t) in (0_u32..).zip(targets) {
            let name = TargetName::new(&t.name).unwrap();
            let service = ServiceName::of_target(&name);
            let mut categories: Vec<_> = t.categories.iter().map(|c| category(c)).collect();
            categories.push(category("default"));
            categories.sort();
            for name in &categories {
                catalog.categories.get_mut(name).unwrap().members.push(index);
            }
            let new = || Service { name: service.clone(), members: Vec::new(), spec: Arc::default(), failover: None };
            catalog.services.entry(service.clone()).or_insert_with(new).members.push(index);
            catalog.targets.push(Arc::new(Target {
                name,
                service,
                path: "/__health".into(),
                categories,
                ack: t.ack,
                check: Arc::clone(&check),
                interval: Duration::from_secs(60),
                severity: Severity::new(t.severity).unwrap(),
                business_impact: String::new(),
                technical_summary: String::new(),
                panic_guide: String::new(),
            }));
            health.push(Health { state: t.state, reason: Arc::from("status 503"), ..Health::unknown(NOW) });
        }
        Self { catalog, health, latches: BTreeMap::new(), starting: false }
    }

    pub(super) fn category(&mut self, name: &str) -> &mut Category {
        self.catalog.categories.get_mut(name).unwrap()
    }

    pub(super) fn input<'a>(&'a self, previous: Option<&'a Evaluation>) -> Input<'a> {
        Input {
            catalog: &self.catalog,
            health: &self.health,
            latches: &self.latches,
            previous,
            failure_revisions: &[],
            now: NOW,
            starting: self.starting,
        }
    }

    /// Evaluates, and has the independent checker look at it.
    pub(super) fn evaluate(&self, previous: Option<&Evaluation>) -> Evaluation {
        let input = self.input(previous);
        let evaluation = evaluate(&input);
        let found = breaches(&input, &evaluation);
        assert!(found.is_empty(), "{found:#?}\n{evaluation:#?}");
        evaluation
    }

    pub(super) fn drain(&mut self) {
        let name = self.catalog.region.clone();
        let region = Region { name: name.clone(), enabled: false, spec: Arc::default() };
        self.catalog.regions.insert(name, region);
    }
}

fn targets() -> impl Strategy<Value = Vec<T>> {
    let state = prop_oneof![
        3 => Just(HealthState::Up), 2 => Just(HealthState::Down), 1 => Just(HealthState::Unknown)];
    let ack = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Ack::text("seen"))),
        1 => (990_i64..1010).prop_map(|s| Some(Ack { until: Some(Timestamp::from_millis(s * 1000)), ..Ack::text("seen") })),
    ];
    let categories = prop::sample::subsequence(vec!["a", "b"], 0..=2);
    let one = ("[xyz]-[1-6]", state, ack, 1_u8..=3, categories)
        .prop_map(|(name, state, ack, severity, categories)| T { name, state, ack, severity, categories });
    prop::collection::vec(one, 0..24)
}

prop_compose! {
    fn worlds()(
        targets in targets(),
        flags in prop::collection::vec(any::<(bool, bool)>(), 4),
        switches in prop::collection::vec((prop::bool::weighted(0.8), 0_i64..10, prop::option::weighted(0.3, 0_i64..10)), 4),
        drained in prop::bool::weighted(0.1),
        starting in prop::bool::weighted(0.1),
    ) -> World {
        let mut world = World::new(targets);
        for (((name, (resilient, sticky)), (enabled, revision, latch)), _) in
            ["default", "a", "b", "c"].iter().zip(flags).zip(switches).zip(0..)
        {
            let one = world.category(name);
            (one.resilient, one.sticky, one.enabled, one.enabled_revision) = (resilient, sticky, enabled, revision);
            if let Some(revision) = latch {
                let latch = Latch { v: 1, by: "n".into(), at: NOW, reason: "r".into(), revision };
                world.latches.insert(category(name), latch);
            }
        }
        if drained { world.drain(); }
        world.starting = starting;
        world
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Determinism; and idempotence: evaluated again after itself, nothing but the announcement of new latches changes.
    #[test]
    fn equal_inputs_give_equal_outputs(world in worlds(), before in worlds()) {
        let previous = before.evaluate(None);
        for previous in [None, Some(&previous)] {
            let first = world.evaluate(previous);
            prop_assert_eq!(&first, &world.evaluate(previous));
            let mut again = world.evaluate(Some(&first));
            prop_assert!(again.new_latches.is_empty());
            again.new_latches = first.new_latches.clone();
            prop_assert_eq!(first, again);
        }
    }

    /// The order in which targets were read does not matter, nor does that of the words of a request.
    #[test]
    fn order_does_not_matter(mut list in targets(), seed in any::<prop::sample::Index>()) {
        list.sort_by(|x, y| x.name.cmp(&y.name));
        list.dedup_by(|x, y| x.name == y.name);
        let world = World::new(list.clone());
        let middle = if list.is_empty() { 0 } else { seed.index(list.len()) };
        list.rotate_left(middle);
        list.reverse();
        let evaluation = world.evaluate(None);
        prop_assert_eq!(&evaluation, &World::new(list).evaluate(None));
        let of = |words: &[&str]| combine(&world.catalog, &evaluation, &world.health, words, false).verdict;
        prop_assert_eq!(of(&["a", "b"]), of(&["b", "a", "b"]));
    }

    /// Making a target healthy, or acking it, never makes a verdict worse.
    #[test]
    fn better_health_is_never_a_worse_verdict(mut world in worlds(), which in any::<prop::sample::Index>(), ack in any::<bool>()) {
        prop_assume!(!world.health.is_empty());
        let before = world.evaluate(None);
        let both = combine(&world.catalog, &before, &world.health, &["a", "b"], world.starting).verdict.unwrap();
        let index = which.index(world.health.len());
        if ack {
            Arc::make_mut(&mut world.catalog.targets[index]).ack = Some(Ack::text("seen"));
        } else {
            world.health[index].state = HealthState::Up;
        }
        let after = world.evaluate(None);
        for (name, verdict) in &before.categories {
            let now = &after.categories[name];
            prop_assert!(now.ok >= verdict.ok && now.healthy >= verdict.healthy, "{}", name);
            prop_assert!(now.severity.map_or(4, Severity::get) >= verdict.severity.map_or(4, Severity::get));
        }
        for (name, verdict) in &before.services {
            prop_assert!(after.services[name].ok >= verdict.ok, "{}", name);
        }
        let now = combine(&world.catalog, &after, &world.health, &["a", "b"], world.starting).verdict.unwrap();
        prop_assert!(now.ok >= both.ok);
    }

    /// A resilient category is never worse than the same one that is not.
    #[test]
    fn resilience_never_harms(mut world in worlds()) {
        for name in ["default", "a", "b", "c"] { world.category(name).resilient = false; }
        let plain = world.evaluate(None);
        for name in ["default", "a", "b", "c"] { world.category(name).resilient = true; }
        let resilient = world.evaluate(None);
        for (name, verdict) in &plain.categories {
            prop_assert!(resilient.categories[name].ok >= verdict.ok, "{}", name);
        }
    }

    /// A combination of known categories is ok only if it would be with one word less, unless resilience is lost by it;
    /// one word alone is that category's own verdict.
    #[test]
    fn combinations_agree_with_their_parts(world in worlds()) {
        let evaluation = world.evaluate(None);
        let of = |words: &[&str]| combine(&world.catalog, &evaluation, &world.health, words, world.starting);
        for name in ["default", "a", "b", "c"] {
            prop_assert_eq!(of(&[name, name]).verdict, evaluation.categories.get(name).cloned());
        }
        let both = of(&["a", "b"]).verdict.unwrap();
        let parts = [&evaluation.categories["a"], &evaluation.categories["b"]];
        prop_assert!(!both.ok || parts.iter().all(|p| p.enabled && p.latch.is_none()));
        let resilient = of(&["a", "b"]).resilient;
        let members = |name: &str| world.catalog.categories[name].members.iter().copied();
        let union: std::collections::BTreeSet<u32> = members("a").chain(members("b")).collect();
        prop_assert_eq!(of(&["b", "a"]).members, union.into_iter().collect::<Vec<_>>());
        if !resilient {
            // Every target of both counts: not ok if either part is not ok.
            prop_assert!(!both.ok || parts.iter().all(|p| p.ok));
        }
        prop_assert_eq!(both.ok, both.reasons.is_empty());
    }
}
