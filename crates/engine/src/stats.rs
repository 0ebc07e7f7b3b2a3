//! What a volume tells about itself.

use std::path::PathBuf;
use std::time::Duration;

use verfs_base::Timestamp;
use verfs_chunker::ChunkerKind;
use verfs_fuse::{OperationStats, SessionStats};
use verfs_meta::EngineKind;
use verfs_vfs::DamagedFile;

use crate::{Overdue, TaskStatus};

/// What the superblock says, and who has the volume open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeInfo {
    /// Directory of the volume.
    pub path: PathBuf,
    /// Identity of the volume.
    pub uuid: String,
    /// Version of everything on disk.
    pub format_version: u32,
    /// The metadata engine.
    pub engine: EngineKind,
    /// The algorithm that cuts files into chunks.
    pub chunker: ChunkerKind,
    /// Smallest chunk, but for the last of a file.
    pub chunk_min_bytes: u32,
    /// Mean size of a chunk.
    pub chunk_mean_bytes: u32,
    /// Largest chunk.
    pub chunk_max_bytes: u32,
    /// When it was made.
    pub created: Timestamp,
    /// The process that has it open, if one does.
    pub holder_pid: Option<u32>,
}

/// Latency of one operation since the mount, in microseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct OpLatency {
    /// Its name, such as `lookup`.
    pub op: &'static str,
    /// How often it came.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Half of them took at most this.
    pub p50_us: f64,
    /// 99 of 100 took at most this.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// A file that could not be read whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Path from the volume's root.
    pub path: String,
    /// The pack concerned, where one is known.
    pub pack: String,
    /// What is wrong.
    pub detail: String,
}

impl Damage {
    /// What a tree whose root is at `root` knows of a file.
    pub(crate) fn of(root: &str, file: DamagedFile) -> Damage {
        Damage {
            path: format!("{root}{}", String::from_utf8_lossy(&file.path)),
            pack: file.pack.map_or_else(String::new, |pack| pack.to_string()),
            detail: file.detail,
        }
    }
}

/// State and counters of an open volume. Reading them scans nothing.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stats {
    /// Sizes of all files.
    pub logical_bytes: u64,
    /// All distinct chunks before compression.
    pub unique_bytes: u64,
    /// The same as stored.
    pub stored_bytes: u64,
    /// Everything with an inode that is no directory.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Chunks written that were there already, since the volume was created.
    pub dedup_hits: u64,
    /// Chunks written that were new, since the volume was created.
    pub dedup_misses: u64,
    /// Chunk reads answered from memory.
    pub chunk_cache_hits: u64,
    /// Chunk reads that went to a pack.
    pub chunk_cache_misses: u64,
    /// Bytes of files that the kernel was given since the mount; what its page cache answers never comes here.
    pub read_bytes: u64,
    /// Bytes of files that the kernel gave since the mount.
    pub written_bytes: u64,
    /// Uncommitted data and records in memory.
    pub dirty_bytes: u64,
    /// Requests that wait for a thread, and chunks in the pipeline.
    pub queue_depth: u64,
    /// Groups committed since the volume was opened.
    pub groups_committed: u64,
    /// Intent log frames written since the volume was opened.
    pub log_frames: u64,
    /// The metadata engine on disk.
    pub meta_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes in packs that nothing needs any more.
    pub dead_bytes: u64,
    /// Bytes that garbage collection gave back to the disk since the volume was opened.
    pub gc_reclaimed_bytes: u64,
    /// What may still be written.
    pub free_bytes: u64,
    /// Size of the disk.
    pub total_bytes: u64,
    /// Resident memory of this process.
    pub memory_rss_bytes: u64,
    /// One for each operation that came.
    pub op_latencies: Vec<OpLatency>,
    /// Files found damaged since the volume was opened.
    pub damaged: Vec<Damage>,
    /// What works in the background.
    pub tasks: Vec<TaskStatus>,
    /// Requests that were answered EIO for the store did not answer, and wait for it still.
    pub overdue: Vec<Overdue>,
    /// Requests that were answered so since the mount.
    pub refused_requests: u64,
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub(crate) fn latencies(stats: &SessionStats) -> Vec<OpLatency> {
    stats.operations.iter().map(latency).collect()
}

fn latency(stats: &OperationStats) -> OpLatency {
    OpLatency {
        op: stats.operation.name(),
        count: stats.count,
        mean_us: micros(stats.mean),
        p50_us: micros(stats.p50),
        p99_us: micros(stats.p99),
        max_us: micros(stats.max),
    }
}

/// Resident memory of this process, 0 where it can't be read.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
