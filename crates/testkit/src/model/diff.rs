//! What is different between two trees, as names and as inodes.

use std::collections::{BTreeMap, BTreeSet};

use verfs_vfs::{TreeChange, TreeChangeKind};

use super::{Id, Model, Node, ROOT};
use crate::op::short;

/// A name of an inode: in which directory, and what it is.
type Entry = (Id, Vec<u8>);

/// Names and paths of a tree.
struct Names {
    of: BTreeMap<Id, BTreeSet<Entry>>,
    paths: BTreeMap<Entry, Vec<u8>>,
    at: BTreeMap<Vec<u8>, Id>,
}

impl Names {
    fn of(model: &Model) -> Names {
        let mut names = Names { of: BTreeMap::new(), paths: BTreeMap::new(), at: BTreeMap::new() };
        names.at.insert(Vec::new(), ROOT);
        for (path, id) in model.paths() {
            let Some((name, way)) = path.split_last() else { continue };
            let way = way.join(&b'/');
            let entry = (names.at[&way], name.clone());
            let whole = path.join(&b'/');
            names.at.insert(whole.clone(), id);
            names.paths.insert(entry.clone(), whole);
            names.of.entry(id).or_default().insert(entry);
        }
        names
    }
}

/// Whether two states of an inode differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Differs {
    Surely,
    Maybe,
    No,
}

fn differs(before: &Node, after: &Node, same_names: bool) -> Differs {
    let plain = |node: &Node| (node.uid, node.gid, node.flags, node.xattrs.clone());
    let in_doubt = before.set_gid_in_doubt || after.set_gid_in_doubt;
    if plain(before) != plain(after) || !in_doubt && before.mode != after.mode {
        return Differs::Surely;
    }
    if before.entries().is_some() {
        return if in_doubt { Differs::Maybe } else { Differs::No };
    }
    let (old, new) = (&before.times, &after.times);
    let apart = |one: &super::Time, other: &super::Time| {
        !other.allows(one.likely) && !one.also.iter().any(|at| other.allows(*at))
    };
    if before.size() != after.size() || apart(&old.modification, &new.modification) {
        return Differs::Surely;
    }
    if same_names && apart(&old.change, &new.change) {
        return Differs::Surely;
    }
    let settled = |time: &super::Time| time.also.is_empty() && !time.open;
    let certain = [&old.change, &new.change, &old.modification, &new.modification].into_iter().all(settled);
    if certain && !in_doubt && before.body == after.body { Differs::No } else { Differs::Maybe }
}

impl Model {
    /// What is wrong with the differences that were told between this tree and a later one.
    #[must_use]
    pub fn diff_mistake(&self, after: &Model, told: &[TreeChange]) -> Option<String> {
        let (old, new) = (Names::of(self), Names::of(after));
        let shown = |path: &[u8]| path.split(|byte| *byte == b'/').map(short).collect::<Vec<_>>().join("/");
        let (mut lost, mut got) = (BTreeMap::new(), BTreeMap::new());
        let mut renames: BTreeMap<Id, usize> = BTreeMap::new();
        let mut changed: BTreeSet<Id> = BTreeSet::new();
        for change in told {
            let path = change.path.to_vec();
            let what = format!("{:?} of /{}", change.kind, shown(&path));
            let (then, now) = match &change.kind {
                TreeChangeKind::Added => (None, Some(path)),
                TreeChangeKind::Removed => (Some(path), None),
                TreeChangeKind::Renamed { from } => (Some(from.to_vec()), Some(path)),
                TreeChangeKind::Changed => {
                    let Some(id) = new.at.get(&path) else { return Some(format!("{what}: it is not there")) };
                    changed.insert(*id);
                    let sizes = [self, after].map(|tree| tree.node(*id).ok().map(Node::size));
                    if [change.size_before, change.size_after] != sizes {
                        return Some(format!("{what}: sizes {sizes:?}, told {change:?}"));
                    }
                    continue;
                }
            };
            let mut ids = Vec::new();
            for (path, names, seen, tree, size) in
                [(then, &old, &mut lost, self, change.size_before), (now, &new, &mut got, after, change.size_after)]
            {
                let Some(path) = path else {
                    if size.is_some() {
                        return Some(format!("{what}: told {change:?}"));
                    }
                    continue;
                };
                let Some(id) = names.at.get(&path) else { return Some(format!("{what}: no such path")) };
                let node = tree.node(*id).ok()?;
                if size != Some(node.size()) || node.kind != change.file_kind {
                    return Some(format!("{what}: it is {:?} of {}, told {change:?}", node.kind, node.size()));
                }
                if seen.insert(path, *id).is_some() {
                    return Some(format!("{what} is told twice"));
                }
                ids.push(*id);
            }
            if let [one, other] = ids[..] {
                if one != other {
                    return Some(format!("{what}: that is another inode"));
                }
                *renames.entry(one).or_default() += 1;
            }
        }
        let ids: BTreeSet<Id> = old.of.keys().chain(new.of.keys()).copied().chain([ROOT]).collect();
        for id in ids {
            let none = BTreeSet::new();
            let (before, now) = (old.of.get(&id).unwrap_or(&none), new.of.get(&id).unwrap_or(&none));
            let gone: Vec<&Entry> = before.difference(now).collect();
            let come: Vec<&Entry> = now.difference(before).collect();
            for (entries, names, told, verb) in [(&gone, &old, &mut lost, "lost"), (&come, &new, &mut got, "got")] {
                for entry in entries {
                    let path = &names.paths[*entry];
                    if told.remove(path) != Some(id) {
                        return Some(format!("it does not tell that #{} {verb} /{}", id.0, shown(path)));
                    }
                }
            }
            let expected = gone.len().min(come.len());
            if renames.get(&id).copied().unwrap_or(0) != expected {
                return Some(format!("#{} was renamed {expected} times, it tells {:?}", id.0, renames.get(&id)));
            }
            let named = |tree: &Model| tree.node(id).ok().filter(|node| node.nlink > 0).cloned();
            if let (Some(one), Some(other)) = (&named(self), &named(after)) {
                let differs = differs(one, other, gone.is_empty() && come.is_empty());
                let is_told = changed.contains(&id);
                if differs == Differs::Surely && !is_told || differs == Differs::No && is_told {
                    return Some(format!("#{} differs: {differs:?}, told: {is_told}: {one:?} and {other:?}", id.0));
                }
            }
        }
        let rest = lost.keys().chain(got.keys()).next();
        rest.map(|path| format!("it tells of /{}, which is as it was", shown(path)))
    }
}
