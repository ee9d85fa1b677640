//! The first stage of a connection: `GET /__gtg` in its usual form is answered straight from the view, with nothing between the
//! socket and the prepared answer; the same question once more, with the last answer's bytes as long as nothing has changed.
//! The first request that is anything else ends this stage: the connection goes to the HTTP library for good, with every byte
//! that was read and not answered, so that all other rules are in one place.
//! What an answer is, is left to `gtg`; idle and slow peers, to `connection`.

use std::{
    cell::RefCell,
    io::{self, Write as _},
    mem::MaybeUninit,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderName, StatusCode, header};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{
    connection::Site,
    gtg::{self, Ready},
    requests::Endpoint,
};
use crate::model::Mono;

/// Room for requests; a longer head is not the usual form.
const ROOM: usize = 2048;
/// Most headers of a request in the usual form.
const MAX_HEADERS: usize = 32;
/// How a request in the usual form begins.
const START: &[u8] = b"GET /__gtg";

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many requests were answered.
    Answered(u64),
    /// Something else was asked, or the client has ended: the HTTP library goes on.
    HandOver,
}

/// A connection in its first stage.
pub(super) struct Hot<S> {
    stream: S,
    read: Box<[u8]>,
    /// `read[start..end]` is read and not answered.
    start: usize,
    end: usize,
    last: Last,
    written: Vec<u8>,
    /// So much of `written` is sent.
    sent: usize,
    leaving: bool,
}

/// The last answer, and what makes it the answer still: most clients ask one question for ever.
#[derive(Default)]
struct Last {
    /// The request's head; empty: there is none.
    asked: Vec<u8>,
    answer: Vec<u8>,
    status: StatusCode,
    /// The view's version.
    version: u64,
    /// It tells its date.
    second: i64,
    until: Option<Mono>,
}

impl Last {
    /// Whether the room begins with the same question, and this is its answer now.
    fn answers(&self, unread: &[u8], site: &Site, second: i64) -> bool {
        !self.asked.is_empty()
            && unread.starts_with(&self.asked)
            && self.second == second
            && self.version == site.web.view.version()
            && self.until.is_none_or(|until| site.web.clock.mono() < until)
    }

    /// Keeps an answer. One that tells its age is another each time.
    fn keep(&mut self, asked: &[u8], answer: &[u8], ready: &Ready, version: u64, second: i64) {
        self.asked.clear();
        self.answer.clear();
        if ready.stale.is_none() {
            self.asked.extend_from_slice(asked);
            self.answer.extend_from_slice(answer);
            (self.status, self.version, self.second, self.until) = (ready.status, version, second, ready.until);
        }
    }
}

