//! `bellwether serve` as a real process on ports from the system.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use crate::signal;

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

pub struct Node {
    pub addr: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    _data: tempfile::TempDir,
}

impl Node {
    /// Starts with these arguments beside `--listen 127.0.0.1:0`, and waits until it listens. It ends without a drain
    /// delay unless one is asked for.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    pub fn start_with(args: &[&str], env: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        // CHAOS_BELLWETHER: another build of the program.
        let program = std::env::var("CHAOS_BELLWETHER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_bellwether").to_owned());
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]).args(args);
        if !args.contains(&"--data-dir") {
            command.arg("--data-dir").arg(data.path());
        }
        if !args.contains(&"--drain-delay") {
            command.args(["--drain-delay", "0s"]);
        }
        command.envs(env.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (send, receive) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let keep = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(addr) = listening(&line) {
                    let _ = send.send(addr);
                }
                keep.lock().unwrap().push(line);
            }
        });
        let addr = receive.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("the node did not listen; its log: {:#?}", log.lock().unwrap())
        });
        Self { addr, child, log, _data: data }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, then the exit code.
    pub fn terminate(self) -> Option<i32> {
        self.signal("TERM");
        self.end()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        signal::send(&self.child, name);
    }

    /// Waits for the end, at most 20 s; the exit code.
    pub fn end(mut self) -> Option<i32> {
        for _ in 0..1000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        panic!("the node did not end within 20 s")
    }

    /// SIGKILL while others still use it; it is waited for when it is dropped.
    pub fn kill_now(&self) {
        signal::send(&self.child, "KILL");
    }

    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the node at {} ---", self.addr);
            for line in self.log().iter().rev().take(60).rev() {
                eprintln!("{line}");
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening(line: &str) -> Option<SocketAddr> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = &value;
    if fields.get("message")?.as_str()? != "listening" || fields.get("door")?.as_str()? != "main" {
        return None;
    }
    fields.get("address")?.as_str()?.parse().ok()
}
