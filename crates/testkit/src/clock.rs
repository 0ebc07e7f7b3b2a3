//! A clock that moves only when the test says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use verfs_base::{Clock, Timestamp};

/// Wall-clock and monotonic time advance together, by [`TestClock::advance`] and by nothing else, so that every
/// timestamp of an operation is known beforehand.
#[derive(Debug)]
pub struct TestClock {
    nanos: AtomicU64,
}

/// Where every test starts: 2001-09-09, far from zero and from now.
const START_SECONDS: u64 = 1_000_000_000;

impl TestClock {
    /// A clock at the start of all tests.
    #[must_use]
    pub fn new() -> Self {
        TestClock { nanos: AtomicU64::new(0) }
    }

    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let since = self.monotonic();
        let seconds = START_SECONDS + since.as_secs();
        Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}
