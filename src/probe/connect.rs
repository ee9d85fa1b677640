//! Opens TCP connections for probes: straight or through the SOCKS proxy, addresses in the resolver's order.
//!
//! A fresh connection is set up for the least cost (reference: the cost of a probe): zero linger, so that it is reset
//! once the whole answer is in and leaves neither a local port in TIME_WAIT nor a tracked connection; QUICKACK off, so
//! that the handshake's last ACK rides on the request; the request goes out right after `connect` where that is
//! already through. What is said on the connection is left to the kinds.

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, time::Instant};

use super::{resolve::Resolver, socks::SocksProxy};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("cannot resolve {host}: {problem}")]
    Name {
        /// The name.
        host: String,
        /// The resolver's words.
        problem: Rc<str>,
    },
    /// No address of the host took the connection.
    #[error("cannot connect to {address}: {}", describe(source))]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The SOCKS proxy could not be reached.
    #[error("cannot reach the SOCKS proxy: {0}")]
    Proxy(#[source] Box<ConnectError>),
    /// The SOCKS proxy refused.
    #[error("the SOCKS proxy: {0}")]
    Socks(#[source] tokio_socks::Error),
}

/// An error in a few plain words, without the system's numbers.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
    }
}

/// Where to, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Name or address.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Reset on close.
    pub reset: bool,
    /// The deadline of the whole probe: shared out among the addresses. Holding it is the caller's task.
    pub deadline: Instant,
}

/// Opens connections.
#[derive(Debug)]
pub struct Connector {
    resolver: Resolver,
    proxy: Option<SocksProxy>,
}

impl Connector {
    /// Straight, or through a proxy.
    #[must_use]
    pub const fn new(resolver: Resolver, proxy: Option<SocksProxy>) -> Self {
        Self { resolver, proxy }
    }

    /// A connection, and how much of `first` was already sent on it.
    ///
    /// # Errors
    /// `ConnectError` when no address takes the connection.
    pub async fn connect(&self, wanted: Wanted<'_>, first: &[u8]) -> Result<(TcpStream, usize), ConnectError> {
        match &self.proxy {
            None => self.direct(wanted, first).await,
            // Apart, like names below: the task of a plain probe of an address stays small, and is moved when it is made.
            Some(proxy) => Box::pin(self.through(proxy, wanted)).await,
        }
    }

    async fn through(&self, proxy: &SocksProxy, wanted: Wanted<'_>) -> Result<(TcpStream, usize), ConnectError> {
        let to_proxy = Wanted { host: &proxy.host, port: proxy.port, ..wanted };
        let (stream, _) = self.direct(to_proxy, &[]).await.map_err(|e| ConnectError::Proxy(Box::new(e)))?;
        let stream = proxy.open(stream, wanted.host, wanted.port).await.map_err(ConnectError::Socks)?;
        Ok((stream, 0))
    }

    async fn direct(&self, wanted: Wanted<'_>, first: &[u8]) -> Result<(TcpStream, usize), ConnectError> {
        match wanted.host.parse::<IpAddr>() {
            Ok(ip) => {
                let address = SocketAddr::new(ip, wanted.port);
                open(address, wanted.reset, first).await.map_err(|source| ConnectError::Connect { address, source })
            }
            Err(_) => Box::pin(self.by_name(wanted, first)).await,
        }
    }

    async fn by_name(&self, wanted: Wanted<'_>, first: &[u8]) -> Result<(TcpStream, usize), ConnectError> {
        let name = |problem| ConnectError::Name { host: wanted.host.to_owned(), problem };
        let addresses = self.resolver.resolve(wanted.host).await.map_err(name)?;
        let mut last = name(Rc::from("the name has no address"));
        for (i, ip) in addresses.iter().enumerate() {
            let address = SocketAddr::new(*ip, wanted.port);
            // One that hangs must leave time for those after it.
            let left = u32::try_from(addresses.len() - i).unwrap_or(1).max(1);
            let share = wanted.deadline.saturating_duration_since(Instant::now()) / left;
            let tried =
                match tokio::time::timeout(share.max(Duration::from_millis(1)), open(address, wanted.reset, first))
                    .await
                {
                    Ok(tried) => tried,
                    Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
                };
            match tried {
                Ok(opened) => return Ok(opened),
                Err(source) => last = ConnectError::Connect { address, source },
            }
        }
        Err(last)
    }
}

/// Connects to one address; sends what it can of `first` if the connection is there at once.
async fn open(address: SocketAddr, reset: bool, first: &[u8]) -> io::Result<(TcpStream, usize)> {
    let (stream, connected) = start(address, reset)?;
    // Over loopback the handshake is through when `connect` returns, though it says otherwise.
    let sent = if first.is_empty() { 0 } else { send_now(&stream, first)? };
    let stream = TcpStream::from_std(stream)?;
    if sent == 0 && !connected {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    Ok((stream, sent))
}

fn start(address: SocketAddr, reset: bool) -> io::Result<(std::net::TcpStream, bool)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if reset {
        socket.set_linger(Some(Duration::ZERO))?;
        // Costs an ACK if it fails, no more.
        let _ = socket.set_tcp_quickack(false);
    } else {
        socket.set_tcp_nodelay(true)?;
    }
    let connected = match socket.connect(&address.into()) {
        Ok(()) => true,
        Err(e) if e.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => false,
        Err(e) => return Err(e),
    };
    Ok((socket.into(), connected))
}

fn send_now(mut stream: &std::net::TcpStream, first: &[u8]) -> io::Result<usize> {
    match stream.write(first) {
        Ok(sent) => Ok(sent),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        Err(e) => Err(e),
    }
}
