//! Reading: one block by its place, and the cached indexes and open files of sealed packs.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use verfs_base::{Disk, DiskFile, PackId};
use verfs_format::pack::{RecordHeader, record_bytes};

use crate::layout::pack_path;
use crate::scan::scan_pack;
use crate::seal::{load_index, remove_lone_index, store_index};
use crate::{BlockDecoder, IndexEntry, IndexTable, PackError, Result, StoredBlock};

/// What an index takes beside its bytes.
const INDEX_OVERHEAD_BYTES: u64 = 128;
/// An index of the default pack and chunk sizes has some 2000 entries.
const TYPICAL_INDEX_BYTES: u64 = 48 << 10;

/// An open pack.
#[derive(Debug)]
pub struct PackReader {
    pack: PackId,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

impl PackReader {
    /// Opens a pack for reading.
    ///
    /// # Errors
    /// [`PackError::Damaged`] when it is gone, or what the disk says.
    pub fn open(disk: &dyn Disk, pack: PackId) -> Result<PackReader> {
        let path = pack_path(pack);
        match disk.open_read(&path) {
            Ok(file) => Ok(PackReader { pack, path, file }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(PackError::Damaged { pack, detail: "its file is gone".to_owned() })
            }
            Err(error) => Err(PackError::of_disk("open", &path)(error)),
        }
    }

    /// A reader of a file that is open already.
    #[must_use]
    pub fn of_file(pack: PackId, file: Arc<dyn DiskFile>) -> PackReader {
        PackReader { pack, path: pack_path(pack), file }
    }

    /// The pack's file.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Reads the block at `entry` with one read, checks it and decodes it.
    ///
    /// # Errors
    /// [`PackError::Damaged`] for anything but what was written, or what the disk says.
    pub fn read(&self, decoder: &BlockDecoder, entry: IndexEntry) -> Result<Bytes> {
        self.with_record(decoder, entry, |record| {
            decoder.decode(entry.chunk, record).map_err(|reason| self.damaged_at(entry, &reason))
        })
    }

    /// Reads the block at `entry` as it is stored, and checks it as far as that needs no key.
    ///
    /// # Errors
    /// As [`PackReader::read`].
    pub fn read_stored(&self, decoder: &BlockDecoder, entry: IndexEntry) -> Result<StoredBlock> {
        self.with_record(decoder, entry, |record| {
            let block = decoder.block(entry.chunk, record).map_err(|reason| self.damaged_at(entry, &reason))?;
            let RecordHeader { raw_len, encoding, .. } = block.header;
            Ok(StoredBlock { raw_len, encoding, stored: Bytes::copy_from_slice(block.stored) })
        })
    }

    fn damaged_at(&self, entry: IndexEntry, reason: &str) -> PackError {
        PackError::Damaged { pack: self.pack, detail: format!("block at {}: {reason}", entry.offset) }
    }

    /// Reads the record at `entry` into a buffer of the decoder's, for `take`.
    fn with_record<T>(
        &self,
        decoder: &BlockDecoder,
        entry: IndexEntry,
        take: impl FnOnce(&mut [u8]) -> Result<T>,
    ) -> Result<T> {
        decoder.with_buffer(record_bytes(entry.stored_len) as usize, |record| {
            match self.file.read_exact_at(record, u64::from(entry.offset)) {
                Ok(()) => take(record),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(PackError::Damaged {
                    pack: self.pack,
                    detail: format!("the file ends inside the block at {}", entry.offset),
                }),
                Err(error) => Err(PackError::of_disk("read", &self.path)(error)),
            }
        })
    }
}

impl PackReader {
    /// Reads several blocks with one read from the first to the last of them, what lies between included. `entries`
    /// rise by their offsets. Each block is checked and decoded by itself and handed to `take`; of a damaged one `take`
    /// hears nothing: who wants it reads it alone and learns what is wrong. `buffer` is used again and again.
    ///
    /// # Errors
    /// When the read fails; none was taken then.
    pub fn read_stretch(
        &self,
        decoder: &BlockDecoder,
        entries: &[IndexEntry],
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(usize, Bytes),
    ) -> Result<()> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let range = |entry: &IndexEntry| {
            let start = entry.offset.saturating_sub(first.offset) as usize;
            start..start + record_bytes(entry.stored_len) as usize
        };
        let span = range(last).end;
        if buffer.len() < span {
            buffer.resize(span, 0);
        }
        let bytes = &mut buffer[..span];
        self.file.read_exact_at(bytes, u64::from(first.offset)).map_err(PackError::of_disk("read", &self.path))?;
        for (number, entry) in entries.iter().enumerate() {
            let record = bytes.get_mut(range(entry)).unwrap_or_default();
            if let Ok(data) = decoder.decode(entry.chunk, record) {
                take(number, data);
            }
        }
        Ok(())
    }
}

