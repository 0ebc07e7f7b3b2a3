//! A disk in memory that loses what was not synced, fails on demand, fills up, and can be held still.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use verfs_base::{Disk, DiskFile, Space};

/// A kind of call to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Create,
    Open,
    Rename,
    Remove,
    CreateDir,
    List,
    SyncDir,
    Read,
    Write,
    Sync,
    Len,
    SetLen,
    Allocate,
}

/// Calls that fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which calls count; `None` for all.
    pub call: Option<Call>,
    /// How many of them succeed first.
    pub after: u64,
    /// How many of them fail then.
    pub times: u64,
    pub kind: io::ErrorKind,
}

/// What a crash leaves.
#[derive(Clone, Copy, Debug)]
pub enum Crash {
    /// Everything: only the process died.
    Process,
    /// What was synced.
    Power,
    /// What was synced, and of the rest some pages, by this seed.
    Torn(u64),
}

#[derive(Clone, Default, Debug)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Ranges written since the last sync.
    dirty: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    synced_dirs: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    calls: u64,
    trace: Vec<(Call, PathBuf, usize)>,
    limit_bytes: Option<usize>,
    space: Option<Space>,
    held: Option<Call>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct TestDisk(Arc<Shared>);

/// While it lives, calls of one kind wait. It ends with the test's panic, too: else the test would hang instead.
pub struct Held<'a>(&'a TestDisk);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.state().held = None;
        self.0.0.changed.notify_all();
    }
}

#[derive(Debug)]
struct TestFile {
    disk: TestDisk,
    number: usize,
    path: PathBuf,
}

impl TestDisk {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn as_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Forgets earlier faults and adds one.
    pub fn fail(&self, fault: Fault) {
        self.state().faults = vec![fault];
    }

    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Number of calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The calls since the last time, with the number of bytes of reads and writes.
    pub fn take_trace(&self) -> Vec<(Call, PathBuf, usize)> {
        std::mem::take(&mut self.state().trace)
    }

    /// Writes that make the files longer than this in sum fail.
    pub fn limit(&self, bytes: Option<usize>) {
        self.state().limit_bytes = bytes;
    }

    /// What the disk says of its room, whatever it takes.
    pub fn pretend(&self, space: Space) {
        self.state().space = Some(space);
    }

