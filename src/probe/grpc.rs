//! One `grpc.health.v1.Health/Check` on an open connection, over hyper's HTTP/2. The two messages are so small that
//! they are coded here. TLS and the deadline are left to others.

use std::{cell::RefCell, error::Error as _, io, rc::Rc};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::{
    http1::Io,
    judge::{
        Judgement,
        text::{MAX_OUTPUT, clean},
    },
};

const MAX_ANSWER: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The HTTP/2 connection failed.
    #[error("gRPC: {}", describe(.0))]
    Http2(#[from] hyper::Error),
    /// Not the HTTP status that gRPC has.
    #[error("gRPC: the answer's HTTP status is {0}")]
    Status(u16),
    /// The answer's body broke off or is too large.
    #[error("gRPC: {0}")]
    Body(String),
    /// The answer's bytes are no HealthCheckResponse.
    #[error("gRPC: the answer is no health message")]
    Message,
    /// The request could not be made.
    #[error("gRPC: {0}")]
    Request(#[from] http::Error),
}

impl GrpcError {
    /// The connection was lost, rather than an answer wrong.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Http2(e) if io_error(e).is_some())
    }
}

fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return Some(io);
        }
        source = e.source();
    }
    None
}

fn describe(error: &hyper::Error) -> String {
    match io_error(error) {
        Some(io) => super::connect::describe(io),
        None => error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}

/// Runs the connection's tasks on the probe thread.
#[derive(Clone, Default)]
struct Tasks(Rc<RefCell<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        self.0.borrow_mut().spawn_local(async move {
            future.await;
        });
    }
}

/// Ends them with the probe.
struct Ended(Tasks);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.0.borrow_mut().abort_all();
    }
}

/// Asks for the health of a service (empty: the whole server).
///
/// # Errors
/// `GrpcError` when there is no answer that can be read.
pub async fn check(io: Io, request: http::request::Builder, service: &str) -> Result<Judgement, GrpcError> {
    let tasks = Tasks::default();
    let _ended = Ended(tasks.clone());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(tasks.clone(), TokioIo::new(io)).await?;
    tasks.0.borrow_mut().spawn_local(async move {
        // What goes wrong with the connection is told to the request.
        let _ = connection.await;
    });
    let request = request
        .method(http::Method::POST)
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Full::new(encode(service)))?;
    let response = sender.send_request(request).await?;
    if response.status() != http::StatusCode::OK {
        return Err(GrpcError::Status(response.status().as_u16()));
    }
    if let Some(judgement) = by_status(response.headers()) {
        return Ok(judgement);
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|e| GrpcError::Body(clean(&e.to_string(), MAX_OUTPUT)))?;
    if let Some(judgement) = body.trailers().and_then(by_status) {
        return Ok(judgement);
    }
    decode(&body.to_bytes()).map(by_serving).ok_or(GrpcError::Message)
}

/// The judgement of a status that is not OK.
fn by_status(headers: &http::HeaderMap) -> Option<Judgement> {
    let text = |name: &str| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()));
    let status = text("grpc-status")?;
    let code: u16 = status.trim().parse().unwrap_or(2);
    if code == 0 {
        return None;
    }
    let name = match code {
        1 => "CANCELLED",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND: the service is not known",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        12 => "UNIMPLEMENTED: there is no health service",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        16 => "UNAUTHENTICATED",
        _ => "error",
    };
    let message = text("grpc-message").unwrap_or_default();
    let message = percent_encoding::percent_decode_str(&message).decode_utf8_lossy().into_owned();
    let line = format!("gRPC status {code} {name}{}{message}", if message.is_empty() { "" } else { ": " });
    Some(Judgement::bad(&line))
}

fn by_serving(status: u64) -> Judgement {
    match status {
        1 => Judgement::good("SERVING"),
        2 => Judgement::bad("NOT_SERVING"),
        3 => Judgement::bad("SERVICE_UNKNOWN"),
        0 => Judgement::bad("the health status is UNKNOWN"),
        other => Judgement::bad(&format!("the health status is {other}")),
    }
}

/// A framed `HealthCheckRequest { service = 1 }`.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or(0));
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// The status in a framed `HealthCheckResponse { status = 1 }`; unknown fields are passed over.
fn decode(frame: &[u8]) -> Option<u64> {
    let (head, rest) = frame.split_at_checked(5)?;
    let (flag, length) = head.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    if *flag != 0 {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages() {
        assert_eq!(&encode("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&encode("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(encode(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(decode(&[0, 0, 0, 0, 5, 0x12, 1, 7, 8, 2]), Some(2), "unknown fields are passed over");
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(decode(&[1, 0, 0, 0, 2, 8, 1]), None, "compressed without having been asked");
        assert_eq!(decode(&[0, 0, 0, 0, 9, 8, 1]), None);
    }

    proptest! {
        #[test]
        fn decode_never_panics(frame in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&frame);
        }
    }
}
