//! File descriptors as something that runs out: how many may still be opened, and some that are kept back for then.
//!
//! Lives here: the reserve of one open volume and the count of what is free. Never here: what is done while there are
//! none. Data flows from the process's table and limit to whoever is about to open something.
//!
//! A metadata engine that can't open a file in the middle of a flush stops for good, so nothing may begin there that the
//! table has no room for, and what is under way has to find room: the reserve, which is given up at the first sign. It is
//! opened before everything else of a volume, so its numbers are low: they are of use even when the limit is lowered below
//! what is open.

use std::fs::{self, File};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Descriptors that are kept back.
const RESERVE: u64 = 32;
/// Descriptors that the flushes and compactions of a metadata engine need at once at most, with some to spare.
const MARGIN: u64 = 16;
/// The reserve is taken again when so many are free.
const REFILL: u64 = RESERVE + 2 * MARGIN;

/// Whether an error says that no more files can be opened: by this process (EMFILE), or by any (ENFILE).
#[must_use]
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// How many files the process may still open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DescriptorRoom {
    /// Descriptors that are free.
    pub free: u64,
    /// How many the process may have.
    pub limit: u64,
    /// Whether the reserve was given up for lack of others.
    pub on_reserve: bool,
}

impl DescriptorRoom {
    /// Whether what opens files by itself may begin something.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.free >= MARGIN
    }
}

/// The reserve of an open volume.
#[derive(Debug)]
pub struct Descriptors {
    /// Files of their own, and not copies of one: the system's table has a limit, too. Empty when given up.
    reserve: Mutex<Vec<File>>,
}

impl Descriptors {
    /// Takes the reserve.
    ///
    /// # Errors
    /// There are not enough descriptors.
    pub fn keep() -> io::Result<Descriptors> {
        Ok(Descriptors { reserve: Mutex::new(open_reserve()?) })
    }

    fn reserve(&self) -> MutexGuard<'_, Vec<File>> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the reserve up or takes it again, as there is need, and says what is free then.
    pub fn look(&self) -> DescriptorRoom {
        let mut reserve = self.reserve();
        let (mut free, limit) = free();
        if reserve.is_empty() {
            if free >= REFILL {
                match open_reserve() {
                    Ok(taken) => {
                        *reserve = taken;
                        free -= RESERVE;
                    }
                    // The table of the system is full, or somebody was faster.
                    Err(_) => free = 0,
                }
            }
        } else if free < MARGIN {
            reserve.clear();
            free = self::free().0;
        }
        DescriptorRoom { free, limit, on_reserve: reserve.is_empty() }
    }

    /// Whether what opens files by itself may begin something.
    ///
    /// # Errors
    /// EMFILE: it may not.
    pub fn check(&self) -> io::Result<()> {
        if self.look().is_enough() { Ok(()) } else { Err(Errno::MFILE.into()) }
    }

    /// Runs `open`; when there is no descriptor for it, once more without the reserve.
    ///
    /// # Errors
    /// What `open` says.
    pub fn with_reserve<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if is_out_of_descriptors(&error) => {
                let given_up = std::mem::take(&mut *self.reserve());
                if given_up.is_empty() {
                    return Err(error);
                }
                drop(given_up);
                open()
            }
            done => done,
        }
    }

    /// Runs `open` for a file that stays open: it leaves those descriptors alone that others can't do without.
    ///
    /// # Errors
    /// EMFILE when only those are left; what `open` says.
    pub fn for_long<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        if self.reserve().is_empty() {
            self.check()?;
        }
        self.with_reserve(open)
    }
}

fn open_reserve() -> io::Result<Vec<File>> {
    (0..RESERVE).map(|_| File::open("/dev/null")).collect()
}

/// Descriptors that are free, and how many there may be. Where the table can't be read for another reason than that it is
/// full, it is taken for empty.
fn free() -> (u64, u64) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let free = match fs::read_dir("/proc/self/fd") {
        Ok(entries) => {
            let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
            // Open ones above a limit that was lowered later take nothing of it. One of them is this look's own.
            let taken = numbers.filter(|number| *number < limit).count() as u64;
            limit.saturating_sub(taken.saturating_sub(1))
        }
        Err(error) if is_out_of_descriptors(&error) => 0,
        Err(_) => limit,
    };
    (free, limit)
}
