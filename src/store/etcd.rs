//! etcd v3 (3.4 tolerated, 3.5.28 or newer recommended) behind the store's trait. Each trap that was measured is handled
//! here: one client per endpoint with sticky rotation, a time of ours around everything, lists in pages at one
//! revision, watches that notice their death, and errors read by code.

mod convert;
mod endpoint;
mod options;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Client, GetOptions};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::convert::Failure;
use self::endpoint::{Endpoint, Lane};
pub use self::options::{Credentials, EtcdOptions, EtcdTimes, TlsFiles};
use self::options::{Root, range_end};
use super::{LeaseId, Listing, Op, Pair, Store, StoreError, Txn, TxnOutcome, WatchMessage};
use crate::chance::Chance;

/// Pairs asked for at once; a list is made of pages.
const PAGE: i64 = 500;
/// The largest reply taken (tonic's own limit is 4 MiB, too little for a page of large values).
const DECODE_LIMIT: usize = 64 << 20;
/// Keys of a transaction that an error names.
const SHOWN: usize = 3;
/// The wait before the next endpoint is tried.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// A store in etcd. Clones share its connections.
#[derive(Clone)]
pub struct Etcd(Arc<Inner>);

struct Inner {
    options: EtcdOptions,
    root: Root,
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last; it is left only when it fails.
    current: AtomicUsize,
    /// The same for renewals: a call that gives up late must not take them from an endpoint that answers them.
    renewing: AtomicUsize,
    /// The cluster that answered last; 0 before.
    cluster: AtomicU64,
    /// Real connections are in no simulation.
    chance: Chance,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Etcd").field(&self.describe()).finish()
    }
}

/// Where a watch came from, to be told when it ends badly.
struct Shared {
    store: Etcd,
    endpoint: usize,
    generation: u64,
}

impl Shared {
    async fn disappointed(self, reason: &str) {
        self.store.leave(self.endpoint, Lane::Streams, Some(self.generation), reason).await;
    }
}

/// Where an attempt is made.
#[derive(Clone, Copy)]
struct At {
    index: usize,
    generation: u64,
}

impl Etcd {
    /// Checks the options. Nothing is dialled yet: etcd may be down when a node starts.
    ///
    /// # Errors
    /// `StoreError::Invalid`: an endpoint, the proxy or the TLS files cannot be right.
    pub fn new(options: EtcdOptions) -> Result<Self, StoreError> {
        let endpoints = options.urls()?.into_iter().map(Endpoint::new).collect();
        options.proxy()?;
        let root = Root::new(&options.root);
        let (current, renewing) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (cluster, chance) = (AtomicU64::new(0), Chance::system());
        Ok(Self(Arc::new(Inner { options, root, endpoints, current, renewing, cluster, chance })))
    }

