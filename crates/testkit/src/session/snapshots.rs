//! Whether the volume's snapshots are the model's, and show the trees of then.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use verfs_base::Ino;
use verfs_vfs::{Attr, CopyMode, DirEntry, FileKind, Listing, SnapshotTree, StreamError, TargetChanges, Vfs, VfsError};

use super::{Blocks, Clockwork, Host, Session, Stop, demand, extras_difference, meet, walk_extents};
use super::{attribute_difference, size_difference};
use crate::machine::{Machine, Settings};
use crate::model::{Body, Id, Model, Node, ROOT, Snapshot, Sums};
use crate::observe::Extras;
use crate::op::{NAMES, Name, SLOTS};
use crate::random::TestRng;
use crate::snapshot::{SNAPSHOT_REASONS, SnapshotName, SnapshotOp, snapshot_name};

/// What the names of a caller's snapshots begin with: a volume has one set of names for all callers.
fn owner_of(clockwork: Clockwork, root: Ino) -> Vec<u8> {
    match clockwork {
        Clockwork::Exact => Vec::new(),
        Clockwork::Shared => format!("{}.", root.0).into_bytes(),
    }
}

/// Whose snapshots are looked at.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) vfs: &'a Vfs,
    /// Where his tree begins.
    pub(crate) root: Ino,
    /// Inodes as far as they are known.
    pub(crate) inos: &'a BTreeMap<Id, Ino>,
    pub(crate) clockwork: Clockwork,
}

/// Compares all snapshots of a caller with a model's.
pub(crate) fn check_snapshots(caller: Caller<'_>, model: &Model) -> Result<(), Stop> {
    let owner = owner_of(caller.clockwork, caller.root);
    let diverged = |difference: String| Err(Stop::Diverged(difference));
    let mut found: BTreeMap<Vec<u8>, verfs_vfs::Snapshot> = BTreeMap::new();
    let mut newest = 0;
    for snapshot in caller.vfs.snapshots().into_iter().filter(|snapshot| snapshot.name.starts_with(&owner)) {
        if snapshot.id.0 <= newest {
            return diverged(format!("snapshot {} is listed behind {newest}", snapshot.id.0));
        }
        newest = snapshot.id.0;
        found.insert(snapshot.name.to_vec(), snapshot);
    }
    for (name, expected) in model.snapshots() {
        let bytes = snapshot_name(&owner, *name);
        let what = format!("snapshot {}", crate::op::short(&bytes));
        let Some(snapshot) = found.remove(&bytes) else { return diverged(format!("{what} is missing")) };
        check_record(&what, &snapshot, expected, caller.clockwork)?;
        compare(&what, caller, &bytes, &expected.tree)?;
    }
    match found.keys().next() {
        Some(name) => diverged(format!("snapshot {} should not be there", crate::op::short(name))),
        None => Ok(()),
    }
}

/// What a snapshot says of itself.
fn check_record(
    what: &str,
    found: &verfs_vfs::Snapshot,
    expected: &Snapshot,
    clockwork: Clockwork,
) -> Result<(), Stop> {
    let holds: BTreeSet<&[u8]> = found.holds.iter().map(|reason| &reason[..]).collect();
    let reasons = expected.holds.iter().map(|reason| SNAPSHOT_REASONS[*reason as usize]).collect();
    if holds != reasons || holds.len() != found.holds.len() {
        return Err(Stop::Diverged(format!("{what} is held for {:?}", found.holds)));
    }
    let sums = Sums { inodes: found.inodes, directories: found.directories, logical_bytes: found.logical_bytes };
    // Of a volume that several share it has everybody's.
    if clockwork == Clockwork::Exact && sums != expected.tree.sums() {
        return Err(Stop::Diverged(format!("{what}: expected {:?}, it says {sums:?}", expected.tree.sums())));
    }
    Ok(())
}

