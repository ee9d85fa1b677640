//! Between the trait's words and etcd's: pairs, compares, operations, and what an error of gRPC means.

use std::error::Error as _;
use std::fmt::Write as _;

use bytes::Bytes;
use etcd_client::{self as client, CompareOp, KeyValue, PutOptions, TxnOp};
use tonic::Code;

use super::options::Root;
use crate::store::{Compare, LeaseId, Op, Pair, StoreError, Txn};

/// A pair, unless it lies outside ROOT.
pub(super) fn pair(root: &Root, kv: KeyValue) -> Option<Pair> {
    let key = root.relative(kv.key())?;
    let (create_revision, mod_revision) = (kv.create_revision(), kv.mod_revision());
    let lease = Some(kv.lease()).filter(|id| *id != 0).map(LeaseId);
    let (_, value) = kv.into_key_value();
    Some(Pair { key, value: Bytes::from(value), create_revision, mod_revision, lease })
}

pub(super) fn txn(root: &Root, txn: &Txn) -> client::Txn {
    let compares: Vec<_> = txn.compares.iter().map(|c| compare(root, c)).collect();
    let ops: Vec<_> = txn.ops.iter().map(|o| op(root, o)).collect();
    client::Txn::new().when(compares).and_then(ops)
}

fn compare(root: &Root, compare: &Compare) -> client::Compare {
    let equal = CompareOp::Equal;
    match compare {
        Compare::Absent(key) => client::Compare::create_revision(root.full(key), equal, 0),
        Compare::CreateRevision(key, revision) => client::Compare::create_revision(root.full(key), equal, *revision),
        Compare::ModRevision(key, revision) => client::Compare::mod_revision(root.full(key), equal, *revision),
        Compare::Lease(key, lease) => client::Compare::lease(root.full(key), equal, lease.0),
        Compare::Value(key, value) => client::Compare::value(root.full(key), equal, value.to_vec()),
    }
}

fn op(root: &Root, op: &Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(root.full(key), value.to_vec(), options)
        }
        Op::Delete(key) => TxnOp::delete(root.full(key), None),
    }
}

/// What a failed attempt means for the next one.
#[derive(Debug)]
pub(super) enum Failure {
    /// It failed for good.
    Final(StoreError),
    /// Another endpoint, or a later time, may do better.
    Retry {
        /// What was seen.
        reason: String,
        /// It may have taken effect.
        ambiguous: bool,
        /// The cause.
        source: Option<client::Error>,
    },
    /// Who we are is not taken as it stands: authenticate again, with the password as it is now.
    Login(String),
    /// The reply is larger than we decode: ask for less.
    ReplyTooLarge(String),
}

impl Failure {
    /// No answer within `time`.
    pub(super) fn silent(time: std::time::Duration) -> Self {
        Self::Retry { reason: format!("no answer within {time:?}"), ambiguous: true, source: None }
    }
}

/// Reads an error of the client. `what` names the key or the request, for `Denied` and `Invalid`.
pub(super) fn failure(error: client::Error, what: &str) -> Failure {
    match error {
        client::Error::GRpcStatus(status) => of_status(status, what),
        client::Error::LeaseKeepAliveError(text) if text.contains("not found") => {
            Failure::Final(StoreError::LeaseNotFound)
        }
        client::Error::InvalidArgs(_) | client::Error::InvalidUri(_) | client::Error::InvalidMetadataValue(_) => {
            Failure::Final(StoreError::Invalid(format!("{what}: {error}")))
        }
        // The crate reports an ended stream in several ways; none proves that nothing happened.
        other => Failure::Retry { reason: other.to_string(), ambiguous: true, source: Some(other) },
    }
}

