//! Opens the store that the options name.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use super::{
    RuntimeError,
    options::{Options, StoreOptions},
};
use crate::{
    clock::Clock,
    model::{Now, secret::Secret},
    store::{
        Embedded, Store,
        etcd::{Credentials, Etcd, EtcdOptions, TlsFiles},
    },
};

/// Longest instance id that is read back.
const MAX_INSTANCE: u64 = 256;

/// Opens it. An etcd that does not answer yet is no error: the feed tries on.
///
/// # Errors
/// A file that cannot be read, options that do not fit, a data directory that another process uses.
pub fn open(options: &Options, clock: &Clock) -> Result<Arc<dyn Store>, RuntimeError> {
    match &options.store {
        StoreOptions::Embedded => {
            if options.data_dir.is_none() {
                tracing::info!("no data directory: acks, switches and the catalog are lost when the process ends");
            }
            Ok(Arc::new(Embedded::open(options.data_dir.as_deref(), clock.clone())?))
        }
        StoreOptions::Etcd(flags) => {
            let user = flags.user.as_ref().map(|(name, file)| {
                // Read once now for a clear refusal; the engine reads it again for each new connection.
                read("--etcd-password-file", file)?;
                Ok::<_, RuntimeError>(Credentials { name: name.clone(), password: Secret::File { file: file.clone() } })
            });
            let (cert, key) = flags.client_cert.clone().unzip();
            Ok(Arc::new(Etcd::new(EtcdOptions {
                user: user.transpose()?,
                tls: TlsFiles { ca: flags.ca.clone(), cert, key },
                socks_proxy: options.socks_proxy.clone(),
                ..EtcdOptions::new(flags.endpoints.clone(), options.root.clone())
            })?))
        }
    }
}

fn read(flag: &'static str, path: &Path) -> Result<String, RuntimeError> {
    std::fs::read_to_string(path).map_err(|cause| RuntimeError::File { flag, path: path.display().to_string(), cause })
}

/// This node's life in its data directory: while it is held, no other process takes the directory for a node of this name.
#[derive(Debug)]
pub struct Life {
    /// What tells this node from another of its name: made once and kept, so that a restarted node knows its own earlier
    /// life.
    pub instance: String,
    /// Locked as long as it is open.
    _file: Option<File>,
}

/// Takes the node's place in its data directory.
///
/// # Errors
/// The data directory cannot be written, or another process runs a node of this name on it.
pub fn life(options: &Options, now: Now) -> Result<Life, RuntimeError> {
    let fresh = format!("{:x}-{:x}-{:x}", now.wall.as_millis(), now.mono.elapsed().as_nanos(), std::process::id());
    let Some(dir) = &options.data_dir else { return Ok(Life { instance: fresh, _file: None }) };
    let path = dir.join(format!("instance-{}", options.node));
    let failed = |cause| RuntimeError::File { flag: "--data-dir", path: path.display().to_string(), cause };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let mut open = OpenOptions::new();
    let mut file = open.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(RuntimeError::NodeRuns { path: path.display().to_string() }),
        Err(TryLockError::Error(cause)) => return Err(failed(cause)),
    }
    let mut kept = String::new();
    (&file).take(MAX_INSTANCE).read_to_string(&mut kept).map_err(failed)?;
    let kept = kept.trim().to_owned();
    if !kept.is_empty() {
        return Ok(Life { instance: kept, _file: Some(file) });
    }
    file.write_all(fresh.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(Life { instance: fresh, _file: Some(file) })
}
