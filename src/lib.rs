//! Bellwether tells load balancers, DNS and clients which services may take traffic, in which region.
//!
//! Rooms, lowest rank first; a room imports only rooms of lower rank (`tests/layering.rs`):
//! 0 `model`; 1 `evaluation`, `config`, `clock`, `latest`; 2 `store`, `probe`, `publish`, `web`; 3 `controller`;
//! 4 `runtime`; 5 `cli`. `ARCHITECTURE.md` has the picture.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod bugs;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod disk;
pub mod evaluation;
pub mod latest;
pub mod meters;
pub mod model;
pub mod probe;
pub mod publish;
pub mod replication;
pub mod runtime;
#[cfg(test)]
pub mod simulation;
pub mod store;
pub mod web;
