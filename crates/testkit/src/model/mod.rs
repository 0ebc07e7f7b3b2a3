//! A POSIX file tree in plain maps: what every operation must answer and leave behind.
//!
//! Lives here: the rules of POSIX and Linux, with nothing about how they are kept on a disk. Never here: the volume
//! under test. Data flows from an operation into the maps; [`crate::Session`] compares.
//!
//! Where POSIX leaves the order of checks open, a refusal lists every error that fits; where it leaves a time open,
//! [`Times`] holds both values.

mod acl;
mod attributes;
mod contents;
mod copy_out;
mod diff;
mod extents;
mod flags;
mod names;
mod rename;
mod snapshots;
#[cfg(test)]
mod tests;
mod xattrs;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use verfs_base::Timestamp;
use verfs_vfs::{Attr, FileFlags, FileKind, VfsError};

pub use self::attributes::Change;
pub use self::contents::SIZE_MAX_BYTES;
pub use self::rename::Place;
pub use self::snapshots::{Snapshot, Sums};
pub use self::xattrs::XattrMap;
use crate::content::Content;
use crate::snapshot::SnapshotName;

/// Longest name, in bytes.
pub const NAME_MAX_BYTES: usize = 255;
/// Longest target of a symbolic link, in bytes.
pub const TARGET_MAX_BYTES: usize = 4095;

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o010;

/// An inode of the model. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id(pub u32);

/// The root of the tree.
pub const ROOT: Id = Id(0);

/// The errors of which an operation must answer one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal(pub Vec<VfsError>);

impl From<VfsError> for Refusal {
    fn from(error: VfsError) -> Self {
        Refusal(vec![error])
    }
}

/// What the model says to an operation.
pub type Answer<T> = Result<T, Refusal>;

/// A refusal if any error fits.
fn refuse(errors: Vec<VfsError>) -> Answer<()> {
    if errors.is_empty() { Ok(()) } else { Err(Refusal(errors)) }
}

/// Errors of an answer.
fn errors_of<T>(answer: Answer<T>) -> Vec<VfsError> {
    answer.err().map_or_else(Vec::new, |Refusal(errors)| errors)
}

/// The user who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits that are taken from what is made.
    pub umask: u16,
}

impl Who {
    /// The superuser.
    pub const ROOT: Who = Who { uid: 0, gid: 0, umask: 0 };
    /// Somebody else.
    pub const USER: Who = Who { uid: 1000, gid: 1000, umask: 0 };
}

/// A time that is one of a few values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Time {
    likely: Timestamp,
    also: Vec<Timestamp>,
    /// It may be any.
    open: bool,
}

impl Time {
    fn exactly(at: Timestamp) -> Self {
        Time { likely: at, also: Vec::new(), open: false }
    }

    fn or(&mut self, at: Timestamp) {
        if self.likely != at && !self.also.contains(&at) {
            self.also.push(at);
        }
    }

    /// Whether it may be `seen`; if so it is from now on.
    pub fn settle(&mut self, seen: Timestamp) -> bool {
        let fits = self.allows(seen);
        if fits {
            *self = Time::exactly(seen);
        }
        fits
    }

    /// Whether it may be `seen`.
    #[must_use]
    pub fn allows(&self, seen: Timestamp) -> bool {
        self.open || self.likely == seen || self.also.contains(&seen)
    }
}

/// The times of an inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Times {
    /// Last access.
    pub access: Time,
    /// Last change of the content.
    pub modification: Time,
    /// Last change of the inode.
    pub change: Time,
    /// Creation.
    pub birth: Timestamp,
}

impl Times {
    fn at(now: Timestamp) -> Self {
        Times { access: Time::exactly(now), modification: Time::exactly(now), change: Time::exactly(now), birth: now }
    }
}

/// What an inode holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Content of a regular file.
    File(Arc<Content>),
    /// Names of a directory, and the directory that it is in (itself for the root).
    Directory {
        /// Names.
        entries: BTreeMap<Vec<u8>, Id>,
        /// Where `..` leads.
        parent: Id,
    },
    /// Target of a symbolic link.
    Symlink(Vec<u8>),
    /// A device's number, or 0 for a pipe or socket.
    Device(u32),
}

/// An inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What it is.
    pub kind: FileKind,
    /// Permission and set-id bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; of a directory, 2 and its subdirectories, or 0 once it is removed.
    pub nlink: u32,
    /// Times.
    pub times: Times,
    /// How often it is held open.
    pub pins: u64,
    /// Whether the set-gid bit may also be off: Linux decides by groups that a file system isn't told of.
    pub set_gid_in_doubt: bool,
    /// Extended attributes, access control lists included.
    pub xattrs: Arc<XattrMap>,
    /// `chattr`.
    pub flags: FileFlags,
    /// The rest.
    pub body: Body,
}

