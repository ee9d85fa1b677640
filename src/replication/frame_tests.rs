use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::testing::{at, entry, essence, name},
    *,
};
use crate::model::{DocumentCheck, HealthState, Now, Outcome, Severity};

const ARRIVED: Mono = Mono::from_origin(std::time::Duration::from_secs(50_000));

fn head(seq: u64) -> Head {
    Head { node: name("a"), term: 5, seq, now: at(60_000), degraded: true, graphite_mark: Some(at(0)) }
}

fn decode(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next(ARRIVED)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn parts(frame: &Frame) -> (&Head, Vec<Entry>) {
    match frame {
        Frame::Full(head, entries) | Frame::Delta(head, entries) => (head, entries.iter().map(essence).collect()),
        Frame::Heartbeat(head) => (head, Vec::new()),
    }
}

fn rich(n: u64, text: &str) -> Entry {
    let mut entry = entry("t-1", n);
    let text: Arc<str> = Arc::from(text);
    let check = DocumentCheck {
        id: Arc::clone(&text),
        name: Arc::from("n"),
        ok: false,
        severity: Severity::HIGH,
        business_impact: Arc::clone(&text),
        technical_summary: Arc::from("s"),
        panic_guide: Arc::from("p"),
        check_output: Arc::clone(&text),
        last_updated: Arc::from("now"),
    };
    let mut o = Observation::clone(entry.observation.as_ref().unwrap());
    o.output = Arc::clone(&text);
    o.status = Some(503);
    o.days_left = Some(-3);
    o.checks = Some(Arc::from([check]));
    o.checks_left_out = 7;
    o.system_code = Some(Arc::clone(&text));
    o.properties = Some(Arc::new([("p".to_owned(), json!({"a": [1, 2.5, null, "x"]}))].into()));
    entry.observation = Some(Arc::new(o));
    entry.health.reason = text;
    entry.health.flapping = true;
    entry.health.stale = true;
    entry
}

#[test]
fn the_wire_is_one_versioned_json_object_a_line() {
    let lines = encode(&Frame::Delta(head(7), vec![rich(1, "say \"hi\"\n")]));
    assert_eq!(lines.len(), 1);
    let text = std::str::from_utf8(&lines[0]).unwrap();
    assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text}");
    let value: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&value["v"], &value["kind"], &value["seq"]), (&json!(1), &json!("delta"), &json!(7)));
    assert_eq!(value["now"], "2026-09-21T14:14:20.000Z");
    let observation = &value["entries"][0]["observation"];
    assert_eq!((&observation["outcome"], &observation["latency"]), (&json!("good"), &json!(0.001_234)));
    let back = decode(&lines[0]).unwrap();
    assert_eq!(parts(&back[0]), (&head(7), vec![essence(&rich(1, "say \"hi\"\n"))]));
}

#[test]
fn the_age_at_the_sender_counts_from_the_arrival_and_is_never_in_the_future() {
    let mut late = entry("t-1", 0);
    late.observation = Some(Arc::new(Observation {
        at: Now { wall: at(61_000), mono: Mono::default() },
        ..Observation::clone(late.observation.as_ref().unwrap())
    }));
    for (entry, age) in [(entry("t-1", 0), 60), (late, 0)] {
        let frames = decode(&encode(&Frame::Full(head(1), vec![entry]))[0]).unwrap();
        let Frame::Full(_, entries) = &frames[0] else { panic!("{frames:?}") };
        let at = entries[0].observation.as_ref().unwrap().at;
        assert_eq!(ARRIVED.since(at.mono).as_secs(), age);
        assert!(at.mono <= ARRIVED);
    }
}

