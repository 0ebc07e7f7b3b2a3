//! Names and inodes: each name leads to an inode, each inode has a name, and both say the same of each other.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use verfs_base::Ino;
use verfs_format::{DirentRecord, InodeFlags, InodeKind, OrphanRecord, keys, split_versioned};
use verfs_meta::{Direction, KeyRange, WriteBatch};

use super::{Checker, Node, Result, put_dirent, put_inode};
use crate::load::{decode_dirent, decode_xattrs};

/// Missing inodes that one round deals with.
const MISSING_MAX: usize = 100_000;

/// What names say of the inodes of a pass.
#[derive(Clone, Copy, Default)]
struct Named {
    names: u32,
    subdirectories: u32,
    entries: u64,
    /// Of a directory: it has a name where it says that it is.
    at_parent: bool,
}

/// What is wrong with names, by what they lead to.
#[derive(Default)]
struct Wrong {
    /// Names that lead to no readable inode.
    dangling: Vec<(Bytes, DirentRecord, Ino)>,
    /// Directories without a readable inode that have names in them.
    without_inode: BTreeSet<Ino>,
    /// Names of directories where they don't say that they are.
    elsewhere: FxHashMap<Ino, Vec<(Bytes, Ino)>>,
    kinds: Vec<(Bytes, Bytes, InodeKind, DirentRecord)>,
    undecoded: Vec<(Bytes, String)>,
    /// Names in something that is no directory.
    in_file: Vec<(Bytes, Ino)>,
}