/// What was found at the start of the room.
enum Found<'a> {
    /// A request in the usual form: its length and the target asked for.
    Usual(usize, &'a str),
    /// The beginning of one.
    Part,
    /// Anything else.
    Other,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Hot<S> {
    pub(super) fn new(stream: S) -> Self {
        let read = vec![0; ROOM].into_boxed_slice();
        Self { stream, read, start: 0, end: 0, last: Last::default(), written: Vec::new(), sent: 0, leaving: false }
    }

    /// Reads once, and answers what is whole. May be dropped at any await and called again: it goes on where it was.
    ///
    /// # Errors
    /// The socket's.
    pub(super) async fn step(&mut self, site: &Site) -> io::Result<Step> {
        self.flush().await?;
        if self.leaving {
            return Ok(Step::HandOver);
        }
        if self.start > 0 {
            self.read.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // A full room holds the beginning of a head that is too long for it; and an ended client's zero bytes are seen
        // by the HTTP library once more.
        let room = self.read.get_mut(self.end..).unwrap_or_default();
        let count = if room.is_empty() { 0 } else { self.stream.read(room).await? };
        if count == 0 {
            return Ok(Step::HandOver);
        }
        self.end = self.end.saturating_add(count).min(ROOM);
        let answered = self.answer(site);
        self.flush().await?;
        Ok(if answered == 0 && self.leaving { Step::HandOver } else { Step::Answered(answered) })
    }

    /// Answers all whole requests at the start of the room.
    fn answer(&mut self, site: &Site) -> u64 {
        let mut answered = 0;
        loop {
            let unread = self.read.get(self.start..self.end).unwrap_or_default();
            if unread.is_empty() {
                return answered;
            }
            // A draining node's answers say so in a header.
            if site.draining.load(Ordering::Relaxed) {
                break;
            }
            let second = site.web.clock.wall().as_millis().div_euclid(1000);
            if self.last.answers(unread, site, second) {
                site.web.requests.count(Endpoint::Gtg, self.last.status);
                self.written.extend_from_slice(&self.last.answer);
                self.start = self.start.saturating_add(self.last.asked.len());
                answered += 1;
                continue;
            }
            let (length, target) = match find(unread) {
                Found::Usual(length, target) => (length, target),
                Found::Part => return answered,
                Found::Other => break,
            };
            let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            // Before the view is looked at: what comes between makes the answer too old to be kept, never too new.
            let version = site.web.view.version();
            let Some(ready) = gtg::ready(&site.web, path, query) else { break };
            site.web.requests.count(Endpoint::Gtg, ready.status);
            let begin = self.written.len();
            write(&mut self.written, &ready, second);
            let (asked, answer) = (unread.get(..length), self.written.get(begin..));
            self.last.keep(asked.unwrap_or_default(), answer.unwrap_or_default(), &ready, version, second);
            self.start = self.start.saturating_add(length);
            answered += 1;
        }
        self.leaving = true;
        answered
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.written.is_empty() {
            return Ok(());
        }
        while let Some(left) = self.written.get(self.sent..).filter(|left| !left.is_empty()) {
            match self.stream.write(left).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.sent = self.sent.saturating_add(count),
            }
        }
        // TLS has a buffer of its own.
        self.stream.flush().await?;
        self.written.clear();
        self.sent = 0;
        Ok(())
    }

    /// The stream for the next stage: what was read and not answered comes first. An answer that its reader has not
    /// taken yet must have been flushed.
    pub(super) fn hand_over(self) -> Resumed<S> {
        let unread = self.read.get(self.start..self.end).unwrap_or_default();
        Resumed { unread: Bytes::copy_from_slice(unread), stream: self.stream }
    }

    /// Whether everything answered was sent.
    pub(super) const fn is_flushed(&self) -> bool {
        self.written.is_empty()
    }
}

/// Reads a request's head. It is of the usual form where nothing in it needs a rule of HTTP but these: HTTP/1.1, `GET`, a plain
/// target, no body, the connection stays open.
fn find(unread: &[u8]) -> Found<'_> {
    let common = unread.len().min(START.len());
    if unread.get(..common) != START.get(..common) {
        return Found::Other;
    }
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(unread, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Found::Part,
        Err(_) => return Found::Other,
    };
    let target = request.path.unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'.' | b'?' | b'=' | b',' | b'&');
    let usual = request.version == Some(1)
        && request.method == Some("GET")
        && target.bytes().all(plain)
        && request.headers.iter().all(|header| is_usual(header.name, header.value));
    if usual { Found::Usual(length, target) } else { Found::Other }
}

/// A header that changes nothing here. Those that tell of a body, of the connection or of the way of answering do.
fn is_usual(name: &str, value: &[u8]) -> bool {
    let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str());
    // Most headers differ from all of these in length or first letter.
    match name.len() {
        10 if is(&header::CONNECTION) => value.eq_ignore_ascii_case(b"keep-alive"),
        14 => !is(&header::CONTENT_LENGTH),
        17 => !is(&header::TRANSFER_ENCODING),
        7 => !is(&header::UPGRADE) && !is(&header::TRAILER),
        6 => !is(&header::EXPECT),
        2 => !is(&header::TE),
        _ => true,
    }
}

/// Writes an answer, with the headers that the HTTP library adds.
fn write(out: &mut Vec<u8>, ready: &Ready, second: i64) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(ready.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(ready.status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in ready.headers() {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    // Into memory: it cannot fail.
    let _ = write!(out, "\r\ncontent-length: {}\r\ndate: ", ready.body.len());
    write_date(out, second);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(&ready.body);
}

/// The `Date` header's value, written anew once a second on each thread.
fn write_date(out: &mut Vec<u8>, second: i64) {
    thread_local!(static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) });
    LAST.with_borrow_mut(|(of, text)| {
        if *of != second {
            *text = date(second);
            *of = second;
        }
        out.extend_from_slice(text.as_bytes());
    });
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn date(second: i64) -> String {
    let at = jiff::Timestamp::from_second(second).unwrap_or_default();
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

/// A stream of which some bytes were read before; they are read once more.
pub(super) struct Resumed<S> {
    unread: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, room);
        }
        let count = self.unread.len().min(room.remaining());
        room.put_slice(self.unread.get(..count).unwrap_or_default());
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resumed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
