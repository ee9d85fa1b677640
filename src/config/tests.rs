//! Tests of the builder by the table of design section 3.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::model::{Catalog, FaultLevel, Mono, Now, RegionName, Timestamp, target::Kind};

pub(super) fn now(secs: u64) -> Now {
    Now {
        wall: Timestamp::from_millis(1_790_000_000_000 + i64::try_from(secs).unwrap() * 1000),
        mono: Mono::from_origin(Duration::from_secs(secs)),
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        root: "/ft".to_owned(),
        region: RegionName::new("eu").unwrap(),
        gateway: Some("localhost:8080".to_owned()),
        sev_1_apps: vec!["big".to_owned(), String::new()],
        mass_removal_hold: Duration::from_secs(30),
    }
}

pub(super) struct Bench {
    pub builder: CatalogBuilder,
    revision: i64,
    pub at: u64,
}

impl Bench {
    pub fn new() -> Self {
        Self { builder: CatalogBuilder::new(settings()), revision: 0, at: 0 }
    }
    pub fn change(&mut self, changes: &[(&str, Option<&str>)]) -> bool {
        self.revision += 1;
        let revision = self.revision;
        let events = changes.iter().map(|(key, value)| RawEvent {
            key,
            value: value.map(str::as_bytes),
            mod_revision: revision,
        });
        self.builder.apply(revision, events, now(self.at))
    }
    pub fn put(&mut self, key: &str, value: &str) -> bool {
        self.change(&[(key, Some(value))])
    }
    pub fn delete(&mut self, key: &str) -> bool {
        self.change(&[(key, None)])
    }
    pub fn catalog(&self) -> Arc<Catalog> {
        self.builder.catalog()
    }
    pub fn faults(&self) -> Vec<String> {
        self.catalog().faults.iter().map(|f| format!("{:?} {}: {}", f.level, f.key, f.reason)).collect()
    }
}

#[test]
fn an_empty_store_has_the_default_category_and_its_own_region() {
    let bench = Bench::new();
    let catalog = bench.catalog();
    let default = &catalog.categories["default"];
    assert_eq!((default.period, default.resilient, default.sticky), (Duration::from_secs(60), false, false));
    assert_eq!((default.enabled, default.enabled_revision), (true, 0));
    assert!(catalog.regions["eu"].enabled);
    assert!(catalog.faults.is_empty());
}

#[test]
fn a_target_by_ft_keys_alone_goes_through_the_gateway() {
    let mut bench = Bench::new();
    assert!(bench.put("healthcheck/foo-service-1/path", "/__health"));
    assert!(bench.put("healthcheck/foo-service-1/categories", " read, publish ,read"));
    let catalog = bench.catalog();
    let target = catalog.target("foo-service-1").unwrap();
    assert_eq!(target.service.as_str(), "foo-service");
    assert_eq!(target.categories.iter().map(|c| c.as_str()).collect::<Vec<_>>(), ["default", "publish", "read"]);
    let check = &target.check;
    assert_eq!((check.kind, check.host.as_str(), check.port, check.via_gateway), (Kind::Http, "localhost", 8080, true));
    assert_eq!((check.path.as_str(), check.host_header.as_str()), ("/health/foo-service-1/__health", "foo-service-1"));
    assert_eq!(catalog.categories["read"].members, [0]);
    assert_eq!(catalog.services["foo-service"].members, [0]);
    assert_eq!(catalog.revision, 2);
}

#[test]
fn any_key_makes_a_target_and_a_misspelt_one_is_a_hint() {
    let mut bench = Bench::new();
    bench.put("healthcheck/foo/pth", "/x");
    let catalog = bench.catalog();
    assert_eq!(catalog.target("foo").unwrap().path, "/__health");
    let fault = &catalog.faults[0];
    assert_eq!((fault.level, fault.key.as_str()), (FaultLevel::Hint, "/ft/healthcheck/foo/pth"));
    assert_eq!(fault.nearest.as_deref(), Some("path"));
    bench.delete("healthcheck/foo/pth");
    assert!(bench.catalog().targets.is_empty());
    assert!(bench.catalog().faults.is_empty());
}

