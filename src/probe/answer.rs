//! Reads an HTTP/1.1 answer out of bytes as they come: pure, no I/O. Chunked, content-length and until-close bodies,
//! interim answers skipped, head and body bounded. Whether the answer is a good one is left to `judge`.

use std::{mem::MaybeUninit, ops::Range};

/// Largest head, in bytes (interim answers included).
pub const MAX_HEAD: usize = 32 * 1024;
/// Largest body, in bytes (design section 5).
pub const MAX_BODY: usize = 1024 * 1024;
const MAX_HEADERS: usize = 100;
/// Framing of chunks that a body may carry beside its data.
const MAX_FRAMING: usize = 256 * 1024;

/// Why the bytes are no acceptable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not HTTP/1.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(httparse::Error),
    /// The head is over `MAX_HEAD`.
    #[error("the answer's head is over {} KiB", MAX_HEAD / 1024)]
    HeadTooLarge,
    /// The body is over `MAX_BODY`.
    #[error("the body is over {} MiB", MAX_BODY / 1024 / 1024)]
    BodyTooLarge,
    /// Content-Length is no number, or there are several that differ.
    #[error("the answer's content-length is invalid")]
    Length,
    /// Broken chunked coding, or another transfer coding.
    #[error("the answer's transfer coding is invalid")]
    Coding,
    /// 101 without having been asked.
    #[error("the server switched protocols without being asked")]
    Switched,
    /// The connection ended before any byte.
    #[error("the connection was closed without an answer")]
    Empty,
    /// The connection ended inside the answer.
    #[error("the connection was closed before the whole answer was in")]
    Cut,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Head,
    Length(usize),
    Chunked,
    UntilClose,
    Done,
}

/// The head's facts, once it is in.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Content-Type, as written.
    pub content_type: Option<String>,
    /// Location, as written.
    pub location: Option<String>,
    /// The server keeps the connection open after this answer.
    pub keep_alive: bool,
}

/// An answer that is being read from one growing buffer.
#[derive(Debug)]
pub struct Answer {
    head_request: bool,
    phase: Phase,
    head: Head,
    /// Everything before this was looked at for the end of the head, or decoded.
    scanned: usize,
    /// Start of the head now read; interim answers lie before it.
    head_start: usize,
    body: Range<usize>,
    chunk: Chunk,
}

#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size,
    Data(usize),
    DataEnd,
    Trailer,
}

impl Answer {
    /// An answer to a request; `head_request`: there will be no body.
    #[must_use]
    pub fn new(head_request: bool) -> Self {
        Self {
            head_request,
            phase: Phase::Head,
            head: Head::default(),
            scanned: 0,
            head_start: 0,
            body: 0..0,
            chunk: Chunk::Size,
        }
    }

    /// Looks at the buffer after it grew. True: the whole answer is in.
    ///
    /// # Errors
    /// `AnswerError` when it is no HTTP, is too large, or its framing is broken.
    pub fn advance(&mut self, buffer: &mut [u8]) -> Result<bool, AnswerError> {
        loop {
            match self.phase {
                Phase::Head => {
                    if !self.read_head(buffer)? {
                        return Ok(false);
                    }
                }
                Phase::Length(length) => {
                    self.body.end = buffer.len().min(self.body.start + length);
                    if self.body.len() < length {
                        return Ok(false);
                    }
                    self.head.keep_alive &= buffer.len() == self.body.end;
                    self.phase = Phase::Done;
                }
                Phase::UntilClose => {
                    self.body.end = buffer.len();
                    return if self.body.len() > MAX_BODY { Err(AnswerError::BodyTooLarge) } else { Ok(false) };
                }
                Phase::Chunked => {
                    if !self.read_chunks(buffer)? {
                        return Ok(false);
                    }
                    self.head.keep_alive &= buffer.len() == self.scanned;
                    self.phase = Phase::Done;
                }
                Phase::Done => return Ok(true),
            }
        }
    }

    /// The connection ended: is the answer whole?
    ///
    /// # Errors
    /// `Empty` or `Cut` when it is not.
    pub fn end(&mut self, buffer: &[u8]) -> Result<(), AnswerError> {
        match self.phase {
            Phase::Done => Ok(()),
            Phase::UntilClose => {
                self.phase = Phase::Done;
                Ok(())
            }
            _ if buffer.is_empty() => Err(AnswerError::Empty),
            _ => Err(AnswerError::Cut),
        }
    }

