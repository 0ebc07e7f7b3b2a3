//! Copies between a volume and the file systems of this machine, with everything that belongs to a file.
//!
//! Lives here: `import` and `export` of whole trees: many at once, checked, cancelled at any time and gone on with later.
//! Never here: paths of callers' current directories, JavaScript. Data flow from one tree to another, each behind a
//! trait (`tree`), by `copy`; the copy grows at a name of its own beside its place, which it gets when it is whole.

mod copy;
mod digest;
mod host;
mod owners;
mod progress;
mod tree;
mod volume_tree;

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{RenameFlags, fsync, renameat_with, syncfs};
use rustix::io::Errno;
use verfs_base::Ino;
use verfs_vfs::{FileKind, NURSERY, VfsError};

use self::copy::{Copied, Copy, Failures, Fault, Place};
use self::host::Host;
use self::owners::Owners;
use self::tree::{Source, Target, Trouble};
use self::volume_tree::LiveTree;
use crate::{Access, Caller, EngineError, FileError, Links, Volume};

pub use progress::{Counters as TransferCounters, TransferProgress};

/// Added to the name of a copy, with a dot before it, until it is whole.
const PART: &[u8] = b".verfs-part";
/// Names in the root that are not for copies.
const RESERVED: [&[u8]; 3] = [b".snapshots", b".vault", NURSERY];

/// Whether files are read back from where they were stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verify {
    /// They are.
    #[default]
    Yes,
    /// They are not.
    No,
}

/// How a file that an earlier run copied is recognized.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Content {
    /// Its size and time are those of the source.
    #[default]
    BySizeAndTime,
    /// Its content is, too.
    Compared,
}

/// What happens when something can't be copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Defects {
    /// Everything else is copied, but the copy does not get its name: another run may complete it.
    #[default]
    Refused,
    /// The copy gets its name without that.
    LeftOut,
}

/// How a tree is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransferOptions {
    /// Whether files are read back.
    pub verify: Verify,
    /// How files of an earlier run are recognized.
    pub content: Content,
    /// What becomes of what can't be copied.
    pub defects: Defects,
}

/// What was copied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TransferReport {
    /// Names of files, and of everything else that is no directory.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Sizes of the files.
    pub bytes: u64,
    /// Files that an earlier run had copied.
    pub already_there: u64,
    /// Files that were read back.
    pub verified: u64,
    /// Paths that were left out: the volume itself and its mount.
    pub left_out: Vec<PathBuf>,
    /// What could not be copied.
    pub failures: u64,
    /// The first of that: what, and why.
    pub told_failures: Vec<String>,
}

/// How far it is: asked ten times a second; its answer may end the transfer.
pub type TransferWatch<'a> = dyn FnMut() -> ControlFlow<()> + 'a;

/// Where an import goes.
struct VolumePlace {
    directory: Ino,
    name: Bytes,
    path: PathBuf,
}

fn part_of(name: &[u8]) -> Bytes {
    [b".", name, PART].concat().into()
}

/// The name at the end of a path, and the path of the directory.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
    let whole = path.get(..end)?;
    let begin = whole.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    Some((whole.get(..begin)?, whole.get(begin..)?))
}

