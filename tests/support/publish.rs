//! For the tests of the publish room: views made by hand, and a real carbon-cache of our own.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::{ports, signal};

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bellwether::{
    clock::Clock,
    latest::Latest,
    model::{
        Catalog, Cell, Evaluation, Health, HealthState, Mono, NodeName, NodeStatus, Now, Observation, Outcome,
        RegionName, Role, ServiceName, Severity, StoreState, Target, TargetName, Timestamp, View, target::Check,
        view::PreparedGtg,
    },
};

fn check() -> Arc<Check> {
    let check = Check::http("127.0.0.1", 80, "/__health");
    Arc::new(Check { via_gateway: true, host_header: "x".into(), ..check })
}

/// A view of these targets, all up, without results.
pub fn view(names: &[&str]) -> View {
    let mut catalog = Catalog::empty(RegionName::default_region());
    let mut names = names.to_vec();
    names.sort_unstable();
    let since = Timestamp::from_millis(0);
    for name in &names {
        let name = TargetName::new(name).unwrap();
        catalog.targets.push(Arc::new(Target {
            service: ServiceName::of_target(&name),
            name,
            path: "/__health".into(),
            categories: Vec::new(),
            ack: None,
            check: check(),
            interval: Duration::from_secs(60),
            severity: Severity::MEDIUM,
            business_impact: String::new(),
            technical_summary: String::new(),
            panic_guide: String::new(),
        }));
    }
    let up = Health { state: HealthState::Up, ..Health::unknown(since) };
    View {
        built: Now::default(),
        catalog: Arc::new(catalog),
        health: names.iter().map(|_| up.clone()).collect(),
        cells: names.iter().map(|_| Arc::new(Cell::default())).collect(),
        evaluation: Arc::new(Evaluation::default()),
        latches: Arc::new(BTreeMap::new()),
        cluster: Arc::new(bellwether::model::cluster::ClusterStatus::unknown(
            RegionName::default_region(),
            NodeName::new("a").unwrap(),
        )),
        regions: Arc::default(),
        node: NodeStatus {
            node: NodeName::new("n1").unwrap(),
            region: RegionName::default_region(),
            environment: "test".into(),
            role: Role::Leader,
            term: 3,
            leader: None,
            leader_url: None,
            leader_term: None,
            static_leader: false,
            ready: true,
            degraded: false,
            since,
            store: StoreState::Ok,
            started: Timestamp::from_millis(1500),
            version: "0.1.0",
        },
        gtg: PreparedGtg::default(),
    }
}

/// A result in every cell, at `secs`.
pub fn observe(view: &Latest<View>, good: bool, secs: i64) {
    let outcome = if good { Outcome::Good } else { Outcome::Bad };
    let at = Now { wall: Timestamp::from_millis(secs * 1000), mono: Mono::default() };
    for cell in view.load().cells.iter() {
        cell.store(Arc::new(Observation::plain(outcome, Duration::ZERO, "seen", at)));
    }
}

/// Waits for a state, at most 20 s.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = tokio::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited 20 s in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A second far enough back for whisper's archive, and a clock that stands there.
pub fn past() -> (i64, Clock) {
    let start = Clock::system().now().wall.as_secs() - 1200;
    (start, Clock::manual(Timestamp::from_millis(start * 1000)))
}

/// A real carbon-cache; killed when dropped, its files with it.
pub struct Carbon {
    dir: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Carbon {
    /// Made, not started.
    pub fn new() -> Self {
        Self::keeping("1s:2h")
    }

    /// The same with these retentions.
    pub fn keeping(retentions: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, port) = (dir.path().display(), ports::free());
        let conf = format!(
            "[cache]\nSTORAGE_DIR = {root}/\nLOCAL_DATA_DIR = {root}/whisper/\nCONF_DIR = {root}/\nLOG_DIR = {root}/\n\
             PID_DIR = {root}/\nUSER =\nMAX_CACHE_SIZE = inf\nMAX_UPDATES_PER_SECOND = inf\nMAX_CREATES_PER_MINUTE = inf\n\
             MIN_TIMESTAMP_RESOLUTION = 1\nENABLE_LOGROTATION = False\nENABLE_UDP_LISTENER = False\n\
             LINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {port}\n\
             PICKLE_RECEIVER_PORT = 0\nCACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = 0\n"
        );
        std::fs::write(dir.path().join("carbon.conf"), conf).unwrap();
        let schemas = format!("[all]\npattern = .*\nretentions = {retentions}\n");
        std::fs::write(dir.path().join("storage-schemas.conf"), schemas).unwrap();
        Self { dir, port, child: None }
    }

    /// Starts it and waits until it listens.
    pub async fn start(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("out.log")).unwrap();
        let child = Command::new("/usr/bin/carbon-cache")
            .arg(format!("--config={}/carbon.conf", self.dir.path().display()))
            .args(["--nodaemon", "start"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("carbon-cache (Debian: graphite-carbon)");
        self.child = Some(child);
        let out = self.dir.path().join("out.log");
        let line = format!("CarbonReceiverFactory starting on {}", self.port);
        until("carbon-cache listens", || std::fs::read_to_string(&out).unwrap_or_default().contains(&line)).await;
    }

    /// Sends it a signal by name.
    pub fn signal(&self, signal: &str) {
        signal::send(self.child.as_ref().unwrap(), signal);
    }

    /// Asks it to end and waits for it. What it has read but not yet written is gone (seen with carbon 1.1): look first.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        let mut child = self.child.take().unwrap();
        until("carbon-cache ends", || child.try_wait().unwrap().is_some()).await;
        let _ = std::fs::remove_file(self.dir.path().join("carbon-cache-a.pid"));
    }

    /// Waits until whisper holds exactly this for a metric, and tells what it holds.
    pub async fn holds(&self, metric: &str, expected: &[(i64, u8)]) {
        let (Some(first), Some(last)) = (expected.first(), expected.last()) else { return };
        let read = || self.read(metric, first.0, last.0).into_iter().collect::<Vec<_>>();
        for _ in 0..200 {
            if read() == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(read(), expected, "{metric}");
    }

    /// Where its whisper files are.
    pub fn whisper(&self) -> PathBuf {
        self.dir.path().join("whisper")
    }

    /// Kills it; what it had in memory is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = std::fs::remove_file(self.dir.path().join("carbon-cache-a.pid"));
    }

    /// What whisper holds for a metric from `from` to `to` (seconds, both included).
    pub fn read(&self, metric: &str, from: i64, to: i64) -> BTreeMap<i64, u8> {
        let file: PathBuf = self.dir.path().join("whisper").join(metric.replace('.', "/")).with_extension("wsp");
        // whisper-fetch leaves out its `from` itself.
        let output = Command::new("/usr/bin/whisper-fetch")
            .args([format!("--from={}", from - 1), format!("--until={to}")])
            .arg(&file)
            .output()
            .expect("whisper-fetch (Debian: python3-whisper)");
        let text = String::from_utf8(output.stdout).unwrap();
        let pair = |line: &str| {
            let (time, value) = line.split_once('\t')?;
            Some((time.parse().ok()?, value.trim().parse::<f64>().ok()? as u8))
        };
        text.lines().filter_map(pair).collect()
    }
}

impl Drop for Carbon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
