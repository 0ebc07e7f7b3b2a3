//! Values as the vault stores them: what is secret sealed, what pruning and sending need clear, all of it bound to its
//! key. `verfs_format::vault` has the diagram.

use bytes::Bytes;
use verfs_codec::crypto::{CryptoError, SEAL_OVERHEAD_BYTES, SealClass, VaultKeys};
use verfs_format::keys::{CHANGES, DIRENT, INODE, SEGMENT, SYMLINK, XATTRS};
use verfs_format::varint::{Reader, put_bytes, put_u64};
use verfs_format::{ChangeList, RunData, Segment, split_versioned};
use verfs_meta::{MetaError, Result};

use super::keys::{named, record_key, stored};

/// What becomes of a value.
enum Kind {
    /// It is stored as it is: structure that tells nothing which other records don't.
    Clear,
    /// It is made tamper-proof.
    Inode,
    /// Its key's name is its secret.
    Dirent,
    /// Inline bytes are secret.
    Segment,
    /// All but the birth is secret.
    Record,
    /// The names in its keys are secret.
    Changes,
}

impl Kind {
    fn of(stored_key: &[u8]) -> Kind {
        match record_key(stored_key).first().copied() {
            Some(INODE) => Kind::Inode,
            Some(DIRENT) if named(stored_key).is_some() => Kind::Dirent,
            Some(SEGMENT) => Kind::Segment,
            Some(SYMLINK | XATTRS) => Kind::Record,
            Some(CHANGES) => Kind::Changes,
            Some(_) | None => Kind::Clear,
        }
    }

    fn class(&self) -> SealClass {
        match self {
            Kind::Dirent => SealClass::Name,
            Kind::Segment => SealClass::Inline,
            Kind::Clear | Kind::Inode | Kind::Record | Kind::Changes => SealClass::Record,
        }
    }
}

fn failed(error: CryptoError) -> MetaError {
    match error {
        CryptoError::NoRandomness(_) => MetaError::Io(format!("the vault's metadata: {error}")),
        CryptoError::Unsealable | CryptoError::UnknownKey { .. } | CryptoError::Cost(_) | CryptoError::Keys(_) => {
            MetaError::Corrupt(format!("the vault's metadata: {error}"))
        }
    }
}

fn changed() -> MetaError {
    MetaError::Corrupt("the vault's metadata: a record is not as it was written".to_owned())
}

/// The value of `key` as it is stored under `stored_key`.
pub(super) fn seal(keys: &VaultKeys, key: &[u8], stored_key: &[u8], value: Bytes) -> Result<Bytes> {
    let kind = Kind::of(stored_key);
    let (clear, secret) = match kind {
        Kind::Clear => return Ok(value),
        Kind::Inode => (value.to_vec(), Vec::new()),
        Kind::Dirent => (value.to_vec(), named(key).map(|named| named.name.to_vec()).unwrap_or_default()),
        Kind::Segment => split_segment(&value).unwrap_or_else(|| (Vec::new(), value.to_vec())),
        Kind::Record => {
            let secret = split_versioned(&value).map_or(&value[..], |(_, record)| record);
            (value[..value.len() - secret.len()].to_vec(), secret.to_vec())
        }
        Kind::Changes => split_changes(keys, &value).unwrap_or_else(|| (Vec::new(), value.to_vec())),
    };
    let mut out = Vec::with_capacity(clear.len() + secret.len() + SEAL_OVERHEAD_BYTES + 2);
    put_u64(&mut out, secret.len() as u64);
    out.extend_from_slice(&clear);
    keys.seal(kind.class(), &context(stored_key, &clear), &secret, &mut out).map_err(failed)?;
    Ok(out.into())
}

/// The value of a stored one, with its key.
pub(super) fn open(keys: &VaultKeys, stored_key: &[u8], stored_value: &[u8]) -> Result<(Bytes, Bytes)> {
    let kind = Kind::of(stored_key);
    if matches!(kind, Kind::Clear) {
        return Ok((Bytes::copy_from_slice(stored_key), Bytes::copy_from_slice(stored_value)));
    }
    let mut reader = Reader::new(stored_value);
    let secret_len = reader.u64().ok().and_then(|len| usize::try_from(len).ok()).ok_or_else(changed)?;
    let seal_len = secret_len.checked_add(SEAL_OVERHEAD_BYTES).ok_or_else(changed)?;
    let rest = reader.rest();
    let (clear, seal) = rest.len().checked_sub(seal_len).map(|at| rest.split_at(at)).ok_or_else(changed)?;
    let secret = keys.open(kind.class(), &context(stored_key, clear), seal).map_err(failed)?;
    let same_key = || Bytes::copy_from_slice(stored_key);
    Ok(match kind {
        Kind::Clear | Kind::Inode => (same_key(), Bytes::copy_from_slice(clear)),
        Kind::Dirent => {
            let key = named(stored_key).ok_or_else(changed)?.with(&secret);
            (key.into(), Bytes::copy_from_slice(clear))
        }
        Kind::Segment if !clear.is_empty() => (same_key(), join_segment(clear, &secret).ok_or_else(changed)?),
        Kind::Changes if !clear.is_empty() => (same_key(), join_changes(clear, &secret).ok_or_else(changed)?),
        Kind::Segment | Kind::Changes => (same_key(), secret.into()),
        Kind::Record => (same_key(), [clear, &secret].concat().into()),
    })
}

