//! Turns the store's troubles (a full disk, a key that is denied) into faults that the API shows.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    model::{Fault, FaultLevel},
    store::TroublesReceiver,
};

/// Tells one source's troubles.
pub struct Teller {
    /// The source, as the controller tells sources apart.
    pub source: &'static str,
    /// ROOT, where keys are meant; empty where they are files.
    pub root: String,
    /// etcd's word for the right that a denied key wants.
    pub right: Option<&'static str>,
    /// What is wrong.
    pub troubles: TroublesReceiver,
    /// Where the faults go.
    pub faults: mpsc::Sender<(&'static str, Vec<Fault>)>,
    /// Time, for `since`.
    pub clock: Clock,
}

impl Teller {
    /// Tells until `stop`, or until the troubles' owner is gone: then there is nothing left to tell.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut known: Vec<Fault> = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.troubles.changed() => if changed.is_err() {
                    stop.cancelled().await;
                    return;
                },
            }
            known = self.faults(&known);
            if self.faults.send((self.source, known.clone())).await.is_err() {
                return;
            }
        }
    }

    fn faults(&mut self, known: &[Fault]) -> Vec<Fault> {
        let now = self.clock.now().wall;
        let troubles = self.troubles.borrow_and_update().clone();
        let fault = |(key, reason): (&String, &String)| {
            let key = if self.root.is_empty() { key.clone() } else { format!("{}/{key}", self.root) };
            let since = known.iter().find(|f| f.key == key).map_or(now, |f| f.since);
            Fault {
                expected: self.expected(&key, reason),
                key,
                level: FaultLevel::Fault,
                value: String::new(),
                reason: reason.clone(),
                nearest: None,
                since,
            }
        };
        troubles.iter().map(fault).collect()
    }

    /// What would mend it, as a command where it is a right.
    fn expected(&self, key: &str, reason: &str) -> String {
        let Some(right) = self.right.filter(|_| reason.contains("permission denied")) else {
            return "a store that this node may read and write".to_owned();
        };
        let prefix = if key.ends_with('/') { "--prefix=true " } else { "" };
        format!("etcdctl role grant-permission {prefix}ROLE {right} {key}")
    }
}
