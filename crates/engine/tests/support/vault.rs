//! A vault and its secrets.

use std::fs;
use std::path::Path;
use std::process::Command;

use verfs_engine::{VaultCompression, VaultSecret};

use super::Mount;

/// Secrets of a test's vault: a password and its key file.
pub struct Secrets {
    pub key_file: String,
}

impl Secrets {
    pub fn new() -> Secrets {
        Secrets { key_file: VaultSecret::new_key_file().unwrap() }
    }

    pub fn with(&self, password: impl AsRef<[u8]>) -> VaultSecret {
        VaultSecret::new(password.as_ref().to_vec(), self.key_file.as_bytes().to_vec()).unwrap()
    }

    pub fn right(&self) -> VaultSecret {
        self.with("pass word")
    }
}

/// A mounted volume with a locked vault.
pub fn with_vault() -> (Mount, Secrets) {
    let mount = Mount::new();
    let secrets = Secrets::new();
    mount.volume().create_vault(&secrets.right(), VaultCompression::On).unwrap();
    (mount, secrets)
}

pub fn sh(directory: &Path, script: &str) -> String {
    let script = format!("set -e; {script}");
    let output = Command::new("timeout").args(["120", "sh", "-c", &script]).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn errno<T>(result: std::io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("it was done"),
        Err(error) => error.raw_os_error().unwrap(),
    }
}

/// Mounts of vaults below a directory.
pub fn vault_mounts(directory: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = directory.to_str().unwrap();
    table.lines().filter(|line| line.contains(below) && line.contains(" - fuse.verfs-vault ")).count()
}
