//! `serve --catalog FILE`: the file is the catalog of the embedded store. It is read at the start and whenever it
//! changes; a faulty one changes nothing and is shown as a fault.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::file,
    model::{Fault, FaultLevel, Timestamp},
    web::port::{ApplyOptions, EditError, Port},
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Largest file that is read.
const MAX_SIZE: u64 = 64 << 20;
/// The source of these faults.
pub const SOURCE: &str = "catalog file";

/// Keeps the store equal to the file.
pub struct CatalogFile {
    /// The file.
    pub path: PathBuf,
    /// Who writes the keys.
    pub port: Arc<dyn Port>,
    /// Where its faults go.
    pub faults: mpsc::Sender<(&'static str, Vec<Fault>)>,
    /// Time, for `since`.
    pub clock: Clock,
}

impl CatalogFile {
    /// Looks at the file until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut seen: Option<(SystemTime, u64)> = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let stamp = stamp(&self.path);
            if stamp.as_ref().is_ok_and(|stamp| seen.as_ref() == Some(stamp)) {
                continue;
            }
            let faults = match self.load().await {
                Ok(()) => {
                    seen = stamp.ok();
                    tracing::info!(path = %self.path.display(), "catalog file applied");
                    Vec::new()
                }
                Err(Failure::Retry) => continue,
                Err(Failure::Faults(faults)) => {
                    seen = stamp.ok();
                    faults
                }
            };
            if self.faults.send((SOURCE, faults)).await.is_err() {
                return;
            }
        }
    }

    async fn load(&self) -> Result<(), Failure> {
        let name = self.path.display().to_string();
        let since = self.clock.now().wall;
        let text = read(&self.path)
            .await
            .map_err(|reason| Failure::Faults(vec![fault(&name, reason, "a readable catalog file", None, since)]))?;
        let document = file::parse_catalog(&name, &text).map_err(|faults| {
            let whole = |f: file::FileFault| {
                let at = format!("{}:{}:{} {}", f.file, f.line, f.column, f.path);
                fault(at.trim_end(), f.reason, &f.expected, f.nearest, since)
            };
            Failure::Faults(faults.into_iter().map(whole).collect())
        })?;
        drop(text);
        match self.port.apply(document, ApplyOptions { dry_run: false, prune: true }).await {
            Ok(_) => Ok(()),
            // The store is not synced yet: the next look tries again.
            Err(EditError::StoreLost(_) | EditError::Conflict) => Err(Failure::Retry),
            Err(EditError::Invalid { faults }) => {
                let named = |f: Fault| Fault { key: format!("{name} {}", f.key), ..f };
                Err(Failure::Faults(faults.into_iter().map(named).collect()))
            }
            Err(error) => {
                Err(Failure::Faults(vec![fault(&name, error.to_string(), "a catalog that can be stored", None, since)]))
            }
        }
    }
}

enum Failure {
    Retry,
    Faults(Vec<Fault>),
}

fn stamp(path: &Path) -> std::io::Result<(SystemTime, u64)> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.modified()?, meta.len()))
}

async fn read(path: &Path) -> Result<String, String> {
    let meta = tokio::fs::metadata(path).await.map_err(|e| e.to_string())?;
    if meta.len() > MAX_SIZE {
        return Err(format!("it is larger than {} MiB", MAX_SIZE >> 20));
    }
    tokio::fs::read_to_string(path).await.map_err(|e| e.to_string())
}

fn fault(key: &str, reason: String, expected: &str, nearest: Option<String>, since: Timestamp) -> Fault {
    Fault {
        key: key.to_owned(),
        level: FaultLevel::Fault,
        value: String::new(),
        reason,
        expected: expected.to_owned(),
        nearest,
        since,
    }
}
