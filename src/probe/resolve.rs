//! Host names to addresses, through the system's resolver: one look-up for a name at a time, kept for a few
//! seconds, so that 10,000 targets under one name cost one look-up. Address literals skip it.

use std::{cell::RefCell, collections::BTreeMap, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch};

use crate::{clock::Clock, model::Mono};

const KEEP: Duration = Duration::from_secs(5);
const KEEP_FAILURE: Duration = Duration::from_secs(1);
/// Names kept before expired ones are thrown away.
const MAX_NAMES: usize = 16_384;
/// Look-ups at once: each blocks a thread.
const MAX_LOOKUPS: usize = 64;

/// Addresses in the resolver's order, or what it said.
pub type Resolved = Result<Rc<[IpAddr]>, Rc<str>>;

#[derive(Debug)]
enum Entry {
    Running(watch::Receiver<Option<Resolved>>),
    Done(Mono, Resolved),
}

/// The small cache before the system's resolver.
#[derive(Clone, Debug)]
pub struct Resolver {
    clock: Clock,
    names: Rc<RefCell<BTreeMap<String, Entry>>>,
    lookups: Arc<Semaphore>,
}

impl Resolver {
    /// An empty cache.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, names: Rc::default(), lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    /// The addresses of a host. The wait is the caller's to bound; the look-up goes on for others without it.
    ///
    /// # Errors
    /// The resolver's own words, bounded by it.
    pub async fn resolve(&self, host: &str) -> Resolved {
        let mut running = match self.known(host) {
            Ok(done) => return done,
            Err(running) => running,
        };
        let result = match running.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        };
        result.unwrap_or_else(|| Err(Rc::from("the look-up was given up")))
    }

    fn known(&self, host: &str) -> Result<Resolved, watch::Receiver<Option<Resolved>>> {
        let now = self.clock.mono();
        match self.names.borrow().get(host) {
            Some(Entry::Running(receiver)) if receiver.has_changed().is_ok() || receiver.borrow().is_some() => {
                return Err(receiver.clone());
            }
            Some(Entry::Done(at, result)) if now.since(*at) < keep(result) => return Ok(result.clone()),
            _ => {}
        }
        let (sender, receiver) = watch::channel(None);
        self.insert(host, Entry::Running(receiver.clone()), now);
        // Owned by the runtime of the probe thread, which ends it on shutdown.
        tokio::task::spawn_local(self.clone().look_up(host.to_owned(), sender));
        Err(receiver)
    }

    async fn look_up(self, host: String, sender: watch::Sender<Option<Resolved>>) {
        let permit = self.lookups.acquire().await;
        let result: Resolved = match tokio::net::lookup_host((host.as_str(), 0)).await {
            Ok(found) => {
                let mut addresses = Vec::new();
                found.take(32).map(|a| a.ip()).for_each(|ip| {
                    if !addresses.contains(&ip) {
                        addresses.push(ip);
                    }
                });
                if addresses.is_empty() { Err(Rc::from("the name has no address")) } else { Ok(Rc::from(addresses)) }
            }
            Err(e) => Err(Rc::from(e.to_string())),
        };
        drop(permit);
        let now = self.clock.mono();
        self.insert(&host, Entry::Done(now, result.clone()), now);
        sender.send_replace(Some(result));
    }

    fn insert(&self, host: &str, entry: Entry, now: Mono) {
        let mut names = self.names.borrow_mut();
        if names.len() >= MAX_NAMES {
            names.retain(|_, e| match e {
                Entry::Running(_) => true,
                Entry::Done(at, result) => now.since(*at) < keep(result),
            });
        }
        names.insert(host.to_owned(), entry);
    }
}

const fn keep(result: &Resolved) -> Duration {
    if result.is_ok() { KEEP } else { KEEP_FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn local<T>(future: impl Future<Output = T>) -> T {
        let options = tokio::runtime::LocalOptions::default();
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(options).unwrap().block_on(future)
    }

    #[test]
    fn a_name_is_looked_up_once_for_all_who_ask() {
        local(async {
            let resolver = Resolver::new(Clock::system());
            let all = futures_util::future::join_all((0..100).map(|_| resolver.resolve("localhost"))).await;
            let first = all[0].clone().unwrap();
            assert!(first.iter().all(IpAddr::is_loopback));
            assert!(all.iter().all(|r| Rc::ptr_eq(r.as_ref().unwrap(), &first)), "one look-up, one result");
        });
    }

    #[test]
    fn a_failure_is_told_and_forgotten_soon() {
        local(async {
            let clock = Clock::manual(crate::model::Timestamp::from_millis(1_000_000));
            let resolver = Resolver::new(clock.clone());
            assert!(resolver.resolve("no such name.invalid").await.is_err());
            assert!(resolver.known("no such name.invalid").is_ok(), "kept");
            clock.advance(Duration::from_secs(2));
            assert!(resolver.known("no such name.invalid").is_err(), "asked again");
        });
    }
}
