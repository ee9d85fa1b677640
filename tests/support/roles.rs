//! Looks at the roles that nodes claim, all the time, and finds what must never be: a term that falls, a leader that is not
//! ready, two leaders at one instant.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::load::Line;

/// Surely led in between: from the first answer that says so to the last question that was answered so.
#[derive(Clone, Copy, Debug)]
struct Reign {
    first: Instant,
    last: Instant,
}

#[derive(Default)]
struct Seen {
    reigns: BTreeMap<(i64, String), Reign>,
    faults: Vec<String>,
}

/// Looks until it is ended or dropped.
#[derive(Default)]
pub struct Roles {
    seen: Arc<Mutex<Seen>>,
    lookers: HashMap<String, (Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Roles {
    /// Looks at this node, one life of it.
    pub fn on(&mut self, node: &str, address: SocketAddr) {
        self.off(node);
        let (off, seen, name) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.seen), node.to_owned());
        let stop = Arc::clone(&off);
        self.lookers.insert(node.to_owned(), (off, std::thread::spawn(move || look(&name, address, &stop, &seen))));
    }

    pub fn off(&mut self, node: &str) {
        if let Some((off, _)) = self.lookers.remove(node) {
            off.store(true, SeqCst);
        }
    }

    /// Panics with what should not have been.
    pub fn assert_clean(mut self) {
        for node in self.lookers.keys().cloned().collect::<Vec<_>>() {
            self.off(&node);
        }
        let faults = self.seen.lock().unwrap_or_else(PoisonError::into_inner).faults();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

impl Seen {
    /// A node said at this time that it led in this term.
    fn leads(&mut self, node: &str, term: i64, sent: Instant, came: Instant) {
        let reign = self.reigns.entry((term, node.to_owned())).or_insert(Reign { first: came, last: came });
        reign.last = reign.last.max(sent);
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        let all: Vec<_> = self.reigns.iter().collect();
        for (i, (who, a)) in all.iter().enumerate() {
            for (other, b) in all.iter().skip(i + 1) {
                if who != other && a.first < b.last && b.first < a.last {
                    faults.push(format!("{who:?} and {other:?} led at one instant"));
                }
            }
        }
        faults
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for (off, _) in self.lookers.values() {
            off.store(true, SeqCst);
        }
    }
}

fn look(node: &str, address: SocketAddr, stop: &AtomicBool, seen: &Mutex<Seen>) {
    let (mut line, mut highest) = (Line::new(address), 0);
    while !stop.load(SeqCst) {
        let sent = Instant::now();
        if let Ok((200, body)) = line.get("/api/v1/node")
            && let Ok(said) = serde_json::from_str::<serde_json::Value>(&body)
        {
            let came = Instant::now();
            if stop.load(SeqCst) {
                // It is being ended: not ready first, and leader until it has handed over.
                return;
            }
            let term = said["term"].as_i64().unwrap_or(0);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if term < highest {
                seen.faults.push(format!("{node}: its term fell from {highest} to {term}"));
            }
            highest = highest.max(term);
            if said["role"] == "leader" {
                if said["ready"] != true {
                    seen.faults.push(format!("{node} leads and is not ready: {body}"));
                }
                seen.leads(node, term, sent, came);
            }
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn two_leaders_at_one_instant_are_found() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut seen = Seen::default();
    seen.leads("a", 5, at(0), at(1));
    seen.leads("a", 5, at(100), at(101));
    seen.leads("b", 9, at(102), at(103));
    seen.leads("b", 9, at(300), at(301));
    assert_eq!(seen.faults(), Vec::<String>::new());
    // Thawed, asked afterwards, and still says so.
    seen.leads("a", 5, at(200), at(201));
    assert_eq!(seen.faults().len(), 1);
}
