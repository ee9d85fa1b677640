//! One probe from start to observation: picks the kind, holds the deadline over the whole exchange, turns failures
//! into observations. When probes start is left to `schedule` and `engine`.

use std::{cell::RefCell, collections::BTreeMap, hash::BuildHasher as _, rc::Rc, sync::Arc, time::Duration};

use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::{
    connect::{ConnectError, Connector, Wanted},
    grpc::{self, GrpcError},
    http1::{self, Broken, Buffers, ExchangeError, Io, Received},
    judge::{
        self, Judgement, Reply,
        certificate::{self, Dates},
        text::{MAX_OUTPUT, clean},
    },
    redirect::{self, Place, RedirectError},
    request::{self, Line, RequestError},
    secrets::{SecretError, Secrets},
    tls::{Tls, TlsError},
};
use crate::{
    clock::Clock,
    model::{
        Mono, Now, Observation, Outcome, Target, TargetName,
        target::{Check, Kind, TlsOptions},
    },
};

/// Why a probe ended without a judgement of its answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exchange broke off.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// No request could be made.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No TLS session.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// gRPC failed.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
    /// A redirect that cannot be followed.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
}

impl ProbeFailure {
    /// What it counts as.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Connect(_) | Self::Request(_) | Self::Tls(_) | Self::Exchange(ExchangeError::Io(_)) => {
                Outcome::Unreachable
            }
            Self::Grpc(error) if error.is_lost() => Outcome::Unreachable,
            Self::Exchange(ExchangeError::Answer(_) | ExchangeError::Crowded) | Self::Grpc(_) => Outcome::Protocol,
            Self::Redirect(_) => Outcome::Bad,
        }
    }
}

impl From<SecretError> for ProbeFailure {
    fn from(error: SecretError) -> Self {
        Self::Request(RequestError::Secret(error))
    }
}

/// What a probe found, before times are put to it.
#[derive(Debug)]
pub struct Found {
    judgement: Judgement,
    status: Option<u16>,
    days_left: Option<i64>,
}

struct Idle {
    io: Io,
    check: Arc<Check>,
}

impl Idle {
    /// Opened for this very check; a catalog made anew has equal ones in other places.
    fn is_for(&self, check: &Arc<Check>) -> bool {
        Arc::ptr_eq(&self.check, check) || self.check == *check
    }
}

/// What all probes of one engine share.
pub struct Prober {
    clock: Clock,
    connector: Connector,
    secrets: Rc<Secrets>,
    tls: Tls,
    buffers: Buffers,
    user_agent: String,
    idle: RefCell<BTreeMap<TargetName, Idle>>,
    max_idle: usize,
    hashes: RandomState,
}

impl Prober {
    /// A prober with no connection open; `max_idle` bounds the connections kept for `reuse`.
    #[must_use]
    pub fn new(clock: Clock, connector: Connector, user_agent: String, max_idle: usize) -> Self {
        let secrets = Rc::new(Secrets::new(clock.clone()));
        let (buffers, idle) = (Buffers::default(), RefCell::default());
        let tls = Tls::new(clock.clone());
        Self { clock, connector, secrets, tls, buffers, user_agent, idle, max_idle, hashes: RandomState::default() }
    }

    /// Closes the idle connections of targets that are not to be kept.
    pub fn forget(&self, keep: impl Fn(&str) -> bool) {
        self.idle.borrow_mut().retain(|name, _| keep(name.as_str()));
    }

    /// Probes a target once. `kept`: what was made for this very check. The caller holds the deadline (the check's time-out over all of it) by dropping this; `timed_out` is then the result.
    pub async fn probe(&self, target: &Target, kept: &Kept, begin: Mono) -> Observation {
        let deadline = Instant::now() + target.check.timeout;
        let found = self.attempt(target, kept, deadline).await;
        let at = self.clock.now();
        let latency = at.mono.since(begin);
        match found {
            Ok(found) => observation(found, latency, at),
            Err(failure) => Observation::plain(failure.outcome(), latency, clean(&failure.to_string(), MAX_OUTPUT), at),
        }
    }

    async fn attempt(&self, target: &Target, kept: &Kept, deadline: Instant) -> Result<Found, ProbeFailure> {
        let check = &target.check;
        match check.kind {
            Kind::Http | Kind::Https => self.http(target, kept, deadline).await,
            Kind::Tcp => self.tcp(check, deadline).await,
            // The rare kinds keep their state apart: a probe's task stays small.
            Kind::Tls => Box::pin(self.tls(check, deadline)).await,
            Kind::Grpc | Kind::Grpcs => Box::pin(self.grpc(check, deadline)).await,
            // The schedule leaves these out.
            Kind::Heartbeat => Ok(self.found(check, Judgement::bad("a heartbeat target is not probed"), None, None)),
        }
    }