impl Volume {
    /// Copies what is at `source` on this machine, a directory with everything in it or anything else, to the path
    /// `target` in the volume, where nothing is; directories on the way to it are made. The copy appears whole, and is
    /// durable when the call returns. What a run that ended early had copied is kept, at a hidden name beside it, and the
    /// next one with the same target goes on.
    ///
    /// Root keeps owners, devices and all extended attributes; others own what they copy. The volume's own directory and
    /// its mount are left out where they are in the source.
    ///
    /// # Errors
    /// [`EngineError::SourceMissing`], [`EngineError::PathExists`], [`EngineError::Usage`] for paths that can't be,
    /// [`EngineError::Permission`], [`EngineError::VolumeFull`], [`EngineError::Cancelled`]; with [`Defects::Refused`]
    /// [`EngineError::SourceChanged`], [`EngineError::CopyIncomplete`] and [`EngineError::CopyDiffers`]; and those of every
    /// change.
    pub fn import(
        self: &Arc<Self>,
        (source, target): (&Path, &[u8]),
        options: &TransferOptions,
        counters: &TransferCounters,
        watch: &mut TransferWatch<'_>,
    ) -> Result<TransferReport, EngineError> {
        self.refuse_read_only()?;
        let missing = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                EngineError::SourceMissing { path: source.to_path_buf() }
            }
            _ => EngineError::from_io(source, &error),
        };
        let real = source.canonicalize().map_err(missing)?;
        let own = self.own_places();
        if let Some(place) = own.iter().find(|place| real.starts_with(place)) {
            let (real, place) = (real.display(), place.display());
            return Err(EngineError::Usage(format!("{real} is in {place}, which is the volume itself: copy it there")));
        }
        let place = self.place_for(target)?;
        let _alone = self.alone_at(&place.path)?;
        let node = Host::node(&real).map_err(|trouble| Side::Source(source).error(trouble))?;
        let tree = LiveTree { vfs: self.vfs(), session: self.session(), owners: Owners::of_process() };
        let leaves_out = |path: &Path| own.iter().any(|place| *place == real.join(path));
        let host = Host::new(Owners::of_process());
        let copy = Copy::new((&host, &tree), (options.verify, options.content), counters, &leaves_out);
        let part = part_of(&place.name);
        let copied = copy.run(node, Place { directory: place.directory, name: part.clone() }, watch);
        let wrong = |fault| ended(fault, source, &Side::Volume(self, &place.path));
        let copied = copied.map_err(wrong)?;
        let report = report(copied, options, counters, source)?;
        self.sync()?;
        tree.rename(place.directory, &part, &place.name).map_err(|error| match error {
            VfsError::Exists => EngineError::PathExists { path: place.path.clone() },
            error => EngineError::from_vfs(self.path(), error),
        })?;
        self.sync()?;
        Ok(report)
    }

    /// Copies what has the path `path` in the volume, or in one of its snapshots, to `target` on this machine, where
    /// nothing is. As [`Volume::import`] the other way round: the directory of the target is there.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], [`EngineError::PathNotFound`], [`EngineError::NoSuchPath`],
    /// [`EngineError::TargetExists`], [`EngineError::TargetFull`], [`EngineError::SourceMissing`] for the directory of the
    /// target, and as [`Volume::import`].
    pub fn export(
        &self,
        (snapshot, path): (Option<&[u8]>, &[u8]),
        target: &Path,
        options: &TransferOptions,
        counters: &TransferCounters,
        watch: &mut TransferWatch<'_>,
    ) -> Result<TransferReport, EngineError> {
        self.refuse_closed()?;
        match snapshot {
            None => {
                let tree = LiveTree { vfs: self.vfs(), session: self.session(), owners: Owners::of_process() };
                self.refuse_reserved(path)?;
                let find = |directory: Ino, name: &[u8]| tree.find(&directory, &Bytes::copy_from_slice(name));
                let node = found(path, |at, name| Ok(find(at, name)?.map(|(ino, meta)| (ino, meta.kind))));
                let node = node.map_err(|trouble| Side::Volume(self, Path::new("/")).error(trouble))?;
                let node = node.ok_or_else(|| EngineError::NoSuchPath { path: rooted(path) })?;
                self.export_from(&tree, node, (&rooted(path), target), options, counters, watch)
            }
            Some(name) => {
                let tree = self.vfs().open_snapshot(name).map_err(|error| match error {
                    VfsError::NotFound => EngineError::snapshot_not_found(name),
                    error => EngineError::from_vfs(self.path(), error),
                })?;
                let node = found(path, |at, name| match tree.lookup(at, name) {
                    Ok(attr) => Ok(Some((attr.ino, attr.kind))),
                    Err(VfsError::NotFound) => Ok(None),
                    Err(error) => Err(error.into()),
                });
                let node = node.map_err(|trouble| Side::Volume(self, Path::new("/")).error(trouble))?;
                let snapshot = String::from_utf8_lossy(name).into_owned();
                let node = node.ok_or_else(|| EngineError::PathNotFound { path: rooted(path), snapshot })?;
                self.export_from(&tree, node, (&rooted(path), target), options, counters, watch)
            }
        }
    }

    fn export_from<S: Source<Node = Ino>>(
        &self,
        tree: &S,
        node: Ino,
        (path, target): (&Path, &Path),
        options: &TransferOptions,
        counters: &TransferCounters,
        watch: &mut TransferWatch<'_>,
    ) -> Result<TransferReport, EngineError> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(EngineError::Usage(format!("{} is no place for a copy: name a new one", target.display())));
        };
        let parent = parent.canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => EngineError::SourceMissing { path: parent.to_path_buf() },
            _ => EngineError::from_io(parent, &error),
        })?;
        if let Some(place) = self.own_places().iter().find(|place| parent.starts_with(place)) {
            let (target, place) = (target.display(), place.display());
            let advice = "`verfs snapshot restore`, or cp(1) in the mount, copies within a volume";
            return Err(EngineError::Usage(format!("{target} is in {place}, which is the volume itself: {advice}")));
        }
        let place = parent.join(name);
        if place.symlink_metadata().is_ok() {
            return Err(EngineError::TargetExists { path: place });
        }
        let _alone = self.alone_at(&place)?;
        let side = Side::Target(&place);
        let directory = Host::node(&parent).map_err(|trouble| side.error(trouble))?;
        let host = Host::new(Owners::of_process());
        let leaves_out = |_: &Path| false;
        let copy = Copy::new((tree, &host), (options.verify, options.content), counters, &leaves_out);
        let part = part_of(name.as_bytes());
        let copied = copy.run(node, Place { directory: Arc::clone(&directory), name: part.clone() }, watch);
        let report = report(copied.map_err(|fault| ended(fault, path, &side))?, options, counters, path)?;
        let named = (|| {
            let directory = Host::descriptor(&directory)?;
            syncfs(&directory)?;
            renameat_with(&directory, &*part, &directory, name, RenameFlags::NOREPLACE)?;
            fsync(&directory)?;
            Ok(())
        })();
        named.map_err(|trouble| match trouble {
            Trouble::System(Errno::EXIST) => EngineError::TargetExists { path: place.clone() },
            trouble => side.error(trouble),
        })?;
        Ok(report)
    }

    /// Keeps other copies from the same place until the result goes: one that was cancelled may not have ended yet.
    fn alone_at(&self, place: &Path) -> Result<Alone<'_>, EngineError> {
        match self.transfers().lock().insert(place.to_path_buf()) {
            true => Ok(Alone { volume: self, place: place.to_path_buf() }),
            false => {
                Err(EngineError::Usage(format!("another copy to {} is under way: let it end first", place.display())))
            }
        }
    }

    /// Where the volume is, and where it is mounted: a copy of itself would have no end.
    fn own_places(&self) -> Vec<PathBuf> {
        let mounted = self.session().lock().as_ref().map(|mount| mount.session().mountpoint().to_path_buf());
        // The mountpoint is not asked for its real path: that would be a question to ourselves.
        self.path().canonicalize().into_iter().chain(mounted).collect()
    }

    fn refuse_reserved(&self, path: &[u8]) -> Result<(), EngineError> {
        match path.split(|byte| *byte == b'/').find(|name| !name.is_empty()) {
            Some(first) if RESERVED.contains(&first) => {
                let first = String::from_utf8_lossy(first);
                Err(EngineError::Usage(format!(
                    "/{first} can't be copied like this: use its commands, or cp(1) in the mount"
                )))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Finds the place of an import, and makes the directories on the way to it.
    fn place_for(self: &Arc<Self>, target: &[u8]) -> Result<VolumePlace, EngineError> {
        self.refuse_reserved(target)?;
        let path = rooted(target);
        let Some((directory, name)) = split(target) else {
            return Err(EngineError::Usage("the root of the volume is there: name a new directory in it".to_owned()));
        };
        let wrong = |error| file_error(self.path(), &path, error);
        let files = self.files(Caller::of_process(0o077));
        let mut way = Vec::new();
        for one in directory.split(|byte| *byte == b'/').filter(|one| !one.is_empty()) {
            way.push(b'/');
            way.extend_from_slice(one);
            match files.mkdir(&way, 0o777) {
                Ok(()) | Err(FileError::System(Errno::EXIST)) => {}
                Err(error) => return Err(wrong(error)),
            }
        }
        let way = if way.is_empty() { b"/".to_vec() } else { way };
        let parent = files.stat(&way, Links::Follow).map_err(wrong)?;
        if parent.kind != FileKind::Directory {
            return Err(wrong(FileError::System(Errno::NOTDIR)));
        }
        files.access(&way, Access::WRITE.and(Access::EXECUTE)).map_err(wrong)?;
        match self.vfs().lookup(&verfs_vfs::Context::ROOT, parent.ino, name) {
            Err(VfsError::NotFound) => {}
            Ok(_) => return Err(EngineError::PathExists { path }),
            Err(VfsError::NotDirectory | VfsError::InvalidArgument | VfsError::NameTooLong) => {
                return Err(EngineError::Usage(format!(
                    "{} is no place in a volume: choose another path",
                    path.display()
                )));
            }
            Err(error) => return Err(EngineError::from_vfs(self.path(), error)),
        }
        Ok(VolumePlace { directory: parent.ino, name: Bytes::copy_from_slice(name), path })
    }
}

/// The only copy to a place.
struct Alone<'a> {
    volume: &'a Volume,
    place: PathBuf,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.volume.transfers().lock().remove(&self.place);
    }
}

