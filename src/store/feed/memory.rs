//! What a feed has told so far: key to modification revision and value. Pure: differences, what is old news, and what
//! proves another history.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};

use crate::bugs::{self, Bug};
use crate::store::{Event, Pair};

/// One key as it was told. Of the value only a fingerprint: two histories may have the same revision for other values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    revision: i64,
    print: u64,
}

impl Told {
    fn of(pair: &Pair) -> Self {
        // The same in each process: its keys are fixed.
        let mut hasher = DefaultHasher::new();
        hasher.write(&pair.value);
        Self { revision: pair.mod_revision, print: hasher.finish() }
    }

    /// Whether a history that held `self` cannot come to hold `later`.
    const fn contradicts(self, later: Self) -> bool {
        later.revision < self.revision || (later.revision == self.revision && later.print != self.print)
    }
}

/// A put that was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    /// Its key.
    pub(super) key: String,
    told: Told,
}

impl Anchor {
    /// The revision of the put.
    pub(super) const fn revision(&self) -> i64 {
        self.told.revision
    }

    /// Whether it is among the pairs that the store held at its revision.
    pub(super) fn is_in(&self, pairs: &[Pair]) -> bool {
        pairs.iter().any(|pair| pair.key == self.key && Told::of(pair) == self.told)
    }
}

/// What a list changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replaced {
    /// The difference, deletes included; of another history every pair as a put.
    pub(super) events: Vec<Event>,
    /// It is of another history than what was told before.
    pub(super) reset: bool,
}

#[derive(Debug)]
pub(super) struct Memory {
    /// The highest revision seen; 0 before the first list.
    revision: i64,
    /// The highest revision in what is known from elsewhere, until the first list.
    seeded: i64,
    /// Prefix and the revision up to which all its changes were told. A watch keeps order only within a prefix, so the
    /// progress of a busy one says nothing of a quiet one.
    marks: Vec<(String, i64)>,
    keys: BTreeMap<String, Told>,
}

impl Memory {
    /// Knows what is in `seed`, as far as it lies below the prefixes.
    pub(super) fn new(prefixes: &[String], seed: &[Pair]) -> Self {
        let seed = seed.iter().filter(|pair| prefixes.iter().any(|prefix| pair.key.starts_with(prefix.as_str())));
        let keys: BTreeMap<_, _> = seed.map(|pair| (pair.key.clone(), Told::of(pair))).collect();
        let seeded = keys.values().map(|told| told.revision).max().unwrap_or(0);
        Self { revision: 0, seeded, marks: prefixes.iter().map(|p| (p.clone(), 0)).collect(), keys }
    }

    /// The highest revision seen.
    pub(super) const fn revision(&self) -> i64 {
        self.revision
    }

