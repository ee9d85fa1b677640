//! Ports for servers that must be told theirs (etcd, HAProxy, carbon), and addresses where nobody listens.
//!
//! A port that the system gave for 0 and that was closed again is given again at once to whoever asks next: of 60 clusters
//! of three etcd members one lacked a member for that. Ports here lie below those that the system gives of itself, so that
//! neither a listener on port 0 nor an outgoing connection gets one; and a locked file keeps them from other tests until
//! the process ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::{BuildHasher as _, Hasher as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// The lowest port taken here; below it the usual services of a machine are.
const FIRST: u16 = 12_000;
/// Where the system's own choice begins, if it does not say so.
const USUAL_END: u16 = 32_768;

/// The locked files of this process's ports.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of the loopback device that nobody has, for TCP and UDP, and that nobody gets while this process runs.
pub fn free() -> u16 {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
    std::fs::create_dir_all(&dir).unwrap();
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(USUAL_END);
    let end = if end > FIRST { end } else { u16::MAX };
    let start = RandomState::new().build_hasher().finish();
    let room = u64::from(end - FIRST);
    for step in 0..room {
        let port = FIRST + u16::try_from((start % room + step) % room).unwrap();
        let file = File::create(dir.join(port.to_string())).unwrap();
        let address = (Ipv4Addr::LOCALHOST, port);
        let free = || TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
        if file.try_lock().is_ok() && free() {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            return port;
        }
    }
    panic!("no port from {FIRST} to {end} is free");
}

/// An address where nobody listens: for a server that is told it, or for none.
#[allow(dead_code)]
pub fn nobody() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free()).into()
}
