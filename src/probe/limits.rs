//! How many probes may run at once, in all and against one host; the rest waits in the order of its arrival. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

/// The host that a job counts against; `None` is exempt (the gateway is no host in this sense).
pub type HostKey = Option<Rc<str>>;

#[derive(Debug)]
struct Host<J> {
    running: usize,
    waiting: VecDeque<J>,
}

/// Jobs that run or wait. What waits is bounded by the caller, who never hands in a target twice.
#[derive(Debug)]
pub struct Limits<J> {
    max_total: usize,
    max_per_host: usize,
    running: usize,
    queued: usize,
    /// Within their host's limit, waiting for the total.
    ready: VecDeque<J>,
    hosts: BTreeMap<Rc<str>, Host<J>>,
}

impl<J> Limits<J> {
    /// Limits of at least 1 each.
    #[must_use]
    pub fn new(max_total: usize, max_per_host: usize) -> Self {
        Self {
            max_total: max_total.max(1),
            max_per_host: max_per_host.max(1),
            running: 0,
            queued: 0,
            ready: VecDeque::new(),
            hosts: BTreeMap::new(),
        }
    }

    /// Jobs under way.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Jobs that wait.
    #[must_use]
    pub const fn queued(&self) -> usize {
        self.queued
    }

    /// Takes a job in; it comes out of `start_next` once the limits allow.
    pub fn submit(&mut self, host: &HostKey, job: J) {
        self.queued += 1;
        if let Some(key) = host {
            let host =
                self.hosts.entry(Rc::clone(key)).or_insert_with(|| Host { running: 0, waiting: VecDeque::new() });
            if host.running >= self.max_per_host {
                host.waiting.push_back(job);
                return;
            }
            host.running += 1;
        }
        self.ready.push_back(job);
    }

    /// The next job that may start now; it runs until `finish`.
    pub fn start_next(&mut self) -> Option<J> {
        if self.running >= self.max_total {
            return None;
        }
        let job = self.ready.pop_front()?;
        self.running += 1;
        self.queued = self.queued.saturating_sub(1);
        Some(job)
    }

    /// Ends a job that `start_next` gave out; its host's next one becomes ready.
    pub fn finish(&mut self, host: &HostKey) {
        self.running = self.running.saturating_sub(1);
        let Some(key) = host else { return };
        let Some(entry) = self.hosts.get_mut(key) else { return };
        if let Some(job) = entry.waiting.pop_front() {
            self.ready.push_back(job);
            return;
        }
        entry.running = entry.running.saturating_sub(1);
        if entry.running == 0 {
            self.hosts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostKey {
        Some(Rc::from(name))
    }

    #[test]
    fn a_host_never_gets_more_than_its_share_and_the_gateway_is_exempt() {
        let mut limits = Limits::new(10, 2);
        (0..4).for_each(|i| limits.submit(&host("a:1"), ("a", i)));
        (0..3).for_each(|i| limits.submit(&None, ("gateway", i)));
        let mut started = Vec::new();
        while let Some(job) = limits.start_next() {
            started.push(job);
        }
        assert_eq!(started, [("a", 0), ("a", 1), ("gateway", 0), ("gateway", 1), ("gateway", 2)]);
        assert_eq!((limits.running(), limits.queued()), (5, 2));
        limits.finish(&host("a:1"));
        assert_eq!(limits.start_next(), Some(("a", 2)), "first in, first out");
        assert_eq!(limits.start_next(), None);
    }

    #[test]
    fn the_total_holds_and_nothing_is_lost() {
        let mut limits = Limits::new(3, 2);
        (0..20).for_each(|i| limits.submit(&host(if i % 2 == 0 { "a" } else { "b" }), i));
        let (mut running, mut seen) = (VecDeque::new(), Vec::new());
        loop {
            while let Some(job) = limits.start_next() {
                running.push_back(job);
                seen.push(job);
            }
            assert!(running.len() <= 3);
            let Some(job) = running.pop_front() else { break };
            limits.finish(&host(if job % 2 == 0 { "a" } else { "b" }));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        assert!(limits.hosts.is_empty(), "idle hosts are forgotten");
    }
}