/// Weighs an index by its memory.
#[derive(Clone)]
struct IndexBytes;

impl Weighter<PackId, Arc<IndexTable>> for IndexBytes {
    fn weight(&self, _: &PackId, table: &Arc<IndexTable>) -> u64 {
        table.as_bytes().len() as u64 + INDEX_OVERHEAD_BYTES
    }
}

/// The sealed packs of a volume: their indexes, cached by bytes, and their files, cached by number.
pub struct SealedPacks {
    disk: Arc<dyn Disk>,
    decoder: Arc<BlockDecoder>,
    indexes: Cache<PackId, Arc<IndexTable>, IndexBytes>,
    readers: Cache<PackId, Arc<PackReader>>,
}

impl SealedPacks {
    /// Nothing is read until it is asked for. `index_cache_bytes` bounds the indexes in memory, `open_packs` the open
    /// files.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, decoder: Arc<BlockDecoder>, index_cache_bytes: u64, open_packs: usize) -> Self {
        let typical_indexes = (index_cache_bytes / TYPICAL_INDEX_BYTES).max(1) as usize;
        let indexes = Cache::with_weighter(typical_indexes, index_cache_bytes, IndexBytes);
        SealedPacks { disk, decoder, indexes, readers: Cache::new(open_packs.max(1)) }
    }

    /// The index of a pack, from memory or disk. A missing or damaged one is rebuilt from the pack and stored again.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn index(&self, pack: PackId) -> Result<Arc<IndexTable>> {
        self.indexes.get_or_insert_with(&pack, || {
            let reason = match load_index(self.disk.as_ref(), pack) {
                Ok(Some(table)) => return Ok(Arc::new(table)),
                Ok(None) => "it has no index".to_owned(),
                // Nothing is known of it, and reading the pack would take a file, too.
                Err(error @ PackError::OutOfFiles { .. }) => return Err(error),
                Err(error @ (PackError::Damaged { .. } | PackError::Io { .. } | PackError::OutOfSpace { .. })) => {
                    error.to_string()
                }
            };
            self.rebuild_index(pack, &reason).map(Arc::new)
        })
    }

    /// Puts the index of a pack that was just sealed into the cache.
    pub fn insert_index(&self, table: Arc<IndexTable>) {
        self.indexes.insert(table.pack(), table);
    }

    /// Lets go of the index and the file of a pack whose files were removed: its room is free once the last reader that
    /// is at it is done.
    pub fn forget(&self, pack: PackId) {
        self.indexes.remove(&pack);
        self.readers.remove(&pack);
    }

    /// Reads a block.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn read(&self, pack: PackId, entry: IndexEntry) -> Result<Bytes> {
        self.reader(pack)?.read(&self.decoder, entry)
    }

    /// The open file of a pack.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn reader(&self, pack: PackId) -> Result<Arc<PackReader>> {
        let open =
            || self.readers.get_or_insert_with(&pack, || PackReader::open(self.disk.as_ref(), pack).map(Arc::new));
        match open() {
            // Packs that nobody reads at the moment are the first to be closed when files run out.
            Err(PackError::OutOfFiles { .. }) if !self.readers.is_empty() => {
                self.readers.clear();
                open()
            }
            opened => opened,
        }
    }

    fn rebuild_index(&self, pack: PackId, reason: &str) -> Result<IndexTable> {
        let reader = self.reader(pack)?;
        let path = pack_path(pack);
        let scan =
            scan_pack(reader.file.as_ref(), pack, self.decoder.seed()).map_err(PackError::of_disk("read", &path))?;
        let len = reader.file.len().map_err(PackError::of_disk("read", &path))?;
        tracing::warn!(
            %pack,
            reason,
            blocks = scan.blocks.len(),
            skipped_bytes = scan.skipped_bytes,
            unreadable_bytes = scan.unreadable_bytes,
            "rebuilt the index of a pack from its records"
        );
        let entries: Vec<IndexEntry> = scan.blocks.iter().map(|block| block.entry).collect();
        let table = IndexTable::build(pack, len, &entries);
        if scan.unreadable_bytes == 0
            && let Err(error) = store_index(self.disk.as_ref(), &table)
        {
            tracing::warn!(%pack, %error, "can't store the rebuilt index; it will be rebuilt again");
        }
        // The pack may have been removed meanwhile, before the index came into being.
        if let Err(error) = remove_lone_index(self.disk.as_ref(), pack) {
            tracing::warn!(%pack, %error, "can't remove the index of a pack that is gone");
        }
        Ok(table)
    }
}
