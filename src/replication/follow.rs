//! The follower's side of the stream: dials the leader that the controller names, puts frames together, refuses what does
//! not follow from what it has (a lower term, another node's frames, a gap), and dials again where it left off. What a
//! frame changes in this node is decided by `controller`.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Peers,
    frame::{Decoder, Entry, Frame, FrameError, Head},
};
use crate::{
    bugs::{self, Bug},
    chance::Chance,
    clock::Clock,
    model::NodeName,
};

/// Without a byte for this long the leader is taken for dead (design section 4.4).
pub const DEAD_AFTER: Duration = Duration::from_secs(3);
/// Longest wait for a connection.
const DIAL: Duration = Duration::from_secs(3);
/// First and longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Most messages that wait for the controller.
const WAITING: usize = 16;
/// Longest reason, in characters.
const REASON_CHARS: usize = 300;

/// Whom to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its name.
    pub node: NodeName,
    /// Where it is: scheme, host and port.
    pub url: String,
    /// Its term, as this node knows it: frames of a lower one are refused.
    pub term: i64,
}

/// What came from the leader.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The stream is open; nothing has come yet.
    Connected,
    /// Every target: replaces what was heard before.
    Full(Head, Vec<Entry>),
    /// The targets that changed since the last frame.
    Delta(Head, Vec<Entry>),
    /// Nothing has changed since the last frame.
    Heartbeat(Head),
    /// The stream broke off, or could not be opened; another attempt follows by itself.
    Lost {
        /// Why; one line.
        reason: String,
    },
}

