//! How often wrong secrets may be tried.

use std::time::Duration;

/// Wrong tries that cost nothing but their own time.
const FREE_TRIES: u32 = 2;
/// The longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Wrong tries since the last right one. They are of this process: who has the disk can try elsewhere, where only the
/// cost of Argon2id stands in his way.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: u32,
    not_before: Duration,
}

impl Attempts {
    /// How long to wait before the next try, at this time of the monotonic clock.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        let wait = self.not_before.saturating_sub(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// A try failed.
    pub(super) fn failed(&mut self, now: Duration) {
        self.failed = self.failed.saturating_add(1);
        if let Some(steps) = self.failed.checked_sub(FREE_TRIES + 1) {
            let wait = Duration::from_secs(1_u64 << steps.min(6)).min(WAIT_MAX);
            self.not_before = now + wait;
        }
    }

    /// A try succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = Attempts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_try_after_the_second_doubles_the_wait_up_to_a_minute() {
        let mut attempts = Attempts::default();
        let now = Duration::from_secs(1000);
        let mut waits = Vec::new();
        for _ in 0..11 {
            attempts.failed(now);
            waits.push(attempts.wait(now).map_or(0, |wait| wait.as_secs()));
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(attempts.wait(now + Duration::from_secs(61)), None);
        attempts.succeeded();
        attempts.failed(now);
        assert_eq!(attempts.wait(now), None);
    }
}
