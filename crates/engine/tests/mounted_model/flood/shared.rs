//! What all clients do to the same files, in ways of which the outcome is known.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, FallocateFlags, FlockOperation, RenameFlags, renameat_with};
use verfs_testkit::TestRng;

use super::sealed::Stamp;
use super::watchdog::Board;
use crate::support::page::{PAGE_BYTES, Page};

/// Names that are always there, each renamed over by everybody.
const SLOTS: u64 = 16;
/// Pages of one file, each written by who has its lock.
const PAGES: u64 = 32;
/// Files that everybody moves between two directories.
const TOKENS: u64 = 8;
/// Directories that everybody makes and removes.
const HOMES: u64 = 4;
/// Length of a record of the common log.
const RECORD_BYTES: usize = 64;

/// The files that all clients share, and what must be in them.
pub(crate) struct Shared {
    root: PathBuf,
    /// What each page holds: changed by who has its lock.
    pages: Vec<Mutex<Stamp>>,
    /// Records that each client has appended.
    appended: Vec<AtomicU64>,
    counted: AtomicU64,
}

/// A client as it goes about in the shared files.
pub(crate) struct Guest<'a> {
    pub(crate) number: usize,
    pub(crate) rng: TestRng,
    pub(crate) board: &'a Board,
    /// Of what it wrote last.
    pub(crate) serial: u64,
}

fn told<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

impl Guest<'_> {
    /// Does something in the sight of the watchdog.
    fn call<T>(&self, operation: &str, path: &str, call: impl FnOnce() -> io::Result<T>) -> Result<T, String> {
        self.board.begin(self.number, operation, path);
        let result = call();
        self.board.end(self.number);
        told(&format!("{operation} {path}"), result)
    }

    fn stamp(&mut self) -> Stamp {
        self.serial += 1;
        Stamp { writer: self.number as u64, serial: self.serial }
    }

    fn check(&self, path: &str, file: &File) -> Result<Stamp, String> {
        self.board.begin(self.number, "read all", path);
        let stamp = Stamp::of_file(file);
        self.board.end(self.number);
        stamp.map_err(|what| format!("{path}: {what}"))
    }
}

