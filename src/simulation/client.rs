//! A node's client of the simulated etcd: waits, time-outs and repeated calls as `store::etcd` has them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::server::{Fate, Reply, Request, Server};
use crate::{
    chance::Chance,
    store::{LeaseId, Listing, Op, Pair, Store, StoreError, Txn, TxnOutcome, WatchMessage, etcd::EtcdTimes},
};

/// As the engine with three endpoints.
const ROUNDS: usize = 3;
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// The server as all share it; never locked over an await.
pub type SharedServer = Arc<Mutex<Server>>;

/// Locks the server.
pub fn lock(server: &SharedServer) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One node's store.
pub struct SimStore {
    pub node: usize,
    pub server: SharedServer,
    pub chance: Chance,
    pub times: EtcdTimes,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({})", self.node)
    }
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable { reason: reason.to_owned(), cause: None }
}

/// Why an attempt failed.
enum Failed {
    /// It may have happened.
    Silent,
    /// It has not.
    Refused,
    Final(StoreError),
}

impl SimStore {
    async fn attempt(&self, request: Request, time: Duration) -> Result<Reply, Failed> {
        let fate = lock(&self.server).ask(self.node, request);
        let answer = match fate {
            Fate::Answer(answer, after) => timeout(time, sleep(after)).await.map(|()| answer),
            Fate::Later(answer) => match timeout(time, answer).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) => return Err(Failed::Silent),
                Err(late) => Err(late),
            },
            Fate::Silence => {
                sleep(time).await;
                return Err(Failed::Silent);
            }
            Fate::Refused => {
                sleep(Duration::from_millis(1)).await;
                return Err(Failed::Refused);
            }
        };
        match answer {
            Ok(answer) => answer.map_err(Failed::Final),
            Err(_) => Err(Failed::Silent),
        }
    }

    /// The reply, whether an attempt before it may have happened, and the error with the same.
    async fn call(&self, request: Request, repeat: bool) -> Result<(Reply, bool), (StoreError, bool)> {
        let ends = Instant::now() + self.times.call;
        let (mut ambiguous, mut seen) = (false, unavailable("not tried"));
        for round in 0..=ROUNDS {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if round > 0 {
                sleep(self.chance.jitter(RETRY_WAIT).min(left)).await;
            }
            match self.attempt(request.clone(), self.times.attempt.min(left)).await {
                Ok(reply) => return Ok((reply, ambiguous)),
                Err(Failed::Final(error)) => return Err((error, ambiguous)),
                Err(Failed::Refused) => seen = unavailable("connection refused"),
                Err(Failed::Silent) => {
                    (seen, ambiguous) = (unavailable("no answer"), true);
                    if !repeat {
                        break;
                    }
                }
            }
        }
        Err((seen, ambiguous))
    }

    /// Whether a transaction whose answer was lost did happen: the rule of `store::etcd`.
    async fn happened(&self, txn: &Txn) -> Result<Option<i64>, StoreError> {
        let mut written = None;
        for op in &txn.ops {
            let (revision, now) = self.get(op.key()).await?;
            let at = match (op, now) {
                (Op::Delete(_), None) => revision,
                (Op::Put { value, lease, .. }, Some(pair)) if pair.value == *value && pair.lease == *lease => {
                    pair.mod_revision
                }
                _ => return Ok(None),
            };
            match (op, written) {
                (Op::Put { .. }, Some((true, before))) if before != at => return Ok(None),
                (Op::Put { .. }, _) => written = Some((true, at)),
                (Op::Delete(_), None) => written = Some((false, at)),
                (Op::Delete(_), Some(_)) => {}
            }
        }
        Ok(written.map(|(_, revision)| revision))
    }
}

fn odd() -> StoreError {
    unavailable("an answer to another question")
}

#[async_trait]
impl Store for SimStore {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        match self.call(Request::List(prefix.to_owned(), revision), true).await {
            Ok((Reply::List(listing), _)) => Ok(listing),
            Ok(_) => Err(odd()),
            Err((error, _)) => Err(error),
        }
    }

    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
        match self.call(Request::Get(key.to_owned()), true).await {
            Ok((Reply::Get(revision, pair), _)) => Ok((revision, pair)),
            Ok(_) => Err(odd()),
            Err((error, _)) => Err(error),
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        txn.check()?;
        match self.call(Request::Txn(txn.clone()), !txn.compares.is_empty()).await {
            Ok((Reply::Txn(TxnOutcome::Refused { revision }), true)) => Ok(match self.happened(&txn).await? {
                Some(revision) => TxnOutcome::Done { revision },
                None => TxnOutcome::Refused { revision },
            }),
            Ok((Reply::Txn(outcome), _)) => Ok(outcome),
            Ok(_) => Err(odd()),
            Err((error, true)) if !error.is_ambiguous() => Err(unavailable(&error.to_string())),
            Err((error, _)) => Err(error),
        }
    }

    async fn watch(&self, prefixes: &[String], from_revision: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        if from_revision <= 0 {
            return Err(StoreError::Invalid(format!("a watch from revision {from_revision}")));
        }
        match self.call(Request::Watch(prefixes.to_vec(), from_revision), true).await {
            Ok((Reply::Watch(messages), _)) => Ok(messages),
            Ok(_) => Err(odd()),
            Err((error, _)) => Err(error),
        }
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        match self.call(Request::Grant(ttl), true).await {
            Ok((Reply::Lease(lease, ttl), _)) => Ok((lease, ttl)),
            Ok(_) => Err(odd()),
            Err((error, _)) => Err(error),
        }
    }

    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        match self.attempt(Request::Renew(lease), self.times.renewal).await {
            Ok(Reply::Renewed(ttl)) => Ok(ttl),
            Ok(_) => Err(odd()),
            Err(Failed::Final(error)) => Err(error),
            Err(Failed::Silent) => Err(unavailable("no answer")),
            Err(Failed::Refused) => Err(unavailable("connection refused")),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match self.call(Request::Revoke(lease), true).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error),
        }
    }

    fn describe(&self) -> String {
        "simulated etcd".to_owned()
    }
}