#[test]
fn a_full_frame_of_many_parts_is_handed_on_whole() {
    let text = "\u{1}".repeat(2000);
    let entries: Vec<Entry> = (0..200).map(|n| rich(n, &text)).collect();
    let frame = Frame::Full(head(3), entries.clone());
    let lines = encode(&frame);
    assert!(lines.len() > 20 && lines.iter().all(|l| l.len() <= MAX_PART), "{}", lines.len());
    let mut decoder = Decoder::default();
    let (last, before) = lines.split_last().unwrap();
    for line in before {
        decoder.push(line);
        assert_eq!(decoder.next(ARRIVED), Ok(None), "no part alone");
    }
    decoder.push(b"\n");
    decoder.push(&last[..last.len() - 1]);
    assert_eq!(decoder.next(ARRIVED), Ok(None), "nor without the line's end");
    decoder.push(b"\n");
    let whole = decoder.next(ARRIVED).unwrap().unwrap();
    assert_eq!(parts(&whole).1, entries.iter().map(essence).collect::<Vec<_>>());
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let big = "x".repeat(4000);
    let frame = |seq| encode(&Frame::Full(head(seq), (0..100).map(|n| rich(n, &big)).collect()));
    let (a, b) = (frame(1), frame(2));
    assert!(a.len() > 2);
    let join = |lines: &[&Bytes]| decode(&lines.iter().flat_map(|l| l.to_vec()).collect::<Vec<_>>());
    assert_eq!(join(&[&a[1]]), Err(FrameError::Part { expected: 0, got: 1 }));
    assert_eq!(join(&[&a[0], &a[2]]), Err(FrameError::Part { expected: 1, got: 2 }));
    assert_eq!(join(&[&a[0], &b[1]]), Err(FrameError::BrokenOff));
    assert_eq!(join(&[&a[0], &encode_heartbeat(&head(1))]), Err(FrameError::BrokenOff));
    assert_eq!(join(&[&a[0], &a[0]]), Err(FrameError::Part { expected: 1, got: 0 }));
}

#[test]
fn an_entry_too_large_for_a_line_goes_without_its_details_and_a_deep_property_not_at_all() {
    let mut huge = rich(1, "fine");
    let mut o = Observation::clone(huge.observation.as_ref().unwrap());
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    o.properties = Some(Arc::new(BTreeMap::from([("deep".to_owned(), deep), ("flat".to_owned(), json!(2))])));
    huge.observation = Some(Arc::new(o.clone()));
    let back = decode(&encode(&Frame::Delta(head(1), vec![huge.clone()]))[0]).unwrap();
    let kept = parts(&back[0]).1[0].observation.clone().unwrap();
    assert_eq!(kept.properties.as_deref(), Some(&BTreeMap::from([("flat".to_owned(), json!(2))])));

    let checks = o.checks.clone().unwrap();
    let check = DocumentCheck { check_output: "x".repeat(MAX_PART).into(), ..checks[0].clone() };
    o.checks = Some(Arc::from([check]));
    huge.observation = Some(Arc::new(o));
    let lines = encode(&Frame::Delta(head(1), vec![rich(0, "a"), huge, rich(2, "b")]));
    let all: Vec<u8> = lines.iter().flat_map(|l| l.to_vec()).collect();
    assert!(lines.iter().all(|l| l.len() <= MAX_PART));
    let back = decode(&all).unwrap();
    let entries = parts(&back[0]).1;
    let left_out: Vec<_> = entries.iter().map(|e| e.observation.as_ref().unwrap().checks_left_out).collect();
    assert_eq!((back.len(), left_out), (1, vec![7, 8, 7]));
}

#[test]
fn later_versions_are_named_and_later_kinds_skipped() {
    assert_eq!(decode(b"{\"v\":2,\"anything\":true}\n"), Err(FrameError::Version(2)));
    let beat = encode_heartbeat(&head(1));
    let text = String::from_utf8(beat.to_vec()).unwrap();
    let added = text.replace("\"v\":1", "\"v\":1,\"later\":{\"a\":[1]}");
    assert_eq!(decode(added.as_bytes()), decode(&beat));
    assert_eq!(decode(text.replace("heartbeat", "news").as_bytes()), Ok(vec![]));
}

#[test]
fn hostile_bytes_are_refused_within_bounds() {
    let mut decoder = Decoder::default();
    for _ in 0..16 {
        decoder.push(&[b'['; MAX_PART / 16]);
        assert_eq!(decoder.next(ARRIVED), Ok(None));
    }
    decoder.push(b"[");
    assert_eq!(decoder.next(ARRIVED), Err(FrameError::LineTooLong));
    let deep = format!("{{\"v\":1,\"x\":{}\n", "[".repeat(100_000));
    assert!(matches!(decode(deep.as_bytes()), Err(FrameError::Json(_))));
    let text = String::from_utf8(encode(&Frame::Delta(head(1), vec![entry("t-1", 1)]))[0].to_vec()).unwrap();
    for (from, to) in [
        ("0.001234", "-1"),
        ("0.001234", "1e300"),
        ("\"t-1\"", "\"a b\""),
        ("\"good\"", "\"excellent\""),
        ("\"seq\":1", "\"seq\":-1"),
        ("\"part\":0", "\"part\":4294967296"),
        ("2026-", "never"),
    ] {
        assert!(text.contains(from), "{text}");
        assert!(decode(text.replace(from, to).as_bytes()).is_err(), "{from} as {to}");
    }
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![any::<char>(), Just('"'), Just('\n'), Just('\u{0}')], 0..40)
        .prop_map(|c| c.into_iter().collect())
}

