//! Other nodes over HTTP: the real `Peers`. One connection a call: calls are few, and files of certificates and tokens are
//! read anew for each. Every wait and body is bounded; redirects are not followed; what a peer says is cut and cleaned
//! before anybody reads it.

mod tls;

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use self::tls::Tls;
use super::{PeerError, Peers, Refreshed, Seen, frame::FrameError, wire};
use crate::{
    clock::Clock,
    model::{Mono, TargetName, cluster::PeerNode},
};

/// Longest wait for a connection, name and handshake included.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest wait for a stream's head, and for the whole answer of `node`.
const SHORT: Duration = Duration::from_secs(2);
/// Longest wait for the whole answer of `refresh` and `witness`: they take 3 s at the other end.
const LONG: Duration = Duration::from_secs(4);
const MIB: usize = 1024 * 1024;
/// Most bytes of an answer: `node`, `witness`, `refresh`, and one that refuses.
const NODE_BODY: usize = 64 * 1024;
const WITNESS_BODY: usize = 4 * MIB;
const REFRESH_BODY: usize = 64 * MIB;
const REFUSAL_BODY: usize = 4 * 1024;
/// Larger answers are read beside the threads that answer.
const LARGE: usize = 256 * 1024;
/// Chunks of a stream that wait for their reader.
const WAITING: usize = 4;
/// Most bytes of a chunk.
const CHUNK: usize = 128 * 1024;
/// Receive buffer of a connection, in the system.
const BUFFER: u32 = 512 * 1024;
/// Most look-ups of names at once.
const LOOKUPS: usize = 16;
/// Longest reason, in characters.
const REASON_CHARS: usize = 200;
const MAX_TOKEN: usize = 64 * 1024;

/// What a node shows its peers, and what it trusts in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFiles {
    /// `--cluster-token-file`.
    pub token: Option<PathBuf>,
    /// `--cluster-ca`: trusted beside the system's roots.
    pub ca: Option<PathBuf>,
    /// `--tls-cert` and `--tls-key`: shown to a peer that asks for a certificate.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Other nodes over HTTP/1.1.
#[derive(Debug)]
pub struct HttpPeers {
    clock: Clock,
    token_file: Option<PathBuf>,
    /// The last token that could be read: a file that is being replaced is missed for a moment.
    token: Mutex<Option<HeaderValue>>,
    tls: Tls,
    lookups: Arc<Semaphore>,
}

/// What is asked.
struct Question<'a> {
    url: &'a str,
    method: Method,
    path: String,
    body: Bytes,
    /// The cluster's token goes along: `node` is open to all, and a token is shown to no more peers than need it.
    token: bool,
}

/// An open answer, and the task that drives its connection.
struct Answer {
    response: Response<Incoming>,
    driver: AbortOnDropHandle<()>,
}

impl HttpPeers {
    /// Nothing is read or asked yet.
    #[must_use]
    pub fn new(files: PeerFiles, clock: Clock) -> Self {
        let PeerFiles { token: token_file, ca, identity } = files;
        let lookups = Arc::new(Semaphore::new(LOOKUPS));
        Self { clock, token_file, token: Mutex::default(), tls: Tls::new(ca, identity), lookups }
    }

