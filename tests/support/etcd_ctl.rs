//! `etcdctl` as an operator runs it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::process::Command;

pub fn etcdctl(endpoint: &str, args: &[&str]) -> String {
    let output =
        Command::new("etcdctl").env("ETCDCTL_API", "3").args(["--endpoints", endpoint]).args(args).output().unwrap();
    assert!(output.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
