use proptest::prelude::*;

use super::*;

/// Feeds an answer in pieces of the given sizes, then the end of the connection.
fn read(bytes: &[u8], head: bool, sizes: &[usize]) -> Result<(Head, Vec<u8>, bool), AnswerError> {
    let (mut answer, mut buffer, mut rest) = (Answer::new(head), Vec::new(), bytes);
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        buffer.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
        if answer.advance(&mut buffer)? {
            return Ok((answer.head().clone(), answer.body(&buffer).to_vec(), rest.is_empty()));
        }
    }
    answer.end(&buffer)?;
    Ok((answer.head().clone(), answer.body(&buffer).to_vec(), true))
}

fn body(text: &str) -> Result<String, AnswerError> {
    let whole = read(text.as_bytes(), false, &[usize::MAX]);
    for sizes in [&[1][..], &[3], &[7, 1]] {
        let pieces = read(text.as_bytes(), false, sizes);
        match (&whole, &pieces) {
            (Ok(a), Ok(b)) => assert_eq!((&a.1, a.0.status), (&b.1, b.0.status), "{text:?} in pieces of {sizes:?}"),
            (a, b) => assert_eq!(a.as_ref().err(), b.as_ref().err(), "{text:?} in pieces of {sizes:?}"),
        }
    }
    whole.map(|(_, body, _)| String::from_utf8(body).unwrap())
}

#[test]
fn the_three_framings() {
    assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap(), "hello");
    assert_eq!(body("HTTP/1.1 200 OK\n\nuntil close").unwrap(), "until close");
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
    assert_eq!(body(chunked).unwrap(), "hello world");
    assert_eq!(body("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), "");
    assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nold").unwrap(), "old");
}

#[test]
fn interim_answers_are_skipped() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(body(text).unwrap(), "ok");
    assert_eq!(body("HTTP/1.1 101 Switching Protocols\r\n\r\n"), Err(AnswerError::Switched));
}

#[test]
fn a_head_answer_has_no_body() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    let (head, body, _) = read(text, true, &[1]).unwrap();
    assert_eq!((head.status, body.len(), head.keep_alive), (200, 0, true));
}

#[test]
fn keep_alive_is_told() {
    let keeps = |text: &str| read(text.as_bytes(), false, &[usize::MAX]).unwrap().0.keep_alive;
    assert!(keeps("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: foo, Close\r\n\r\n"));
    assert!(!keeps("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(keeps("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy"), "more than the answer");
    assert!(!keeps("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
}

#[test]
fn what_is_no_answer_is_refused() {
    let error = |text: &str| body(text).unwrap_err();
    assert_eq!(error(""), AnswerError::Empty);
    assert_eq!(error("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), AnswerError::Cut);
    assert_eq!(error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), AnswerError::Cut);
    assert_eq!(error("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), AnswerError::Length);
    for bad in ["-1", "x", "1x", ""] {
        assert_eq!(error(&format!("HTTP/1.1 200 OK\r\nContent-Length: {bad}\r\n\r\n")), AnswerError::Length);
    }
    assert_eq!(error("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), AnswerError::Coding);
    for bad in ["x\r\n", "5\r\nhelloX\r\n", "\r\n"] {
        assert_eq!(error(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{bad}")), AnswerError::Coding);
    }
    assert!(matches!(error("SSH-2.0-OpenSSH_9.2\r\n\r\n"), AnswerError::NotHttp(_)));
    let garbage = read(b"SSH-2.0-OpenSSH_9.2\r\n", false, &[usize::MAX]);
    assert!(matches!(garbage, Err(AnswerError::NotHttp(_))), "told before the deadline: {garbage:?}");
}

#[test]
fn head_and_body_are_bounded() {
    let over = MAX_BODY + 1;
    assert_eq!(body(&format!("HTTP/1.1 200 OK\r\nContent-Length: {over}\r\n\r\n")), Err(AnswerError::BodyTooLarge));
    assert_eq!(
        body("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
        Err(AnswerError::BodyTooLarge)
    );
    let text = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(over));
    assert_eq!(read(text.as_bytes(), false, &[65_536]).unwrap_err(), AnswerError::BodyTooLarge);
    let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{over:x}\r\n");
    assert_eq!(body(&text), Err(AnswerError::BodyTooLarge));
    let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n", "f".repeat(30));
    assert_eq!(body(&text), Err(AnswerError::BodyTooLarge));
    let many = "1\r\nx\r\n".repeat(MAX_BODY / 2);
    let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{many}");
    assert_eq!(read(text.as_bytes(), false, &[65_536]).unwrap_err(), AnswerError::BodyTooLarge, "framing counts too");
    let text = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    assert_eq!(read(text.as_bytes(), false, &[1000]).unwrap_err(), AnswerError::HeadTooLarge);
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 20);
    assert_eq!(read(interim.as_bytes(), false, &[1000]).unwrap_err(), AnswerError::HeadTooLarge);
    let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(200));
    assert!(matches!(read(text.as_bytes(), false, &[1000]), Err(AnswerError::NotHttp(_))));
}

proptest! {
    #[test]
    fn any_bytes_any_pieces(bytes in proptest::collection::vec(any::<u8>(), 0..600), sizes in proptest::collection::vec(1_usize..80, 1..8)) {
        let _ = read(&bytes, false, &sizes);
        let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        text.extend_from_slice(&bytes);
        let _ = read(&text, false, &sizes);
    }

    #[test]
    fn chunks_in_any_pieces(parts in proptest::collection::vec("[a-z]{1,40}", 0..10), sizes in proptest::collection::vec(1_usize..30, 1..8)) {
        let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        parts.iter().for_each(|p| text.push_str(&format!("{:x}\r\n{p}\r\n", p.len())));
        text.push_str("0\r\n\r\n");
        let (head, body, _) = read(text.as_bytes(), false, &sizes).unwrap();
        prop_assert_eq!(String::from_utf8(body).unwrap(), parts.concat());
        prop_assert!(head.keep_alive);
    }
}
