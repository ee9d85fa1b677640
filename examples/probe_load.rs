//! What probing costs: many targets behind one gateway address, some of which may hang, beside HAProxy if wanted.
//!
//! Run it in a network namespace of its own (a thousand connections a second fill the machine's connection tracking):
//!
//! ```sh
//! cargo build --release --example probe_load
//! unshare -n sh -c 'ip link set lo up; target/release/examples/probe_load --haproxy'
//! unshare -n sh -c 'ip link set lo up; target/release/examples/probe_load --hang 1000'
//! ```
//!
//! Options: `--targets 10000`, `--interval 10` (seconds), `--seconds 40` (measured, after a warm-up of one interval),
//! `--hang 0` (how many of the targets never answer), `--haproxy` (HAProxy checks as many servers meanwhile).
//! `--changing` (every document differs from the one before, as FT's `lastUpdated` makes it; else they are all the same).
//! CPU is user + system of the prober: the probe thread here, the whole process of HAProxy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bellwether::{
    clock::Clock,
    model::{
        Observation, ServiceName, Severity, Target, TargetName,
        target::{Check, Format},
    },
    probe::{Engine, EngineConfig, Stats},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    targets: usize,
    hang: usize,
    interval: u64,
    seconds: u64,
    haproxy: bool,
    changing: bool,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut options = Options { targets: 10_000, hang: 0, interval: 10, seconds: 40, haproxy: false, changing: false };
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<u64>().ok()).expect("a number");
        match arg.as_str() {
            "server" => return serve(args.next().is_some()),
            "--targets" => options.targets = number() as usize,
            "--hang" => options.hang = number() as usize,
            "--interval" => options.interval = number(),
            "--seconds" => options.seconds = number(),
            "--haproxy" => options.haproxy = true,
            "--changing" => options.changing = true,
            other => panic!("unknown option {other}; see the head of examples/probe_load.rs"),
        }
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(measure(&options));
}

/// Answers `/health/…` with a 1 KiB FT document and closes; never answers on the second port.
fn serve(changing: bool) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let gateway = tokio::net::TcpSocket::new_v4().unwrap();
        gateway.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let gateway = gateway.listen(16_384).unwrap();
        let silent = tokio::net::TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(16_384).unwrap();
        println!("{} {}", gateway.local_addr().unwrap().port(), silent.local_addr().unwrap().port());
        std::io::stdout().flush().unwrap();
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = silent.accept().await else { continue };
                tokio::spawn(async move { while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {} });
            }
        });
        let mut answer: Arc<[u8]> = Arc::from(document(0).into_bytes());
        let mut served = 0_u32;
        loop {
            let Ok((mut stream, _)) = gateway.accept().await else { continue };
            if changing {
                served += 1;
                answer = Arc::from(document(served).into_bytes());
            }
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut buffer = [0; 2048];
                if stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    let _ = stream.write_all(&answer).await;
                }
            });
        }
    });
}

