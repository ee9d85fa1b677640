//! FT's standard: 200, the JSON parses, every `checks[].ok` is true; no checks is healthy (systems.md 1.1, 1.4). Pure.

use std::sync::Arc;

use super::{
    Judgement, Reply,
    document::{Checks, Document},
    status,
    text::{MAX_OUTPUT, clean},
};
use crate::model::target::Check;

/// Judges by FT's rule.
#[must_use]
pub fn judge(check: &Check, reply: &Reply<'_>) -> Judgement {
    match Document::read(reply.body) {
        Ok(document) => judge_document(check, reply, document),
        Err(error) => {
            let status = by_status(check, reply);
            if status.outcome.is_good() {
                let problem =
                    if error.is_data() { "no JSON object".to_owned() } else { format!("no valid JSON ({error})") };
                Judgement::new(false, clean(&format!("the body is {problem}"), MAX_OUTPUT))
            } else {
                status
            }
        }
    }
}

fn by_status(check: &Check, reply: &Reply<'_>) -> Judgement {
    let good = status::is_expected(check, reply.status, (200, 200));
    let mut output = status::phrase(reply.status);
    if !good {
        output.push_str(&format!(", expected {}", status::wanted(check, "200")));
    }
    Judgement::new(good, output)
}

/// As `judge`, with the document already read.
#[must_use]
pub fn judge_document(check: &Check, reply: &Reply<'_>, document: Document<'_>) -> Judgement {
    let mut judgement = by_status(check, reply);
    judgement.system_code = system_code(&document);
    match document.checks {
        Checks::None => {}
        Checks::Wrong | Checks::Map(_) => judgement.fail("the document's checks are no list"),
        Checks::List(all) => {
            if all.failing > 0 {
                let mut reason = format!("{} of {} checks fail", all.failing, all.total);
                all.push_failing(&mut reason, MAX_OUTPUT - 64);
                judgement.fail(&reason);
            } else if judgement.outcome.is_good() {
                let plural = if all.total == 1 { "" } else { "s" };
                judgement.output = format!("{} check{plural} ok", all.total).into();
            }
            (judgement.checks, judgement.checks_left_out) = all.keep();
        }
    }
    judgement
}

/// The document's system code, cleaned.
#[must_use]
pub fn system_code(document: &Document<'_>) -> Option<Arc<str>> {
    let code = clean(document.system_code.text()?, 128);
    if code.is_empty() { None } else { Some(Arc::from(code)) }
}