/// A path from the root of a volume, as people write it.
fn rooted(path: &[u8]) -> PathBuf {
    let inner =
        path.iter().position(|byte| *byte != b'/').map_or(&b""[..], |begin| path.get(begin..).unwrap_or_default());
    Path::new("/").join(OsStr::from_bytes(inner))
}

/// What a path in a volume leads to, without following links.
fn found(
    path: &[u8],
    mut find: impl FnMut(Ino, &[u8]) -> Result<Option<(Ino, FileKind)>, Trouble>,
) -> Result<Option<Ino>, Trouble> {
    let mut at = Ino::ROOT;
    let mut kind = FileKind::Directory;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && name != b".") {
        if kind != FileKind::Directory {
            return Ok(None);
        }
        let Some(next) = find(at, name)? else { return Ok(None) };
        (at, kind) = next;
    }
    Ok(Some(at))
}

fn file_error(volume: &Path, path: &Path, error: FileError) -> EngineError {
    match error {
        FileError::Closed => EngineError::Closed { path: volume.to_path_buf() },
        FileError::System(Errno::NOENT) => EngineError::NoSuchPath { path: path.to_path_buf() },
        FileError::System(Errno::NOTDIR) => {
            EngineError::Usage(format!("something on the way to {} is not a directory", path.display()))
        }
        FileError::System(Errno::PERM) => {
            EngineError::Permission { path: path.to_path_buf(), detail: "it is not for copies".to_owned() }
        }
        FileError::System(errno) => match errno {
            Errno::NOSPC => EngineError::VolumeFull { path: volume.to_path_buf() },
            errno => EngineError::from_io(path, &errno.into()),
        },
    }
}

