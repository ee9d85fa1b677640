use super::*;
use crate::{
    controller::saver::{Saver, Where},
    disk::Directory,
};

fn now() -> Now {
    Now { wall: Timestamp::from_millis(1_790_000_000_000), mono: Mono::from_origin(Duration::from_secs(5_000)) }
}

fn node() -> NodeName {
    NodeName::new("a").unwrap()
}

fn catalog(n: usize) -> KeptCatalog {
    let pair = |i: usize| KeptPair {
        key: format!("healthcheck/t-{i}/spec"),
        value: format!(r#"{{"url":"http://10.0.0.1:80/t-{i}","interval":"10s","headers":{{"x":"secret"}}}}"#)
            .into_bytes(),
        mod_revision: i as i64,
    };
    let mut pairs: Vec<_> = (0..n).map(pair).collect();
    pairs.push(KeptPair { key: "healthcheck/x/path".to_owned(), value: vec![0xff, 0, 1], mod_revision: 3 });
    let latch = Latch { v: 1, by: "a".into(), at: now().wall, reason: "down".into(), revision: 42 };
    KeptCatalog {
        revision: 77,
        generation: 2,
        term: 70,
        leader: Some(node()),
        pairs,
        last_good: LastGood { v: 1, values: BTreeMap::from([("k".to_owned(), "v".to_owned())]), held: None },
        latches: BTreeMap::from([(CategoryName::new("read").unwrap(), latch)]),
        nodes: vec![NodeInfo { node: node(), url: "http://a:1".into(), version: "1".into(), started: now().wall }],
    }
}

fn state(n: usize) -> KeptState {
    let one = |i: usize| {
        let age = Duration::from_secs(i as u64 % 60);
        let at = Now {
            wall: Timestamp::from_millis(now().wall.as_millis() - age.as_millis() as i64),
            mono: Mono::from_origin(Duration::from_secs(5_000) - age),
        };
        let plain = Observation::plain(Outcome::Bad, Duration::from_millis(12), "503 Service Unavailable", at);
        Entry {
            target: TargetName::new(&format!("target-{i}")).unwrap(),
            health: Health {
                state: HealthState::Down,
                reason: Arc::from("3 bad results in a row"),
                n: 9,
                term: 5,
                ..Health::unknown(now().wall)
            },
            counters: Counters { good: 0, bad: 3, changes: 5, last_result: Some(at.wall), shared: false },
            observation: i.is_multiple_of(2).then(|| Arc::new(Observation { status: Some(503), ..plain })),
        }
    };
    KeptState { saved: now().wall, entries: (0..n).map(one).collect() }
}

#[test]
fn what_is_written_is_read_with_its_true_age() {
    let (c, s) = (catalog(5), state(100));
    let read = KeptCatalog::decode(&c.encode().unwrap()).unwrap();
    assert!(read.value == c && read.left_out == 0);
    assert_eq!(KeptState::decode(&s.encode().unwrap(), now()).unwrap(), Kept { value: s.clone(), left_out: 0 });
    // Read by another process, an hour later.
    let later =
        Now { wall: now().wall.plus(Duration::from_secs(3600)), mono: Mono::from_origin(Duration::from_secs(9_000)) };
    let read = KeptState::decode(&s.encode().unwrap(), later).unwrap().value;
    let age = later.mono.since(read.entries[10].observation.as_ref().unwrap().at.mono);
    assert_eq!(age, Duration::from_secs(3610));
}

#[test]
fn a_broken_file_is_passed_over_and_a_partly_broken_one_partly() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Directory::new(dir.path());
    assert!(
        KeptCatalog::load(&disk, &node()).is_none() && KeptState::load(&disk, &node(), now()).is_none(),
        "none yet"
    );
    let (c, s) = (catalog(5).encode().unwrap(), state(5).encode().unwrap());
    for cut in [0, 1, c.len() / 2, c.len() - 1] {
        disk.save("kept-catalog-a.json", &c[..cut]).unwrap();
        assert!(KeptCatalog::load(&disk, &node()).is_none(), "cut at {cut}");
    }
    let text = String::from_utf8(s).unwrap();
    disk.save("kept-state-a.json", text.replacen("\"down\"", "\"sideways\"", 1).as_bytes()).unwrap();
    let read = KeptState::load(&disk, &node(), now()).unwrap();
    assert_eq!(read.entries, state(5).entries[1..], "the others stay");
    disk.save("kept-state-a.json", text.replacen("\"v\":1", "\"v\":2", 1).as_bytes()).unwrap();
    assert!(KeptState::load(&disk, &node(), now()).is_none(), "a later program's");
    let bad_value = String::from_utf8(c).unwrap().replacen("\"base64\":\"", "\"base64\":\"?", 1);
    assert_eq!(KeptCatalog::decode(bad_value.as_bytes()).unwrap().left_out, 1);
    std::fs::remove_file(dir.path().join("kept-state-a.json")).unwrap();
    std::fs::create_dir(dir.path().join("kept-state-a.json")).unwrap();
    assert!(KeptState::load(&disk, &node(), now()).is_none(), "not even a file");
}

#[tokio::test]
async fn ten_thousand_targets_are_saved_beside_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Directory::new(dir.path()));
    let saver = Saver::new(Arc::clone(&disk), Where::BlockingThread);
    let (s, c) = (state(10_000), catalog(10_000));
    let begin = tokio::time::Instant::now();
    let (state_len, catalog_len) = (s.encode().unwrap().len(), c.encode().unwrap().len());
    let encoded = begin.elapsed();
    let begin = tokio::time::Instant::now();
    let (for_state, for_catalog) = (s.clone(), c.clone());
    let cloned = begin.elapsed();
    saver.save(&state_file(&node()), move || for_state.encode());
    saver.save(&catalog_file(&node()), move || for_catalog.encode());
    let handed = begin.elapsed();
    saver.flush().await;
    let saved = begin.elapsed();
    println!(
        "10,000 targets: state {state_len} bytes, catalog {catalog_len} bytes; encoding both {encoded:?}; the caller: clone {cloned:?}, handed over {handed:?}; on disk {saved:?}"
    );
    let begin = tokio::time::Instant::now();
    assert_eq!(KeptState::load(&*disk, &node(), now()), Some(s));
    assert!(KeptCatalog::load(&*disk, &node()) == Some(c));
    println!("read in {:?}", begin.elapsed());
}
