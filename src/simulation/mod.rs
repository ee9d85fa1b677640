//! The cluster simulation (design section 10): several nodes of the real node code, each on a runtime of its own with paused
//! time, stepped in a fixed order by one thread, over one simulated etcd. A seed gives the script of what breaks and when;
//! the checker looks after every step. The same seed gives the same trace. `scripts/simulate` runs many seeds.
//!
//! Stand-ins are only what touches the world: the store's connection, the other nodes, the probes, the disk, the clock.
#![allow(missing_docs)]

mod agreement;
mod campaign;
mod checker;
mod client;
mod disk;
mod flips;
mod network;
mod node;
mod script;
mod server;
mod targets;
mod trace;
mod world;

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 11] {
        let (a, b) = (world::run(seed, None, true), world::run(seed, None, true));
        let differ = a.trace.lines().lines().zip(b.trace.lines().lines()).find(|(a, b)| a != b);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(a.trace.hash(), b.trace.hash(), "seed {seed}");
        assert!(a.trace.lines().lines().count() > 100, "something happens");
    }
    assert_ne!(world::run(3, None, false).trace.hash(), world::run(11, None, false).trace.hash());
}
