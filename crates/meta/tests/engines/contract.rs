//! What one thread may rely on.

use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_meta::{
    Direction, EngineKind, Health, KEY_MAX_BYTES, KeyRange, MemoryStore, MetaError, MetaStore, VALUE_MAX_BYTES,
    WriteBatch, copy_all,
};

use crate::subject::{Fixture, Subject, everything, pairs, put};

for_every_engine!(
    a_batch_is_visible_whole_and_its_last_change_of_a_key_wins,
    a_deleted_key_is_gone_from_gets_and_scans,
    scans_go_both_ways_and_honour_the_edges_of_their_range,
    a_scan_stops_when_told_and_may_call_the_store,
    a_view_stays_as_it_was,
    empty_keys_and_values_are_keys_and_values,
    sizes_up_to_the_limits_are_kept_and_larger_ones_are_refused,
    an_empty_batch_does_nothing,
    two_hundred_thousand_changes_are_one_batch,
    what_was_committed_is_there_after_reopening,
    closing_twice_is_no_error_and_every_use_after_it_is_one,
    it_works_inside_an_async_runtime,
);

fn value(store: &dyn MetaStore, key: &[u8]) -> Option<Bytes> {
    store.get(key).unwrap()
}

fn a_batch_is_visible_whole_and_its_last_change_of_a_key_wins(subject: Subject) {
    let fixture = Fixture::new(subject);
    let store = fixture.store();
    put(store, b"before", b"x").unwrap();
    let mut batch = WriteBatch::new();
    batch.put("a", "1");
    batch.put("b", "1");
    batch.delete("a");
    batch.put("a", "2");
    batch.put("c", "1");
    batch.delete("c");
    batch.delete("before");
    batch.delete("never there");
    store.commit(batch).unwrap();
    let keys = [&b"a"[..], b"b", b"c", b"before"].map(Bytes::from_static);
    let expected = [Some("2"), Some("1"), None, None].map(|value| value.map(Bytes::from));
    assert_eq!(store.multi_get(&keys).unwrap(), expected);
    for (key, expected) in keys.iter().zip(expected) {
        assert_eq!(value(store, key), expected, "{key:?}");
    }
}

fn a_deleted_key_is_gone_from_gets_and_scans(subject: Subject) {
    let mut fixture = Fixture::new(subject);
    put(fixture.store(), b"k", b"1").unwrap();
    put(fixture.store(), b"l", b"1").unwrap();
    // The second round finds the first one's records in a table.
    for _ in 0..2 {
        let mut batch = WriteBatch::new();
        batch.delete("k");
        fixture.store().commit(batch).unwrap();
        assert_eq!(value(fixture.store(), b"k"), None);
        assert_eq!(everything(fixture.store()).len(), 1);
        fixture.reopen();
        assert_eq!(value(fixture.store(), b"k"), None);
        put(fixture.store(), b"k", b"again").unwrap();
        assert_eq!(value(fixture.store(), b"k"), Some(Bytes::from("again")));
        fixture.reopen();
    }
}

fn scans_go_both_ways_and_honour_the_edges_of_their_range(subject: Subject) {
    let fixture = Fixture::new(subject);
    let store = fixture.store();
    let mut batch = WriteBatch::new();
    // More than the model reads at a time, and keys that are prefixes of each other.
    let keys: Vec<Bytes> =
        (0..700u32).map(|n| Bytes::from(format!("{:03}{}", n / 2, "x".repeat(n as usize % 2)))).collect();
    for key in &keys {
        batch.put(key.clone(), key.clone());
    }
    batch.put(vec![u8::MAX; 3], "end");
    store.commit(batch).unwrap();

    let between = |start: &'static str, end: &'static str| KeyRange::between(start, end);
    for (range, expected) in [
        (between("010", "012"), keys[20..24].to_vec()),
        (between("010", "012x"), keys[20..25].to_vec()),
        (between("010x", "011"), keys[21..22].to_vec()),
        (between("009y", "0105"), keys[20..21].to_vec()),
        (between("", "000x"), keys[..1].to_vec()),
        (between("012", "012"), vec![]),
        (between("013", "012"), vec![]),
        (between("500", "600"), vec![]),
        (KeyRange::prefix(b"02"), keys[40..60].to_vec()),
        (KeyRange::prefix(b"349x"), keys[699..].to_vec()),
        (KeyRange::prefix(&[u8::MAX]), vec![Bytes::from(vec![u8::MAX; 3])]),
        (KeyRange { start: Bytes::from_static(b"348"), end: None }, {
            let mut keys = keys[696..].to_vec();
            keys.push(Bytes::from(vec![u8::MAX; 3]));
            keys
        }),
        (between("000", "9"), keys.clone()),
    ] {
        let found = |direction| pairs(store, &range, direction).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(found(Direction::Forward), expected, "{range:?}");
        let reversed: Vec<_> = expected.into_iter().rev().collect();
        assert_eq!(found(Direction::Backward), reversed, "{range:?} backward");
    }
}