/// Why a stream is given up.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("{0}")]
    Dial(#[from] super::PeerError),
    #[error("no answer from {0} in time")]
    Late(String),
    #[error("the stream was closed")]
    Closed,
    #[error("nothing has come for {} s", DEAD_AFTER.as_secs())]
    Silent,
    #[error("the stream cannot be read: {0}")]
    Frame(#[from] FrameError),
    #[error("frames of node {got} came from {expected}'s address")]
    Node { got: NodeName, expected: NodeName },
    #[error("a frame of term {got} came, below term {known}")]
    Term { got: i64, known: i64 },
    #[error("a gap: number {got} came after {had}")]
    Gap { got: u64, had: u64 },
    #[error("the stream does not begin with a full frame")]
    NoFull,
    /// The controller has gone.
    #[error("nobody listens")]
    Deaf,
}

/// Follows whom `whom` names until `cancel`. A slow reader of the channel slows only the reading of the stream. Whoever sets
/// another leader, or none, throws away what still waits in the channel by its head; the next stream begins with a full frame
/// then. The same leader and term at another address goes on where it was.
#[must_use]
pub fn spawn(
    peers: Arc<dyn Peers>,
    clock: Clock,
    chance: Chance,
    whom: watch::Receiver<Option<Leader>>,
    cancel: CancellationToken,
) -> (mpsc::Receiver<Heard>, JoinHandle<()>) {
    let (out, heard) = mpsc::channel(WAITING);
    let follower = Follower { peers, clock, chance, out, has: None };
    (heard, tokio::spawn(follower.run(whom, cancel)))
}

struct Follower {
    peers: Arc<dyn Peers>,
    clock: Clock,
    chance: Chance,
    out: mpsc::Sender<Heard>,
    /// Term and number of the last frame that was handed on.
    has: Option<(i64, u64)>,
}

impl Follower {
    async fn run(mut self, mut whom: watch::Receiver<Option<Leader>>, cancel: CancellationToken) {
        let mut leader = whom.borrow_and_update().clone();
        loop {
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                next = another(&mut whom, leader.as_ref()) => next,
                () = self.follow(leader.as_ref()) => return,
            };
            let who = |l: &Option<Leader>| l.as_ref().map(|l| (l.node.clone(), l.term));
            if who(&next) != who(&leader) {
                self.has = None;
            }
            leader = next;
        }
    }

    /// Follows one leader; ends only when nobody listens any more.
    async fn follow(&mut self, leader: Option<&Leader>) {
        let Some(leader) = leader else { return pending().await };
        let (mut wait, mut barren) = (RETRY.0, false);
        loop {
            let before = self.has;
            let gone = match self.stream(leader).await {
                Err(gone) => gone,
                Ok(never) => match never {},
            };
            if matches!(gone, Gone::Deaf) {
                return;
            }
            let lost = Heard::Lost { reason: gone.to_string().chars().take(REASON_CHARS).collect() };
            if self.out.send(lost).await.is_err() {
                return;
            }
            let fruitful = self.has != before;
            if matches!(gone, Gone::Gap { .. } | Gone::NoFull) && barren && !fruitful {
                // It does not go on from where we are: begin anew.
                self.has = None;
            }
            barren = !fruitful;
            if fruitful {
                wait = RETRY.0;
            }
            tokio::time::sleep(self.chance.jitter(wait)).await;
            wait = wait.saturating_mul(2).min(RETRY.1);
        }
    }

    /// One connection, to its end.
    async fn stream(&mut self, leader: &Leader) -> Result<std::convert::Infallible, Gone> {
        let dialled = timeout(DIAL, self.peers.stream(&leader.url, self.has)).await;
        let mut bytes = dialled.map_err(|_| Gone::Late(leader.url.clone()))??;
        self.tell(Heard::Connected).await?;
        let mut decoder = Decoder::default();
        loop {
            let chunk: Bytes = match timeout(DEAD_AFTER, bytes.recv()).await {
                Err(_) => return Err(Gone::Silent),
                Ok(None) => return Err(Gone::Closed),
                Ok(Some(chunk)) => chunk,
            };
            decoder.push(&chunk);
            let mono = self.clock.mono();
            while let Some(frame) = decoder.next(mono)? {
                self.take(leader, frame).await?;
            }
        }
    }

    async fn take(&mut self, leader: &Leader, frame: Frame) -> Result<(), Gone> {
        let (Frame::Full(head, _) | Frame::Delta(head, _) | Frame::Heartbeat(head)) = &frame;
        if head.node != leader.node {
            return Err(Gone::Node { got: head.node.clone(), expected: leader.node.clone() });
        }
        let known = self.has.map_or(leader.term, |(term, _)| term.max(leader.term));
        if head.term < known && !bugs::is(Bug::LowerTermTaken) {
            return Err(Gone::Term { got: head.term, known });
        }
        let now = (head.term, head.seq);
        let had = self.has.filter(|(term, _)| *term == head.term).map(|(_, seq)| seq);
        let heard = match (frame, had) {
            // A leader does not number back; where one does, the second attempt begins anew.
            (Frame::Full(head, _), Some(had)) if head.seq < had => return Err(Gone::Gap { got: head.seq, had }),
            (Frame::Full(head, entries), _) => Heard::Full(head, entries),
            (_, None) => return Err(Gone::NoFull),
            (Frame::Delta(head, entries), Some(had))
                if had.checked_add(1) == Some(head.seq) || bugs::is(Bug::DeltaOverGap) =>
            {
                Heard::Delta(head, entries)
            }
            (Frame::Heartbeat(head), Some(had)) if had == head.seq || bugs::is(Bug::DeltaOverGap) => {
                Heard::Heartbeat(head)
            }
            (Frame::Delta(head, _) | Frame::Heartbeat(head), Some(had)) => {
                return Err(Gone::Gap { got: head.seq, had });
            }
        };
        self.tell(heard).await?;
        // Only now: a frame that was not handed on has to be sent again.
        self.has = Some(now);
        Ok(())
    }

    async fn tell(&self, heard: Heard) -> Result<(), Gone> {
        self.out.send(heard).await.map_err(|_| Gone::Deaf)
    }
}

/// The next leader to follow, once it is another.
async fn another(whom: &mut watch::Receiver<Option<Leader>>, now: Option<&Leader>) -> Option<Leader> {
    loop {
        if whom.changed().await.is_err() {
            // Nobody will name another: the task ends by its token.
            return pending().await;
        }
        let next = whom.borrow_and_update().clone();
        if next.as_ref() != now {
            return next;
        }
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
