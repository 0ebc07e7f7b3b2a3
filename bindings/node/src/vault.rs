//! The vault, as JavaScript sees it. Secrets never get into its memory here: they come through a Unix socket on which
//! the caller listens.
//!
//! ```text
//! on the socket, for each secret: length 4, little-endian | password | length 4 | content of the key file
//! ```

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use verfs_engine::{EngineError, RekeyState, VaultCompression, VaultSecret, VaultState};

use crate::call::{Call, Place, Wanted};
use crate::failure::Failure;
use crate::options::js_integer;
use crate::pool::Kind;
use crate::streams::Line;
use crate::volume::Volume;

/// Longest part of a secret.
const PART_MAX_BYTES: u32 = 64 << 10;

/// What is told about a vault.
#[napi(object)]
pub struct VaultStatus {
    /// What it is.
    #[napi(ts_type = "'absent' | 'locked' | 'unlocked' | 'damaged'")]
    pub state: String,
    /// When it was made, in milliseconds since 1970.
    pub created: Option<i64>,
    /// Whether its data is compressed before it is encrypted.
    pub compressed: Option<bool>,
    /// Memory of one try of a password, in KiB.
    pub memory_kib: i64,
    /// Passes over it.
    pub passes: i64,
    /// For how long nobody used it, in milliseconds, while it is unlocked.
    pub idle_ms: Option<i64>,
    /// Whether it gets a new data key: `idle` when not.
    #[napi(ts_type = "'idle' | 'running' | 'failed'")]
    pub rekey: String,
    /// Bytes of data that are sealed with it so far.
    pub rekeyed_bytes: i64,
    /// Why that could not go on; empty when it could.
    pub rekey_failure: String,
}

/// How a vault is made.
#[napi(object)]
pub struct VaultCreateOptions {
    /// Whether its data is compressed before it is encrypted.
    pub compressed: bool,
    /// A Unix socket from which its secret comes.
    pub socket: String,
}

impl From<verfs_engine::VaultStatus> for VaultStatus {
    fn from(status: verfs_engine::VaultStatus) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (rekey, rekeyed_bytes, rekey_failure) = match status.rekey {
            RekeyState::Idle => ("idle", 0, String::new()),
            RekeyState::Running(bytes) => ("running", bytes, String::new()),
            RekeyState::Failed(why) => ("failed", 0, why),
        };
        VaultStatus {
            state: match status.state {
                VaultState::Absent => "absent",
                VaultState::Locked => "locked",
                VaultState::Unlocked => "unlocked",
                VaultState::Damaged => "damaged",
            }
            .to_owned(),
            created: status.created.map(|time| time.seconds.saturating_mul(1000) + i64::from(time.nanos / 1_000_000)),
            compressed: status.compression.map(|compression| compression == VaultCompression::On),
            memory_kib: js_integer(status.memory_kib.into()),
            passes: js_integer(status.passes.into()),
            idle_ms: status.idle.map(millis),
            rekey: rekey.to_owned(),
            rekeyed_bytes: js_integer(rekeyed_bytes),
            rekey_failure,
        }
    }
}

/// The secrets that come from a socket.
fn secrets<const N: usize>(socket: &str, wanted: &Wanted<'_>) -> Result<[VaultSecret; N], Failure> {
    let mut line = Line::connect(Path::new(socket), wanted)?;
    let mut secrets = Vec::with_capacity(N);
    for _ in 0..N {
        let password = part(&mut line, socket)?;
        secrets.push(VaultSecret::new(password, part(&mut line, socket)?)?);
    }
    secrets.try_into().map_err(|_| Failure::usage("a secret is missing"))
}

fn part(line: &mut impl Read, socket: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::from(EngineError::Io { path: PathBuf::from(socket), detail: error.to_string() })
    };
    let mut length = [0; 4];
    line.read_exact(&mut length).map_err(failed)?;
    let length = u32::from_le_bytes(length);
    if length > PART_MAX_BYTES {
        return Err(Failure::usage(format!("a password or key file of {length} bytes: at most {PART_MAX_BYTES}")));
    }
    let mut part = vec![0; length as usize];
    line.read_exact(&mut part).map_err(failed)?;
    Ok(part)
}