    /// Turns away from an endpoint, and throws its client away.
    async fn leave(&self, index: usize, lane: Lane, generation: Option<u64>, reason: &str) {
        let next = (index + 1) % self.0.endpoints.len().max(1);
        let mut moved = self.0.current.compare_exchange(index, next, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if lane == Lane::Renewals {
            // They notice first (0.4 s), and take the other calls along.
            moved = self.0.renewing.compare_exchange(index, next, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        }
        if let Some(endpoint) = self.0.endpoints.get(index) {
            tracing::debug!(endpoint = endpoint.url, reason, moved, "an etcd endpoint failed");
            if let Some(generation) = generation {
                endpoint.discard(lane, generation).await;
            }
        }
    }

    /// One attempt at one endpoint, connecting included, within `time`.
    async fn attempt<T, F, R>(&self, lane: Lane, time: Duration, index: usize, call: F) -> Result<T, Failure>
    where
        F: FnOnce(Client, At) -> R,
        R: Future<Output = Result<T, Failure>>,
    {
        let Some(endpoint) = self.0.endpoints.get(index) else {
            return Err(Failure::Final(StoreError::Invalid("no etcd endpoint".to_owned())));
        };
        let mut generation = None;
        let attempt = async {
            let (client, built) = endpoint.client(lane, &self.0.options).await?;
            generation = Some(built);
            call(client, At { index, generation: built }).await
        };
        let result = tokio::time::timeout(time, attempt).await.unwrap_or_else(|_| Err(Failure::silent(time)));
        match &result {
            Err(Failure::Retry { reason, .. }) => self.leave(index, lane, generation, reason).await,
            // A new client asks for a new token.
            Err(Failure::Login(_)) => {
                if let Some(generation) = generation {
                    endpoint.discard(lane, generation).await;
                }
            }
            _ => {}
        }
        result
    }

    /// Attempts from endpoint to endpoint: each at least once, one of them twice, until the call's time is over.
    /// `repeat` says whether a call that may have taken effect is tried again.
    async fn call<T, F, R>(&self, lane: Lane, time: Duration, what: &str, repeat: bool, call: F) -> Result<T, Attempts>
    where
        F: Fn(Client, At) -> R,
        R: Future<Output = Result<T, Failure>>,
    {
        let ends = Instant::now() + self.0.options.times.call;
        let mut seen = Attempts { error: unavailable("not tried".to_owned(), None), ambiguous: false };
        let mut renewed = false;
        for round in 0..=self.0.endpoints.len() {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if round > 0 {
                tokio::time::sleep(self.0.chance.jitter(RETRY_WAIT).min(left)).await;
            }
            let index = self.0.current.load(Ordering::SeqCst);
            match self.attempt(lane, time.min(left), index, &call).await {
                Ok(value) => return Ok(value),
                Err(Failure::Final(StoreError::Denied(text))) => {
                    return Err(Attempts { error: self.denied(&text), ..seen });
                }
                Err(Failure::Final(error)) => return Err(Attempts { error, ..seen }),
                Err(Failure::Login(text)) if renewed => {
                    return Err(Attempts { error: self.denied(&text), ..seen });
                }
                Err(Failure::Login(text)) => {
                    seen.error = self.denied(&text);
                    renewed = true;
                }
                Err(Failure::ReplyTooLarge(text)) => {
                    return Err(Attempts { error: StoreError::Invalid(format!("{what}: {text}")), ..seen });
                }
                Err(Failure::Retry { reason, ambiguous, source }) => {
                    let url = self.0.endpoints.get(index).map_or("", |e| &e.url);
                    seen.error = unavailable(format!("{url}: {reason}"), source);
                    seen.ambiguous |= ambiguous;
                    if ambiguous && !repeat {
                        break;
                    }
                }
            }
        }
        Err(seen)
    }

    /// A denial, with who we are to etcd.
    fn denied(&self, text: &str) -> StoreError {
        StoreError::Denied(match &self.0.options.user {
            Some(user) => format!("{text} (etcd user {})", user.name),
            None => text.to_owned(),
        })
    }

    /// Notes the cluster and returns the revision. A reply without a header proves nothing (it is an option on the wire).
    fn heard(&self, header: Option<&etcd_client::ResponseHeader>) -> Result<i64, Failure> {
        if let Some(id) = header.map(etcd_client::ResponseHeader::cluster_id).filter(|id| *id != 0) {
            self.0.cluster.store(id, Ordering::SeqCst);
        }
        match header.map(etcd_client::ResponseHeader::revision) {
            Some(revision) if revision > 0 => Ok(revision),
            _ => Err(Failure::Retry { reason: "a reply without a revision".to_owned(), ambiguous: true, source: None }),
        }
    }

    async fn page(&self, shown: &str, from: &[u8], end: &[u8], at: (i64, i64)) -> Result<Page, StoreError> {
        let times = self.0.options.times;
        let (revision, limit) = at;
        self.call(Lane::Calls, times.attempt, shown, true, move |client: Client, _| async move {
            let options = GetOptions::new().with_range(end).with_limit(limit).with_revision(revision);
            let mut kv = client.kv_client().max_decoding_message_size(DECODE_LIMIT);
            match kv.get(from, Some(options)).await {
                Err(error) => match convert::failure(error, shown) {
                    Failure::ReplyTooLarge(_) if limit > 1 => Ok(Page::TooLarge),
                    other => Err(other),
                },
                Ok(mut reply) => {
                    let revision = self.heard(reply.header())?;
                    Ok(Page::Pairs { revision, more: reply.more(), kvs: reply.take_kvs() })
                }
            }
        })
        .await
        .map_err(|a| a.error)
    }

    async fn pages(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        let shown = self.0.root.shown([prefix]);
        let mut from = self.0.root.full(prefix);
        let end = range_end(&from);
        // 0 is etcd's word for the newest; the first page fixes the revision for the others.
        let (mut at, mut limit) = (revision.unwrap_or(0), PAGE);
        let mut pairs = Vec::new();
        loop {
            let Page::Pairs { revision, more, kvs } = self.page(&shown, &from, &end, (at, limit)).await? else {
                limit = (limit / 8).max(1);
                continue;
            };
            if at == 0 {
                at = revision;
            }
            if let Some(last) = kvs.last() {
                from = last.key().to_vec();
                from.push(0);
            }
            let empty = kvs.is_empty();
            pairs.extend(kvs.into_iter().filter_map(|kv| convert::pair(&self.0.root, kv)));
            if !more || empty {
                return Ok(Listing { revision: at, pairs });
            }
        }
    }

    /// Whether a transaction whose reply was lost did happen, asked after a repeated one was refused.
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
            // All puts of one transaction have one revision; a delete leaves none.
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

/// Why a call ended without a result.
struct Attempts {
    error: StoreError,
    /// One of its attempts may have taken effect.
    ambiguous: bool,
}

enum Page {
    Pairs { revision: i64, more: bool, kvs: Vec<etcd_client::KeyValue> },
    TooLarge,
}

fn unavailable(reason: String, source: Option<etcd_client::Error>) -> StoreError {
    StoreError::Unavailable { reason, cause: source.map(Into::into) }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

/// One renewal on a stream of its own: a late reply is thrown away with it.
async fn keep_alive(client: &Client, lease: LeaseId) -> Result<Duration, Failure> {
    let failed = |e| convert::failure(e, "renewing the lease");
    // The crate answers the first request itself and keeps its TTL to itself, so a second one is asked for it.
    let (mut keeper, mut replies) = client.lease_client().keep_alive(lease.0).await.map_err(failed)?;
    keeper.keep_alive().await.map_err(failed)?;
    match replies.message().await.map_err(failed)? {
        Some(reply) if reply.ttl() > 0 => Ok(seconds(reply.ttl())),
        Some(_) => Err(Failure::Final(StoreError::LeaseNotFound)),
        None => Err(Failure::Retry { reason: "the renewal's stream ended".to_owned(), ambiguous: true, source: None }),
    }
}

#[async_trait]
impl Store for Etcd {
    async fn list(&self, prefix: &str, revision: Option<i64>) -> Result<Listing, StoreError> {
        let time = self.0.options.times.list;
        tokio::time::timeout(time, self.pages(prefix, revision))
            .await
            .unwrap_or_else(|_| Err(unavailable(format!("listing {prefix} takes longer than {time:?}"), None)))
    }

    async fn get(&self, key: &str) -> Result<(i64, Option<Pair>), StoreError> {
        let times = self.0.options.times;
        let shown = self.0.root.shown([key]);
        let shown = shown.as_str();
        self.call(Lane::Calls, times.attempt, shown, true, move |client: Client, _| async move {
            let mut kv = client.kv_client().max_decoding_message_size(DECODE_LIMIT);
            let mut reply = kv.get(self.0.root.full(key), None).await.map_err(|e| convert::failure(e, shown))?;
            let revision = self.heard(reply.header())?;
            let found = reply.take_kvs().into_iter().next();
            Ok((revision, found.and_then(|kv| convert::pair(&self.0.root, kv))))
        })
        .await
        .map_err(|a| a.error)
    }

    /// A transaction without a reply is repeated only under a guard, and a refusal of the repetition is looked into: it
    /// may have been our own first one that broke the guard.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        txn.check()?;
        let times = self.0.options.times;
        // etcd does not say which of them it denies, or finds too large.
        let what = match self.0.root.shown(txn.ops.iter().take(SHOWN).map(Op::key)) {
            keys if keys.is_empty() => "a transaction".to_owned(),
            keys => keys,
        };
        let guarded = !txn.compares.is_empty();
        let lost = AtomicBool::new(false);
        let (request, shown, lost) = (&txn, what.as_str(), &lost);
        let outcome = self
            .call(Lane::Calls, times.attempt, shown, guarded, move |client: Client, _| async move {
                let repeated = lost.swap(true, Ordering::SeqCst);
                let reply = client.kv_client().txn(convert::txn(&self.0.root, request)).await;
                let reply = match reply.map_err(|e| convert::failure(e, shown)) {
                    Ok(reply) => reply,
                    Err(failure) => {
                        if !matches!(failure, Failure::Retry { ambiguous: true, .. }) {
                            lost.store(repeated, Ordering::SeqCst);
                        }
                        return Err(failure);
                    }
                };
                let revision = self.heard(reply.header())?;
                let outcome =
                    if reply.succeeded() { TxnOutcome::Done { revision } } else { TxnOutcome::Refused { revision } };
                Ok((outcome, repeated))
            })
            .await;
        match outcome {
            Ok((TxnOutcome::Refused { revision }, true)) => Ok(match self.happened(&txn).await? {
                Some(revision) => TxnOutcome::Done { revision },
                None => TxnOutcome::Refused { revision },
            }),
            Ok((outcome, _)) => Ok(outcome),
            // A final answer to a repetition says nothing about the one before it.
            Err(Attempts { error, ambiguous: true }) if !error.is_ambiguous() => {
                Err(unavailable(error.to_string(), None))
            }
            Err(attempts) => Err(attempts.error),
        }
    }

    async fn watch(&self, prefixes: &[String], from_revision: i64) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        if from_revision <= 0 {
            // etcd would take 0 for "from now", and lose what lies between.
            return Err(StoreError::Invalid(format!("a watch from revision {from_revision}")));
        }
        let times = self.0.options.times;
        let what = self.0.root.shown(prefixes.iter().map(String::as_str));
        let (stream, at) = self
            .call(Lane::Streams, times.attempt, &what, true, move |client: Client, at| async move {
                let stream = watch::open(&client, &self.0.root, prefixes, from_revision).await?;
                Ok((stream, at))
            })
            .await
            .map_err(|a| a.error)?;
        let home = Shared { store: self.clone(), endpoint: at.index, generation: at.generation };
        Ok(watch::spawn(stream, times, home))
    }

    /// A repeated attempt may leave a lease behind; nothing hangs on it, and it ends by itself.
    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        let times = self.0.options.times;
        let asked = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1);
        self.call(Lane::Streams, times.attempt, "a new lease", true, move |client: Client, _| async move {
            let reply = client.lease_client().grant(asked, None).await;
            let reply = reply.map_err(|e| convert::failure(e, "a new lease"))?;
            Ok((LeaseId(reply.id()), seconds(reply.ttl())))
        })
        .await
        .map_err(|a| a.error)
    }

