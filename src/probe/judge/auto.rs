//! Tells the formats apart by content type and shape: FT, Spring, health+json, and for everything else the status. Pure.

use super::{
    Judgement, Reply,
    document::{Checks, Document, Word},
    ft, health_json, spring, status,
};
use crate::model::target::Check;

/// Judges by what the answer looks like.
#[must_use]
pub fn judge(check: &Check, reply: &Reply<'_>) -> Judgement {
    let kind = reply.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_json = kind.ends_with("/json") || kind.ends_with("+json");
    let body = reply.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(reply.body).trim_ascii_start();
    if !body.starts_with(b"{") {
        // Not an object: HTML, plain text, `[]`, `"ok"`, nothing. The status is all there is to go by.
        return status::judge(check, reply);
    }
    let document = match Document::read(body) {
        Ok(document) => document,
        Err(_) if says_json => {
            // It says that it is JSON and is not: half a document must not count as well.
            let mut judgement = status::judge(check, reply);
            if judgement.outcome.is_good() {
                judgement.fail("the body is no valid JSON");
            }
            return judgement;
        }
        Err(_) => return status::judge(check, reply),
    };
    if kind.contains("spring-boot.actuator") {
        return health_json::judge_document(check, reply, document, spring::read);
    }
    if kind == "application/health+json" {
        return health_json::judge_document(check, reply, document, Word::read);
    }
    if document.is_ft || matches!(document.checks, Checks::List(_)) {
        return ft::judge_document(check, reply, document);
    }
    match document.status.text() {
        Some(word) if is_spring(word, &document) => health_json::judge_document(check, reply, document, spring::read),
        Some(word) if Word::is_known(word) => health_json::judge_document(check, reply, document, Word::read),
        _ => status::judge(check, reply),
    }
}

fn is_spring(word: &str, document: &Document<'_>) -> bool {
    let spring_word = matches!(word, "UP" | "DOWN" | "OUT_OF_SERVICE" | "UNKNOWN");
    spring_word && !matches!(document.checks, Checks::Map(_))
}
