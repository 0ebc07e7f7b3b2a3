//! Whether a volume that nobody has open contradicts itself: `audit DIR`, or `audit DIR chunks` to read every chunk, too.
//! For tests that kill a daemon: it looks before anything is recovered, but for what the metadata engine does itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use verfs_base::{Disk, RealDisk, SystemClock};
use verfs_format::superblock::{SUPERBLOCK_FILE, Superblock};
use verfs_meta::EngineOptions;
use verfs_store::{ChunkStore, StoreOptions};
use verfs_testkit::Audit;

fn told<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

fn audit(volume: &Path, with_chunks: bool) -> Result<String, String> {
    let bytes = std::fs::read(volume.join(SUPERBLOCK_FILE)).map_err(told("reading the superblock"))?;
    let superblock = Superblock::decode(&bytes).map_err(told("the superblock"))?;
    let engine = superblock.metadata_engine.parse().map_err(told("the metadata engine"))?;
    let options = EngineOptions { memtable_bytes: 32 << 20, block_cache_bytes: 64 << 20 };
    let meta = verfs_meta::open(engine, &volume.join("meta"), &options).map_err(told("opening the metadata"))?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(volume.to_path_buf()));
    let found = match Audit::read(&*meta)? {
        None => "it was never open".to_owned(),
        Some(audit) => {
            audit.check()?;
            audit.check_pack_files(&*disk)?;
            if with_chunks {
                let clock = Arc::new(SystemClock::new());
                let options = StoreOptions::default();
                let store = ChunkStore::open(disk, Arc::clone(&meta), &superblock.id_secret, clock, options)
                    .map_err(told("opening the chunk store"))?;
                audit.check_chunks(&store)?;
                store.close().map_err(told("closing the chunk store"))?;
            }
            format!("{} chunks are referred to", audit.referenced_chunks())
        }
    };
    meta.close().map_err(told("closing the metadata"))?;
    Ok(found)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(volume) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: audit DIR [chunks]");
        return ExitCode::from(2);
    };
    match audit(&volume, arguments.next().is_some_and(|word| word == "chunks")) {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
