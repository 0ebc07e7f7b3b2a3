//! A tree in memory that answers at once: what the transport is tested and measured with, without a volume.
//!
//! Names steer it: a look-up of `panic` panics, and one of a name with `later` in it would block when tried.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use verfs_base::{Ino, Timestamp};
use verfs_fuse::Tree;
use verfs_vfs::{
    Attr, Context, DirEntry, FileKind, FsStat, Listing, NodeKind, Patience, RenameMode, Result, SetAttr, SetId,
    SetTime, SyncScope, VfsError,
};

pub struct MemoryTree {
    nodes: Mutex<HashMap<u64, Node>>,
    next: AtomicU64,
    /// Operations that were answered with `WouldBlock`.
    pub deferred: AtomicU64,
    /// Calls of fsync.
    pub synced: AtomicU64,
    /// While it is held, writes wait, as they do for room in a volume's open group.
    pub writes: Mutex<()>,
    /// Reads of data that was not just written, as a volume's cold reads, would block when tried.
    pub cold_reads: bool,
    /// While it is held, cold reads wait, as they do for a disk.
    pub disk: Mutex<()>,
    /// A file gets no longer than this.
    pub file_max_bytes: u64,
}

struct Node {
    attr: Attr,
    parent: u64,
    data: Vec<u8>,
    names: HashMap<Vec<u8>, (u64, u64)>,
    order: BTreeMap<u64, Vec<u8>>,
    pins: u64,
}

impl MemoryTree {
    pub fn new() -> MemoryTree {
        let tree = MemoryTree {
            nodes: Mutex::default(),
            next: AtomicU64::new(2),
            deferred: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            writes: Mutex::default(),
            cold_reads: false,
            disk: Mutex::default(),
            file_max_bytes: 1 << 30,
        };
        let root = tree.node(1, 1, FileKind::Directory, 0o755, 0, &Context::ROOT);
        tree.nodes.lock().unwrap().insert(1, root);
        tree
    }

    /// Every pin of every inode but the root.
    pub fn all_pins(&self) -> u64 {
        self.nodes.lock().unwrap().iter().filter(|(ino, _)| **ino != 1).map(|(_, node)| node.pins).sum()
    }

    fn node(&self, ino: u64, parent: u64, kind: FileKind, mode: u16, rdev: u32, context: &Context) -> Node {
        let now = Timestamp::from_system(SystemTime::now());
        let nlink = if kind == FileKind::Directory { 2 } else { 1 };
        let attr = Attr {
            ino: Ino(ino),
            kind,
            mode,
            nlink,
            uid: context.uid,
            gid: context.gid,
            rdev,
            size: 0,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
        };
        Node { attr, parent, data: Vec::new(), names: HashMap::new(), order: BTreeMap::new(), pins: 0 }
    }

    fn make(&self, context: &Context, parent: Ino, name: &[u8], kind: FileKind, mode: u16, rdev: u32) -> Result<Attr> {
        let mut nodes = self.nodes.lock().unwrap();
        if directory(&mut nodes, parent)?.names.contains_key(name) {
            return Err(VfsError::Exists);
        }
        let ino = self.next.fetch_add(1, Ordering::Relaxed);
        let mut node = self.node(ino, parent.0, kind, mode, rdev, context);
        node.pins = 1;
        let attr = node.attr;
        nodes.insert(ino, node);
        self.enter(&mut nodes, parent, name, ino);
        Ok(attr)
    }

    fn enter(&self, nodes: &mut HashMap<u64, Node>, parent: Ino, name: &[u8], ino: u64) {
        let cookie = self.next.fetch_add(1, Ordering::Relaxed) + 2;
        let parent = nodes.get_mut(&parent.0).unwrap();
        parent.names.insert(name.to_vec(), (ino, cookie));
        parent.order.insert(cookie, name.to_vec());
    }

    fn leave(nodes: &mut HashMap<u64, Node>, parent: Ino, name: &[u8]) -> Result<u64> {
        let parent = directory(nodes, parent)?;
        let (ino, cookie) = parent.names.remove(name).ok_or(VfsError::NotFound)?;
        parent.order.remove(&cookie);
        Ok(ino)
    }

    fn remove(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let mut nodes = self.nodes.lock().unwrap();
        let (ino, _) = *directory(&mut nodes, parent)?.names.get(name).ok_or(VfsError::NotFound)?;
        if !nodes[&ino].names.is_empty() {
            return Err(VfsError::NotEmpty);
        }
        Self::leave(&mut nodes, parent, name)?;
        let node = nodes.get_mut(&ino).unwrap();
        node.attr.nlink = if node.attr.kind == FileKind::Directory { 0 } else { node.attr.nlink - 1 };
        if node.attr.nlink == 0 && node.pins == 0 {
            nodes.remove(&ino);
        }
        Ok(())
    }
}

