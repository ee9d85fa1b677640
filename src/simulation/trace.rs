//! What happened in a run: always hashed, and kept as lines where somebody reads it.

use std::fmt::Write as _;

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    keep: bool,
    now: u64,
    hash: u64,
    lines: String,
}

impl Trace {
    /// An empty trace; `keep` for one that can be read.
    pub fn new(keep: bool) -> Self {
        Self { keep, now: 0, hash: 0xcbf2_9ce4_8422_2325, lines: String::new() }
    }

    /// The time of what follows, in virtual milliseconds.
    pub fn at(&mut self, now: u64) {
        self.now = now;
    }

    /// One line.
    pub fn say(&mut self, line: &str) {
        let mix = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        self.hash = self.now.to_le_bytes().into_iter().chain(line.bytes()).fold(self.hash, mix);
        if self.keep {
            let _ = writeln!(self.lines, "{:>4}.{:03} {line}", self.now / 1000, self.now % 1000);
        }
    }

    /// Tells two histories apart.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines, where they were kept.
    pub fn lines(&self) -> &str {
        &self.lines
    }
}
