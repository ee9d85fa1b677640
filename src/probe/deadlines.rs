//! The deadlines of probes under way: checked once a tick, which costs less than a timer for each. Pure.

use super::ticks::Ticks;
use crate::model::Mono;

/// What runs under which index, each until its deadline. An index runs one thing at a time.
#[derive(Debug)]
pub struct Deadlines<T> {
    running: Vec<Option<(u64, T)>>,
    /// Number and index.
    queue: Ticks<(u64, usize)>,
    count: usize,
    counter: u64,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self { running: Vec::new(), queue: Ticks::default(), count: 0, counter: 0 }
    }
}

impl<T> Deadlines<T> {
    /// Something begins under an index; what was still there is given back. Returns its number.
    pub fn begin(&mut self, index: usize, deadline: Mono, what: T) -> (u64, Option<T>) {
        if self.running.len() <= index {
            self.running.resize_with(index + 1, || None);
        }
        self.counter += 1;
        let before = self.running.get_mut(index).and_then(|slot| slot.replace((self.counter, what)));
        self.count += usize::from(before.is_none());
        self.queue.push(deadline, (self.counter, index));
        (self.counter, before.map(|(_, what)| what))
    }

    /// It has ended by itself.
    pub fn end(&mut self, index: usize, number: u64) {
        if let Some(slot) = self.running.get_mut(index).filter(|s| matches!(s, Some((n, _)) if *n == number)) {
            *slot = None;
            self.count -= 1;
        }
        // What ended early leaves its place in the queue: bounded by what runs.
        if self.queue.len() > 4 * self.count + 4096 {
            let running = &self.running;
            self.queue.retain(|place| runs(running, place));
        }
    }

    /// The next one whose deadline has come: the end of the tick that it lies in.
    pub fn expired(&mut self, now: Mono) -> Option<T> {
        while let Some((number, index)) = self.queue.pop(now) {
            if let Some(slot) = self.running.get_mut(index).filter(|s| matches!(s, Some((n, _)) if *n == number)) {
                self.count -= 1;
                return slot.take().map(|(_, what)| what);
            }
        }
        None
    }

    /// When `expired` will next have something.
    pub fn earliest(&mut self) -> Option<Mono> {
        let running = &self.running;
        self.queue.skip(|place| runs(running, place));
        self.queue.first().map(|(tick, _)| tick)
    }
}

/// Whether what has a number still runs under its index.
fn runs<T>(running: &[Option<(u64, T)>], (number, index): &(u64, usize)) -> bool {
    matches!(running.get(*index), Some(Some((n, _))) if n == number)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(s: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(s))
    }

    #[test]
    fn only_what_still_runs_expires() {
        let mut d = Deadlines::default();
        let (a, _) = d.begin(0, at(5), "a");
        let (b, _) = d.begin(3, at(3), "b");
        assert_eq!(d.earliest(), Some(at(3)));
        d.end(3, b);
        assert_eq!((d.expired(at(4)), d.earliest()), (None, Some(at(5))));
        let (c, before) = d.begin(3, at(4), "c");
        d.end(3, b);
        assert_eq!((before, d.expired(at(9)), d.expired(at(9))), (None, Some("c"), Some("a")));
        assert_eq!((d.expired(at(9)), d.earliest(), d.count), (None, None, 0));
        d.end(0, a);
        d.end(3, c);
        assert_eq!(d.count, 0);
    }

    #[test]
    fn the_queue_stays_bounded() {
        let mut d = Deadlines::default();
        for i in 0..50_000 {
            let (n, _) = d.begin(i % 7, at(1000), ());
            d.end(i % 7, n);
        }
        assert!(d.queue.len() <= 4100);
    }
}