    /// The head; meaningful once the answer is whole.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The body, decoded, inside the same buffer.
    #[must_use]
    pub fn body<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        buffer.get(self.body.clone()).unwrap_or_default()
    }

    /// True once the head was read.
    fn read_head(&mut self, buffer: &[u8]) -> Result<bool, AnswerError> {
        let start = self.head_start;
        // Parsed only when an empty line has come: a server that drips bytes must not cost a parse for each.
        let fresh = buffer.get(self.scanned.saturating_sub(3).max(start)..).unwrap_or_default();
        let ended = has_empty_line(fresh);
        let unread = buffer.get(start..).unwrap_or_default();
        if !ended {
            let first = self.scanned == start && !unread.is_empty();
            self.scanned = buffer.len();
            if buffer.len() > MAX_HEAD {
                return Err(AnswerError::HeadTooLarge);
            }
            // Garbage is told at once, not at the deadline.
            let early = unread.len() >= 5 && !unread.starts_with(b"HTTP/") && !unread.starts_with(b"\r\n");
            return if first && early { Err(AnswerError::NotHttp(httparse::Error::Version)) } else { Ok(false) };
        }
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, unread, &mut headers);
        let length = match parsed.map_err(AnswerError::NotHttp)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => {
                self.scanned = buffer.len();
                return if buffer.len() > MAX_HEAD { Err(AnswerError::HeadTooLarge) } else { Ok(false) };
            }
        };
        let end = start + length;
        if end > MAX_HEAD {
            return Err(AnswerError::HeadTooLarge);
        }
        let status = response.code.unwrap_or(0);
        if status == 101 {
            return Err(AnswerError::Switched);
        }
        self.scanned = end;
        self.head_start = end;
        if (100..200).contains(&status) {
            return Ok(true);
        }
        self.body = end..end;
        self.head = Head { status, keep_alive: response.version == Some(1), ..Head::default() };
        self.phase = self.framing(response.headers)?;
        Ok(true)
    }

    /// Takes the interesting headers and decides how the body ends (RFC 9112 section 6.3).
    fn framing(&mut self, headers: &[httparse::Header<'_>]) -> Result<Phase, AnswerError> {
        let (mut length, mut chunked) = (None, false);
        for header in headers {
            let name = header.name;
            if name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(header.value).unwrap_or_default().trim();
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let value =
                    if digits { text.parse::<u64>().unwrap_or(u64::MAX) } else { return Err(AnswerError::Length) };
                if length.is_some_and(|l| l != value) {
                    return Err(AnswerError::Length);
                }
                length = Some(value);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") || chunked {
                    return Err(AnswerError::Coding);
                }
                chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                let words = || header.value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                self.head.keep_alive |= words().any(|w| w.eq_ignore_ascii_case(b"keep-alive"));
                self.head.keep_alive &= !words().any(|w| w.eq_ignore_ascii_case(b"close"));
            } else if name.eq_ignore_ascii_case("content-type") {
                self.head.content_type = Some(String::from_utf8_lossy(header.value).into_owned());
            } else if name.eq_ignore_ascii_case("location") {
                self.head.location = Some(String::from_utf8_lossy(header.value).into_owned());
            }
        }
        if self.head_request || matches!(self.head.status, 204 | 304) {
            return Ok(Phase::Length(0));
        }
        if chunked {
            // Both framings at once smell of smuggling: such a connection is not used again.
            self.head.keep_alive &= length.is_none();
            return Ok(Phase::Chunked);
        }
        match length.map(usize::try_from) {
            Some(Ok(length)) if length <= MAX_BODY => Ok(Phase::Length(length)),
            Some(_) => Err(AnswerError::BodyTooLarge),
            None => {
                self.head.keep_alive = false;
                Ok(Phase::UntilClose)
            }
        }
    }

    /// Decodes chunks in place: the data moves down over the framing. True once the last one is in.
    fn read_chunks(&mut self, buffer: &mut [u8]) -> Result<bool, AnswerError> {
        loop {
            match self.chunk {
                Chunk::Size => {
                    let Some(line) = line_at(buffer, self.scanned)? else { return Ok(false) };
                    let size = chunk_size(buffer.get(line.clone()).unwrap_or_default())?;
                    self.scanned = line.end + 1;
                    if size > MAX_BODY - self.body.len() {
                        return Err(AnswerError::BodyTooLarge);
                    }
                    self.chunk = if size == 0 { Chunk::Trailer } else { Chunk::Data(size) };
                }
                Chunk::Data(left) => {
                    let here = left.min(buffer.len() - self.scanned);
                    buffer.copy_within(self.scanned..self.scanned + here, self.body.end);
                    self.scanned += here;
                    self.body.end += here;
                    if here < left {
                        self.chunk = Chunk::Data(left - here);
                        return Ok(false);
                    }
                    self.chunk = Chunk::DataEnd;
                }
                Chunk::DataEnd => {
                    let Some(line) = line_at(buffer, self.scanned)? else { return Ok(false) };
                    if !buffer.get(line.clone()).unwrap_or_default().trim_ascii().is_empty() {
                        return Err(AnswerError::Coding);
                    }
                    self.scanned = line.end + 1;
                    self.chunk = Chunk::Size;
                }
                Chunk::Trailer => {
                    let Some(line) = line_at(buffer, self.scanned)? else { return Ok(false) };
                    self.scanned = line.end + 1;
                    if buffer.get(line).unwrap_or_default().trim_ascii().is_empty() {
                        return Ok(true);
                    }
                }
            }
            if self.scanned - self.head_start > MAX_BODY + MAX_FRAMING {
                return Err(AnswerError::BodyTooLarge);
            }
        }
    }
}

/// Whether a line ends here and an empty one follows. Looks no further than there: what follows may be a long body.
fn has_empty_line(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        rest = rest.get(end + 1..).unwrap_or_default();
        if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
            return true;
        }
    }
    false
}

/// The line that starts at `from`, without its `\n`; `None` while it is not in.
fn line_at(buffer: &[u8], from: usize) -> Result<Option<Range<usize>>, AnswerError> {
    const MAX_LINE: usize = 4096;
    let rest = buffer.get(from..).unwrap_or_default();
    match rest.iter().take(MAX_LINE).position(|b| *b == b'\n') {
        Some(length) => Ok(Some(from..from + length)),
        None if rest.len() >= MAX_LINE => Err(AnswerError::Coding),
        None => Ok(None),
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, AnswerError> {
    let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).map_err(|_| AnswerError::Coding)?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(AnswerError::Coding);
    }
    // Over 16 digits is no size that we would take.
    usize::from_str_radix(text, 16).map_err(|_| AnswerError::BodyTooLarge)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
