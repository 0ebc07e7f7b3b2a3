//! Rows with one large file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::content::{Content, Kind, Noise};
use crate::{Outcome, Work};

/// Bytes of the large file.
const LARGE_BYTES: u64 = 1 << 30;
/// Bytes of one read or write of the large file.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of one small read or write.
const PAGE_BYTES: usize = 4096;
/// Small writes at random places, with one fsync at the end.
const RANDOM_WRITES: u64 = 20_000;
/// Small reads at random places.
const RANDOM_READS: u64 = 10_000;
/// Small writes followed by an fsync each, of each client.
const FSYNC_WRITES: u64 = 1000;
/// Small writes between two fsyncs where they go on for a time.
const SUSTAINED_WRITES: u64 = 1000;

/// Writes the large file and makes it durable.
pub fn write(directory: &Path, name: &str, kind: Kind, seed: u64) -> Outcome {
    let mut content = Content::new(kind, seed);
    let mut file = File::create(directory.join(name))?;
    let mut block = vec![0; BLOCK_BYTES];
    for _ in 0..LARGE_BYTES / BLOCK_BYTES as u64 {
        content.fill(&mut block);
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(Work::of(LARGE_BYTES))
}

/// Reads the large file from its begin to its end.
pub fn read(directory: &Path) -> Outcome {
    let mut file = File::open(directory.join("large"))?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut total = 0;
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok(Work::of(total));
        }
        total += count as u64;
    }
}

fn random_offset(noise: &mut Noise, length: u64) -> u64 {
    noise.next() % (length / PAGE_BYTES as u64) * PAGE_BYTES as u64
}

/// Reads small pieces at random places of the large file.
pub fn random_read(directory: &Path) -> Outcome {
    let file = File::open(directory.join("large"))?;
    let mut noise = Noise::new(76);
    let mut page = vec![0; PAGE_BYTES];
    for _ in 0..RANDOM_READS {
        file.read_exact_at(&mut page, random_offset(&mut noise, LARGE_BYTES))?;
    }
    Ok(Work::of(RANDOM_READS))
}

/// Overwrites small pieces at random places of the large file, and makes them durable at the end.
pub fn random_write(directory: &Path, seed: u64) -> Outcome {
    let file = OpenOptions::new().write(true).open(directory.join("large"))?;
    overwrite(&file, &mut Noise::new(seed), &mut Content::new(Kind::Half, seed), RANDOM_WRITES)?;
    Ok(Work::of(RANDOM_WRITES))
}

/// The same for a time, made durable every thousand.
pub fn sustained_write(directory: &Path, seed: u64, time: Duration) -> Outcome {
    let file = OpenOptions::new().write(true).open(directory.join("large"))?;
    let (mut noise, mut content) = (Noise::new(seed), Content::new(Kind::Half, seed));
    let begun = Instant::now();
    let mut writes = 0;
    while begun.elapsed() < time {
        overwrite(&file, &mut noise, &mut content, SUSTAINED_WRITES)?;
        writes += SUSTAINED_WRITES;
    }
    Ok(Work::of(writes))
}

fn overwrite(file: &File, noise: &mut Noise, content: &mut Content, writes: u64) -> std::io::Result<()> {
    let mut page = vec![0; PAGE_BYTES];
    for _ in 0..writes {
        content.fill(&mut page);
        file.write_all_at(&page, random_offset(noise, LARGE_BYTES))?;
    }
    file.sync_all()
}

/// Appends to a file for each client, and makes every append durable before the next.
pub fn append_fsync(directory: &Path, clients: u64) -> Outcome {
    let append = |client: u64| -> std::io::Result<()> {
        let mut file = File::create(directory.join(format!("appended-{client}")))?;
        let mut content = Content::new(Kind::Half, 78 + client);
        let mut page = vec![0; PAGE_BYTES];
        for _ in 0..FSYNC_WRITES {
            content.fill(&mut page);
            file.write_all(&page)?;
            file.sync_data()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..clients).map(|client| scope.spawn(move || append(client))).collect();
        running.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| Err(std::io::Error::other("panic"))))
    })?;
    Ok(Work::of(clients * FSYNC_WRITES))
}

/// Files of a media collection, 1 MiB each.
pub fn fill(directory: &Path, files: u64, seed: u64) -> Outcome {
    let mut content = Content::new(Kind::Half, seed);
    let mut block = vec![0; BLOCK_BYTES];
    for number in 0..files {
        content.fill(&mut block);
        std::fs::write(directory.join(format!("{number:06}")), &block)?;
    }
    Ok(Work::of(files * BLOCK_BYTES as u64))
}

/// Times small reads at random places of a directory's files, past the page cache.
pub fn read_latency(directory: &Path, seed: u64, time: Duration) -> Outcome {
    let paths = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut noise = Noise::new(seed);
    // Direct reads ask for memory at a multiple of their size.
    let mut buffer = vec![0; 2 * PAGE_BYTES];
    let skip = buffer.as_ptr().align_offset(PAGE_BYTES);
    let page = &mut buffer[skip..skip + PAGE_BYTES];
    let begun = Instant::now();
    let mut latencies = Vec::new();
    while begun.elapsed() < time {
        let path = &paths[(noise.next() % paths.len() as u64) as usize];
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?;
        let offset = random_offset(&mut noise, BLOCK_BYTES as u64);
        let before = Instant::now();
        file.read_exact_at(page, offset)?;
        latencies.push(before.elapsed());
    }
    Ok(Work::with_latencies(latencies))
}
