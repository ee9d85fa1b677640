//! Load balancers that ask all nodes at a steady rate, and hold each answer against what the test did to the targets.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What each category should answer, and since when: the fault script as it was played.
#[derive(Default)]
pub struct Truth(Mutex<HashMap<String, Vec<(Instant, bool)>>>);

impl Truth {
    /// From now on the category should be good to go, or not.
    pub fn note(&self, category: &str, good: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(category.to_owned()).or_default().push((Instant::now(), good));
    }

    /// Whether an answer given between `sent` and `came` is true, where a change may take `bound` to be seen.
    pub fn allows(&self, category: &str, good: bool, sent: Instant, came: Instant, bound: Duration) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(history) = all.get(category) else { return true };
        let from = sent.checked_sub(bound).unwrap_or(sent);
        history.iter().enumerate().any(|(i, (since, state))| {
            let until = history.get(i + 1).map_or(came, |(next, _)| *next);
            *state == good && *since <= came && until >= from
        })
    }
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub answers: u64,
    /// No answer, a reset, or a status that is neither 200 nor 503.
    pub failed: u64,
    /// Against the truth.
    pub wrong: u64,
    /// Some of the bad ones, in words.
    pub samples: Vec<String>,
    /// Answers by node.
    pub by_node: BTreeMap<String, u64>,
    /// Time of each answer.
    pub took: Vec<Duration>,
}

impl Report {
    /// All good, and at least this many.
    pub fn assert_clean(&self, at_least: u64) {
        println!(
            "load: {} answers, {} failed, {} wrong; by node {:?}",
            self.answers, self.failed, self.wrong, self.by_node
        );
        assert!(
            self.failed == 0 && self.wrong == 0,
            "{} failed, {} wrong: {:#?}",
            self.failed,
            self.wrong,
            self.samples
        );
        assert!(self.answers >= at_least, "only {} answers", self.answers);
    }
}

struct Shared {
    truth: Arc<Truth>,
    bound: Duration,
    report: Mutex<Report>,
    began: Instant,
}

impl Shared {
    fn count(&self, node: &str, took: Duration, bad: Option<(bool, String)>) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.answers += 1;
        *report.by_node.entry(node.to_owned()).or_default() += 1;
        report.took.push(took);
        if let Some((failed, text)) = bad {
            if failed {
                report.failed += 1
            } else {
                report.wrong += 1
            }
            if report.samples.len() < 20 {
                report.samples.push(format!("{:.3} s: {text}", self.began.elapsed().as_secs_f64()));
            }
        }
    }
}

/// Asks until it is ended or dropped.
pub struct Load {
    shared: Arc<Shared>,
    categories: Vec<String>,
    pause: Duration,
    askers: HashMap<String, (Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Load {
    /// `per_second` requests to each node, over these categories in turn.
    pub fn new(truth: &Arc<Truth>, categories: &[&str], per_second: u32, bound: Duration) -> Self {
        let truth = Arc::clone(truth);
        let shared = Shared { truth, bound, report: Mutex::default(), began: Instant::now() };
        Self {
            shared: Arc::new(shared),
            categories: categories.iter().map(|c| (*c).to_owned()).collect(),
            pause: Duration::from_secs(1) / per_second,
            askers: HashMap::new(),
        }
    }

    /// Asks this node from now on.
    pub fn on(&mut self, node: &str, address: SocketAddr) {
        self.off(node);
        let off = Arc::new(AtomicBool::new(false));
        let asker = Asker {
            node: node.to_owned(),
            address,
            off: Arc::clone(&off),
            shared: Arc::clone(&self.shared),
            categories: self.categories.clone(),
            pause: self.pause,
        };
        self.askers.insert(node.to_owned(), (off, std::thread::spawn(move || asker.run())));
    }

    /// Asks this node no more; an answer that has not come yet does not count.
    pub fn off(&mut self, node: &str) {
        if let Some((off, thread)) = self.askers.remove(node) {
            off.store(true, SeqCst);
            let _ = thread.join();
        }
    }

    /// Asks this node no more, without waiting for the last answer: for a node that is killed at once.
    pub fn leave(&mut self, node: &str) {
        if let Some((off, _)) = self.askers.remove(node) {
            off.store(true, SeqCst);
        }
    }

    /// What was seen up to now.
    pub fn so_far(&self) -> Report {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn end(mut self) -> Report {
        for node in self.askers.keys().cloned().collect::<Vec<_>>() {
            self.off(&node);
        }
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for (off, _) in self.askers.values() {
            off.store(true, SeqCst);
        }
    }
}

struct Asker {
    node: String,
    address: SocketAddr,
    off: Arc<AtomicBool>,
    shared: Arc<Shared>,
    categories: Vec<String>,
    pause: Duration,
}

impl Asker {
    fn run(self) {
        let mut line = Line::new(self.address);
        let mut due = Instant::now();
        for category in self.categories.iter().cycle() {
            if self.off.load(SeqCst) {
                return;
            }
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(wait);
            }
            // A load generator that was held up does not make up for it with a burst.
            due = (due + self.pause).max(Instant::now().checked_sub(Duration::from_millis(200)).unwrap_or(due));
            let sent = Instant::now();
            let answer = line.get(&format!("/__gtg?categories={category}"));
            let came = Instant::now();
            if self.off.load(SeqCst) {
                return;
            }
            let bad = match answer {
                Ok((status @ (200 | 503), reason)) => {
                    let truth = self.shared.truth.allows(category, status == 200, sent, came, self.shared.bound);
                    (!truth).then(|| (false, format!("{} for {category}: {status} {reason}", self.node)))
                }
                Ok((status, reason)) => Some((true, format!("{} for {category}: {status} {reason}", self.node))),
                Err(error) => Some((true, format!("{} for {category}: {error}", self.node))),
            };
            self.shared.count(&self.node, came - sent, bad);
        }
    }
}

/// One connection that stays open, and is opened again when it is lost.
pub struct Line {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Line {
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Status and body.
    pub fn get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        let answer = self.ask(path);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn ask(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        if self.stream.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(2))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            self.stream = Some(BufReader::new(stream));
        }
        let stream = self.stream.as_mut().unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut close, mut line) = (0, 0_usize, false, String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(std::io::Error::other("the connection was closed before the answer"));
            }
            let lower = line.to_ascii_lowercase();
            if let Some(rest) = lower.strip_prefix("http/1.1 ") {
                status = rest.get(..3).and_then(|s| s.parse().ok()).unwrap_or(0);
            } else if let Some(rest) = lower.strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap_or(0);
            } else if lower.trim() == "connection: close" {
                close = true;
            } else if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if close {
            self.stream = None;
        }
        Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
    }
}

#[test]
fn answers_against_the_truth_are_found() {
    let truth = Truth::default();
    let bound = Duration::from_millis(50);
    truth.note("c", true);
    let first = Instant::now();
    assert!(truth.allows("c", true, first, first, bound) && !truth.allows("c", false, first, first, bound));
    truth.note("c", false);
    let (soon, late) = (Instant::now(), Instant::now() + Duration::from_millis(100));
    assert!(truth.allows("c", true, soon, soon, bound) && truth.allows("c", false, soon, soon, bound));
    assert!(!truth.allows("c", true, late, late, bound) && truth.allows("c", false, late, late, bound));
}
