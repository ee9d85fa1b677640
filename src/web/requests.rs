//! How many requests were answered, by kind of endpoint and status: a fixed table of relaxed atomics, one copy for each of a few
//! groups of threads, so that `/__gtg` on several cores does not share a cache line. Who is told is left to `publish`.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use http::StatusCode;

/// Kinds of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/__gtg` and `/__gtg/<service>`.
    Gtg,
    /// `/`, `/__health`.
    Health,
    /// `/__agghealth`.
    AggHealth,
    /// `/__live`, `/__ready`, `/__ping`, `/__build-info`.
    Node,
    /// `/metrics`.
    Metrics,
    /// Anything read below `/api/`.
    Api,
    /// What is not read: edits, right or refused.
    Edit,
    /// No such path.
    Other,
}

const ENDPOINTS: [(Endpoint, &str); 8] = [
    (Endpoint::Gtg, "gtg"),
    (Endpoint::Health, "health"),
    (Endpoint::AggHealth, "agghealth"),
    (Endpoint::Node, "node"),
    (Endpoint::Metrics, "metrics"),
    (Endpoint::Api, "api"),
    (Endpoint::Edit, "edit"),
    (Endpoint::Other, "other"),
];

/// Statuses that are told one by one; the rest is one.
const CODES: [(u16, &str); 13] = [
    (200, "200"),
    (503, "503"),
    (204, "204"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (413, "413"),
    (500, "500"),
];
const OTHER: &str = "other";
const CELLS: usize = CODES.len() + 1;
const SHARDS: usize = 8;

#[derive(Debug)]
#[repr(align(128))]
struct Shard([[AtomicU64; CELLS]; ENDPOINTS.len()]);

/// The table.
#[derive(Debug)]
pub struct Requests(Box<[Shard; SHARDS]>);

impl Default for Requests {
    fn default() -> Self {
        let row = || std::array::from_fn(|_| AtomicU64::new(0));
        Self(Box::new(std::array::from_fn(|_| Shard(std::array::from_fn(|_| row())))))
    }
}

/// Which copy this thread counts in.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        own.get()
    })
}

impl Requests {
    /// Counts one answer.
    pub fn count(&self, endpoint: Endpoint, status: StatusCode) {
        let code = status.as_u16();
        let cell = CODES.iter().position(|(known, _)| *known == code).unwrap_or(CODES.len());
        let cell = self.0.get(shard()).and_then(|s| s.0.get(endpoint as usize)?.get(cell));
        if let Some(cell) = cell {
            cell.fetch_add(1, Relaxed);
        }
    }

    /// Endpoint, status and count; those that were never seen are left out, but for `/__gtg`'s 200 and 503.
    #[must_use]
    pub fn figures(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut all = Vec::new();
        let codes = || CODES.iter().map(|(_, word)| *word).chain([OTHER]).enumerate();
        for (row, (endpoint, word)) in ENDPOINTS.iter().enumerate() {
            for (cell, code) in codes() {
                let one = |s: &Shard| s.0.get(row).and_then(|r| Some(r.get(cell)?.load(Relaxed))).unwrap_or(0);
                let count = self.0.iter().map(one).fold(0_u64, u64::saturating_add);
                if count > 0 || (*endpoint == Endpoint::Gtg && cell < 2) {
                    all.push((*word, code, count));
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_status_has_its_cell_whatever_the_thread() {
        let requests = Requests::default();
        let count = |endpoint, code: u16| requests.count(endpoint, StatusCode::from_u16(code).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| count(Endpoint::Gtg, 200));
            }
        });
        count(Endpoint::Other, 404);
        count(Endpoint::Edit, 418);
        assert_eq!(
            requests.figures(),
            [("gtg", "200", 20), ("gtg", "503", 0), ("edit", "other", 1), ("other", "404", 1)]
        );
        for (index, (endpoint, _)) in ENDPOINTS.iter().enumerate() {
            assert_eq!(*endpoint as usize, index);
        }
    }
}
