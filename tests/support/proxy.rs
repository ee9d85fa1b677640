//! A TCP proxy that misbehaves on command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What the proxy does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes it on.
    Pass,
    /// Passes it on later.
    Delay(Duration),
    /// Accepts and keeps connections, and passes nothing on.
    Blackhole,
    /// Passes on what the client says, and nothing of the answers.
    HalfOpen,
    /// Closes new connections at once.
    Refuse,
}

/// The proxy; it ends, with all its connections, when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    port: Arc<AtomicU16>,
    mode: watch::Sender<Mode>,
    cut: watch::Sender<u32>,
    accepted: Arc<AtomicU32>,
    _accept: AbortOnDropHandle<()>,
}

impl Proxy {
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, cut) = (watch::Sender::new(Mode::Pass), watch::Sender::new(0));
        let (modes, cuts) = (mode.subscribe(), cut.subscribe());
        let accepted = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&accepted);
        let port = Arc::new(AtomicU16::new(port));
        let to = Arc::clone(&port);
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                if *modes.borrow() == Mode::Refuse {
                    continue;
                }
                let (modes, mut cuts) = (modes.clone(), cuts.clone());
                let port = to.load(SeqCst);
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        _ = cuts.changed() => {}
                        () = serve(client, port, modes) => {}
                    }
                });
            }
        });
        Self { address, port, mode, cut, accepted, _accept: AbortOnDropHandle::new(accept) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections came so far.
    pub fn accepted(&self) -> u32 {
        self.accepted.load(SeqCst)
    }

    /// Passes new connections on to another port.
    pub fn lead_to(&self, port: u16) {
        self.port.store(port, SeqCst);
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.cut.send_modify(|n| *n += 1);
    }
}

async fn serve(client: TcpStream, port: u16, modes: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::join!(copy(client_in, server_out, modes.clone(), false), copy(server_in, client_out, modes, true));
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    answers: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(n @ 1..) = from.read(&mut buffer).await else { return };
        let held = |mode: &Mode| *mode == Mode::Blackhole || (answers && *mode == Mode::HalfOpen);
        if modes.wait_for(|mode| !held(mode)).await.is_err() {
            return;
        }
        let mode = *modes.borrow();
        if let Mode::Delay(time) = mode {
            tokio::time::sleep(time).await;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
