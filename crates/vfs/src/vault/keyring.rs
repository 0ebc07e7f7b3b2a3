//! The record of the vault's wrapped keys, and how it changes: one record, replaced whole by one durable batch, so that
//! a crash leaves the old secrets or the new ones.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{Clock, Rng};
use verfs_codec::crypto::{CryptoError, KEY_BYTES, KeyMaterial, PasswordCost, VaultKeys, WrappingKey};
use verfs_format::vault::{SYSTEM_VAULT_ID, SYSTEM_VAULT_KEYS, SYSTEM_VAULT_RECEIVED, VaultCompression, VaultRecord};
use verfs_meta::{MetaError, MetaStore, WriteBatch};

/// What opens a vault.
#[derive(Clone, Copy)]
pub struct VaultSecrets<'a> {
    /// The password.
    pub password: &'a [u8],
    /// The bytes of the key file.
    pub key_file: &'a [u8; KEY_BYTES],
}

impl fmt::Debug for VaultSecrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultSecrets")
    }
}

/// Why the vault's keys can't be had or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    /// There is a vault already.
    #[error("the volume has a vault already")]
    Exists,
    /// There is none.
    #[error("the volume has no vault")]
    Absent,
    /// Password and key file don't belong to it; which of them is wrong nobody can tell.
    #[error("the password or the key file is wrong")]
    WrongSecret,
    /// The record of the keys is not what was written: no password opens it.
    #[error("the vault's wrapped keys are damaged: {0}")]
    Damaged(String),
    /// The metadata engine failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// Randomness or memory failed, or there are too many data keys.
    #[error(transparent)]
    Crypto(CryptoError),
}

/// The keys of a vault that was opened.
#[derive(Debug)]
pub struct UnlockedKeys {
    /// What is known of it without them.
    pub record: VaultRecord,
    /// The keys.
    pub keys: Arc<VaultKeys>,
    /// What makes an end of its old data keys; `None` if it has only one.
    pub retirement: Option<Retirement>,
}

/// Holds what is needed to forget old data keys once nothing is sealed with them any more.
pub struct Retirement {
    record: VaultRecord,
    material: KeyMaterial,
    wrapping: WrappingKey,
}

impl fmt::Debug for Retirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retirement").finish_non_exhaustive()
    }
}

/// Reads and writes the record of a volume.
pub struct Keyring {
    /// The engine of the volume.
    pub meta: Arc<dyn MetaStore>,
    /// The volume's uuid.
    pub volume: [u8; 16],
    /// For salts, nonces and keys.
    pub rng: Arc<dyn Rng>,
    /// For the time of creation.
    pub clock: Arc<dyn Clock>,
}

impl Keyring {
    /// What is known of the vault without its keys; `None` if there is none.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], [`VaultError::Meta`].
    pub fn record(&self) -> Result<Option<VaultRecord>, VaultError> {
        let Some(value) = self.meta.get(SYSTEM_VAULT_KEYS)? else { return Ok(None) };
        let record = VaultRecord::decode(&value).map_err(|error| VaultError::Damaged(error.to_string()))?;
        cost(&record).check().map_err(|error| VaultError::Damaged(error.to_string()))?;
        Ok(Some(record))
    }

    /// Makes the keys of a new vault. Durable when it returns.
    ///
    /// # Errors
    /// [`VaultError::Exists`], also where the record of one is damaged; [`VaultError::Meta`], [`VaultError::Crypto`].
    pub fn create(
        &self,
        secrets: VaultSecrets<'_>,
        cost: PasswordCost,
        compression: VaultCompression,
    ) -> Result<UnlockedKeys, VaultError> {
        if self.meta.get(SYSTEM_VAULT_KEYS)?.is_some() {
            return Err(VaultError::Exists);
        }
        let material = KeyMaterial::generate(self.rng.as_ref()).map_err(VaultError::Crypto)?;
        let record = VaultRecord {
            created: self.clock.now(),
            compression,
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            lanes: cost.lanes,
            salt: [0; 16],
            wrapped: Vec::new(),
        };
        let record = self.write(record, &material, secrets)?;
        self.unlocked(record, &material)
    }

    /// The keys. Takes the time of one try, whether the secrets are right or not.
    ///
    /// # Errors
    /// [`VaultError`], but for [`VaultError::Exists`].
    pub fn unlock(&self, secrets: VaultSecrets<'_>) -> Result<UnlockedKeys, VaultError> {
        let (record, material, wrapping) = self.unwrap(secrets)?;
        let mut unlocked = self.unlocked(record.clone(), &material)?;
        if material.generations().count() > 1 {
            unlocked.retirement = Some(Retirement { record, material, wrapping });
        }
        Ok(unlocked)
    }

    /// Adds a data key to the vault whose `keys` are open: it seals from now on. Durable when it returns.
    ///
    /// # Errors
    /// As [`Keyring::unlock`].
    pub fn begin_rekey(&self, secrets: VaultSecrets<'_>, keys: &VaultKeys) -> Result<Retirement, VaultError> {
        let (record, mut material, wrapping) = self.unwrap(secrets)?;
        material.add_generation(self.rng.as_ref()).map_err(VaultError::Crypto)?;
        let record = self.store(record, &material, &wrapping)?;
        keys.take_generations(&material);
        Ok(Retirement { record, material, wrapping })
    }

