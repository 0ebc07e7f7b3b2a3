//! What each operation of a volume takes without a kernel in between: time, and processor time of the caller and of
//! everybody behind him.
//!
//! `cargo run --release --workspace --example operations -- DIRECTORY [FILES] [MEGABYTES]`: makes a volume in a new
//! directory. The second rate includes the commit of what was done; latencies are the caller's; the memory is the most
//! that the process had meanwhile. Settings follow as NAME=NUMBER: `memtable`, `blocks`,
//! `dirty` and `chunks` in MB, `inodes`, `level`.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use verfs_base::{Ino, Timestamp};
use verfs_engine::{CreateOptions, Memory, OpenOptions, Volume};
use verfs_vfs::{Context, Listing, NodeKind, RenameMode, SetAttr, SetTime, SyncScope, Vfs};

#[global_allocator]
static ALLOCATOR: Memory = Memory;

const FILE_BYTES: usize = 3000;
const ROOT: Context = Context::ROOT;
const APPENDS: u64 = 2000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Noise, and every other 64 bytes text.
    fn fill(&mut self, bytes: &mut [u8]) {
        for (number, part) in bytes.chunks_mut(64).enumerate() {
            for word in part.chunks_mut(8) {
                let value = if number % 2 == 0 { self.next().to_le_bytes() } else { *b"the text" };
                word.copy_from_slice(&value[..word.len()]);
            }
        }
    }
}

/// Most memory that the process had since the last call, in megabytes.
fn peak_megabytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    std::fs::write("/proc/self/clear_refs", "5")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
}

/// Runs `count` operations and a sync, and prints what they took.
fn phase(what: &str, volume: &Volume, count: u64, mut operation: impl FnMut(u64) -> Outcome<()>) -> Outcome<()> {
    let mut latencies = Vec::with_capacity(count as usize);
    let (own, all, begun) = (cpu(ClockId::ThreadCPUTime), cpu(ClockId::ProcessCPUTime), Instant::now());
    for number in 0..count {
        let before = Instant::now();
        operation(number)?;
        latencies.push(before.elapsed());
    }
    let called = begun.elapsed();
    volume.sync()?;
    let (wall, own, all) = (begun.elapsed(), cpu(ClockId::ThreadCPUTime) - own, cpu(ClockId::ProcessCPUTime) - all);
    latencies.sort_unstable();
    let each = |time: Duration| time.as_nanos() as f64 / 1000.0 / count as f64;
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000].as_nanos() as f64 / 1000.0;
    println!(
        "{what:<34}{:>9.0}/s called {:>9.0}/s done  caller {:>7.2} us  others {:>7.2} us  p50 {:>6.1}  p99 {:>7.1}  p99.9 {:>8.1}  max {:>9.1} us  {:>4} MB",
        count as f64 / called.as_secs_f64(),
        count as f64 / wall.as_secs_f64(),
        each(own),
        each(all.saturating_sub(own)),
        at(500),
        at(990),
        at(999),
        at(1000),
        peak_megabytes()?,
    );
    Ok(())
}

