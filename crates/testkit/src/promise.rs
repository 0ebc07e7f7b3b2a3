//! Promises 1 and 2 of the design: what a volume may show after a crash.
//!
//! * The namespace (names, links, modes, owners, extended attributes, flags) is that after some prefix of the operations, which holds everything before the last completed
//!   fsync or barrier.
//! * Each file's content, size included, is what it was at one moment: not before its own last completed fsync or
//!   barrier, not before the last rename or link of it in the prefix, and not after the prefix.
//! * Snapshots are those of the prefix, each whole; where one was made, deleted or held, everything before it is durable.
//! * Where groups only close at syncs, both moments are moments of syncs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use verfs_base::{Ino, Timestamp};
use verfs_vfs::{Context, FileKind, Vfs, VfsError};

use crate::content::Content;
use crate::model::{Body, Id, Model, Node, ROOT};
use crate::observe::{Observed, Reader};
use crate::session::{Caller, Clockwork, Stop, attribute_difference, check_snapshots, extras_difference};

/// What an operation means for durability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Nothing by itself.
    Plain,
    /// An fsync of an inode.
    Fsync(Id),
    /// Everything before it is durable.
    Barrier,
}

/// The past of a volume: states of the model, and what was promised between them.
#[derive(Clone, Debug)]
pub struct History {
    /// State `n` is that after `n` operations; all of state 0 is durable.
    states: Vec<Model>,
    /// Of operation `n`, which leads from state `n` to state `n + 1`.
    meanings: Vec<Meaning>,
    /// Operations that completed; one more may have been under way.
    completed: usize,
    inos: BTreeMap<Id, Ino>,
    /// Groups close only at syncs.
    quiet: bool,
    clockwork: Clockwork,
}

/// What was found to be true after a crash.
#[derive(Clone, Debug)]
pub struct Survived {
    /// The tree as it is.
    pub model: Model,
    /// Which inode is which, of those that are gone too.
    pub inos: BTreeMap<Id, Ino>,
    /// Number of operations whose names survived.
    pub prefix: usize,
}

/// Inodes of the model bound to inodes of the volume.
type Binding = BTreeMap<Id, Ino>;

impl History {
    /// Begins with a durable state.
    #[must_use]
    pub fn new(model: Model, inos: BTreeMap<Id, Ino>, quiet: bool) -> Self {
        let clockwork = Clockwork::Exact;
        History { states: vec![model], meanings: Vec::new(), completed: 0, inos, quiet, clockwork }
    }

    /// The same, but others move the clock, too: times say nothing.
    #[must_use]
    pub fn timeless(self) -> Self {
        History { clockwork: Clockwork::Shared, ..self }
    }

    /// An operation completed.
    pub fn completed(&mut self, meaning: Meaning, after: &Model, inos: &BTreeMap<Id, Ino>) {
        self.states.push(after.clone());
        self.meanings.push(meaning);
        self.completed += 1;
        self.inos.clone_from(inos);
    }

    /// The last operation failed or never returned: its effect may be there or not.
    pub fn interrupted(&mut self, meaning: Meaning, after: &Model) {
        self.states.push(after.clone());
        self.meanings.push(meaning);
    }

    /// The history as it was when so many operations had completed; the next one, if there was one, was under way.
    #[must_use]
    pub fn cut(&self, completed: usize) -> History {
        let mut cut = self.clone();
        cut.states.truncate(completed + 2);
        cut.meanings.truncate(completed + 1);
        cut.completed = completed;
        cut
    }

    /// The oldest state whose names may survive.
    fn oldest(&self) -> usize {
        let durable = self.meanings[..self.completed].iter().rposition(|meaning| *meaning != Meaning::Plain);
        durable.map_or(0, |operation| operation + 1)
    }

    /// Whether a state may be one that was made durable, where only syncs do that.
    fn is_sync_point(&self, state: usize) -> bool {
        // A rollback begins with a sync, and so does what a copy out of a snapshot ends with.
        let next = self.states.get(state + 1);
        if next.is_some_and(|next| next.pieces() != self.states[state].pieces()) {
            return true;
        }
        match state.checked_sub(1) {
            None => true,
            Some(operation) => self.meanings[operation] != Meaning::Plain,
        }
    }

    /// The oldest state whose content of `id` may survive when the names of state `prefix` do.
    fn oldest_content(&self, id: Id, prefix: usize) -> usize {
        // Whatever befell a snapshot is committed with everything before it, and so is what comes out of one.
        let past = |state: usize| (self.states[state].snapshots(), self.states[state].pieces());
        if prefix > 0 && past(prefix) != past(prefix - 1) {
            return prefix;
        }
        let synced = self.meanings[..self.completed].iter().rposition(|meaning| match meaning {
            Meaning::Plain => false,
            Meaning::Barrier => true,
            Meaning::Fsync(synced) => *synced == id,
        });
        let named = (1..=prefix).rev().find(|state| {
            let before = names_of(&self.states[state - 1], id);
            names_of(&self.states[*state], id).difference(&before).next().is_some()
        });
        synced.map_or(0, |operation| operation + 1).max(named.unwrap_or(0))
    }