    /// One attempt, and no other endpoint: the caller counts its authority from the moment before it asked, so an answer
    /// to a second attempt would be worth less than it seems. The next attempt goes to the next endpoint.
    async fn renew(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        let index = self.0.renewing.load(Ordering::SeqCst);
        let url = self.0.endpoints.get(index).map_or("", |e| &e.url);
        let renewal = self
            .attempt(Lane::Renewals, self.0.options.times.renewal, index, move |client: Client, _| async move {
                keep_alive(&client, lease).await
            })
            .await;
        match renewal {
            Ok(ttl) => Ok(ttl),
            Err(Failure::Final(error)) => Err(error),
            Err(Failure::Retry { reason, source, .. }) => Err(unavailable(format!("{url}: {reason}"), source)),
            Err(Failure::Login(text)) => Err(unavailable(format!("{url}: {text}"), None)),
            Err(Failure::ReplyTooLarge(text)) => Err(StoreError::Invalid(text)),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let times = self.0.options.times;
        let revoked = self
            .call(Lane::Streams, times.attempt, "ending a lease", true, move |client: Client, _| async move {
                let reply = client.lease_client().revoke(lease.0).await;
                reply.map(|_| ()).map_err(|e| convert::failure(e, "ending a lease"))
            })
            .await;
        match revoked.map_err(|a| a.error) {
            Err(StoreError::LeaseNotFound) => Ok(()),
            other => other,
        }
    }

    fn cluster_id(&self) -> Option<u64> {
        Some(self.0.cluster.load(Ordering::SeqCst)).filter(|id| *id != 0)
    }

    fn describe(&self) -> String {
        let urls: Vec<_> = self.0.endpoints.iter().map(|e| e.url.as_str()).collect();
        format!("etcd at {} below {}/", urls.join(","), self.0.root.as_str())
    }
}
