//! Many cases, each from a seed of its own; the smallest failing one is printed with how to run it again.
//!
//! A crash point is one moment of one sequence at which the power goes, with a recovery and a check of the promises after
//! it, however many outcomes of that crash are tried. Campaigns count them, and each has a share of those that a test
//! run tries in all: see [`Campaign::with_share`].

use std::cell::Cell;
use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher, BuildHasherDefault};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::random::TestRng;

/// Longest that one run of a volume may take before the whole process is stopped: something waits for ever.
const RUN_MAX: Duration = Duration::from_secs(60);

/// Crash points of all campaigns together, unless `VERFS_TEST_CRASH_POINTS` says otherwise.
const CRASH_POINTS: u64 = 10_000;
/// Longest that a campaign may take to its share of those.
const SHARE_MAX: Duration = Duration::from_secs(600);

/// How many cases to run, and from which seed.
#[derive(Clone, Debug)]
pub struct Campaign {
    name: &'static str,
    seed: Seed,
    cases: u64,
    time: Duration,
    /// Crash points that it tries at least.
    crash_points: u64,
}

#[derive(Clone, Copy, Debug)]
enum Seed {
    /// A failure is run again: this case, so many times, as threads don't repeat themselves.
    Again(u64),
    /// A new campaign.
    From(u64),
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    match parsed {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} is {text:?}: it takes a number, decimal or with 0x"),
    }
}

impl Campaign {
    /// A campaign of `cases` cases within `time`. The environment decides otherwise: `VERFS_TEST_CASES` is the number of
    /// cases, whatever time they take; `VERFS_TEST_SEED` runs the one case of that seed, ten times or as often as
    /// `VERFS_TEST_CASES` says.
    #[must_use]
    pub fn new(name: &'static str, cases: u64, time: Duration) -> Campaign {
        let asked = number("VERFS_TEST_CASES");
        let (seed, cases, time) = match number("VERFS_TEST_SEED") {
            Some(seed) => (Seed::Again(seed), asked.unwrap_or(10), Duration::MAX),
            None => {
                // A campaign that is asked for looks for what is new; the one of every test run is the same each time.
                let seed = if asked.is_some() {
                    RandomState::new().hash_one(name)
                } else {
                    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
                };
                (Seed::From(seed), asked.unwrap_or(cases), if asked.is_some() { Duration::MAX } else { time })
            }
        };
        Campaign { name, seed, cases, time, crash_points: 0 }
    }

    /// The same, but with at least so many percent of the crash points of a test run: 10,000, or as many as
    /// `VERFS_TEST_CRASH_POINTS` says; then neither its cases nor its time are limited, and it ends with its share. With
    /// `VERFS_TEST_SEED`, or with `VERFS_TEST_CASES` alone, there are no shares.
    #[must_use]
    pub fn with_share(self, percent: u64) -> Campaign {
        match (number("VERFS_TEST_CRASH_POINTS"), self.seed) {
            (_, Seed::Again(_)) => self,
            (Some(all), Seed::From(_)) => {
                // As with a number of cases, it looks for what is new.
                let seed = Seed::From(RandomState::new().hash_one(self.name));
                Campaign { seed, cases: 0, time: Duration::ZERO, crash_points: all * percent / 100, ..self }
            }
            (None, Seed::From(_)) if number("VERFS_TEST_CASES").is_some() => self,
            (None, Seed::From(_)) => Campaign { crash_points: CRASH_POINTS * percent / 100, ..self },
        }
    }

    /// Runs `case` with one seed after the other. Returns how many cases there were.
    ///
    /// # Panics
    /// When a case fails, panics or never ends, with its seed; when no case was run.
    pub fn run(&self, mut case: impl FnMut(u64) -> Result<(), String>) -> u64 {
        let mut seeds = match self.seed {
            Seed::Again(_) => TestRng::new(0),
            Seed::From(seed) => TestRng::new(seed),
        };
        let mut progress = Progress::new();
        while progress.cases == 0 || self.goes_on(&progress) {
            let seed = match self.seed {
                Seed::Again(seed) => seed,
                Seed::From(_) => seeds.bits(),
            };
            self.run_one(seed, &mut case);
            progress.cases += 1;
        }
        self.conclude(&progress)
    }

