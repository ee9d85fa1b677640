//! The only place that reads the system's clocks. Everything else is handed a `Now`, or a `Clock` in the shell.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::model::{Mono, Now, Timestamp};

/// How long before the machine's start the monotonic clock begins: what happened elsewhere before this machine was up (a target's
/// last probe, an age that a leader tells) must have an instant too. On a machine that has just started all of it would else
/// be of one moment, and due at one.
const BEFORE_START: Duration = Duration::from_secs(3650 * 86_400);

/// A source of time for the shell: the system's, or one that a test moves by hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
    Tokio(Arc<OnTokio>),
}

/// Follows tokio's clock, which a simulation pauses and moves; of the runtime that it is asked in.
#[derive(Debug)]
struct OnTokio {
    origin: tokio::time::Instant,
    mono: Mono,
    /// Milliseconds; steps move it.
    wall: AtomicI64,
}

impl Clock {
    /// The system's clocks: UTC, and the one that runs on while the machine is suspended.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `wall` until moved.
    #[must_use]
    pub fn manual(wall: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(wall.as_millis()))))
    }

    /// A clock that moves as tokio's does, from these readings on; made and asked inside a runtime. A simulation gives each of its
    /// nodes one.
    #[must_use]
    pub fn tokio(now: Now) -> Self {
        let wall = AtomicI64::new(now.wall.as_millis());
        Self(Source::Tokio(Arc::new(OnTokio { origin: tokio_now(), mono: now.mono, wall })))
    }

    /// Steps the wall clock of a clock that follows tokio's, forth or back; the others ignore it.
    pub fn step_wall(&self, millis: i64) {
        if let Source::Tokio(on) = &self.0 {
            on.wall.fetch_add(millis, Ordering::SeqCst);
        }
    }

    /// Moves a manual clock forward; the system's clock ignores it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(millis) = &self.0 {
            millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System => Now { wall: system_wall(), mono: system_mono() },
            Source::Manual(millis) => {
                let millis = millis.load(Ordering::SeqCst);
                let since_epoch = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
                Now { wall: Timestamp::from_millis(millis), mono: Mono::from_origin(since_epoch) }
            }
            Source::Tokio(on) => {
                let passed = tokio_now().saturating_duration_since(on.origin);
                let wall = Timestamp::from_millis(on.wall.load(Ordering::SeqCst)).plus(passed);
                Now { wall, mono: on.mono.plus(passed) }
            }
        }
    }

    /// The wall clock alone.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_wall(),
            Source::Manual(_) | Source::Tokio(_) => self.now().wall,
        }
    }

    /// The monotonic clock alone.
    #[must_use]
    pub fn mono(&self) -> Mono {
        match &self.0 {
            Source::System => system_mono(),
            Source::Manual(_) | Source::Tokio(_) => self.now().mono,
        }
    }
}

#[allow(clippy::disallowed_methods)]
fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[allow(clippy::disallowed_methods)]
fn system_wall() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

fn system_mono() -> Mono {
    // CLOCK_BOOTTIME: authority and ages must go on counting while the machine is suspended (design section 4.2).
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(t.tv_nsec).unwrap_or(0);
    Mono::from_origin(BEFORE_START.saturating_add(Duration::new(secs, nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_the_machine_started_has_an_instant() {
        let now = Clock::system().mono();
        assert!(now.elapsed() >= BEFORE_START);
        assert!(Clock::system().mono().since(now) < Duration::from_secs(60));
    }
}
