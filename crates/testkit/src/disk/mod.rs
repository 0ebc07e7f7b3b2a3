//! A disk in memory that promises what POSIX promises and no more.
//!
//! Lives here: files and names, each with every state that a crash may bring back. Never here: what the files mean.
//! Data flows from the volume under test into unsynced states, from there by a sync into durable ones, and by
//! [`CrashDisk::crash`] into another disk that holds the durable states and an arbitrary choice of the others.

mod crash;
mod file;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use verfs_base::{Disk, DiskFile, Space};

use self::crash::Chooser;
pub use self::crash::CrashStyle;
use self::file::{BLOCK_BYTES, FileState, SECTOR_BYTES};
use self::tree::{Node, Tree};
use crate::power::{Call, DiskError, Power, Verdict};
use crate::random::TestRng;

/// What `space` reports of a disk without a limit: 1 TiB.
const UNLIMITED_BLOCKS: u64 = (1 << 40) / BLOCK_BYTES;

#[derive(Clone, Debug)]
struct State {
    tree: Tree,
    files: BTreeMap<u64, FileState>,
    next_file: u64,
    now: u64,
    capacity_blocks: u64,
    used_blocks: u64,
}

#[derive(Debug)]
struct Shared {
    power: Arc<Power>,
    state: Mutex<State>,
}

/// The disk. Clones of its handles stay valid after a crash but fail, as the power is gone.
///
/// * An unsynced write may be absent, present or torn at sectors of 512 bytes; lengths and names likewise, each on its
///   own. What was synced survives; a synced file whose name was not synced may be lost.
/// * After a sync that failed, later syncs do not write what that one should have written (as Linux behaves).
/// * [`Power`] cuts and fails calls.
#[derive(Clone, Debug)]
pub struct CrashDisk {
    shared: Arc<Shared>,
}

impl CrashDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new(power: Arc<Power>) -> Self {
        let state = State {
            tree: Tree::new(),
            files: BTreeMap::new(),
            next_file: 1,
            now: 0,
            capacity_blocks: UNLIMITED_BLOCKS,
            used_blocks: 0,
        };
        CrashDisk { shared: Arc::new(Shared { power, state: Mutex::new(state) }) }
    }

    /// Limits the disk to so many bytes, rounded down to blocks of 4 KiB. What is there already stays.
    pub fn limit(&self, bytes: u64) {
        self.shared.state.lock().capacity_blocks = bytes / BLOCK_BYTES;
    }

    /// Allocated bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().used_blocks * BLOCK_BYTES
    }

    /// This disk as it is now, everything unsynced included, without power: for [`CrashDisk::crash`] later.
    #[must_use]
    pub fn frozen(&self, power: Arc<Power>) -> CrashDisk {
        let state = self.shared.state.lock().clone();
        CrashDisk { shared: Arc::new(Shared { power, state: Mutex::new(state) }) }
    }

    /// The disk after a power failure, on new power. This disk is unchanged: several outcomes may be drawn from it.
    #[must_use]
    pub fn crash(&self, style: CrashStyle, rng: &mut TestRng, power: Arc<Power>) -> CrashDisk {
        let state = self.shared.state.lock();
        let chooser = &mut Chooser::new(style, state.now, rng);
        let (tree, named) = state.tree.crashed(chooser);
        let mut files = BTreeMap::new();
        for (file, names) in named {
            if let Some(before) = state.files.get(&file) {
                let mut after = before.crashed(file, chooser);
                after.names = names;
                files.insert(file, after);
            }
        }
        let used_blocks = files.values().map(FileState::allocated_blocks).sum();
        let after = State {
            tree,
            files,
            next_file: state.next_file,
            now: 0,
            capacity_blocks: state.capacity_blocks,
            used_blocks,
        };
        CrashDisk { shared: Arc::new(Shared { power, state: Mutex::new(after) }) }
    }
}