    /// Runs `case` with each number below `count`, in an order that is mixed, so that those for which there is time are
    /// some of all kinds. Where `VERFS_TEST_CRASH_POINTS` is set, there is time for all of them. Returns how many cases
    /// there were.
    ///
    /// # Panics
    /// As [`Campaign::run`].
    pub fn run_through(&self, count: u64, mut case: impl FnMut(u64) -> Result<(), String>) -> u64 {
        let mut progress = Progress::new();
        if let Seed::Again(number) = self.seed {
            self.run_one(number % count, &mut case);
            progress.cases = 1;
            return self.conclude(&progress);
        }
        let is_whole = number("VERFS_TEST_CRASH_POINTS").is_some();
        let step = coprime_step(count);
        let mut at = 0;
        while progress.cases < count && (progress.cases == 0 || is_whole || self.goes_on(&progress)) {
            self.run_one(at, &mut case);
            progress.cases += 1;
            at = (at + step) % count;
        }
        self.conclude(&progress)
    }

    fn goes_on(&self, progress: &Progress) -> bool {
        let time = progress.begun.elapsed();
        if progress.crash_points() < self.crash_points {
            let reached = progress.crash_points();
            // Whoever asks for a million has the time.
            let has_time = time < SHARE_MAX || number("VERFS_TEST_CRASH_POINTS").is_some();
            assert!(has_time, "{}: {reached} of {} crash points in {time:?}", self.name, self.crash_points);
            return true;
        }
        progress.cases < self.cases && time < self.time
    }

    fn run_one(&self, seed: u64, case: &mut impl FnMut(u64) -> Result<(), String>) {
        if let Err(what) = guarded(self.name, seed, || case(seed)) {
            panic!("{}", self.report(seed, &what));
        }
    }

    /// Says what was done, past the output that the test harness keeps to itself: who runs all tests adds it up.
    fn conclude(&self, progress: &Progress) -> u64 {
        let Progress { cases, begun, .. } = progress;
        let (points, seconds) = (progress.crash_points(), begun.elapsed().as_secs_f64());
        let line = format!("\ncampaign {}: {cases} cases, {points} crash points, {seconds:.1} s\n", self.name);
        let _written = std::io::stderr().write_all(line.as_bytes());
        *cases
    }

    fn report(&self, seed: u64, what: &str) -> String {
        format!(
            "{}: seed {seed:#x}: {what}\nagain: VERFS_TEST_SEED={seed:#x} cargo test --release --workspace {}",
            self.name, self.name
        )
    }
}

/// How far a campaign is.
struct Progress {
    begun: Instant,
    cases: u64,
    crash_points_before: u64,
}

impl Progress {
    fn new() -> Progress {
        Progress { begun: Instant::now(), cases: 0, crash_points_before: CRASHED.get() }
    }

    fn crash_points(&self) -> u64 {
        CRASHED.get() - self.crash_points_before
    }
}

thread_local! {
    /// Crash points that were tried by this thread, which runs one campaign at a time.
    static CRASHED: Cell<u64> = const { Cell::new(0) };
}

/// Counts a crash point: to be called by the thread of the campaign.
pub fn count_crash_point() {
    CRASHED.set(CRASHED.get() + 1);
}

/// A number that leads from 0 through all numbers below `count` when it is added again and again.
fn coprime_step(count: u64) -> u64 {
    let has_common = |step: u64| {
        let (mut large, mut small) = (count, step);
        while small > 0 {
            (large, small) = (small, large % small);
        }
        large > 1
    };
    // Far from any multiple of what numbers of sequences are made of.
    let mut step = (count as f64 * 0.618_033_988_7) as u64;
    while step > 1 && has_common(step) {
        step -= 1;
    }
    step.max(1)
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static CATCHING: AtomicBool = AtomicBool::new(false);
static DOING: Mutex<Doing> = Mutex::new(Doing { what: String::new(), since: None });

struct Doing {
    what: String,
    since: Option<Instant>,
}

/// Says what is being run from now on, for the case that it never ends.
pub fn note(what: String) {
    *DOING.lock() = Doing { what, since: Some(Instant::now()) };
}

/// Threads of the volume must not panic: their panics are noted while a case runs, as nobody may be waiting for the
/// thread.
fn watch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CATCHING.load(Ordering::SeqCst) {
                return before(info);
            }
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            let ours: Vec<&str> =
                trace.lines().filter(|line| line.contains("at ./") || line.contains("crates/")).collect();
            PANICS.lock().push(format!("{info}\n{}", ours.join("\n")));
        }));
    });
}

/// Runs one case; a panic of any thread meanwhile is a failure of it.
///
/// # Errors
/// The case's own, or the panics.
pub fn guarded(name: &str, seed: u64, case: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let finished = Arc::new(AtomicU64::new(0));
    let watch = Arc::clone(&finished);
    let label = format!("{name}: seed {seed:#x} takes longer than {RUN_MAX:?}");
    note(String::new());
    let watchdog = std::thread::spawn(move || {
        while watch.load(Ordering::SeqCst) == 0 {
            std::thread::park_timeout(Duration::from_secs(1));
            let doing = DOING.lock();
            if doing.since.is_some_and(|since| since.elapsed() > RUN_MAX) {
                // Past the test's captured output, which dies with the process.
                let _written = writeln!(std::io::stderr(), "{label}\n{}", doing.what);
                std::process::abort();
            }
        }
    });
    let ended = caught(case);
    finished.store(1, Ordering::SeqCst);
    watchdog.thread().unpark();
    // It can't panic, and if it could that would change nothing.
    let _joined = watchdog.join();
    ended
}

