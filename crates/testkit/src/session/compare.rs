//! Whether the volume's inodes are the model's.

use bytes::Bytes;
use verfs_base::Ino;
use verfs_vfs::{Attr, FileKind, Pin, VfsError};

use super::{Clockwork, Session, Stop, demand};
use crate::content::Content;
use crate::model::{Body, Id, Model, Node, Who};

const SET_GID: u16 = 0o2000;

fn joined(pieces: &[Bytes]) -> Vec<u8> {
    pieces.concat()
}

/// What is wrong with an inode's attributes, times apart.
pub(crate) fn attribute_difference(node: &Node, attr: &Attr) -> Option<String> {
    let rdev = match &node.body {
        Body::Device(number) => *number,
        Body::File(_) | Body::Directory { .. } | Body::Symlink(_) => 0,
    };
    let doubtful = if node.set_gid_in_doubt { SET_GID } else { 0 };
    let expected = (node.kind, node.mode & !doubtful, node.nlink, node.uid, node.gid, rdev);
    let found = (attr.kind, attr.mode & !doubtful, attr.nlink, attr.uid, attr.gid, attr.rdev);
    if expected != found {
        let show = |(kind, mode, nlink, uid, gid, rdev): (FileKind, u16, u32, u32, u32, u32)| {
            format!("{kind:?} mode {mode:o} nlink {nlink} owner {uid}:{gid} rdev {rdev}")
        };
        return Some(format!("expected {}, found {}", show(expected), show(found)));
    }
    None
}

/// How well the volume must know what a file takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blocks {
    /// Changes aren't committed: at least what it takes.
    Bound,
    /// Everything is committed: no more than it takes.
    Settled,
}

/// What is wrong with an inode's size and blocks.
pub(crate) fn size_difference(node: &Node, attr: &Attr, blocks: Blocks) -> Option<String> {
    if node.size() != attr.size {
        return Some(format!("expected size {}, found {}", node.size(), attr.size));
    }
    let content = node.content()?;
    let most = content.touched_blocks() * 8;
    if attr.blocks > most && blocks == Blocks::Settled {
        return Some(format!("{} blocks of 512 bytes for data that fits in {most}", attr.blocks));
    }
    if attr.blocks == 0 && content.has_data() {
        return Some("no blocks for a file with data: tar would take it for a hole".into());
    }
    None
}

impl Session {
    pub(super) fn adopt_times(&mut self, id: Id, attr: &Attr) {
        if let Some(node) = self.model.observed(id) {
            node.adopt(attr);
        }
    }

    /// Compares attributes that the volume gave, and learns from them what the rules leave open.
    pub(super) fn check_attr(&mut self, what: &str, id: Id, attr: &Attr) -> Result<(), Stop> {
        let diverged = |difference: String| Err(Stop::Diverged(format!("{what}: inode #{}: {difference}", id.0)));
        let ino = self.ino(id)?;
        if attr.ino != ino {
            return diverged(format!("expected inode number {ino}, found {}", attr.ino));
        }
        let Some(node) = self.model.observed(id) else { return diverged("it should be gone".into()) };
        if let Some(difference) = attribute_difference(node, attr).or_else(|| size_difference(node, attr, self.blocks))
        {
            return diverged(difference);
        }
        node.settle_mode(attr);
        if self.clockwork == Clockwork::Shared {
            node.adopt(attr);
            return Ok(());
        }
        let times = &mut node.times;
        for (name, time, seen) in [
            ("atime", &mut times.access, attr.atime),
            ("mtime", &mut times.modification, attr.mtime),
            ("ctime", &mut times.change, attr.ctime),
        ] {
            if !time.settle(seen) {
                return diverged(format!("expected {name} {time:?}, found {seen:?}"));
            }
        }
        if times.birth != attr.btime {
            return diverged(format!("expected btime {:?}, found {:?}", times.birth, attr.btime));
        }
        Ok(())
    }

    /// Tells the inode number of a new inode.
    pub(super) fn born(&mut self, what: &str, id: Id, ino: Ino) -> Result<(), Stop> {
        if !self.used.insert(ino) {
            return Err(Stop::Diverged(format!("{what}: inode number {ino} was used before")));
        }
        self.inos.insert(id, ino);
        Ok(())
    }

