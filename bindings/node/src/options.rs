//! Options as JavaScript gives them: everything may be left out, and the engine's defaults hold then.

use std::fmt::Display;
use std::str::FromStr;

use napi_derive::napi;
use verfs_engine as engine;

use crate::failure::Failure;

/// How a new volume is made.
#[napi(object)]
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// The metadata engine.
    #[napi(ts_type = "'surrealkv' | 'fjall'")]
    pub engine: Option<String>,
    /// The algorithm that cuts files into chunks.
    #[napi(ts_type = "'mincdc' | 'fastcdc' | 'ultracdc'")]
    pub chunker: Option<String>,
    /// Mean size of a chunk, in bytes.
    pub chunk_mean_bytes: Option<u32>,
}

/// The limits within which a volume is served.
#[napi(object)]
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// Changed blocks of 4 KiB after which a transaction group closes.
    pub group_blocks: Option<u32>,
    /// Time after which a transaction group closes, in milliseconds.
    pub group_interval_ms: Option<u32>,
    /// File data that may wait to be written, in bytes.
    pub dirty_limit_bytes: Option<i64>,
    /// Most data of one fsync in the intent log, in bytes.
    pub log_inline_bytes: Option<i64>,
    /// Cache of decompressed chunks, in bytes.
    pub chunk_cache_bytes: Option<i64>,
    /// Cache of pack indexes, in bytes.
    pub pack_index_cache_bytes: Option<i64>,
    /// Block cache of the metadata engine, in bytes.
    pub meta_block_cache_bytes: Option<i64>,
    /// One memtable of the metadata engine, in bytes.
    pub memtable_bytes: Option<i64>,
    /// Inodes kept in memory.
    pub inode_cache_entries: Option<u32>,
    /// zstd level of new chunks.
    pub compression_level: Option<i32>,
    /// Threads that compress and decompress; 0 is one for each core.
    pub compress_threads: Option<u32>,
    /// Size at which a pack is sealed, in bytes.
    pub pack_target_bytes: Option<i64>,
    /// Garbage is collected without being asked for.
    pub gc_background: Option<bool>,
    /// Percentage of a pack that has to be dead for it to be collected in the background.
    pub gc_dead_percent: Option<u32>,
    /// Bytes that garbage collection copies in a second while the volume is in use.
    pub gc_busy_rate_bytes: Option<i64>,
    /// Bytes that a scrub reads in a second while the volume is in use.
    pub scrub_busy_rate_bytes: Option<i64>,
    /// Nothing on the volume is changed.
    pub read_only: Option<bool>,
    /// What is left of a damaged volume is shown, and nothing on it is changed.
    pub read_only_recovery: Option<bool>,
}

/// How a volume is mounted.
#[napi(object)]
#[derive(Debug, Default)]
pub struct MountOptions {
    /// Other users may enter the mount.
    pub allow_other: Option<bool>,
    /// Threads for requests that wait for the disk.
    pub io_threads: Option<u32>,
    /// How long the dispatcher polls before it sleeps, in microseconds.
    pub poll_us: Option<u32>,
    /// How long a request may wait for the store before it is answered EIO, in milliseconds; 0 is for ever.
    pub deadline_ms: Option<u32>,
    /// Further options, as after `-o`.
    pub extra: Option<Vec<String>>,
}

/// The defaults of every option.
#[napi(object)]
pub struct DefaultOptions {
    /// Of new volumes.
    pub create: CreateOptions,
    /// Of open volumes.
    pub open: OpenOptions,
    /// Of mounts.
    pub mount: MountOptions,
}

/// The engine's defaults.
#[napi]
pub fn default_options() -> DefaultOptions {
    let create = engine::CreateOptions::default();
    let open = engine::OpenOptions::default();
    let mount = engine::MountOptions::default();
    DefaultOptions {
        create: CreateOptions {
            engine: Some(create.engine.name().to_owned()),
            chunker: Some(create.chunker.name().to_owned()),
            chunk_mean_bytes: Some(create.chunk_mean_bytes),
        },
        open: OpenOptions {
            group_blocks: Some(open.group_blocks),
            group_interval_ms: Some(open.group_interval_ms),
            dirty_limit_bytes: Some(js_integer(open.dirty_limit_bytes)),
            log_inline_bytes: Some(js_integer(open.log_inline_bytes)),
            chunk_cache_bytes: Some(js_integer(open.chunk_cache_bytes)),
            pack_index_cache_bytes: Some(js_integer(open.pack_index_cache_bytes)),
            meta_block_cache_bytes: Some(js_integer(open.meta_block_cache_bytes)),
            memtable_bytes: Some(js_integer(open.memtable_bytes)),
            inode_cache_entries: Some(open.inode_cache_entries),
            compression_level: Some(open.compression_level),
            compress_threads: Some(open.compress_threads),
            pack_target_bytes: Some(js_integer(open.pack_target_bytes)),
            gc_background: Some(match open.gc_background {
                engine::Background::On => true,
                engine::Background::Off => false,
            }),
            gc_dead_percent: Some(u32::from(open.gc_dead_percent)),
            gc_busy_rate_bytes: Some(js_integer(open.gc_busy_rate_bytes)),
            scrub_busy_rate_bytes: Some(js_integer(open.scrub_busy_rate_bytes)),
            read_only_recovery: Some(match open.recovery {
                engine::Recovery::ReadOnly => true,
                engine::Recovery::No => false,
            }),
            read_only: Some(match open.read_only {
                engine::ReadOnly::Yes => true,
                engine::ReadOnly::No => false,
            }),
        },
        mount: MountOptions {
            allow_other: Some(match mount.allow_other {
                engine::AllowOther::Yes => true,
                engine::AllowOther::No => false,
            }),
            io_threads: Some(mount.io_threads),
            poll_us: Some(mount.poll_us),
            deadline_ms: Some(mount.deadline_ms),
            extra: Some(mount.extra),
        },
    }
}

