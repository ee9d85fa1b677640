//! One HTTP/1.1 exchange on an open connection: sends the request's bytes, reads the answer into a pooled buffer.
//! Connecting is left to `connect`, reading the bytes to `answer`, the deadline to the caller.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::answer::{Answer, AnswerError};

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection failed.
    #[error("{}", super::connect::describe(.0))]
    Io(#[from] io::Error),
    /// Too many large answers at once.
    #[error("the answers under way are together over {} MiB; this large one was given up", MAX_HELD / 1024 / 1024)]
    Crowded,
    /// The answer is none.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// A connection in the clear or over TLS.
#[derive(Debug)]
pub enum Io {
    /// In the clear.
    Plain(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// Whether an idle connection still looks open, and silent as it should be.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Returns once something can be read, so that a buffer is taken only then.
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            Self::Tls(_) => Ok(()),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

const FIRST_BUFFER: usize = 4 * 1024;
/// A buffer that grew over this goes back to the system.
const MAX_POOLED: usize = 64 * 1024;
const POOL: usize = 256;
/// Most bytes that all answers under way may take together: a thousand giants must not fill the memory.
const MAX_HELD: usize = 64 * 1024 * 1024;

#[derive(Debug, Default)]
struct Pool {
    free: RefCell<Vec<Vec<u8>>>,
    held: Cell<usize>,
}

/// Buffers used again by later exchanges.
#[derive(Debug, Default)]
pub struct Buffers(Rc<Pool>);

/// The bytes of one answer; its drop gives the buffer back.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    counted: usize,
    pool: Rc<Pool>,
}

impl Buffers {
    fn take(&self) -> Buffer {
        let bytes = self.0.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(FIRST_BUFFER));
        let mut buffer = Buffer { bytes, counted: 0, pool: Rc::clone(&self.0) };
        buffer.count();
        buffer
    }
}

impl Buffer {
    /// The bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn count(&mut self) {
        let held = self.pool.held.get() - self.counted;
        self.counted = self.bytes.capacity();
        self.pool.held.set(held + self.counted);
    }

    /// Makes room for more.
    fn grow(&mut self) -> Result<(), ExchangeError> {
        if self.bytes.capacity() - self.bytes.len() >= FIRST_BUFFER / 2 {
            return Ok(());
        }
        let more = self.bytes.len().max(FIRST_BUFFER);
        if self.pool.held.get() + more > MAX_HELD && self.bytes.len() > MAX_POOLED {
            return Err(ExchangeError::Crowded);
        }
        self.bytes.reserve(more);
        self.count();
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.held.set(self.pool.held.get() - self.counted);
        let mut free = self.pool.free.borrow_mut();
        if self.bytes.capacity() <= MAX_POOLED && free.len() < POOL {
            self.bytes.clear();
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A whole answer and the buffer that it lies in.
#[derive(Debug)]
pub struct Received {
    /// The answer.
    pub answer: Answer,
    /// Its bytes.
    pub buffer: Buffer,
}

/// A failed exchange, and whether any byte of an answer had come.
#[derive(Debug)]
pub struct Broken {
    /// What happened.
    pub error: ExchangeError,
    /// False: the server may not even have seen the request, so an idle connection had simply gone.
    pub answered: bool,
}

/// Sends what is left of the request and reads the whole answer.
///
/// # Errors
/// `Broken` when the connection fails or the answer is no HTTP.
pub async fn exchange(io: &mut Io, rest: &[u8], head_request: bool, buffers: &Buffers) -> Result<Received, Broken> {
    let unanswered = |error: io::Error| Broken { error: error.into(), answered: false };
    if !rest.is_empty() {
        io.write_all(rest).await.map_err(unanswered)?;
        io.flush().await.map_err(unanswered)?;
    }
    io.readable().await.map_err(unanswered)?;
    let mut received = Received { answer: Answer::new(head_request), buffer: buffers.take() };
    match receive(io, &mut received).await {
        Ok(()) => Ok(received),
        Err(error) => {
            let answered = !received.buffer.bytes.is_empty();
            Err(Broken { error, answered })
        }
    }
}

async fn receive(io: &mut Io, received: &mut Received) -> Result<(), ExchangeError> {
    let Received { answer, buffer } = received;
    loop {
        buffer.grow()?;
        let read = match io.read_buf(&mut buffer.bytes).await {
            Ok(read) => read,
            // TLS without close_notify: the answer's own framing decides whether something is missing.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(e) => return Err(e.into()),
        };
        if read == 0 {
            return Ok(answer.end(&buffer.bytes)?);
        }
        if answer.advance(&mut buffer.bytes)? {
            return Ok(());
        }
    }
}
