//! Asks every target whether it is well: a pure schedule, an engine on a thread of its own that runs one exchange
//! for each start, one file per kind of check, and pure judges that turn answers into observations.
//! What follows from an observation (damping, health, verdicts) is left to `evaluation`.

pub mod answer;
pub mod catchup;
pub mod connect;
pub mod deadlines;
pub mod engine;
pub mod grpc;
pub mod http1;
pub mod judge;
pub mod limits;
pub mod look;
pub mod outbox;
pub mod prober;
pub mod redirect;
pub mod request;
pub mod resolve;
pub mod run;
pub mod schedule;
pub mod secrets;
pub mod sentinel;
pub mod socks;
pub mod stats;
#[cfg(test)]
mod testing;
mod ticks;
pub mod tls;

pub use engine::{Engine, EngineConfig, EngineHandle, Observed, ProbeError};
pub use prober::Prober;
pub use sentinel::Sentinel;
pub use stats::Stats;
