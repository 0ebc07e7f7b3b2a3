//! The secrets of a test's vault.

use verfs_engine::VaultSecret;

/// A key file; the password is a test's own.
pub struct Secrets {
    /// The text of the key file.
    pub key_file: String,
}

impl Secrets {
    pub fn new() -> Secrets {
        Secrets { key_file: VaultSecret::new_key_file().unwrap() }
    }

    pub fn with(&self, password: &str) -> VaultSecret {
        VaultSecret::new(password.as_bytes().to_vec(), self.key_file.as_bytes().to_vec()).unwrap()
    }

    pub fn right(&self) -> VaultSecret {
        self.with("pass word")
    }
}