fn names(vfs: &Vfs, volume: &Volume, files: u64, noise: &mut Noise) -> Outcome<()> {
    let dir = vfs.mkdir(&ROOT, Ino::ROOT, b"names", 0o755)?.ino;
    let name = |number: u64| format!("file-{number:06}");
    let mut inos = Vec::new();
    let time = SetTime::At(Timestamp { seconds: 1_700_000_000, nanos: 0 });
    phase("create", volume, files, |number| {
        vfs.lookup(&ROOT, dir, name(number).as_bytes()).map_or(Ok(()), |_| Err("it is there"))?;
        inos.push(vfs.mknod(&ROOT, dir, name(number).as_bytes(), NodeKind::Regular, 0o644)?.ino);
        Ok(())
    })?;
    phase("setattr (mode, then times)", volume, files * 2, |number| {
        let change = match number % 2 {
            0 => SetAttr { mode: Some(0o600), ..SetAttr::default() },
            _ => SetAttr { atime: Some(time), mtime: Some(time), ..SetAttr::default() },
        };
        vfs.setattr(&ROOT, inos[(number / 2) as usize], &change)?;
        Ok(())
    })?;
    phase("write 3000 bytes", volume, files, |number| {
        let mut bytes = [0; FILE_BYTES];
        noise.fill(&mut bytes);
        vfs.write(&ROOT, inos[number as usize], 0, &bytes)?;
        Ok(())
    })?;
    phase("lookup and getattr", volume, files, |number| {
        let found = vfs.lookup(&ROOT, dir, name(number).as_bytes())?;
        vfs.getattr(&ROOT, found.ino)?;
        Ok(())
    })?;
    phase("read 3000 bytes", volume, files, |number| {
        let number = number.wrapping_mul(7919) % files;
        vfs.read(&ROOT, inos[number as usize], 0, FILE_BYTES as u32)?;
        Ok(())
    })?;
    phase("rename", volume, files, |number| {
        let to = format!("renamed-{number:06}");
        vfs.rename(&ROOT, dir, name(number).as_bytes(), dir, to.as_bytes(), RenameMode::Replace)?;
        Ok(())
    })?;
    let mut cookie = 0;
    let mut listed = 0;
    phase("readdir-plus of 100", volume, files / 100, |_| {
        let entries = vfs.readdir(&ROOT, dir, cookie, 100, Listing::Plus)?;
        listed += entries.len();
        cookie = entries.last().map_or(0, |entry| entry.cookie);
        Ok(())
    })?;
    phase("unlink", volume, files, |number| {
        vfs.unlink(&ROOT, dir, format!("renamed-{number:06}").as_bytes())?;
        Ok(())
    })?;
    phase("as tar: create, write, 3 setattr", volume, files, |number| {
        let name = name(number);
        let made = vfs.mknod(&ROOT, dir, name.as_bytes(), NodeKind::Regular, 0o600)?;
        let mut bytes = [0; FILE_BYTES];
        noise.fill(&mut bytes);
        vfs.write(&ROOT, made.ino, 0, &bytes)?;
        vfs.setattr(&ROOT, made.ino, &SetAttr { atime: Some(time), mtime: Some(time), ..SetAttr::default() })?;
        vfs.setattr(&ROOT, made.ino, &SetAttr { uid: Some(0), gid: Some(0), ..SetAttr::default() })?;
        vfs.setattr(&ROOT, made.ino, &SetAttr { mode: Some(0o644), ..SetAttr::default() })?;
        Ok(())
    })?;
    phase("as rm -r: unlink with data", volume, files, |number| {
        vfs.unlink(&ROOT, dir, name(number).as_bytes())?;
        Ok(())
    })?;
    // As a kernel sends them: 20,000 a second.
    let begun = Instant::now();
    phase("create, 20k a second", volume, files, |number| {
        let due = Duration::from_micros(50 * number);
        while begun.elapsed() < due {
            std::thread::sleep(Duration::from_micros(20));
        }
        vfs.mknod(&ROOT, dir, format!("paced-{number:06}").as_bytes(), NodeKind::Regular, 0o644)?;
        Ok(())
    })
}

