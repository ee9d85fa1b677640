//! Real etcd members for tests: `ETCD_BIN` or `etcd` from the path, on loopback, in a directory of their own, killed on drop.

use crate::{ports, signal};

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bellwether::store::{Etcd, EtcdOptions, Store};
use tempfile::TempDir;

/// One etcd process.
pub struct Member {
    child: Child,
    args: Vec<String>,
    /// `http://127.0.0.1:port` (https where TLS was asked for).
    pub url: String,
    pub port: u16,
    dir: TempDir,
}

pub fn binary() -> String {
    std::env::var("ETCD_BIN").unwrap_or_else(|_| "etcd".to_owned())
}

fn launch(args: &[String]) -> Child {
    let mut command = Command::new(binary());
    // etcd reads ETCD_… as its options.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("etcd is installed (apt: etcd-server), or ETCD_BIN names it")
}

impl Member {
    /// A cluster of one.
    pub fn single(extra: &[&str]) -> Self {
        cluster(1, extra, "http").pop().unwrap()
    }

    /// A cluster of one whose clients speak TLS.
    pub fn single_tls(extra: &[&str]) -> Self {
        cluster(1, extra, "https").pop().unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts a killed member again, on its data.
    pub fn restart(&mut self) {
        self.child = launch(&self.args);
    }

    /// Starts a killed member again on other data, as after a restore from a backup.
    pub fn restart_with_data_of(&mut self, backup: &std::path::Path) {
        let data = self.dir.path().join("data");
        std::fs::remove_dir_all(&data).unwrap();
        let copied = Command::new("cp").arg("-a").arg(backup).arg(&data).status().unwrap();
        assert!(copied.success());
        self.restart();
    }

    /// Starts a killed member again from a snapshot, by `etcdctl snapshot restore` with its own name and URLs.
    pub fn restart_from_snapshot(&mut self, snapshot: &std::path::Path) {
        std::fs::remove_dir_all(self.data()).unwrap();
        let kept = ["--name=", "--data-dir=", "--initial-cluster=", "--initial-advertise-peer-urls="];
        let restored = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .args(self.args.iter().filter(|a| kept.iter().any(|k| a.starts_with(k))))
            .output()
            .unwrap();
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        self.restart();
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn signal(&self, name: &str) {
        signal::send(&self.child, name);
    }

    /// SIGSTOP: its connections stay open and silent.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// A store on this member alone.
    pub fn store(&self) -> Etcd {
        Etcd::new(EtcdOptions::new([&self.url], "/ft")).unwrap()
    }

    /// Runs etcdctl against this member.
    pub fn ctl(&self, args: &[&str]) -> String {
        self.ctl_reading(args, "")
    }

    /// The same, with something to read.
    pub fn ctl_reading(&self, args: &[&str], input: &str) -> String {
        use std::io::Write as _;
        let mut child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url, "--dial-timeout", "5s", "--command-timeout", "10s"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl is installed (apt: etcd-client)");
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "etcdctl {args:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of `n`; `extra` goes to each.
pub fn cluster(n: usize, extra: &[&str], scheme: &str) -> Vec<Member> {
    let pairs: Vec<(u16, u16)> = (0..n).map(|_| (ports::free(), ports::free())).collect();
    let all: Vec<_> = pairs.iter().enumerate().map(|(i, p)| format!("m{i}=http://127.0.0.1:{}", p.1)).collect();
    let start = |(i, (port, peer)): (usize, &(u16, u16))| {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("{scheme}://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer}");
        let data = dir.path().join("data").display().to_string();
        let mut args: Vec<String> = [
            ("--name", format!("m{i}")),
            ("--data-dir", data),
            ("--listen-client-urls", url.clone()),
            ("--advertise-client-urls", url.clone()),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", all.join(",")),
            ("--initial-cluster-state", "new".to_owned()),
            ("--logger", "zap".to_owned()),
            ("--log-level", "error".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
        args.extend(extra.iter().map(|&a| a.to_owned()));
        Member { child: launch(&args), args, url, port: *port, dir }
    };
    pairs.iter().enumerate().map(start).collect()
}

/// Waits until the store answers.
pub async fn ready(store: &dyn Store) {
    let answers = async {
        while let Err(error) = store.get("ready").await {
            let _ = error;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), answers).await.expect("etcd answers in time");
}
