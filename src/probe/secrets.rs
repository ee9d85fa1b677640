//! Reads secrets from files off the probe thread, at most once a second for each file. Values are never shown.

use std::{borrow::Cow, cell::RefCell, collections::BTreeMap, path::PathBuf, rc::Rc, time::Duration};

use tokio::io::AsyncReadExt;

use crate::{
    clock::Clock,
    model::{Mono, secret::Secret},
};

/// Largest file taken, in bytes.
const MAX_FILE: u64 = 64 * 1024;
const KEEP: Duration = Duration::from_secs(1);

/// A secret's file could not be used; the text names the file, never its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the secret in {file}: {problem}")]
pub struct SecretError {
    file: String,
    problem: String,
}

/// The latest content of each secret's file.
#[derive(Debug)]
pub struct Secrets {
    clock: Clock,
    files: RefCell<BTreeMap<PathBuf, (Mono, Rc<str>)>>,
}

impl Secrets {
    /// Nothing read yet.
    #[must_use]
    pub const fn new(clock: Clock) -> Self {
        Self { clock, files: RefCell::new(BTreeMap::new()) }
    }

    /// Whether no file is behind it.
    #[must_use]
    pub const fn is_inline(secret: &Secret) -> bool {
        matches!(secret, Secret::Inline(_))
    }

    /// The text itself, a trailing line break cut where it comes from a file.
    ///
    /// # Errors
    /// `SecretError` when the file cannot be read, is over 64 KiB or is no UTF-8.
    pub async fn read<'s>(&self, secret: &'s Secret) -> Result<Cow<'s, str>, SecretError> {
        let file = match secret {
            Secret::Inline(text) => return Ok(Cow::Borrowed(text)),
            Secret::File { file } => file,
        };
        let now = self.clock.mono();
        let kept = self.files.borrow().get(file).filter(|(at, _)| now.since(*at) < KEEP).map(|(_, v)| Rc::clone(v));
        if let Some(value) = kept {
            return Ok(Cow::Owned(value.to_string()));
        }
        let fault = |problem: String| SecretError { file: file.display().to_string(), problem };
        let opened = tokio::fs::File::open(file).await.map_err(|e| fault(e.to_string()))?;
        let mut bytes = Vec::new();
        let read = opened.take(MAX_FILE + 1).read_to_end(&mut bytes).await.map_err(|e| fault(e.to_string()))?;
        if read as u64 > MAX_FILE {
            return Err(fault("it is over 64 KiB".to_owned()));
        }
        let text = String::from_utf8(bytes).map_err(|_| fault("it is no UTF-8 text".to_owned()))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let mut files = self.files.borrow_mut();
        files.retain(|_, (at, _)| now.since(*at) < KEEP);
        files.insert(file.clone(), (now, Rc::from(text)));
        Ok(Cow::Owned(text.to_owned()))
    }
}
