//! Latencies of operations: a histogram of logarithmic buckets per operation, counted with atomics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::operation::Operation;

/// Buckets per doubling of the time: a percentile is right to about 12 %.
const BUCKETS_PER_OCTAVE_LOG2: u32 = 2;
/// The last bucket starts at 2^38 ns, over four minutes.
const OCTAVES: u32 = 38;
const BUCKETS: usize = ((OCTAVES - BUCKETS_PER_OCTAVE_LOG2 + 1) << BUCKETS_PER_OCTAVE_LOG2) as usize;

/// What a session has done.
#[derive(Clone, Debug)]
pub struct SessionStats {
    /// Every operation that came at least once.
    pub operations: Vec<OperationStats>,
    /// The groups of threads behind the leader.
    pub lanes: Vec<LaneStats>,
    /// The way to the kernel, as the option `transport=` calls it.
    pub transport: &'static str,
    /// How often polling began since the mount.
    pub polls_started: u64,
    /// What is still under way after its deadline.
    pub overdue: Vec<OverdueStats>,
    /// Requests that were answered EIO since the mount because the store did not answer in time.
    pub refused: u64,
}

impl SessionStats {
    /// Requests of every kind.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.operations.iter().map(|operation| operation.count).sum()
    }

    /// Bytes of files that `operation` moved between the kernel and the tree.
    #[must_use]
    pub fn moved_bytes(&self, operation: Operation) -> u64 {
        self.operations.iter().filter(|stats| stats.operation == operation).map(|stats| stats.moved_bytes).sum()
    }

    /// Requests that wait for a thread now.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.lanes.iter().map(|lane| lane.queued).sum()
    }
}

/// One operation: how often, and how long from its arrival to its reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OperationStats {
    /// Which.
    pub operation: Operation,
    /// How often it came.
    pub count: u64,
    /// How often it had to wait for a thread.
    pub queued: u64,
    /// Bytes of files that it moved.
    pub moved_bytes: u64,
    /// Mean time.
    pub mean: Duration,
    /// Half of them took at most this.
    pub p50: Duration,
    /// 99 of 100 took at most this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// Requests of one operation that were answered EIO and are under way all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverdueStats {
    /// Which.
    pub operation: Operation,
    /// How many.
    pub count: u64,
    /// Since the arrival of the oldest.
    pub longest: Duration,
}

/// A group of threads that may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneStats {
    /// `read`, `change` or `sync`.
    pub name: &'static str,
    /// Its threads.
    pub threads: usize,
    /// Requests in its queue.
    pub queued: usize,
}

/// Counters of all operations.
pub(crate) struct Stats {
    histograms: Box<[Histogram]>,
}

struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    total_ns: AtomicU64,
    max_ns: AtomicU64,
    queued: AtomicU64,
    moved_bytes: AtomicU64,
}

impl Stats {
    pub(crate) fn new() -> Stats {
        Stats { histograms: Operation::ALL.iter().map(|_| Histogram::new()).collect() }
    }

    /// Counts one operation that took `time`.
    pub(crate) fn record(&self, operation: Operation, time: Duration) {
        self.histograms[operation as usize].record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts one operation that has to wait for a thread.
    pub(crate) fn record_queued(&self, operation: Operation) {
        self.histograms[operation as usize].queued.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the bytes of files that one operation moved.
    pub(crate) fn record_moved(&self, operation: Operation, bytes: u64) {
        if bytes > 0 {
            self.histograms[operation as usize].moved_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Every operation that came at least once.
    pub(crate) fn operations(&self) -> Vec<OperationStats> {
        Operation::ALL.iter().filter_map(|operation| self.histograms[*operation as usize].summary(*operation)).collect()
    }
}

impl Histogram {
    fn new() -> Histogram {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            total_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            moved_bytes: AtomicU64::new(0),
        }
    }

    fn record(&self, ns: u64) {
        self.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(ns, Ordering::Relaxed);
        if ns > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.fetch_max(ns, Ordering::Relaxed);
        }
    }

    fn summary(&self, operation: Operation) -> Option<OperationStats> {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let total_ns = self.total_ns.load(Ordering::Relaxed);
        let max_ns = self.max_ns.load(Ordering::Relaxed);
        let percentile = |percent: u64| {
            let rank = (count * percent).div_ceil(100);
            let mut seen = 0;
            let index = counts.iter().position(|in_bucket| {
                seen += in_bucket;
                seen >= rank
            });
            Duration::from_nanos(index.map_or(0, middle_ns).min(max_ns))
        };
        Some(OperationStats {
            operation,
            count,
            queued: self.queued.load(Ordering::Relaxed),
            moved_bytes: self.moved_bytes.load(Ordering::Relaxed),
            mean: Duration::from_nanos(total_ns.checked_div(count)?),
            p50: percentile(50),
            p99: percentile(99),
            max: Duration::from_nanos(max_ns),
        })
    }
}

/// Times below 4 ns have buckets of their own; then each octave has four.
fn bucket(ns: u64) -> usize {
    let octave = ns.max(1).ilog2();
    if octave < BUCKETS_PER_OCTAVE_LOG2 {
        return ns as usize;
    }
    let shift = octave - BUCKETS_PER_OCTAVE_LOG2;
    let index = (u64::from(shift) << BUCKETS_PER_OCTAVE_LOG2) + (ns >> shift);
    (index as usize).min(BUCKETS - 1)
}

fn middle_ns(index: usize) -> u64 {
    let (low, high) = (lower_bound_ns(index), lower_bound_ns(index + 1));
    low + (high - low) / 2
}

fn lower_bound_ns(index: usize) -> u64 {
    let per_octave = 1 << BUCKETS_PER_OCTAVE_LOG2;
    let index = index as u64;
    if index < per_octave {
        return index;
    }
    let shift = index / per_octave - 1;
    (per_octave + index % per_octave) << shift
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn buckets_and_their_bounds_agree() {
        for ns in (0..100_000).chain([1 << 20, (1 << 30) + 12_345, 100_000_000_000]) {
            let index = bucket(ns);
            assert!(lower_bound_ns(index) <= ns && ns < lower_bound_ns(index + 1), "{ns} ns is not in bucket {index}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_a_known_distribution() {
        let stats = Stats::new();
        for microseconds in 1..=1000 {
            stats.record(Operation::Read, Duration::from_micros(microseconds));
        }
        stats.record_queued(Operation::Read);
        stats.record_moved(Operation::Read, 4096);
        stats.record_moved(Operation::Read, 512);
        let [read] = stats.operations()[..] else { panic!("one operation came") };
        assert_eq!((read.operation, read.count, read.queued), (Operation::Read, 1000, 1));
        assert_eq!(read.moved_bytes, 4608);
        assert_eq!(read.max, Duration::from_millis(1));
        assert_eq!(read.mean, Duration::from_nanos(500_500));
        let near = |time: Duration, micros: f64| (time.as_secs_f64() * 1e6 / micros - 1.0).abs() < 0.13;
        assert!(near(read.p50, 500.0) && near(read.p99, 990.0), "{read:?}");
    }
}
