//! Made-up views and a port that only remembers: what the web room is tried against.
#![allow(dead_code, missing_docs)]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bellwether::{
    clock::Clock,
    model::{
        Ack, Catalog, Category, CategoryName, CategoryVerdict, Cell, Check, DocumentCheck, Evaluation, Fault,
        FaultLevel, GtgAnswer, Health, HealthState, Latch, NodeName, NodeStatus, Now, Observation, Outcome, Reason,
        RegionName, Role, Service, ServiceName, ServiceVerdict, Severity, StoreState, Target, TargetName,
        TargetVerdict, Timestamp, View,
        catalog::HeldRemoval,
        document::Document,
        secret::Secret,
        target::{Auth, Format, Kind, TlsOptions},
        view::PreparedGtg,
    },
    web::port::{ApplyOptions, Edit, EditError, KeyChange, Port, Refreshed},
};

/// When all these tests happen.
pub const NOW: i64 = 1_790_000_000_000;

#[derive(Clone)]
pub struct T {
    pub name: String,
    pub service: Option<String>,
    pub categories: Vec<&'static str>,
    pub state: HealthState,
    pub reason: String,
    pub stale: bool,
    pub flapping: bool,
    pub ack: Option<Ack>,
    pub severity: u8,
    pub seen: Option<Observation>,
}

pub fn now() -> Now {
    Clock::manual(Timestamp::from_millis(NOW)).now()
}

pub fn ago(seconds: u64) -> Now {
    Clock::manual(Timestamp::from_millis(NOW - i64::try_from(seconds).unwrap() * 1000)).now()
}

pub fn good(age: u64) -> Observation {
    let mut seen = Observation::plain(Outcome::Good, Duration::from_millis(12), "200 OK, 2 checks pass", ago(age));
    seen.status = Some(200);
    seen.system_code = Some(Arc::from("sys-code"));
    seen.checks = Some(Arc::from([check("db", true), check("queue", true)]));
    seen
}

pub fn bad(age: u64, output: &str) -> Observation {
    let mut seen = Observation::plain(Outcome::Bad, Duration::from_millis(30), output, ago(age));
    seen.status = Some(503);
    seen
}

pub fn check(name: &str, ok: bool) -> DocumentCheck {
    DocumentCheck {
        id: Arc::from(format!("{name}-id")),
        name: Arc::from(name),
        ok,
        severity: Severity::HIGH,
        business_impact: Arc::from("impact"),
        technical_summary: Arc::from("summary"),
        panic_guide: Arc::from("guide"),
        check_output: Arc::from(if ok { "fine" } else { "broken" }),
        last_updated: Arc::from("2026-09-21T00:00:00Z"),
    }
}

