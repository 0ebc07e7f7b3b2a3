//! Watching: changes by inode become names below a path.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use verfs_base::Ino;
use verfs_fuse::VAULT_NAME;
use verfs_vfs::{Change, Changes, FileKind, Vfs};

use super::ground::Ground;
use super::{FileError, Files, Links};

/// Paths of changed inodes that are remembered, until a name changes.
const PATHS_MAX: usize = 256;

/// How far below a directory changes are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Its own names and what they lead to.
    Names,
    /// Everything below it.
    All,
}

/// What is told, as `fs.watch` of Node.js tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchEvent {
    /// A name came, went, or leads elsewhere.
    Renamed(Vec<u8>),
    /// Content or attributes changed.
    Changed(Vec<u8>),
    /// Changes came faster than they were taken: some are not told.
    Missed,
}

/// Ends a watch.
#[derive(Clone, Debug)]
pub struct WatchEnd {
    // Nothing of a vault stays in memory for it.
    vfs: Weak<Vfs>,
    number: u64,
}

impl WatchEnd {
    /// No event comes any more once those under way are told.
    pub fn end(&self) {
        if let Some(vfs) = self.vfs.upgrade() {
            vfs.unwatch(self.number);
        }
    }
}

/// A watch. It ends with [`WatchEnd::end`] or with the volume.
#[derive(Debug)]
pub struct Watch {
    vfs: Arc<Vfs>,
    changes: Changes,
    /// The watched path, with a slash in front of each name.
    path: Vec<u8>,
    depth: Depth,
    paths: HashMap<Ino, Option<Vec<u8>>>,
}

impl Files {
    /// Begins to watch a file, or a directory. [`Watch::run`] tells of changes, by whoever makes them, in its own tree.
    ///
    /// # Errors
    /// As `stat(2)`; EOPNOTSUPP in snapshots, where nothing changes.
    pub fn watch(&self, path: &[u8], depth: Depth) -> Result<Watch, FileError> {
        let (vfs, above) = match self.existing(path, Links::Follow)?.ground {
            Ground::Tree => (Arc::clone(self.volume.vfs()), 0),
            Ground::Vault(vault) => {
                let vault = vault.upgrade().ok_or(FileError::IO)?;
                (Arc::clone(vault.tree()), "/".len() + VAULT_NAME.len())
            }
            Ground::Snapshots | Ground::VaultSnapshots(_) => return Err(FileError::UNSUPPORTED),
        };
        // From now on, so that nothing is missed between the look at the path and the first change.
        let changes = vfs.watch();
        let real = self.realpath(path).inspect_err(|_| vfs.unwatch(changes.number()))?;
        let found = self.existing(&real, Links::Follow).inspect_err(|_| vfs.unwatch(changes.number()))?;
        let is_directory = found.kind == FileKind::Directory;
        // From the root of its tree on.
        let path = if real == b"/" { Vec::new() } else { real.get(above..).unwrap_or_default().to_vec() };
        let depth = if is_directory { depth } else { Depth::Names };
        Ok(Watch { vfs, changes, path, depth, paths: HashMap::new() })
    }
}

impl Watch {
    /// What ends it.
    #[must_use]
    pub fn end(&self) -> WatchEnd {
        WatchEnd { vfs: Arc::downgrade(&self.vfs), number: self.changes.number() }
    }

    /// Tells of changes until the watch ends. Blocks: needs a thread of its own.
    pub fn run(mut self, tell: &mut dyn FnMut(WatchEvent)) {
        while let Some(change) = self.changes.wait() {
            if self.changes.missed() {
                tell(WatchEvent::Missed);
            }
            let event = match change {
                Change::Name { directory, name } => {
                    self.paths.clear();
                    self.vfs.path_of(directory).and_then(|mut path| {
                        path.push(b'/');
                        path.extend_from_slice(&name);
                        self.below(&path).map(WatchEvent::Renamed)
                    })
                }
                Change::Inode(ino) => self.path(ino).and_then(|path| self.below(&path)).map(WatchEvent::Changed),
            };
            if let Some(event) = event {
                tell(event);
            }
        }
    }

    fn path(&mut self, ino: Ino) -> Option<Vec<u8>> {
        if self.paths.len() >= PATHS_MAX {
            self.paths.clear();
        }
        let vfs = &self.vfs;
        self.paths.entry(ino).or_insert_with(|| vfs.path_of(ino)).clone()
    }

    /// The name of a changed path as it is told, if it is.
    fn below(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = path.strip_prefix(self.path.as_slice())?;
        if rest.is_empty() {
            // The watched thing itself: by its own name.
            return path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
        }
        let name = rest.strip_prefix(b"/")?;
        match self.depth {
            Depth::Names if name.contains(&b'/') => None,
            Depth::Names | Depth::All => Some(name.to_vec()),
        }
    }
}