impl Volume {
    /// Does something with the secrets that come from a socket, on a thread of its own.
    fn with_secrets<'env, const N: usize>(
        &self,
        env: &'env Env,
        name: &'static str,
        socket: String,
        signal: Option<Object<'_>>,
        run: impl FnOnce(&verfs_engine::Volume, &[VaultSecret; N]) -> Result<(), EngineError> + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move |wanted: &Wanted<'_>| Ok(run(&inner, &secrets(&socket, wanted)?)?);
        Call { name, place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }
}

/// The content of a new key file.
#[napi]
pub fn new_vault_key_file(env: &Env) -> napi::Result<String> {
    VaultSecret::new_key_file().map_err(|error| Failure::from(error).into_js(env))
}

#[napi]
impl Volume {
    /// What the vault is.
    #[napi]
    pub fn vault_status<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, VaultStatus>> {
        let inner = self.inner()?;
        let work = move || Ok(VaultStatus::from(inner.vault_status()?));
        Call { name: "vaultStatus", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }

    /// Makes a vault, which is locked then.
    #[napi]
    pub fn vault_create<'env>(
        &self,
        env: &'env Env,
        options: VaultCreateOptions,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let compression = if options.compressed { VaultCompression::On } else { VaultCompression::Off };
        let run =
            move |volume: &verfs_engine::Volume, [secret]: &[VaultSecret; 1]| volume.create_vault(secret, compression);
        self.with_secrets(env, "vaultCreate", options.socket, signal, run)
    }

    /// Opens the vault with the secret that comes from a socket.
    #[napi]
    pub fn vault_unlock<'env>(
        &self,
        env: &'env Env,
        socket: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        self.with_secrets(env, "vaultUnlock", socket, signal, |volume, [secret]| volume.unlock_vault(secret))
    }

    /// Whether the secret that comes from a socket opens the vault; opens nothing.
    #[napi]
    pub fn vault_check<'env>(
        &self,
        env: &'env Env,
        socket: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        self.with_secrets(env, "vaultCheck", socket, signal, |volume, [secret]| volume.check_vault_secret(secret))
    }

    /// Locks the vault. Operations under way may last for `grace_ms`.
    #[napi]
    pub fn vault_lock<'env>(
        &self,
        env: &'env Env,
        grace_ms: u32,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.lock_vault(Duration::from_millis(grace_ms.into()))?);
        Call { name: "vaultLock", place: Place::Apart, work, undo: drop }.begin(env, signal)
    }

    /// Writes the files in the open vault that were found damaged to a socket: path, pack and what is wrong of each, with
    /// a zero behind each of them. Names don't get into the memory of JavaScript, which can't be wiped.
    #[napi]
    pub fn vault_damaged<'env>(
        &self,
        env: &'env Env,
        socket: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move |wanted: &Wanted<'_>| {
            let mut line = Line::connect(Path::new(&socket), wanted)?;
            let parts = inner.vault_damaged()?.into_iter().flat_map(|file| [file.path, file.pack, file.detail]);
            let text: Vec<u8> = parts.flat_map(|part| [part.as_bytes(), &[0]].concat()).collect();
            let failed =
                |error: std::io::Error| EngineError::Io { path: PathBuf::from(&socket), detail: error.to_string() };
            Ok(line.write_all(&text).map_err(failed)?)
        };
        Call { name: "vaultDamaged", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// Gives the open vault a new data key, and begins to seal anew what it has.
    #[napi]
    pub fn vault_rekey<'env>(
        &self,
        env: &'env Env,
        socket: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        self.with_secrets(env, "vaultRekey", socket, signal, |volume, [secret]| volume.rekey_vault(secret))
    }

    /// Has the vault opened by the second of the secrets that come from a socket, instead of by the first.
    #[napi]
    pub fn vault_change<'env>(
        &self,
        env: &'env Env,
        socket: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        self.with_secrets(env, "vaultChange", socket, signal, |volume, [old, new]| volume.change_vault_secret(old, new))
    }
}