    /// Every inode that the operation changed or ended, as the volume shows it now. Failures of the environment are
    /// no concern here: the operation itself was answered.
    pub(super) fn check_changed(&mut self, what: &str, before: &Model) -> Result<(), Stop> {
        let gone: Vec<Id> = before.nodes().map(|(id, _)| id).filter(|id| self.model.node(*id).is_err()).collect();
        let changed: Vec<Id> =
            (self.model.nodes()).filter(|(id, node)| before.node(*id).ok() != Some(node)).map(|(id, _)| id).collect();
        for id in gone {
            let ino = self.ino(id)?;
            match self.ask(Who::ROOT, Pin::No, |context| self.vfs.getattr(context, ino)) {
                Err(VfsError::NotFound) => {}
                Ok(attr) if attr.nlink == 0 && what == "remount" => {}
                Err(error) if super::environment(error) => {}
                answer => {
                    return Err(Stop::Diverged(format!("{what}: inode #{} should be gone: {answer:?}", id.0)));
                }
            }
        }
        for id in changed {
            let ino = self.ino(id)?;
            let what = &format!("after {what}");
            match demand(what, self.ask(Who::ROOT, Pin::No, |context| self.vfs.getattr(context, ino))) {
                Ok(attr) => self.check_attr(what, id, &attr)?,
                Err(Stop::Environment(_)) => continue,
                Err(stop) => return Err(stop),
            }
            match self.check_extras(what, id) {
                Ok(()) | Err(Stop::Environment(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Compares every inode, name, target and byte.
    ///
    /// # Errors
    /// The first difference, or that the volume can't be read.
    pub fn compare_tree(&mut self, when: &str) -> Result<(), Stop> {
        self.model.now = self.host.now();
        for (path, id) in self.model.paths() {
            let shown: Vec<String> = path.iter().map(|name| crate::op::short(name)).collect();
            let what = format!("{when}, comparing /{}", shown.join("/"));
            self.compare_inode(&what, id)?;
        }
        self.compare_snapshots(when)?;
        let nameless: Vec<Id> = (self.model.nodes()).filter(|(_, node)| node.nlink == 0).map(|(id, _)| id).collect();
        for id in nameless {
            let what = format!("{when}, comparing nameless #{}", id.0);
            let ino = self.ino(id)?;
            let attr = demand(&what, self.ask(Who::ROOT, Pin::No, |context| self.vfs.getattr(context, ino)))?;
            self.check_attr(&what, id, &attr)?;
            self.check_extras(&what, id)?;
            if let Some(content) = self.model.node(id).ok().and_then(Node::content).cloned() {
                self.compare_content(&what, id, &content)?;
            }
        }
        Ok(())
    }

    fn compare_inode(&mut self, what: &str, id: Id) -> Result<(), Stop> {
        let ino = self.ino(id)?;
        let attr = demand(what, self.ask(Who::ROOT, Pin::No, |context| self.vfs.getattr(context, ino)))?;
        self.check_attr(what, id, &attr)?;
        self.check_extras(what, id)?;
        let Ok(node) = self.model.node(id) else { return Ok(()) };
        match node.body.clone() {
            Body::File(content) => self.compare_content(what, id, &content),
            Body::Directory { .. } => self.compare_listing(what, id, 100),
            Body::Symlink(target) => {
                let found = demand(what, self.ask(Who::ROOT, Pin::No, |context| self.vfs.readlink(context, ino)))?;
                if found == target {
                    Ok(())
                } else {
                    Err(Stop::Diverged(format!("{what}: the link leads to {} bytes of something else", found.len())))
                }
            }
            Body::Device(_) => Ok(()),
        }
    }

    fn compare_content(&mut self, what: &str, id: Id, content: &Content) -> Result<(), Stop> {
        let ino = self.ino(id)?;
        // Also by a read that then fails.
        self.model.accessed(id);
        for (offset, len) in content.probes() {
            let found = self.ask(Who::ROOT, Pin::No, |context| self.vfs.read(context, ino, offset, len as u32));
            let found = joined(&demand(what, found)?);
            if let Err(difference) = content.compare(offset, len, &found) {
                return Err(Stop::Diverged(format!("{what}: {difference}")));
            }
        }
        self.compare_extents(what, id, content)
    }

    pub(super) fn check_read(&mut self, what: &str, id: Id, range: (u64, u32)) -> Result<(), Stop> {
        let ino = self.ino(id)?;
        let expected = self.model.read(id, range.0, range.1);
        let found = self.ask(Who::ROOT, Pin::No, |context| self.vfs.read(context, ino, range.0, range.1));
        let Some((expected, found)) = super::meet(what, expected, found)? else { return Ok(()) };
        let found = joined(&found);
        if expected == found {
            return Ok(());
        }
        let content = self.model.node(id).ok().and_then(Node::content).cloned().unwrap_or_default();
        match content.compare(range.0, range.1 as usize, &found) {
            Ok(()) => Ok(()),
            Err(difference) => Err(Stop::Diverged(format!("{what}: {difference}"))),
        }
    }
}