impl Node {
    /// `st_size`.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.size(),
            Body::Directory { entries, .. } => entries.len() as u64,
            Body::Symlink(target) => target.len() as u64,
            Body::Device(_) => 0,
        }
    }

    /// Names of a directory; none of anything else.
    #[must_use]
    pub fn entries(&self) -> Option<&BTreeMap<Vec<u8>, Id>> {
        match &self.body {
            Body::Directory { entries, .. } => Some(entries),
            Body::File(_) | Body::Symlink(_) | Body::Device(_) => None,
        }
    }

    /// Content of a regular file.
    #[must_use]
    pub fn content(&self) -> Option<&Arc<Content>> {
        match &self.body {
            Body::File(content) => Some(content),
            Body::Directory { .. } | Body::Symlink(_) | Body::Device(_) => None,
        }
    }

    /// Takes over a mode that the rules leave open.
    pub fn settle_mode(&mut self, seen: &Attr) {
        if self.set_gid_in_doubt {
            self.mode = seen.mode;
            self.set_gid_in_doubt = false;
        }
    }

    /// Takes over what is known only by looking.
    pub fn adopt(&mut self, seen: &Attr) {
        self.settle_mode(seen);
        self.times = Times {
            access: Time::exactly(seen.atime),
            modification: Time::exactly(seen.mtime),
            change: Time::exactly(seen.ctime),
            birth: seen.btime,
        };
    }

    fn touch_content(&mut self, now: Timestamp) {
        self.times.modification = Time::exactly(now);
        self.times.change = Time::exactly(now);
    }
}

/// The tree. Cheap to clone: contents are shared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Model {
    nodes: BTreeMap<Id, Node>,
    next: u32,
    snapshots: BTreeMap<SnapshotName, Snapshot>,
    snapshots_made: u32,
    pieces: u32,
    /// The time of the next operation.
    pub now: Timestamp,
}

impl Model {
    /// An empty tree whose root was made at `now` by the superuser.
    #[must_use]
    pub fn new(now: Timestamp, root_mode: u16) -> Self {
        let root = Node {
            kind: FileKind::Directory,
            mode: root_mode,
            uid: 0,
            gid: 0,
            nlink: 2,
            times: Times::at(now),
            pins: 0,
            set_gid_in_doubt: false,
            xattrs: Arc::default(),
            flags: FileFlags::default(),
            body: Body::Directory { entries: BTreeMap::new(), parent: ROOT },
        };
        Model {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: 1,
            snapshots: BTreeMap::new(),
            snapshots_made: 0,
            pieces: 0,
            now,
        }
    }

    /// An inode that exists, be it named or only held open.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn node(&self, id: Id) -> Answer<&Node> {
        self.nodes.get(&id).ok_or_else(|| VfsError::NotFound.into())
    }

    fn node_mut(&mut self, id: Id) -> Answer<&mut Node> {
        self.nodes.get_mut(&id).ok_or_else(|| VfsError::NotFound.into())
    }

    /// For whoever has seen the attributes of an inode and knows more than the rules do.
    pub fn observed(&mut self, id: Id) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    /// Every inode, removed ones that are held open included.
    pub fn nodes(&self) -> impl Iterator<Item = (Id, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// Whether any inode is different, times apart, or any snapshot.
    #[must_use]
    pub fn differs(&self, other: &Model) -> bool {
        let timeless = |node: &Node| Node { times: Times::at(Timestamp::default()), ..node.clone() };
        let nodes = |model: &Model| model.nodes.iter().map(|(id, node)| (*id, timeless(node))).collect::<Vec<_>>();
        nodes(self) != nodes(other) || self.snapshots != other.snapshots
    }

    /// Number of inodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: the root is always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Every path of the tree with its inode, the root first as the empty path, parents before children.
    #[must_use]
    pub fn paths(&self) -> Vec<(Vec<Vec<u8>>, Id)> {
        let mut paths = vec![(Vec::new(), ROOT)];
        let mut done = 0;
        while done < paths.len() {
            let (path, id) = paths[done].clone();
            for (name, child) in self.nodes.get(&id).and_then(Node::entries).into_iter().flatten() {
                let mut path = path.clone();
                path.push(name.clone());
                paths.push((path, *child));
            }
            done += 1;
        }
        paths
    }

    /// Holds an inode open.
    pub fn pin(&mut self, id: Id) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.pins += 1;
        }
    }

    /// Takes one pin back; the last one of a nameless inode ends it.
    pub fn unpin(&mut self, id: Id) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.pins -= 1;
        }
        self.drop_if_unused(id);
    }

    /// Nobody holds anything open any more: the volume was closed or crashed.
    pub fn unpin_all(&mut self) {
        for node in self.nodes.values_mut() {
            node.pins = 0;
        }
        self.nodes.retain(|_, node| node.nlink > 0);
    }

    fn drop_if_unused(&mut self, id: Id) {
        if self.nodes.get(&id).is_some_and(|node| node.nlink == 0 && node.pins == 0) {
            self.nodes.remove(&id);
        }
    }

    /// Nobody knows any more when something was looked at.
    pub(crate) fn forget_access(&mut self) {
        self.nodes.values_mut().for_each(|node| node.times.access.open = true);
    }

    /// Uses no id that `other` used.
    pub fn skip_ids_of(&mut self, other: &Model) {
        self.next = self.next.max(other.next);
    }

    fn insert(&mut self, node: Node) -> Id {
        let id = Id(self.next);
        self.next += 1;
        self.nodes.insert(id, node);
        id
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, id) in self.paths() {
            let names: Vec<String> = path.iter().map(|name| crate::op::short(name)).collect();
            write!(f, "/{} #{}", names.join("/"), id.0)?;
            if let Some(node) = self.nodes.get(&id) {
                write!(f, " {:?} {:o} {}:{} nlink {}", node.kind, node.mode, node.uid, node.gid, node.nlink)?;
                for (name, value) in &*node.xattrs {
                    write!(f, " {}={}*", crate::op::short(name), value.len())?;
                }
                if node.flags != FileFlags::default() {
                    write!(f, " {:?}", node.flags)?;
                }
                if let Some(content) = node.content() {
                    write!(f, " [{content}]")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