fn a_scan_stops_when_told_and_may_call_the_store(subject: Subject) {
    let fixture = Fixture::new(subject);
    let store = fixture.store();
    let mut batch = WriteBatch::new();
    for n in 0..1000u32 {
        batch.put(n.to_be_bytes().to_vec(), n.to_be_bytes().to_vec());
    }
    store.commit(batch).unwrap();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut visited = 0u32;
        store
            .scan(&KeyRange::prefix(b""), direction, &mut |key, _| {
                visited += 1;
                // A store that held a lock across the call would hang here.
                put(store, b"seen", key).unwrap();
                assert_eq!(value(store, b"seen").unwrap(), key);
                if visited == 300 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(visited, 300);
    }
}

fn a_view_stays_as_it_was(subject: Subject) {
    let fixture = Fixture::new(subject);
    let store = fixture.store();
    put(store, b"changed", b"1").unwrap();
    put(store, b"deleted", b"1").unwrap();
    let view = store.view().unwrap();
    let mut batch = WriteBatch::new();
    batch.put("changed", "2");
    batch.put("new", "2");
    batch.delete("deleted");
    store.commit(batch).unwrap();
    store.sync().unwrap();
    let later = store.view().unwrap();
    put(store, b"changed", b"3").unwrap();

    let state = |view: &dyn verfs_meta::MetaView| {
        let mut found = Vec::new();
        view.scan(&KeyRange::prefix(b""), Direction::Backward, &mut |key, value| {
            assert_eq!(view.get(key).unwrap().unwrap(), value);
            found.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    };
    assert_eq!(state(view.as_ref()), ["deleted=1", "changed=1"]);
    assert_eq!(view.get(b"new").unwrap(), None);
    assert_eq!(state(later.as_ref()), ["new=2", "changed=2"]);
}

fn empty_keys_and_values_are_keys_and_values(subject: Subject) {
    let mut fixture = Fixture::new(subject);
    put(fixture.store(), b"", b"at the empty key").unwrap();
    put(fixture.store(), b"k", b"").unwrap();
    fixture.reopen();
    assert_eq!(value(fixture.store(), b""), Some(Bytes::from("at the empty key")));
    assert_eq!(value(fixture.store(), b"k"), Some(Bytes::new()));
    let all = [(Bytes::new(), Bytes::from("at the empty key")), (Bytes::from("k"), Bytes::new())];
    assert_eq!(everything(fixture.store()), all);
    let mut batch = WriteBatch::new();
    batch.delete("");
    fixture.store().commit(batch).unwrap();
    assert_eq!(everything(fixture.store()), all[1..]);
}

fn sizes_up_to_the_limits_are_kept_and_larger_ones_are_refused(subject: Subject) {
    let mut fixture = Fixture::new(subject);
    let noise = |len: usize, seed: u32| -> Vec<u8> {
        let mut state = seed | 1;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(len)
        .collect()
    };
    let mut records = vec![(noise(KEY_MAX_BYTES, 1), noise(100, 2)), (b"largest".to_vec(), noise(VALUE_MAX_BYTES, 3))];
    // A few of 1 MiB in one batch: more than the memtable takes.
    records.extend((0..4).map(|n| (vec![b'm', n], noise(1 << 20, 4 + u32::from(n)))));
    let mut batch = WriteBatch::new();
    for (key, value) in &records {
        batch.put(key.clone(), value.clone());
    }
    fixture.store().commit(batch).unwrap();

    for (key, value) in [(KEY_MAX_BYTES + 1, 0), (1, VALUE_MAX_BYTES + 1)] {
        let mut batch = WriteBatch::new();
        batch.put("refused with the rest", "x");
        batch.put(vec![b'k'; key], vec![b'v'; value]);
        assert!(matches!(fixture.store().commit(batch), Err(MetaError::Unsupported(_))));
    }
    assert_eq!(value(fixture.store(), b"refused with the rest"), None);
    fixture.reopen();
    for (key, expected) in &records {
        assert_eq!(value(fixture.store(), key).as_deref(), Some(expected.as_slice()));
    }
}

fn an_empty_batch_does_nothing(subject: Subject) {
    let fixture = Fixture::new(subject);
    put(fixture.store(), b"k", b"1").unwrap();
    fixture.store().commit(WriteBatch::new()).unwrap();
    fixture.store().sync().unwrap();
    assert_eq!(everything(fixture.store()).len(), 1);
}

fn two_hundred_thousand_changes_are_one_batch(subject: Subject) {
    const KEYS: u32 = 200_000;
    let mut fixture = Fixture::new(subject);
    let key = |n: u32| Bytes::copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    let mut batch = WriteBatch::new();
    for n in 0..KEYS {
        batch.put(key(n), "first");
    }
    fixture.store().commit(batch).unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..KEYS {
        if n % 2 == 0 { batch.delete(key(n)) } else { batch.put(key(n), "second") }
    }
    let sample: Vec<Bytes> = (0..200).map(|n| key(n * (KEYS / 200) + 1)).collect();
    let store = fixture.store();
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| store.commit(batch).unwrap());
        while !committing.is_finished() {
            let values = store.multi_get(&sample).unwrap();
            assert!(values.iter().all(|value| *value == values[0]), "half of the batch is visible");
        }
    });
    for _ in 0..2 {
        let all = everything(fixture.store());
        assert_eq!(all.len() as u32, KEYS / 2);
        assert!(all.iter().all(|(_, value)| value == "second"));
        fixture.reopen();
    }
}