impl Checker<'_> {
    /// Pass by pass through the inodes.
    pub(super) fn names(&mut self) -> Result<()> {
        let mut from = Ino(0);
        let mut directories = Vec::new();
        loop {
            let (mut nodes, mut damaged, mut next) = (Vec::new(), FxHashSet::default(), None);
            let pass_max = self.check.pass_max;
            self.each_inode(from, &mut |ino, record| {
                if nodes.len() == pass_max {
                    next = Some(ino);
                    return ControlFlow::Break(());
                }
                match record {
                    Ok(record) => nodes.push(Node::new(ino, &record)),
                    Err(error) => drop(damaged.insert((ino, error.to_string()))),
                }
                ControlFlow::Continue(())
            })?;
            directories.extend(
                nodes.iter().filter(|node| node.kind == InodeKind::Directory).map(|node| (node.ino, node.parent)),
            );
            self.pass(from, next, &nodes, &damaged)?;
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        self.cycles(&directories)
    }

    fn pass(&mut self, from: Ino, end: Option<Ino>, nodes: &[Node], damaged: &FxHashSet<(Ino, String)>) -> Result<()> {
        let inside = |ino: Ino| ino >= from && end.is_none_or(|end| ino < end);
        let find = |ino: Ino| nodes.binary_search_by_key(&ino, |node| node.ino).ok();
        let mut named = vec![Named::default(); nodes.len()];
        let mut wrong = Wrong::default();
        self.view.scan(&KeyRange::prefix(&[keys::DIRENT]), Direction::Forward, &mut |key, value| {
            let Some((parent, _, _)) = keys::parse_dirent_of(key) else { return ControlFlow::Continue(()) };
            let owned = || Bytes::copy_from_slice(key);
            let record = match decode_dirent(value) {
                Ok(record) => record,
                Err(error) => {
                    if inside(parent) {
                        wrong.undecoded.push((owned(), error.to_string()));
                    }
                    return ControlFlow::Continue(());
                }
            };
            if inside(parent) {
                match find(parent) {
                    Some(at) if nodes[at].kind == InodeKind::Directory => {
                        named[at].entries += 1;
                        named[at].subdirectories += u32::from(record.kind == InodeKind::Directory);
                    }
                    Some(_) => wrong.in_file.push((owned(), parent)),
                    None if wrong.without_inode.len() < MISSING_MAX => drop(wrong.without_inode.insert(parent)),
                    None => {}
                }
            }
            if inside(record.ino) {
                match find(record.ino) {
                    Some(at) => {
                        named[at].names += 1;
                        let node = &nodes[at];
                        if node.kind != record.kind {
                            wrong.kinds.push((owned(), Bytes::copy_from_slice(value), node.kind, record));
                        }
                        if node.kind == InodeKind::Directory {
                            if node.parent == parent {
                                named[at].at_parent = true;
                            } else {
                                wrong.elsewhere.entry(node.ino).or_default().push((owned(), parent));
                            }
                        }
                    }
                    None if wrong.dangling.len() < MISSING_MAX => wrong.dangling.push((owned(), record, parent)),
                    None => {}
                }
            }
            ControlFlow::Continue(())
        })?;
        if inside(Ino::ROOT) && find(Ino::ROOT).is_none() {
            wrong.without_inode.insert(Ino::ROOT);
        }
        let before = self.findings.mendable_count();
        self.wrong_names(wrong, nodes, &named, damaged)?;
        let mut directories = nodes.iter().zip(&named).filter(|(node, _)| node.kind == InodeKind::Directory);
        self.counters.directories += directories.by_ref().filter(|(node, _)| node.nlink > 0).count() as u64;
        for (node, named) in nodes.iter().zip(&named) {
            self.counters.inodes += 1;
            if node.kind == InodeKind::Regular && node.nlink > 0 {
                self.counters.logical_bytes += node.size;
            }
            self.highest = self.highest.max(node.ino.0).max(node.content.0);
            self.nameless(node, named)?;
        }
        // Counts follow from names: those that were just found wrong are put right first.
        if self.findings.mendable_count() == before || self.check.name_hash.is_none() {
            for (node, named) in nodes.iter().zip(&named) {
                self.counts(node, named)?;
            }
            self.attachments(from, end, nodes)?;
        }
        Ok(())
    }

    fn wrong_names(
        &mut self,
        wrong: Wrong,
        nodes: &[Node],
        named: &[Named],
        damaged: &FxHashSet<(Ino, String)>,
    ) -> Result<()> {
        let mut rebuilt = FxHashSet::default();
        for ino in wrong.without_inode {
            let record = self.rebuilt(ino, InodeKind::Directory, Ino::ROOT)?;
            let detail = "names are in it, and it has no readable inode: it gets a new one".to_owned();
            let epoch = self.system.epoch;
            self.mend("inode-lost", format!("directory {ino}"), detail, |batch| put_inode(batch, ino, epoch, &record));
            rebuilt.insert(ino);
        }
        for (key, record, parent) in wrong.dangling {
            let place = shown(&key);
            match self.traces(record.ino)? {
                _ if rebuilt.contains(&record.ino) => {}
                Some(kind) => {
                    let ino = record.ino;
                    let inode = self.rebuilt(ino, kind, parent)?;
                    let detail = format!("it leads to inode {ino}, which can't be read: it gets a new one");
                    let epoch = self.system.epoch;
                    self.mend("inode-lost", place, detail, |batch| put_inode(batch, ino, epoch, &inode));
                    rebuilt.insert(ino);
                }
                None => {
                    let is_damaged = damaged.iter().any(|(ino, _)| *ino == record.ino);
                    let what = if is_damaged { "can't be read and has no data" } else { "does not exist" };
                    let detail = format!("it leads to inode {}, which {what}", record.ino);
                    self.mend("dirent-dangling", place, detail, |batch| {
                        batch.delete(key);
                        batch.delete(keys::inode(record.ino));
                    });
                }
            }
        }
        // What no name leads to either, and can't be read.
        for (ino, error) in damaged {
            if rebuilt.contains(ino) {
                continue;
            }
            let traces = self.traces(*ino)?;
            let detail = format!("it can't be decoded: {error}");
            let epoch = self.system.epoch;
            match traces {
                Some(kind) => {
                    rebuilt.insert(*ino);
                    let record = self.rebuilt(*ino, kind, Ino::ROOT)?;
                    self.mend("inode-lost", format!("inode {ino}"), detail, |batch| {
                        put_inode(batch, *ino, epoch, &record);
                    });
                }
                None => self.mend("inode-damaged", format!("inode {ino}"), detail, |batch| {
                    batch.delete(keys::inode(*ino));
                }),
            }
        }
        self.made.extend(rebuilt);
        for (key, value, kind, record) in wrong.kinds {
            let detail = format!("it says {:?}, inode {} says {kind:?}", record.kind, record.ino);
            let birth = split_versioned(&value).map_or(self.system.epoch, |(birth, _)| birth);
            self.mend("dirent-kind", shown(&key), detail, |batch| {
                put_dirent(batch, key.to_vec(), birth, kind, record.ino);
            });
        }
        for (key, error) in wrong.undecoded {
            // What it led to has no name then, and gets one.
            let detail = format!("it can't be decoded: {error}");
            self.mend("dirent-damaged", shown(&key), detail, |batch| batch.delete(key));
        }
        for (key, parent) in wrong.in_file {
            let detail = format!("it is in inode {parent}, which is no directory");
            self.mend("dirent-misplaced", shown(&key), detail, |batch| batch.delete(key));
        }
        for (ino, mut strays) in wrong.elsewhere {
            let at = nodes.binary_search_by_key(&ino, |node| node.ino);
            let at_parent = at.is_ok_and(|at| named[at].at_parent);
            if !at_parent && let Some((key, parent)) = strays.pop() {
                let detail = format!("{} leads to it, and it says that it is somewhere else", shown(&key));
                self.mend_inode("directory-parent", ino, detail, |record| record.parent = parent)?;
            }
            for (key, _) in strays {
                let detail = format!("directory {ino} has another name, at its parent");
                self.mend("directory-twice", shown(&key), detail, |batch| batch.delete(key));
            }
        }
        Ok(())
    }

    /// What has no name gets one, if nobody meant to release it.
    fn nameless(&mut self, node: &Node, named: &Named) -> Result<()> {
        let orphan = self.orphans.get(&node.content).is_some_and(|record| record.ino == Some(node.ino));
        if named.names > 0 || node.ino == Ino::ROOT {
            if orphan {
                let detail = format!("it has {} names, and is to be released", named.names);
                let content = node.content;
                self.mend("orphan-named", format!("inode {}", node.ino), detail, |batch| {
                    batch.delete(keys::orphan(content));
                });
            }
            return Ok(());
        }
        if orphan {
            return Ok(());
        }
        let value = self.view.get(&keys::inode(node.ino))?.unwrap_or_default();
        let Some((birth, mut record)) = split_versioned(&value)
            .ok()
            .and_then(|(birth, record)| Some((birth, verfs_format::InodeRecord::decode(record).ok()?)))
        else {
            return Ok(());
        };
        let mut batch = WriteBatch::new();
        self.adopt(&mut batch, node.ino, &mut record)?;
        record.nlink = record.nlink.max(1);
        put_inode(&mut batch, node.ino, birth, &record);
        let detail = format!("it has no name: it becomes lost+found/#{}", node.ino);
        self.mend("inode-unnamed", format!("inode {}", node.ino), detail, |all| merge(all, batch));
        Ok(())
    }

    /// Link counts, and the sizes of directories.
    fn counts(&mut self, node: &Node, named: &Named) -> Result<()> {
        let is_directory = node.kind == InodeKind::Directory;
        let expected = match is_directory && (node.ino == Ino::ROOT || named.names > 0) {
            true => 2 + named.subdirectories,
            false => named.names,
        };
        if node.nlink != expected {
            let detail = format!("its link count is {} instead of {expected}", node.nlink);
            self.mend_inode("link-count", node.ino, detail, |record| record.nlink = expected)?;
        }
        if is_directory && node.size != named.entries {
            let (detail, entries) = (format!("it says {} names and has {}", node.size, named.entries), named.entries);
            self.mend_inode("directory-size", node.ino, detail, |record| record.size = entries)?;
        }
        Ok(())
    }

    /// Targets of symlinks, extended attributes and orphan records of the inodes of a pass.
    fn attachments(&mut self, from: Ino, end: Option<Ino>, nodes: &[Node]) -> Result<()> {
        let find = |ino: Ino| nodes.binary_search_by_key(&ino, |node| node.ino).ok();
        let range = |prefix: u8, key: fn(Ino) -> Vec<u8>| KeyRange {
            start: key(from).into(),
            end: end.map_or_else(|| KeyRange::prefix(&[prefix]).end, |end| Some(key(end).into())),
        };
        let (mut with_target, mut with_xattrs) = (FxHashSet::default(), FxHashSet::default());
        let (mut stray, mut undecoded) = (Vec::new(), Vec::new());
        self.view.scan(&range(keys::SYMLINK, keys::symlink), Direction::Forward, &mut |key, _| {
            let Some(ino) = keys::parse_symlink(key) else { return ControlFlow::Continue(()) };
            match find(ino) {
                Some(at) if nodes[at].kind == InodeKind::Symlink => drop(with_target.insert(ino)),
                Some(_) => stray.push((Bytes::copy_from_slice(key), ino, InodeKind::Symlink, true)),
                None => stray.push((Bytes::copy_from_slice(key), ino, InodeKind::Symlink, false)),
            }
            ControlFlow::Continue(())
        })?;
        self.view.scan(&range(keys::XATTRS, keys::xattrs), Direction::Forward, &mut |key, value| {
            let Some(ino) = keys::parse_xattrs(key) else { return ControlFlow::Continue(()) };
            let is_readable = self.check.name_hash.is_none() || decode_xattrs(value).is_ok();
            match find(ino) {
                Some(_) if !is_readable => undecoded.push(ino),
                Some(_) => drop(with_xattrs.insert(ino)),
                None => stray.push((Bytes::copy_from_slice(key), ino, InodeKind::Regular, false)),
            }
            ControlFlow::Continue(())
        })?;
        for ino in undecoded {
            with_xattrs.insert(ino);
            self.findings.left("xattrs-damaged", format!("inode {ino}"), "its extended attributes can't be decoded");
        }
        for (key, ino, kind, has_inode) in stray {
            let place = format!("inode {ino}");
            if has_inode {
                let detail = "a target is left of a symlink, and it is none".to_owned();
                self.mend("symlink-stray", place, detail, |batch| batch.delete(key));
            } else if kind == InodeKind::Symlink {
                let record = self.rebuilt(ino, kind, Ino::ROOT)?;
                let epoch = self.system.epoch;
                let detail = "only the target of a symlink is left of it: it gets an inode".to_owned();
                self.mend("inode-lost", place, detail, |batch| put_inode(batch, ino, epoch, &record));
            } else {
                let detail = "extended attributes are left of an inode that is gone, with its data".to_owned();
                self.mend("xattrs-stray", place, detail, |batch| batch.delete(key));
            }
        }
        for node in nodes {
            if node.kind == InodeKind::Symlink && !with_target.contains(&node.ino) {
                let path = self.path(node.ino)?;
                self.findings.left("symlink-target", path, "its target is lost");
            }
            let has = with_xattrs.contains(&node.ino);
            if has != node.has_xattrs {
                let detail = format!("it says that it {} extended attributes", if has { "has no" } else { "has" });
                self.mend_inode("xattrs-flag", node.ino, detail, |record| {
                    record.flags = match has {
                        true => record.flags.with(InodeFlags::XATTRS),
                        false => record.flags.without(InodeFlags::XATTRS),
                    };
                })?;
            }
        }
        let last = end.is_none();
        let gone: Vec<_> = self
            .orphans
            .iter()
            .filter_map(|(content, OrphanRecord { ino, .. })| Some((*content, (*ino)?)))
            .filter(|(_, ino)| *ino >= from && end.is_none_or(|end| *ino < end) && find(*ino).is_none())
            .collect();
        for (content, ino) in gone {
            let detail = format!("it is to release inode {ino}, which does not exist");
            self.mend("orphan-gone", format!("orphan record of content {}", content.0), detail, |batch| {
                batch.delete(keys::orphan(content));
            });
        }
        debug_assert!(last || !nodes.is_empty(), "a pass deals with something");
        Ok(())
    }

    /// Each directory leads to the root.
    fn cycles(&mut self, directories: &[(Ino, Ino)]) -> Result<()> {
        const UNKNOWN: u32 = 0;
        const ROOTED: u32 = u32::MAX;
        let mut seen = vec![UNKNOWN; directories.len()];
        let find = |ino: Ino| directories.binary_search_by_key(&ino, |(ino, _)| *ino).ok();
        for start in 0..directories.len() {
            let (mut at, mut way) = (Some(start), Vec::new());
            let mark = u32::try_from(start + 1).unwrap_or(ROOTED - 1);
            let mut closed = None;
            while let Some(here) = at.filter(|here| seen[*here] == UNKNOWN) {
                seen[here] = mark;
                way.push(here);
                let (ino, parent) = directories[here];
                at = if ino == Ino::ROOT { None } else { find(parent) };
                if let Some(next) = at.filter(|next| seen[*next] == mark) {
                    closed = Some(next);
                }
            }
            if let Some(first) = closed {
                self.break_cycle(directories[first])?;
            }
            for here in way {
                seen[here] = ROOTED;
            }
        }
        Ok(())
    }

    fn break_cycle(&mut self, (ino, parent): (Ino, Ino)) -> Result<()> {
        let mut name = None;
        let mut each = |key: &[u8], value: &[u8]| {
            if decode_dirent(value).is_ok_and(|record| record.ino == ino) {
                name = Some(Bytes::copy_from_slice(key));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        self.view.scan(&KeyRange::prefix(&keys::dirents(parent)), Direction::Forward, &mut each)?;
        // Without its name it is without any, and is found as such.
        let Some(key) = name else { return Ok(()) };
        let detail = format!("directory {ino} is below itself: it goes to lost+found");
        self.mend("directory-cycle", shown(&key), detail, |batch| batch.delete(key));
        Ok(())
    }
}

pub(super) fn merge(all: &mut WriteBatch, batch: WriteBatch) {
    for (key, change) in batch {
        match change {
            verfs_meta::Change::Put(value) => all.put(key, value),
            verfs_meta::Change::Delete => all.delete(key),
        }
    }
}

/// A name for messages.
fn shown(key: &[u8]) -> String {
    match keys::parse_dirent_of(key) {
        Some((parent, _, name)) => format!("{} in directory {parent}", String::from_utf8_lossy(name)),
        None => key.escape_ascii().to_string(),
    }
}