impl Shared {
    /// Makes the shared files in an empty directory.
    pub(crate) fn new(root: PathBuf, clients: usize) -> io::Result<Shared> {
        for name in ["slots", "drafts", "links", "left", "right", "homes", "locks"] {
            fs::create_dir(root.join(name))?;
        }
        let nobody = Stamp { writer: u64::MAX >> 20, serial: 0 };
        for slot in 0..SLOTS {
            fs::write(root.join(format!("slots/{slot}")), nobody.bytes(PAGE_BYTES))?;
        }
        for token in 0..TOKENS {
            let stamp = Stamp { serial: token, ..nobody };
            fs::write(root.join(format!("left/{token}")), stamp.bytes(PAGE_BYTES))?;
        }
        fs::write(root.join("pages"), nobody.bytes(PAGE_BYTES).repeat(PAGES as usize))?;
        fs::write(root.join("count"), 0_u64.to_le_bytes())?;
        fs::write(root.join("log"), "")?;
        fs::write(root.join("stretch"), "")?;
        for lock in 0..PAGES {
            fs::write(root.join(format!("locks/{lock}")), "")?;
        }
        Ok(Shared {
            root,
            pages: (0..PAGES).map(|_| Mutex::new(nobody)).collect(),
            appended: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            counted: AtomicU64::new(0),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// One of the things that clients do.
    pub(crate) fn act(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        match guest.rng.below(12) {
            0..=2 => self.replace(guest),
            3 | 4 => self.look(guest),
            5 => self.link(guest),
            6 => self.append(guest),
            7 => self.count(guest),
            8 => self.write_page(guest),
            9 => self.move_token(guest),
            10 => self.settle(guest),
            _ => self.stretch(guest),
        }
    }

    /// Writes a draft and renames it over a slot, or exchanges them.
    fn replace(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        let draft = format!("drafts/{}", guest.number);
        let slot = format!("slots/{}", guest.rng.below(SLOTS));
        let len = if guest.rng.chance(1, 20) { 400_000 } else { 4096 + guest.rng.below(8192) as usize };
        let bytes = guest.stamp().bytes(len);
        let (from, to) = (self.path(&draft), self.path(&slot));
        if guest.rng.chance(1, 3) {
            // A copy that the volume makes itself, of what may be renamed over meanwhile.
            let source = guest.call("open", &slot, || File::open(&to))?;
            let len = told(&slot, source.metadata())?.len() as usize;
            let target = guest.call("create", &draft, || File::create(&from))?;
            let copied = guest.call("copy_file_range", &draft, || {
                Ok(rustix::fs::copy_file_range(&source, Some(&mut 0), &target, Some(&mut 0), len)?)
            })?;
            if copied != len {
                return Err(format!("{draft}: of {len} bytes {copied} were copied"));
            }
        } else {
            let mut file = guest.call("create", &draft, || File::create(&from))?;
            guest.call("write", &draft, || file.write_all(&bytes))?;
            if guest.rng.chance(1, 20) {
                guest.call("fsync", &draft, || file.sync_all())?;
            }
        }
        let flags = if guest.rng.chance(1, 4) { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
        guest.call("rename", &format!("{draft} to {slot}"), || Ok(renameat_with(CWD, &from, CWD, &to, flags)?))?;
        if flags == RenameFlags::EXCHANGE {
            // Now it is the draft's name that leads to the old one.
            let file = guest.call("open", &draft, || File::open(&from))?;
            guest.check(&draft, &file)?;
            guest.call("unlink", &draft, || fs::remove_file(&from))?;
        }
        Ok(())
    }

    /// Reads a slot, which is always there and whole; or lists them all.
    fn look(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        if guest.rng.chance(1, 4) {
            let listed =
                guest.call("list", "slots", || fs::read_dir(self.path("slots"))?.collect::<io::Result<Vec<_>>>())?;
            let mut names: Vec<u64> =
                listed.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
            names.sort_unstable();
            return if names.iter().copied().eq(0..SLOTS) { Ok(()) } else { Err(format!("slots lists {names:?}")) };
        }
        let slot = format!("slots/{}", guest.rng.below(SLOTS));
        let open = || OpenOptions::new().read(true).write(true).open(self.path(&slot));
        let file = guest.call("open", &slot, open)?;
        let stamp = guest.check(&slot, &file)?;
        if guest.rng.chance(1, 3) {
            let page = Page::map(&file, libc::MAP_PRIVATE, 0);
            guest.board.begin(guest.number, "read mapped", &slot);
            let found: Vec<u8> = (0..16).map(|at| page.get(at)).collect();
            guest.board.end(guest.number);
            if found != stamp.bytes(PAGE_BYTES)[..16] {
                return Err(format!("{slot}: mapped it begins with {found:?}, read it was of {stamp:?}"));
            }
        }
        Ok(())
    }

    /// Gives a slot's file a name of its own, which keeps it.
    fn link(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        let (slot, link) = (format!("slots/{}", guest.rng.below(SLOTS)), format!("links/{}", guest.number));
        let is_linked = guest.call("link", &format!("{slot} to {link}"), || {
            match fs::hard_link(self.path(&slot), self.path(&link)) {
                // Between the look-up and the link it lost its last name: so link(2) is on every file system of Linux.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                linked => linked.map(|()| true),
            }
        })?;
        if !is_linked {
            return Ok(());
        }
        let file = guest.call("open", &link, || File::open(self.path(&link)))?;
        guest.check(&link, &file)?;
        guest.call("unlink", &link, || fs::remove_file(self.path(&link)))
    }

    fn append(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        let number = self.appended[guest.number].load(Ordering::SeqCst);
        let record = Stamp { writer: guest.number as u64, serial: number }.bytes(RECORD_BYTES);
        let open = || OpenOptions::new().append(true).open(self.path("log"));
        let mut file = guest.call("open", "log", open)?;
        guest.call("append", "log", || file.write_all(&record))?;
        self.appended[guest.number].store(number + 1, Ordering::SeqCst);
        Ok(())
    }

    /// Waits for a lock of a file and does something with it.
    fn locked<T>(
        &self,
        guest: &mut Guest<'_>,
        lock: &str,
        act: impl FnOnce(&mut Guest<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let file = guest.call("open", lock, || File::open(self.path(lock)))?;
        guest.call("flock", lock, || Ok(rustix::fs::flock(&file, FlockOperation::LockExclusive)?))?;
        // The lock goes with the file.
        act(guest)
    }

    fn count(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        self.locked(guest, "count", |guest| {
            let open = || OpenOptions::new().read(true).write(true).open(self.path("count"));
            let file = guest.call("open", "count", open)?;
            let mut bytes = [0; 8];
            guest.call("read", "count", || file.read_exact_at(&mut bytes, 0))?;
            let count = u64::from_le_bytes(bytes);
            let expected = self.counted.load(Ordering::SeqCst);
            if count != expected {
                return Err(format!("the count is {count}, {expected} were counted"));
            }
            guest.call("write", "count", || file.write_all_at(&(count + 1).to_le_bytes(), 0))?;
            self.counted.store(count + 1, Ordering::SeqCst);
            Ok(())
        })
    }

    /// Reads a page as it was left, and writes it, each through a map or not.
    fn write_page(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        let number = guest.rng.below(PAGES);
        let (offset, name) = (number * PAGE_BYTES as u64, format!("page {number}"));
        self.locked(guest, &format!("locks/{number}"), |guest| {
            let open = || OpenOptions::new().read(true).write(true).open(self.path("pages"));
            let file = guest.call("open", "pages", open)?;
            let mapped = Page::map(&file, libc::MAP_SHARED, offset);
            let mut last = self.pages[number as usize].lock().unwrap_or_else(PoisonError::into_inner);
            let mut found = vec![0; PAGE_BYTES];
            if guest.rng.chance(1, 2) {
                guest.call("read", &name, || file.read_exact_at(&mut found, offset))?;
            } else {
                guest.board.begin(guest.number, "read mapped", &name);
                found.iter_mut().enumerate().for_each(|(at, byte)| *byte = mapped.get(at));
                guest.board.end(guest.number);
            }
            match Stamp::of(&found) {
                Ok(stamp) if stamp == *last => {}
                found => return Err(format!("{name}: expected {:?}, found {found:?}", *last)),
            }
            *last = guest.stamp();
            let bytes = last.bytes(PAGE_BYTES);
            if guest.rng.chance(1, 2) {
                guest.call("write", &name, || file.write_all_at(&bytes, offset))
            } else {
                guest.board.begin(guest.number, "write mapped", &name);
                bytes.iter().enumerate().for_each(|(at, byte)| mapped.set(at, *byte));
                guest.board.end(guest.number);
                if guest.rng.chance(1, 8) { guest.call("msync", &name, || mapped.sync()) } else { Ok(()) }
            }
        })
    }

    /// Moves a file between two directories: who comes too late finds it gone.
    fn move_token(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        let token = guest.rng.below(TOKENS);
        let (from, to) = if guest.rng.chance(1, 2) { ("left", "right") } else { ("right", "left") };
        let (from, to) = (format!("{from}/{token}"), format!("{to}/{token}"));
        guest.call("move", &format!("{from} to {to}"), || {
            match renameat_with(CWD, self.path(&from), CWD, self.path(&to), RenameFlags::NOREPLACE) {
                Err(rustix::io::Errno::NOENT) => Ok(()),
                moved => Ok(moved?),
            }
        })
    }

    /// Makes a directory, which is then its own, and clears it away.
    fn settle(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        let home = format!("homes/{}", guest.rng.below(HOMES));
        let is_mine = guest.call("mkdir", &home, || match fs::create_dir(self.path(&home)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|()| true),
        })?;
        if !is_mine {
            return Ok(());
        }
        let inside = format!("{home}/{}", guest.number);
        guest.call("create", &inside, || File::create_new(self.path(&inside)))?;
        let listed = guest.call("list", &home, || fs::read_dir(self.path(&home))?.collect::<io::Result<Vec<_>>>())?;
        if listed.len() != 1 {
            return Err(format!("{home} lists {listed:?}"));
        }
        guest.call("unlink", &inside, || fs::remove_file(self.path(&inside)))?;
        guest.call("rmdir", &home, || fs::remove_dir(self.path(&home)))
    }

    /// Cuts, writes and extends one file.
    fn stretch(&self, guest: &mut Guest<'_>) -> Result<(), String> {
        self.locked(guest, "stretch", |guest| {
            let open = || OpenOptions::new().read(true).write(true).open(self.path("stretch"));
            let file = guest.call("open", "stretch", open)?;
            let (whole, more) = (guest.rng.between(4096, 100_000), guest.rng.between(1, 200_000));
            let bytes = guest.stamp().bytes(whole as usize);
            guest.call("truncate", "stretch", || file.set_len(0))?;
            guest.call("write", "stretch", || file.write_all_at(&bytes, 0))?;
            if guest.rng.chance(1, 2) {
                guest.call("truncate", "stretch", || file.set_len(whole + more))?;
            } else {
                let flags = FallocateFlags::empty();
                guest.call("fallocate", "stretch", || Ok(rustix::fs::fallocate(&file, flags, whole, more)?))?;
            }
            let mut found = vec![1; (whole + more) as usize];
            guest.call("read", "stretch", || file.read_exact_at(&mut found, 0))?;
            let (front, back) = found.split_at(whole as usize);
            if front != bytes || back.iter().any(|byte| *byte != 0) {
                return Err(format!("stretch: {whole} bytes and {more} zeros were written, others read"));
            }
            Ok(())
        })
    }

    /// Whether everything is as the clients left it, once all are done.
    pub(crate) fn check(&self) -> Result<(), String> {
        for slot in 0..SLOTS {
            let name = format!("slots/{slot}");
            let file = told(&name, File::open(self.path(&name)))?;
            Stamp::of_file(&file).map_err(|what| format!("{name}: {what}"))?;
        }
        for token in 0..TOKENS {
            let found: Vec<PathBuf> = ["left", "right"]
                .map(|side| self.path(&format!("{side}/{token}")))
                .into_iter()
                .filter(|path| path.exists())
                .collect();
            let [path] = &found[..] else { return Err(format!("token {token} is at {found:?}")) };
            let stamp = Stamp::of_file(&told("a token", File::open(path))?)?;
            if stamp.serial != token {
                return Err(format!("token {token} is {stamp:?}"));
            }
        }
        let pages = told("pages", fs::read(self.path("pages")))?;
        for (number, (page, last)) in pages.chunks(PAGE_BYTES).zip(&self.pages).enumerate() {
            let (found, last) = (Stamp::of(page), *last.lock().unwrap_or_else(PoisonError::into_inner));
            if found != Ok(last) {
                return Err(format!("page {number}: expected {last:?}, found {found:?}"));
            }
        }
        let count = told("count", fs::read(self.path("count")))?;
        if count != self.counted.load(Ordering::SeqCst).to_le_bytes() {
            return Err(format!("the count is {count:?}, {:?} were counted", self.counted));
        }
        let mut next = vec![0; self.appended.len()];
        for record in told("log", fs::read(self.path("log")))?.chunks(RECORD_BYTES) {
            let stamp = Stamp::of(record).map_err(|what| format!("log: {what}"))?;
            let next = next.get_mut(stamp.writer as usize).ok_or_else(|| format!("log: {stamp:?} is nobody's"))?;
            if stamp.serial != *next {
                return Err(format!("log: {stamp:?} comes where his number {next} should"));
            }
            *next += 1;
        }
        let appended: Vec<u64> = self.appended.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        if next != appended {
            return Err(format!("log: {appended:?} records were appended, {next:?} are there"));
        }
        for name in ["drafts", "links", "homes"] {
            let left = told(name, fs::read_dir(self.path(name)))?.count();
            if left > 0 {
                return Err(format!("{name}: {left} entries are left"));
            }
        }
        Ok(())
    }
}