/// Reads a whole snapshot and compares it with the tree of then.
fn compare(what: &str, caller: Caller<'_>, name: &[u8], model: &Model) -> Result<(), Stop> {
    let tree = demand(what, caller.vfs.open_snapshot(name))?;
    let mut todo = vec![(String::new(), ROOT, caller.root)];
    let mut seen: BTreeMap<Id, Ino> = BTreeMap::new();
    while let Some((path, id, ino)) = todo.pop() {
        let what = format!("{what}: {}", if path.is_empty() { "/" } else { &path });
        let known = caller.inos.get(&id).or_else(|| seen.get(&id));
        if known.is_some_and(|known| *known != ino) {
            return Err(Stop::Diverged(format!("{what} is inode {ino} instead of {known:?}")));
        }
        if seen.insert(id, ino).is_some() {
            continue;
        }
        let Ok(node) = model.node(id) else { continue };
        let attr = demand(&what, tree.getattr(ino))?;
        if let Some(difference) = inode_difference(node, &attr, caller.clockwork) {
            return Err(Stop::Diverged(format!("{what}: {difference}")));
        }
        if let Some(difference) = extras_difference(node, &demand(&what, extras(&tree, ino))?) {
            return Err(Stop::Diverged(format!("{what}: {difference}")));
        }
        match &node.body {
            Body::Directory { entries, parent } => {
                // Where a caller's own root is, is not his business.
                let is_inside = id != ROOT || caller.root == Ino::ROOT;
                let up = seen.get(parent).copied().filter(|_| is_inside);
                for (name, child) in list(&what, &tree, (id, ino), up)? {
                    let path = format!("{path}/{}", crate::op::short(&name));
                    let Some(id) = entries.get(&name) else {
                        return Err(Stop::Diverged(format!("{what}: {path} should not be there")));
                    };
                    todo.push((path, *id, child));
                }
                if attr.size != entries.len() as u64 || todo_of(&todo, &path) != entries.len() {
                    return Err(Stop::Diverged(format!("{what} has not all of its {} names", entries.len())));
                }
                match tree.lookup(ino, b"never there") {
                    Err(VfsError::NotFound) => {}
                    answer => {
                        demand(&what, answer)?;
                        return Err(Stop::Diverged(format!("{what}: found a name that never was")));
                    }
                }
            }
            Body::File(content) => {
                for (offset, len) in content.probes() {
                    let found = demand(&what, tree.read(ino, offset, len as u32))?.concat();
                    let same = content.compare(offset, len, &found);
                    same.map_err(|difference| Stop::Diverged(format!("{what}: {difference}")))?;
                }
                let walked = walk_extents(|at, wanted| tree.seek(ino, at, wanted), content);
                let told = |difference| Stop::Diverged(format!("{what}: {difference}; {content}"));
                demand(&what, walked)?.map_err(told)?;
            }
            Body::Symlink(target) if demand(&what, tree.readlink(ino))? != *target => {
                return Err(Stop::Diverged(format!("{what}: the link leads elsewhere")));
            }
            Body::Symlink(_) | Body::Device(_) => {}
        }
    }
    // What was made later, or was gone already, is not in it.
    for (id, ino) in caller.inos.iter().filter(|(id, _)| !seen.contains_key(id)) {
        match tree.getattr(*ino) {
            Err(VfsError::NotFound) => {}
            answer => {
                demand(what, answer)?;
                return Err(Stop::Diverged(format!("{what}: inode #{} ({ino}) had no name then", id.0)));
            }
        }
    }
    Ok(())
}

/// How many of the inodes to come are in the directory of a path.
fn todo_of(todo: &[(String, Id, Ino)], path: &str) -> usize {
    todo.iter().filter(|(below, ..)| below.rsplit_once('/').is_some_and(|(dir, _)| dir == path)).count()
}

fn inode_difference(node: &Node, attr: &Attr, clockwork: Clockwork) -> Option<String> {
    let difference = attribute_difference(node, attr).or_else(|| size_difference(node, attr, Blocks::Settled));
    if difference.is_some() || clockwork == Clockwork::Shared {
        return difference;
    }
    let times = &node.times;
    let fits = [
        ("atime", times.access.allows(attr.atime)),
        ("mtime", times.modification.allows(attr.mtime)),
        ("ctime", times.change.allows(attr.ctime)),
        ("btime", times.birth == attr.btime),
    ];
    let (name, _) = fits.iter().find(|(_, fits)| !fits)?;
    Some(format!("{name} is not one of then: expected {times:?}, found {attr:?}"))
}

fn extras(tree: &SnapshotTree, ino: Ino) -> verfs_vfs::Result<Extras> {
    let mut extras = Extras { flags: tree.file_flags(ino)?, ..Extras::default() };
    for name in tree.listxattr(ino)? {
        let value = tree.getxattr(ino, &name)?;
        extras.xattrs.insert(name.to_vec(), value.to_vec());
    }
    Ok(extras)
}

