//! Real processes, the long scenarios and the figures: each test is run by `scripts/chaos`, alone, against a release build.
//! `cargo test` passes them over. Names begin with the row of the table in the reference's section 1:
//!
//! | row | scenario | proven by |
//! |---|---|---|
//! | 1 | leader killed | `chaos::s01`, `s01_leader_killed_20_times` |
//! | 2 | leader terminated | `chaos::s02`, `s02_leader_terminated_20_times` |
//! | 3 | leader frozen longer than T | `s03_leader_frozen_longer_than_its_lease` |
//! | 4 | leader frozen shorter than T | `s04_leader_frozen_shorter_than_its_lease` |
//! | 5 | leader cut off from etcd only | `chaos::s05`, `s05_leader_and_follower_cut_off_in_turn` |
//! | 6 | half-open or slow link | `s06_half_open_and_slow_links`; `etcd_traps::a_half_open_connection_…` |
//! | 7 | etcd member killed | `s07_etcd_member_killed`; `etcd_traps::a_killed_member_…`, `session::a_member_that_is_killed_…` |
//! | 8 | etcd leader paused | `s08_etcd_leader_paused`; `etcd_traps::a_paused_member_…` |
//! | 9 | all of etcd down | `chaos::s09`, `s09_all_of_etcd_away` |
//! | 10 | and the leader dies | `s10_etcd_down_and_leader_killed` |
//! | 11 | cold start meanwhile | `chaos::s11` |
//! | 12 | compacted while cut off | `s12_compacted_while_cut_off`; `store_contract::compaction_while_cut_off_…` |
//! | 13 | watch silently dead | `etcd_traps::a_half_open_connection_…`, `a_paused_member_…` |
//! | 14 | quiet prefix, progress replies | `etcd_traps::a_quiet_watch_…` |
//! | 15 | split, doubled, reordered batches | `store_contract::a_watch_…`, `a_feed_loses_nothing_…`; the simulation |
//! | 16 | NOSPACE | `s16_etcd_full`; `etcd_traps::a_full_store_…` |
//! | 17 | oversized values | `etcd_traps::large_values_…`, `store_contract::what_can_never_succeed_…` |
//! | 18 | bad values | `operators::…`, `config`'s tests |
//! | 19 | mass removal | `mass_removal::…` |
//! | 20 | two believe they lead | `s20_frozen_between_decision_and_write`; `session::an_old_terms_fence_refuses`; the simulation |
//! | 21 | clock steps | the simulation (`clock` is read in one place: `layering`) |
//! | 22 | flapping leader | `s22_leaders_killed_one_after_the_other` |
//! | 23 | the leader's own network is dead | `s23_leader_cannot_reach_the_targets` |
//! | 24 | slow follower | `f10k_…` (a frozen follower), `replication`'s tests of the hub |
//! | 25 | stale member | `store`'s tests of the horizon; the simulation |
//! | 26 | restored from a backup | `chaos::s26`, `s26_restored_with_a_lower_revision`; `etcd_traps::a_restored_backup_…` |
//! | 27 | users, certificates | `etcd_traps::users_…`, `tls_…` |
//! | 28 | a stalled runtime | `s28_starved_leader`; the authority's tests |
//! | 29 | leads only when ready | `s29_a_cold_node_is_all_that_is_left` |
//!
//! Beside the table: `two_regions_fail_apart`, `no_slot_of_graphite_is_empty_over_5_leader_kills`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "../support/publish.rs"]
mod publish;
#[path = "../support/chaos_mods.rs"]
mod support;
pub use support::{audit, cluster, etcd, farm, figures, http, load, node, ports, proxy, roles, signal};

mod graphite;
mod leader;
mod network;
mod propagation;
mod regions;
mod store;
mod ten_thousand;

use std::time::Duration;

/// A change while nobody leads: 6 s for a successor, then three periods of 1 s.
const SEEN_OVER_FAILOVER: Duration = Duration::from_secs(9);
/// A change while etcd is away: three periods of 1 s, or 15 s.
const SEEN_WITHOUT_ETCD: Duration = Duration::from_secs(15);

/// Waits without hope of an event: for how long something must not happen, or is held in a state.
fn hold(time: Duration) {
    let until = std::time::Instant::now() + time;
    while let Some(rest) = until.checked_duration_since(std::time::Instant::now()) {
        std::thread::park_timeout(rest);
    }
}
