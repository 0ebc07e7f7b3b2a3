//! Whether what a volume does costs the same however many files it has.
//!
//! `cargo run --release --workspace --example scale -- DIRECTORY [FILES…]`: makes a volume in a new directory, grows it to
//! each number of files (10,000, 100,000 and 1,000,000 unless others are given), and times the same work at each size:
//! creates, stats, reads and unlinks spread over all files, snapshots, and opening the volume.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use verfs_base::Ino;
use verfs_engine::{CreateOptions, Memory, OpenOptions, Volume};
use verfs_vfs::{Context, NodeKind};

#[global_allocator]
static ALLOCATOR: Memory = Memory;

const ROOT: Context = Context::ROOT;
const DIRECTORY_FILES: u64 = 1000;
const FILE_BYTES: usize = 200;
/// Operations of each sort that are timed at a size.
const TIMED: u64 = 20_000;
const SNAPSHOTS: u32 = 21;
const OPENS: usize = 5;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Files by number, in directories of a thousand.
struct Tree {
    volume: Arc<Volume>,
    directories: Vec<Ino>,
    files: u64,
}

fn name(number: u64) -> String {
    format!("file-{number:07}")
}

/// A number below `below`, the same in each run.
fn pick(number: u64, below: u64) -> u64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % below
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

impl Tree {
    fn add(&mut self) -> Outcome<()> {
        let number = self.files;
        let vfs = self.volume.vfs();
        if self.directories.len() as u64 == number / DIRECTORY_FILES {
            let directory = format!("directory-{}", number / DIRECTORY_FILES);
            self.directories.push(vfs.mkdir(&ROOT, Ino::ROOT, directory.as_bytes(), 0o755)?.ino);
        }
        let parent = self.directories[(number / DIRECTORY_FILES) as usize];
        let made = vfs.mknod(&ROOT, parent, name(number).as_bytes(), NodeKind::Regular, 0o644)?;
        vfs.write(&ROOT, made.ino, 0, &[number as u8; FILE_BYTES])?;
        self.files += 1;
        Ok(())
    }

    fn parent(&self, number: u64) -> Ino {
        self.directories[(number / DIRECTORY_FILES) as usize]
    }

    /// Operations a second, what they changed being committed.
    fn rate(&mut self, count: u64, mut operation: impl FnMut(&mut Tree, u64) -> Outcome<()>) -> Outcome<f64> {
        self.volume.sync()?;
        let begun = Instant::now();
        for number in 0..count {
            operation(self, number)?;
        }
        self.volume.sync()?;
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }

    fn open(&mut self, directory: &Path) -> Outcome<Duration> {
        self.volume.close()?;
        let begun = Instant::now();
        self.volume = Volume::open(directory, &OpenOptions::default())?;
        self.volume.vfs().getattr(&ROOT, Ino::ROOT)?;
        Ok(begun.elapsed())
    }

    fn snapshot(&self, number: u32) -> Outcome<Duration> {
        let vfs = self.volume.vfs();
        let target = vfs.lookup(&ROOT, self.parent(0), name(1).as_bytes())?.ino;
        vfs.write(&ROOT, target, 0, &number.to_le_bytes())?;
        let name = format!("snapshot-{}-{number}", self.files);
        let begun = Instant::now();
        vfs.create_snapshot(name.as_bytes(), b"")?;
        Ok(begun.elapsed())
    }

    fn delete_snapshots(&self) -> Outcome<()> {
        for number in 0..SNAPSHOTS {
            self.volume.vfs().delete_snapshot(format!("snapshot-{}-{number}", self.files).as_bytes())?;
        }
        Ok(self.volume.sync()?)
    }
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name a directory that does not exist")?);
    let mut sizes = arguments.map(|size| size.parse::<u64>()).collect::<Result<Vec<_>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    Volume::create(&directory, &CreateOptions::default())?;
    let volume = Volume::open(&directory, &OpenOptions::default())?;
    let mut tree = Tree { volume, directories: Vec::new(), files: 0 };
    println!("   files  create/s    stat/s    read/s  unlink/s   snapshot ms   open ms");
    for size in sizes {
        while tree.files < size {
            tree.add()?;
        }
        tree.volume.sync()?;
        let opens = (0..OPENS).map(|_| tree.open(&directory)).collect::<Outcome<Vec<_>>>()?;
        let stats = tree.rate(TIMED, |tree, number| {
            let number = pick(number, tree.files);
            tree.volume.vfs().lookup(&ROOT, tree.parent(number), name(number).as_bytes())?;
            Ok(())
        })?;
        let reads = tree.rate(TIMED, |tree, number| {
            let number = pick(number + TIMED, tree.files);
            let found = tree.volume.vfs().lookup(&ROOT, tree.parent(number), name(number).as_bytes())?;
            tree.volume.vfs().read(&ROOT, found.ino, 0, FILE_BYTES as u32)?;
            Ok(())
        })?;
        let snapshots = (0..SNAPSHOTS).map(|number| tree.snapshot(number)).collect::<Outcome<Vec<_>>>()?;
        tree.delete_snapshots()?;
        let before = tree.files;
        let creates = tree.rate(TIMED, |tree, _| tree.add())?;
        let unlinks = tree.rate(TIMED, |tree, number| {
            let number = before + number;
            let parent = tree.parent(number);
            tree.volume.vfs().unlink(&ROOT, parent, name(number).as_bytes())?;
            Ok(())
        })?;
        tree.files = before;
        println!(
            "{size:>8} {creates:>9.0} {stats:>9.0} {reads:>9.0} {unlinks:>9.0} {:>13.2} {:>9.1}",
            median(snapshots).as_secs_f64() * 1e3,
            median(opens).as_secs_f64() * 1e3,
        );
    }
    tree.volume.close()?;
    Ok(())
}
