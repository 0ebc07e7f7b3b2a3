//! What garbage collection costs readers, and how soon deleted bytes are back on the disk.
//!
//! `cargo run --release --workspace --example collect -- DIRECTORY MEGABYTES`: fills a volume in a new directory with
//! files of 1 MiB, half compressible, and deletes every second one. Random reads of 4 KiB are timed without and with a
//! collection, in turns; then the volume is left alone.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use verfs_base::Ino;
use verfs_engine::{Background, CreateOptions, OpenOptions, Volume};
use verfs_vfs::{Context, NodeKind};

const FILE_BYTES: u64 = 1 << 20;
const READ_BYTES: u32 = 4096;
/// How long reads are timed at a time, and how often each way.
const PHASE: Duration = Duration::from_secs(8);
const PHASES: usize = 3;
const IDLE: Duration = Duration::from_secs(60);

type Outcome<T> = Result<T, Box<dyn Error>>;

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

fn fill(volume: &Volume, files: u64, noise: &mut Noise) -> Outcome<Vec<Ino>> {
    let (vfs, root) = (volume.vfs(), Context::ROOT);
    let mut bytes = vec![0; FILE_BYTES as usize];
    let mut inos = Vec::new();
    for number in 0..files {
        let made = vfs.mknod(&root, Ino::ROOT, format!("f{number}").as_bytes(), NodeKind::Regular, 0o644)?;
        noise.fill(&mut bytes);
        vfs.write(&root, made.ino, 0, &bytes)?;
        inos.push(made.ino);
    }
    volume.sync()?;
    for number in (0..files).step_by(2) {
        vfs.unlink(&root, Ino::ROOT, format!("f{number}").as_bytes())?;
    }
    Ok(inos.into_iter().skip(1).step_by(2).collect())
}

/// Latencies of random reads for a while, sorted.
fn time_reads(volume: &Volume, inos: &[Ino], noise: &mut Noise) -> Outcome<Vec<Duration>> {
    let begun = Instant::now();
    let mut latencies = Vec::new();
    while begun.elapsed() < PHASE {
        let ino = inos[(noise.next() % inos.len() as u64) as usize];
        let offset = noise.next() % (FILE_BYTES - u64::from(READ_BYTES));
        let before = Instant::now();
        volume.vfs().read(&Context::ROOT, ino, offset, READ_BYTES)?;
        latencies.push(before.elapsed());
    }
    latencies.sort_unstable();
    Ok(latencies)
}

fn tell(what: &str, latencies: &[Duration]) {
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000].as_micros();
    let seconds = PHASE.as_secs();
    let rate = latencies.len() as u64 / seconds;
    println!("{what}: {rate} reads/s, p50 {} us, p99 {} us, p99.9 {} us", at(500), at(990), at(999));
}

fn pack_bytes(directory: &std::path::Path) -> Outcome<u64> {
    let mut sum = 0;
    for folder in std::fs::read_dir(directory.join("packs"))? {
        for file in std::fs::read_dir(folder?.path())? {
            sum += file?.metadata()?.len();
        }
    }
    Ok(sum)
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name a directory that does not exist")?);
    let files: u64 = arguments.next().ok_or("say how many megabytes")?.parse()?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    Volume::create(&directory, &CreateOptions::default())?;
    let by_hand = OpenOptions { gc_background: Background::Off, ..OpenOptions::default() };
    let volume = Volume::open(&directory, &by_hand)?;
    let begun = Instant::now();
    let inos = fill(&volume, files, &mut noise)?;
    while volume.vfs().stats().orphans > 0 {
        volume.sync()?;
    }
    println!("filled in {:.1} s: packs have {} MB", begun.elapsed().as_secs_f64(), pack_bytes(&directory)? >> 20);
    let status = volume.gc_status();
    println!("{} MB are dead, {} MB are needed", status.dead_bytes >> 20, status.stored_bytes >> 20);
    volume.close()?;
    drop(volume);
    for _ in 0..PHASES {
        let volume = Volume::open(&directory, &by_hand)?;
        time_reads(&volume, &inos, &mut noise)?;
        tell("without", &time_reads(&volume, &inos, &mut noise)?);
        let collecting = Arc::clone(&volume);
        let collection = std::thread::spawn(move || collecting.collect_garbage());
        tell("with   ", &time_reads(&volume, &inos, &mut noise)?);
        let running = volume.gc_status().running;
        println!("meanwhile {} MB moved, {} MB reclaimed", running.moved_bytes >> 20, running.reclaimed_bytes() >> 20);
        // Stops the collection, too.
        volume.close()?;
        let _stopped = collection.join();
    }

    let volume = Volume::open(&directory, &OpenOptions::default())?;
    let dead = volume.gc_status().dead_bytes;
    let (begun, before) = (Instant::now(), pack_bytes(&directory)?);
    let mut done = None;
    while begun.elapsed() < IDLE {
        std::thread::sleep(Duration::from_millis(500));
        let status = volume.gc_status();
        if done.is_none() && status.collections > 0 && !status.active {
            done = Some(begun.elapsed());
        }
    }
    let (status, after) = (volume.gc_status(), pack_bytes(&directory)?);
    println!(
        "idle for {} s: {} of {} MB that were dead are back ({:.1} %), {} MB moved, packs {} -> {} MB, done after {:?}",
        IDLE.as_secs(),
        status.reclaimed_bytes >> 20,
        dead >> 20,
        status.reclaimed_bytes as f64 * 100.0 / dead as f64,
        status.moved_bytes >> 20,
        before >> 20,
        after >> 20,
        done
    );
    volume.close()?;
    Ok(())
}