pub fn up(name: &str, categories: &[&'static str]) -> T {
    T {
        name: name.to_owned(),
        service: None,
        categories: categories.to_vec(),
        state: HealthState::Up,
        reason: "2 good results in a row".to_owned(),
        stale: false,
        flapping: false,
        ack: None,
        severity: 2,
        seen: Some(good(3)),
    }
}

pub fn down(name: &str, categories: &[&'static str]) -> T {
    T {
        state: HealthState::Down,
        reason: "503 Service Unavailable".to_owned(),
        seen: Some(bad(4, "503 Service Unavailable")),
        ..up(name, categories)
    }
}

pub fn unknown(name: &str, categories: &[&'static str]) -> T {
    T { state: HealthState::Unknown, reason: "not probed yet".to_owned(), seen: None, ..up(name, categories) }
}

pub struct Fixture {
    pub targets: Vec<T>,
    pub resilient: Vec<&'static str>,
    pub disabled: Vec<&'static str>,
    pub latched: Vec<&'static str>,
    pub empty: Vec<&'static str>,
    pub cluster_ack: Option<Ack>,
    pub faults: Vec<Fault>,
    pub held: bool,
    pub role: Role,
    pub ready: bool,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            resilient: Vec::new(),
            disabled: Vec::new(),
            latched: Vec::new(),
            empty: Vec::new(),
            cluster_ack: None,
            faults: Vec::new(),
            held: false,
            role: Role::Leader,
            ready: true,
        }
    }
}

impl Fixture {
    pub fn of(targets: Vec<T>) -> Self {
        Self { targets, ..Self::default() }
    }

    pub fn view(mut self) -> View {
        self.targets.sort_by(|a, b| a.name.cmp(&b.name));
        let targets: Vec<Arc<Target>> = self.targets.iter().map(|t| Arc::new(target(t))).collect();
        let health: Vec<Health> = self.targets.iter().map(state).collect();
        let cells: Vec<Arc<Cell>> = self.targets.iter().map(cell).collect();
        let verdicts: Vec<TargetVerdict> = self
            .targets
            .iter()
            .map(|t| TargetVerdict { ok: t.state == HealthState::Up, acked: t.ack.is_some() })
            .collect();
        let categories = self.categories(&targets);
        let services = services(&targets);
        let latches: BTreeMap<CategoryName, Latch> =
            self.latched.iter().map(|name| (CategoryName::new(name).unwrap(), latch())).collect();
        let evaluation = Evaluation {
            categories: categories
                .values()
                .map(|c| (c.name.clone(), category_verdict(c, &targets, &health, &verdicts, &latches)))
                .collect(),
            services: services.values().map(|s| (s.name.clone(), service_verdict(s, &verdicts, &targets))).collect(),
            targets: verdicts,
            cluster_acked: self.cluster_ack.is_some(),
            ..Evaluation::default()
        };
        let gtg = prepared(&evaluation, self.role);
        let region = RegionName::new("eu").unwrap();
        let mut catalog = Catalog::empty(region.clone());
        catalog.revision = 7;
        catalog.held = self.held.then(|| HeldRemoval {
            targets: vec![TargetName::new("gone-1").unwrap(), TargetName::new("gone-2").unwrap()],
            since: ago(5).wall,
            until: Timestamp::from_millis(NOW + 25_000),
        });
        catalog.targets = targets;
        catalog.categories = categories;
        catalog.services = services;
        catalog.cluster_ack = self.cluster_ack;
        catalog.faults = Arc::from(self.faults);
        View {
            built: now(),
            catalog: Arc::new(catalog),
            health: Arc::from(health),
            cells: Arc::from(cells),
            evaluation: Arc::new(evaluation),
            latches: Arc::new(latches),
            cluster: Arc::new(bellwether::model::cluster::ClusterStatus::unknown(
                RegionName::default_region(),
                NodeName::new("node-a").unwrap(),
            )),
            regions: Arc::default(),
            node: NodeStatus {
                node: NodeName::new("node-a").unwrap(),
                region,
                environment: "prod <eu>".to_owned(),
                role: self.role,
                term: 42,
                leader: NodeName::new("node-a").ok(),
                leader_url: None,
                leader_term: None,
                static_leader: false,
                ready: self.ready,
                degraded: false,
                since: ago(3600).wall,
                store: StoreState::Ok,
                started: ago(7200).wall,
                version: "0.1.0",
            },
            gtg,
        }
    }

    fn categories(&self, targets: &[Arc<Target>]) -> BTreeMap<CategoryName, Category> {
        let mut names: Vec<CategoryName> = targets.iter().flat_map(|t| t.categories.clone()).collect();
        names.extend(self.empty.iter().map(|n| CategoryName::new(n).unwrap()));
        names.push(CategoryName::default_category());
        names.sort();
        names.dedup();
        let mut all = BTreeMap::new();
        for name in names {
            let members = (0u32..).zip(targets).filter(|(_, t)| t.categories.contains(&name)).map(|(i, _)| i).collect();
            let has = |list: &[&str]| list.contains(&name.as_str());
            let category = Category {
                name: name.clone(),
                period: Duration::from_secs(10),
                resilient: has(&self.resilient),
                sticky: has(&self.latched),
                enabled: !has(&self.disabled),
                enabled_revision: 0,
                members,
            };
            all.insert(name, category);
        }
        all
    }
}

fn target(t: &T) -> Target {
    let name = TargetName::new(&t.name).unwrap();
    let mut categories: Vec<_> = t.categories.iter().map(|c| CategoryName::new(c).unwrap()).collect();
    categories.push(CategoryName::default_category());
    categories.sort();
    categories.dedup();
    let service = t.service.as_ref().map_or_else(|| ServiceName::of_target(&name), |s| ServiceName::new(s).unwrap());
    Target {
        service,
        path: "/__health".to_owned(),
        categories,
        ack: t.ack.clone(),
        check: Arc::new(Check {
            kind: Kind::Http,
            host: "localhost".to_owned(),
            port: 8080,
            via_gateway: true,
            path: format!("/health/{name}/__health"),
            host_header: name.to_string(),
            method: http::Method::GET,
            headers: vec![(http::HeaderName::from_static("x-key"), Secret::Inline("top-secret".to_owned()))],
            auth: Some(Auth::Bearer(Secret::Inline("top-secret".to_owned()))),
            format: Format::Auto,
            expect_status: Vec::new(),
            expect_body: None,
            expect_json: Vec::new(),
            min_days_left: None,
            timeout: Duration::from_secs(5),
            rise: 2,
            fall: 3,
            fast_interval: Duration::from_millis(1500),
            reuse: false,
            redirects: 0,
            tls: TlsOptions::default(),
            grpc_service: String::new(),
            properties: BTreeMap::new(),
        }),
        interval: Duration::from_secs(10),
        severity: Severity::new(t.severity).unwrap(),
        business_impact: "Readers see nothing".to_owned(),
        technical_summary: "Asks the service".to_owned(),
        panic_guide: "https://runbooks.example/<x>".to_owned(),
        name,
    }
}

fn state(t: &T) -> Health {
    Health {
        state: t.state,
        since: ago(600).wall,
        reason: Arc::from(t.reason.as_str()),
        stale: t.stale,
        flapping: t.flapping,
        term: 42,
        n: 3,
    }
}

fn cell(t: &T) -> Arc<Cell> {
    let cell = Cell::default();
    if let Some(seen) = &t.seen {
        cell.store(Arc::new(seen.clone()));
    }
    Arc::new(cell)
}

fn services(targets: &[Arc<Target>]) -> BTreeMap<ServiceName, Service> {
    let mut all: BTreeMap<ServiceName, Service> = BTreeMap::new();
    for (i, t) in (0u32..).zip(targets) {
        all.entry(t.service.clone())
            .or_insert_with(|| Service {
                name: t.service.clone(),
                members: Vec::new(),
                spec: Arc::default(),
                failover: None,
            })
            .members
            .push(i);
    }
    all
}

pub fn latch() -> Latch {
    Latch { v: 1, by: "node-a".to_owned(), at: ago(120).wall, reason: "cart-1 is down".to_owned(), revision: 5 }
}

fn category_verdict(
    category: &Category,
    targets: &[Arc<Target>],
    health: &[Health],
    verdicts: &[TargetVerdict],
    latches: &BTreeMap<CategoryName, Latch>,
) -> CategoryVerdict {
    let mut reasons = Vec::new();
    let mut severity = None;
    let latch = latches.get(&category.name).cloned();
    if !category.enabled {
        reasons.push(Reason::Disabled { category: category.name.clone() });
    }
    if let Some(l) = &latch {
        let (by, at, reason) = (l.by.clone(), l.at, l.reason.clone());
        reasons.push(Reason::Latched { category: category.name.clone(), by, at, reason });
    }
    let before = reasons.len();
    if category.members.is_empty() {
        reasons.push(Reason::NoTargets { category: category.name.clone() });
    }
    for &m in &category.members {
        let i = m as usize;
        let covered = category.resilient
            && category
                .members
                .iter()
                .any(|&o| targets[o as usize].service == targets[i].service && verdicts[o as usize].ok);
        if verdicts[i].counts_as_failed() && !covered {
            severity = Some(severity.map_or(targets[i].severity, |s: Severity| s.min(targets[i].severity)));
            reasons.push(Reason::TargetFailed {
                target: targets[i].name.clone(),
                state: health[i].state,
                detail: Arc::clone(&health[i].reason),
            });
        }
    }
    let healthy = reasons.len() == before;
    reasons.truncate(16);
    CategoryVerdict {
        healthy,
        ok: healthy && category.enabled && latch.is_none(),
        severity,
        reasons,
        enabled: category.enabled,
        latch,
        only_unknown: false,
    }
}

fn service_verdict(service: &Service, verdicts: &[TargetVerdict], targets: &[Arc<Target>]) -> ServiceVerdict {
    let mine = || service.members.iter().map(|&m| verdicts[m as usize]);
    let up = mine().filter(|v| v.ok).count();
    let ok = up > 0 || mine().all(|v| v.acked);
    let total = u32::try_from(service.members.len()).unwrap();
    let reasons =
        if ok { Vec::new() } else { vec![Reason::ServiceFailed { service: service.name.clone(), targets: total }] };
    let severity = (!ok).then(|| targets[service.members[0] as usize].severity);
    ServiceVerdict { ok, severity, reasons, up: u32::try_from(up).unwrap(), total }
}

fn prepared(evaluation: &Evaluation, role: Role) -> PreparedGtg {
    if role == Role::Starting {
        return PreparedGtg::default();
    }
    let answer = |ok: bool, reasons: &[Reason]| GtgAnswer {
        status: if ok { 200 } else { 503 },
        body: if ok { "OK".into() } else { reasons[0].to_string().into() },
        unknown: None,
        stale_since: None,
        valid_until: None,
    };
    let categories: HashMap<Box<str>, GtgAnswer> =
        evaluation.categories.iter().map(|(n, v)| (Box::from(n.as_str()), answer(v.ok, &v.reasons))).collect();
    PreparedGtg {
        default: categories["default"].clone(),
        services: evaluation.services.iter().map(|(n, v)| (Box::from(n.as_str()), answer(v.ok, &v.reasons))).collect(),
        categories,
    }
}

pub fn fault() -> Fault {
    Fault {
        key: "/ft/healthcheck-categories/read/period_seconds".to_owned(),
        level: FaultLevel::Fault,
        value: "<b>ten</b>".to_owned(),
        reason: "it is no number".to_owned(),
        expected: "an integer from 1".to_owned(),
        nearest: None,
        since: ago(60).wall,
    }
}

pub fn hint() -> Fault {
    Fault {
        key: "/ft/healthcheck/cart-1/pth".to_owned(),
        level: FaultLevel::Hint,
        value: "/x".to_owned(),
        reason: "unknown key".to_owned(),
        expected: "path, categories, ack, spec".to_owned(),
        nearest: Some("path".to_owned()),
        since: ago(60).wall,
    }
}

/// Remembers what it was asked; answers what it was told.
#[derive(Default)]
pub struct FakePort {
    pub edits: Mutex<Vec<Edit>>,
    pub applied: Mutex<Vec<(Document, ApplyOptions)>>,
    pub refreshed: Mutex<Vec<Vec<TargetName>>>,
    pub not_refreshed: Mutex<Vec<TargetName>>,
    pub combinations: Mutex<Vec<String>>,
    pub fail: Mutex<Option<EditError>>,
    pub document: Mutex<Document>,
    /// Runs on refresh, to move the cells on.
    pub on_refresh: Mutex<Option<Box<dyn Fn() + Send>>>,
}

#[async_trait]
impl Port for FakePort {
    async fn edit(&self, edit: Edit) -> Result<(), EditError> {
        if let Some(error) = self.fail.lock().unwrap().take() {
            return Err(error);
        }
        self.edits.lock().unwrap().push(edit);
        Ok(())
    }

    async fn document(&self) -> Result<Document, EditError> {
        match self.fail.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(self.document.lock().unwrap().clone()),
        }
    }

    async fn apply(&self, document: Document, options: ApplyOptions) -> Result<Vec<KeyChange>, EditError> {
        if let Some(error) = self.fail.lock().unwrap().take() {
            return Err(error);
        }
        self.applied.lock().unwrap().push((document, options));
        Ok(vec![KeyChange { key: "/ft/healthcheck/a/path".to_owned(), old: None, new: Some("/x".to_owned()) }])
    }

    async fn refresh(&self, targets: Vec<TargetName>) -> Refreshed {
        self.refreshed.lock().unwrap().push(targets);
        if let Some(run) = &*self.on_refresh.lock().unwrap() {
            run();
        }
        Refreshed { not_refreshed: self.not_refreshed.lock().unwrap().clone() }
    }

    fn prepare_combination(&self, categories: &str) {
        self.combinations.lock().unwrap().push(categories.to_owned());
    }
}
