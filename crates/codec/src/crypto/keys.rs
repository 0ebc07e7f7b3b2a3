//! A vault's keys: what is wrapped by a password, and what is derived from it and used.
//!
//! Identity (of chunks and names) comes from one secret, seals from another, so that a new data key changes no id.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use region::LockGuard;
use verfs_base::Rng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::seal::{self, Binding};
use super::stack::{LARGE, SMALL, wiped};
use super::{CryptoError, KEY_BYTES, SealClass};

/// Data keys that a vault may have at once: the newest one seals, the others still open.
pub const GENERATIONS_MAX: usize = 4;

// Contexts of BLAKE3's key derivation: hard-coded, unique, and never changed.
const CHUNK_ID: &str = "VerFS 2026-11-28 vault: identity of chunks";
const NAMES: &str = "VerFS 2026-11-28 vault: hashes of names";
const CHUNKS: &str = "VerFS 2026-11-28 vault: seals of chunks";
const RECORDS: &str = "VerFS 2026-11-28 vault: seals of records";
const LOG: &str = "VerFS 2026-11-28 vault: seals of the intent log";

/// What a password wraps: random keys, none of which is used as it is.
#[derive(Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct KeyMaterial {
    identity: [u8; KEY_BYTES],
    /// Number and key; the last one seals.
    data: Vec<(u32, [u8; KEY_BYTES])>,
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMaterial").field("generations", &self.data.len()).finish_non_exhaustive()
    }
}

impl KeyMaterial {
    /// Keys of a new vault.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn generate(rng: &dyn Rng) -> Result<KeyMaterial, CryptoError> {
        let mut material = KeyMaterial { identity: [0; KEY_BYTES], data: vec![(1, [0; KEY_BYTES])] };
        fill(rng, &mut material.identity)?;
        for (_, key) in &mut material.data {
            fill(rng, key)?;
        }
        Ok(material)
    }

    /// Number of the data key that seals.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.data.last().map_or(0, |(generation, _)| *generation)
    }

    /// Numbers of the data keys, the one that seals last.
    pub fn generations(&self) -> impl Iterator<Item = u32> + '_ {
        self.data.iter().map(|(generation, _)| *generation)
    }

    /// Adds a data key, which seals from now on; the others still open.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`]; [`CryptoError::Keys`]: there are too many that still open.
    pub fn add_generation(&mut self, rng: &dyn Rng) -> Result<(), CryptoError> {
        if self.data.len() >= GENERATIONS_MAX {
            return Err(CryptoError::Keys("too many data keys are still in use"));
        }
        let mut key = [0; KEY_BYTES];
        fill(rng, &mut key)?;
        // A vector that grows would leave a copy behind.
        let mut data = Vec::with_capacity(self.data.len() + 1);
        data.extend_from_slice(&self.data);
        data.push((self.generation() + 1, key));
        key.zeroize();
        std::mem::replace(&mut self.data, data).zeroize();
        Ok(())
    }

    /// Forgets every data key but the one that seals: what they sealed is lost.
    pub fn retire_generations(&mut self) {
        let last = self.data.len().saturating_sub(1);
        let kept: Vec<_> = self.data[last..].to_vec();
        std::mem::replace(&mut self.data, kept).zeroize();
    }

    /// `identity 32 | count 1 | count x (number 4, little-endian | key 32)`.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1 + self.data.len() * (4 + KEY_BYTES)));
        out.extend_from_slice(&self.identity);
        out.push(self.data.len() as u8);
        for (generation, key) in &self.data {
            out.extend_from_slice(&generation.to_le_bytes());
            out.extend_from_slice(key);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<KeyMaterial, CryptoError> {
        let broken = CryptoError::Keys("not as they were wrapped");
        let (identity, rest) = bytes.split_first_chunk::<KEY_BYTES>().ok_or(broken.clone())?;
        let (count, mut rest) = rest.split_first().ok_or(broken.clone())?;
        if *count == 0 || usize::from(*count) > GENERATIONS_MAX {
            return Err(broken);
        }
        let mut data = Vec::with_capacity((*count).into());
        for _ in 0..*count {
            let (generation, behind) = rest.split_first_chunk::<4>().ok_or(broken.clone())?;
            let (key, behind) = behind.split_first_chunk::<KEY_BYTES>().ok_or(broken.clone())?;
            data.push((u32::from_le_bytes(*generation), *key));
            rest = behind;
        }
        if !rest.is_empty() || !data.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(broken);
        }
        Ok(KeyMaterial { identity: *identity, data })
    }
}

fn fill(rng: &dyn Rng, key: &mut [u8; KEY_BYTES]) -> Result<(), CryptoError> {
    rng.fill(key).map_err(|error| CryptoError::NoRandomness(error.to_string()))
}

/// The keys that one data key gives.
#[derive(Clone, Copy, Default, Zeroize)]
struct DataKeys {
    generation: u32,
    chunks: [u8; KEY_BYTES],
    records: [u8; KEY_BYTES],
    log: [u8; KEY_BYTES],
}

/// Keys in use, alone on their page of memory, so that locking it locks nothing else.
#[derive(Zeroize)]
#[repr(C, align(4096))]
struct KeyPage {
    chunk_id: [u8; KEY_BYTES],
    names: [u8; KEY_BYTES],
    count: usize,
    data: [DataKeys; GENERATIONS_MAX],
}

/// An open vault's keys. They are wiped when the last user lets go, and locked into memory where that is permitted.
pub struct VaultKeys {
    // Dropped before the page.
    _lock: Option<LockGuard>,
    page: RwLock<Box<KeyPage>>,
    volume: [u8; 16],
    rng: Arc<dyn Rng>,
}