/// Lists a directory in pages; what it tells of each name must be what a lookup of the name tells.
fn list(
    what: &str,
    tree: &SnapshotTree,
    (id, ino): (Id, Ino),
    parent: Option<Ino>,
) -> Result<BTreeMap<Vec<u8>, Ino>, Stop> {
    let diverged = |difference: String| Err(Stop::Diverged(format!("{what}: {difference}")));
    let page = 1 + id.0 as usize % 4;
    let listing = if id.0 % 3 == 0 { Listing::Names } else { Listing::Plus };
    let (mut dots, mut entries, mut cookie) = (Vec::new(), BTreeMap::new(), 0);
    loop {
        let found: Vec<DirEntry> = demand(what, tree.readdir(ino, cookie, page, listing))?;
        let Some(last) = found.last() else { break };
        if found.len() > page || last.cookie <= cookie {
            return diverged(format!("{} entries behind cookie {cookie}, the last at {}", found.len(), last.cookie));
        }
        cookie = last.cookie;
        for entry in found {
            let shown = crate::op::short(&entry.name);
            let is_dot = entry.name == b"."[..] || entry.name == b".."[..];
            if let Some(attr) = entry.attr.filter(|_| !is_dot)
                && demand(what, tree.getattr(entry.ino))? != attr
            {
                return diverged(format!("{shown} is listed with {attr:?}"));
            }
            if listing == Listing::Plus && entry.attr.is_none() {
                return diverged(format!("{shown} came without attributes"));
            }
            if is_dot {
                dots.push((entry.name.to_vec(), entry.ino));
                continue;
            }
            let target = demand(what, tree.lookup(ino, &entry.name))?;
            if (target.ino, target.kind) != (entry.ino, entry.kind) {
                return diverged(format!("{shown} is listed as {} {:?}, it is {target:?}", entry.ino, entry.kind));
            }
            if target.kind == FileKind::Directory && demand(what, tree.parent(target.ino))? != ino {
                return diverged(format!("{shown} is a directory elsewhere"));
            }
            if entries.insert(entry.name.to_vec(), entry.ino).is_some() {
                return diverged(format!("{shown} is listed twice"));
            }
        }
    }
    let expected = parent.map_or(dots.last().map_or(ino, |(_, up)| *up), |up| up);
    if dots != [(b".".to_vec(), ino), (b"..".to_vec(), expected)] {
        return diverged(format!("it doesn't begin with . and .. but {dots:?}"));
    }
    Ok(entries)
}

impl Session {
    /// The bytes of a snapshot's name.
    fn snapshot_name(&self, name: SnapshotName) -> Result<Vec<u8>, Stop> {
        Ok(snapshot_name(&owner_of(self.clockwork, self.ino(ROOT)?), name))
    }

