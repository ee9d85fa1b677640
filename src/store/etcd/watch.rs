//! One watch stream: what its messages mean (pure), and the task that reads it and finds it dead.

use std::collections::{BTreeMap, VecDeque};

use etcd_client::{Client, KeyValue, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::convert::{self, Failure};
use super::options::{EtcdTimes, Root, range_end};
use super::{DECODE_LIMIT, Shared};
use crate::store::{Event, StoreError, WatchMessage};

/// Messages that may wait for a slow reader.
const QUEUE: usize = 64;
/// etcd's number for a delete.
const DELETE: i32 = 1;

/// What a message of the stream says.
#[derive(Debug)]
enum Said {
    /// A watch was made.
    Created,
    /// Only that the stream lives.
    Alive,
    Message(WatchMessage),
    /// The watch was refused or ended.
    Canceled(String),
}

/// Reads messages; keeps the halves of events that came in fragments.
struct Reader {
    root: Root,
    /// Changes of earlier revisions were not asked for.
    from: i64,
    fragments: BTreeMap<i64, Vec<Event>>,
}

impl Reader {
    fn read(&mut self, response: WatchResponse) -> Said {
        let response = response.0;
        // Compaction first: such a message has no events, no reason, and a header of revision 0.
        if response.compact_revision > 0 {
            return Said::Message(WatchMessage::Compacted { compact_revision: response.compact_revision });
        }
        if response.canceled {
            return Said::Canceled(response.cancel_reason);
        }
        if response.created {
            return Said::Created;
        }
        let events = response.events.into_iter().filter_map(|event| {
            let kv = KeyValue(event.kv?);
            if kv.mod_revision() < self.from {
                return None;
            }
            if event.r#type == DELETE {
                let revision = kv.mod_revision();
                return Some(Event::Delete { key: self.root.relative(kv.key())?, revision });
            }
            convert::pair(&self.root, kv).map(Event::Put)
        });
        let pending = self.fragments.entry(response.watch_id).or_default();
        pending.extend(events);
        if response.fragment {
            return Said::Alive;
        }
        match self.fragments.remove(&response.watch_id) {
            Some(events) if !events.is_empty() => Said::Message(WatchMessage::Events(events)),
            _ => Said::Alive,
        }
    }
}

/// An open stream.
pub(super) struct Stream {
    reader: Reader,
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    /// What came while the watches were made.
    early: VecDeque<WatchMessage>,
}

/// Opens one stream with a watch for each prefix, and waits until all are made. The caller bounds the time.
pub(super) async fn open(client: &Client, root: &Root, prefixes: &[String], from: i64) -> Result<Stream, Failure> {
    let what = |i: usize| prefixes.get(i).map_or_else(String::new, Clone::clone);
    let failed = |e| convert::failure(e, &format!("watch {}", prefixes.join(" ")));
    // One earlier than asked for: since 3.5.8 etcd gives no sign of life while a watch lies ahead of the store, and a watch
    // that goes on from a list does so until somebody writes.
    let start = from.saturating_sub(1).max(1);
    let options =
        |prefix: &[u8]| WatchOptions::new().with_range(range_end(prefix)).with_start_revision(start).with_fragment();
    let mut keys = prefixes.iter().map(|p| root.full(p));
    let first = keys.next().unwrap_or_else(|| root.full(""));
    let mut watcher = client.watch_client().max_decoding_message_size(DECODE_LIMIT);
    let first_options = options(&first);
    let (mut requests, mut responses) = watcher.watch(first, Some(first_options)).await.map_err(failed)?.split();
    for key in keys {
        let options = options(&key);
        requests.watch(key, Some(options)).await.map_err(failed)?;
    }
    let mut reader = Reader { root: root.clone(), from, fragments: BTreeMap::new() };
    let (mut created, mut early) = (0, VecDeque::new());
    while created < prefixes.len().max(1) {
        let Some(response) = responses.message().await.map_err(failed)? else {
            return Err(Failure::Retry { reason: "the watch ended".to_owned(), ambiguous: false, source: None });
        };
        match reader.read(response) {
            Said::Created => created += 1,
            Said::Alive => {}
            Said::Message(message) => {
                let compacted = matches!(message, WatchMessage::Compacted { .. });
                early.push_back(message);
                if compacted {
                    break;
                }
            }
            // etcd answers the requests in order: the count tells which prefix it was.
            Said::Canceled(reason) => return Err(refused(&reason, &what(created))),
        }
    }
    Ok(Stream { reader, requests, responses, early })
}

fn refused(reason: &str, prefix: &str) -> Failure {
    if reason.contains("permission denied") || reason.contains("PermissionDenied") {
        return Failure::Final(StoreError::Denied(format!("watch {prefix}: {reason}")));
    }
    if reason.contains("auth token") || reason.contains("Unauthenticated") {
        return Failure::Login(format!("watch {prefix}: {reason}"));
    }
    Failure::Retry { reason: format!("the watch was refused: {reason}"), ambiguous: false, source: None }
}

/// Starts the task that reads the stream until its reader is gone, it breaks, or it is found dead.
pub(super) fn spawn(stream: Stream, times: EtcdTimes, home: Shared) -> mpsc::Receiver<WatchMessage> {
    let (out, messages) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Some(reason) = follow(stream, times, &out).await {
            tracing::info!(reason, "a watch ended");
            // Out of the way first: whoever reads will open the next one as soon as this channel closes.
            home.disappointed(&reason).await;
        }
    });
    messages
}

/// Returns why the stream ended, `None` when nobody reads any more or there is no more to read.
async fn follow(mut stream: Stream, times: EtcdTimes, out: &mpsc::Sender<WatchMessage>) -> Option<String> {
    for message in stream.early.drain(..) {
        out.send(message).await.ok()?;
    }
    let mut ask = tokio::time::interval(times.watch_ask);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = out.closed() => return None,
            response = stream.responses.message() => {
                let response = match response {
                    Ok(Some(response)) => response,
                    Ok(None) => return Some("the stream ended".to_owned()),
                    Err(error) => return Some(error.to_string()),
                };
                match stream.reader.read(response) {
                    // Progress never moves the resume point: on 3.4 it overtakes changes that are still to come.
                    Said::Created | Said::Alive => { let _ = out.try_send(WatchMessage::Alive); }
                    Said::Message(message) => {
                        let last = matches!(message, WatchMessage::Compacted { .. });
                        out.send(message).await.ok()?;
                        if last {
                            return None;
                        }
                    }
                    Said::Canceled(reason) => return Some(format!("the watch was ended: {reason}")),
                }
                // Taken after the send: a slow reader is not the stream's silence.
                heard = Instant::now();
            }
            _ = ask.tick() => {
                if heard.elapsed() >= times.watch_dead {
                    return Some(format!("the watch was silent for {:?}", times.watch_dead));
                }
                // The request only goes into a queue of 100: far more than there are questions before the end above.
                if let Err(error) = stream.requests.request_progress().await {
                    return Some(error.to_string());
                }
            }
        }
    }
}
