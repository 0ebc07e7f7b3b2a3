//! A program in the mount, with the model of what it must see.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use verfs_base::{Ino, Timestamp};
use verfs_testkit::model::{Body, Id, Node, ROOT};
use verfs_testkit::{CURSORS, Clockwork, Entry, Model, NAMES, Name, Op, SLOTS, Target};
use verfs_vfs::{Attr, FileKind};

use crate::kernel::{Circumstance, meet};
use crate::listing::Cursor;
use crate::mount::Mount;

const SET_GID: u16 = 0o2000;
/// Time between two operations, on a clock that only the test moves.
const STEP: Duration = Duration::from_millis(1);

/// What is held open.
pub(crate) struct Slot {
    pub(crate) id: Id,
    pub(crate) file: OwnedFd,
}

/// How certain the kernel must be of attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freshness {
    /// It may answer from its cache.
    Cached,
    /// It must ask the volume, and forget what it knows of the content.
    Asked,
}

/// Where a target is for the kernel: a directory or file that is open, and a path from there.
pub(crate) struct Spot<'a> {
    pub(crate) at: BorrowedFd<'a>,
    pub(crate) path: Vec<u8>,
    pub(crate) flags: AtFlags,
}

/// One program with its directory.
pub(crate) struct Client {
    directory: PathBuf,
    root: Option<OwnedFd>,
    pub(crate) model: Model,
    inos: BTreeMap<Id, Ino>,
    used: BTreeSet<Ino>,
    pub(crate) slots: [Option<Slot>; SLOTS as usize],
    pub(crate) cursors: [Option<Cursor>; CURSORS as usize],
    clockwork: Clockwork,
    /// What was read since the mount: read-ahead may still move its access time.
    looked_at: BTreeSet<Id>,
    /// Every directory that a directory was in since the mount.
    pub(crate) homes: BTreeMap<Id, BTreeSet<Id>>,
}

fn kind_of(mode: u32) -> FileKind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice | FileType::Unknown => FileKind::BlockDevice,
    }
}

fn attr(found: &Statx) -> Attr {
    let time = |at: &rustix::fs::StatxTimestamp| Timestamp { seconds: at.tv_sec, nanos: at.tv_nsec };
    let rdev = found.stx_rdev_major << 8 | found.stx_rdev_minor & 0xff | (found.stx_rdev_minor & !0xff) << 12;
    Attr {
        ino: Ino(found.stx_ino),
        kind: kind_of(found.stx_mode.into()),
        mode: found.stx_mode & 0o7777,
        nlink: found.stx_nlink,
        uid: found.stx_uid,
        gid: found.stx_gid,
        rdev,
        size: found.stx_size,
        blocks: found.stx_blocks,
        atime: time(&found.stx_atime),
        mtime: time(&found.stx_mtime),
        ctime: time(&found.stx_ctime),
        // FUSE does not tell it.
        btime: Timestamp::default(),
    }
}

fn attribute_difference(node: &Node, attr: &Attr) -> Option<String> {
    let rdev = match &node.body {
        Body::Device(number) => *number,
        Body::File(_) | Body::Directory { .. } | Body::Symlink(_) => 0,
    };
    let doubtful = if node.set_gid_in_doubt { SET_GID } else { 0 };
    let expected = (node.kind, node.mode & !doubtful, node.nlink, node.uid, node.gid, rdev, node.size());
    let found = (attr.kind, attr.mode & !doubtful, attr.nlink, attr.uid, attr.gid, attr.rdev, attr.size);
    let has_data = node.content().is_some_and(|content| content.has_data());
    if expected != found {
        Some(format!("expected kind, mode, links, user, group, device, size {expected:?}, found {found:?}"))
    } else if has_data && attr.blocks == 0 {
        Some("no blocks for a file with data: tar would take it for a hole".to_owned())
    } else {
        None
    }
}

impl Client {
    /// A program in a directory of the mount, which is empty.
    pub(crate) fn new(mount: &Mount, directory: PathBuf, clockwork: Clockwork) -> Result<Client, String> {
        let mut client = Client {
            directory,
            root: None,
            model: Model::new(mount.now(), 0),
            inos: BTreeMap::new(),
            used: BTreeSet::new(),
            slots: Default::default(),
            cursors: Default::default(),
            clockwork,
            looked_at: BTreeSet::new(),
            homes: BTreeMap::from([(ROOT, BTreeSet::from([ROOT]))]),
        };
        client.attach(mount)?;
        let found = client.stat(&Target::Path(Vec::new()), Freshness::Asked).map_err(|error| error.to_string())?;
        client.model = Model::new(mount.now(), found.mode);
        client.inos.insert(ROOT, found.ino);
        client.used.insert(found.ino);
        if let Some(node) = client.model.observed(ROOT) {
            node.adopt(&found);
        }
        Ok(client)
    }

