//! What is to come, in order of the ticks that it belongs to. Most of it lies in a few hundred ticks: to put something in, or to take the
//! next out, touches one list and not the whole, which a heap of all targets would (its cold memory costs more than its steps). Pure.

use std::collections::{BTreeMap, VecDeque};

use super::schedule::tick_of;
use crate::model::Mono;

/// A queue by ticks; within one tick in the order in which things were put in.
#[derive(Debug)]
pub struct Ticks<T> {
    lists: BTreeMap<Mono, VecDeque<T>>,
    len: usize,
}

impl<T> Default for Ticks<T> {
    fn default() -> Self {
        Self { lists: BTreeMap::new(), len: 0 }
    }
}

impl<T> Ticks<T> {
    /// Number of things in it.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Puts something in, to come at the end of the tick of `at`.
    pub fn push(&mut self, at: Mono, what: T) {
        self.lists.entry(tick_of(at)).or_default().push_back(what);
        self.len += 1;
    }

    /// The next thing, with the end of its tick.
    pub fn first(&self) -> Option<(Mono, &T)> {
        let (tick, list) = self.lists.first_key_value()?;
        Some((*tick, list.front()?))
    }

    /// Takes the next thing out if its tick has ended by `now`.
    pub fn pop(&mut self, now: Mono) -> Option<T> {
        let mut first = self.lists.first_entry().filter(|first| *first.key() <= now)?;
        let what = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        self.len -= usize::from(what.is_some());
        what
    }

    /// Takes out what comes next and is not `wanted`.
    pub fn skip(&mut self, wanted: impl Fn(&T) -> bool) {
        while let Some((tick, what)) = self.first() {
            if wanted(what) {
                return;
            }
            self.pop(tick);
        }
    }

    /// Keeps only what is `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        self.lists.retain(|_, list| {
            list.retain(&wanted);
            !list.is_empty()
        });
        self.len = self.lists.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(millis))
    }

    #[test]
    fn a_tick_has_ended_before_anything_of_it_comes() {
        let mut ticks = Ticks::default();
        ticks.push(ms(25), "b");
        ticks.push(ms(11), "a");
        ticks.push(ms(20), "c");
        assert_eq!(ticks.first(), Some((ms(20), &"a")));
        assert_eq!(ticks.pop(ms(19)), None);
        assert_eq!((ticks.pop(ms(20)), ticks.pop(ms(29)), ticks.pop(ms(29))), (Some("a"), Some("c"), None));
        ticks.skip(|what| *what != "b");
        assert_eq!((ticks.first(), ticks.len()), (None, 0));
    }

    proptest! {
        /// As a stable sort by the tick would have it.
        #[test]
        fn all_comes_once_in_order(times in proptest::collection::vec(0_u64..200, 0..80), keep in 1_usize..4) {
            let mut ticks = Ticks::default();
            for (i, at) in times.iter().enumerate() {
                ticks.push(ms(*at), i);
            }
            prop_assert_eq!(ticks.len(), times.len());
            ticks.retain(|i| i % keep == 0);
            let mut expected: Vec<usize> = (0..times.len()).filter(|i| i % keep == 0).collect();
            expected.sort_by_key(|i| times[*i].div_ceil(10));
            prop_assert_eq!(ticks.len(), expected.len());
            let came: Vec<usize> = std::iter::from_fn(|| ticks.pop(ms(1000))).collect();
            prop_assert_eq!(came, expected);
            prop_assert!(ticks.first().is_none() && ticks.lists.is_empty());
        }
    }
}
