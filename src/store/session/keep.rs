//! Keeps the lease. Nothing else is waited for here: a store that is slow with other answers (an election of etcd's own, say)
//! must cost no renewal.

use std::time::Duration;

use super::{RETRY, Session};
use crate::bugs::{self, Bug};
use crate::store::keys::nodes_prefix;
use crate::store::{LeaseId, Store as _, StoreError};

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// The shortest pause between two renewals, for one that took longer than its time.
const SHORTEST: Duration = Duration::from_millis(1);
/// How often it is looked whether the controller ticks again.
const LAPSED_LOOK: Duration = Duration::from_millis(500);

impl Session {
    /// Renews the lease, and asks for another when it is gone.
    pub(super) async fn keep(&self) {
        loop {
            let began = self.0.clock.mono();
            let lease = self.change(|core, now| {
                core.tick(now);
                core.lease()
            });
            let wait = match lease {
                Some(lease) => self.renew(lease).await,
                None => self.open().await,
            };
            let spent = self.0.clock.mono().since(began);
            tokio::select! {
                biased;
                () = self.0.keep.notified() => {}
                () = tokio::time::sleep(wait.saturating_sub(spent).max(SHORTEST)) => {}
            }
        }
    }

    /// Renews it once, and returns when to do so again, counted from before.
    async fn renew(&self, lease: LeaseId) -> Duration {
        let sent = self.0.clock.mono();
        match self.0.store.renew(lease).await {
            Ok(ttl) => {
                let sent = if bugs::is(Bug::AuthorityFromReply) { self.0.clock.mono() } else { sent };
                self.change(|core, now| core.renewed(lease, sent, ttl, now));
                RENEW_EVERY
            }
            Err(StoreError::LeaseNotFound) => {
                tracing::warn!("the session's lease is gone; a new one is asked for");
                self.change(|core, now| core.lost(lease, now));
                self.0.look.notify_one();
                Duration::ZERO
            }
            Err(error) => {
                tracing::debug!(%error, "a renewal failed");
                RETRY
            }
        }
    }

    /// Ends the old lease, then asks for a new one; not while the controller stands still. Returns the wait.
    async fn open(&self) -> Duration {
        let retired = self.core().retired();
        if let Some(old) = retired {
            if let Err(error) = self.0.store.revoke(old).await {
                tracing::debug!(%error, "the old lease could not be ended");
                return self.0.chance.jitter(RETRY);
            }
            self.change(|core, _| core.retirement_done(old));
            self.0.look.notify_one();
        }
        let sent = self.0.clock.mono();
        if self.core().lapsed(sent) {
            return LAPSED_LOOK;
        }
        match self.0.store.grant(self.0.options.ttl).await {
            Ok((lease, ttl)) => {
                self.change(|core, _| core.granted(lease, sent, ttl));
                self.0.inscribe.notify_one();
                self.0.look.notify_one();
                RENEW_EVERY
            }
            Err(error) => {
                self.failed(&nodes_prefix(&self.0.options.region), &error);
                // Counted from before the call, which may have taken long.
                self.0.clock.mono().since(sent).saturating_add(self.0.chance.jitter(RETRY))
            }
        }
    }
}