fn syncs(vfs: &Vfs, volume: &Volume) -> Outcome<()> {
    let file = |name: &str| vfs.mknod(&ROOT, Ino::ROOT, name.as_bytes(), NodeKind::Regular, 0o644);
    let block = [7; 4096];
    let one = file("log")?.ino;
    let begun = Instant::now();
    phase("4 KiB append and fsync", volume, APPENDS, |number| {
        vfs.write(&ROOT, one, number * 4096, &block)?;
        vfs.fsync(&ROOT, one, SyncScope::Data)?;
        Ok(())
    })?;
    let single = APPENDS as f64 / begun.elapsed().as_secs_f64();
    let done = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..16 {
            let done = &done;
            scope.spawn(move || -> Result<(), verfs_vfs::VfsError> {
                let ino =
                    vfs.mknod(&ROOT, Ino::ROOT, format!("log-{client}").as_bytes(), NodeKind::Regular, 0o644)?.ino;
                for number in 0..APPENDS / 2 {
                    vfs.write(&ROOT, ino, number * 4096, &block)?;
                    vfs.fsync(&ROOT, ino, SyncScope::Data)?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
    });
    let rate = done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    println!("{:<34}{rate:>9.0}/s, {:.1} times that of one client", "the same, 16 clients", rate / single);
    Ok(())
}

fn data(vfs: &Vfs, volume: &Volume, megabytes: u64, noise: &mut Noise) -> Outcome<()> {
    let mut bytes = vec![0; 1 << 20];
    let file = |name: &str| vfs.mknod(&ROOT, Ino::ROOT, name.as_bytes(), NodeKind::Regular, 0o644);
    let first = file("first")?.ino;
    let seed = noise.0;
    phase("write 1 MiB, half random", volume, megabytes, |number| {
        noise.fill(&mut bytes);
        vfs.write(&ROOT, first, number << 20, &bytes)?;
        Ok(())
    })?;
    let stats = volume.stats();
    println!("stored / written: {:.3}", stats.stored_bytes as f64 / (megabytes << 20) as f64);
    let second = file("second")?.ino;
    let mut again = Noise(seed);
    phase("write the same again", volume, megabytes, |number| {
        again.fill(&mut bytes);
        vfs.write(&ROOT, second, number << 20, &bytes)?;
        Ok(())
    })?;
    phase("filling the buffer alone", volume, megabytes, |_| {
        again.fill(&mut bytes);
        Ok(())
    })?;
    phase("random 4 KiB overwrites", volume, megabytes * 32, |_| {
        let mut block = [0; 4096];
        noise.fill(&mut block);
        vfs.write(&ROOT, first, noise.next() % (megabytes << 8) * 4096, &block)?;
        Ok(())
    })?;
    phase("read 1 MiB, in order", volume, megabytes, |number| {
        vfs.read(&ROOT, second, number << 20, 1 << 20)?;
        Ok(())
    })?;
    phase("read 1 MiB, of the overwritten", volume, megabytes, |number| {
        vfs.read(&ROOT, first, number << 20, 1 << 20)?;
        Ok(())
    })?;
    phase("read 4 KiB, at random", volume, megabytes * 16, |_| {
        vfs.read(&ROOT, second, noise.next() % (megabytes << 8) * 4096, 4096)?;
        Ok(())
    })
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name a directory that does not exist")?);
    let files: u64 = arguments.next().map_or(Ok(100_000), |files| files.parse())?;
    let megabytes: u64 = arguments.next().map_or(Ok(512), |megabytes| megabytes.parse())?;
    let mut options = OpenOptions::default();
    for setting in arguments {
        match setting.split_once('=').ok_or("a setting is NAME=NUMBER")? {
            ("memtable", megabytes) => options.memtable_bytes = megabytes.parse::<u64>()? << 20,
            ("blocks", megabytes) => options.meta_block_cache_bytes = megabytes.parse::<u64>()? << 20,
            ("dirty", megabytes) => options.dirty_limit_bytes = megabytes.parse::<u64>()? << 20,
            ("chunks", megabytes) => options.chunk_cache_bytes = megabytes.parse::<u64>()? << 20,
            ("inodes", entries) => options.inode_cache_entries = entries.parse()?,
            ("level", level) => options.compression_level = level.parse()?,
            (other, _) => return Err(format!("there is no setting {other}").into()),
        }
    }
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    Volume::create(&directory, &CreateOptions::default())?;
    let volume = Volume::open(&directory, &options)?;
    let vfs = volume.vfs();
    if files > 0 {
        names(vfs, &volume, files, &mut noise)?;
        syncs(vfs, &volume)?;
    }
    if megabytes > 0 {
        data(vfs, &volume, megabytes, &mut noise)?;
    }
    volume.close()?;
    Ok(())
}
