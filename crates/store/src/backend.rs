//! What differs between the chunks of a volume and those of its vault: identity, and what becomes of them in packs.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use verfs_base::{ChunkId, GroupId, Ino};
use verfs_codec::crypto::{CryptoError, SealClass, VaultKeys};
use verfs_format::{DecodeError, FrameBuilder, FrameHeader, LogEntry, decode_frame, decode_sealed_frame};
use verfs_pack::{BlockSeal, Compression, RecordSeed};
use xxhash_rust::xxh3::xxh3_128_with_secret;

use crate::{StoreError, StoreOptions};

/// Whose chunks a store keeps.
#[derive(Clone)]
pub enum ChunkBackend {
    /// The volume's: XXH3-128 with its secret, compressed.
    Plain {
        /// The volume's id secret.
        secret: Box<[u8; 192]>,
    },
    /// The open vault's: keyed BLAKE3, compressed if wanted, sealed.
    Vault {
        /// The volume's id secret: checksums of records are keyed with it, so that they can be checked without keys.
        secret: Box<[u8; 192]>,
        /// The vault's keys.
        keys: Arc<VaultKeys>,
        /// Whether chunks are compressed before they are sealed.
        compressed: Compressed,
    },
    /// The locked vault's: chunks are counted, checked and moved; nothing is read or written.
    Locked {
        /// As of the open vault.
        secret: Box<[u8; 192]>,
    },
}

/// Whether chunks of a vault are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compressed {
    /// They are.
    Yes,
    /// They are not: their stored length tells their length only.
    No,
}

impl fmt::Debug for ChunkBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChunkBackend::Plain { .. } => "Plain",
            ChunkBackend::Vault { .. } => "Vault",
            ChunkBackend::Locked { .. } => "Locked",
        })
    }
}

impl ChunkBackend {
    /// The chunks of a volume itself.
    #[must_use]
    pub fn plain(secret: &[u8; 192]) -> ChunkBackend {
        ChunkBackend::Plain { secret: Box::new(*secret) }
    }

    fn secret(&self) -> &[u8; 192] {
        match self {
            ChunkBackend::Plain { secret } | ChunkBackend::Vault { secret, .. } | ChunkBackend::Locked { secret } => {
                secret
            }
        }
    }

    /// The key of record checksums.
    #[must_use]
    pub fn record_seed(&self) -> RecordSeed {
        RecordSeed::of_volume(self.secret())
    }

    pub(crate) fn block_seal(&self) -> BlockSeal {
        match self {
            ChunkBackend::Plain { .. } => BlockSeal::None,
            ChunkBackend::Vault { keys, .. } => BlockSeal::Keys(Arc::clone(keys)),
            ChunkBackend::Locked { .. } => BlockSeal::Locked,
        }
    }

    pub(crate) fn compression(&self, options: &StoreOptions) -> Compression {
        match self {
            ChunkBackend::Vault { compressed: Compressed::No, .. } => Compression::Off,
            ChunkBackend::Plain { .. } | ChunkBackend::Vault { .. } | ChunkBackend::Locked { .. } => {
                Compression::Level(options.compression_level)
            }
        }
    }

    /// The identity of a chunk of these bytes, as of [`crate::ChunkStore::id_of`].
    #[must_use]
    pub fn chunk_id(&self, data: &[u8]) -> ChunkId {
        match self {
            ChunkBackend::Vault { keys, .. } => ChunkId(keys.chunk_id(data)),
            ChunkBackend::Plain { secret } | ChunkBackend::Locked { secret } => {
                ChunkId(xxh3_128_with_secret(data, secret.as_slice()).to_be_bytes())
            }
        }
    }

    /// What stands for a name in a directory, as of [`crate::ChunkStore::name_id`].
    #[must_use]
    pub fn name_id(&self, directory: Ino, name: &[u8]) -> ChunkId {
        match self {
            ChunkBackend::Vault { keys, .. } => ChunkId(keys.name_hash(directory.0, name)),
            // The same in each directory: nothing is hidden here.
            ChunkBackend::Plain { .. } | ChunkBackend::Locked { .. } => self.chunk_id(name),
        }
    }

    pub(crate) fn finish_frame(
        &self,
        frame: FrameBuilder,
        group: GroupId,
        sequence: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let hash = |signed: &[u8]| self.chunk_id(signed);
        match self {
            ChunkBackend::Plain { .. } => Ok(frame.finish(group, sequence, hash)),
            ChunkBackend::Vault { keys, .. } => {
                let seal = |context: &[u8], body: &[u8]| -> Result<Vec<u8>, CryptoError> {
                    let mut sealed = Vec::new();
                    keys.seal(SealClass::Log, context, body, &mut sealed)?;
                    Ok(sealed)
                };
                frame.finish_sealed(group, sequence, seal, hash).map_err(StoreError::from)
            }
            ChunkBackend::Locked { .. } => Err(StoreError::Closed),
        }
    }

    /// Reads a frame of the intent log.
    ///
    /// # Errors
    /// [`DecodeError`]: it is none of this volume.
    pub fn read_frame(&self, frame: &[u8]) -> Result<(FrameHeader, Vec<LogEntry>), DecodeError> {
        let hash = |signed: &[u8]| self.chunk_id(signed);
        match self {
            ChunkBackend::Plain { .. } | ChunkBackend::Locked { .. } => decode_frame(frame, hash),
            ChunkBackend::Vault { keys, .. } => {
                let open = |context: &[u8], body: &[u8]| keys.open(SealClass::Log, context, body).ok().map(Cow::Owned);
                decode_sealed_frame(frame, open, hash)
            }
        }
    }
}