    /// Asks, and returns once the head of the answer is there and good.
    async fn open(&self, question: Question<'_>) -> Result<Answer, PeerError> {
        let url = question.url;
        let unreachable = |reason: &str| PeerError::Unreachable { url: clean(url), reason: clean(reason) };
        let base: Uri = url.parse().map_err(|_| unreachable("the URL cannot be read"))?;
        let place = Place::of(&base).ok_or_else(|| unreachable("expected http(s)://host:port"))?;
        let request = self.request(&question, &place).await.map_err(|reason| unreachable(&reason))?;
        let connected = timeout(CONNECT, self.connect(&place)).await;
        let (mut sender, driver) =
            connected.map_err(|_| unreachable("no connection in time"))?.map_err(|reason| unreachable(&reason))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(&e.to_string()))?;
        if response.status() == StatusCode::OK {
            return Ok(Answer { response, driver });
        }
        let status = response.status();
        let said = read(response.into_body(), REFUSAL_BODY).await.unwrap_or_default();
        let detail = detail(&said);
        Err(PeerError::Refused { url: clean(url), reason: clean(&format!("{status}{detail}")) })
    }

    async fn request(&self, question: &Question<'_>, place: &Place<'_>) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(&question.method)
            .uri(&question.path)
            .header(header::HOST, place.authority)
            .header(header::USER_AGENT, concat!("bellwether/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json");
        if !question.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if question.token
            && let Some(token) = self.token().await?
        {
            request = request.header(header::AUTHORIZATION, token);
        }
        request.body(Full::new(question.body.clone())).map_err(|e| e.to_string())
    }

    /// `Bearer …`, read from its file.
    async fn token(&self) -> Result<Option<HeaderValue>, String> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let read = tokio::fs::read(path).await;
        let mut last = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let token = match read {
            Ok(bytes) if bytes.len() <= MAX_TOKEN && !bytes.trim_ascii().is_empty() => {
                let line = [b"Bearer ", bytes.trim_ascii()].concat();
                HeaderValue::from_bytes(&line).map_err(|_| "it is no token".to_owned())
            }
            Ok(_) => Err("it is empty or too large".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match token {
            Ok(mut token) => {
                token.set_sensitive(true);
                *last = Some(token);
            }
            Err(reason) if last.is_none() => return Err(format!("--cluster-token-file {}: {reason}", path.display())),
            Err(_) => {}
        }
        Ok(last.clone())
    }

    async fn connect(&self, place: &Place<'_>) -> Result<Connection, String> {
        let addresses = self.addresses(place).await?;
        let mut last = "the name has no address".to_owned();
        for address in addresses {
            match dial(address).await {
                Ok(stream) => {
                    if !place.tls {
                        return shake(stream).await;
                    }
                    return shake(self.tls.connect(stream, place.host).await?).await;
                }
                Err(error) => last = format!("{address}: {error}"),
            }
        }
        Err(last)
    }

    /// A look-up that hangs keeps its place until the resolver gives up, so that they cannot use up the threads.
    async fn addresses(&self, place: &Place<'_>) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = place.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, place.port)]);
        }
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(|e| e.to_string())?;
        let (host, port) = (place.host.to_owned(), place.port);
        let looked = tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(|all| all.take(8).collect());
            drop(permit);
            found
        });
        looked.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// Asks, and reads the whole answer.
    async fn whole<T, F>(
        &self,
        question: Question<'_>,
        limit: usize,
        within: Duration,
        parse: F,
    ) -> Result<T, PeerError>
    where
        T: Send + 'static,
        F: FnOnce(&[u8], Mono) -> Result<T, FrameError> + Send + 'static,
    {
        let url = clean(question.url);
        let unreachable = |reason: String| PeerError::Unreachable { url: url.clone(), reason };
        let exchange = async {
            let Answer { response, driver } = self.open(question).await?;
            let body = read(response.into_body(), limit).await.map_err(&unreachable)?;
            drop(driver);
            Ok(body)
        };
        let late = |_| unreachable("no answer in time".to_owned());
        let body = timeout(within, exchange).await.map_err(late)??;
        let mono = self.clock.mono();
        let parsed = if body.len() > LARGE {
            let beside = tokio::task::spawn_blocking(move || parse(&body, mono)).await;
            beside.map_err(|e| unreachable(e.to_string()))?
        } else {
            parse(&body, mono)
        };
        parsed.map_err(|e| PeerError::Refused { url: url.clone(), reason: clean(&e.to_string()) })
    }
}