impl fmt::Display for CrashDisk {
    /// Every file with its length, for reading a failure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        let mut todo = vec![(PathBuf::new(), 0)];
        while let Some((path, dir)) = todo.pop() {
            for name in state.tree.list(dir) {
                let child = path.join(&name);
                match state.tree.get(dir, &name) {
                    Some(Node::File(file)) => {
                        writeln!(f, "{} {}", child.display(), state.files[&file].len)?;
                    }
                    Some(Node::Dir(dir)) => todo.push((child, dir)),
                    None => {}
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn free_if_unused(&mut self, file: u64) {
        let Some(state) = self.files.get(&file) else { return };
        if state.names == 0 && state.handles == 0 {
            self.used_blocks -= state.allocated_blocks();
        }
    }

    /// The name that stood for `node` no longer does.
    fn unname(&mut self, node: Option<Node>) {
        if let Some(Node::File(file)) = node {
            if let Some(state) = self.files.get_mut(&file) {
                state.names -= 1;
            }
            self.free_if_unused(file);
        }
    }

    fn room(&self) -> u64 {
        self.capacity_blocks.saturating_sub(self.used_blocks)
    }
}

impl Shared {
    /// Runs a call: `act` changes the state, and its error comes before that of a cut.
    fn call<T>(
        &self,
        call: Call,
        detail: impl FnOnce() -> String,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.power.spend(call, detail) {
            Verdict::Proceed => act(&mut self.state.lock()),
            Verdict::CutHere => {
                let acted = act(&mut self.state.lock());
                // A handle that nobody gets locks the state when it is dropped.
                drop(acted?);
                Err(Power::gone())
            }
            Verdict::Fail(error) => Err(error.to_io()),
        }
    }
}

impl CrashDisk {
    fn handle(&self, state: &mut State, path: &Path, file: u64, mode: Mode) -> Arc<dyn DiskFile> {
        if let Some(file) = state.files.get_mut(&file) {
            file.handles += 1;
        }
        Arc::new(CrashFile { shared: Arc::clone(&self.shared), file, mode, path: path.to_owned() })
    }

    fn open_as(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.call(
            Call::Open,
            || path.display().to_string(),
            |state| {
                let file = state.tree.file(path)?;
                Ok(self.handle(state, path, file, mode))
            },
        )
    }
}

impl Disk for CrashDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.call(
            Call::Create,
            || path.display().to_string(),
            |state| {
                let (dir, name) = state.tree.place(path)?;
                if state.tree.get(dir, name).is_some() {
                    return Err(io::Error::from_raw_os_error(17));
                }
                if state.room() == 0 {
                    return Err(DiskError::Full.to_io());
                }
                let at = state.tick();
                let file = state.next_file;
                state.next_file += 1;
                state.files.insert(file, FileState::named());
                state.tree.set(dir, name, Some(Node::File(file)), at);
                Ok(self.handle(state, path, file, Mode::ReadWrite))
            },
        )
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_as(path, Mode::ReadWrite)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_as(path, Mode::Read)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.call(
            Call::Rename,
            || format!("{} {}", from.display(), to.display()),
            |state| {
                let file = state.tree.file(from)?;
                let (from_dir, from_name) = state.tree.place(from)?;
                let (to_dir, to_name) = state.tree.place(to)?;
                let replaced = state.tree.get(to_dir, to_name);
                match replaced {
                    Some(Node::Dir(_)) => return Err(io::Error::from_raw_os_error(21)),
                    Some(Node::File(same)) if same == file => return Ok(()),
                    Some(Node::File(_)) | None => {}
                }
                let at = state.tick();
                state.tree.set(to_dir, to_name, Some(Node::File(file)), at);
                state.tree.set(from_dir, from_name, None, at);
                state.unname(replaced);
                Ok(())
            },
        )
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.call(
            Call::Remove,
            || path.display().to_string(),
            |state| {
                let file = state.tree.file(path)?;
                let (dir, name) = state.tree.place(path)?;
                let at = state.tick();
                state.tree.set(dir, name, None, at);
                state.unname(Some(Node::File(file)));
                Ok(())
            },
        )
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.shared.call(
            Call::CreateDir,
            || path.display().to_string(),
            |state| {
                let at = state.tick();
                state.tree.make_dirs(path, at)
            },
        )
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.shared.call(
            Call::List,
            || path.display().to_string(),
            |state| match state.tree.dir(path) {
                Ok(dir) => Ok(state.tree.list(dir).into_iter().map(PathBuf::from).collect()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            },
        )
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let detail = || path.display().to_string();
        match self.shared.power.spend(Call::SyncDir, detail) {
            Verdict::Proceed => {
                let state = &mut *self.shared.state.lock();
                let dir = state.tree.dir(path)?;
                state.tree.sync(dir);
                Ok(())
            }
            Verdict::CutHere => Err(Power::gone()),
            Verdict::Fail(error) => Err(error.to_io()),
        }
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.shared.state.lock();
        Ok(Space { total: state.capacity_blocks * BLOCK_BYTES, available: state.room() * BLOCK_BYTES })
    }

    fn ready(&self) -> io::Result<()> {
        self.shared.call(Call::Ready, || "before a commit".into(), |_| Ok(()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Read,
    ReadWrite,
}

#[derive(Debug)]
struct CrashFile {
    shared: Arc<Shared>,
    file: u64,
    mode: Mode,
    path: PathBuf,
}

impl CrashFile {
    fn call<T>(&self, call: Call, range: (u64, u64), act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.shared.call(call, || self.detail(range), act)
    }

    fn detail(&self, (offset, len): (u64, u64)) -> String {
        format!("{} {offset}+{len}", self.path.display())
    }

    fn writable(&self) -> io::Result<()> {
        match self.mode {
            Mode::ReadWrite => Ok(()),
            Mode::Read => Err(io::Error::from_raw_os_error(9)),
        }
    }

    fn write(&self, state: &mut State, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = state.tick();
        let room = state.room();
        let Some(file) = state.files.get_mut(&self.file) else { return Ok(()) };
        let mut fits = bytes;
        while file.missing_blocks(offset, fits.len() as u64) > room {
            fits = &fits[..fits.len().saturating_sub(BLOCK_BYTES as usize)];
        }
        let new_blocks = file.missing_blocks(offset, fits.len() as u64);
        file.write(fits, offset, at);
        state.used_blocks += new_blocks;
        if fits.len() < bytes.len() { Err(DiskError::Full.to_io()) } else { Ok(()) }
    }
}

impl DiskFile for CrashFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let range = (offset, buffer.len() as u64);
        self.call(Call::Read, range, |state| {
            Ok(state.files.get(&self.file).map_or(0, |file| file.read(buffer, offset)))
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        let range = (offset, bytes.len() as u64);
        match self.shared.power.spend(Call::Write, || self.detail(range)) {
            Verdict::Proceed => self.write(&mut self.shared.state.lock(), bytes, offset),
            Verdict::CutHere => {
                self.write(&mut self.shared.state.lock(), bytes, offset)?;
                Err(Power::gone())
            }
            // A write that fails may have got part of the way.
            Verdict::Fail(error) => {
                if !self.shared.power.is_off() {
                    let half = bytes.len() / 2 / SECTOR_BYTES as usize * SECTOR_BYTES as usize;
                    self.write(&mut self.shared.state.lock(), &bytes[..half], offset)?;
                }
                Err(error.to_io())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.shared.power.spend(Call::SyncData, || self.detail((0, 0))) {
            Verdict::Proceed if self.shared.power.pretends(Call::SyncData) => Ok(()),
            Verdict::Proceed => {
                if let Some(file) = self.shared.state.lock().files.get_mut(&self.file) {
                    file.sync();
                }
                Ok(())
            }
            Verdict::CutHere => Err(Power::gone()),
            Verdict::Fail(error) => {
                if let Some(file) = self.shared.state.lock().files.get_mut(&self.file) {
                    file.forsake();
                }
                Err(error.to_io())
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.shared.state.lock();
        Ok(state.files.get(&self.file).map_or(0, |file| file.len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.call(Call::SetLen, (len, 0), |state| {
            let at = state.tick();
            let Some(file) = state.files.get_mut(&self.file) else { return Ok(()) };
            let before = file.allocated_blocks();
            file.set_len(len, at);
            let after = file.allocated_blocks();
            state.used_blocks = state.used_blocks + after - before;
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.call(Call::Allocate, (0, len), |state| {
            let room = state.room();
            let Some(file) = state.files.get_mut(&self.file) else { return Ok(()) };
            let missing = file.missing_reservation(len);
            if missing > room {
                return Err(DiskError::Full.to_io());
            }
            file.reserve(len);
            state.used_blocks += missing;
            Ok(())
        })
    }
}

impl Drop for CrashFile {
    fn drop(&mut self) {
        let state = &mut *self.shared.state.lock();
        if let Some(file) = state.files.get_mut(&self.file) {
            file.handles -= 1;
        }
        state.free_if_unused(self.file);
    }
}