/// A count or a number of bytes as a JavaScript number: exact up to 2^53 - 1, and that for more.
pub fn js_integer(value: u64) -> i64 {
    const SAFE_MAX: u64 = (1 << 53) - 1;
    i64::try_from(value.min(SAFE_MAX)).unwrap_or(i64::MAX)
}

/// A time in milliseconds since 1970.
#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in f64 for 280,000 years")]
pub fn js_time(time: engine::Timestamp) -> f64 {
    time.seconds as f64 * 1000.0 + f64::from(time.nanos / 1_000_000)
}

fn parsed<T: FromStr>(name: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| wrong(name, text))
}

fn bytes(name: &str, value: i64) -> Result<u64, Failure> {
    u64::try_from(value).map_err(|_| wrong(name, value))
}

fn wrong(name: &str, value: impl Display) -> Failure {
    Failure::usage(format!("{name} cannot be {value}. See the types of the package."))
}

impl CreateOptions {
    /// The engine's form.
    pub fn into_engine(self) -> Result<engine::CreateOptions, Failure> {
        let mut options = engine::CreateOptions::default();
        if let Some(text) = self.engine {
            options.engine = parsed("engine", &text)?;
        }
        if let Some(text) = self.chunker {
            options.chunker = parsed("chunker", &text)?;
        }
        options.chunk_mean_bytes = self.chunk_mean_bytes.unwrap_or(options.chunk_mean_bytes);
        Ok(options)
    }
}

impl OpenOptions {
    /// The engine's form.
    pub fn into_engine(self) -> Result<engine::OpenOptions, Failure> {
        let defaults = engine::OpenOptions::default();
        let or = |name, given: Option<i64>, default| given.map_or(Ok(default), |value| bytes(name, value));
        Ok(engine::OpenOptions {
            group_blocks: self.group_blocks.unwrap_or(defaults.group_blocks),
            group_interval_ms: self.group_interval_ms.unwrap_or(defaults.group_interval_ms),
            dirty_limit_bytes: or("dirtyLimitBytes", self.dirty_limit_bytes, defaults.dirty_limit_bytes)?,
            log_inline_bytes: or("logInlineBytes", self.log_inline_bytes, defaults.log_inline_bytes)?,
            chunk_cache_bytes: or("chunkCacheBytes", self.chunk_cache_bytes, defaults.chunk_cache_bytes)?,
            pack_index_cache_bytes: or(
                "packIndexCacheBytes",
                self.pack_index_cache_bytes,
                defaults.pack_index_cache_bytes,
            )?,
            meta_block_cache_bytes: or(
                "metaBlockCacheBytes",
                self.meta_block_cache_bytes,
                defaults.meta_block_cache_bytes,
            )?,
            memtable_bytes: or("memtableBytes", self.memtable_bytes, defaults.memtable_bytes)?,
            inode_cache_entries: self.inode_cache_entries.unwrap_or(defaults.inode_cache_entries),
            compression_level: self.compression_level.unwrap_or(defaults.compression_level),
            compress_threads: self.compress_threads.unwrap_or(defaults.compress_threads),
            pack_target_bytes: or("packTargetBytes", self.pack_target_bytes, defaults.pack_target_bytes)?,
            gc_background: match self.gc_background {
                Some(true) => engine::Background::On,
                Some(false) => engine::Background::Off,
                None => defaults.gc_background,
            },
            gc_dead_percent: match self.gc_dead_percent {
                Some(percent) => u8::try_from(percent).map_err(|_| wrong("gcDeadPercent", percent))?,
                None => defaults.gc_dead_percent,
            },
            gc_busy_rate_bytes: or("gcBusyRateBytes", self.gc_busy_rate_bytes, defaults.gc_busy_rate_bytes)?,
            scrub_busy_rate_bytes: or(
                "scrubBusyRateBytes",
                self.scrub_busy_rate_bytes,
                defaults.scrub_busy_rate_bytes,
            )?,
            recovery: match self.read_only_recovery {
                Some(true) => engine::Recovery::ReadOnly,
                Some(false) => engine::Recovery::No,
                None => defaults.recovery,
            },
            read_only: match self.read_only {
                Some(true) => engine::ReadOnly::Yes,
                Some(false) => engine::ReadOnly::No,
                None => defaults.read_only,
            },
        })
    }
}

impl MountOptions {
    /// The engine's form.
    pub fn into_engine(self) -> engine::MountOptions {
        let defaults = engine::MountOptions::default();
        engine::MountOptions {
            allow_other: match self.allow_other {
                Some(true) => engine::AllowOther::Yes,
                Some(false) => engine::AllowOther::No,
                None => defaults.allow_other,
            },
            io_threads: self.io_threads.unwrap_or(defaults.io_threads),
            poll_us: self.poll_us.unwrap_or(defaults.poll_us),
            deadline_ms: self.deadline_ms.unwrap_or(defaults.deadline_ms),
            // It comes with `extra`.
            snapshots: defaults.snapshots,
            extra: self.extra.unwrap_or(defaults.extra),
        }
    }
}
