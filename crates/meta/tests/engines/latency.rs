//! What a caller waits for.

use std::thread;
use std::time::{Duration, Instant};

use verfs_meta::WriteBatch;

use crate::subject::{Fixture, Subject, put};

for_kept_engines!(reads_do_not_wait_for_a_commit);

/// One commit of 200k records takes hundreds of milliseconds; a read meanwhile may not take half as long.
fn reads_do_not_wait_for_a_commit(subject: Subject) {
    let fixture = Fixture::new(subject);
    let store = fixture.store();
    put(store, b"k", b"1").unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..200_000u32 {
        batch.put(n.to_be_bytes().to_vec(), vec![1; 40]);
    }
    let (reads, longest, total) = thread::scope(|scope| {
        let begun = Instant::now();
        let committing = scope.spawn(|| store.commit(batch).unwrap());
        let (mut reads, mut longest) = (0u32, Duration::ZERO);
        while !committing.is_finished() {
            let read = Instant::now();
            store.get(b"k").unwrap().unwrap();
            longest = longest.max(read.elapsed());
            reads += 1;
        }
        (reads, longest, begun.elapsed())
    });
    assert!(longest < total / 2 && reads > 10, "{reads} reads, one took {longest:?} of a commit's {total:?}");
}
