//! What can go wrong with keys and seals.

/// A seal that can't be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The operating system gives no random bytes.
    #[error("no random bytes: {0}")]
    NoRandomness(String),
    /// The sealed bytes are not what was sealed, or not with this key, or for another place.
    #[error("sealed bytes that don't belong here, or were changed")]
    Unsealable,
    /// Sealed with a data key that the vault doesn't have (any more).
    #[error("sealed with data key {generation}, which the vault doesn't have")]
    UnknownKey {
        /// Number of the data key.
        generation: u32,
    },
    /// Costs of a password that Argon2id can't have, or that this build refuses.
    #[error("password costs that can't be: {0}")]
    Cost(String),
    /// Keys that can't be: none, too many, or two of one number.
    #[error("keys that can't be: {0}")]
    Keys(&'static str),
}
