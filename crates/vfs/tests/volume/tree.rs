//! Trees as tests compare them, and random changes of one.
#![allow(dead_code, clippy::unwrap_used, reason = "a test may panic, and each file uses its part")]

use std::collections::BTreeMap;

use verfs_base::Ino;
use verfs_vfs::{
    Attr, DirEntry, FileKind, Listing, NodeKind, RenameMode, SetAttr, SnapshotTree, Vfs, VfsError, XattrMode,
};

use super::{Open, ROOT, noise};

/// Path, attributes but the access time and blocks, and bytes or target or attributes of everything in a tree.
pub type Dump = BTreeMap<Vec<u8>, (Attr, Vec<u8>)>;

pub trait Readable {
    fn list(&self, ino: Ino) -> Vec<DirEntry>;
    fn attr(&self, ino: Ino) -> Attr;
    fn bytes(&self, ino: Ino, size: u64) -> Vec<u8>;
    fn target(&self, ino: Ino) -> Vec<u8>;
    fn note(&self, ino: Ino) -> Vec<u8>;
}

impl Readable for Vfs {
    fn list(&self, ino: Ino) -> Vec<DirEntry> {
        self.readdir(&ROOT, ino, 2, 10_000, Listing::Plus).unwrap()
    }

    fn attr(&self, ino: Ino) -> Attr {
        self.getattr(&ROOT, ino).unwrap()
    }

    fn bytes(&self, ino: Ino, size: u64) -> Vec<u8> {
        self.read(&ROOT, ino, 0, size as u32).unwrap().concat()
    }

    fn target(&self, ino: Ino) -> Vec<u8> {
        self.readlink(&ROOT, ino).unwrap().to_vec()
    }

    fn note(&self, ino: Ino) -> Vec<u8> {
        self.getxattr(&ROOT, ino, b"user.note").map(|value| value.to_vec()).unwrap_or_default()
    }
}

impl Readable for SnapshotTree {
    fn list(&self, ino: Ino) -> Vec<DirEntry> {
        // In pages, so that cookies are tried.
        let (mut entries, mut cookie) = (Vec::new(), 2);
        loop {
            let page = self.readdir(ino, cookie, 3, Listing::Plus).unwrap();
            let Some(last) = page.last() else { return entries };
            cookie = last.cookie;
            entries.extend(page);
        }
    }

    fn attr(&self, ino: Ino) -> Attr {
        self.getattr(ino).unwrap()
    }

    fn bytes(&self, ino: Ino, size: u64) -> Vec<u8> {
        self.read(ino, 0, size as u32).unwrap().concat()
    }

    fn target(&self, ino: Ino) -> Vec<u8> {
        self.readlink(ino).unwrap().to_vec()
    }

    fn note(&self, ino: Ino) -> Vec<u8> {
        self.getxattr(ino, b"user.note").map(|value| value.to_vec()).unwrap_or_default()
    }
}

pub fn dump(tree: &dyn Readable) -> Dump {
    let mut dump = Dump::new();
    let mut todo = vec![(Vec::new(), Ino::ROOT)];
    while let Some((path, ino)) = todo.pop() {
        let mut attr = tree.attr(ino);
        attr.atime = attr.btime;
        attr.blocks = 0;
        let bytes = match attr.kind {
            FileKind::Regular => tree.bytes(ino, attr.size),
            FileKind::Symlink => tree.target(ino),
            FileKind::Directory => {
                todo.extend(tree.list(ino).into_iter().map(|entry| {
                    assert_eq!(entry.attr.unwrap().ino, entry.ino);
                    ([&path[..], b"/", &entry.name].concat(), entry.ino)
                }));
                Vec::new()
            }
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => Vec::new(),
        };
        dump.insert(path, (attr, [bytes, tree.note(ino)].concat()));
    }
    dump
}

pub fn assert_same(found: &Dump, expected: &Dump, when: &str) {
    for (path, (attr, bytes)) in expected {
        let path = String::from_utf8_lossy(path);
        let (other, data) = found.get(path.as_bytes()).unwrap_or_else(|| panic!("{when}: {path} is missing"));
        assert_eq!(other, attr, "{when}: {path}");
        assert!(data == bytes, "{when}: {path} has other bytes");
    }
    assert_eq!(found.len(), expected.len(), "{when}: there is more than there was");
}

pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Changes the tree somehow. What can't be done is not done.
pub fn change(open: &Open, dice: &mut Dice) {
    let vfs = &open.vfs;
    let dirs: Vec<Ino> = std::iter::once(Ino::ROOT)
        .chain(vfs.list(Ino::ROOT).into_iter().filter(|entry| entry.kind == FileKind::Directory).map(|entry| entry.ino))
        .collect();
    let dir = dirs[dice.below(dirs.len() as u64) as usize];
    let other = dirs[dice.below(dirs.len() as u64) as usize];
    let name = [b'a' + dice.below(6) as u8];
    let second = [b'a' + dice.below(6) as u8];
    let file = vfs.lookup(&ROOT, dir, &name).ok().filter(|attr| attr.kind == FileKind::Regular).map(|attr| attr.ino);
    let seed = dice.below(5);
    let offset = dice.below(3_000_000);
    let _refused: Result<(), VfsError> = match (dice.below(14), file) {
        (0 | 1, _) => vfs.mknod(&ROOT, dir, &name, NodeKind::Regular, 0o644).map(drop),
        (2, _) => vfs.mkdir(&ROOT, dir, &name, 0o755).map(drop),
        (3, _) => vfs.symlink(&ROOT, dir, &name, &noise(9, seed)).map(drop),
        (4 | 5, _) => vfs.unlink(&ROOT, dir, &name),
        (6, _) => vfs.rmdir(&ROOT, dir, &name),
        (7, _) => vfs.rename(&ROOT, dir, &name, other, &second, RenameMode::Replace),
        (8, Some(file)) => vfs.link(&ROOT, file, other, &second).map(drop),
        (9, Some(file)) => vfs.setattr(&ROOT, file, &SetAttr { size: Some(offset), ..SetAttr::default() }).map(drop),
        (10, Some(file)) => vfs.setxattr(&ROOT, file, b"user.note", &noise(20, offset), XattrMode::Set),
        (11, Some(file)) => vfs.removexattr(&ROOT, file, b"user.note"),
        (12, Some(file)) => vfs.write(&ROOT, file, 0, &noise(dice.below(4000) as usize, seed)).map(drop),
        (_, Some(file)) => vfs.write(&ROOT, file, offset, &noise(dice.below(200_000) as usize, seed)).map(drop),
        (_, None) => Ok(()),
    };
}