prop_compose! {
    fn entries()(all in proptest::collection::vec((0u64..1_000_000, text(), any::<bool>(), any::<i64>(), any::<f64>(), 0u64..u64::MAX), 0..20))
        -> Vec<Entry> {
        all.into_iter().map(|(n, text, bare, term, number, nanos)| {
            let mut entry = rich(n, &text);
            entry.health.term = term;
            entry.health.state = if bare { HealthState::Down } else { HealthState::Unknown };
            let mut o = Observation::clone(entry.observation.as_ref().unwrap());
            // Whole nanoseconds survive for as long as a probe may take.
            o.latency = std::time::Duration::from_nanos(nanos % 1_000_000_000_000);
            o.outcome = Outcome::Timeout;
            let number = serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number);
            o.properties = Some(Arc::new([(text, number)].into()));
            entry.observation = (!bare).then(|| Arc::new(o));
            entry
        }).collect()
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(all in entries(), cuts in proptest::collection::vec(1usize..3000, 1..20)) {
        let frames = [Frame::Full(head(4), all.clone()), Frame::Delta(head(5), all.clone()), Frame::Heartbeat(head(5))];
        let bytes: Vec<u8> = frames.iter().flat_map(encode).flat_map(|l| l.to_vec()).collect();
        let (mut decoder, mut got, mut rest) = (Decoder::default(), Vec::new(), bytes.as_slice());
        for cut in cuts.iter().cycle() {
            let (piece, later) = rest.split_at(rest.len().min(*cut));
            decoder.push(piece);
            while let Some(frame) = decoder.next(ARRIVED).unwrap() {
                got.push(frame);
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got.len(), 3);
        for (got, sent) in got.iter().zip(&frames) {
            prop_assert_eq!(std::mem::discriminant(got), std::mem::discriminant(sent));
            prop_assert_eq!(parts(got), parts(sent));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), all in entries(), places in proptest::collection::vec((0usize..20_000, any::<u8>()), 0..8)) {
        let _ = decode(&noise);
        let mut bytes: Vec<u8> = encode(&Frame::Full(head(4), all)).iter().flat_map(|l| l.to_vec()).collect();
        for (place, byte) in places {
            let len = bytes.len();
            bytes[place % len] = byte;
        }
        bytes.extend_from_slice(&noise);
        let _ = decode(&bytes);
    }
}

/// Sizes and speed, by hand: `cargo test --release --lib replication -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
#[allow(clippy::disallowed_methods)]
fn figures_of_10_000_entries() {
    let document = "x".repeat(700);
    for (what, all) in [
        ("plain", (0..10_000).map(|n| entry(&format!("target-{n}"), n)).collect::<Vec<_>>()),
        ("document of about 1.4 KB", (0..10_000).map(|n| rich(n, &document[..230])).collect()),
    ] {
        let frame = Frame::Full(head(1), all);
        let begun = std::time::Instant::now();
        let lines = encode(&frame);
        let encoded = begun.elapsed();
        let bytes: usize = lines.iter().map(Bytes::len).sum();
        let longest = {
            let Frame::Full(head, all) = &frame else { unreachable!() };
            let begun = std::time::Instant::now();
            let _ = encode_part(Kind::Full, head, 0, all);
            begun.elapsed()
        };
        let begun = std::time::Instant::now();
        let mut decoder = Decoder::default();
        let mut whole = None;
        for line in &lines {
            decoder.push(line);
            whole = decoder.next(ARRIVED).unwrap();
        }
        let decoded = begun.elapsed();
        assert!(whole.is_some());
        println!(
            "{what}: {} bytes an entry, {} parts; encode {encoded:?} (one part {longest:?}), decode {decoded:?}",
            bytes / 10_000,
            lines.len()
        );
    }
}
