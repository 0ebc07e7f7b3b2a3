//! How fast a scrub reads: `cargo run --release -p verfs-engine --example scrub [MiB]`. Needs a quiet machine.
//!
//! Writes that much noise (1024 MiB) and as much text, closes, drops nothing from the page cache, and scrubs twice: the
//! first time the disk may be asked, the second time memory is, which tells what the checks themselves cost.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "an example that tells what it measured, or why it can't")]

use std::ops::ControlFlow;
use std::time::Instant;

use verfs_base::Ino;
use verfs_engine::{Background, CreateOptions, OpenOptions, ScrubOptions, Volume};
use verfs_vfs::{Context, NodeKind};

const PART_BYTES: usize = 1 << 20;

fn main() {
    let mebibytes: u64 = std::env::args().nth(1).map_or(1024, |text| text.parse().expect("a number of MiB"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).expect("a volume");
    let options = OpenOptions { gc_background: Background::Off, ..OpenOptions::default() };
    let volume = Volume::open(&path, &options).expect("an open volume");
    let mut random = 1u64;
    for name in ["noise", "text"] {
        let made = volume.vfs().mknod(&Context::ROOT, Ino::ROOT, name.as_bytes(), NodeKind::Regular, 0o644);
        let ino = made.expect("a file").ino;
        for part in 0..mebibytes {
            let bytes: Vec<u8> = (0..PART_BYTES)
                .map(|at| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let byte = (random >> 33) as u8;
                    if name == "noise" || at % 64 < 16 { byte } else { b'a' + (at % 23) as u8 }
                })
                .collect();
            volume.vfs().write(&Context::ROOT, ino, part * PART_BYTES as u64, &bytes).expect("written");
        }
    }
    volume.close().expect("closed");
    for run in ["first", "again"] {
        let volume = Volume::open(&path, &options).expect("an open volume");
        let begun = Instant::now();
        let scrubbed = volume.scrub(&ScrubOptions::default(), &mut |_| ControlFlow::Continue(()));
        let (progress, _) = scrubbed.expect("a scrub");
        let seconds = begun.elapsed().as_secs_f64();
        let stored = progress.tally.bytes as f64 / f64::from(1 << 20);
        println!(
            "{run}: {stored:.0} MiB stored in {seconds:.2} s, {:.0} MiB/s, {:?}",
            stored / seconds,
            progress.tally
        );
        volume.close().expect("closed");
    }
}