    fn caller(&self) -> Result<Caller<'_>, Stop> {
        Ok(Caller { vfs: &self.vfs, root: self.ino(ROOT)?, inos: &self.inos, clockwork: self.clockwork })
    }

    pub(super) fn snapshot(&mut self, what: &str, op: SnapshotOp) -> Result<(), Stop> {
        let name = self.snapshot_name(op.name())?;
        match op {
            SnapshotOp::Create(index) => {
                let made = self.vfs.create_snapshot(&name, b"a note");
                let Some(((), made)) = meet(what, self.model.change_snapshot(op), made)? else { return Ok(()) };
                if made.name != name || made.note != b"a note"[..] {
                    return Err(Stop::Diverged(format!("{what}: made {made:?}")));
                }
                match self.model.snapshots().get(&index) {
                    Some(expected) => check_record(what, &made, expected, self.clockwork),
                    None => Ok(()),
                }
            }
            SnapshotOp::Delete(_) => {
                let done = self.vfs.delete_snapshot(&name);
                meet(what, self.model.change_snapshot(op), done).map(|_| ())
            }
            SnapshotOp::Hold(_, reason) => {
                let done = self.vfs.hold_snapshot(&name, SNAPSHOT_REASONS[reason as usize]);
                meet(what, self.model.change_snapshot(op), done).map(|_| ())
            }
            SnapshotOp::Release(_, reason) => {
                let done = self.vfs.release_snapshot(&name, SNAPSHOT_REASONS[reason as usize]);
                meet(what, self.model.change_snapshot(op), done).map(|_| ())
            }
            SnapshotOp::Rollback(_) => {
                let done = self.vfs.rollback(&name);
                meet(what, self.model.change_snapshot(op), done)?;
                self.close_gone()
            }
            SnapshotOp::Compare(index) => {
                let found = self.vfs.snapshot(&name);
                let Some(((), found)) = meet(what, self.model.change_snapshot(op), found)? else { return Ok(()) };
                let Some(expected) = self.model.snapshots().get(&index) else { return Ok(()) };
                check_record(what, &found, expected, self.clockwork)?;
                compare(what, self.caller()?, &name, &expected.tree)
            }
            SnapshotOp::Diff(index, to) => self.diff(what, op, (index, to)),
            SnapshotOp::Send(index, base) => self.send(what, op, (index, base)),
        }
    }

    fn diff(
        &mut self,
        what: &str,
        op: SnapshotOp,
        (from, to): (SnapshotName, Option<SnapshotName>),
    ) -> Result<(), Stop> {
        let name = self.snapshot_name(from)?;
        let to_name = to.map(|to| self.snapshot_name(to)).transpose()?;
        let mut told = Vec::new();
        let done = self.vfs.diff(&name, to_name.as_deref(), &mut |change| {
            told.push(change);
            ControlFlow::Continue(())
        });
        if meet(what, self.model.change_snapshot(op), done)?.is_none() {
            return Ok(());
        }
        let snapshots = self.model.snapshots();
        let before = &snapshots[&from].tree;
        let after = to.map_or(&self.model, |to| &snapshots[&to].tree);
        match before.diff_mistake(after, &told) {
            None => Ok(()),
            Some(mistake) => Err(Stop::Diverged(format!("{what}: {mistake}; told: {told:?}"))),
        }
    }

    /// Sends a snapshot, after its base, to an empty volume on a machine of its own, which must show what this one does.
    fn send(
        &mut self,
        what: &str,
        op: SnapshotOp,
        (index, base): (SnapshotName, Option<SnapshotName>),
    ) -> Result<(), Stop> {
        let mut streams = Vec::new();
        for (index, base) in base.map(|base| (base, None)).into_iter().chain([(index, base)]) {
            let name = self.snapshot_name(index)?;
            let base = base.map(|base| self.snapshot_name(base)).transpose()?;
            let mut stream = Vec::new();
            match self.vfs.send(&name, base.as_deref(), None, &mut stream, &mut |_| ControlFlow::Continue(())) {
                Ok(_) => streams.push(Ok(stream)),
                Err(StreamError::Volume(error)) => streams.push(Err(error)),
                Err(error) => return Err(Stop::Diverged(format!("{what}: {error}"))),
            }
        }
        let streams: verfs_vfs::Result<Vec<Vec<u8>>> = streams.into_iter().collect();
        let Some(((), streams)) = meet(what, self.model.change_snapshot(op), streams)? else { return Ok(()) };
        let names: Vec<SnapshotName> = base.into_iter().chain([index]).collect();
        let Some(expected) = self.model.received(&names) else { return Ok(()) };
        let told = |difference: &dyn std::fmt::Display| Stop::Diverged(format!("{what}, received: {difference}"));
        let other = Arc::new(Machine::new(Settings::random(&mut TestRng::new(self.steps)), self.steps));
        other.open().map_err(|stop| told(&stop))?;
        for stream in streams {
            let received =
                other.vfs().receive(&mut &stream[..], TargetChanges::Refuse, &mut |_| ControlFlow::Continue(()));
            received.map_err(|error| told(&error))?;
        }
        let host: Arc<dyn Host> = Arc::clone(&other) as Arc<dyn Host>;
        let mut session = Session::new(host, expected, self.inos.clone(), Clockwork::Exact);
        session.compare_tree("there").map_err(|stop| told(&stop))?;
        drop(session);
        other.audit().and_then(|()| other.close()).map_err(|what| told(&what))
    }

    pub(super) fn copy_out(
        &mut self,
        what: &str,
        snapshot: SnapshotName,
        (from, to): (&[Name], &[Name]),
        mode: CopyMode,
    ) -> Result<(), Stop> {
        let name = self.snapshot_name(snapshot)?;
        let path = |names: &[Name]| names.iter().map(|name| NAMES[*name as usize]).collect::<Vec<_>>().join(&b'/');
        let done = self.vfs.copy_out(&name, &path(from), &path(to), mode, &mut |_| ControlFlow::Continue(()));
        match meet(what, self.model.copy_out(snapshot, from, to, mode), done)? {
            Some(_) => self.learn_inos(),
            None => Ok(()),
        }
    }

    /// What is open and was not there then is gone.
    fn close_gone(&mut self) -> Result<(), Stop> {
        for slot in 0..SLOTS {
            let open = self.slots[slot as usize];
            if open.is_some_and(|id| self.model.node(id).is_err()) {
                self.close_slot(slot)?;
            }
        }
        Ok(())
    }

    /// Compares every snapshot.
    pub(super) fn compare_snapshots(&self, when: &str) -> Result<(), Stop> {
        check_snapshots(self.caller()?, &self.model).map_err(|stop| match stop {
            Stop::Diverged(difference) => Stop::Diverged(format!("{when}, {difference}")),
            stop @ Stop::Environment(_) => stop,
        })
    }
}
