//! The listener's files (certificate, key, client CA, tokens) are looked at now and then. What cannot be used leaves
//! the old one in force, and is a fault until it can: in the log, and handed on to be shown as every other fault is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Web, tls::Tls};
use crate::model::{Fault, FaultLevel};

/// The source of these faults.
pub const SOURCE: &str = "listener files";

/// Watches the files.
pub(super) struct Reload {
    web: Arc<Web>,
    tls: Option<Arc<Tls>>,
    /// By the place that they name: a flag and its file.
    faults: BTreeMap<String, Fault>,
    /// The list above is not handed on yet.
    untold: bool,
}

/// A place (flag and file) and what is wrong there.
type Wrong = (String, String);

impl Reload {
    /// Nothing is wrong at the start: the node would not run.
    pub(super) const fn new(web: Arc<Web>, tls: Option<Arc<Tls>>) -> Self {
        Self { web, tls, faults: BTreeMap::new(), untold: false }
    }

    /// Looks each `every` until `stop`.
    pub(super) async fn run(mut self, every: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let (tls, doors) = (self.tls.clone(), self.web.doors.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let tls = tls.map_or(Ok(false), |tls| tls.reload());
                let tokens = [doors.admin_token, doors.cluster_token];
                let wrong: Vec<Wrong> = tokens.iter().flatten().filter_map(|token| token.reload().err()).collect();
                (tls, wrong)
            });
            let Ok((tls, wrong)) = looked.await else { continue };
            if tls == Ok(true) {
                tracing::info!("the listener's certificate was read again");
            }
            self.take(tls.err().into_iter().chain(wrong).collect());
            self.tell();
        }
    }

    /// Takes what is wrong now; logs what was not wrong before.
    fn take(&mut self, wrong: Vec<Wrong>) {
        let mut now = BTreeMap::new();
        for (place, reason) in wrong {
            let fault = match self.faults.remove(&place) {
                Some(old) if old.reason == reason => old,
                _ => {
                    tracing::error!(%place, %reason, "a file of the listener cannot be used; the old one stays in force");
                    self.untold = true;
                    self.fault(&place, reason)
                }
            };
            now.insert(place, fault);
        }
        for place in self.faults.keys() {
            tracing::info!(%place, "the file of the listener can be used again");
            self.untold = true;
        }
        self.faults = now;
    }

    fn fault(&self, place: &str, reason: String) -> Fault {
        Fault {
            key: place.to_owned(),
            level: FaultLevel::Fault,
            value: String::new(),
            reason,
            expected: "a file that can be used; what was read before stays in force".to_owned(),
            nearest: None,
            since: self.web.clock.now().wall,
        }
    }

    /// Hands the list on; a full queue is tried again at the next look.
    fn tell(&mut self) {
        if self.untold
            && let Some(sender) = &self.web.faults
        {
            self.untold = sender.try_send((SOURCE, self.faults.values().cloned().collect())).is_err();
        }
    }
}
