//! Deliberate faults for the cluster simulation: each is a mistake that the node's code could have, switched on by a test to
//! show that the simulation notices it. In a program that is not a test there are none.

/// One deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Leader writes are made without the compares of the fence.
    FenceDropped,
    /// Authority is counted from when the renewal's answer came, not from before it was sent.
    AuthorityFromReply,
    /// Authority is not compared with the clock when it is used.
    AuthorityUnchecked,
    /// After a compaction the watch goes on from the compacted revision, without a list.
    WatchFromCompact,
    /// A list does not tell what is gone.
    DeletesIgnored,
    /// A delta that does not follow the last one is applied all the same.
    DeltaOverGap,
    /// Frames of a lower term are taken.
    LowerTermTaken,
    /// A status key is taken whatever its (term, n).
    LateStatusWins,
    /// A static leader goes on although another node has a live store and a leader.
    StaticNeverYields,
    /// A leader that lost its authority takes its old term up again.
    TermResumed,
    /// A transition's number begins anew after a restart.
    RestartForgetsN,
    /// A new leader begins with nothing known of the targets' health.
    TakeoverForgets,
    /// A store that went back in time is not noticed.
    ResetUnnoticed,
}

/// Whether a deliberate fault is on: never.
#[cfg(not(test))]
#[must_use]
pub const fn is(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub use seeded::{is, seed};

impl Bug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::FenceDropped,
        Self::AuthorityFromReply,
        Self::AuthorityUnchecked,
        Self::WatchFromCompact,
        Self::DeletesIgnored,
        Self::DeltaOverGap,
        Self::LowerTermTaken,
        Self::LateStatusWins,
        Self::StaticNeverYields,
        Self::TermResumed,
        Self::RestartForgetsN,
        Self::TakeoverForgets,
        Self::ResetUnnoticed,
    ];
}

#[cfg(test)]
mod seeded {
    use super::Bug;

    thread_local! {
        static SEEDED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
    }

    /// Whether a deliberate fault is on in this thread.
    #[must_use]
    pub fn is(bug: Bug) -> bool {
        SEEDED.get() == Some(bug)
    }

    /// Switches one on in this thread, or none.
    pub fn seed(bug: Option<Bug>) {
        SEEDED.set(bug);
    }
}
