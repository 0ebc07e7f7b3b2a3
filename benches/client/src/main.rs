//! One client of a file system: does one kind of work in a directory and prints `{"seconds":S,"units":N}`.
//!
//! The same program drives every file system of `benches/run.mjs`, so that its own cost is the same for all.
//! `verfs-bench-client ROW DIRECTORY [ARGUMENT]`; a row that needs files expects the row before it to have made them.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Bytes of the large file.
const LARGE_BYTES: u64 = 1 << 30;
/// Bytes of one read or write of the large file.
const BLOCK_BYTES: usize = 1 << 20;
/// Files of the small-file rows.
const SMALL_FILES: u64 = 10_000;
/// Bytes of one small write.
const PAGE_BYTES: usize = 4096;
/// Small writes followed by an fsync each.
const FSYNC_WRITES: u64 = 2000;
/// Small writes at random places, with one fsync at the end.
const RANDOM_WRITES: u64 = 20_000;

/// Length of a stretch of noise or text.
const STRETCH_BYTES: usize = 512;
/// What the text repeats.
const PHRASE: &[u8] = b"the quick brown fox jumps over the lazy dog and writes it down; ";

type Outcome = Result<u64, Box<dyn Error>>;

/// A xorshift generator: the same bytes in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }

    /// Half noise, half a text that repeats, in stretches of 512 bytes: what a compressor stores in about half.
    fn fill_half(&mut self, text: &[u8], bytes: &mut [u8]) {
        for (index, stretch) in bytes.chunks_mut(STRETCH_BYTES).enumerate() {
            if index % 2 == 0 {
                self.fill(stretch);
            } else {
                let skip = (self.next() % PHRASE.len() as u64) as usize;
                stretch.copy_from_slice(&text[skip..skip + stretch.len()]);
            }
        }
    }
}

/// Text of at least a stretch from each place in the phrase on.
fn text() -> Vec<u8> {
    PHRASE.iter().copied().cycle().take(PHRASE.len() + STRETCH_BYTES).collect()
}

fn write_large(directory: &Path, name: &str, seed: Option<&str>) -> Outcome {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15 ^ seed.ok_or("write needs a seed")?.parse::<u64>()?);
    let mut file = File::create(directory.join(name))?;
    let (text, mut block) = (text(), vec![0; BLOCK_BYTES]);
    for _ in 0..LARGE_BYTES / BLOCK_BYTES as u64 {
        noise.fill_half(&text, &mut block);
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(LARGE_BYTES)
}

fn read_large(directory: &Path, name: &str) -> Outcome {
    let mut file = File::open(directory.join(name))?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut total = 0;
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok(total);
        }
        total += count as u64;
    }
}

fn random_offset(noise: &mut Noise) -> u64 {
    noise.next() % (LARGE_BYTES / PAGE_BYTES as u64) * PAGE_BYTES as u64
}

fn random_write(directory: &Path) -> Outcome {
    let file = OpenOptions::new().write(true).open(directory.join("large"))?;
    let mut noise = Noise(77);
    let (text, mut page) = (text(), vec![0; PAGE_BYTES]);
    for _ in 0..RANDOM_WRITES {
        noise.fill_half(&text, &mut page);
        file.write_all_at(&page, random_offset(&mut noise))?;
    }
    file.sync_all()?;
    Ok(RANDOM_WRITES)
}

fn append_fsync(directory: &Path) -> Outcome {
    let mut file = File::create(directory.join("appended"))?;
    let mut noise = Noise(78);
    let (text, mut page) = (text(), vec![0; PAGE_BYTES]);
    for _ in 0..FSYNC_WRITES {
        noise.fill_half(&text, &mut page);
        file.write_all(&page)?;
        file.sync_data()?;
    }
    Ok(FSYNC_WRITES)
}

fn each_small(directory: &Path, mut visit: impl FnMut(&Path) -> std::io::Result<()>) -> Outcome {
    for index in 0..SMALL_FILES {
        visit(&directory.join("small").join(format!("file-{index}")))?;
    }
    Ok(SMALL_FILES)
}

fn untar(directory: &Path, archive: &str) -> Outcome {
    let target = directory.join("untarred");
    fs::create_dir(&target)?;
    let status = std::process::Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&target).status()?;
    if !status.success() {
        return Err("tar failed".into());
    }
    count_entries(&target)
}

fn count_entries(directory: &Path) -> Outcome {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += 1;
        if entry.file_type()?.is_dir() {
            count += count_entries(&entry.path())?;
        }
    }
    Ok(count)
}

fn run(row: &str, directory: &Path, argument: Option<&str>) -> Outcome {
    match row {
        "write" => write_large(directory, "large", argument),
        "write-duplicate" => write_large(directory, "duplicate", argument),
        "read" => read_large(directory, "large"),
        "random-write" => random_write(directory),
        "append-fsync" => append_fsync(directory),
        "create" => {
            fs::create_dir(directory.join("small"))?;
            each_small(directory, |path| File::create(path).map(drop))
        }
        "stat" => each_small(directory, |path| fs::metadata(path).map(drop)),
        "unlink" => each_small(directory, |path| fs::remove_file(path)),
        "untar" => untar(directory, argument.ok_or("untar needs an archive")?),
        _ => Err(format!("unknown row {row}").into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, row, directory, rest @ ..] = &arguments[..] else {
        eprintln!("usage: verfs-bench-client ROW DIRECTORY [ARGUMENT]");
        return ExitCode::from(2);
    };
    let start = Instant::now();
    match run(row, Path::new(directory), rest.first().map(String::as_str)) {
        Ok(units) => {
            println!("{{\"seconds\":{},\"units\":{units}}}", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{row} in {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}
