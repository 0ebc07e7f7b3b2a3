//! A wall clock that jumps, as people and time servers make it: times are what it says, and nothing else hangs on it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod volume;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use verfs_base::{Clock, Ino, Timestamp};
use verfs_vfs::{NodeKind, SyncScope, VfsOptions};
use volume::{ROOT, Volume};

/// A wall clock that stands where a test puts it, and a steady one that goes on.
#[derive(Debug)]
struct JumpingClock {
    seconds: AtomicI64,
    begun: Instant,
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        Timestamp { seconds: self.seconds.load(Ordering::SeqCst), nanos: 5 }
    }

    fn monotonic(&self) -> Duration {
        self.begun.elapsed()
    }
}

const NOW: i64 = 1_750_000_000;
const YEAR: i64 = 31_557_600;
/// Back by minutes and years, before 1970, far ahead, to where 32 bits end, and back again.
const JUMPS: [i64; 9] = [NOW, NOW - 300, NOW - 20 * YEAR, -YEAR, NOW + 300 * YEAR, 1 << 31, i64::MIN / 4, 0, NOW];

#[test]
fn a_clock_that_jumps_moves_times_and_nothing_else() {
    let whole = Volume::new(VfsOptions { group_interval_ms: 20, ..VfsOptions::default() });
    let clock = Arc::new(JumpingClock { seconds: AtomicI64::new(NOW), begun: Instant::now() });
    let mut made = Vec::new();
    for round in 0..2 {
        let open = whole.open_at(clock.clone());
        for (number, seconds) in JUMPS.into_iter().enumerate() {
            clock.seconds.store(seconds, Ordering::SeqCst);
            let name = format!("file {round} {number}");
            let file = open.vfs.mknod(&ROOT, Ino::ROOT, name.as_bytes(), NodeKind::Regular, 0o644).unwrap().ino;
            open.vfs.write(&ROOT, file, 0, name.as_bytes()).unwrap();
            made.push((file, name, seconds));
            match number % 3 {
                0 => open.vfs.fsync(&ROOT, file, SyncScope::All).unwrap(),
                1 => drop(open.vfs.create_snapshot(format!("snapshot {round} {number}").as_bytes(), b"").unwrap()),
                // By itself: groups close by the steady clock.
                _ => {
                    let begun = Instant::now();
                    while open.vfs.stats().dirty_bytes > 0 {
                        assert!(
                            begun.elapsed() < Duration::from_secs(20),
                            "a group waits for a clock that was set back"
                        );
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            }
        }
        for (file, name, seconds) in &made {
            let attr = open.vfs.getattr(&ROOT, *file).unwrap();
            let expected = Timestamp { seconds: *seconds, nanos: 5 };
            assert_eq!((attr.mtime, attr.ctime, attr.btime), (expected, expected, expected), "{name}");
            assert_eq!(open.read(*file), name.as_bytes());
        }
        let snapshots = open.vfs.snapshots();
        assert!(
            snapshots.is_sorted_by_key(|snapshot| snapshot.id),
            "snapshots are in the order in which they were made"
        );
        assert_eq!(snapshots.len(), (round + 1) * JUMPS.len() / 3);
        open.close();
    }
}
