//! StatsD over UDP, by `cadence`: the node's own figures, once a second. `metrics` says what is told; this file sends it.
//!
//! Rooms count in atomics of their own and know nothing of StatsD: one task looks at the figures each second and sends what
//! has changed. So nothing in the node can wait for StatsD, and nothing queues but one second's metrics. Of cadence's parts:
//! - the buffered sink sends a datagram only when its buffer is full, or at `flush`: each second ends with one;
//! - its queuing sink is left out: its queue is unbounded unless told, `flush` goes past it, and the figures are a queue already;
//! - its constructors look names up and may fail or take long: they are given an address that was looked up before, beside
//!   everything else, again each minute, and after a failure with growing pauses.

pub mod metrics;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cadence::{
    BufferedUdpMetricSink, Counted, Gauged, MetricError, MetricResult, StatsdClient, Timed,
    ext::{MetricValue, ToTimerValue},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use self::metrics::{Metric, Value, metrics};
use super::{NodeFigures, figures::StatsdFigures, graphite::points::sanitise};
use crate::model::{NodeName, View};

/// Largest datagram: fits an Ethernet frame.
const DATAGRAM: usize = 1432;
/// First and longest pause after a failed look-up.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Where and how metrics are sent.
#[derive(Clone, Debug)]
pub struct StatsdOptions {
    /// The server's host name or address.
    pub host: String,
    /// Its UDP port, usually 8125.
    pub port: u16,
    /// What names begin with: dotted words. The node's name follows: gauges of several nodes must not mix.
    pub prefix: String,
    /// This node.
    pub node: NodeName,
    /// Time between two looks at the figures.
    pub interval: Duration,
    /// Time between two look-ups of the host.
    pub resolve_every: Duration,
}

impl StatsdOptions {
    /// Each second, looked up each minute.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16, prefix: impl Into<String>, node: NodeName) -> Self {
        let (interval, resolve_every) = (Duration::from_secs(1), Duration::from_secs(60));
        Self { host: host.into(), port, prefix: prefix.into(), node, interval, resolve_every }
    }
}

/// Figures of the sender; read at any time.
#[derive(Debug, Default)]
pub struct StatsdStats {
    sent: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
}

impl From<&StatsdStats> for StatsdFigures {
    fn from(stats: &StatsdStats) -> Self {
        let StatsdStats { sent, dropped, failures } = stats;
        Self { sent: sent.load(Relaxed), dropped: dropped.load(Relaxed), failures: failures.load(Relaxed) }
    }
}

/// Gives the node's figures at this moment.
pub type Look = Arc<dyn Fn() -> (Arc<View>, NodeFigures) + Send + Sync>;

/// Sends until `stop`, then once more. Never ends before that.
pub async fn run(options: StatsdOptions, look: Look, stats: Arc<StatsdStats>, stop: CancellationToken) {
    let (found, address) = watch::channel(None);
    tokio::join!(resolve(&options, &found, &stats, &stop), send(&options, address, &look, &stats, &stop));
}

/// Keeps the address: looked up beside everything else, one look-up at a time.
async fn resolve(
    options: &StatsdOptions,
    found: &watch::Sender<Option<SocketAddr>>,
    stats: &StatsdStats,
    stop: &CancellationToken,
) {
    let mut wait = RETRY;
    loop {
        let (host, port) = (options.host.clone(), options.port);
        // The system's resolver blocks: it may take a minute, and holds one thread of the blocking pool meanwhile.
        let look_up = tokio::task::spawn_blocking(move || Ok((host.as_str(), port).to_socket_addrs()?.next()));
        let outcome: std::io::Result<Option<SocketAddr>> = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            outcome = look_up => outcome.unwrap_or_else(|e| Err(std::io::Error::other(e))),
        };
        let pause = match outcome {
            Ok(Some(address)) => {
                found.send_if_modified(|old| old.replace(address) != Some(address));
                wait = RETRY;
                options.resolve_every
            }
            // The address found before goes on being used.
            failed => {
                stats.failures.fetch_add(1, Relaxed);
                let reason = failed.err().map_or_else(|| "no address".to_owned(), |e| e.to_string());
                tracing::warn!(host = options.host, reason, retry_in = ?wait, "statsd: the host is not found");
                let pause = wait;
                wait = wait.saturating_mul(2).min(RETRY_MAX);
                pause
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Looks at the figures at each interval and sends what changed.
async fn send(
    options: &StatsdOptions,
    mut found: watch::Receiver<Option<SocketAddr>>,
    look: &Look,
    stats: &StatsdStats,
    stop: &CancellationToken,
) {
    let prefix = format!("{}.{}", options.prefix, sanitise(options.node.as_str()));
    let mut beat = interval(options.interval.max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = NodeFigures::default();
    let (mut client, mut no_socket) = (None, false);
    let mut ends = false;
    while !ends {
        tokio::select! {
            biased;
            () = stop.cancelled() => ends = true,
            _ = beat.tick() => {}
        }
        let changed = found.has_changed().unwrap_or(false);
        let address = *found.borrow_and_update();
        if let Some(address) = address.filter(|_| changed) {
            match open(&prefix, address) {
                Ok(opened) => {
                    tracing::info!(%address, "statsd");
                    (client, no_socket) = (Some(opened), false);
                }
                Err(error) => {
                    count(&stats.failures, 1);
                    if !no_socket {
                        tracing::warn!(%address, %error, "statsd: no socket; tried again each second");
                    }
                    no_socket = true;
                }
            }
            if no_socket {
                found.mark_changed();
            }
        }
        if client.is_none() && stats.failures.load(Relaxed) == 0 {
            // The first look-up is still under way: what happens meanwhile is told after it.
            continue;
        }
        let (view, now) = look();
        let told = metrics(&view, &before, &now);
        before = now;
        match &client {
            Some(client) => tell(client, &told, stats),
            None => count(&stats.dropped, told.len()),
        }
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Relaxed);
}

/// A client on a socket that never blocks: what the system does not take at once is dropped.
fn open(prefix: &str, address: SocketAddr) -> MetricResult<StatsdClient> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let bound = UdpSocket::bind((any, 0)).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    let socket = bound.map_err(MetricError::from)?;
    Ok(StatsdClient::from_sink(prefix, BufferedUdpMetricSink::with_capacity(address, socket, DATAGRAM)?))
}

/// Milliseconds with their fraction: cadence's own are whole.
struct Millis(f64);

impl ToTimerValue for Millis {
    fn try_to_value(self) -> MetricResult<MetricValue> {
        Ok(MetricValue::Float(self.0))
    }
}

fn tell(client: &StatsdClient, told: &[Metric], stats: &StatsdStats) {
    let mut taken = 0_usize;
    for metric in told {
        let sent = match metric.value {
            Value::Count(more) => client.count(&metric.name, more).is_ok(),
            Value::Gauge(value) => client.gauge(&metric.name, value).is_ok(),
            Value::Millis(millis) => client.time(&metric.name, Millis(millis)).is_ok(),
        };
        taken = taken.saturating_add(usize::from(sent));
    }
    // What a failed flush leaves in the buffer goes with the next one.
    if let Err(error) = client.flush() {
        tracing::debug!(%error, "statsd: flush");
    }
    count(&stats.sent, taken);
    count(&stats.dropped, told.len().saturating_sub(taken));
}
