//! What the tests with real clusters share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, missing_docs)]

#[path = "audit.rs"]
pub mod audit;
#[path = "cluster.rs"]
pub mod cluster;
#[path = "cluster_etcd.rs"]
mod cluster_etcd;
#[path = "etcd.rs"]
pub mod etcd;
#[path = "farm.rs"]
pub mod farm;
#[path = "figures.rs"]
pub mod figures;
#[path = "http.rs"]
pub mod http;
#[path = "load.rs"]
pub mod load;
#[path = "node.rs"]
pub mod node;
#[path = "ports.rs"]
pub mod ports;
#[path = "proxy.rs"]
pub mod proxy;
#[path = "roles.rs"]
pub mod roles;
#[path = "signal.rs"]
pub mod signal;
