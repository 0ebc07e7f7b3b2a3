//! Rows with many small files.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, Work};

/// Files of the small-file rows.
const SMALL_FILES: u64 = 10_000;
/// Bytes of such a file that is not empty.
const FILLED_BYTES: usize = 200;
/// What no file of the tree contains.
const NEEDLE: &str = "a needle that is in no haystack";

fn each_small(directory: &Path, prefix: &str, mut visit: impl FnMut(&Path) -> io::Result<()>) -> Outcome {
    for index in 0..SMALL_FILES {
        visit(&directory.join("small").join(format!("{prefix}-{index}")))?;
    }
    Ok(Work::of(SMALL_FILES))
}

pub fn create(directory: &Path) -> Outcome {
    create_with(directory, &[])
}

pub fn create_filled(directory: &Path) -> Outcome {
    create_with(directory, &[b'v'; FILLED_BYTES])
}

fn create_with(directory: &Path, content: &[u8]) -> Outcome {
    fs::create_dir(directory.join("small"))?;
    each_small(directory, "file", |path| fs::write(path, content))
}

pub fn read_filled(directory: &Path) -> Outcome {
    each_small(directory, "file", |path| match fs::read(path)?.len() {
        FILLED_BYTES => Ok(()),
        len => Err(io::Error::other(format!("{} has {len} bytes", path.display()))),
    })
}

pub fn stat(directory: &Path) -> Outcome {
    each_small(directory, "file", |path| fs::metadata(path).map(drop))
}

pub fn rename(directory: &Path) -> Outcome {
    each_small(directory, "file", |path| fs::rename(path, path.with_file_name(renamed(path))))
}

fn renamed(path: &Path) -> String {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default().replace("file", "renamed")
}

pub fn unlink(directory: &Path) -> Outcome {
    each_small(directory, "renamed", |path| fs::remove_file(path))
}

/// Runs a program that ends with this exit code; gives the time that it took.
fn call(program: &str, arguments: &[&OsStr], code: i32) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).status()?;
    if status.code() != Some(code) {
        return Err(format!("{program}: {status}").into());
    }
    Ok(begun.elapsed())
}

fn untarred(directory: &Path) -> PathBuf {
    directory.join("untarred")
}

pub fn untar(directory: &Path, archive: &str) -> Outcome {
    let target = untarred(directory);
    fs::create_dir(&target)?;
    let took = call("tar", &["-xf".as_ref(), archive.as_ref(), "-C".as_ref(), target.as_ref()], 0)?;
    Ok(Work::that_took(took, count_entries(&target)?))
}

pub fn find(directory: &Path) -> Outcome {
    // -size makes it ask for each file's attributes.
    let took = call("find", &[untarred(directory).as_ref(), "-size".as_ref(), "+1000000k".as_ref()], 0)?;
    Ok(Work::that_took(took, count_entries(&untarred(directory))?))
}

pub fn grep(directory: &Path) -> Outcome {
    let took = call("grep", &["-rqF".as_ref(), NEEDLE.as_ref(), untarred(directory).as_ref()], 1)?;
    Ok(Work::that_took(took, count_entries(&untarred(directory))?))
}

pub fn copy(directory: &Path) -> Outcome {
    let target = directory.join("copied");
    let took = call("cp", &["-a".as_ref(), untarred(directory).as_ref(), target.as_ref()], 0)?;
    Ok(Work::that_took(took, count_entries(&target)?))
}

pub fn remove(directory: &Path) -> Outcome {
    let target = directory.join("copied");
    let entries = count_entries(&target)?;
    Ok(Work::that_took(call("rm", &["-rf".as_ref(), target.as_ref()], 0)?, entries))
}

fn count_entries(directory: &Path) -> io::Result<u64> {
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