    fn found(&self, check: &Check, mut judgement: Judgement, status: Option<u16>, dates: Option<Dates>) -> Found {
        let now = || self.clock.wall().as_secs();
        let days_left = dates.map(|d| certificate::apply(d, now(), check.min_days_left, &mut judgement));
        Found { judgement, status, days_left }
    }

    async fn tcp(&self, check: &Check, deadline: Instant) -> Result<Found, ProbeFailure> {
        let wanted = Wanted { host: &check.host, port: check.port, reset: true, deadline };
        self.connector.connect(wanted, &[]).await?;
        Ok(self.found(check, Judgement::good("connected"), None, None))
    }

    async fn tls(&self, check: &Check, deadline: Instant) -> Result<Found, ProbeFailure> {
        let (io, _) = self.open(check, &Place::of(check), &[], deadline).await?;
        let dates = dates(&io)?;
        let mut found = self.found(check, Judgement::good(""), None, dates);
        if found.judgement.outcome.is_good() {
            let days = found.days_left.unwrap_or(0);
            found.judgement.output = format!("the certificate is valid for {days} more days").into();
        }
        Ok(found)
    }

    async fn grpc(&self, check: &Check, deadline: Instant) -> Result<Found, ProbeFailure> {
        let place = Place::of(check);
        let (io, _) = self.open(check, &place, &[], deadline).await?;
        let dates = dates(&io)?;
        let scheme = if place.tls { "https" } else { "http" };
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        let mut request = http::Request::builder()
            .uri(format!("{scheme}://{}/grpc.health.v1.Health/Check", check.host_header))
            .header(http::header::USER_AGENT, &self.user_agent)
            .header("grpc-timeout", format!("{}m", left.min(99_999_999)));
        for (name, value) in &check.headers {
            if *name != http::header::HOST {
                request = request.header(name, &*self.secrets.read(value).await?);
            }
        }
        if let Some(auth) = &check.auth {
            request = request.header(http::header::AUTHORIZATION, request::authorization(auth, &self.secrets).await?);
        }
        let judgement = grpc::check(io, request, &check.grpc_service).await?;
        Ok(self.found(check, judgement, None, dates))
    }

    async fn http(&self, target: &Target, kept: &Kept, deadline: Instant) -> Result<Found, ProbeFailure> {
        let check = &target.check;
        let rendered;
        let bytes: &[u8] = match &kept.fixed {
            Some(bytes) => bytes,
            None => {
                let line = Line::first(check);
                rendered = Box::pin(request::render(check, &line, &self.user_agent, &self.secrets)).await?;
                &rendered
            }
        };
        let (mut received, dates) = self.first_exchange(target, bytes, deadline).await?;
        if check.redirects > 0 {
            received = Box::pin(self.follow(check, received, deadline)).await?;
        }
        let Received { answer, buffer } = &received;
        let head = answer.head();
        let reply = Reply {
            status: head.status,
            content_type: head.content_type.as_deref(),
            body: answer.body(buffer.bytes()),
        };
        let judgement = kept.judge(check, &reply, self.hashes.hash_one((reply.status, reply.content_type, reply.body)));
        let status = Some(head.status);
        Ok(self.found(check, judgement, status, dates))
    }

    /// The exchange with the target itself, on a kept connection where it may be.
    async fn first_exchange(
        &self,
        target: &Target,
        bytes: &[u8],
        deadline: Instant,
    ) -> Result<(Received, Option<Dates>), ProbeFailure> {
        let check = &target.check;
        let head_request = check.method == http::Method::HEAD;
        if check.reuse
            && let Some(exchanged) = Box::pin(self.exchange_on_kept(target, bytes)).await?
        {
            return Ok(exchanged);
        }
        let (mut io, sent) = self.open(check, &Place::of(check), bytes, deadline).await?;
        let dates = dates(&io)?;
        let rest = bytes.get(sent..).unwrap_or_default();
        let exchanged = http1::exchange(&mut io, rest, head_request, &self.buffers).await;
        Ok((self.keep(target, io, exchanged.map_err(|b| b.error)?), dates))
    }

    /// On the connection that the last probe left open. None: there is none, or it had gone meanwhile.
    async fn exchange_on_kept(
        &self,
        target: &Target,
        bytes: &[u8],
    ) -> Result<Option<(Received, Option<Dates>)>, ProbeFailure> {
        let check = &target.check;
        let kept = self.idle.borrow_mut().remove(&target.name);
        let Some(mut idle) = kept.filter(|idle| idle.is_for(check) && idle.io.is_idle()) else { return Ok(None) };
        let head_request = check.method == http::Method::HEAD;
        match http1::exchange(&mut idle.io, bytes, head_request, &self.buffers).await {
            Ok(received) => {
                let dates = dates(&idle.io)?;
                Ok(Some((self.keep(target, idle.io, received), dates)))
            }
            Err(Broken { answered: false, .. }) => Ok(None),
            Err(Broken { error, .. }) => Err(error.into()),
        }
    }

