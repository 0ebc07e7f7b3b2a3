//! What the engine tells about a volume.

use napi_derive::napi;
use verfs_engine as engine;

use crate::options::{js_integer, js_time};

/// What a volume's superblock says. Nothing in it changes in the life of a volume, but `holderPid`.
#[napi(object)]
pub struct VolumeInfo {
    /// Directory of the volume.
    pub path: String,
    /// Random, made with the volume.
    pub uuid: String,
    /// Version of everything on disk.
    pub format_version: u32,
    /// The metadata engine.
    pub engine: String,
    /// The algorithm that cuts files into chunks.
    pub chunker: String,
    /// No chunk is smaller, the last of a file excepted.
    pub chunk_min_bytes: u32,
    /// Mean size of a chunk.
    pub chunk_mean_bytes: u32,
    /// No chunk is larger.
    pub chunk_max_bytes: u32,
    /// When it was made, in milliseconds since 1970.
    pub created: f64,
    /// The process that has the volume open, if any.
    pub holder_pid: Option<u32>,
}

/// Latency of one kind of operation, since the volume was opened; times in microseconds.
#[napi(object)]
pub struct OpLatency {
    /// The operation, such as `lookup`.
    pub op: String,
    /// How many there were.
    pub count: i64,
    /// Their mean.
    pub mean_us: f64,
    /// Half of them were quicker.
    pub p50_us: f64,
    /// 99 of 100 were quicker.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
}

/// A file with damaged data.
#[napi(object)]
pub struct Damage {
    /// The file, from the root of the volume.
    pub path: String,
    /// The pack that holds the damaged record.
    pub pack: String,
    /// What is wrong.
    pub detail: String,
}

/// Something that works in the background.
#[napi(object)]
pub struct TaskStatus {
    /// Which.
    pub name: String,
    /// What it does: `stalled` goes on by itself, `failed` does not.
    #[napi(ts_type = "'idle' | 'working' | 'stalled' | 'failed'")]
    pub state: String,
    /// How long it has been at what it is at, in milliseconds; 0 where that says nothing.
    pub busy_ms: i64,
    /// How often it was begun anew after a defect.
    pub restarts: i64,
    /// In words; may be empty.
    pub detail: String,
}

/// Requests of one kind that were answered EIO since the store did not answer in time, and that wait for it still.
#[napi(object)]
pub struct Overdue {
    /// Where they came: the tree of the mount, its snapshots, or those of the vault.
    #[napi(ts_type = "'tree' | 'snapshots' | 'vault' | 'vault snapshots'")]
    pub session: String,
    /// The operation, such as `fsync`.
    pub op: String,
    /// How many.
    pub count: i64,
    /// How long the oldest waits, in milliseconds.
    pub longest_ms: i64,
}

/// State and counters of an open volume.
#[napi(object)]
pub struct Stats {
    /// Sum of the sizes of all files.
    pub logical_bytes: i64,
    /// Bytes of all distinct chunks, before compression.
    pub unique_bytes: i64,
    /// Bytes of all distinct chunks, as they are stored.
    pub stored_bytes: i64,
    /// Files, symbolic links and special files.
    pub files: i64,
    /// Directories.
    pub directories: i64,
    /// Chunks that were stored already when they were written, since the volume was opened.
    pub dedup_hits: i64,
    /// Chunks that were new when they were written, since the volume was opened.
    pub dedup_misses: i64,
    /// Reads of chunks that the cache answered.
    pub chunk_cache_hits: i64,
    /// Reads of chunks that went to a pack.
    pub chunk_cache_misses: i64,
    /// Bytes of files that the kernel was given since the mount; what its page cache answers is not among them.
    pub read_bytes: i64,
    /// Bytes of files that the kernel gave since the mount.
    pub written_bytes: i64,
    /// File data that waits to be written.
    pub dirty_bytes: i64,
    /// Requests that wait for a thread.
    pub queue_depth: i64,
    /// Transaction groups committed since the volume was opened.
    pub groups_committed: i64,
    /// Frames written to the intent log since the volume was opened.
    pub log_frames: i64,
    /// Size of the metadata engine on disk.
    pub meta_bytes: i64,
    /// Packs on disk.
    pub packs: i64,
    /// Bytes in packs that nothing needs any more.
    pub dead_bytes: i64,
    /// Bytes that garbage collection gave back to the disk since the volume was opened.
    pub gc_reclaimed_bytes: i64,
    /// Bytes that may still be written.
    pub free_bytes: i64,
    /// Size of the disk that holds the volume.
    pub total_bytes: i64,
    /// Resident memory of the process.
    pub memory_rss_bytes: i64,
    /// One entry for each kind of operation that occurred.
    pub op_latencies: Vec<OpLatency>,
    /// Files with damaged data that were noticed.
    pub damaged: Vec<Damage>,
    /// What works in the background.
    pub tasks: Vec<TaskStatus>,
    /// Requests that were answered EIO since the store did not answer in time, and that wait for it still.
    pub overdue: Vec<Overdue>,
    /// Requests that were answered so since the mount.
    pub refused_requests: i64,
}

