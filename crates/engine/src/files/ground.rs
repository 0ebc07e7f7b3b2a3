//! The trees that paths lead into: the volume's own, its snapshots, its vault. In a mount each is a file system of its
//! own, behind a name in the root that no tree has, and so it is here.

use std::fmt;
use std::ops::Deref;
use std::sync::Weak;

use bytes::Bytes;
use verfs_base::{Epoch, Ino};
use verfs_fuse::{Invalidation, SNAPSHOTS_NAME, SnapshotsTree, Tree, VAULT_NAME};
use verfs_vfs::{Attr, Context, DirEntry, FileKind, Listing, Result as VfsResult, VfsError};

use super::{FileError, Files};
use crate::snapshots::tell_kernel;
use crate::vault::{OpenVault, VaultView};

/// Cookie of `.vault` in the listing of the root: behind every entry of the tree.
const VAULT_COOKIE: u64 = u64::MAX;

/// A tree. Of the vault nothing is kept in memory: once it is locked, whoever comes with an open file gets an error.
#[derive(Clone)]
pub(super) enum Ground {
    /// The volume's own.
    Tree,
    /// `.snapshots` in the root, with all snapshots in it.
    Snapshots,
    /// `.vault`.
    Vault(Weak<OpenVault>),
    /// `.vault/.snapshots`.
    VaultSnapshots(Weak<OpenVault>),
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ground::Tree => "Tree",
            Ground::Snapshots => "Snapshots",
            Ground::Vault(_) => "Vault",
            Ground::VaultSnapshots(_) => "VaultSnapshots",
        })
    }
}

impl Ground {
    /// Whether it is the same tree; of a vault that was locked and unlocked since it is not.
    pub(super) fn is(&self, other: &Ground) -> bool {
        match (self, other) {
            (Ground::Tree, Ground::Tree) | (Ground::Snapshots, Ground::Snapshots) => true,
            (Ground::Vault(one), Ground::Vault(other))
            | (Ground::VaultSnapshots(one), Ground::VaultSnapshots(other)) => one.ptr_eq(other),
            (Ground::Tree | Ground::Snapshots | Ground::Vault(_) | Ground::VaultSnapshots(_), _) => false,
        }
    }

    /// Whether files in it never change.
    pub(super) fn is_past(&self) -> bool {
        match self {
            Ground::Tree | Ground::Vault(_) => false,
            Ground::Snapshots | Ground::VaultSnapshots(_) => true,
        }
    }
}

/// What a path leads to, or an open file is.
#[derive(Clone, Debug)]
pub struct Found {
    pub(super) ground: Ground,
    pub(super) attr: Attr,
}

impl Deref for Found {
    type Target = Attr;

    fn deref(&self) -> &Attr {
        &self.attr
    }
}

impl Found {
    /// In which tree it is, and its inode number there, which together no other file has: 0 is the volume's own, 1 its
    /// vault; their snapshots follow in turn.
    #[must_use]
    pub fn identity(&self) -> (u64, Ino) {
        let own = match self.ground {
            Ground::Tree => return (0, self.attr.ino),
            Ground::Vault(_) => return (1, self.attr.ino),
            Ground::Snapshots => 2,
            Ground::VaultSnapshots(_) => 3,
        };
        let (snapshot, ino) = SnapshotsTree::snapshot_of(self.attr.ino).unwrap_or((Epoch(0), self.attr.ino));
        (own + 2 * snapshot.0, ino)
    }

    /// Whether both are one file.
    pub(super) fn is(&self, other: &Found) -> bool {
        self.attr.ino == other.attr.ino && self.ground.is(&other.ground)
    }
}

/// Runs something in a vault, behind its gate.
fn in_vault<T>(vault: &Weak<OpenVault>, run: impl FnOnce(&OpenVault) -> VfsResult<T>) -> Result<T, FileError> {
    let vault = vault.upgrade().ok_or(FileError::IO)?;
    let _inside = vault.enter()?;
    run(&vault).map_err(|error| match error {
        // It was locked meanwhile: the volume is still there.
        VfsError::Closed => FileError::IO,
        error => error.into(),
    })
}

impl Files {
    /// Runs an operation in a tree.
    pub(super) fn on<T>(&self, ground: &Ground, run: impl FnOnce(&dyn Tree) -> VfsResult<T>) -> Result<T, FileError> {
        let vfs = self.vfs()?;
        match ground {
            Ground::Tree => Ok(run(vfs)?),
            Ground::Snapshots => Ok(run(&self.snapshots)?),
            Ground::Vault(vault) => in_vault(vault, |vault| run(&**vault.tree())),
            Ground::VaultSnapshots(vault) => in_vault(vault, |vault| run(vault.snapshots())),
        }
    }

    /// As [`Files::on`], for a change: the kernel of a mount that is read only would not let it through either.
    pub(super) fn change<T>(
        &self,
        ground: &Ground,
        run: impl FnOnce(&dyn Tree) -> VfsResult<T>,
    ) -> Result<T, FileError> {
        self.vfs()?;
        if self.volume.is_read_only() { Err(FileError::READ_ONLY) } else { self.on(ground, run) }
    }

