//! The key of a password: Argon2id (RFC 9106) of the password, with the key file's bytes as its secret.

use std::time::Duration;

use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
use verfs_base::{Clock, Rng};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::seal::{Binding, open, seal};
use super::{CryptoError, KEY_BYTES, KeyMaterial, SealClass};

/// Passes more than that are not asked for: a vault made on a very fast machine still opens on a slow one.
const PASSES_MAX: u32 = 64;
/// Memory and passes that are refused in a record: more than any build ever writes, so it is damage or an attack.
const MEMORY_REFUSED_KIB: u32 = 4 << 20;
const PASSES_REFUSED: u32 = 1 << 12;

/// What each try of a password costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PasswordCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl PasswordCost {
    /// The second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes. Nothing weaker is made.
    pub const LEAST: PasswordCost = PasswordCost { memory_kib: 64 << 10, passes: 3, lanes: 4 };

    /// The cost that takes about `target` on this machine, never less than [`PasswordCost::LEAST`]. Memory stays as it
    /// is there, so that the daemon needs no more; passes are added. Takes the time of one try at the least cost.
    ///
    /// # Errors
    /// [`CryptoError::Cost`]: there is no memory.
    pub fn calibrate(target: Duration, clock: &dyn Clock) -> Result<PasswordCost, CryptoError> {
        let began = clock.monotonic();
        let least = PasswordCost::LEAST;
        WrappingKey::derive(b"", &[0; KEY_BYTES], &[0; 16], &[0; 16], least)?;
        let pass = (clock.monotonic().saturating_sub(began) / least.passes).max(Duration::from_micros(1));
        let passes = (target.as_micros() / pass.as_micros()).min(u128::from(PASSES_MAX)) as u32;
        Ok(PasswordCost { passes: passes.max(least.passes), ..least })
    }

    /// Refuses what no build writes: a try must not take the machine's memory or forever.
    ///
    /// # Errors
    /// [`CryptoError::Cost`].
    pub fn check(&self) -> Result<(), CryptoError> {
        if self.memory_kib > MEMORY_REFUSED_KIB || self.passes > PASSES_REFUSED {
            return Err(CryptoError::Cost(format!("{} KiB, {} passes", self.memory_kib, self.passes)));
        }
        Ok(())
    }
}

/// What wraps a vault's keys.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct WrappingKey {
    key: Box<[u8; KEY_BYTES]>,
}

impl WrappingKey {
    /// Argon2id of `password` with `key_file` as its secret and the volume's uuid as associated data.
    ///
    /// # Errors
    /// [`CryptoError::Cost`]: there are no such costs, or not the memory.
    pub fn derive(
        password: &[u8],
        key_file: &[u8; KEY_BYTES],
        salt: &[u8; 16],
        volume: &[u8; 16],
        cost: PasswordCost,
    ) -> Result<WrappingKey, CryptoError> {
        let mut key = WrappingKey { key: Box::new([0; KEY_BYTES]) };
        argon2id(password, salt, key_file, volume, cost, key.key.as_mut_slice())?;
        Ok(key)
    }

    /// The wrapped keys, bound to the volume and to `context`.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn wrap(
        &self,
        material: &KeyMaterial,
        volume: &[u8; 16],
        context: &[u8],
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, CryptoError> {
        let binding = Binding { class: SealClass::Keys, volume, generation: 0, context };
        let mut wrapped = Vec::new();
        seal(&self.key, &binding, rng, &material.encode(), &mut wrapped)?;
        Ok(wrapped)
    }

    /// The keys again.
    ///
    /// # Errors
    /// [`CryptoError::Unsealable`]: another password, another key file, or not what was wrapped.
    pub fn unwrap(&self, wrapped: &[u8], volume: &[u8; 16], context: &[u8]) -> Result<KeyMaterial, CryptoError> {
        let binding = Binding { class: SealClass::Keys, volume, generation: 0, context };
        KeyMaterial::decode(&Zeroizing::new(open(&self.key, &binding, wrapped)?))
    }
}

/// Argon2id, version 1.3.
pub(super) fn argon2id(
    password: &[u8],
    salt: &[u8],
    secret: &[u8],
    associated: &[u8],
    cost: PasswordCost,
    out: &mut [u8],
) -> Result<(), CryptoError> {
    let refused = |error: argon2::Error| CryptoError::Cost(error.to_string());
    let params = ParamsBuilder::new()
        .m_cost(cost.memory_kib)
        .t_cost(cost.passes)
        .p_cost(cost.lanes)
        .output_len(out.len())
        .data(AssociatedData::new(associated).map_err(refused)?)
        .build()
        .map_err(refused)?;
    let argon2 = Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, params).map_err(refused)?;
    argon2.hash_password_into(password, salt, out).map_err(refused)
}
