//! Time, as a trait: a test replays a run by replaying its clock.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point of wall-clock time: seconds since 1970 (negative before) and nanoseconds within the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    /// Whole seconds since the Unix epoch, rounded down.
    pub seconds: i64,
    /// 0 ..= 999 999 999.
    pub nanos: u32,
}

impl Timestamp {
    /// Converts from the standard library's type.
    #[must_use]
    pub fn from_system(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                Timestamp { seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
            }
            Err(before) => {
                let before = before.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                if before.subsec_nanos() == 0 {
                    Timestamp { seconds: -seconds, nanos: 0 }
                } else {
                    Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - before.subsec_nanos() }
                }
            }
        }
    }

    /// Converts to the standard library's type; times that it can't hold become the epoch.
    #[must_use]
    pub fn to_system(self) -> SystemTime {
        let nanos = Duration::from_nanos(u64::from(self.nanos));
        let magnitude = Duration::from_secs(self.seconds.unsigned_abs());
        let base =
            if self.seconds >= 0 { UNIX_EPOCH.checked_add(magnitude) } else { UNIX_EPOCH.checked_sub(magnitude) };
        base.and_then(|time| time.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
    }
}

/// Source of time.
pub trait Clock: Send + Sync + Debug {
    /// Wall-clock time, for timestamps that users see. May jump.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start, for intervals. Never jumps backwards.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
