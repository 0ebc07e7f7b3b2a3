//! The vault's cryptography: keys from passwords, keys from keys, sealed bytes, keyed identity.
//!
//! Every primitive is a library's; what is decided here is which key seals what, and what a seal is bound to.
//! docs/SECURITY.md names the sources and says what this is good against.

mod error;
mod keys;
mod password;
mod seal;
mod stack;
#[cfg(test)]
mod tests;

pub use error::CryptoError;
pub use keys::{GENERATIONS_MAX, KeyMaterial, VaultKeys};
pub use password::{PasswordCost, WrappingKey};
pub use seal::{SEAL_OVERHEAD_BYTES, SealClass};

/// A key of every primitive used here, in bytes.
pub const KEY_BYTES: usize = 32;
