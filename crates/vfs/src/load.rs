//! Fetches records that an operation lacks, without holding the state's lock.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{GroupId, Ino, is_out_of_descriptors};
use verfs_format::{
    ContentId, DecodeError, DirentRecord, InodeRecord, Segment, Xattrs, keys, record_of_versioned, split_versioned,
};
use verfs_meta::{Direction, KeyRange, MetaError};
use verfs_store::StoreError;

use crate::directory::Name;
use crate::space::SpaceGauge;
use crate::state::{Birth, Need, Node, State, xattr_weight};
use crate::volume::Shared;
use crate::{Result, VfsError};

/// What the store has of a need.
enum Found {
    Inode(Ino, Option<InodeRecord>),
    Dirent(Ino, Name, Option<DirentRecord>),
    Directory(Ino, Vec<(Name, DirentRecord)>),
    Symlink(Ino, Bytes),
    Xattrs(Ino, Xattrs),
    Segments(ContentId, Vec<(u32, Arc<Segment>)>),
}

/// An inode record in its value.
pub(crate) fn decode_inode(value: &[u8]) -> std::result::Result<InodeRecord, DecodeError> {
    InodeRecord::decode(split_versioned(value)?.1)
}

/// A dirent record in its value.
pub(crate) fn decode_dirent(value: &[u8]) -> std::result::Result<DirentRecord, DecodeError> {
    DirentRecord::decode(split_versioned(value)?.1)
}

/// An extent segment in its value.
pub(crate) fn decode_segment(value: &[u8]) -> std::result::Result<Segment, DecodeError> {
    Segment::decode(split_versioned(value)?.1)
}

/// Extended attributes in their value.
pub(crate) fn decode_xattrs(value: &[u8]) -> std::result::Result<Xattrs, DecodeError> {
    Xattrs::decode(split_versioned(value)?.1)
}

/// A node that was read from the store.
pub(crate) fn committed_node(record: InodeRecord) -> Node {
    let born = Birth { group: GroupId(0), logged: true };
    Node::Present { record, committed_allocated: record.allocated, born, content_born: born }
}

impl Shared {
    /// Fetches what an operation needs.
    pub(crate) fn fetch(&self, need: Need) -> Result<()> {
        match need {
            Need::Room => return self.wait_for_room(),
            Need::Commit => return self.wait_for_commit(),
            Need::Space(claim) => return self.look_for_space(claim),
            Need::Inode(_)
            | Need::Dirent(..)
            | Need::Directory(_)
            | Need::Symlink(_)
            | Need::Xattrs(_)
            | Need::Segments(..) => {}
        }
        loop {
            // What is read while a group gets committed may be older than what memory already forgot: read again.
            let commits = self.state.lock().commits;
            let found = self.find(&need)?;
            let mut state = self.state.lock();
            if state.commits == commits {
                install(&mut state, found);
                return Ok(());
            }
        }
    }

    fn look_for_space(&self, claim: u64) -> Result<()> {
        let space = self.parts.disk.space().map_err(|error| self.io_error("statvfs", &error))?;
        let mut state = self.state.lock();
        state.space = SpaceGauge::new(space);
        if state.space.covers(claim) { Ok(()) } else { Err(VfsError::NoSpace) }
    }

    fn find(&self, need: &Need) -> Result<Found> {
        let meta = &self.parts.meta;
        Ok(match need {
            Need::Inode(ino) => {
                let value = meta.get(&keys::inode(*ino)).map_err(|error| self.meta_error(&error))?;
                let record = value.map(|value| decode_inode(&value)).transpose();
                Found::Inode(*ino, record.map_err(|error| self.damaged("inode", ino.0, error))?)
            }
            Need::Dirent(parent, name) => {
                let key = keys::dirent(*parent, name.hash, &name.bytes);
                let value = meta.get(&key).map_err(|error| self.meta_error(&error))?;
                let record = value.map(|value| decode_dirent(&value)).transpose();
                let record = record.map_err(|error| self.damaged("dirent of directory", parent.0, error))?;
                Found::Dirent(*parent, name.clone(), record)
            }
            Need::Directory(ino) => Found::Directory(*ino, self.scan_directory(*ino, 0, usize::MAX)?),
            Need::Symlink(ino) => {
                let target = meta.get(&keys::symlink(*ino)).map_err(|error| self.meta_error(&error))?;
                let target = target.ok_or(DecodeError::Truncated).and_then(|value| record_of_versioned(&value));
                Found::Symlink(*ino, target.map_err(|error| self.damaged("symlink", ino.0, error))?)
            }
            Need::Xattrs(ino) => {
                let value = meta.get(&keys::xattrs(*ino)).map_err(|error| self.meta_error(&error))?;
                let xattrs = value.ok_or(DecodeError::Truncated).and_then(|value| decode_xattrs(&value));
                Found::Xattrs(*ino, xattrs.map_err(|error| self.damaged("extended attributes", ino.0, error))?)
            }
            Need::Segments(content, first, last) => {
                let wanted: Vec<Bytes> = (*first..=*last).map(|index| keys::segment(*content, index).into()).collect();
                let values = meta.multi_get(&wanted).map_err(|error| self.meta_error(&error))?;
                let mut segments = Vec::with_capacity(values.len());
                for (index, value) in (*first..=*last).zip(values) {
                    let segment = match value {
                        None => Segment::default(),
                        Some(value) => decode_segment(&value)
                            .map_err(|error| self.damaged("extent segment of content", content.0, error))?,
                    };
                    segments.push((index, Arc::new(segment)));
                }
                Found::Segments(*content, segments)
            }
            Need::Room | Need::Commit | Need::Space(_) => return Err(VfsError::Io),
        })
    }

