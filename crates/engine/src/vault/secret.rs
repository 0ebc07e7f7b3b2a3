//! What the user gives to open a vault.

use std::fmt;

use verfs_format::vault::{KEY_FILE_BYTES, decode_key_file, encode_key_file};
use verfs_vfs::VaultSecrets;
use zeroize::{Zeroize, ZeroizeOnDrop};

use verfs_base::{OsRng, Rng};

use crate::EngineError;

/// Longest password, in bytes.
const PASSWORD_MAX_BYTES: usize = 4096;

/// A password and a key file's key; wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct VaultSecret {
    password: Vec<u8>,
    /// In a place of its own: what is moved leaves a copy behind.
    key_file: Box<[u8; KEY_FILE_BYTES]>,
}

impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultSecret")
    }
}

impl VaultSecret {
    /// Of a password and the content of a key file.
    ///
    /// # Errors
    /// [`EngineError::Usage`] for a password that is empty or has more than 4096 bytes, [`EngineError::VaultKeyFile`] for
    /// something that is no key file.
    pub fn new(mut password: Vec<u8>, mut key_file: Vec<u8>) -> Result<VaultSecret, EngineError> {
        let decoded = decode_key_file(&key_file).map(Box::new);
        key_file.zeroize();
        if password.is_empty() || password.len() > PASSWORD_MAX_BYTES {
            password.zeroize();
            return Err(EngineError::Usage(format!("the password must have 1 to {PASSWORD_MAX_BYTES} bytes")));
        }
        match decoded {
            Ok(key_file) => Ok(VaultSecret { password, key_file }),
            Err(error) => {
                password.zeroize();
                Err(EngineError::VaultKeyFile { detail: error.to_string() })
            }
        }
    }

    /// The content of a new key file.
    ///
    /// # Errors
    /// [`EngineError::Io`]: the operating system gives no random bytes.
    pub fn new_key_file() -> Result<String, EngineError> {
        let mut key = [0; KEY_FILE_BYTES];
        OsRng.fill(&mut key).map_err(|error| EngineError::from_io(std::path::Path::new("getrandom(2)"), &error))?;
        let text = encode_key_file(&key);
        key.zeroize();
        Ok(text)
    }

    pub(crate) fn as_secrets(&self) -> VaultSecrets<'_> {
        VaultSecrets { password: &self.password, key_file: &self.key_file }
    }
}