impl From<engine::VolumeInfo> for VolumeInfo {
    fn from(info: engine::VolumeInfo) -> Self {
        Self {
            path: info.path.display().to_string(),
            uuid: info.uuid,
            format_version: info.format_version,
            engine: info.engine.name().to_owned(),
            chunker: info.chunker.name().to_owned(),
            chunk_min_bytes: info.chunk_min_bytes,
            chunk_mean_bytes: info.chunk_mean_bytes,
            chunk_max_bytes: info.chunk_max_bytes,
            created: js_time(info.created),
            holder_pid: info.holder_pid,
        }
    }
}

impl From<engine::Stats> for Stats {
    fn from(stats: engine::Stats) -> Self {
        Self {
            logical_bytes: js_integer(stats.logical_bytes),
            unique_bytes: js_integer(stats.unique_bytes),
            stored_bytes: js_integer(stats.stored_bytes),
            files: js_integer(stats.files),
            directories: js_integer(stats.directories),
            dedup_hits: js_integer(stats.dedup_hits),
            dedup_misses: js_integer(stats.dedup_misses),
            chunk_cache_hits: js_integer(stats.chunk_cache_hits),
            chunk_cache_misses: js_integer(stats.chunk_cache_misses),
            read_bytes: js_integer(stats.read_bytes),
            written_bytes: js_integer(stats.written_bytes),
            dirty_bytes: js_integer(stats.dirty_bytes),
            queue_depth: js_integer(stats.queue_depth),
            groups_committed: js_integer(stats.groups_committed),
            log_frames: js_integer(stats.log_frames),
            meta_bytes: js_integer(stats.meta_bytes),
            packs: js_integer(stats.packs),
            dead_bytes: js_integer(stats.dead_bytes),
            gc_reclaimed_bytes: js_integer(stats.gc_reclaimed_bytes),
            free_bytes: js_integer(stats.free_bytes),
            total_bytes: js_integer(stats.total_bytes),
            memory_rss_bytes: js_integer(stats.memory_rss_bytes),
            op_latencies: stats.op_latencies.into_iter().map(OpLatency::from).collect(),
            damaged: stats.damaged.into_iter().map(Damage::from).collect(),
            tasks: stats.tasks.into_iter().map(TaskStatus::from).collect(),
            overdue: stats.overdue.into_iter().map(Overdue::from).collect(),
            refused_requests: js_integer(stats.refused_requests),
        }
    }
}

impl From<engine::OpLatency> for OpLatency {
    fn from(latency: engine::OpLatency) -> Self {
        Self {
            op: latency.op.to_string(),
            count: js_integer(latency.count),
            mean_us: latency.mean_us,
            p50_us: latency.p50_us,
            p99_us: latency.p99_us,
            max_us: latency.max_us,
        }
    }
}

fn millis(time: std::time::Duration) -> i64 {
    js_integer(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl From<engine::TaskStatus> for TaskStatus {
    fn from(task: engine::TaskStatus) -> Self {
        Self {
            name: task.name.to_owned(),
            state: task.state.name().to_owned(),
            busy_ms: millis(task.busy),
            restarts: js_integer(task.restarts),
            detail: task.detail,
        }
    }
}

impl From<engine::Overdue> for Overdue {
    fn from(overdue: engine::Overdue) -> Self {
        Self {
            session: overdue.session.name().to_owned(),
            op: overdue.op.to_owned(),
            count: js_integer(overdue.count),
            longest_ms: millis(overdue.longest),
        }
    }
}

impl From<engine::Damage> for Damage {
    fn from(damage: engine::Damage) -> Self {
        Self { path: damage.path, pack: damage.pack, detail: damage.detail }
    }
}
