//! What waits past its deadline is told with its session's name, whichever that is: a store hangs.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../tests/support/gate.rs"]
#[allow(dead_code, reason = "this test uses a part")]
mod gate;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use verfs_base::{Ino, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_fuse::{MountRole, SessionOptions, SnapshotsDirectory, VaultDoor, VaultGate};
use verfs_meta::MemoryStore;
use verfs_store::{ChunkStore, StoreOptions};
use verfs_vfs::{Context, NodeKind, Vfs, VfsOptions, VfsParts};

use self::gate::{Gate, GatedDisk, Passing};
use super::*;

const DEADLINE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

/// A tree with a file of noise that is in packs alone, and a snapshot of it.
fn tree(folder: &Path, gate: &Arc<Gate>) -> Arc<Vfs> {
    fs::create_dir(folder).unwrap();
    let disk = Arc::new(GatedDisk::new(folder.to_path_buf(), Arc::clone(gate)));
    let (meta, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock::new()));
    let options = StoreOptions { chunk_cache_bytes: 4096, ..StoreOptions::default() };
    let store = ChunkStore::open(disk.clone(), meta.clone(), &[7; 192], clock.clone(), options).unwrap();
    let sizes = ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap();
    let chunker = verfs_chunker::chunker(ChunkerKind::Min, sizes).unwrap();
    let vfs = Vfs::open(VfsParts { disk, meta, store, chunker, clock }, VfsOptions::default()).unwrap();
    let file = vfs.mknod(&Context::ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    let noise: Vec<u8> = (0..300_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    vfs.write(&Context::ROOT, file, 0, &noise).unwrap();
    vfs.create_snapshot(b"monday", b"").unwrap();
    vfs
}

fn mount(vfs: &Arc<Vfs>, at: &Path, role: MountRole) -> VolumeMount {
    fs::create_dir(at).unwrap();
    let options =
        SessionOptions { deadline: Some(DEADLINE), snapshots: SnapshotsDirectory::Hidden, ..SessionOptions::default() };
    VolumeMount::mount(vfs, at, &options, role).unwrap()
}

fn waiting(volume: &VolumeMount, vault: &VolumeMount) -> Waiting {
    let mut waiting = Waiting::default();
    waiting.add(volume, (SessionName::Tree, SessionName::Snapshots));
    waiting.add(vault, (SessionName::Vault, SessionName::VaultSnapshots));
    waiting
}

#[test]
fn requests_past_their_deadline_are_told_with_the_name_of_each_session() {
    let folder = tempfile::Builder::new().prefix("verfs-overdue-").tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let (plain, sealed) = (tree(&folder.path().join("plain"), &gate), tree(&folder.path().join("sealed"), &gate));
    let (at, vault_at) = (folder.path().join("mount"), folder.path().join("vault"));
    let volume = mount(&plain, &at, MountRole::Volume(Arc::new(VaultDoor::default())));
    let vault = mount(&sealed, &vault_at, MountRole::Vault(Arc::new(VaultGate::default())));
    let paths = ["", ".snapshots/monday/"].map(|within| [&at, &vault_at].map(|root| root.join(within).join("file")));
    let files: Vec<File> = paths.iter().flatten().map(|path| File::open(path).unwrap()).collect();
    for file in &files {
        rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    assert!(waiting(&volume, &vault).overdue.is_empty());

    gate.close(Passing::Reads);
    std::thread::scope(|scope| {
        for mut file in &files {
            scope.spawn(move || file.read_exact(&mut [0; 1 << 20]).unwrap_err());
        }
    });
    let hung = waiting(&volume, &vault);
    let status = serving(&hung);
    gate.open();
    let named = |session| hung.overdue.iter().any(|overdue| overdue.session == session && overdue.op == "read");
    let names = [SessionName::Tree, SessionName::Snapshots, SessionName::Vault, SessionName::VaultSnapshots];
    assert!(names.into_iter().all(named), "{:?}", hung.overdue);
    assert!(hung.refused >= files.len() as u64 && hung.overdue.iter().all(|overdue| overdue.longest >= DEADLINE));
    assert_eq!((status.name, status.state), ("mount", TaskState::Stalled));

    let begun = Instant::now();
    while !waiting(&volume, &vault).overdue.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it never answers again");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(files);
    vault.unmount().unwrap();
    volume.unmount().unwrap();
    plain.close().unwrap();
    sealed.close().unwrap();
}
