//! Names: the present tree and the states of each name that a crash may bring back.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

use super::crash::Chooser;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    File(u64),
    Dir(usize),
}

/// States of a name, oldest (durable) first, the present one last; `None` is no such name.
#[derive(Clone, Debug)]
struct Name {
    states: Vec<(u64, Option<Node>)>,
}

impl Name {
    fn present(&self) -> Option<Node> {
        self.states.last().and_then(|(_, node)| *node)
    }
}

#[derive(Clone, Debug, Default)]
struct Dir {
    names: BTreeMap<OsString, Name>,
}

/// All directories; number 0 is the root, which always exists.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    dirs: Vec<Dir>,
}

fn not_found() -> io::Error {
    io::Error::from_raw_os_error(2)
}

fn not_directory() -> io::Error {
    io::Error::from_raw_os_error(20)
}

impl Tree {
    pub(super) fn new() -> Self {
        Tree { dirs: vec![Dir::default()] }
    }

    pub(super) fn dir(&self, path: &Path) -> io::Result<usize> {
        let mut dir = 0;
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => match self.get(dir, name) {
                    Some(Node::Dir(next)) => dir = next,
                    Some(Node::File(_)) => return Err(not_directory()),
                    None => return Err(not_found()),
                },
                Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                    return Err(io::Error::other("a path left the volume"));
                }
            }
        }
        Ok(dir)
    }

    /// The directory that a path's last name is in, and that name.
    pub(super) fn place<'p>(&self, path: &'p Path) -> io::Result<(usize, &'p OsStr)> {
        let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(22))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.dir(parent)?, name))
    }

    pub(super) fn get(&self, dir: usize, name: &OsStr) -> Option<Node> {
        self.dirs[dir].names.get(name).and_then(Name::present)
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<u64> {
        let (dir, name) = self.place(path)?;
        match self.get(dir, name) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::Error::from_raw_os_error(21)),
            None => Err(not_found()),
        }
    }

    /// Gives a name a new state, which the next sync of the directory makes durable.
    pub(super) fn set(&mut self, dir: usize, name: &OsStr, node: Option<Node>, at: u64) {
        let entry = (self.dirs[dir].names).entry(name.to_owned()).or_insert_with(|| Name { states: vec![(0, None)] });
        entry.states.push((at, node));
    }

    pub(super) fn make_dirs(&mut self, path: &Path, at: u64) -> io::Result<()> {
        let mut dir = 0;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            dir = match self.get(dir, name) {
                Some(Node::Dir(next)) => next,
                Some(Node::File(_)) => return Err(not_directory()),
                None => {
                    self.dirs.push(Dir::default());
                    let next = self.dirs.len() - 1;
                    self.set(dir, name, Some(Node::Dir(next)), at);
                    next
                }
            };
        }
        Ok(())
    }

    pub(super) fn list(&self, dir: usize) -> Vec<OsString> {
        (self.dirs[dir].names.iter())
            .filter(|(_, name)| name.present().is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(super) fn sync(&mut self, dir: usize) {
        self.dirs[dir].names.retain(|_, name| {
            name.states.drain(..name.states.len() - 1);
            name.present().is_some()
        });
    }

    /// What the crash leaves: the tree, and the files that still have a name.
    pub(super) fn crashed(&self, chooser: &mut Chooser<'_>) -> (Tree, BTreeMap<u64, u32>) {
        let mut after = Tree::new();
        let mut files = BTreeMap::new();
        let mut todo = vec![(0, 0)];
        while let Some((old, new)) = todo.pop() {
            for (name, states) in &self.dirs[old].names {
                let moments: Vec<u64> = states.states.iter().map(|(at, _)| *at).collect();
                let node = match states.states[chooser.name(&moments)].1 {
                    None => continue,
                    Some(Node::File(file)) => {
                        *files.entry(file).or_insert(0) += 1;
                        Node::File(file)
                    }
                    Some(Node::Dir(dir)) => {
                        after.dirs.push(Dir::default());
                        todo.push((dir, after.dirs.len() - 1));
                        Node::Dir(after.dirs.len() - 1)
                    }
                };
                after.dirs[new].names.insert(name.clone(), Name { states: vec![(0, Some(node))] });
            }
        }
        (after, files)
    }
}
