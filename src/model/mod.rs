//! The nouns of Bellwether as plain values: names, times, keys, specs, targets, health, verdicts, the catalog and
//! the view that readers get. Serde and comparisons live here; no I/O, no clock, no decisions.
//! How raw text becomes these values is left to `config`; what follows from them is left to `evaluation`.

pub mod ack;
pub mod catalog;
pub mod cluster;
pub mod document;
pub mod duration;
pub mod fault;
pub mod health;
pub mod key;
pub mod name;
pub mod node;
pub mod observation;
pub mod secret;
pub mod spec;
pub mod target;
pub mod time;
pub mod verdict;
pub mod view;

pub use ack::Ack;
pub use catalog::{Catalog, Category, Region, Service};
pub use fault::{Fault, FaultLevel};
pub use health::{Health, HealthState};
pub use name::{CategoryName, NameError, NodeName, RegionName, ServiceName, TargetName};
pub use node::{NodeStatus, Role, StoreState};
pub use observation::{Cell, DocumentCheck, Observation, Outcome};
pub use target::{Check, Severity, Target};
pub use time::{Mono, Now, Timestamp};
pub use verdict::{CategoryVerdict, Evaluation, Latch, Reason, ServiceVerdict, TargetVerdict};
pub use view::{GtgAnswer, View};