/// Runs something; a panic of it, or of any thread meanwhile, is an error.
///
/// # Errors
/// Its own, or the panics.
pub fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    watch_panics();
    PANICS.lock().clear();
    let outer = CATCHING.swap(true, Ordering::SeqCst);
    let ended = panic::catch_unwind(AssertUnwindSafe(run));
    CATCHING.store(outer, Ordering::SeqCst);
    let panics = std::mem::take(&mut *PANICS.lock());
    match ended {
        Ok(ended) if panics.is_empty() => ended,
        Ok(Err(what)) => Err(format!("{what}\npanics: {}", panics.join("\n"))),
        Ok(Ok(_)) | Err(_) => Err(format!("panic: {}", panics.join("\n"))),
    }
}

/// Leaves out and simplifies steps of a failing sequence for as long as it still fails, within `time`.
///
/// `fails` tells why a sequence fails; the reason may change on the way. Returns the sequence and its reason.
pub fn shrink<T: Clone>(
    steps: &[T],
    reason: String,
    time: Duration,
    simpler: impl Fn(&T) -> Vec<T>,
    mut fails: impl FnMut(&[T]) -> Option<String>,
) -> (Vec<T>, String) {
    let until = Instant::now() + time;
    let mut best = steps.to_vec();
    let mut why = reason;
    let mut improved = true;
    while improved && Instant::now() < until {
        improved = false;
        let mut size = best.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < best.len() && Instant::now() < until {
                let mut fewer = best.clone();
                fewer.drain(at..(at + size).min(best.len()));
                match fails(&fewer) {
                    Some(reason) => {
                        best = fewer;
                        why = reason;
                        improved = true;
                    }
                    None => at += size,
                }
            }
            if size == 1 {
                break;
            }
            size /= 2;
        }
        for at in 0..best.len() {
            while let Some((form, reason)) = simpler(&best[at]).into_iter().find_map(|form| {
                if Instant::now() > until {
                    return None;
                }
                let mut other = best.clone();
                other[at] = form.clone();
                fails(&other).map(|reason| (form, reason))
            }) {
                best[at] = form;
                why = reason;
                improved = true;
            }
        }
    }
    (best, why)
}

/// Time for shrinking: 60 seconds, or `VERFS_TEST_SHRINK_SECONDS`.
#[must_use]
pub fn shrink_time() -> Duration {
    Duration::from_secs(number("VERFS_TEST_SHRINK_SECONDS").unwrap_or(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_keeps_only_what_makes_it_fail() {
        let steps: Vec<u32> = (0..100).collect();
        let fails = |steps: &[u32]| {
            let bad = steps.contains(&17) && steps.iter().any(|step| *step > 60);
            bad.then(|| "bad".to_owned())
        };
        let halves = |step: &u32| if *step > 17 { vec![step - 1] } else { Vec::new() };
        let (steps, why) = shrink(&steps, String::new(), Duration::from_secs(20), halves, fails);
        assert_eq!((steps, why.as_str()), (vec![17, 61], "bad"));
    }

    #[test]
    fn going_through_numbers_takes_each_once() {
        for count in [1, 2, 7, 12, 552, 88_872] {
            let step = coprime_step(count);
            let mut numbers: Vec<u64> = (0..count).map(|turn| turn * step % count).collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..count), "of {count}");
        }
    }

    #[test]
    fn a_share_of_crash_points_is_tried_however_long_it_takes() {
        let campaign = Campaign { crash_points: 50, ..Campaign::new("test", 3, Duration::ZERO) };
        let two = |_| {
            (0..2).for_each(|_| count_crash_point());
            Ok(())
        };
        assert_eq!(campaign.run(two), 25);
        assert_eq!(Campaign { crash_points: 1, time: Duration::MAX, ..campaign }.run(two), 3);
    }

    #[test]
    fn a_panic_of_another_thread_fails_the_case() {
        let case = || {
            let _panicked = std::thread::spawn(|| panic!("in the background")).join();
            Ok(())
        };
        assert!(guarded("test", 0, case).is_err_and(|what| what.contains("in the background")));
        assert_eq!(guarded("test", 0, || Ok(())), Ok(()));
    }
}
