//! What Bellwether tells others by itself, one file per output: a pure rendering of the `View`, then its sending.
//! What is true is left to `evaluation`; whether this node may send is told by `controller`; answers over HTTP are
//! left to `web`.

pub mod figures;
pub mod graphite;
pub mod prometheus;
pub mod statsd;

pub use graphite::{Graphite, GraphiteOptions, GraphiteStats, Marks};
pub use prometheus::{NodeFigures, render as render_prometheus};
