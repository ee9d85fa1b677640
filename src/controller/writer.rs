//! Leader writes: gathered by key (the last state wins), the first at once, then each 250 ms or 100 keys, each a
//! transaction fenced by the leader key (design sections 4.2 and 4.4). A failed fence gives up the leadership.

pub mod events;
mod queue;
mod repeats;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::events::Numbers;
pub use self::queue::{Queue, Reign};
use self::repeats::Repeats;
use super::{core::Write, transitions::Transition};
use crate::{
    model::{
        CategoryName, RegionName, TargetName,
        key::{CategoryField, Key},
    },
    store::{
        Compare, MAX_TXN_OPS, Op, Store, StoreError, Txn, TxnOutcome,
        keys::{NodeKey, latches_prefix, outbox_prefix, status_prefix},
        session::Session,
    },
};

/// Pause between two flushes.
const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// Operations in one flush, its event's among them; a latch may need two.
const FLUSH_OPS: usize = MAX_TXN_OPS;
/// Bound on flushing at the end: the lead must be given away soon.
const LAST_FLUSH: Duration = Duration::from_secs(2);
/// Pause after the store failed.
const RETRY: Duration = Duration::from_millis(500);
/// Pause after the store denied a write: that lasts until somebody gives the rights.
const DENIED_RETRY: Duration = Duration::from_secs(2);

/// Writes until `stop`; what waits then is flushed once more, within a bound.
pub async fn run(queue: Queue, store: Arc<dyn Store>, session: Session, region: RegionName, stop: CancellationToken) {
    let writer = Writer {
        queue,
        store,
        session,
        region,
        trouble: Mutex::default(),
        numbers: Mutex::default(),
        mute: Mutex::default(),
        repeats: Mutex::default(),
    };
    // What is under way at the stop counts into the bound: a call to a store that is out of reach takes longer than that.
    let bound = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_FLUSH).await;
    };
    tokio::select! {
        biased;
        () = writer.work(&stop) => {}
        () = bound => tracing::warn!(writes = writer.queue.depth(), "leader writes are left at the end"),
    }
}

struct Writer {
    queue: Queue,
    store: Arc<dyn Store>,
    session: Session,
    region: RegionName,
    /// What keeps writes waiting, as it was logged.
    trouble: Mutex<Option<String>>,
    /// Where events are numbered from.
    numbers: Mutex<Option<Numbers>>,
    /// The reign in which the store denied events: they are left out until the next.
    mute: Mutex<Option<Reign>>,
    /// What was written since the last event.
    repeats: Mutex<Repeats>,
}