    /// Makes inode records resident with one look-up for all that aren't.
    pub(crate) fn load_inodes(&self, inodes: impl Iterator<Item = Ino>) -> Result<()> {
        let (missing, commits) = {
            let mut state = self.state.lock();
            let missing: Vec<Ino> = inodes.filter(|ino| state.nodes.get(*ino).is_none()).collect();
            (missing, state.commits)
        };
        if missing.is_empty() {
            return Ok(());
        }
        let wanted: Vec<Bytes> = missing.iter().map(|ino| keys::inode(*ino).into()).collect();
        let values = self.parts.meta.multi_get(&wanted).map_err(|error| self.meta_error(&error))?;
        let mut records = Vec::with_capacity(values.len());
        for (ino, value) in missing.into_iter().zip(values) {
            let Some(value) = value else { continue };
            let record = decode_inode(&value).map_err(|error| self.damaged("inode", ino.0, error))?;
            records.push((ino, record));
        }
        let mut state = self.state.lock();
        // After a commit in between they may be out of date; the operation then asks for each by itself.
        if state.commits == commits {
            for (ino, record) in records {
                state.nodes.load(ino, committed_node(record), 1);
            }
        }
        Ok(())
    }

    /// Entries that the store has of a directory from `hash` on, at most `max_entries`.
    pub(crate) fn scan_directory(&self, ino: Ino, hash: u64, max_entries: usize) -> Result<Vec<(Name, DirentRecord)>> {
        let range = KeyRange { start: keys::dirents_from(ino, hash).into(), ..KeyRange::prefix(&keys::dirents(ino)) };
        let mut entries = Vec::new();
        let mut broken = None;
        self.parts
            .meta
            .scan(&range, Direction::Forward, &mut |key, value| {
                let entry = keys::parse_dirent(key).ok_or(DecodeError::Invalid("dirent key"));
                match entry.and_then(|(hash, name)| Ok((hash, name, decode_dirent(value)?))) {
                    Ok((hash, name, record)) => {
                        entries.push((Name { hash, bytes: Bytes::copy_from_slice(name) }, record));
                        if entries.len() < max_entries { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    }
                    Err(error) => {
                        broken = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
            .map_err(|error| self.meta_error(&error))?;
        match broken {
            Some(error) => Err(self.damaged("dirent of directory", ino.0, error)),
            None => Ok(entries),
        }
    }

    /// Logs a failure of the metadata engine and says what the caller gets.
    pub(crate) fn meta_error(&self, error: &MetaError) -> VfsError {
        if let MetaError::Corrupt(detail) = error {
            *self.damaged_record.lock() = Some(detail.clone());
        }
        meta_error(error)
    }

    /// Logs a failure of the disk and says what the caller gets.
    pub(crate) fn io_error(&self, what: &str, error: &std::io::Error) -> VfsError {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return VfsError::NoSpace;
        }
        if is_out_of_descriptors(error) {
            return VfsError::OutOfFiles;
        }
        tracing::error!(%error, what, "disk");
        VfsError::Io
    }

    /// Logs a record that can't be decoded and says what the caller gets.
    pub(crate) fn damaged(&self, record: &str, number: u64, error: DecodeError) -> VfsError {
        tracing::error!(record, number, %error, "metadata record is damaged");
        *self.damaged_record.lock() = Some(format!("the record of {record} {number}: {error}"));
        VfsError::Io
    }
}

/// Logs a failure of the metadata engine and says what the caller gets.
pub(crate) fn meta_error(error: &MetaError) -> VfsError {
    match error {
        MetaError::OutOfSpace(_) => VfsError::NoSpace,
        MetaError::OutOfFiles(_) => VfsError::OutOfFiles,
        MetaError::Closed => VfsError::Closed,
        MetaError::Io(_) | MetaError::Corrupt(_) | MetaError::Unsupported(_) => {
            tracing::error!(%error, "metadata engine");
            VfsError::Io
        }
    }
}

/// Logs a failure of the chunk store, of an inode if it is known, and says what the caller gets.
pub(crate) fn store_error(ino: Option<Ino>, error: &StoreError) -> VfsError {
    match error {
        StoreError::OutOfSpace => VfsError::NoSpace,
        StoreError::OutOfFiles => VfsError::OutOfFiles,
        StoreError::Meta(error) => meta_error(error),
        StoreError::Closed => VfsError::Closed,
        StoreError::Damaged { .. } | StoreError::Missing { .. } => {
            tracing::error!(%error, ino = ino.map(|ino| ino.0), "file is damaged");
            VfsError::Io
        }
        StoreError::Io { .. } | StoreError::Option { .. } | StoreError::ChunkLength { .. } => {
            tracing::error!(%error, ino = ino.map(|ino| ino.0), "chunk store");
            VfsError::Io
        }
    }
}

fn install(state: &mut State, found: Found) {
    match found {
        Found::Inode(ino, Some(record)) => state.nodes.load(ino, committed_node(record), 1),
        Found::Inode(ino, None) => state.nodes.load(ino, Node::Gone, 1),
        Found::Dirent(parent, name, target) => state.directories.load(parent, name, target),
        Found::Directory(ino, entries) => {
            for (name, record) in entries {
                state.directories.load(ino, name, Some(record));
            }
            state.directories.completed(ino);
        }
        Found::Symlink(ino, target) => state.symlinks.load(ino, target, 1),
        Found::Xattrs(ino, xattrs) => {
            let weight = xattr_weight(&xattrs);
            state.xattrs.load(ino, Arc::new(xattrs), weight);
        }
        Found::Segments(content, segments) => {
            for (index, segment) in segments {
                state.load_segment(content, index, segment);
            }
        }
    }
}