    /// Calls of this kind wait until the answer is dropped.
    #[must_use]
    pub fn hold(&self, call: Call) -> Held<'_> {
        self.state().held = Some(call);
        Held(self)
    }

    /// Paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    pub fn read(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[path]].now.clone()
    }

    /// Replaces a file's content, durably.
    pub fn replace(&self, path: &Path, bytes: &[u8]) {
        let state = &mut *self.state();
        let file = &mut state.files[state.names[path]];
        *file = File { now: bytes.to_vec(), synced: bytes.to_vec(), dirty: Vec::new() };
    }

    pub fn delete(&self, path: &Path) {
        let state = &mut *self.state();
        state.names.remove(path).unwrap();
        state.synced_names.remove(path);
    }

    /// The disk as it is after a crash now; this one stays as it is.
    pub fn crash(&self, crash: Crash) -> TestDisk {
        let state = self.state();
        let mut after = State::default();
        let (names, dirs) = match crash {
            Crash::Process => (&state.names, &state.dirs),
            Crash::Power | Crash::Torn(_) => (&state.synced_names, &state.synced_dirs),
        };
        after.dirs =
            dirs.iter().filter(|dir| dir.ancestors().all(|up| is_root(up) || dirs.contains(up))).cloned().collect();
        for (path, number) in names {
            let parent = path.parent().unwrap();
            if !is_root(parent) && !after.dirs.contains(parent) {
                continue;
            }
            let file = &state.files[*number];
            let bytes = match crash {
                Crash::Process => file.now.clone(),
                Crash::Power => file.synced.clone(),
                Crash::Torn(seed) => file.torn(seed.wrapping_add(*number as u64)),
            };
            after.names.insert(path.clone(), after.files.len());
            after.files.push(File { now: bytes.clone(), synced: bytes, dirty: Vec::new() });
        }
        after.synced_names = after.names.clone();
        after.synced_dirs = after.dirs.clone();
        TestDisk(Arc::new(Shared { state: Mutex::new(after), changed: Condvar::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Counts a call; fails it if its time has come.
    fn enter(&self, call: Call, path: &Path, bytes: usize) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        while state.held == Some(call) {
            state = self.0.changed.wait(state).unwrap();
        }
        state.calls += 1;
        state.trace.push((call, path.to_path_buf(), bytes));
        for fault in &mut state.faults {
            if fault.call.is_some_and(|failing| failing != call) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(fault.kind.into());
            }
        }
        Ok(state)
    }
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl File {
    fn torn(&self, seed: u64) -> Vec<u8> {
        const PAGE: usize = 512;
        let mut bytes = self.synced.clone();
        let mut random = seed | 1;
        for (start, end) in &self.dirty {
            for page in start / PAGE..end.div_ceil(PAGE) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let (from, to) = ((page * PAGE).max(*start), ((page + 1) * PAGE).min(*end).min(self.now.len()));
                if !random.is_multiple_of(3) && from < to {
                    if bytes.len() < to {
                        bytes.resize(to, 0);
                    }
                    bytes[from..to].copy_from_slice(&self.now[from..to]);
                }
            }
        }
        bytes
    }
}

impl State {
    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.enter(Call::Create, path, 0)?;
        let parent = path.parent().unwrap();
        if !is_root(parent) && !state.dirs.contains(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = state.files.len();
        state.files.push(File::default());
        state.names.insert(path.to_path_buf(), number);
        Ok(Arc::new(TestFile { disk: self.clone(), number, path: path.to_path_buf() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.enter(Call::Open, path, 0)?.find(path)?;
        Ok(Arc::new(TestFile { disk: self.clone(), number, path: path.to_path_buf() }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::Rename, from, 0)?;
        let number = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_path_buf(), number);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::Remove, path, 0)?;
        let number = state.find(path)?;
        state.names.remove(path);
        // An open file keeps its bytes in life; here nobody looks at them any more, and the room is given back.
        if !state.synced_names.values().any(|other| *other == number) {
            state.files[number] = File::default();
        }
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::CreateDir, path, 0)?;
        for dir in path.ancestors().filter(|dir| !is_root(dir)) {
            state.dirs.insert(dir.to_path_buf());
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.enter(Call::List, path, 0)?;
        let children: BTreeSet<PathBuf> = state
            .names
            .keys()
            .chain(&state.dirs)
            .filter(|entry| entry.parent() == Some(path))
            .map(|entry| PathBuf::from(entry.file_name().unwrap()))
            .collect();
        Ok(children.into_iter().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.enter(Call::SyncDir, path, 0)?;
        let inside = |entry: &PathBuf| entry.parent() == Some(path);
        state.synced_names.retain(|entry, _| !inside(entry));
        state.synced_names.extend(state.names.iter().filter(|(entry, _)| inside(entry)).map(|(p, n)| (p.clone(), *n)));
        state.synced_dirs.extend(state.dirs.iter().filter(|entry| inside(entry)).cloned());
        let named: BTreeSet<usize> = state.names.values().chain(state.synced_names.values()).copied().collect();
        for (number, file) in state.files.iter_mut().enumerate() {
            if !named.contains(&number) {
                // As in `remove`.
                *file = File::default();
            }
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(self.state().space.unwrap_or(Space { total: 1 << 40, available: 1 << 39 }))
    }
}

impl DiskFile for TestFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.enter(Call::Read, &self.path, buffer.len())?;
        let bytes = state.files[self.number].now.get(offset as usize..).unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let entered = self.disk.enter(Call::Write, &self.path, bytes.len());
        // A write that fails has written some of it.
        let (mut state, mut failure) = match entered {
            Ok(state) => (state, None),
            Err(error) => (self.disk.state(), Some(error)),
        };
        let mut count = if failure.is_some() { bytes.len() / 2 } else { bytes.len() };
        let start = offset as usize;
        if let Some(limit) = state.limit_bytes {
            let others: usize =
                state.files.iter().map(|file| file.now.len()).sum::<usize>() - state.files[self.number].now.len();
            let room = limit.saturating_sub(others).max(state.files[self.number].now.len()).saturating_sub(start);
            if count > room {
                count = room;
                failure = Some(io::ErrorKind::StorageFull.into());
            }
        }
        let file = &mut state.files[self.number];
        if file.now.len() < start + count {
            file.now.resize(start + count, 0);
        }
        file.now[start..start + count].copy_from_slice(&bytes[..count]);
        file.dirty.push((start, start + count));
        failure.map_or(Ok(()), Err)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.disk.enter(Call::Sync, &self.path, 0) {
            Ok(mut state) => {
                let file = &mut state.files[self.number];
                file.synced.resize(file.now.len(), 0);
                for (start, end) in std::mem::take(&mut file.dirty) {
                    let end = end.min(file.now.len());
                    if start < end {
                        let (now, synced) = (&file.now, &mut file.synced);
                        synced[start..end].copy_from_slice(&now[start..end]);
                    }
                }
                Ok(())
            }
            Err(error) => {
                // As Linux does: the pages count as clean now, a later sync does not write them.
                self.disk.state().files[self.number].dirty.clear();
                Err(error)
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.enter(Call::Len, &self.path, 0)?.files[self.number].now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.enter(Call::SetLen, &self.path, 0)?;
        state.files[self.number].now.resize(len as usize, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.enter(Call::Allocate, &self.path, len as usize).map(drop)
    }
}
