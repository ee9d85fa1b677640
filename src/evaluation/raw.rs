//! `cache=false` (design section 6): the verdict from raw results instead of damped states. Probing again, the bound of
//! 3 s and naming what did not answer are left to `controller` and `web`.

use std::{collections::BTreeMap, sync::Arc};

use super::aggregate::{Input, evaluate};
use crate::model::{Evaluation, Health, HealthState, Observation};

/// The healths with the refreshed targets' states replaced by their raw results; marks, since and numbers stay.
/// `results` is by index into the catalog's targets; the others keep their damped state.
#[must_use]
pub fn healths(health: &[Health], results: &BTreeMap<usize, Arc<Observation>>) -> Vec<Health> {
    let mut raw = health.to_vec();
    for (index, observation) in results {
        if let Some(health) = raw.get_mut(*index) {
            health.state = if observation.outcome.is_good() { HealthState::Up } else { HealthState::Down };
            health.reason = Arc::clone(&observation.output);
            health.stale = false;
        }
    }
    raw
}

/// Healths and verdicts from raw results, by the same rules. It never latches: each result is an ordinary observation
/// too, and the evaluation that follows from it decides that.
#[must_use]
pub fn evaluate_raw(input: &Input<'_>, results: &BTreeMap<usize, Arc<Observation>>) -> (Vec<Health>, Evaluation) {
    let health = healths(input.health, results);
    let mut evaluation = evaluate(&Input { health: &health, ..*input });
    evaluation.new_latches.clear();
    (health, evaluation)
}