fn of_status(status: tonic::Status, what: &str) -> Failure {
    let text = status.message();
    let has = |part: &str| text.contains(part);
    // etcd's own words do not say whose name is missing.
    let text = if has("user name is empty") { "etcd wants a user, and none is given (--etcd-user)" } else { text };
    let invalid = || Failure::Final(StoreError::Invalid(format!("{what}: {text}")));
    let denied = || Failure::Final(StoreError::Denied(format!("{what}: {text}")));
    let login = || Failure::Login(format!("{what}: {text}"));
    match status.code() {
        Code::PermissionDenied => denied(),
        Code::Unauthenticated => login(),
        // etcd reports all of these as invalid arguments: an old token, a wrong password (perhaps a changed one), and
        // authentication that was switched on after we came without a token.
        Code::InvalidArgument
            if has("revision of auth store is old") || has("authentication failed") || has("user name is empty") =>
        {
            login()
        }
        Code::NotFound if has("lease not found") => Failure::Final(StoreError::LeaseNotFound),
        Code::OutOfRange if has("compacted") => Failure::Final(StoreError::Compacted { compact_revision: 0 }),
        // Our side's limit has this code too.
        Code::OutOfRange if has("message length too large") => Failure::ReplyTooLarge(text.to_owned()),
        Code::ResourceExhausted if has("space exceeded") => {
            Failure::Final(StoreError::NoSpace(format!("{what}: {text}")))
        }
        Code::ResourceExhausted if has("too many requests") => retry(status, false),
        Code::InvalidArgument
        | Code::NotFound
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::Unimplemented => invalid(),
        _ => {
            let before_the_wire = chain(&status).any(|e| e.is::<tonic::ConnectError>());
            let refused = has("no leader");
            retry(status, !before_the_wire && !refused)
        }
    }
}

fn retry(status: tonic::Status, ambiguous: bool) -> Failure {
    let mut reason = status.message().to_owned();
    for cause in chain(&status) {
        let cause = cause.to_string();
        if !reason.contains(&cause) {
            let _ = write!(reason, ": {cause}");
        }
    }
    Failure::Retry { reason, ambiguous, source: Some(client::Error::GRpcStatus(status)) }
}

fn chain(status: &tonic::Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |e| (*e).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: Code, text: &str) -> Failure {
        failure(client::Error::GRpcStatus(tonic::Status::new(code, text)), "regions/eu/leader")
    }

    #[test]
    fn etcds_errors_are_read_by_code_and_then_by_text() {
        let done = |code, text| match read(code, text) {
            Failure::Final(error) => error,
            other => panic!("{text}: {other:?}"),
        };
        let denied = done(Code::PermissionDenied, "etcdserver: permission denied");
        assert!(matches!(&denied, StoreError::Denied(m) if m.contains("regions/eu/leader")), "{denied}");
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        assert!(matches!(read(Code::InvalidArgument, wrong), Failure::Login(_)));
        assert!(matches!(read(Code::InvalidArgument, "etcdserver: user name is empty"), Failure::Login(_)));
        let full = "etcdserver: mvcc: database space exceeded";
        assert!(matches!(done(Code::ResourceExhausted, full), StoreError::NoSpace(_)));
        let large = "grpc: received message larger than max (3 vs. 2)";
        assert!(matches!(done(Code::ResourceExhausted, large), StoreError::Invalid(_)));
        assert!(matches!(done(Code::InvalidArgument, "etcdserver: request is too large"), StoreError::Invalid(_)));
        let gone = "etcdserver: requested lease not found";
        assert!(matches!(done(Code::NotFound, gone), StoreError::LeaseNotFound));
        let old = "etcdserver: mvcc: required revision has been compacted";
        assert!(matches!(done(Code::OutOfRange, old), StoreError::Compacted { .. }));
        let ahead = "etcdserver: mvcc: required revision is a future revision";
        assert!(matches!(done(Code::OutOfRange, ahead), StoreError::Invalid(_)));
    }

    #[test]
    fn what_another_endpoint_may_answer_is_tried_again() {
        for (code, text, unclear) in [
            (Code::Unavailable, "etcdserver: no leader", false),
            (Code::Unavailable, "etcdserver: leader changed", true),
            (Code::Unavailable, "etcdserver: request timed out", true),
            (Code::Unknown, "h2 protocol error", true),
            (Code::DeadlineExceeded, "", true),
            (Code::ResourceExhausted, "etcdserver: too many requests", false),
        ] {
            assert!(matches!(read(code, text), Failure::Retry { ambiguous, .. } if ambiguous == unclear), "{text}");
        }
        assert!(matches!(read(Code::Unauthenticated, "etcdserver: invalid auth token"), Failure::Login(_)));
        let mut status = tonic::Status::unavailable("tcp connect error");
        status.set_source(std::sync::Arc::new(tonic::ConnectError("refused".into())));
        let never_sent = failure(client::Error::GRpcStatus(status), "x");
        assert!(matches!(never_sent, Failure::Retry { ambiguous: false, reason, .. } if reason.contains("refused")));
    }
}