/// What trouble is about.
enum Side<'a> {
    Source(&'a Path),
    Target(&'a Path),
    /// A path in a volume.
    Volume(&'a Volume, &'a Path),
}

impl Side<'_> {
    fn error(&self, trouble: Trouble) -> EngineError {
        match (self, trouble) {
            (Side::Volume(volume, _), Trouble::Volume(error)) => EngineError::from_vfs(volume.path(), error),
            (Side::Source(path), trouble) if trouble.is_absence() => {
                EngineError::SourceMissing { path: path.to_path_buf() }
            }
            (Side::Target(path), Trouble::System(Errno::NOSPC | Errno::DQUOT)) => {
                EngineError::TargetFull { path: path.to_path_buf() }
            }
            (Side::Source(path) | Side::Target(path) | Side::Volume(_, path), Trouble::System(errno)) => {
                EngineError::from_io(path, &errno.into())
            }
            (Side::Source(path) | Side::Target(path), Trouble::Volume(error)) => EngineError::from_vfs(path, error),
        }
    }
}

/// The error of a copy that was given up.
fn ended(fault: Fault, source: &Path, target: &Side<'_>) -> EngineError {
    let place = match target {
        Side::Source(path) | Side::Target(path) | Side::Volume(_, path) => path,
    };
    match fault {
        Fault::Cancelled => EngineError::TransferCancelled { path: place.to_path_buf() },
        Fault::Target(trouble) => target.error(trouble),
        Fault::Source(trouble) => Side::Source(source).error(trouble),
        Fault::Changed => EngineError::SourceChanged { path: source.to_path_buf(), count: 1 },
        Fault::Differs => EngineError::CopyDiffers { path: place.to_path_buf(), count: 1 },
    }
}

/// What is told of a copy that is whole but for what could not be copied.
fn report(
    Copied { failures, left_out }: Copied,
    options: &TransferOptions,
    counters: &TransferCounters,
    source: &Path,
) -> Result<TransferReport, EngineError> {
    let Failures { changed, differing, others, told } = failures;
    let told_failures: Vec<String> =
        told.iter().map(|(path, fault)| format!("{} {fault}", source.join(path).display())).collect();
    let count = changed + differing + others;
    let detail = || told_failures.join("; ");
    let path = source.to_path_buf();
    match options.defects {
        Defects::Refused if differing > 0 => return Err(EngineError::CopyDiffers { path, count: differing }),
        Defects::Refused if others > 0 => return Err(EngineError::CopyIncomplete { path, count, detail: detail() }),
        Defects::Refused if changed > 0 => return Err(EngineError::SourceChanged { path, count: changed }),
        Defects::Refused | Defects::LeftOut => {}
    }
    let TransferProgress { bytes, already_there, verified, .. } = counters.progress();
    let (files, directories) = counters.kinds();
    Ok(TransferReport { files, directories, bytes, already_there, verified, left_out, failures: count, told_failures })
}
