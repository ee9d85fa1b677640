//! The numbered log of transitions (design section 4.4): the last 10,000, in memory and on disk, one JSON line each. Numbers grow by
//! one and go on after a restart. Whom they are sent to is left to others.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use super::saver::Saver;
use crate::model::{HealthState, NodeName, TargetName, Timestamp};

/// Transitions that are kept.
pub const KEPT: usize = 10_000;
/// Largest file that is read: twice the log, with long reasons.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// One change of a target's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Its number in this node's log, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Which target.
    pub target: TargetName,
    /// From which state.
    pub from: HealthState,
    /// To which.
    pub to: HealthState,
    /// Why; hostile text, bounded.
    pub reason: Arc<str>,
    /// Term of the leader that saw it.
    pub term: i64,
    /// The target's number of it.
    pub n: u64,
    /// The node that saw it.
    pub node: NodeName,
}

/// The log of one node.
#[derive(Debug)]
pub struct TransitionLog {
    entries: VecDeque<Transition>,
    next: u64,
    /// Lines in the file.
    lines: usize,
    file: String,
    saver: Saver,
}

impl TransitionLog {
    /// Reads `transitions-<node>.jsonl`. A line that cannot be read, such as one cut off by a crash, is left out and the file
    /// written anew; a file that cannot be read at all is logged, and the log begins anew.
    #[must_use]
    pub fn open(saver: Saver, node: &NodeName) -> Self {
        let file = format!("transitions-{node}.jsonl");
        let content = saver.disk().load_at_most(&file, MAX_BYTES).unwrap_or_else(|error| {
            tracing::error!(%file, %error, "the kept transitions cannot be read");
            None
        });
        let mut log = Self { entries: VecDeque::new(), next: 1, lines: 0, file, saver };
        let content = content.unwrap_or_default();
        let mut skipped = 0_usize;
        let (whole, torn) = match content.iter().rposition(|b| *b == b'\n') {
            Some(end) => (content.get(..end).unwrap_or_default(), content.len() > end + 1),
            None => (&[][..], !content.is_empty()),
        };
        for line in whole.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            log.lines += 1;
            match serde_json::from_slice::<Transition>(line) {
                // Numbers only grow: what does not fit was not written by this log.
                Ok(entry) if entry.number >= log.next => log.keep(entry),
                _ => skipped += 1,
            }
        }
        if skipped > 0 || torn {
            tracing::warn!(file = %log.file, skipped, torn, "kept transitions were left out");
            log.rewrite();
        }
        log
    }

    /// Adds one; `number` is given here and returned.
    pub fn push(&mut self, transition: Transition) -> u64 {
        let number = self.next;
        let transition = Transition { number, ..transition };
        let mut line = serde_json::to_vec(&transition).unwrap_or_default();
        line.push(b'\n');
        self.keep(transition);
        if self.lines >= 2 * KEPT {
            self.rewrite();
        } else if self.saver.append(&self.file, &line) {
            self.lines += 1;
        } else {
            // The disk hangs: the file is made whole again once it takes one.
            self.rewrite();
        }
        number
    }

    /// The last `count`, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &Transition> {
        self.entries.range(self.entries.len().saturating_sub(count)..)
    }

    /// The number that the next one gets.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    fn keep(&mut self, entry: Transition) {
        self.next = entry.number.saturating_add(1);
        if self.entries.len() >= KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    fn rewrite(&mut self) {
        self.lines = self.entries.len();
        let entries: Vec<Transition> = self.entries.iter().cloned().collect();
        self.saver.save(&self.file, move || {
            let mut content = Vec::with_capacity(entries.len() * 256);
            for entry in &entries {
                serde_json::to_writer(&mut content, entry)?;
                content.push(b'\n');
            }
            Ok(content)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controller::saver::Where,
        disk::{Directory, Disk},
    };

    fn transition(i: u64) -> Transition {
        Transition {
            number: 0,
            at: Timestamp::from_millis(i64::try_from(i).unwrap()),
            target: TargetName::new(&format!("t-{i}")).unwrap(),
            from: HealthState::Up,
            to: HealthState::Down,
            reason: Arc::from("3 bad results in a row: \"x\"\n"),
            term: 7,
            n: i,
            node: NodeName::new("a").unwrap(),
        }
    }

    fn open(disk: &Arc<dyn Disk>) -> TransitionLog {
        TransitionLog::open(Saver::new(Arc::clone(disk), Where::Here), &NodeName::new("a").unwrap())
    }

    const FILE: &str = "transitions-a.jsonl";

    #[test]
    fn numbers_go_on_after_a_restart_and_a_torn_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(Directory::new(dir.path()));
        let mut log = open(&disk);
        assert_eq!((0..5).map(|i| log.push(transition(i))).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let log = open(&disk);
        assert_eq!(log.next(), 6);
        assert_eq!(log.last(2).map(|t| (t.number, t.n)).collect::<Vec<_>>(), [(4, 3), (5, 4)]);
        assert_eq!(log.last(99).count(), 5);
        // A crash in the middle of the last line, and one line spoilt.
        let content = String::from_utf8(disk.load(FILE).unwrap().unwrap()).unwrap();
        let spoilt = content.replacen("\"number\":2", "\"nummer\":2", 1);
        disk.save(FILE, &spoilt.as_bytes()[..spoilt.len() - 9]).unwrap();
        let mut log = open(&disk);
        assert_eq!(log.last(9).map(|t| t.number).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(log.push(transition(9)), 5);
        assert_eq!(
            open(&disk).last(9).map(|t| t.number).collect::<Vec<_>>(),
            [1, 3, 4, 5],
            "nothing is joined to the torn line"
        );
        disk.save(FILE, b"\xff\xfe no lines").unwrap();
        assert_eq!(open(&disk).next(), 1, "a broken file stops nothing");
    }

    #[test]
    fn the_log_is_bounded_in_memory_and_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(Directory::new(dir.path()));
        let lines: Vec<u8> = (1..=2 * KEPT as u64 - 3)
            .flat_map(|i| {
                let mut line = serde_json::to_vec(&Transition { number: i, ..transition(i) }).unwrap();
                line.push(b'\n');
                line
            })
            .collect();
        disk.save(FILE, &lines).unwrap();
        let mut log = open(&disk);
        assert_eq!((log.entries.len(), log.next()), (KEPT, 2 * KEPT as u64 - 2));
        let before = disk.load(FILE).unwrap().unwrap().len();
        (0..5).for_each(|i| {
            log.push(transition(i));
        });
        let after = disk.load(FILE).unwrap().unwrap();
        assert!(after.len() < before * 6 / 10, "written anew");
        assert_eq!(open(&disk).last(KEPT).collect::<Vec<_>>(), log.last(KEPT).collect::<Vec<_>>());
    }
}