impl fmt::Debug for VaultKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultKeys").field("locked_in_memory", &self._lock.is_some()).finish_non_exhaustive()
    }
}

impl Drop for VaultKeys {
    fn drop(&mut self) {
        self.page.get_mut().zeroize();
    }
}

impl VaultKeys {
    /// The keys of the vault of a volume.
    #[must_use]
    pub fn new(material: &KeyMaterial, volume: [u8; 16], rng: Arc<dyn Rng>) -> VaultKeys {
        let mut page = Box::new(KeyPage {
            chunk_id: [0; KEY_BYTES],
            names: [0; KEY_BYTES],
            count: 0,
            data: [DataKeys::default(); GENERATIONS_MAX],
        });
        // Before there is anything in it.
        let lock = region::lock(std::ptr::from_ref(page.as_ref()), size_of::<KeyPage>()).ok();
        wiped::<LARGE, _>(|| page.fill(material));
        VaultKeys { _lock: lock, page: RwLock::new(page), volume, rng }
    }

    /// Takes the data keys of `material`, which has the same identity: the last of them seals from now on.
    pub fn take_generations(&self, material: &KeyMaterial) {
        wiped::<LARGE, _>(|| self.page.write().fill(material));
    }

    /// Wipes them although somebody may still hold on to them: from now on nothing is sealed or opened.
    pub fn forget(&self) {
        self.page.write().zeroize();
    }

    /// Identity of a chunk: 128 bits of BLAKE3, keyed.
    #[must_use]
    pub fn chunk_id(&self, raw: &[u8]) -> [u8; 16] {
        wiped::<LARGE, _>(|| half(blake3::keyed_hash(&self.page.read().chunk_id, raw)))
    }

    /// What stands for a name of a directory: 128 bits of BLAKE3, keyed. Equal names of two directories have nothing
    /// in common.
    #[must_use]
    pub fn name_hash(&self, directory: u64, name: &[u8]) -> [u8; 16] {
        wiped::<SMALL, _>(|| {
            let mut hasher = blake3::Hasher::new_keyed(&self.page.read().names);
            hasher.update(&directory.to_le_bytes()).update(name);
            half(hasher.finalize())
        })
    }

    /// Number of the data key that seals.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.page.read().sealing().map_or(0, |keys| keys.generation)
    }

    /// Number of the data key of a seal.
    ///
    /// # Errors
    /// [`CryptoError::Unsealable`]: it is none.
    pub fn generation_of(sealed: &[u8]) -> Result<u32, CryptoError> {
        seal::generation_of(sealed)
    }

    /// Appends the seal of `plain` to `out`.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn seal(&self, class: SealClass, context: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        let page = self.page.read();
        let keys = page.sealing().ok_or(CryptoError::Keys("none"))?;
        let binding = Binding { class, volume: &self.volume, generation: keys.generation, context };
        seal::seal(keys.of(class), &binding, self.rng.as_ref(), plain, out)
    }

    /// The plain bytes of a seal.
    ///
    /// # Errors
    /// [`CryptoError::Unsealable`], [`CryptoError::UnknownKey`].
    pub fn open(&self, class: SealClass, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.with_key_of(class, context, sealed, seal::open)
    }

    /// The plain bytes of a seal, in its place. One that can't be opened stays as it is.
    ///
    /// # Errors
    /// As [`VaultKeys::open`].
    pub fn open_in_place<'s>(
        &self,
        class: SealClass,
        context: &[u8],
        sealed: &'s mut [u8],
    ) -> Result<&'s [u8], CryptoError> {
        self.with_key_of(class, context, sealed, |key, binding, sealed| seal::open_in_place(key, binding, sealed))
    }

    fn with_key_of<S: AsRef<[u8]>, T>(
        &self,
        class: SealClass,
        context: &[u8],
        sealed: S,
        open: impl FnOnce(&[u8; KEY_BYTES], &Binding<'_>, S) -> Result<T, CryptoError>,
    ) -> Result<T, CryptoError> {
        let generation = seal::generation_of(sealed.as_ref())?;
        let page = self.page.read();
        let mut known = page.data[..page.count].iter();
        let keys = known.find(|keys| keys.generation == generation).ok_or(CryptoError::UnknownKey { generation })?;
        let binding = Binding { class, volume: &self.volume, generation, context };
        open(keys.of(class), &binding, sealed)
    }
}

impl KeyPage {
    fn fill(&mut self, material: &KeyMaterial) {
        self.chunk_id = blake3::derive_key(CHUNK_ID, &material.identity);
        self.names = blake3::derive_key(NAMES, &material.identity);
        self.data.zeroize();
        self.count = material.data.len().min(GENERATIONS_MAX);
        for (keys, (generation, key)) in self.data.iter_mut().zip(&material.data) {
            keys.generation = *generation;
            keys.chunks = blake3::derive_key(CHUNKS, key);
            keys.records = blake3::derive_key(RECORDS, key);
            keys.log = blake3::derive_key(LOG, key);
        }
    }

    fn sealing(&self) -> Option<&DataKeys> {
        self.data[..self.count].last()
    }
}

impl DataKeys {
    fn of(&self, class: SealClass) -> &[u8; KEY_BYTES] {
        match class {
            SealClass::Chunk => &self.chunks,
            SealClass::Keys | SealClass::Name | SealClass::Record | SealClass::Inline => &self.records,
            SealClass::Log => &self.log,
        }
    }
}

fn half(hash: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}