    /// Writes at the end of a file; gives where that was.
    pub(super) fn append(&self, ground: &Ground, ino: Ino, data: &[u8]) -> Result<u64, FileError> {
        let context = self.context();
        match ground {
            Ground::Tree => Ok(self.vfs()?.append(&context, ino, data)?.0),
            Ground::Vault(vault) => in_vault(vault, |vault| Ok(vault.tree().append(&context, ino, data)?.0)),
            Ground::Snapshots | Ground::VaultSnapshots(_) => Err(FileError::READ_ONLY),
        }
    }

    /// Keeps an inode whatever becomes of its names. What is in a snapshot stays as long as that does.
    pub(super) fn hold(&self, ground: &Ground, ino: Ino) -> Result<(), FileError> {
        let context = self.context();
        match ground {
            Ground::Tree => Ok(self.vfs()?.hold(&context, ino)?),
            Ground::Vault(vault) => in_vault(vault, |vault| vault.tree().hold(&context, ino)),
            Ground::Snapshots | Ground::VaultSnapshots(_) => Ok(()),
        }
    }

    /// Ends a hold.
    pub(super) fn end_hold(&self, ground: &Ground, ino: Ino) {
        match ground {
            Ground::Tree => self.volume.vfs().end_hold(ino),
            Ground::Vault(vault) => {
                if let Some(vault) = vault.upgrade() {
                    vault.tree().end_hold(ino);
                }
            }
            Ground::Snapshots | Ground::VaultSnapshots(_) => {}
        }
    }

    /// What the kernel of a mount is told that it has to forget.
    pub(super) fn tell<I: IntoIterator<Item = Invalidation>>(&self, ground: &Ground, changes: impl FnOnce() -> I) {
        match ground {
            Ground::Tree => tell_kernel(self.volume.session(), changes),
            Ground::Vault(vault) => {
                if let Some(vault) = vault.upgrade() {
                    tell_kernel(vault.session(), changes);
                }
            }
            // The kernel asks each time which snapshots there are.
            Ground::Snapshots | Ground::VaultSnapshots(_) => {}
        }
    }

    /// The root of a tree.
    pub(super) fn root_of(&self, ground: Ground, context: &Context) -> Result<Found, FileError> {
        let attr = self.on(&ground, |tree| tree.getattr(context, Ino::ROOT))?;
        Ok(Found { ground, attr })
    }

    /// What a name in a directory leads to, in whichever tree.
    pub(super) fn step(&self, context: &Context, directory: &Found, name: &[u8]) -> Result<Found, FileError> {
        if directory.ino == Ino::ROOT {
            match (&directory.ground, name) {
                (Ground::Tree, VAULT_NAME) => match self.volume.vault().view() {
                    VaultView::Open(vault) => return self.root_of(Ground::Vault(vault), context),
                    VaultView::Locked => return Err(FileError::NOT_FOUND),
                    VaultView::Absent => {}
                },
                (Ground::Tree | Ground::Vault(_), SNAPSHOTS_NAME) => {
                    // A tree that has the name itself keeps it.
                    return match self.lookup(context, directory, name) {
                        Err(FileError::NOT_FOUND) => {
                            let ground = match &directory.ground {
                                Ground::Vault(vault) => Ground::VaultSnapshots(vault.clone()),
                                Ground::Tree | Ground::Snapshots | Ground::VaultSnapshots(_) => Ground::Snapshots,
                            };
                            self.root_of(ground, context)
                        }
                        found => found,
                    };
                }
                _ => {}
            }
        }
        self.lookup(context, directory, name)
    }

    fn lookup(&self, context: &Context, directory: &Found, name: &[u8]) -> Result<Found, FileError> {
        let attr = self.on(&directory.ground, |tree| tree.lookup(context, directory.ino, name))?;
        Ok(Found { ground: directory.ground.clone(), attr })
    }

    /// Refuses a new name that belongs to the locked vault.
    pub(super) fn check_unreserved(&self, directory: &Found, name: &[u8]) -> Result<(), FileError> {
        match (&directory.ground, directory.ino, name) {
            (Ground::Tree, Ino::ROOT, VAULT_NAME) => match self.volume.vault().view() {
                VaultView::Locked => Err(FileError::NOT_PERMITTED),
                VaultView::Absent | VaultView::Open(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Entries of a directory behind a cookie. The open vault is listed as a mount lists it, after all others.
    pub(super) fn entries_of(
        &self,
        ground: &Ground,
        ino: Ino,
        cookie: u64,
        max_entries: usize,
    ) -> Result<Vec<DirEntry>, FileError> {
        if cookie == VAULT_COOKIE {
            return Ok(Vec::new());
        }
        let context = self.context();
        let mut entries = self.on(ground, |tree| tree.readdir(&context, ino, cookie, max_entries, Listing::Names))?;
        if entries.is_empty() && ino == Ino::ROOT && ground.is(&Ground::Tree) {
            match self.volume.vault().view() {
                VaultView::Open(_) => entries.push(DirEntry {
                    name: Bytes::from_static(VAULT_NAME),
                    ino: Ino::ROOT,
                    kind: FileKind::Directory,
                    cookie: VAULT_COOKIE,
                    attr: None,
                }),
                VaultView::Absent | VaultView::Locked => {}
            }
        }
        Ok(entries)
    }
}