    /// Closes everything, so that the volume can be unmounted.
    pub(crate) fn let_go(&mut self) {
        self.slots = Default::default();
        self.cursors = Default::default();
        self.root = None;
        for id in std::mem::take(&mut self.looked_at) {
            self.model.accessed(id);
        }
        self.homes.clear();
        self.model.unpin_all();
    }

    /// Opens its directory, after [`Client::let_go`] and a remount.
    pub(crate) fn attach(&mut self, mount: &Mount) -> Result<(), String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(mount.path(&self.directory), flags, Mode::empty());
        self.root = Some(opened.map_err(|error| format!("opening the root: {error}"))?);
        self.model.now = mount.now();
        self.watch_listings();
        Ok(())
    }

    /// Does an operation in the mount and in the model, and compares everything that it changed.
    pub(crate) fn step(&mut self, mount: &Mount, op: &Op) -> Result<(), String> {
        mount.advance(STEP);
        self.model.now = mount.now();
        for id in &self.looked_at {
            self.model.accessed(*id);
        }
        let before = self.model.clone();
        let what = op.to_string();
        self.run(mount, &what, op)?;
        self.watch_listings();
        self.check_changed(&what, &before)
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        match &self.root {
            Some(root) => root.as_fd(),
            None => panic!("the client has let go of its mount"),
        }
    }

    pub(crate) fn path(names: &[Name]) -> Vec<u8> {
        let names: Vec<&[u8]> = names.iter().map(|name| NAMES[*name as usize]).collect();
        if names.is_empty() { b".".to_vec() } else { names.join(&b'/') }
    }

    /// Where a target is; of an empty slot nothing.
    pub(crate) fn spot(&self, target: &Target) -> Option<Spot<'_>> {
        match target {
            Target::Path(names) => {
                Some(Spot { at: self.root(), path: Self::path(names), flags: AtFlags::SYMLINK_NOFOLLOW })
            }
            Target::Slot(slot) => {
                let slot = self.slots[*slot as usize].as_ref()?;
                Some(Spot { at: slot.file.as_fd(), path: Vec::new(), flags: AtFlags::EMPTY_PATH })
            }
        }
    }

    /// Where a name is; of an empty slot nothing.
    pub(crate) fn place(&self, entry: &Entry) -> Option<Spot<'_>> {
        match &entry.dir {
            Target::Path(names) => self.spot(&Target::Path([names.clone(), vec![entry.name]].concat())),
            Target::Slot(_) => {
                let dir = self.spot(&entry.dir)?;
                Some(Spot { path: NAMES[entry.name as usize].to_vec(), ..dir })
            }
        }
    }

    pub(crate) fn stat(&self, target: &Target, freshness: Freshness) -> Result<Attr, Errno> {
        let spot = self.spot(target).ok_or(Errno::BADF)?;
        let sync = match freshness {
            Freshness::Cached => AtFlags::empty(),
            Freshness::Asked => AtFlags::STATX_FORCE_SYNC,
        };
        rustix::fs::statx(spot.at, &spot.path, spot.flags | sync, StatxFlags::BASIC_STATS).map(|found| attr(&found))
    }

    /// What a call on a name of this directory may stumble over.
    pub(crate) fn circumstances(&self, dir: Id) -> Vec<Circumstance> {
        match self.model.node(dir) {
            Ok(node) if node.kind == FileKind::Symlink => vec![Circumstance::ThroughSymlink],
            Ok(node) if node.nlink == 0 => vec![Circumstance::InRemovedDirectory],
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// The inode that a target names, in the mount as in the model; `None` when both say that there is none.
    pub(crate) fn resolve(&mut self, what: &str, target: &Target) -> Result<Option<Id>, String> {
        let names = match target {
            Target::Slot(slot) => return Ok(self.slots[*slot as usize].as_ref().map(|slot| slot.id)),
            Target::Path(names) => names,
        };
        let what = format!("{what}: looking at {target}");
        let mut at = ROOT;
        let mut answer = Ok(ROOT);
        for name in names {
            answer = self.model.lookup(at, NAMES[*name as usize]);
            match &answer {
                Ok(id) => at = *id,
                Err(_) => break,
            }
        }
        let circumstances = if answer.is_ok() { Vec::new() } else { self.circumstances(at) };
        if circumstances.contains(&Circumstance::ThroughSymlink) {
            self.read(at);
        }
        let found = self.stat(target, Freshness::Cached);
        let Some((id, attr)) = meet(&what, &circumstances, answer, found)? else { return Ok(None) };
        self.check_attr(&what, id, &attr)?;
        Ok(Some(id))
    }

    /// Something was read, or may have been ahead of the reader.
    pub(crate) fn read(&mut self, id: Id) {
        self.looked_at.insert(id);
        self.model.accessed(id);
    }

    /// Tells the inode number of a new inode.
    pub(crate) fn born(&mut self, what: &str, id: Id, target: &Target) -> Result<(), String> {
        let found = self.stat(target, Freshness::Cached).map_err(|error| format!("{what}: then statx: {error:?}"))?;
        if !self.used.insert(found.ino) {
            return Err(format!("{what}: inode number {} was used before", found.ino));
        }
        self.inos.insert(id, found.ino);
        self.check_attr(what, id, &found)
    }

    pub(crate) fn ino(&self, id: Id) -> Result<Ino, String> {
        self.inos.get(&id).copied().ok_or_else(|| format!("inode #{} was never seen", id.0))
    }

    /// Compares attributes that the mount gave, and learns from them what the rules leave open.
    pub(crate) fn check_attr(&mut self, what: &str, id: Id, attr: &Attr) -> Result<(), String> {
        let diverged = |difference: String| Err(format!("{what}: inode #{}: {difference}", id.0));
        let ino = self.ino(id)?;
        if attr.ino != ino {
            return diverged(format!("expected inode number {ino}, found {}", attr.ino));
        }
        let is_looked_at = self.looked_at.contains(&id);
        if is_looked_at {
            self.model.accessed(id);
        }
        let Some(node) = self.model.observed(id) else { return diverged("it should be gone".into()) };
        if let Some(difference) = attribute_difference(node, attr) {
            return diverged(difference);
        }
        node.settle_mode(attr);
        if self.clockwork == Clockwork::Shared {
            node.adopt(&Attr { btime: node.times.birth, ..*attr });
            return Ok(());
        }
        let times = &mut node.times;
        for (name, time, seen) in [
            ("atime", &mut times.access, attr.atime),
            ("mtime", &mut times.modification, attr.mtime),
            ("ctime", &mut times.change, attr.ctime),
        ] {
            // Read-ahead moves it when it likes, and the kernel may show it as it was before.
            let fits = if name == "atime" && is_looked_at { time.allows(seen) } else { time.settle(seen) };
            if !fits {
                return diverged(format!("expected {name} {time:?}, found {seen:?}"));
            }
        }
        Ok(())
    }

    /// Somewhere to reach an inode: a path, or a slot.
    pub(crate) fn way_to(&self, id: Id) -> Option<Target> {
        let slot = self.slots.iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.id == id));
        let by_name = |path: &[Vec<u8>]| -> Option<Vec<Name>> {
            path.iter().map(|name| NAMES.iter().position(|known| known == name).map(|at| at as Name)).collect()
        };
        let path = self.model.paths().into_iter().find(|(_, found)| *found == id);
        match path.and_then(|(path, _)| by_name(&path)) {
            Some(names) => Some(Target::Path(names)),
            None => slot.map(|slot| Target::Slot(slot as u8)),
        }
    }

    /// Every inode that the operation changed, as the mount shows it now.
    fn check_changed(&mut self, what: &str, before: &Model) -> Result<(), String> {
        let changed: Vec<Id> =
            (self.model.nodes()).filter(|(id, node)| before.node(*id).ok() != Some(node)).map(|(id, _)| id).collect();
        for id in changed {
            let Some(way) = self.way_to(id) else { continue };
            let what = format!("after {what}");
            let found =
                self.stat(&way, Freshness::Cached).map_err(|error| format!("{what}: statx {way}: {error:?}"))?;
            self.check_attr(&what, id, &found)?;
        }
        Ok(())
    }
}
