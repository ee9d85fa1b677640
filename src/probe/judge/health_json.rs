//! `application/health+json` (draft-inadarei-api-health-check): `pass`, `ok`, `up` are good, `warn` is good with a note,
//! everything else is bad. Pure.

use super::{
    Judgement, Reply,
    document::{Checks, Document, Word},
    ft, status,
    text::{MAX_OUTPUT, clean, push_clean},
};
use crate::model::target::Check;

/// Judges by the document's `status`.
#[must_use]
pub fn judge(check: &Check, reply: &Reply<'_>) -> Judgement {
    judge_with(check, reply, Word::read)
}

/// As `judge`, with a reading of the status word.
#[must_use]
pub fn judge_with(check: &Check, reply: &Reply<'_>, read: fn(&str) -> Word) -> Judgement {
    match Document::read(reply.body) {
        Ok(document) => judge_document(check, reply, document, read),
        Err(_) => {
            let mut judgement = status::judge(check, reply);
            if judgement.outcome.is_good() {
                judgement.fail("the body is no JSON object");
            }
            judgement
        }
    }
}

/// As `judge`, with the document already read and a reading of the status word.
#[must_use]
pub fn judge_document(check: &Check, reply: &Reply<'_>, document: Document<'_>, read: fn(&str) -> Word) -> Judgement {
    let mut judgement = status::judge(check, reply);
    let by_status = judgement.outcome.is_good();
    judgement.system_code = ft::system_code(&document);
    let word = document.status.text().map(|w| clean(w, 64));
    let meaning = word.as_deref().map_or(Word::Fail, read);
    let shown = word.map_or_else(|| "no status in the document".to_owned(), |w| format!("status {w}"));
    let mut line = shown;
    for note in [&document.output, &document.notes] {
        if let Some(note) = note.text().filter(|n| !n.is_empty()) {
            line.push_str(": ");
            push_clean(&mut line, note, MAX_OUTPUT / 2);
        }
    }
    let failing = matches!(&document.checks, Checks::Map(all) | Checks::List(all) if all.failing > 0);
    let all = match (document.checks, document.components) {
        (Checks::Map(all) | Checks::List(all), _) if failing || all.total > 0 => Some(all),
        (_, Checks::Map(all)) => Some(all),
        _ => None,
    };
    if let Some(all) = all {
        if all.failing > 0 {
            line.push_str(&format!("; {} of {} failing", all.failing, all.total));
            all.push_failing(&mut line, MAX_OUTPUT - 64);
        }
        (judgement.checks, judgement.checks_left_out) = all.keep();
    }
    if matches!(meaning, Word::Pass | Word::Warn) {
        if by_status {
            judgement.output = clean(&line, MAX_OUTPUT).into();
        }
    } else {
        judgement.fail(&line);
    }
    judgement
}
