//! What a test asks of the cluster's etcd: reads and writes beside the nodes, members killed and started again, a backup
//! and its return. How a member runs is left to `etcd`, the nodes and their links to `cluster`.

use std::{collections::BTreeMap, path::PathBuf};

use bellwether::store::{Etcd, EtcdOptions, Op, Store as _, Txn};
use serde_json::Value;

use crate::{
    audit::Audit,
    cluster::{Cluster, SOON},
    etcd::Member,
    http,
};

impl Cluster {
    pub fn endpoints(&self) -> String {
        self.etcd.iter().map(|m| m.url.clone()).collect::<Vec<_>>().join(",")
    }

    /// Runs etcdctl; `None` where it fails.
    pub fn try_ctl(&self, args: &[&str]) -> Option<String> {
        let output = std::process::Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoints(), "--dial-timeout", "2s", "--command-timeout", "5s"])
            .args(args)
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, again until it works.
    pub fn ctl(&self, args: &[&str]) -> String {
        http::wait_for(&format!("etcdctl {args:?}"), SOON, || self.try_ctl(args), Option::is_some).unwrap()
    }

    pub fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", key, value]);
    }

    /// etcd takes a write.
    pub fn etcd_answers(&self) {
        self.put("/other/answers", "yes");
    }

    pub fn etcd_kill(&mut self) {
        for member in &mut self.etcd {
            member.kill();
        }
    }

    pub fn etcd_restart(&mut self) {
        for member in &mut self.etcd {
            member.restart();
        }
    }

    /// A store on all members, as a node has one.
    pub fn store(&self) -> Etcd {
        let urls: Vec<&String> = self.etcd.iter().map(|m| &m.url).collect();
        self.runtime.block_on(async { Etcd::new(EtcdOptions::new(urls, "/ft")).unwrap() })
    }

    /// Puts many keys (relative to ROOT), 100 a transaction.
    pub fn put_all(&self, pairs: impl IntoIterator<Item = (String, String)>) {
        let store = self.store();
        let ops: Vec<Op> =
            pairs.into_iter().map(|(key, value)| Op::Put { key, value: value.into(), lease: None }).collect();
        self.runtime.block_on(async {
            for part in ops.chunks(100) {
                store.txn(Txn { compares: Vec::new(), ops: part.to_vec() }).await.unwrap();
            }
        });
    }

    /// Keys and values below a prefix, as etcdctl prints them, as JSON.
    pub fn list(&self, prefix: &str) -> BTreeMap<String, String> {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let text = |v: &Value| {
            let bytes = BASE64_STANDARD.decode(v.as_str().unwrap_or_default()).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let listed: Value = serde_json::from_str(&self.ctl(&["get", "--prefix", prefix, "-w", "json"])).unwrap();
        listed["kvs"].as_array().into_iter().flatten().map(|kv| (text(&kv["key"]), text(&kv["value"]))).collect()
    }

    /// The create revision of the region's leader key: the term that etcd knows.
    pub fn leader_key(&self) -> Option<i64> {
        let got: Value =
            serde_json::from_str(&self.ctl(&["get", "/ft/regions/eu/leader", "-w", "json"])).unwrap_or_default();
        got["kvs"][0]["create_revision"].as_i64()
    }

    /// The index of the member that leads etcd.
    pub fn etcd_leader(&self) -> usize {
        let index = |member: &Member| {
            let said: Value = serde_json::from_str(&member.ctl(&["endpoint", "status", "-w", "json"])).ok()?;
            let status = &said[0]["Status"];
            (status["leader"] == status["header"]["member_id"]).then_some(())
        };
        self.etcd.iter().position(|m| index(m).is_some()).expect("etcd has a leader")
    }

    /// Reads everything below ROOT/regions from the beginning.
    pub fn audit(&self) -> Audit {
        Audit::start(&self.endpoints(), 1)
    }

    /// The same, once all that etcd has now is read; then it is checked.
    pub fn audit_now(&self) {
        let audit = self.audit();
        self.put("/ft/regions/eu/read-up-to-here", "yes");
        let read = || audit.changes().iter().any(|c| c.key.ends_with("read-up-to-here"));
        http::wait_for("all is read", SOON, read, |r| *r);
        audit.assert_clean();
    }

    /// `etcdctl snapshot save`.
    pub fn snapshot(&self) -> PathBuf {
        let path = self.dir.path().join("backup.db");
        self.etcd[0].ctl(&["snapshot", "save", &path.display().to_string()]);
        path
    }

    /// All members killed, restored by `etcdctl snapshot restore` with the same names and URLs, and started.
    pub fn restore(&mut self, snapshot: &std::path::Path) {
        self.etcd_kill();
        for member in &mut self.etcd {
            member.restart_from_snapshot(snapshot);
        }
        self.etcd_answers();
    }
}
