//! Who does what since when, and what is told of those who are stuck.
//!
//! The clients tell it in a file, and another process reads that: who waits in the kernel with the lock of his address
//! space can stop everybody who shares it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Room for what one client tells.
const LINE_BYTES: usize = 512;

/// What the clients do, and how long they took for what they did.
pub(crate) struct Board {
    lines: File,
    begun: Vec<Mutex<Option<Instant>>>,
    took: Mutex<Latencies>,
}

/// Counts of operations by time: four buckets for each doubling.
struct Latencies {
    buckets: [u64; 160],
    max: Duration,
}

/// How many operations there were, and how long they took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

/// Milliseconds on a clock that all processes share.
fn now_ms() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

impl Board {
    /// A board in a new file, for so many clients.
    pub(crate) fn new(path: &Path, clients: usize) -> io::Result<Board> {
        let lines = File::create(path)?;
        lines.set_len((clients * LINE_BYTES) as u64)?;
        let begun = (0..clients).map(|_| Mutex::new(None)).collect();
        Ok(Board { lines, begun, took: Mutex::new(Latencies { buckets: [0; 160], max: Duration::ZERO }) })
    }

    fn tell(&self, number: usize, what: &str) {
        let mut line = what.as_bytes().to_vec();
        line.resize(LINE_BYTES, 0);
        // A watchdog that sees too little is better than a flood that ends here.
        let _written = self.lines.write_all_at(&line, (number * LINE_BYTES) as u64);
    }

    /// Client `number`, whose thread this is, begins something.
    pub(crate) fn begin(&self, number: usize, operation: &str, path: &str) {
        let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
        self.tell(number, &format!("{}\n{}\n{operation} in {path}", now_ms(), thread.display()));
        *self.begun[number].lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// It has done it.
    pub(crate) fn end(&self, number: usize) {
        let Some(begun) = self.begun[number].lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let time = begun.elapsed();
        self.tell(number, "");
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = ((time.as_nanos().max(1) as f64).log2() * 4.0) as usize;
        took.buckets[bucket.min(159)] += 1;
        took.max = took.max.max(time);
    }

    /// What was done so far.
    pub(crate) fn summary(&self) -> Summary {
        let took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        let count = took.buckets.iter().sum();
        let percentile = |percent: u64| {
            let mut seen = 0;
            let bucket = took.buckets.iter().position(|in_bucket| {
                seen += in_bucket;
                seen * 100 >= count * percent
            });
            Duration::from_nanos(((bucket.unwrap_or(0) as f64 + 0.5) / 4.0).exp2() as u64)
        };
        Summary { count, p50: percentile(50), p99: percentile(99), max: took.max }
    }
}

/// Tells of everybody on a board who has been at one thing for longer than `limit`. Nobody is while there is no board.
pub(crate) fn stuck(board: &Path, limit: Duration) -> Option<String> {
    let mut told = String::new();
    for (number, line) in fs::read(board).unwrap_or_default().chunks(LINE_BYTES).enumerate() {
        let line = String::from_utf8_lossy(line);
        let mut parts = line.trim_end_matches('\0').splitn(3, '\n');
        let Some(since) = parts.next().and_then(|since| since.parse::<i64>().ok()) else { continue };
        let (thread, what) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let for_ms = now_ms() - since;
        if u128::try_from(for_ms).is_ok_and(|for_ms| for_ms > limit.as_millis()) {
            let place = place_of(&Path::new("/proc").join(thread));
            let _ = writeln!(told, "client {number} for {:.1} s: {what}{place}", for_ms as f64 / 1000.0);
        }
    }
    (!told.is_empty()).then_some(told)
}

/// Where a thread is in the kernel, as far as that may be read.
fn place_of(thread: &Path) -> String {
    let mut told = String::new();
    for file in ["comm", "wchan", "syscall", "stack"] {
        let text = fs::read_to_string(thread.join(file)).unwrap_or_else(|error| error.to_string());
        let _ = write!(told, "; {file}: {}", text.trim().replace('\n', " < "));
    }
    told
}

/// Where every thread of this process is: among them are the volume's.
pub(crate) fn own_threads() -> String {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| format!("{}{}\n", task.file_name().display(), place_of(&task.path()))).collect()
}

/// The watchdog's own test: somebody waits in the kernel, and it says where.
#[test]
fn the_watchdog_tells_who_is_stuck_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, lines): (PathBuf, PathBuf) = (folder.path().join("pipe"), folder.path().join("board"));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let board = Board::new(&lines, 3).unwrap();
    let told = std::thread::scope(|scope| {
        scope.spawn(|| {
            board.begin(1, "open", &pipe.display().to_string());
            drop(File::open(&pipe));
            board.end(1);
        });
        let told = loop {
            if let Some(told) = stuck(&lines, Duration::from_millis(300)) {
                break told;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        File::options().write(true).open(&pipe).unwrap();
        told
    });
    let has = |part: &str| assert!(told.contains(part), "{told}");
    has("client 1 for 0.3");
    has(" s: open in ");
    has("/pipe; comm: ");
    // openat(2) by its number.
    has(if cfg!(target_arch = "x86_64") { "syscall: 257 " } else { "syscall: 56 " });
    assert!(!told.contains("client 0") && !told.contains("client 2"), "{told}");
    assert_eq!((stuck(&lines, Duration::ZERO), board.summary().count), (None, 1));
}
