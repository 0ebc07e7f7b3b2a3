//! The vault: the record that holds its wrapped keys, the key file, and the form of its sealed metadata.
//!
//! The vault is a tree of its own in the same metadata engine: each key of FORMAT.md with `V` before it. Its packs and
//! its intent log are in `vault/` under the volume, in the forms of the others; its chunk ids are 128 bits of keyed
//! BLAKE3.
//!
//! ```text
//! Svault.keys   magic 8 "VFSVLT1\n" | created seconds zigzag v, nanoseconds v | flags v: 1 chunks are compressed
//!               | memory KiB v | passes v | lanes v (Argon2id) | salt 16 | wrapped (length v + bytes)
//!               | checksum 16: XXH3-128, little-endian, of all before it
//! wrapped       seal of: identity 32 | count 1 | count x (number 4, little-endian | data key 32)
//! seal          number of the data key 4 (0: the password's), little-endian | nonce 24 | ciphertext | tag 16
//! ```
//! Values of i, d, e, l, x, L, live or in history, are `secret length v | clear | seal of the secret`, the seal bound to
//! the key (without `h` and death) and to what is clear:
//!
//! ```text
//! key           clear                                        secret
//! i             the value                                    nothing: it is only made tamper-proof
//! d             the value                                    name; in the key 16 bytes of keyed hash stand for it
//! e             the value, with zeros for inline bytes       the inline bytes
//! l, x          birth v                                      the record
//! L             the list, with the keys as they are stored   names of its keys (length v + bytes)
//! ```
//! A value that is not of its form is a secret as a whole.

use verfs_base::Timestamp;
use xxhash_rust::xxh3::xxh3_128;
use zeroize::Zeroizing;

use crate::DecodeError;
use crate::superblock::hex;
use crate::varint::{Reader, put_bytes, put_i64, put_u64};

/// System value: the vault's wrapped keys, in the metadata of the volume.
pub const SYSTEM_VAULT_KEYS: &[u8] = b"Svault.keys";
/// System value: what the vault's seals are bound to, 16 bytes, in the metadata of the volume; without it the volume's uuid.
/// A vault that came in a stream has the one that it had at the sender.
pub const SYSTEM_VAULT_ID: &[u8] = b"Svault.id";
/// System value: the wrapped keys that came in a stream last, in the metadata of the volume.
pub const SYSTEM_VAULT_RECEIVED: &[u8] = b"Svault.received";
/// System value of the vault's own tree: the epoch in which it forgot old data keys last, a varint.
pub const SYSTEM_REKEYED: &[u8] = b"Svault.rekeyed";
/// System value of the vault's own tree, while it gets a new data key: number of that key, a varint, and of the first pack
/// that has no seal of an older one, a varint.
pub const SYSTEM_REKEY: &[u8] = b"Svault.rekey";
/// Before each key of the vault's own tree.
pub const VAULT_PREFIX: u8 = b'V';
/// Directory of the vault's packs and log.
pub const VAULT_DIRECTORY: &str = "vault";
/// Bytes of a key file that count.
pub const KEY_FILE_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"VFSVLT1\n";
const FLAG_COMPRESSED: u64 = 1;
const CHECKSUM_BYTES: usize = 16;
const KEY_FILE_TITLE: &str = "VerFS vault key file, version 1";

/// Whether chunks are compressed before they are sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VaultCompression {
    /// They are: their stored length tells something of their content.
    On,
    /// They are not.
    Off,
}

/// A vault's wrapped keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VaultRecord {
    /// When the vault was made.
    pub created: Timestamp,
    /// Whether chunks are compressed.
    pub compression: VaultCompression,
    /// Argon2id: memory in KiB.
    pub memory_kib: u32,
    /// Argon2id: passes.
    pub passes: u32,
    /// Argon2id: lanes.
    pub lanes: u32,
    /// Argon2id: salt.
    pub salt: [u8; 16],
    /// The keys, wrapped.
    pub wrapped: Vec<u8>,
}

impl VaultRecord {
    /// What stands before the wrapped keys, and what these are bound to.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&MAGIC);
        put_i64(&mut out, self.created.seconds);
        put_u64(&mut out, self.created.nanos.into());
        put_u64(
            &mut out,
            match self.compression {
                VaultCompression::On => FLAG_COMPRESSED,
                VaultCompression::Off => 0,
            },
        );
        for cost in [self.memory_kib, self.passes, self.lanes] {
            put_u64(&mut out, cost.into());
        }
        out.extend_from_slice(&self.salt);
        out
    }

    /// The encoded record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head();
        put_bytes(&mut out, &self.wrapped);
        let checksum = xxh3_128(&out).to_le_bytes();
        out.extend_from_slice(&checksum);
        out
    }

    /// Decodes a whole record.
    ///
    /// # Errors
    /// [`DecodeError`]: it was damaged, which no password has to do with.
    pub fn decode(bytes: &[u8]) -> Result<VaultRecord, DecodeError> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::Truncated)?;
        if xxh3_128(body).to_le_bytes() != *checksum {
            return Err(DecodeError::Checksum);
        }
        let mut reader = Reader::new(body);
        if reader.array()? != MAGIC {
            return Err(DecodeError::Invalid("magic"));
        }
        let created = Timestamp { seconds: reader.i64()?, nanos: reader.u32()? };
        let compression = match reader.u64()? {
            0 => VaultCompression::Off,
            FLAG_COMPRESSED => VaultCompression::On,
            _ => return Err(DecodeError::Invalid("flag")),
        };
        let (memory_kib, passes, lanes) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let salt = reader.array()?;
        let wrapped = reader.bytes()?.to_vec();
        reader.finish()?;
        Ok(VaultRecord { created, compression, memory_kib, passes, lanes, salt, wrapped })
    }
}

/// The text of a key file: a title, 64 hexadecimal digits, and 8 that check them.
#[must_use]
pub fn encode_key_file(key: &[u8; KEY_FILE_BYTES]) -> String {
    format!("{KEY_FILE_TITLE}\n{}\n{}\n", hex(key), key_file_check(key))
}

/// The key of a key file.
///
/// # Errors
/// [`DecodeError`]: it is none, or was damaged.
pub fn decode_key_file(text: &[u8]) -> Result<[u8; KEY_FILE_BYTES], DecodeError> {
    let text = std::str::from_utf8(text).map_err(|_| DecodeError::Invalid("key file"))?;
    let mut lines = text.lines();
    if lines.next() != Some(KEY_FILE_TITLE) {
        return Err(DecodeError::Invalid("title of a key file"));
    }
    let digits = lines.next().ok_or(DecodeError::Truncated)?.trim_end().as_bytes();
    let mut key = [0; KEY_FILE_BYTES];
    if digits.len() != 2 * key.len() {
        return Err(DecodeError::Invalid("length of a key file"));
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(DecodeError::Invalid("digit of a key file"));
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    if lines.next().map(str::trim_end) != Some(key_file_check(&key).as_str()) {
        return Err(DecodeError::Checksum);
    }
    Ok(key)
}

fn key_file_check(key: &[u8; KEY_FILE_BYTES]) -> String {
    // Of its own: half a hash that is used elsewhere would tell of the key. Not on the heap, where a copy would stay.
    let mut titled = Zeroizing::new([0; KEY_FILE_TITLE.len() + KEY_FILE_BYTES]);
    let (title, behind) = titled.split_at_mut(KEY_FILE_TITLE.len());
    title.copy_from_slice(KEY_FILE_TITLE.as_bytes());
    behind.copy_from_slice(key);
    hex(&(xxh3_128(titled.as_slice()) as u32).to_be_bytes())
}
