//! Whether the machine has a core to spare for polling.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `proc_loadavg(5)`; its fourth field is the number of threads that run or could run now.
const LOADAVG: &str = "/proc/loadavg";

/// Reads how many threads want a core.
pub(crate) struct RunQueue {
    file: Option<File>,
    cores: u64,
}

impl RunQueue {
    /// Where `/proc` is missing, it is never crowded.
    pub(crate) fn open() -> RunQueue {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        RunQueue::new(File::open(Path::new(LOADAVG)).ok(), cores)
    }

    /// With a file of the same format.
    pub(crate) fn new(file: Option<File>, cores: u64) -> RunQueue {
        RunQueue { file, cores }
    }

    /// On one core who polls takes the time that his client needs.
    pub(crate) fn has_one_core(&self) -> bool {
        self.cores == 1
    }

    /// Whether `known` running threads aside every core is wanted by somebody.
    pub(crate) fn is_crowded(&self, known: u64) -> bool {
        let mut text = [0; 64];
        let length = self.file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let runnable = length.and_then(|length| runnable(&text[..length]));
        runnable.is_some_and(|runnable| runnable.saturating_sub(known) >= self.cores)
    }
}

fn runnable(text: &[u8]) -> Option<u64> {
    let field = std::str::from_utf8(text).ok()?.split(' ').nth(3)?;
    field.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_field_is_read() {
        assert_eq!(runnable(b"0.20 0.18 0.12 17/250 11206\n"), Some(17));
        assert_eq!(runnable(b"rubbish"), None);
    }

    #[test]
    fn many_busy_threads_are_a_crowd() {
        let queue = RunQueue::open();
        let busy = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            for _ in 0..queue.cores + 1 {
                scope.spawn(|| {
                    while busy.load(std::sync::atomic::Ordering::Relaxed) {
                        std::hint::spin_loop()
                    }
                });
            }
            let crowded = (0..200).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                queue.is_crowded(1)
            });
            busy.store(false, std::sync::atomic::Ordering::Relaxed);
            assert!(crowded);
        });
        assert!(!queue.is_crowded(u64::MAX));
    }
}
