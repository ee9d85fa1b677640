//! Reads all that was written below ROOT/regions by `etcdctl watch`, and checks it afterwards by revision: what a leader
//! writes was written by the leader of that revision, and no status went back.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: i64,
    /// 0 for a delete.
    pub created: i64,
    pub key: String,
    /// `None`: deleted.
    pub value: Option<String>,
    /// When it was read here.
    pub at: Instant,
}

impl Change {
    fn is_leaders(&self) -> bool {
        let word = self.key.splitn(5, '/').nth(4).unwrap_or_default();
        word.starts_with("status/") || word == "summary"
    }

    fn is_leader_key(&self) -> bool {
        self.key.ends_with("/leader")
    }

    fn json(&self) -> Value {
        self.value.as_deref().and_then(|v| serde_json::from_str(v).ok()).unwrap_or(Value::Null)
    }
}

/// Reads until dropped.
pub struct Audit {
    child: Child,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl Audit {
    /// From this revision on, at these endpoints (separated by commas); etcdctl goes on at another when one is lost.
    pub fn start(endpoints: &str, revision: i64) -> Self {
        let mut child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", endpoints, "watch", "--prefix", "/ft/regions/", "-w", "json", "--rev"])
            .arg(revision.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let (lines, keep) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&changes));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let answer: Value = serde_json::from_str(&line).unwrap_or_default();
                let read = answer["Events"].as_array().into_iter().flatten().map(change);
                keep.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
            }
        });
        Self { child, changes }
    }

    /// From now on: later than all that was written, but for the leader key of this region, if there is one. `got`: that key as
    /// `etcdctl get` has it in JSON.
    pub fn start_now(endpoints: &str, key: &str, got: &Value) -> Self {
        let revision = got["header"]["revision"].as_i64().unwrap();
        let audit = Self::start(endpoints, revision + 1);
        if let Some(kv) = got["kvs"].get(0) {
            let leader = change(&serde_json::json!({ "kv": kv }));
            assert_eq!(leader.key, key);
            audit.changes.lock().unwrap_or_else(PoisonError::into_inner).insert(0, leader);
        }
        audit
    }

    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The highest revision read.
    pub fn revision(&self) -> i64 {
        self.changes().iter().map(|c| c.revision).max().unwrap_or(0)
    }

    /// How many keys that hold `key` have had a value that holds `value`, and when the first and the last came.
    pub fn count(&self, key: &str, value: &str) -> (usize, Option<Instant>, Option<Instant>) {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |c: &&Change| c.key.contains(key) && c.value.as_ref().is_some_and(|v| v.contains(value));
        let mut keys: BTreeMap<&str, Instant> = BTreeMap::new();
        for change in changes.iter().filter(fits) {
            keys.entry(&change.key).or_insert(change.at);
        }
        (keys.len(), keys.values().min().copied(), keys.values().max().copied())
    }

    /// Leaders by term: create revision, node.
    pub fn leaders(&self, region: &str) -> Vec<(i64, String)> {
        let key = format!("/ft/regions/{region}/leader");
        let put = |c: &Change| c.key == key && c.value.is_some() && c.created == c.revision;
        let node = |c: &Change| c.json()["node"].as_str().unwrap_or_default().to_owned();
        self.changes().iter().filter(|c| put(c)).map(|c| (c.created, node(c))).collect()
    }

    /// Panics with what should not have been written. Returns how many leader writes were looked at.
    pub fn assert_clean(&self) -> usize {
        let (looked, faults) = faults(self.changes());
        assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), faults.iter().take(10).collect::<Vec<_>>());
        looked
    }
}

/// How many leader writes there are, and what is wrong with them.
pub fn faults(mut changes: Vec<Change>) -> (usize, Vec<String>) {
    // Within a revision: a new leader first, the end of one last.
    changes.sort_by_key(|c| {
        (
            c.revision,
            if !c.is_leader_key() {
                1
            } else if c.value.is_some() {
                0
            } else {
                2
            },
        )
    });
    let (mut terms, mut statuses) = (BTreeMap::new(), BTreeMap::new());
    let (mut faults, mut looked) = (Vec::new(), 0);
    for change in &changes {
        let region = change.key.split('/').nth(3).unwrap_or_default().to_owned();
        if change.is_leader_key() {
            match change.value {
                Some(_) => terms.insert(region, change.created),
                None => terms.remove(&region),
            };
            continue;
        }
        if !change.is_leaders() {
            continue;
        }
        looked += 1;
        let Some(term) = terms.get(&region) else {
            faults.push(format!("written while nobody led: {change:?}"));
            continue;
        };
        let json = change.json();
        if change.key.ends_with("/summary") && json["term"].as_i64() != Some(*term) {
            faults.push(format!("written in a term that is not {term}: {change:?}"));
        }
        if change.key.contains("/status/targets/") && change.value.is_some() {
            let order = (json["term"].as_i64().unwrap_or(-1), json["n"].as_i64().unwrap_or(-1));
            let before = statuses.insert(change.key.clone(), order).unwrap_or((-1, -1));
            if order < before || order.0 > *term {
                faults.push(format!("{before:?} became {order:?} in term {term}: {change:?}"));
            }
        }
    }
    (looked, faults)
}

impl Drop for Audit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn change(event: &Value) -> Change {
    let text = |field: &str| {
        let bytes = BASE64_STANDARD.decode(event["kv"][field].as_str().unwrap_or_default()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let deleted = event["type"].as_i64() == Some(1) || event["type"] == "DELETE";
    Change {
        revision: event["kv"]["mod_revision"].as_i64().unwrap_or(0),
        created: event["kv"]["create_revision"].as_i64().unwrap_or(0),
        key: text("key"),
        value: (!deleted).then(|| text("value")),
        at: Instant::now(),
    }
}

#[test]
fn writes_out_of_term_are_found() {
    let put = |revision, created, key: &str, value: &str| Change {
        revision,
        created,
        key: format!("/ft/regions/eu/{key}"),
        value: Some(value.to_owned()),
        at: Instant::now(),
    };
    let delete = |revision, key: &str| Change { value: None, ..put(revision, 0, key, "") };
    let good = vec![
        put(5, 5, "leader", r#"{"node":"a"}"#),
        put(6, 6, "summary", r#"{"term":5}"#),
        put(7, 7, "status/targets/t", r#"{"term":5,"n":3}"#),
        delete(8, "leader"),
        put(9, 9, "leader", r#"{"node":"b"}"#),
        put(10, 7, "status/targets/t", r#"{"term":5,"n":3}"#),
        put(11, 7, "status/targets/t", r#"{"term":9,"n":1}"#),
    ];
    assert_eq!(faults(good.clone()), (4, Vec::new()));
    let with = |more: Change| faults(good.iter().cloned().chain([more]).collect()).1.len();
    assert_eq!(with(put(12, 6, "summary", r#"{"term":5}"#)), 1, "in the old term");
    assert_eq!(with(put(12, 7, "status/targets/t", r#"{"term":5,"n":4}"#)), 1, "a status that goes back");
    assert_eq!(with(put(12, 7, "status/targets/t", r#"{"term":10,"n":4}"#)), 1, "in a term that is not yet");
    let nobody = [good[0].clone(), delete(6, "leader"), put(7, 7, "status/catalog", "{}")];
    assert_eq!(faults(nobody.into()).1.len(), 1, "while nobody led");
}