#[test]
fn a_bad_value_keeps_the_last_good_one_and_is_listed_until_mended() {
    let mut bench = Bench::new();
    bench.put("healthcheck-categories/read/period_seconds", "10");
    bench.at = 5;
    bench.put("healthcheck-categories/read/period_seconds", "10s");
    let catalog = bench.catalog();
    assert_eq!(catalog.categories["read"].period, Duration::from_secs(10));
    assert_eq!(catalog.faults[0].nearest.as_deref(), Some("10"));
    assert_eq!(catalog.faults[0].since, now(5).wall);
    bench.at = 9;
    bench.put("healthcheck-categories/read/period_seconds", "0");
    assert_eq!(bench.catalog().categories["read"].period, Duration::from_secs(10), "the good one, not the bad before");
    bench.put("healthcheck-categories/read/period_seconds", "20");
    assert_eq!(bench.catalog().categories["read"].period, Duration::from_secs(20));
    assert!(bench.catalog().faults.is_empty());
    bench.put("healthcheck-categories/write/period_seconds", "-1");
    assert_eq!(bench.catalog().categories["write"].period, Duration::from_secs(60), "no good one: the default");
    bench.delete("healthcheck-categories/write/period_seconds");
    assert!(bench.catalog().faults.is_empty());
    assert!(!bench.catalog().categories.contains_key("write"));
}

#[test]
fn an_unreadable_switch_counts_as_off() {
    let mut bench = Bench::new();
    bench.put("healthcheck-categories/read/enabled", "true");
    assert_eq!(bench.catalog().categories["read"].enabled_revision, 1);
    bench.put("healthcheck-categories/read/enabled", "flase");
    let read = bench.catalog().categories["read"].clone();
    assert_eq!((read.enabled, read.enabled_revision), (false, 2));
    assert_eq!(bench.faults().len(), 1);
    bench.put("healthcheck-categories/read/enabled", "flase");
    assert_eq!(bench.catalog().categories["read"].enabled_revision, 3, "a put of the same value is an act too");
    bench.delete("healthcheck-categories/read/enabled");
    assert!(!bench.catalog().categories.contains_key("read"));
}