    fn keep(&self, target: &Target, io: Io, received: Received) -> Received {
        let mut idle = self.idle.borrow_mut();
        if target.check.reuse && received.answer.head().keep_alive && idle.len() < self.max_idle {
            idle.insert(target.name.clone(), Idle { io, check: Arc::clone(&target.check) });
        }
        received
    }

    async fn open(
        &self,
        check: &Check,
        place: &Place,
        first: &[u8],
        deadline: Instant,
    ) -> Result<(Io, usize), ProbeFailure> {
        let wanted = Wanted { host: &place.host, port: place.port, reset: !check.reuse, deadline };
        if !place.tls {
            let (stream, sent) = self.connector.connect(wanted, first).await?;
            return Ok((Io::Plain(stream), sent));
        }
        Box::pin(async {
            let (stream, _) = self.connector.connect(wanted, &[]).await?;
            let own = place.host == check.host;
            // A name given for the check's own host is no name for another one.
            let server_name = if own { check.tls.server_name.clone() } else { None };
            let options = TlsOptions { server_name, ..check.tls.clone() };
            let http2 = check.kind == Kind::Grpcs;
            let stream = self.tls.connect(stream, &options, &place.host, http2).await?;
            Ok((Io::Tls(Box::new(stream)), 0))
        })
        .await
    }

    /// Follows redirects under the same deadline, each on a fresh connection.
    async fn follow(&self, check: &Check, mut received: Received, deadline: Instant) -> Result<Received, ProbeFailure> {
        let mut step = redirect::Step::first(check);
        for left in (0..=check.redirects).rev() {
            let Some(next) = step.next(received.answer.head())? else { return Ok(received) };
            if left == 0 {
                return Err(RedirectError::TooMany(check.redirects).into());
            }
            let line = next.line(check);
            let bytes = request::render(check, &line, &self.user_agent, &self.secrets).await?;
            let (mut io, sent) = self.open(check, &next.place, &bytes, deadline).await?;
            let head_request = next.method == http::Method::HEAD;
            let rest = bytes.get(sent..).unwrap_or_default();
            received = http1::exchange(&mut io, rest, head_request, &self.buffers).await.map_err(|b| b.error)?;
            step = next;
        }
        Ok(received)
    }

    /// What can be made once for a check. Waits only where a secret lies in a file, which is then not kept.
    pub async fn prepare(&self, check: &Check) -> Kept {
        let mut kept = Kept::default();
        if request::is_fixed(check) {
            let rendered = request::render(check, &Line::first(check), &self.user_agent, &self.secrets).await;
            kept.fixed = rendered.ok().map(Vec::into_boxed_slice);
        }
        kept
    }
}

/// What is kept of one check from probe to probe.
#[derive(Debug, Default)]
pub struct Kept {
    /// Its request, where it is the same each time.
    fixed: Option<Box<[u8]>>,
    /// Its latest answer's hash, and what came of it.
    last: RefCell<Option<(u64, Judgement)>>,
}

impl Kept {
    /// Most answers are the same as the one before: judging is pure, so the judgement is too. (The hash is seeded at
    /// random in each process. Who could make one answer pass for another is the target itself, which may say what it likes.)
    fn judge(&self, check: &Check, reply: &Reply<'_>, hash: u64) -> Judgement {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((known, judgement)) if *known == hash => judgement.clone(),
            _ => {
                let judgement = judge::judge(check, reply);
                *last = Some((hash, judgement.clone()));
                judgement
            }
        }
    }
}

/// The result of a probe whose deadline has passed.
#[must_use]
pub fn timed_out(check: &Check, begin: Mono, at: Now) -> Observation {
    let output = format!("no answer within {} s", check.timeout.as_secs_f64());
    Observation::plain(Outcome::Timeout, at.mono.since(begin), output, at)
}

fn dates(io: &Io) -> Result<Option<Dates>, TlsError> {
    match io {
        Io::Plain(_) => Ok(None),
        Io::Tls(stream) => Tls::dates(stream).map(Some),
    }
}

fn observation(found: Found, latency: Duration, at: Now) -> Observation {
    let Found { judgement, status, days_left } = found;
    Observation {
        outcome: judgement.outcome,
        latency,
        output: judgement.output,
        at,
        status,
        days_left,
        checks: judgement.checks,
        checks_left_out: judgement.checks_left_out,
        system_code: judgement.system_code,
        properties: judgement.properties,
    }
}