impl Writer {
    async fn work(&self, stop: &CancellationToken) {
        let mut last: Option<Instant> = None;
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.queue.added() => {}
            }
            loop {
                self.gather(last, stop).await;
                last = Some(Instant::now());
                if stop.is_cancelled() || self.flush().await {
                    break;
                }
            }
        }
        while !self.queue.is_empty() && !self.flush().await {}
    }

    /// Waits until the next flush is due: `FLUSH_EVERY` after the last, or at once when a whole batch is there.
    async fn gather(&self, last: Option<Instant>, stop: &CancellationToken) {
        let Some(due) = last.map(|last| last + FLUSH_EVERY) else { return };
        let pause = tokio::time::sleep_until(due);
        tokio::pin!(pause);
        while self.queue.depth() < FLUSH_OPS {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = &mut pause => return,
                () = self.queue.added() => {}
            }
        }
    }

    /// Writes one batch; true when nothing is left to do now.
    async fn flush(&self) -> bool {
        let reign = self.reign();
        let Some(fence) = self.session.fence().filter(|_| self.reign() == reign) else {
            // Another leader writes its own; this one starts anew if it leads again.
            self.queue.clear(reign);
            return true;
        };
        let transitions = self.queue.take_transitions(reign, events::MOST);
        let of_event = if transitions.is_empty() && !self.repeats().may_need_event(reign) { 0 } else { events::OPS };
        let batch = self.queue.take(reign, FLUSH_OPS.saturating_sub(of_event));
        if batch.is_empty() && transitions.is_empty() {
            return true;
        }
        let numbers = match self.numbers(reign).await {
            Ok(numbers) => numbers,
            Err(error) => {
                self.queue.give_back_transitions(reign, transitions);
                return self.judge(Err(error), batch, reign).await;
            }
        };
        let tells = self.repeats().note(reign, &batch) || !transitions.is_empty();
        let event = numbers.filter(|_| tells).map_or_else(Vec::new, |n| n.ops(&self.region, &transitions));
        let told = !event.is_empty();
        let result = self.write(&batch.iter().collect::<Vec<_>>(), event.clone(), &fence, reign).await;
        if told && !batch.is_empty() && matches!(result, Err(StoreError::Invalid(_) | StoreError::Denied(_))) {
            let alone = self.write(&[], event, &fence, reign).await;
            self.settle_event(&alone, transitions, told, reign);
        } else {
            self.settle_event(&result, transitions, told, reign);
        }
        if batch.is_empty() && matches!(result, Err(StoreError::Invalid(_) | StoreError::Denied(_))) {
            return self.queue.is_empty();
        }
        if matches!(result, Err(StoreError::Invalid(_) | StoreError::Denied(_))) {
            return self.one_by_one(batch, &fence, reign).await;
        }
        self.judge(result, batch, reign).await
    }

    /// One write of a batch, or its event, is too large, or not this user's to write: it must not take the others with it.
    async fn one_by_one(&self, batch: Vec<Write>, fence: &[Compare], reign: Reign) -> bool {
        let mut denied = Vec::new();
        for (index, write) in batch.iter().enumerate() {
            match self.write(&[write], Vec::new(), fence, reign).await {
                Err(StoreError::Invalid(error)) => tracing::error!(%error, "a leader write is given up"),
                Err(error @ StoreError::Denied(_)) => {
                    if !self.latch_alone(write, &error, fence, reign).await {
                        denied.push((write.clone(), error));
                    }
                }
                Ok(TxnOutcome::Done { .. }) => self.written(write),
                result => {
                    let denied = denied.into_iter().map(|(write, _)| write);
                    let rest = denied.chain(batch.iter().skip(index).cloned()).collect();
                    return self.judge(result, rest, reign).await;
                }
            }
        }
        if denied.is_empty() { self.queue.is_empty() } else { self.wait_for_rights(denied, reign).await }
    }

    /// Tells what is denied, and tries it again later: rights can be given while it runs.
    async fn wait_for_rights(&self, denied: Vec<(Write, StoreError)>, reign: Reign) -> bool {
        // Back in the queue first: whoever is told of the trouble sees what waits.
        self.queue.give_back_last(reign, denied.iter().map(|(write, _)| write.clone()).collect());
        for (write, error) in &denied {
            self.note(&right(write, &self.region), error);
        }
        if let Some((_, error)) = denied.last() {
            self.say_waiting(error, denied.len());
        }
        tokio::time::sleep(DENIED_RETRY).await;
        false
    }

    /// One line a trouble, not one a try.
    fn say_waiting(&self, error: &StoreError, writes: usize) {
        let error = error.to_string();
        let before = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).replace(error.clone());
        if before.as_ref() != Some(&error) {
            tracing::warn!(%error, writes, "leader writes wait");
        }
    }

    fn reign(&self) -> Reign {
        Reign::of(&self.session.authority().peek())
    }

    fn repeats(&self) -> MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_mute(&self, reign: Reign) -> bool {
        *self.mute.lock().unwrap_or_else(PoisonError::into_inner) == Some(reign)
    }

    /// Where this reign's events are numbered from; read before its first write. None where the store denies that.
    async fn numbers(&self, reign: Reign) -> Result<Option<Numbers>, StoreError> {
        let known = self.numbered(reign);
        if known.is_some() || self.is_mute(reign) {
            return Ok(known);
        }
        match Numbers::read(self.store.as_ref(), &self.region, reign).await {
            Ok(numbers) => *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = Some(numbers),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => self.no_events(reign, &error),
        }
        Ok(self.numbered(reign))
    }

    fn numbered(&self, reign: Reign) -> Option<Numbers> {
        let known = *self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|numbers| numbers.are_of(reign) && !self.is_mute(reign))
    }

    /// The states themselves go out, and the transitions are on this node's disk.
    fn no_events(&self, reign: Reign, error: &StoreError) {
        tracing::warn!(%error, "the store takes no events; they are left out in this term");
        self.queue.troubles().note_denied(&outbox_prefix(&self.region), error);
        *self.mute.lock().unwrap_or_else(PoisonError::into_inner) = Some(reign);
    }

    /// What became of the event of a flush. A repeated one has the same number: an ambiguous failure makes no second one.
    fn settle_event(
        &self,
        result: &Result<TxnOutcome, StoreError>,
        transitions: Vec<Transition>,
        told: bool,
        reign: Reign,
    ) {
        match result {
            Ok(TxnOutcome::Done { .. }) if told => {
                self.queue.troubles().gone(&outbox_prefix(&self.region));
                if let Some(numbers) = self.numbers.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                    numbers.next = numbers.next.saturating_add(1);
                }
                self.repeats().guarded();
            }
            Err(error @ (StoreError::Invalid(_) | StoreError::Denied(_))) if told => self.no_events(reign, error),
            _ if self.is_mute(reign) => {}
            _ => self.queue.give_back_transitions(reign, transitions),
        }
    }

    /// Writes these: all but guarded deletes in one transaction.
    async fn write(
        &self,
        writes: &[&Write],
        event: Vec<Op>,
        fence: &[Compare],
        reign: Reign,
    ) -> Result<TxnOutcome, StoreError> {
        let mut ops = event;
        let guard = self.numbered(reign).map(|n| n.guard(&self.region));
        let compares: Vec<Compare> = fence.iter().cloned().chain(guard).collect();
        for write in writes {
            self.ops(write, &mut ops);
        }
        let mut result = Ok(TxnOutcome::Done { revision: 0 });
        if !ops.is_empty() {
            result = self.store.txn(Txn { compares, ops }).await;
        }
        for write in writes.iter().filter(|w| matches!(w, Write::Unlatch { .. })) {
            if matches!(result, Ok(TxnOutcome::Done { .. })) {
                result = self.unlatch(write, fence).await;
            }
        }
        result
    }

    async fn judge(&self, result: Result<TxnOutcome, StoreError>, batch: Vec<Write>, reign: Reign) -> bool {
        match result {
            Ok(TxnOutcome::Done { .. }) => {
                batch.iter().for_each(|write| self.written(write));
                // What waits behind may be what the trouble is about.
                if self.queue.is_empty() && self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
                {
                    tracing::info!("leader writes are made again");
                }
                self.queue.is_empty()
            }
            Ok(TxnOutcome::Refused { .. }) if self.happened(reign).await => {
                self.queue.give_back(reign, batch);
                false
            }
            Ok(TxnOutcome::Refused { .. }) => {
                tracing::warn!("a leader write was refused by its fence: another term rules");
                self.session.step_down(reign.term);
                self.queue.clear(reign);
                true
            }
            Err(error) if error.is_retryable() => {
                let waiting = batch.len();
                self.queue.give_back(reign, batch);
                self.say_waiting(&error, waiting);
                tokio::time::sleep(RETRY).await;
                false
            }
            Err(error) => {
                // It can never succeed as it is: say so, do not turn in circles.
                tracing::error!(%error, writes = batch.len(), "leader writes are given up");
                self.queue.is_empty()
            }
        }
    }

    /// Whether a refusal came from the guard: an earlier write, whose answer was lost, is in the store with this term's event.
    /// Then the next event has another number, and what that one told is not told again.
    async fn happened(&self, reign: Reign) -> bool {
        let Some(numbers) = self.numbered(reign) else { return false };
        // Where the store does not answer this either, the lead is given up: safe, and its end is near anyway.
        let Ok(Some(event)) = numbers.written(self.store.as_ref(), &self.region).await else { return false };
        let told = event.transitions.iter().map(|t| t.number).max();
        self.queue.told_through(reign, told.unwrap_or(0));
        *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = None;
        true
    }

    /// A latch goes only if it is still the one that was cleared: a refusal by that guard is no lost fence.
    async fn unlatch(&self, write: &Write, fence: &[Compare]) -> Result<TxnOutcome, StoreError> {
        let Write::Unlatch { category, revision } = write else { return Ok(TxnOutcome::Done { revision: 0 }) };
        let key = NodeKey::Latch(self.region.clone(), category.clone()).to_string();
        let mut compares = fence.to_vec();
        compares.push(Compare::ModRevision(key.clone(), *revision));
        match self.store.txn(Txn { compares, ops: vec![Op::Delete(key)] }).await {
            Ok(TxnOutcome::Refused { revision }) => Ok(TxnOutcome::Done { revision }),
            other => other,
        }
    }

    /// Tells a denial by what a role would have to allow.
    fn note(&self, right: &str, error: &StoreError) {
        if self.queue.troubles().note_denied(right, error) {
            tracing::error!(key = right, %error, "the store denies the leader a key; it goes on without, and tries again");
        }
    }

    /// It was written: nothing of it is denied.
    fn written(&self, write: &Write) {
        self.queue.troubles().gone(&right(write, &self.region));
        if let Write::Latch { category, disable_plain: true, .. } | Write::Unlatch { category, .. } = write {
            self.queue.troubles().gone(&plain_switch(category));
        }
    }

    /// Writes a denied latch without FT's plain switch: the latch itself is what all nodes obey. False where that is no help.
    async fn latch_alone(&self, write: &Write, error: &StoreError, fence: &[Compare], reign: Reign) -> bool {
        let Write::Latch { category, latch, disable_plain: true } = write else { return false };
        let alone = Write::Latch { category: category.clone(), latch: latch.clone(), disable_plain: false };
        if !matches!(self.write(&[&alone], Vec::new(), fence, reign).await, Ok(TxnOutcome::Done { .. })) {
            return false;
        }
        self.written(&alone);
        self.note(&plain_switch(category), error);
        true
    }

    fn status_key(&self, target: &TargetName) -> String {
        NodeKey::TargetStatus(self.region.clone(), target.clone()).to_string()
    }

    fn ops(&self, write: &Write, ops: &mut Vec<Op>) {
        let put = |key: String, value: Vec<u8>| Op::Put { key, value: Bytes::from(value), lease: None };
        match write {
            Write::Status(target, value) => match serde_json::to_vec(value) {
                Ok(value) => ops.push(put(self.status_key(target), value)),
                Err(error) => tracing::error!(%target, %error, "a status cannot be written"),
            },
            Write::DropStatus(target) => ops.push(Op::Delete(self.status_key(target))),
            Write::Latch { category, latch, disable_plain } => match serde_json::to_vec(latch) {
                Ok(value) => {
                    ops.push(put(NodeKey::Latch(self.region.clone(), category.clone()).to_string(), value));
                    if *disable_plain {
                        ops.push(put(plain_switch(category), b"false".to_vec()));
                    }
                }
                Err(error) => tracing::error!(%category, %error, "a latch cannot be written"),
            },
            Write::LastGood(value) => match serde_json::to_vec(value) {
                Ok(value) => ops.push(put(NodeKey::CatalogStatus(self.region.clone()).to_string(), value)),
                Err(error) => tracing::error!(%error, "last good values cannot be written"),
            },
            Write::Summary(summary) => match serde_json::to_vec(summary) {
                Ok(value) => ops.push(put(NodeKey::Summary(self.region.clone()).to_string(), value)),
                Err(error) => tracing::error!(%error, "the summary cannot be written"),
            },
            Write::Unlatch { .. } => {}
        }
    }
}

/// FT's own switch of a category.
fn plain_switch(category: &CategoryName) -> String {
    Key::Category(category.clone(), CategoryField::Enabled).to_string()
}

/// What a role has to allow for this write: a key or a prefix.
fn right(write: &Write, region: &RegionName) -> String {
    match write {
        Write::Status(..) | Write::DropStatus(_) | Write::LastGood(_) => status_prefix(region),
        Write::Latch { .. } | Write::Unlatch { .. } => latches_prefix(region),
        Write::Summary(_) => NodeKey::Summary(region.clone()).to_string(),
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
