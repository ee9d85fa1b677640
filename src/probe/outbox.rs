//! Batches that wait for a slow reader: bounded, the oldest goes first. Pure.

use std::collections::VecDeque;

/// Batches in order, bounded by the items in them.
#[derive(Debug)]
pub struct Outbox<T> {
    max: usize,
    items: usize,
    batches: VecDeque<Vec<T>>,
}

impl<T> Outbox<T> {
    /// Holds at most `max` items.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, items: 0, batches: VecDeque::new() }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Puts a batch behind the others; returns how many batches and items had to go for it.
    pub fn push(&mut self, batch: Vec<T>) -> (u64, u64) {
        self.items += batch.len();
        self.batches.push_back(batch);
        let (mut batches, mut items) = (0, 0);
        while self.items > self.max {
            let Some(oldest) = self.pop() else { break };
            batches += 1;
            items += oldest.len() as u64;
        }
        (batches, items)
    }

    /// The oldest batch.
    pub fn pop(&mut self) -> Option<Vec<T>> {
        let batch = self.batches.pop_front()?;
        self.items -= batch.len();
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_is_counted() {
        let mut outbox = Outbox::new(5);
        assert_eq!(outbox.push(vec![1, 2]), (0, 0));
        assert_eq!(outbox.push(vec![3]), (0, 0));
        assert_eq!(outbox.push(vec![4, 5]), (0, 0));
        assert_eq!(outbox.push(vec![6]), (1, 2));
        assert_eq!(outbox.pop(), Some(vec![3]));
        assert_eq!(outbox.push(vec![7, 8]), (0, 0));
        assert_eq!(outbox.push(vec![0; 9]), (4, 14), "even one that is too large by itself");
        assert!(outbox.is_empty() && outbox.pop().is_none());
    }
}
