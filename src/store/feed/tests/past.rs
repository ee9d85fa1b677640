//! A store that was restored and has grown past what was known: found by its past, or by a list.

use super::*;

/// A feed that read a store, and that store's place taken by another one that has grown past what it knew: a backup that knew
/// a/2 as it was earlier, and nothing of a/0.
struct Grown {
    reader: Reader,
    horizon: Horizon,
    store: Arc<Faulty>,
    /// Its watches stay open.
    _old: Embedded,
}

impl Grown {
    /// `noticed`: calls fail meanwhile; else a cut is all that is seen. `compacted`: the past of before the first list is gone.
    async fn new(noticed: bool, compacted: bool) -> Self {
        let store = Faulty::new();
        for key in ["a/0", "a/1", "a/2"] {
            store.put(key, "x").await;
        }
        let known = store.inner().get("a/2").await.unwrap().0;
        for _ in 0..5 {
            store.put("b/other", "x").await;
        }
        let horizon = Horizon::over(Arc::clone(&store) as Arc<dyn Store>);
        let mut options = FeedOptions::new(["a/"]);
        (options.backoff_min, options.backoff_max) = (Duration::from_millis(2), Duration::from_millis(10));
        let (items, task) = spawn(Arc::new(horizon.clone()), options, CancellationToken::new());
        let _task = tokio_util::task::AbortOnDropHandle::new(task);
        let mut reader = Reader { items, told: BTreeMap::new(), puts: 0, seen: Vec::new(), _task };
        reader.until("synced").await;
        if noticed {
            store.down.store(true, SeqCst);
            store.cut_all();
            reader.until("lost").await;
        }
        let other = Embedded::open(None, Clock::system()).unwrap();
        let _old = std::mem::replace(&mut *store.inner.lock().unwrap(), other);
        store.put("a/2", "earlier").await;
        for _ in 0..20 {
            store.put("b/other", "x").await;
        }
        store.put("a/1", "x").await;
        if compacted {
            store.inner().compact(known + 1);
        }
        assert_eq!(horizon.number(), 1, "no reply shows it");
        if noticed {
            store.down.store(false, SeqCst);
        } else {
            store.cut_all();
        }
        Self { reader, horizon, store, _old }
    }

    /// The next list is a reset; then it goes on.
    async fn is_found(&mut self) {
        let (events, reset) = loop {
            if let Some(FeedItem::Synced { events, reset, .. }) = self.reader.items.recv().await {
                break (events, reset);
            }
        };
        let keys: Vec<_> = events.iter().map(Event::key).collect();
        assert_eq!((keys, reset), (vec!["a/1", "a/2", "a/0"], true));
        assert_eq!(self.horizon.number(), 2, "and the others are told");
        self.store.put("a/3", "x").await;
        let next = async {
            loop {
                match self.reader.items.recv().await.unwrap() {
                    FeedItem::Back => {}
                    item => break item,
                }
            }
        };
        let next = tokio::time::timeout(Duration::from_secs(60), next).await.unwrap();
        assert!(matches!(&next, FeedItem::Events(events) if events.len() == 1), "and it goes on: {next:?}");
    }
}

#[tokio::test]
async fn another_history_that_has_grown_past_the_known_one_is_found_by_its_past() {
    for noticed in [true, false] {
        let mut grown = Grown::new(noticed, false).await;
        // Within a second at most of time that runs as ever: no list was due.
        tokio::time::timeout(Duration::from_secs(1), grown.is_found()).await.expect("found at once");
    }
}

#[tokio::test]
async fn where_its_past_is_compacted_it_is_found_by_a_list_soon() {
    for noticed in [true, false] {
        let mut grown = Grown::new(noticed, true).await;
        // Time that is paused runs as fast as it can.
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        tokio::time::timeout(Duration::from_secs(11), grown.is_found()).await.expect("found soon");
        assert!(began.elapsed() <= RESYNC_SOON);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_past_that_is_the_known_one_is_no_other_history() {
    let store = Faulty::new();
    for key in ["a/1", "a/10", "a/2"] {
        store.put(key, "x").await;
    }
    let mut reader = Reader::start(&store, |o| o.resync_every = Duration::from_millis(20));
    reader.until("synced").await;
    // The put that is known last is followed by others, by deletes, and by a compaction.
    store.delete("a/2").await;
    store.put("a/1", "y").await;
    reader.until_all(&store).await;
    for step in 0..3 {
        store.down.store(true, SeqCst);
        store.cut_all();
        reader.until("lost").await;
        store.put("a/1", &step.to_string()).await;
        store.delete("a/10").await;
        if step == 2 {
            let newest = store.inner().get("a/1").await.unwrap().0;
            store.inner().compact(newest);
        }
        store.down.store(false, SeqCst);
        reader.until("back").await;
        reader.until_all(&store).await;
    }
    assert!(!reader.seen.contains(&"reset"), "{:?}", reader.seen);
}

#[tokio::test]
async fn a_restore_while_the_node_was_down_is_found_by_the_past_of_what_it_kept() {
    let (before, store) = (Faulty::new(), Faulty::new());
    for key in ["a/1", "a/2"] {
        before.put(key, "x").await;
    }
    let seed = before.inner().list("a/", None).await.unwrap().pairs;
    // The backup knew the first only, and much was written since.
    store.put("a/1", "x").await;
    store.put("b/other", "x").await;
    store.put("a/3", "x").await;
    let mut reader = Reader::start(&store, |options| options.seed = seed.clone());
    reader.told = seed.into_iter().map(|pair| (pair.key, pair.value)).collect();
    assert!(matches!(reader.next().await, FeedItem::Synced { reset: true, generation: 1, .. }));
    assert_eq!(reader.told, store.all().await);
}