    /// The last put that is known, to ask the store for: who holds another value at that revision has another history.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        let (key, told) = self.keys.iter().max_by_key(|(_, told)| told.revision)?;
        Some(Anchor { key: key.clone(), told: *told })
    }

    /// Where a new watch must begin so that nothing is lost; what is told again then is dropped by `advance`.
    pub(super) fn resume(&self) -> i64 {
        self.marks.iter().map(|(_, mark)| *mark).min().unwrap_or(0).saturating_add(1)
    }

    /// A deliberate fault: goes on from a revision as if all before it had been told.
    pub(super) fn skip_to(&mut self, revision: i64) {
        self.marks.iter_mut().for_each(|(_, mark)| *mark = revision.max(*mark));
    }

    /// Takes changes of the watch and returns those that are news: a repeated or late one is dropped.
    pub(super) fn advance(&mut self, events: Vec<Event>) -> Vec<Event> {
        events.into_iter().filter(|event| self.take(event)).collect()
    }

    fn take(&mut self, event: &Event) -> bool {
        let revision = event.revision();
        let mark = self.marks.iter_mut().find(|(prefix, _)| event.key().starts_with(prefix.as_str()));
        let Some((_, mark)) = mark.filter(|(_, mark)| revision >= *mark) else { return false };
        *mark = revision;
        self.revision = self.revision.max(revision);
        let known = self.keys.get(event.key()).map(|told| told.revision);
        match event {
            Event::Put(pair) => {
                let news = known.is_none_or(|r| r < revision);
                if news {
                    self.keys.insert(pair.key.clone(), Told::of(pair));
                }
                news
            }
            Event::Delete { key, .. } => known.is_some_and(|r| r < revision) && self.keys.remove(key).is_some(),
        }
    }

    /// Takes a list of everything and returns the difference. `reset` says that it is known to be of another history; a list
    /// of an older revision than known, or with a key that contradicts what is known, is one too.
    pub(super) fn replace(&mut self, revision: i64, pairs: Vec<Pair>, reset: bool) -> Replaced {
        let mut before = std::mem::take(&mut self.keys);
        let contradicts = |pair: &Pair| before.get(&pair.key).is_some_and(|known| known.contradicts(Told::of(pair)));
        let reset = reset || revision < self.revision.max(self.seeded) || pairs.iter().any(contradicts);
        let mut events = Vec::new();
        for pair in pairs {
            let (known, now) = (before.remove(&pair.key), Told::of(&pair));
            self.keys.insert(pair.key.clone(), now);
            if reset || known != Some(now) {
                events.push(Event::Put(pair));
            }
        }
        if !bugs::is(Bug::DeletesIgnored) {
            events.extend(before.into_keys().map(|key| Event::Delete { key, revision }));
        }
        (self.revision, self.seeded) = (revision, 0);
        self.marks.iter_mut().for_each(|(_, mark)| *mark = revision);
        Replaced { events, reset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn put(key: &str, revision: i64) -> Event {
        let (key, value) = (key.to_owned(), Bytes::new());
        Event::Put(Pair { key, value, create_revision: 1, mod_revision: revision, lease: None })
    }
    fn delete(key: &str, revision: i64) -> Event {
        Event::Delete { key: key.to_owned(), revision }
    }

    #[test]
    fn prefixes_keep_their_own_marks() {
        let mut memory = Memory::new(&["a/".to_owned(), "b/".to_owned()], &[]);
        memory.replace(10, vec![], false);
        assert_eq!(memory.resume(), 11);
        assert_eq!(memory.advance(vec![put("a/1", 20)]).len(), 1);
        assert_eq!(memory.resume(), 11, "b/ may still owe changes since 11");
        assert_eq!(memory.advance(vec![put("b/1", 15), put("c/1", 16)]).len(), 1, "late, but the first of its prefix");
        assert_eq!(memory.resume(), 16);
        assert_eq!(memory.revision(), 20);
    }

    #[test]
    fn what_is_told_again_is_dropped_and_a_deleted_key_does_not_come_back() {
        let mut memory = Memory::new(&["a/".to_owned()], &[]);
        memory.replace(10, vec![], false);
        let told = vec![put("a/1", 11), put("a/2", 11), delete("a/1", 12)];
        assert_eq!(memory.advance(told.clone()).len(), 3);
        assert_eq!(memory.advance(told), []);
        assert_eq!(memory.advance(vec![put("a/1", 13)]).len(), 1);
    }

    fn pair(key: &str, revision: i64, value: &'static str) -> Pair {
        let Event::Put(pair) = put(key, revision) else { unreachable!() };
        Pair { value: Bytes::from_static(value.as_bytes()), ..pair }
    }

    #[test]
    fn a_lower_revision_makes_every_pair_news() {
        let mut memory = Memory::new(&["a/".to_owned()], &[]);
        let (one, two) = (pair("a/1", 5, "x"), pair("a/2", 6, "x"));
        assert_eq!(memory.replace(10, vec![one.clone(), two], false).events.len(), 2);
        let gone = Event::Delete { key: "a/2".to_owned(), revision: 11 };
        assert_eq!(memory.replace(11, vec![one.clone()], false), Replaced { events: vec![gone], reset: false });
        assert_eq!(memory.replace(11, vec![one.clone()], false), Replaced { events: vec![], reset: false });
        let all = || vec![Event::Put(one.clone())];
        assert_eq!(memory.replace(9, vec![one.clone()], false), Replaced { events: all(), reset: true });
        assert_eq!(memory.resume(), 10);
        assert_eq!(memory.replace(20, vec![one.clone()], true), Replaced { events: all(), reset: true }, "told so");
        let gone = Event::Delete { key: "a/1".to_owned(), revision: 3 };
        assert_eq!(memory.replace(3, vec![], false), Replaced { events: vec![gone], reset: true }, "deletes too");
    }

    #[test]
    fn a_key_that_contradicts_what_is_known_is_another_history_although_the_revision_grew() {
        for (later, reset) in [
            (pair("a/1", 5, "x"), false),
            (pair("a/1", 7, "y"), false),
            (pair("a/1", 7, "x"), false),
            (pair("a/1", 4, "x"), true),
            (pair("a/1", 5, "y"), true),
        ] {
            let mut memory = Memory::new(&["a/".to_owned()], &[]);
            memory.replace(10, vec![pair("a/1", 5, "x"), pair("a/2", 3, "z")], false);
            let replaced = memory.replace(30, vec![later.clone(), pair("a/2", 3, "z")], false);
            assert_eq!(replaced.reset, reset, "{later:?}");
            assert_eq!(replaced.events.len(), if reset { 2 } else { usize::from(later.mod_revision > 5) });
        }
    }

    #[test]
    fn what_is_known_from_disk_is_told_as_a_difference_with_deletes() {
        let seed = [pair("a/1", 5, "x"), pair("a/2", 6, "x"), pair("a/3", 7, "x"), pair("b/1", 7, "x")];
        let start = || Memory::new(&["a/".to_owned()], &seed);
        let mut memory = start();
        assert_eq!(memory.revision(), 0, "nothing was read yet");
        let list = vec![seed[0].clone(), pair("a/2", 9, "y"), pair("a/4", 9, "n")];
        let replaced = memory.replace(10, list.clone(), false);
        let keys: Vec<_> = replaced.events.iter().map(Event::key).collect();
        assert_eq!((keys, replaced.reset), (vec!["a/2", "a/4", "a/3"], false));
        assert_eq!(memory.replace(11, list, false).events, []);
        // The store was restored while this node was down.
        let replaced = start().replace(6, vec![seed[0].clone()], false);
        let keys: Vec<_> = replaced.events.iter().map(Event::key).collect();
        assert_eq!((keys, replaced.reset), (vec!["a/1", "a/2", "a/3"], true));
    }
}