/// What is clear of a stored value: nothing of one that is a secret as a whole.
pub(super) fn clear(stored_key: &[u8], stored_value: &[u8]) -> Result<Bytes> {
    if matches!(Kind::of(stored_key), Kind::Clear) {
        return Ok(Bytes::copy_from_slice(stored_value));
    }
    let mut reader = Reader::new(stored_value);
    let secret_len = reader.u64().ok().and_then(|len| usize::try_from(len).ok()).ok_or_else(changed)?;
    let seal_len = secret_len.checked_add(SEAL_OVERHEAD_BYTES).ok_or_else(changed)?;
    let rest = reader.rest();
    let clear_len = rest.len().checked_sub(seal_len).ok_or_else(changed)?;
    Ok(Bytes::copy_from_slice(&rest[..clear_len]))
}

/// Whether a key's value is stored with a seal.
pub(super) fn is_sealed(stored_key: &[u8]) -> bool {
    !matches!(Kind::of(stored_key), Kind::Clear)
}

/// The stored value sealed with the newest data key; `None` if it is so already, or has no seal.
pub(super) fn reseal(keys: &VaultKeys, stored_key: &[u8], stored_value: &[u8]) -> Result<Option<Bytes>> {
    if matches!(Kind::of(stored_key), Kind::Clear) {
        return Ok(None);
    }
    let mut reader = Reader::new(stored_value);
    let secret_len = reader.u64().ok().and_then(|len| usize::try_from(len).ok()).ok_or_else(changed)?;
    let rest = reader.rest();
    let seal_len = secret_len.checked_add(SEAL_OVERHEAD_BYTES).ok_or_else(changed)?;
    let at = rest.len().checked_sub(seal_len).ok_or_else(changed)?;
    if VaultKeys::generation_of(&rest[at..]) == Ok(keys.generation()) {
        return Ok(None);
    }
    let (key, value) = open(keys, stored_key, stored_value)?;
    seal(keys, &key, stored_key, value).map(Some)
}

/// What a seal is bound to: the key of the record, and all that is clear of it.
fn context(stored_key: &[u8], clear: &[u8]) -> Vec<u8> {
    let key = record_key(stored_key);
    let mut context = Vec::with_capacity(key.len() + clear.len() + 4);
    put_bytes(&mut context, key);
    context.extend_from_slice(clear);
    context
}

/// A segment with zeros for its inline bytes, and these. `None` if it is not one that comes back as it was.
fn split_segment(value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, record) = split_versioned(value).ok()?;
    let mut segment = Segment::decode(record).ok()?;
    let mut secret = Vec::new();
    for run in &mut segment.runs {
        if let RunData::Inline(bytes) = &mut run.data {
            secret.extend_from_slice(bytes);
            *bytes = vec![0; bytes.len()].into();
        }
    }
    let mut clear = value[..value.len() - record.len()].to_vec();
    clear.extend_from_slice(&segment.encode());
    (join_segment(&clear, &secret)? == value).then_some((clear, secret))
}

fn join_segment(clear: &[u8], secret: &[u8]) -> Option<Bytes> {
    if secret.is_empty() {
        return Some(Bytes::copy_from_slice(clear));
    }
    let (_, record) = split_versioned(clear).ok()?;
    let mut segment = Segment::decode(record).ok()?;
    let mut rest = secret;
    for run in &mut segment.runs {
        if let RunData::Inline(bytes) = &mut run.data {
            let (own, behind) = rest.split_at_checked(bytes.len())?;
            *bytes = Bytes::copy_from_slice(own);
            rest = behind;
        }
    }
    let mut value = clear[..clear.len() - record.len()].to_vec();
    value.extend_from_slice(&segment.encode());
    rest.is_empty().then(|| value.into())
}

/// A list of keys as they are stored, and the names in them. `None` if it is not one that comes back as it was.
fn split_changes(keys: &VaultKeys, value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let list = ChangeList::decode(value).ok()?;
    let mut secret = Vec::new();
    for named in list.keys.iter().filter_map(|key| named(key)) {
        put_bytes(&mut secret, named.name);
    }
    let stored: Vec<Bytes> = list.keys.iter().map(|key| stored(keys, key)).collect();
    let clear = ChangeList::encode(&stored);
    (join_changes(&clear, &secret)? == value).then_some((clear, secret))
}

fn join_changes(clear: &[u8], secret: &[u8]) -> Option<Bytes> {
    let list = ChangeList::decode(clear).ok()?;
    let mut names = Reader::new(secret);
    let mut keys = Vec::with_capacity(list.keys.len());
    for key in list.keys {
        keys.push(match named(&key) {
            Some(named) if named.is_stored() => named.with(names.bytes().ok()?).into(),
            Some(_) => return None,
            None => key,
        });
    }
    names.finish().ok()?;
    Some(ChangeList::encode(&keys).into())
}