fn document(served: u32) -> String {
    let check = |i: usize| {
        format!(
            r#"{{"id":"check-{i}","name":"Check number {i}","ok":true,"severity":2,"businessImpact":"Readers cannot read {i}","technicalSummary":"Connects to the database","panicGuide":"https://runbooks.example/{i}","checkOutput":"OK","lastUpdated":"2026-01-31T12:00:00.{served:09}Z"}}"#
        )
    };
    let checks = (1..=4).map(check).collect::<Vec<_>>().join(",");
    let body =
        format!(r#"{{"schemaVersion":1,"systemCode":"svc","name":"svc","description":"d","checks":[{checks}]}}"#);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn target(i: usize, options: &Options, gateway: u16, silent: u16) -> Arc<Target> {
    let name = TargetName::new(&format!("service-{i}")).unwrap();
    let hangs = i < options.hang;
    let path = "/__health".to_owned();
    Arc::new(Target {
        service: ServiceName::of_target(&name),
        check: Arc::new(Check {
            via_gateway: true,
            host_header: name.to_string(),
            format: Format::Ft,
            ..Check::http("127.0.0.1", if hangs { silent } else { gateway }, &format!("/health/{name}{path}"))
        }),
        name,
        path,
        categories: Vec::new(),
        ack: None,
        interval: Duration::from_secs(options.interval),
        severity: Severity::MEDIUM,
        business_impact: String::new(),
        technical_summary: String::new(),
        panic_guide: String::new(),
    })
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(options: &Options) {
    let mut server =
        Command::new(std::env::current_exe().unwrap()).arg("server").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let server = Process(server);
    let ports: Vec<u16> = line.split_whitespace().map(|p| p.parse().unwrap()).collect();
    let before = rss(std::process::id());
    let (handle, mut results) = Engine::start(EngineConfig::new(Clock::system())).unwrap();
    handle.set_targets((0..options.targets).map(|i| target(i, options, ports[0], ports[1])).collect(), Vec::new());
    let directory = tempfile::tempdir().unwrap();
    let haproxy = options.haproxy.then(|| haproxy(directory.path(), options, ports[0]));
    // The latest result of each target is kept, as the controller does.
    let keeper = tokio::spawn(async move {
        let mut latest: BTreeMap<TargetName, Arc<Observation>> = BTreeMap::new();
        while let Some(batch) = results.recv().await {
            for seen in batch {
                latest.insert(seen.target, seen.observation);
            }
        }
    });
    let stats = handle.stats();
    tokio::time::sleep(Duration::from_secs(options.interval + 2)).await;
    let start = (stats.cpu_nanos.load(Relaxed), stats.finished(), haproxy.as_ref().map(|p| cpu_ticks(p.0.id())));
    let requests = (started(&stats), cpu_ticks(server.0.id()), stats.late.buckets());
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let cpu = stats.cpu_nanos.load(Relaxed) - start.0;
    let probes = stats.finished() - start.1;
    println!(
        "targets {} ({} hang), every {} s, measured for {} s",
        options.targets, options.hang, options.interval, options.seconds
    );
    println!(
        "probes ended {probes} ({:.0}/s), started {}",
        probes as f64 / options.seconds as f64,
        started(&stats) - requests.0
    );
    let outcomes =
        [&stats.good, &stats.bad, &stats.timeout, &stats.unreachable, &stats.protocol].map(|c| c.load(Relaxed));
    println!(
        "since the start: good {} bad {} timeout {} unreachable {} protocol {}",
        outcomes[0], outcomes[1], outcomes[2], outcomes[3], outcomes[4]
    );
    println!(
        "late starts: p50 {:?} p99 {:?} p99.9 {:?} max {:?}",
        stats.late.quantile(0.5),
        stats.late.quantile(0.99),
        stats.late.quantile(0.999),
        stats.late.max()
    );
    let each = cpu as f64 / probes as f64 / 1000.0;
    println!("CPU of the probe thread: {each:.1} µs a probe");
    if let (Some(process), Some(then)) = (&haproxy, start.2) {
        let ticks = cpu_ticks(process.0.id()) - then;
        let checks = (options.targets as u64 * options.seconds) as f64 / options.interval as f64;
        let theirs = ticks as f64 * 10_000.0 / checks;
        println!(
            "CPU of HAProxy: {theirs:.1} µs a check (by its interval); ratio {:.2}; its memory {} MB",
            each / theirs,
            rss(process.0.id()) / 1024
        );
    }
    println!("memory: {} MB (before the engine {} MB)", rss(std::process::id()) / 1024, before / 1024);
    println!(
        "dropped batches {}, server's CPU {} s",
        stats.dropped_batches.load(Relaxed),
        (cpu_ticks(server.0.id()) - requests.1) as f64 / 100.0
    );
    handle.shutdown();
    handle.ended().await;
    keeper.await.unwrap();
}

fn started(stats: &Stats) -> u64 {
    stats.started.load(Relaxed)
}

/// HAProxy with as many checked servers behind the same address.
fn haproxy(directory: &std::path::Path, options: &Options, port: u16) -> Process {
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 100\n  spread-checks 0\n  stats socket {}/sock\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n  timeout check 5s\nbackend all\n  option httpchk\n  http-check send meth GET uri /__health ver HTTP/1.1 hdr Host service hdr Accept application/json hdr Connection close\n",
        directory.display()
    );
    for i in 0..options.targets {
        text.push_str(&format!("  server s{i} 127.0.0.1:{port} check inter {}s\n", options.interval));
    }
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let child = Command::new("haproxy")
        .args(["-db", "-q", "-f"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Process(child.expect("haproxy is installed"))
}

/// User + system CPU of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Resident memory in KiB.
fn rss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