    /// Numbers that must never be used again. What was made and lost in the crash never was.
    fn durable_inos(&self) -> BTreeMap<Id, Ino> {
        let durable = (0..=self.oldest()).filter(|state| self.is_sync_point(*state)).map(|state| &self.states[state]);
        let ids: BTreeSet<Id> = durable
            .flat_map(|state| std::iter::once(state).chain(state.snapshots().values().map(|snapshot| &*snapshot.tree)))
            .flat_map(Model::nodes)
            .map(|(id, _)| id)
            .collect();
        self.inos.iter().filter(|(id, _)| ids.contains(id)).map(|(id, ino)| (*id, *ino)).collect()
    }

    /// Finds a past that explains what the volume shows at `now`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn explain(&self, vfs: &Vfs, root: Ino, now: Timestamp) -> Result<Survived, String> {
        let seen = Observed::read(vfs, root)?;
        let newest = self.states.len() - 1;
        let mut reasons = Vec::new();
        let mut files = Files { vfs, seen: &seen, known: BTreeMap::new() };
        for prefix in (self.oldest()..=newest).rev() {
            if self.quiet && !self.is_sync_point(prefix) {
                continue;
            }
            match self.bind(prefix, &seen) {
                Err(difference) => reasons.push(format!("names of state {prefix}: {difference}")),
                Ok(binding) => match self.match_contents(prefix, &binding, &mut files)? {
                    Err(difference) => reasons.push(format!("contents under names of state {prefix}: {difference}")),
                    Ok(mut model) => {
                        if let Err(difference) = self.match_snapshots(&model, &binding, vfs, root)? {
                            reasons.push(format!("snapshots of state {prefix}: {difference}"));
                            continue;
                        }
                        // The look at it may have moved access times.
                        model.now = now;
                        binding.keys().for_each(|id| model.accessed(*id));
                        self.check_gone(vfs, &binding)?;
                        let mut inos = self.durable_inos();
                        inos.extend(binding);
                        return Ok(Survived { model, inos, prefix });
                    }
                },
            }
        }
        reasons.truncate(12);
        Err(format!(
            "no allowed past explains the volume (states {} to {newest}, {} operations completed):\n  {}",
            self.oldest(),
            self.completed,
            reasons.join("\n  ")
        ))
    }

    /// Compares the names and attributes of a state with the volume.
    fn bind(&self, state: usize, seen: &Observed) -> Result<Binding, String> {
        let model = &self.states[state];
        let mut binding = Binding::new();
        let taken: BTreeSet<Ino> = self.inos.values().copied().collect();
        let mut todo = vec![(String::new(), ROOT, seen.root)];
        while let Some((path, id, ino)) = todo.pop() {
            match self.inos.get(&id).or_else(|| binding.get(&id)) {
                Some(known) if *known != ino => {
                    return Err(format!("{path} is inode {ino} instead of {known}"));
                }
                None if taken.contains(&ino) => return Err(format!("{path} is inode {ino}, which is another file")),
                Some(_) | None => {}
            }
            if binding.insert(id, ino).is_some() {
                continue;
            }
            let (Ok(node), Some(found)) = (model.node(id), seen.inodes.get(&ino)) else {
                return Err(format!("{path} leads nowhere"));
            };
            if let Some(difference) = attribute_difference(node, &found.attr) {
                return Err(format!("{path}: {difference}"));
            }
            if let Some(difference) = extras_difference(node, &found.extras) {
                return Err(format!("{path}: {difference}"));
            }
            self.check_times(&path, id, &found.attr)?;
            match &node.body {
                Body::Directory { entries, .. } => {
                    if found.attr.size != entries.len() as u64 {
                        return Err(format!("{path} has size {} and {} names", found.attr.size, entries.len()));
                    }
                    for (name, child) in entries {
                        let path = format!("{path}/{}", crate::op::short(name));
                        let Some(ino) = found.entries.get(name) else { return Err(format!("{path} is missing")) };
                        todo.push((path, *child, *ino));
                    }
                    if let Some(extra) = found.entries.keys().find(|name| !entries.contains_key(*name)) {
                        return Err(format!("{path}/{} should not be there", crate::op::short(extra)));
                    }
                }
                Body::Symlink(target) if *target != found.target => return Err(format!("{path} leads elsewhere")),
                Body::Symlink(_) | Body::File(_) | Body::Device(_) => {}
            }
        }
        Ok(binding)
    }

    /// Times may be any that the inode ever had: they are no part of the promise beyond that.
    fn check_times(&self, path: &str, id: Id, attr: &verfs_vfs::Attr) -> Result<(), String> {
        if self.clockwork == Clockwork::Shared {
            return Ok(());
        }
        // What a copy left in it is removed when the volume is opened, by the clock of then.
        if id == ROOT && self.states.windows(2).any(|pair| pair[0].pieces() != pair[1].pieces()) {
            return Ok(());
        }
        let pasts = || self.states.iter().filter_map(|state| state.node(id).ok()).map(|node| &node.times);
        let fits = [
            ("mtime", pasts().any(|times| times.modification.allows(attr.mtime))),
            ("ctime", pasts().any(|times| times.change.allows(attr.ctime))),
            ("atime", pasts().any(|times| times.access.allows(attr.atime))),
            ("btime", pasts().any(|times| times.birth == attr.btime)),
        ];
        match fits.iter().find(|(_, fits)| !fits) {
            Some((name, _)) => Err(format!("{path} has a {name} that it never had")),
            None => Ok(()),
        }
    }

    /// Finds a moment for the content of each file under the names of a state.
    fn match_contents(
        &self,
        prefix: usize,
        binding: &Binding,
        files: &mut Files<'_>,
    ) -> Result<Result<Model, String>, String> {
        let mut model = self.states[prefix].clone();
        model.unpin_all();
        for state in &self.states {
            model.skip_ids_of(state);
        }
        for (id, ino) in binding {
            let Some(found) = files.seen.inodes.get(ino) else { continue };
            let attr = found.attr;
            if attr.kind == FileKind::Regular {
                let oldest = self.oldest_content(*id, prefix);
                let mut differences = Vec::new();
                let mut matching = None;
                for state in (oldest..=prefix).rev() {
                    if self.quiet && !self.is_sync_point(state) && state != oldest {
                        continue;
                    }
                    let Some(content) = self.states[state].node(*id).ok().and_then(Node::content) else { continue };
                    match files.is(*ino, content)? {
                        Ok(()) => {
                            matching = Some(Arc::clone(content));
                            break;
                        }
                        Err(difference) => differences.push(format!("as of state {state}: {difference}")),
                    }
                }
                let Some(content) = matching else {
                    differences.dedup();
                    return Ok(Err(format!(
                        "inode #{} ({ino}) has no content that it had from state {oldest} on:\n      {}",
                        id.0,
                        differences.join("\n      ")
                    )));
                };
                if let Some(node) = model.observed(*id) {
                    node.body = Body::File(content);
                }
            }
            if let Some(node) = model.observed(*id) {
                if let Some(difference) = crate::session::size_difference(node, &attr, crate::session::Blocks::Settled)
                {
                    return Ok(Err(format!("inode #{} ({ino}): {difference}", id.0)));
                }
                node.adopt(&attr);
            }
        }
        Ok(Ok(model))
    }

    /// Snapshots are those of the state, each with the whole tree of then. The outer error is the volume's.
    fn match_snapshots(
        &self,
        model: &Model,
        binding: &Binding,
        vfs: &Vfs,
        root: Ino,
    ) -> Result<Result<(), String>, String> {
        let mut inos = self.inos.clone();
        inos.extend(binding);
        let caller = Caller { vfs, root, inos: &inos, clockwork: self.clockwork };
        match check_snapshots(caller, model) {
            Ok(()) => Ok(Ok(())),
            Err(Stop::Diverged(difference)) => Ok(Err(difference)),
            Err(stop @ Stop::Environment(_)) => Err(format!("snapshots after the crash: {stop}")),
        }
    }

    /// Inodes that have no name must be gone.
    fn check_gone(&self, vfs: &Vfs, binding: &Binding) -> Result<(), String> {
        let named: BTreeSet<Ino> = binding.values().copied().collect();
        for (id, ino) in self.inos.iter().filter(|(_, ino)| !named.contains(ino)) {
            match vfs.getattr(&Context::ROOT, *ino) {
                Err(VfsError::NotFound) => {}
                Ok(attr) if attr.nlink == 0 => {}
                answer => return Err(format!("inode #{} ({ino}) has no name and still answers {answer:?}", id.0)),
            }
        }
        Ok(())
    }
}

/// Every name of an inode.
fn names_of(model: &Model, id: Id) -> BTreeSet<(Id, Vec<u8>)> {
    let dirs = model.nodes().filter_map(|(dir, node)| node.entries().map(|entries| (dir, entries)));
    dirs.flat_map(|(dir, entries)| {
        entries.iter().filter(|(_, child)| **child == id).map(move |(name, _)| (dir, name.clone()))
    })
    .collect()
}

/// The volume's files, each read once.
struct Files<'a> {
    vfs: &'a Vfs,
    seen: &'a Observed,
    known: BTreeMap<Ino, Reader<'a>>,
}

impl Files<'_> {
    fn is(&mut self, ino: Ino, content: &Content) -> Result<Result<(), String>, String> {
        let size = self.seen.inodes.get(&ino).map_or(0, |seen| seen.attr.size);
        self.known.entry(ino).or_insert_with(|| Reader::new(self.vfs, ino, size)).is(content)
    }
}
