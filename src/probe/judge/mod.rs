//! Turns an answer into a judgement: pure, one file per format. Whatever a target sends, the result is bounded, and
//! anything that cannot be read as healthy is not.

pub mod auto;
pub mod certificate;
pub mod document;
pub mod expect;
pub mod ft;
pub mod health_json;
pub mod loose;
pub mod spring;
pub mod status;
pub mod text;

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{
    DocumentCheck, Outcome,
    target::{Check, Format},
};

/// An HTTP answer as the judges see it.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Status code.
    pub status: u16,
    /// Content-Type, as written.
    pub content_type: Option<&'a str>,
    /// The decoded body.
    pub body: &'a [u8],
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Good or bad.
    pub outcome: Outcome,
    /// One line, at most `text::MAX_OUTPUT` bytes.
    pub output: Arc<str>,
    /// The document's own checks, bounded.
    pub checks: Option<Arc<[DocumentCheck]>>,
    /// Checks that the bound left out.
    pub checks_left_out: u32,
    /// The document's system code.
    pub system_code: Option<Arc<str>>,
    /// Values picked for the rules.
    pub properties: Option<Arc<BTreeMap<String, serde_json::Value>>>,
}

impl Judgement {
    fn new(good: bool, output: impl Into<Arc<str>>) -> Self {
        Self {
            outcome: if good { Outcome::Good } else { Outcome::Bad },
            output: output.into(),
            checks: None,
            checks_left_out: 0,
            system_code: None,
            properties: None,
        }
    }

    /// Good, with a line of our own.
    #[must_use]
    pub fn good(output: &str) -> Self {
        Self::new(true, output)
    }

    /// Bad, with a line that may have foreign text in it.
    #[must_use]
    pub fn bad(output: &str) -> Self {
        Self::new(false, text::clean(output, text::MAX_OUTPUT))
    }

    /// Makes it bad; the reason stands first in the output.
    fn fail(&mut self, reason: &str) {
        let mut output = String::new();
        text::push_clean(&mut output, reason, text::MAX_OUTPUT);
        if !self.outcome.is_good() && output.len() + 4 < text::MAX_OUTPUT {
            output.push_str("; ");
            let before = output.len();
            text::push_clean(&mut output, &self.output, text::MAX_OUTPUT);
            if output.len() == before {
                output.truncate(before - 2);
            }
        }
        self.outcome = Outcome::Bad;
        self.output = output.into();
    }
}

/// Judges an answer by the check's format and expectations.
#[must_use]
pub fn judge(check: &Check, reply: &Reply<'_>) -> Judgement {
    let mut judgement = match check.format {
        Format::Status => status::judge(check, reply),
        Format::Ft => ft::judge(check, reply),
        Format::HealthJson => health_json::judge(check, reply),
        Format::Spring => spring::judge(check, reply),
        Format::Auto => auto::judge(check, reply),
    };
    expect::apply(check, reply, &mut judgement);
    judgement
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