fn directory(nodes: &mut HashMap<u64, Node>, ino: Ino) -> Result<&mut Node> {
    let node = nodes.get_mut(&ino.0).ok_or(VfsError::NotFound)?;
    if node.attr.kind == FileKind::Directory { Ok(node) } else { Err(VfsError::NotDirectory) }
}

fn contains(name: &[u8], part: &[u8]) -> bool {
    name.windows(part.len()).any(|window| window == part)
}

impl Tree for MemoryTree {
    fn lookup(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<Attr> {
        assert!(name != b"panic", "on purpose");
        if contains(name, b"later") && context.patience == Patience::Try {
            self.deferred.fetch_add(1, Ordering::SeqCst);
            return Err(VfsError::WouldBlock);
        }
        let mut nodes = self.nodes.lock().unwrap();
        let (ino, _) = *directory(&mut nodes, parent)?.names.get(name).ok_or(VfsError::NotFound)?;
        let node = nodes.get_mut(&ino).unwrap();
        node.pins += 1;
        Ok(node.attr)
    }

    fn forget(&self, ino: Ino, count: u64) {
        let mut nodes = self.nodes.lock().unwrap();
        let Some(node) = nodes.get_mut(&ino.0).filter(|_| ino != Ino::ROOT) else { return };
        node.pins = node.pins.checked_sub(count).expect("more forgotten than counted");
        if node.pins == 0 && node.attr.nlink == 0 {
            nodes.remove(&ino.0);
        }
    }

    fn forget_all(&self) {
        let mut nodes = self.nodes.lock().unwrap();
        nodes.retain(|_, node| {
            node.pins = 0;
            node.attr.nlink > 0
        });
    }

    fn getattr(&self, _: &Context, ino: Ino) -> Result<Attr> {
        self.nodes.lock().unwrap().get(&ino.0).map(|node| node.attr).ok_or(VfsError::NotFound)
    }

    fn setattr(&self, _: &Context, ino: Ino, change: &SetAttr) -> Result<Attr> {
        if change.size.is_some_and(|size| size > self.file_max_bytes) {
            return Err(VfsError::FileTooLarge);
        }
        let mut nodes = self.nodes.lock().unwrap();
        let node = nodes.get_mut(&ino.0).ok_or(VfsError::NotFound)?;
        let time = |time: SetTime| match time {
            SetTime::Now => Timestamp::from_system(SystemTime::now()),
            SetTime::At(time) => time,
        };
        let attr = &mut node.attr;
        attr.mode = change.mode.unwrap_or(attr.mode);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.atime = change.atime.map_or(attr.atime, time);
        attr.mtime = change.mtime.map_or(attr.mtime, time);
        if let Some(size) = change.size {
            attr.size = size;
            node.data.resize(usize::try_from(size).unwrap(), 0);
        }
        Ok(node.attr)
    }

    fn readlink(&self, _: &Context, ino: Ino) -> Result<Bytes> {
        let nodes = self.nodes.lock().unwrap();
        nodes.get(&ino.0).map(|node| Bytes::copy_from_slice(&node.data)).ok_or(VfsError::NotFound)
    }

    fn mknod(&self, context: &Context, parent: Ino, name: &[u8], kind: NodeKind, mode: u16) -> Result<Attr> {
        let (kind, rdev) = match kind {
            NodeKind::Regular => (FileKind::Regular, 0),
            NodeKind::Fifo => (FileKind::Fifo, 0),
            NodeKind::Socket => (FileKind::Socket, 0),
            NodeKind::CharDevice(device) => (FileKind::CharDevice, device),
            NodeKind::BlockDevice(device) => (FileKind::BlockDevice, device),
        };
        self.make(context, parent, name, kind, mode & !context.umask, rdev)
    }

    fn mkdir(&self, context: &Context, parent: Ino, name: &[u8], mode: u16) -> Result<Attr> {
        self.make(context, parent, name, FileKind::Directory, mode & !context.umask, 0)
    }

    fn symlink(&self, context: &Context, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr> {
        let attr = self.make(context, parent, name, FileKind::Symlink, 0o777, 0)?;
        let mut nodes = self.nodes.lock().unwrap();
        let node = nodes.get_mut(&attr.ino.0).unwrap();
        node.data = target.to_vec();
        node.attr.size = target.len() as u64;
        Ok(node.attr)
    }

    fn link(&self, _: &Context, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        let mut nodes = self.nodes.lock().unwrap();
        if directory(&mut nodes, parent)?.names.contains_key(name) {
            return Err(VfsError::Exists);
        }
        let node = nodes.get_mut(&ino.0).ok_or(VfsError::NotFound)?;
        node.attr.nlink += 1;
        node.pins += 1;
        let attr = node.attr;
        self.enter(&mut nodes, parent, name, ino.0);
        Ok(attr)
    }

    fn unlink(&self, _: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        self.remove(parent, name)
    }

    fn rmdir(&self, _: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        self.remove(parent, name)
    }

    fn rename(&self, _: &Context, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        let taken = directory(&mut self.nodes.lock().unwrap(), to.0)?.names.contains_key(to.1);
        match mode {
            RenameMode::Replace if taken => self.remove(to.0, to.1)?,
            RenameMode::Replace => {}
            RenameMode::NoReplace if taken => return Err(VfsError::Exists),
            RenameMode::NoReplace => {}
            RenameMode::Exchange => return Err(VfsError::InvalidArgument),
        }
        let mut nodes = self.nodes.lock().unwrap();
        let ino = Self::leave(&mut nodes, from.0, from.1)?;
        nodes.get_mut(&ino).unwrap().parent = to.0.0;
        self.enter(&mut nodes, to.0, to.1, ino);
        Ok(())
    }

    fn read(&self, context: &Context, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>> {
        if self.cold_reads && context.patience == Patience::Try {
            self.deferred.fetch_add(1, Ordering::SeqCst);
            return Err(VfsError::WouldBlock);
        }
        drop(self.disk.lock().unwrap());
        let nodes = self.nodes.lock().unwrap();
        let data = &nodes.get(&ino.0).ok_or(VfsError::NotFound)?.data;
        let start = usize::try_from(offset).unwrap().min(data.len());
        let end = (start + len as usize).min(data.len());
        // In two pieces, as a volume gives what lies in two chunks.
        let middle = start + (end - start) / 2;
        Ok(vec![Bytes::copy_from_slice(&data[start..middle]), Bytes::copy_from_slice(&data[middle..end])])
    }

    fn write(&self, context: &Context, ino: Ino, offset: u64, data: &[u8]) -> Result<SetId> {
        if offset.saturating_add(data.len() as u64) > self.file_max_bytes {
            return Err(VfsError::FileTooLarge);
        }
        let _room = match context.patience {
            Patience::Try => self.writes.try_lock().map_err(|_| {
                self.deferred.fetch_add(1, Ordering::SeqCst);
                VfsError::WouldBlock
            })?,
            Patience::Wait => self.writes.lock().unwrap(),
        };
        let mut nodes = self.nodes.lock().unwrap();
        let node = nodes.get_mut(&ino.0).ok_or(VfsError::NotFound)?;
        let offset = usize::try_from(offset).unwrap();
        let end = offset + data.len();
        if node.data.len() < end {
            node.data.resize(end, 0);
        }
        node.data[offset..end].copy_from_slice(data);
        node.attr.size = node.data.len() as u64;
        node.attr.blocks = node.attr.size.div_ceil(512);
        node.attr.mtime = Timestamp::from_system(SystemTime::now());
        Ok(SetId::Kept)
    }

    fn readdir(&self, _: &Context, ino: Ino, cookie: u64, max: usize, listing: Listing) -> Result<Vec<DirEntry>> {
        let mut nodes = self.nodes.lock().unwrap();
        let node = directory(&mut nodes, ino)?;
        let dots = [(&b"."[..], ino.0, 1), (&b".."[..], node.parent, 2)];
        let mut entries: Vec<DirEntry> = dots
            .into_iter()
            .filter(|(_, _, own)| *own > cookie)
            .map(|(name, ino, cookie)| DirEntry {
                name: Bytes::copy_from_slice(name),
                ino: Ino(ino),
                kind: FileKind::Directory,
                cookie,
                attr: None,
            })
            .collect();
        let children: Vec<(u64, Vec<u8>, u64)> = node
            .order
            .range(cookie + 1..)
            .take(max - entries.len())
            .map(|(cookie, name)| (*cookie, name.clone(), node.names[name].0))
            .collect();
        for (cookie, name, ino) in children {
            let child = nodes.get_mut(&ino).unwrap();
            let attr = match listing {
                Listing::Names => None,
                Listing::Plus => {
                    child.pins += 1;
                    Some(child.attr)
                }
            };
            entries.push(DirEntry { name: name.into(), ino: Ino(ino), kind: child.attr.kind, cookie, attr });
        }
        Ok(entries)
    }

    fn fsync(&self, context: &Context, _: Ino, _: SyncScope) -> Result<()> {
        assert!(context.patience == Patience::Wait, "fsync was tried on the leader");
        self.synced.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn statfs(&self) -> Result<FsStat> {
        Ok(FsStat { total_bytes: 1 << 40, available_bytes: 1 << 39, inodes: self.nodes.lock().unwrap().len() as u64 })
    }
}
