//! Clients: one per endpoint and lane, built when first needed and under a time of ours, thrown away when they disappoint.

use std::time::Duration;

use etcd_client::{Certificate, Channel, Client, ConnectOptions, Identity, TlsOptions};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_socks::tcp::Socks5Stream;
use tonic::transport::Endpoint as Transport;

use super::convert::{self, Failure};
use super::options::{EtcdOptions, Proxy};
use crate::model::secret::Secret;
use crate::store::StoreError;

/// etcd closes a connection that is pinged more often than each 5 s (measured); what must be noticed sooner is noticed by
/// the watch's own questions and by the calls' times.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Which connection: a long list must not hold up a watch or a renewal (etcd #15402).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Calls,
    Streams,
    /// Renewals of leases alone, so that no other call's trouble, or login, costs one.
    Renewals,
}

/// One endpoint and its clients.
pub(super) struct Endpoint {
    pub(super) url: String,
    calls: Mutex<Slot>,
    streams: Mutex<Slot>,
    renewals: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    client: Option<Client>,
    /// Counts the clients built, so that only the one that failed is thrown away.
    generation: u64,
}

impl Endpoint {
    pub(super) fn new(url: String) -> Self {
        Self { url, calls: Mutex::default(), streams: Mutex::default(), renewals: Mutex::default() }
    }

    const fn slot(&self, lane: Lane) -> &Mutex<Slot> {
        match lane {
            Lane::Calls => &self.calls,
            Lane::Streams => &self.streams,
            Lane::Renewals => &self.renewals,
        }
    }

    /// The client and its generation. With a user this asks etcd for a token: the caller bounds the time.
    pub(super) async fn client(&self, lane: Lane, options: &EtcdOptions) -> Result<(Client, u64), Failure> {
        let mut slot = self.slot(lane).lock().await;
        if let Some(client) = &slot.client {
            return Ok((client.clone(), slot.generation));
        }
        let client = build(&self.url, options).await?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.client = Some(client.clone());
        Ok((client, slot.generation))
    }

    /// Throws a client away: the next call builds a new one, on a new connection.
    pub(super) async fn discard(&self, lane: Lane, generation: u64) {
        let mut slot = self.slot(lane).lock().await;
        if slot.generation == generation {
            slot.client = None;
        }
    }
}

async fn build(url: &str, options: &EtcdOptions) -> Result<Client, Failure> {
    let refused = |e: tonic::transport::Error| {
        let mut reason = e.to_string();
        if let Some(cause) = std::error::Error::source(&e) {
            reason = format!("{reason}: {cause}");
        }
        Failure::Final(StoreError::Invalid(format!("{url}: {reason}")))
    };
    let mut transport = Transport::from_shared(url.to_owned())
        .map_err(refused)?
        .connect_timeout(options.times.connect)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false);
    if url.starts_with("https://") {
        transport = transport.tls_config(tls(options).await?).map_err(refused)?;
    }
    let channel = match options.proxy().map_err(Failure::Final)? {
        None => transport.connect_lazy(),
        Some(proxy) => transport.connect_with_connector_lazy(tower::service_fn(move |uri| dial(proxy.clone(), uri))),
    };
    let connect = ConnectOptions::new().with_require_leader(true);
    let Some(user) = &options.user else {
        return from_channel(channel, connect, url).await;
    };
    let password = password(&user.password).await?;
    let with_user = connect.clone().with_user(&user.name, password).with_auto_token_refresh(true);
    match Client::from_channel(Channel::Tonic(channel.clone()), Some(with_user)).await {
        // etcd's authentication is off: its own clients go on without a token then.
        Err(etcd_client::Error::GRpcStatus(status)) if status.message().contains("authentication is not enabled") => {
            from_channel(channel, connect, url).await
        }
        other => other.map_err(|e| convert::failure(e, &format!("user {:?} at {url}", user.name))),
    }
}

async fn from_channel(
    channel: tonic::transport::Channel,
    options: ConnectOptions,
    url: &str,
) -> Result<Client, Failure> {
    Client::from_channel(Channel::Tonic(channel), Some(options)).await.map_err(|e| convert::failure(e, url))
}

async fn password(secret: &Secret) -> Result<String, Failure> {
    match secret {
        Secret::Inline(text) => Ok(text.clone()),
        Secret::File { file } => {
            let text = read(file).await?;
            Ok(text.strip_suffix('\n').map_or(&*text, |t| t.strip_suffix('\r').unwrap_or(t)).to_owned())
        }
    }
}

/// A missing or half-written file may be there at the next try: renewing a certificate is not atomic everywhere.
async fn read(file: &std::path::Path) -> Result<String, Failure> {
    tokio::fs::read_to_string(file).await.map_err(|e| Failure::Retry {
        reason: format!("{}: {e}", file.display()),
        ambiguous: false,
        source: Some(etcd_client::Error::IoError(e)),
    })
}

async fn tls(options: &EtcdOptions) -> Result<TlsOptions, Failure> {
    let files = &options.tls;
    let mut tls = TlsOptions::new();
    tls = match &files.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(read(ca).await?)),
        None => tls.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&files.cert, &files.key) {
        tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?));
    }
    Ok(tls)
}

async fn dial(proxy: Proxy, uri: http::Uri) -> Result<TokioIo<Socks5Stream<TcpStream>>, std::io::Error> {
    let refused = |e: tokio_socks::Error| std::io::Error::other(format!("SOCKS proxy: {e}"));
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let target = (host, uri.port_u16().unwrap_or(default));
    let stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await?;
    stream.set_nodelay(true)?;
    let stream = match &proxy.user {
        Some((name, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, name, password).await.map_err(refused)?
        }
        None => Socks5Stream::connect_with_socket(stream, target).await.map_err(refused)?,
    };
    Ok(TokioIo::new(stream))
}