    /// Forgets the old data keys: what is sealed with them is lost. Durable when it returns.
    ///
    /// # Errors
    /// [`VaultError::Meta`], [`VaultError::Crypto`]; [`VaultError::WrongSecret`]: the secrets were changed meanwhile, so
    /// that the next unlocking has to do it.
    pub fn end_rekey(&self, retirement: &mut Retirement, keys: &VaultKeys) -> Result<(), VaultError> {
        if self.record()?.is_none_or(|now| now != retirement.record) {
            return Err(VaultError::WrongSecret);
        }
        retirement.material.retire_generations();
        self.store(retirement.record.clone(), &retirement.material, &retirement.wrapping)?;
        keys.take_generations(&retirement.material);
        Ok(())
    }

    /// Has the keys wrapped with other secrets. Durable when it returns; the old ones open nothing any more.
    ///
    /// # Errors
    /// As [`Keyring::unlock`].
    pub fn change(&self, old: VaultSecrets<'_>, new: VaultSecrets<'_>, cost: PasswordCost) -> Result<(), VaultError> {
        let (record, material, _) = self.unwrap(old)?;
        let record = VaultRecord { memory_kib: cost.memory_kib, passes: cost.passes, lanes: cost.lanes, ..record };
        self.write(record, &material, new).map(|_| ())
    }

    /// The record as it is stored; `None` if there is none.
    ///
    /// # Errors
    /// [`VaultError::Meta`].
    pub(super) fn stored(&self) -> Result<Option<Bytes>, VaultError> {
        Ok(self.meta.get(SYSTEM_VAULT_KEYS)?)
    }

    /// The record as it came in a stream last; `None` if none did.
    ///
    /// # Errors
    /// [`VaultError::Meta`].
    pub(super) fn received(&self) -> Result<Option<Bytes>, VaultError> {
        Ok(self.meta.get(SYSTEM_VAULT_RECEIVED)?)
    }

    /// Takes the keys of a vault that came in a stream. Durable when it returns.
    ///
    /// # Errors
    /// [`VaultError::Meta`].
    pub(super) fn adopt(&self, id: [u8; 16], record: &Bytes) -> Result<(), VaultError> {
        let mut batch = WriteBatch::new();
        batch.put(SYSTEM_VAULT_ID, id.to_vec());
        batch.put(SYSTEM_VAULT_KEYS, record.clone());
        batch.put(SYSTEM_VAULT_RECEIVED, record.clone());
        self.meta.commit(batch)?;
        Ok(self.meta.sync()?)
    }

    /// What the seals of the vault are bound to: the volume's uuid, or what it brought from another volume.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], [`VaultError::Meta`].
    pub fn id(&self) -> Result<[u8; 16], VaultError> {
        match self.meta.get(SYSTEM_VAULT_ID)? {
            None => Ok(self.volume),
            Some(id) => id[..].try_into().map_err(|_| VaultError::Damaged("what it is bound to".to_owned())),
        }
    }

    fn unwrap(&self, secrets: VaultSecrets<'_>) -> Result<(VaultRecord, KeyMaterial, WrappingKey), VaultError> {
        let record = self.record()?.ok_or(VaultError::Absent)?;
        let wrapping = self.wrapping(&record, secrets)?;
        match wrapping.unwrap(&record.wrapped, &self.id()?, &record.head()) {
            Ok(material) => Ok((record, material, wrapping)),
            // Wrapped keys that were damaged fail the record's checksum.
            Err(CryptoError::Unsealable | CryptoError::UnknownKey { .. }) => Err(VaultError::WrongSecret),
            Err(error @ CryptoError::Keys(_)) => Err(VaultError::Damaged(error.to_string())),
            Err(error @ (CryptoError::NoRandomness(_) | CryptoError::Cost(_))) => Err(VaultError::Crypto(error)),
        }
    }

    /// Wraps with a fresh salt, and makes the record durable.
    fn write(
        &self,
        mut record: VaultRecord,
        material: &KeyMaterial,
        secrets: VaultSecrets<'_>,
    ) -> Result<VaultRecord, VaultError> {
        let no_randomness = |error: std::io::Error| VaultError::Crypto(CryptoError::NoRandomness(error.to_string()));
        self.rng.fill(&mut record.salt).map_err(no_randomness)?;
        let wrapping = self.wrapping(&record, secrets)?;
        self.store(record, material, &wrapping)
    }

    fn store(
        &self,
        mut record: VaultRecord,
        material: &KeyMaterial,
        wrapping: &WrappingKey,
    ) -> Result<VaultRecord, VaultError> {
        let id = self.id()?;
        record.wrapped = wrapping.wrap(material, &id, &record.head(), self.rng.as_ref()).map_err(VaultError::Crypto)?;
        let mut batch = WriteBatch::new();
        batch.put(SYSTEM_VAULT_KEYS, record.encode());
        self.meta.commit(batch)?;
        self.meta.sync()?;
        Ok(record)
    }

    fn wrapping(&self, record: &VaultRecord, secrets: VaultSecrets<'_>) -> Result<WrappingKey, VaultError> {
        WrappingKey::derive(secrets.password, secrets.key_file, &record.salt, &self.id()?, cost(record))
            .map_err(VaultError::Crypto)
    }

    fn unlocked(&self, record: VaultRecord, material: &KeyMaterial) -> Result<UnlockedKeys, VaultError> {
        let keys = Arc::new(VaultKeys::new(material, self.id()?, Arc::clone(&self.rng)));
        Ok(UnlockedKeys { record, keys, retirement: None })
    }
}

fn cost(record: &VaultRecord) -> PasswordCost {
    PasswordCost { memory_kib: record.memory_kib, passes: record.passes, lanes: record.lanes }
}
