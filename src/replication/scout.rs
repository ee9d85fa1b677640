//! Asks the nodes that are known what they say of themselves, while the store does not tell (design section 4.5). What
//! follows from their answers is decided by `controller`.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{PeerError, Peers};
use crate::{chance::Chance, model::cluster::PeerNode};

/// Most nodes that are asked.
pub const MAX_ASKED: usize = 64;
/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const EACH: Duration = Duration::from_millis(800);
/// Rounds of different nodes are spread over this time.
const SPREAD: Duration = Duration::from_millis(50);

/// What each node of a round said, in the order of the URLs.
pub type Round = Vec<(String, Result<PeerNode, PeerError>)>;

/// Asks all of `urls` (the first 64) each second while `active`, the first time at once. A round is handed on when all have
/// answered or their time is over; a reader that is slow gets fewer rounds.
#[must_use]
pub fn spawn(
    peers: Arc<dyn Peers>,
    chance: Chance,
    urls: watch::Receiver<Vec<String>>,
    active: watch::Receiver<bool>,
    cancel: CancellationToken,
) -> (mpsc::Receiver<Round>, JoinHandle<()>) {
    let (out, rounds) = mpsc::channel(1);
    let task = async move {
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = run(peers, chance, urls, active, out) => {}
        }
    };
    (rounds, tokio::spawn(task))
}

async fn run(
    peers: Arc<dyn Peers>,
    chance: Chance,
    urls: watch::Receiver<Vec<String>>,
    mut active: watch::Receiver<bool>,
    out: mpsc::Sender<Round>,
) {
    while active.wait_for(|active| *active).await.is_ok() {
        let begun = Instant::now();
        let asked: Vec<String> = urls.borrow().iter().take(MAX_ASKED).cloned().collect();
        let round = join_all(asked.into_iter().map(|url| ask(peers.as_ref(), url))).await;
        // Answers to a question that is no longer asked would mislead.
        if *active.borrow() && out.send(round).await.is_err() {
            return;
        }
        let next = begun.checked_add(EVERY.saturating_add(chance.up_to(SPREAD)));
        tokio::time::sleep_until(next.unwrap_or(begun)).await;
    }
}

async fn ask(peers: &dyn Peers, url: String) -> (String, Result<PeerNode, PeerError>) {
    let answer = timeout(EACH, peers.node(&url)).await;
    let late = |_| PeerError::Unreachable { url: url.clone(), reason: "no answer in time".to_owned() };
    let answer = answer.map_err(late).flatten();
    (url, answer)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Net, *};
    use crate::model::{RegionName, Role, StoreState};

    fn peer(name: &str) -> PeerNode {
        PeerNode {
            node: super::super::testing::name(name),
            region: RegionName::default_region(),
            role: Role::Autonomous,
            term: 4,
            leader: None,
            leader_url: None,
            leader_term: None,
            store: StoreState::Lost,
            static_leader: true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_asked_each_second_while_active_and_none_waits_for_another() {
        let net = Arc::new(Net::default());
        let known = [("http://a", Some(peer("a"))), ("http://mute", None), ("http://b", Some(peer("b")))];
        net.nodes.lock().unwrap().extend(known.map(|(url, node)| (url.to_owned(), node)));
        let mut all: Vec<String> = ["http://a", "http://mute", "http://gone", "http://b"].map(String::from).into();
        all.extend((0..100).map(|n| format!("http://x{n}")));
        let (_urls, watched) = watch::channel(all);
        let (active, is_active) = watch::channel(false);
        let cancel = CancellationToken::new();
        let (mut rounds, task) = spawn(net, Chance::seeded(1), watched, is_active, cancel.clone());
        let long = Duration::from_secs(5);
        assert!(timeout(long, rounds.recv()).await.is_err(), "not active");
        active.send(true).unwrap();
        let begun = Instant::now();
        for round in 0..3 {
            let answers = timeout(long, rounds.recv()).await.unwrap().unwrap();
            assert_eq!(answers.len(), MAX_ASKED);
            let said: Vec<Option<&str>> =
                answers.iter().take(4).map(|(_, a)| a.as_ref().ok().map(|n| n.node.as_str())).collect();
            assert_eq!(said, [Some("a"), None, None, Some("b")]);
            let passed = begun.elapsed().as_secs_f64() - f64::from(round);
            assert!((0.79..1.0).contains(&passed), "{passed}");
        }
        active.send(false).unwrap();
        assert!(timeout(long, rounds.recv()).await.is_err(), "no longer active");
        cancel.cancel();
        timeout(long, task).await.unwrap().unwrap();
    }
}