#[async_trait]
impl Peers for HttpPeers {
    async fn stream(&self, url: &str, after: Option<(i64, u64)>) -> Result<mpsc::Receiver<Bytes>, PeerError> {
        let query = after.map(|(term, seq)| format!("?after={term}.{seq}")).unwrap_or_default();
        let path = format!("/api/v1/replication/stream{query}");
        let question = Question { url, method: Method::GET, path, body: Bytes::new(), token: true };
        let late = |_| PeerError::Unreachable { url: clean(url), reason: "no answer in time".to_owned() };
        let Answer { response, driver } =
            timeout(CONNECT.saturating_add(SHORT), self.open(question)).await.map_err(late)??;
        let (out, bytes) = mpsc::channel(WAITING);
        // Ends with the connection, or when nobody reads any more.
        tokio::spawn(async move {
            let mut body = response.into_body();
            loop {
                let frame = tokio::select! {
                    biased;
                    () = out.closed() => break,
                    frame = body.frame() => frame,
                };
                let Some(Ok(frame)) = frame else { break };
                let Ok(data) = frame.into_data() else { continue };
                if out.send(data).await.is_err() {
                    break;
                }
            }
            drop(driver);
        });
        Ok(bytes)
    }

    async fn node(&self, url: &str) -> Result<PeerNode, PeerError> {
        let path = "/api/v1/node".to_owned();
        let question = Question { url, method: Method::GET, path, body: Bytes::new(), token: false };
        let parse = |body: &[u8], _| serde_json::from_slice(body).map_err(|e| FrameError::json(&e));
        self.whole(question, NODE_BODY, SHORT, parse).await
    }

    async fn refresh(&self, url: &str, targets: &[TargetName]) -> Result<Refreshed, PeerError> {
        let question = asking(url, "/api/v1/replication/refresh", targets)?;
        self.whole(question, REFRESH_BODY, LONG, wire::read_refreshed).await
    }

    async fn witness(&self, url: &str, targets: &[TargetName]) -> Result<Vec<Seen>, PeerError> {
        let question = asking(url, "/api/v1/replication/witness", targets)?;
        self.whole(question, WITNESS_BODY, LONG, wire::read_witnessed).await
    }
}

fn asking<'a>(url: &'a str, path: &str, targets: &[TargetName]) -> Result<Question<'a>, PeerError> {
    let refused = |e: FrameError| PeerError::Refused { url: clean(url), reason: e.to_string() };
    let body = wire::asked(targets).map_err(refused)?;
    Ok(Question { url, method: Method::POST, path: path.to_owned(), body, token: true })
}

/// Where a URL leads.
struct Place<'a> {
    tls: bool,
    /// Without the brackets of an IPv6 address.
    host: &'a str,
    port: u16,
    authority: &'a str,
}

impl<'a> Place<'a> {
    fn of(base: &'a Uri) -> Option<Self> {
        let (tls, default) = match base.scheme_str()? {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        let authority = base.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Some(Self { tls, host, port: authority.port_u16().unwrap_or(default), authority: authority.as_str() })
    }
}

/// A connection whose system buffer is bounded: Linux lets it grow to 32 MiB, and with that to minutes of deltas that would
/// look fresh when they are read at last.
async fn dial(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

type Connection = (http1::SendRequest<Full<Bytes>>, AbortOnDropHandle<()>);

async fn shake<S>(stream: S) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.max_buf_size(CHUNK);
    let (sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(async move {
        // What goes wrong here is seen by whoever reads the answer.
        let _ = connection.await;
    });
    Ok((sender, AbortOnDropHandle::new(driver)))
}

/// A body whole, of at most `limit` bytes.
async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, String> {
    let mut kept = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| clean(&e.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        if kept.len().saturating_add(data.len()) > limit {
            return Err(format!("the answer is larger than {limit} bytes"));
        }
        kept.extend_from_slice(data);
    }
    Ok(kept.freeze())
}

/// What a problem document says.
fn detail(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let detail = problem.as_ref().and_then(|p| p.get("detail")).and_then(serde_json::Value::as_str);
    detail.map(|d| format!(": {d}")).unwrap_or_default()
}

/// Text from outside as one bounded line.
fn clean(text: &str) -> String {
    text.chars().take(REASON_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