#[test]
fn intervals_take_the_shortest_period_and_the_built_in_default_gives_way() {
    let mut bench = Bench::new();
    bench.put("healthcheck/a/path", "/x");
    let interval = |bench: &Bench| bench.catalog().target("a").unwrap().interval.as_secs();
    assert_eq!(interval(&bench), 60);
    bench.put("healthcheck/a/categories", "slow");
    bench.put("healthcheck-categories/slow/period_seconds", "300");
    assert_eq!(interval(&bench), 300, "FT's built-in 60 s made longer periods void");
    let check = Arc::clone(&bench.catalog().target("a").unwrap().check);
    bench.put("healthcheck-categories/default/period_seconds", "120");
    assert_eq!(interval(&bench), 120);
    assert!(Arc::ptr_eq(&check, &bench.catalog().target("a").unwrap().check), "a period is no reason to probe anew");
    bench.put("healthcheck/a/spec", r#"{"interval": "500ms"}"#);
    assert_eq!(bench.catalog().target("a").unwrap().interval, Duration::from_millis(500));
    bench.delete("healthcheck-categories/default/period_seconds");
    bench.put("healthcheck/a/spec", r#"{"interval": "10m"}"#);
    assert_eq!(interval(&bench), 300);
}

#[test]
fn one_change_leaves_all_other_targets_as_they_are() {
    let mut bench = Bench::new();
    bench.put("healthcheck/a/path", "/x");
    bench.put("healthcheck/b/path", "/x");
    let before = bench.catalog();
    assert!(bench.put("healthcheck/b/ack", "seen"));
    let after = bench.catalog();
    assert!(Arc::ptr_eq(&before.targets[0], &after.targets[0]));
    assert!(!Arc::ptr_eq(&before.targets[1], &after.targets[1]));
    assert!(Arc::ptr_eq(&before.targets[1].check, &after.targets[1].check));
    assert_eq!(after.targets[1].ack.as_ref().unwrap().message, "seen");
    assert!(!bench.put("healthcheck/b/ack", "seen"), "the same again is no change");
    assert!(!bench.put("services/b/servers/1", "10.0.0.1"), "others' keys are no change");
    bench.put("healthcheck/b/ack", "");
    assert!(bench.catalog().targets[1].ack.is_none());
}

#[test]
fn acks_are_text_or_json() {
    let mut bench = Bench::new();
    bench.put("healthcheck/a/ack", r#"{"message": "m", "by": "ann", "until": "2026-01-31T12:00:00Z"}"#);
    let ack = bench.catalog().target("a").unwrap().ack.clone().unwrap();
    assert_eq!((ack.message.as_str(), ack.by.as_deref(), ack.until.is_some()), ("m", Some("ann"), true));
    bench.put("healthcheck/a/ack", r#"{"message": "m" oops"#);
    assert_eq!(bench.catalog().target("a").unwrap().ack.as_ref().unwrap().message, r#"{"message": "m" oops"#);
    bench.put("healthcheck/a/ack", r#"{"mesage": "m"}"#);
    assert_eq!(bench.catalog().faults[0].nearest.as_deref(), Some("message"));
    bench.put("config/aggregate-healthcheck/cluster-ack", " all seen ");
    assert_eq!(bench.catalog().cluster_ack.as_ref().unwrap().message, "all seen");
    bench.put("config/aggregate-healthcheck/cluster-ack", "  ");
    assert!(bench.catalog().cluster_ack.is_none());
}

#[test]
fn the_overlay_of_this_region_wins_and_of_others_is_only_judged() {
    let mut bench = Bench::new();
    bench.put("healthcheck/a/path", "/plain");
    bench.put("regions/eu/overlay/healthcheck/a/path", "/eu");
    bench.put("regions/us/overlay/healthcheck/a/path", "/us");
    bench.put("regions/us/overlay/healthcheck/b/path", "no slash");
    assert_eq!(bench.catalog().target("a").unwrap().path, "/eu");
    assert!(bench.catalog().target("b").is_none());
    assert_eq!(bench.faults().len(), 1);
    bench.put("healthcheck-categories/default/enabled", "true");
    bench.put("regions/eu/overlay/healthcheck-categories/default/enabled", "off");
    let default = bench.catalog().categories["default"].clone();
    assert_eq!((default.enabled, default.enabled_revision), (false, 6));
    bench.put("regions/eu/overlay/services/a/spec", "{}");
    assert!(
        bench.faults().iter().any(|f| f.contains("only targets and categories can be overlaid")),
        "{:?}",
        bench.faults()
    );
    bench.delete("regions/eu/overlay/healthcheck/a/path");
    assert_eq!(bench.catalog().target("a").unwrap().path, "/plain");
    bench.delete("healthcheck/a/path");
    assert!(bench.catalog().target("a").is_none());
    bench.put("regions/eu/overlay/healthcheck/only-here/path", "/x");
    assert!(bench.catalog().target("only-here").is_some());
}

#[test]
fn regions_of_a_spec_filter_and_the_region_fills_the_url() {
    let mut bench = Bench::new();
    bench.put("healthcheck/a/spec", r#"{"regions": ["us"], "service": "s"}"#);
    bench.put("healthcheck/b/spec", r#"{"url": "https://b.{region}.example/h?x=1", "service": "s"}"#);
    let catalog = bench.catalog();
    assert_eq!(catalog.targets.len(), 1);
    let check = &catalog.target("b").unwrap().check;
    assert_eq!((check.host.as_str(), check.port, check.path.as_str()), ("b.eu.example", 443, "/h?x=1"));
    assert_eq!(catalog.services["s"].members, [0]);
    assert!(catalog.faults.is_empty(), "{:?}", catalog.faults);
}

#[test]
fn without_a_gateway_a_target_needs_a_url() {
    let mut bench = Bench::new();
    bench.builder = CatalogBuilder::new(Settings { gateway: None, ..settings() });
    bench.put("healthcheck/a/path", "/x");
    let catalog = bench.catalog();
    assert_eq!(catalog.target("a").unwrap().check.kind, Kind::Heartbeat);
    assert_eq!(catalog.faults[0].key, "/ft/healthcheck/a");
    bench.put("healthcheck/a/spec", r#"{"url": "http://127.0.0.1:1"}"#);
    assert_eq!(bench.catalog().target("a").unwrap().check.path, "/x");
    assert!(bench.catalog().faults.is_empty());
}

#[test]
fn severity_by_spec_or_flag_the_more_severe() {
    let mut bench = Bench::new();
    bench.put("healthcheck/big-1/spec", r#"{"severity": 3}"#);
    bench.put("healthcheck/bigger/spec", r#"{"severity": 3}"#);
    bench.put("healthcheck/x/path", "/x");
    let severity = |name: &str| bench.catalog().target(name).unwrap().severity.get();
    assert_eq!((severity("big-1"), severity("bigger"), severity("x")), (1, 3, 2));
}

#[test]
fn circles_of_services_are_refused_by_name() {
    let mut bench = Bench::new();
    bench.change(&[
        ("services/a/spec", Some(r#"{"depends_on": ["b"]}"#)),
        ("services/b/spec", Some(r#"{"depends_on": [{"service": "c"}]}"#)),
        ("services/c/spec", Some(r#"{"depends_on": [{"any_of": ["a"]}, {"service": "d", "require": "soft"}]}"#)),
    ]);
    let faults = bench.faults();
    assert!(faults.iter().any(|f| f.contains("/ft/services/a/spec") && f.contains("a → b → c → a")), "{faults:?}");
    assert!(faults.iter().any(|f| f.contains("no service \"d\"")), "{faults:?}");
    assert!(bench.catalog().services["a"].spec.depends_on.is_none());
    bench.put("services/c/spec", "{}");
    assert!(bench.catalog().services["a"].spec.depends_on.is_some());
    assert!(bench.catalog().faults.is_empty());
}

fn twelve(bench: &mut Bench) -> Vec<String> {
    let keys: Vec<String> = (10..22).map(|n| format!("healthcheck/t-{n}/path")).collect();
    for key in &keys {
        bench.put(key, "/x");
    }
    keys
}

#[test]
fn a_mass_removal_waits_shrinks_and_is_applied() {
    let mut bench = Bench::new();
    let keys = twelve(&mut bench);
    bench.at = 100;
    let gone: Vec<(&str, Option<&str>)> = keys.iter().take(8).map(|k| (k.as_str(), None)).collect();
    assert!(bench.change(&gone));
    let catalog = bench.catalog();
    assert_eq!(catalog.targets.len(), 12);
    assert_eq!(catalog.held.as_ref().unwrap().targets.len(), 8);
    assert_eq!(catalog.held.as_ref().unwrap().until, now(130).wall);
    assert!(catalog.faults[0].reason.contains("8 of 12"), "{:?}", catalog.faults);
    assert_eq!(bench.builder.next_due(), Some(now(130).mono));
    bench.put(&keys[0], "/y");
    assert_eq!(bench.catalog().held.as_ref().unwrap().targets.len(), 7);
    assert_eq!(bench.catalog().targets[0].path, "/y");
    assert!(!bench.builder.tick(now(129)));
    assert!(bench.builder.tick(now(130)));
    assert_eq!(bench.catalog().targets.len(), 5);
    assert!(bench.catalog().held.is_none() && bench.catalog().faults.is_empty());
    assert_eq!(bench.builder.next_due(), None);
}

#[test]
fn removals_one_by_one_are_held_once_they_are_over_half() {
    let mut bench = Bench::new();
    let keys = twelve(&mut bench);
    for (n, key) in keys.iter().enumerate() {
        bench.at = 100 + n as u64 / 3;
        bench.delete(key);
    }
    assert_eq!(bench.catalog().targets.len(), 6, "six went, the rest waits");
    let mut slow = Bench::new();
    let keys = twelve(&mut slow);
    for (n, key) in keys.iter().enumerate() {
        slow.at = 100 + 2 * n as u64;
        slow.delete(key);
    }
    assert!(slow.catalog().held.is_none() && slow.catalog().targets.is_empty());
}

#[test]
fn a_target_that_comes_and_goes_is_no_mass_removal() {
    let mut bench = Bench::new();
    for n in 0..4 {
        bench.put(&format!("healthcheck/t-{n}/path"), "/x");
    }
    bench.at = 100;
    for _ in 0..20 {
        bench.delete("healthcheck/t-0/path");
        assert!(bench.catalog().held.is_none(), "{:?}", bench.faults());
        assert_eq!(bench.catalog().targets.len(), 3);
        bench.put("healthcheck/t-0/path", "/x");
    }
}

#[test]
fn a_node_that_starts_sees_the_last_good_values_and_the_held_removal() {
    let mut bench = Bench::new();
    let keys = twelve(&mut bench);
    bench.put("healthcheck/stays/spec", r#"{"severity": 1}"#);
    bench.put("healthcheck/stays/spec", r#"{"severity": 9}"#);
    bench.at = 100;
    let gone: Vec<(&str, Option<&str>)> = keys.iter().map(|k| (k.as_str(), None)).collect();
    bench.change(&gone);
    let published = serde_json::to_string(&bench.builder.last_good()).unwrap();
    for seed_first in [true, false] {
        let mut other = Bench::new();
        other.at = 110;
        if seed_first {
            other.builder.seed(serde_json::from_str(&published).unwrap(), now(110));
        }
        other.put("healthcheck/stays/spec", r#"{"severity": 9}"#);
        if !seed_first {
            other.builder.seed(serde_json::from_str(&published).unwrap(), now(110));
        }
        assert_eq!(other.catalog().targets, bench.catalog().targets, "seed first: {seed_first}");
        assert_eq!(other.catalog().held, bench.catalog().held);
        assert_eq!(other.builder.last_good(), bench.builder.last_good());
        assert!(other.builder.tick(now(130)));
        assert_eq!(other.catalog().targets.len(), 1);
    }
}

#[test]
fn secrets_are_never_shown() {
    let mut bench = Bench::new();
    for bad in [
        r#"{"auth": {"bearer": "hunter2"}, "timout": 3}"#,
        r#"{"auth": {"basic": {"user": "u", "password": ["hunter2"]}}}"#,
        r#"{"headers": {"X-Key": "hunter2", "X-Bad": 7}}"#,
        r#"{"header": {"X-Key": "hunter2"}}"#,
        r#"{"auth": "hunter2"}"#,
        r#"{"auth": {"bearer": "hunter2"}"#,
        r#"{"url": "http://u:hunter2@host/x"}"#,
        r#"{"url": "http://u:hunter2/x@host/x"}"#,
        r#"{"url": "ftp://u:hunter2@host/x"}"#,
        r#""hunter2""#,
    ] {
        bench.put("healthcheck/a/spec", bad);
        assert!(!bench.catalog().faults.is_empty(), "{bad}");
        let shown = format!("{:?}", bench.catalog());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn messages_for_typical_mistakes_in_keys() {
    let mistakes = [
        ("healthcheck/foo/path", "__health"),
        ("healthcheck/foo/categories", "read, pub lish"),
        ("healthcheck/foo/spec", r#"{"expect": {"json": [{"pointer": "/status", "op": "=", "value": "UP"}]}}"#),
        ("healthcheck/foo/spec", r#"{"kind": "tcp"}"#),
        ("healthcheck/foo/spec", r#"{"v": 7}"#),
        ("healthcheck/foo/spec", r#"{"interval": "10ms", "regoins": ["eu"]}"#),
        ("healthcheck/foo/spec", r#"{"timeout": 5"#),
        ("healthcheck/foo/spec", "http://foo:8080/health"),
        ("healthcheck/foo/catgories", "read"),
        ("healthcheck/foo bar/path", "/x"),
        ("healthcheck-categories/read/period_seconds", "1m"),
        ("healthcheck-categories/read/enabled", "fasle"),
        ("healthcheck-categories/read/resilient", "true"),
        ("services/foo/spec", r#"{"depends_on": ["fooo"], "max_active": 0}"#),
        ("services/foo/failover", "us east"),
        ("regions/eu/enabled", "flase"),
        ("regions/eu/overlay/healthchek/foo/path", "/x"),
    ];
    let mut shown = String::new();
    for (key, value) in mistakes {
        let mut bench = Bench::new();
        bench.put(key, value);
        shown.push_str(&format!("{key} = {value}\n"));
        for f in bench.catalog().faults.iter() {
            let near = f.nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
            shown.push_str(&format!("  → {:?} {}: {}; expected {}{near}\n", f.level, f.key, f.reason, f.expected));
        }
    }
    insta::assert_snapshot!(shown);
}