fn what_was_committed_is_there_after_reopening(subject: Subject) {
    let mut fixture = Fixture::new(subject);
    for round in 0..4u32 {
        assert_eq!(everything(fixture.store()).len() as u32, round);
        // Closing syncs, whether this did or not.
        put(fixture.store(), &round.to_be_bytes(), b"x").unwrap();
        if round % 2 == 0 {
            fixture.store().sync().unwrap();
        }
        fixture.reopen();
    }
    assert!(fixture.store().approximate_size_bytes().unwrap() > 0);
}

fn closing_twice_is_no_error_and_every_use_after_it_is_one(subject: Subject) {
    let fixture = Fixture::new(subject);
    let store = fixture.store();
    put(store, b"k", b"1").unwrap();
    assert_eq!(store.health(), Health::Ready);
    let view = store.view().unwrap();
    store.close().unwrap();
    store.close().unwrap();
    let closed = |result: Result<(), MetaError>| assert!(matches!(result, Err(MetaError::Closed)), "{result:?}");
    let everything = KeyRange::prefix(b"");
    let visit = &mut |_: &[u8], _: &[u8]| ControlFlow::Continue(());
    closed(view.get(b"k").map(drop));
    closed(view.scan(&everything, Direction::Forward, visit));
    closed(store.get(b"k").map(drop));
    closed(store.multi_get(&[Bytes::from("k")]).map(drop));
    closed(store.view().map(drop));
    closed(store.scan(&everything, Direction::Forward, visit));
    closed(put(store, b"k", b"2"));
    closed(store.commit(WriteBatch::new()));
    closed(store.sync());
    closed(store.approximate_size_bytes().map(drop));
    assert!(matches!(store.health(), Health::Stopped(_)));
}

fn it_works_inside_an_async_runtime(subject: Subject) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut fixture = Fixture::new(subject);
        put(fixture.store(), b"k", b"1").unwrap();
        fixture.store().sync().unwrap();
        fixture.reopen();
        assert_eq!(value(fixture.store(), b"k"), Some(Bytes::from("1")));
    });
}

#[test]
fn a_copy_from_engine_to_engine_is_equal_and_never_mixes_with_what_is_there() {
    let from = Fixture::new(EngineKind::Surrealkv.into());
    for round in 0..3u32 {
        let mut batch = WriteBatch::new();
        for n in 0..4000u32 {
            batch.put(format!("{:06}", n * 3 + round), vec![n as u8; n as usize % 300]);
        }
        batch.put("", vec![1; 5 << 20]);
        batch.delete("000001");
        from.store().commit(batch).unwrap();
    }
    let through = Fixture::new(EngineKind::Fjall.into());
    let copied = copy_all(from.store(), through.store()).unwrap();
    let to = MemoryStore::new();
    assert_eq!(copy_all(through.store(), &to).unwrap(), copied);
    assert_eq!(to.unsynced_commits(), 0, "a copy is durable");

    let original = everything(from.store());
    assert_eq!(copied.records, original.len() as u64);
    assert_eq!(copied.bytes, original.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>());
    assert!(everything(through.store()) == original, "fjall has what surrealkv had");
    assert!(everything(&to) == original, "memory has what fjall had");
    assert!(matches!(copy_all(from.store(), &to), Err(MetaError::Unsupported(_))));
}
