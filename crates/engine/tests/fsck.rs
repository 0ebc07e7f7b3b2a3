//! fsck: each kind of damage is made, found by its code, and mended or named; then the volume is clean and opens.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod damage;

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use damage::{Built, CHUNKED, Kept};
use verfs_base::{ChunkId, Epoch, GroupId, Ino, PackId};
use verfs_engine::{CreateOptions, FsckStage, FsckVerdict, Mending, Repair, VaultCompression, VaultSecret, Volume};
use verfs_format::chunk_record::{ChunkRecord, PackRecord, SYSTEM_STORE, StoreRecord, chunk_key, pack_key};
use verfs_format::discard::{DiscardCheckpoint, SYSTEM_DISCARD_CHECKPOINT};
use verfs_format::{
    ChangeList, ContentId, DeadList, DeadReference, InodeFlags, InodeKind, OrphanRecord, Run, RunData, Segment,
    encode_versioned, keys,
};
use verfs_meta::{Direction, KeyRange};
use verfs_pack::{IndexTable, index_path, load_index, pack_path, store_index};

fn codes(built: &Built, repair: Repair) -> (FsckVerdict, Vec<(&'static str, Mending)>) {
    let report = Volume::fsck(&built.path, repair, &mut |_| ControlFlow::Continue(())).unwrap();
    (report.verdict, report.findings.iter().map(|finding| (finding.code, finding.mending)).collect())
}

/// Makes damage, and expects it to be found as `code`, mended, and nothing to be lost but `lost`.
fn mended(code: &str, lost: &[&str], damage: impl FnOnce(&Built)) -> Built {
    let built = Built::new();
    damage(&built);
    let (verdict, found) = codes(&built, Repair::No);
    assert_eq!(verdict, FsckVerdict::Found, "{code}: {found:?}");
    assert!(found.iter().any(|(found, _)| *found == code), "{code}: {found:?}");
    assert!(found.iter().all(|(_, mending)| *mending == Mending::Mendable), "{code}: {found:?}");
    let (verdict, found) = codes(&built, Repair::Yes);
    assert_eq!(verdict, FsckVerdict::Mended, "{code}: {found:?}");
    assert!(found.contains(&(leak(code), Mending::Mended)), "{code}: {found:?}");
    assert_eq!(codes(&built, Repair::No), (FsckVerdict::Clean, Vec::new()), "{code}: after the repair");
    built.assert_reads(lost);
    built
}

fn leak(code: &str) -> &'static str {
    code.to_owned().leak()
}

/// Makes damage, and expects it to be named with `place` and to stay, and the volume to open.
fn named(code: &str, place: &str, lost: &[&str], damage: impl FnOnce(&Built)) {
    let built = Built::new();
    damage(&built);
    for repair in [Repair::No, Repair::Yes, Repair::No] {
        let report = Volume::fsck(&built.path, repair, &mut |_| ControlFlow::Continue(())).unwrap();
        let verdict = if repair == Repair::No { FsckVerdict::Found } else { FsckVerdict::Left };
        assert_eq!(report.verdict, verdict, "{code}: {:?}", report.findings);
        let found = report.findings.iter().find(|finding| finding.code == code && finding.mending == Mending::Left);
        let found = found.unwrap_or_else(|| panic!("{code}: {:?}", report.findings));
        let whole = format!("{} {}", found.place, found.detail);
        assert!(whole.contains(place), "{code}: {whole}");
    }
    built.assert_reads(lost);
}

#[test]
fn a_whole_volume_is_clean_and_a_repair_changes_nothing() {
    let built = Built::new();
    for repair in [Repair::No, Repair::Yes, Repair::No] {
        assert_eq!(codes(&built, repair), (FsckVerdict::Clean, Vec::new()));
    }
    built.assert_reads(&[]);
}

#[test]
fn names_that_lead_nowhere_go_and_inodes_without_a_name_get_one() {
    mended("dirent-dangling", &["/pipe"], |built| built.delete(&keys::inode(built.ino("/pipe"))));
    let built = mended("inode-unnamed", &["/dir/file"], |built| built.delete(&built.dirent("/dir/file")));
    built.assert_found(built.ino("/dir/file"), Kept::File("/dir/file"));
    let built = mended("dirent-damaged", &["/dir/file"], |built| built.put(&built.dirent("/dir/file"), vec![1]));
    built.assert_found(built.ino("/dir/file"), Kept::File("/dir/file"));
    let built = mended("dirent-damaged", &["/dir/file", "/dir/deep/file"], |built| {
        built.put(&built.dirent("/dir"), vec![1, 9]);
    });
    built.assert_found(built.ino("/dir"), Kept::Directory);
    mended("dirent-kind", &[], |built| {
        let (ino, key) = (built.ino("/small"), built.dirent("/small"));
        built.put(
            &key,
            encode_versioned(Epoch(1), |out| {
                verfs_format::DirentRecord { kind: InodeKind::Symlink, ino }.encode(out);
            }),
        );
    });
    mended("dirent-misplaced", &[], |built| {
        let inside = built.dirent_at(built.ino("/small"), b"inside");
        built.put(&inside, built.get(&built.dirent("/pipe")).unwrap());
    });
}

#[test]
fn inodes_that_are_lost_are_made_of_what_is_left_of_them() {
    for damaged in [None, Some(vec![1, 200])] {
        for place in ["/dir/file", "/link", "/dir", "/attributes"] {
            mended("inode-lost", &[], |built| match damaged.clone() {
                None => built.delete(&keys::inode(built.ino(place))),
                Some(value) => built.put(&keys::inode(built.ino(place)), value),
            });
        }
        mended("inode-lost", &[], |built| match damaged.clone() {
            None => built.delete(&keys::inode(Ino::ROOT)),
            Some(value) => built.put(&keys::inode(Ino::ROOT), value),
        });
    }
    // Nothing at all leads to it but its data.
    let built = mended("content-unowned", &["/dir/file"], |built| {
        built.delete(&keys::inode(built.ino("/dir/file")));
        built.delete(&built.dirent("/dir/file"));
    });
    built.assert_found(built.ino("/dir/file"), Kept::File("/dir/file"));
    mended("inode-damaged", &[], |built| built.put(&keys::inode(Ino(900)), vec![1, 200]));
}

#[test]
fn counts_sizes_and_flags_are_set_right() {
    mended("link-count", &[], |built| built.inode("/hard", |record| record.nlink = 7));
    mended("link-count", &[], |built| built.inode("/dir", |record| record.nlink = 2));
    mended("directory-size", &[], |built| built.inode("/dir", |record| record.size = 77));
    mended("directory-parent", &[], |built| built.inode("/dir/deep", |record| record.parent = Ino::ROOT));
    mended("file-size", &[], |built| built.inode("/dir/file", |record| record.size -= 5));
    mended("file-allocated", &[], |built| built.inode("/dir/file", |record| record.allocated += 5));
    mended("xattrs-flag", &[], |built| {
        built.inode("/attributes", |record| record.flags = record.flags.without(InodeFlags::XATTRS));
    });
    mended("xattrs-flag", &[], |built| {
        built.inode("/small", |record| record.flags = record.flags.with(InodeFlags::XATTRS));
    });
    mended("xattrs-stray", &[], |built| {
        let value = built.get(&keys::xattrs(built.ino("/attributes"))).unwrap();
        built.put(&keys::xattrs(Ino(900)), value);
    });
    mended("symlink-stray", &[], |built| {
        built.put(&keys::symlink(built.ino("/small")), encode_versioned(Epoch(1), |out| out.push(b'x')));
    });
    mended("tree-counters", &[], |built| built.put(keys::SYSTEM_COUNTERS, vec![9, 9, 9]));
    mended("next-number", &[], |built| built.put(keys::SYSTEM_NEXT_NUMBER, vec![3]));
    mended("system-number", &[], |built| built.put(keys::SYSTEM_EPOCH, vec![1]));
}

#[test]
fn directories_are_a_tree() {
    let built = mended("directory-cycle", &["/dir/file", "/dir/deep/file"], |built| {
        // /dir moves into /dir/deep.
        let deep = built.ino("/dir/deep");
        let value = built.get(&built.dirent("/dir")).unwrap();
        built.delete(&built.dirent("/dir"));
        built.put(&built.dirent_at(deep, b"dir"), value);
        built.inode("/dir", |record| record.parent = deep);
    });
    assert_eq!(built.found_directory().len(), 1);
    mended("directory-twice", &[], |built| {
        let value = built.get(&built.dirent("/dir/deep")).unwrap();
        built.put(&built.dirent_at(Ino::ROOT, b"again"), value);
    });
}

#[test]
fn orphans_are_what_has_no_name() {
    let orphan =
        |ino: u64| encode_versioned(Epoch(1), |out| OrphanRecord { ino: Some(Ino(ino)), died: Epoch(1) }.encode(out));
    mended("orphan-gone", &[], |built| built.put(&keys::orphan(ContentId(900)), orphan(900)));
    mended("orphan-named", &[], |built| {
        let ino = built.ino("/dir/file");
        built.put(&keys::orphan(ContentId(ino.0)), orphan(ino.0));
    });
    mended("orphan-record", &[], |built| built.put(&keys::orphan(ContentId(900)), vec![]));
}

#[test]
fn references_are_counted() {
    for change in [1i64, -1, 500] {
        mended("refcount", &[], |built| {
            let (chunk, record) = built.chunk_of("/dir/file");
            let refcount = record.refcount.saturating_add_signed(change);
            built.put(&chunk_key(chunk), ChunkRecord { refcount, ..record }.encode());
        });
    }
    mended("chunk-record", &[], |built| built.delete(&chunk_key(built.chunk_of("/dir/file").0)));
    mended("chunk-record", &[], |built| built.put(&chunk_key(built.chunk_of("/dir/file").0), vec![1]));
    mended("chunk-record", &[], |built| built.put(&chunk_key(ChunkId([9; 16])), vec![1]));
    named("chunk-missing", "/dir/file", &["/dir/file"], |built| {
        let (chunk, record) = built.chunk_of("/dir/file");
        built.delete(&chunk_key(chunk));
        built.spoil_record(chunk, record.pack);
        std::fs::remove_file(built.path.join(index_path(record.pack))).unwrap();
    });
    named("chunk-short", "/dir/file", &["/dir/file"], |built| {
        let (chunk, record) = built.chunk_of("/dir/file");
        built.put(&chunk_key(chunk), ChunkRecord { raw_len: 1, ..record }.encode());
    });
    named("segment-damaged", "/dir/file", &["/dir/file"], |built| {
        built.put(&keys::segment(ContentId(built.ino("/dir/file").0), 0), vec![1, 200, 200]);
    });
    named("symlink-target", "/link", &["/link"], |built| built.delete(&keys::symlink(built.ino("/link"))));
}

#[test]
fn packs_and_their_records_agree() {
    mended("pack-counters", &[], |built| {
        let (pack, record) = built.pack_of("/dir/file");
        built.put(&pack_key(pack), PackRecord { dead_blocks: record.dead_blocks + 1, ..record }.encode());
    });
    mended("pack-record", &[], |built| built.delete(&pack_key(built.pack_of("/dir/file").0)));
    mended("pack-record", &[], |built| built.put(&pack_key(built.pack_of("/dir/file").0), vec![7]));
    mended("store-counters", &[], |built| {
        let record = StoreRecord::decode(&built.get(SYSTEM_STORE).unwrap()).unwrap();
        built.put(SYSTEM_STORE, StoreRecord { chunks: 1, packs: 99, ..record }.encode());
    });
    mended("store-record", &[], |built| built.put(SYSTEM_STORE, vec![1]));
    mended("index-missing", &[], |built| {
        std::fs::remove_file(built.path.join(index_path(built.pack_of("/dir/file").0))).unwrap();
    });
    mended("index-damaged", &[], |built| built.cut(&index_path(built.pack_of("/dir/file").0), 1));
    mended("index-incomplete", &[], |built| {
        let pack = built.pack_of("/dir/file").0;
        let table = load_index(&built.disk(), pack).unwrap().unwrap();
        let wanted = built.chunk_of("/dir/file").0;
        let others: Vec<_> = table.iter().filter(|entry| entry.chunk != wanted).collect();
        store_index(&built.disk(), &IndexTable::build(pack, table.pack_len(), &others)).unwrap();
    });
    mended("pack-unreferenced", &[], |built| {
        let pack = built.pack_of("/dir/file").0;
        let stray = built.path.join(pack_path(PackId(1)));
        assert!(pack != PackId(1) && !stray.exists(), "number 1 is free");
        std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
        std::fs::copy(built.path.join(pack_path(pack)), stray).unwrap();
    });
    mended("discard-list", &[], |built| {
        let checkpoint = DiscardCheckpoint { round: 3, length: 500, done: 32, packs: 1, ids: 1, dead_bytes: 1 };
        built.put(SYSTEM_DISCARD_CHECKPOINT, checkpoint.encode());
    });
    named("pack-missing", "pack", &CHUNKED, |built| {
        std::fs::remove_file(built.path.join(pack_path(built.pack_of("/dir/file").0))).unwrap();
    });
    named("file-lost-data", "/dir/file", &CHUNKED, |built| {
        std::fs::remove_file(built.path.join(pack_path(built.pack_of("/dir/file").0))).unwrap();
    });
    named("chunk-lost", "1 chunks", &CHUNKED, |built| {
        built.cut(&pack_path(built.pack_of("/dir/file").0), 1);
    });
}

#[test]
fn what_snapshots_keep_is_what_they_need() {
    let dead =
        |references: u64| DeadList::encode(&[DeadReference { chunk: ChunkId([7; 16]), references, bytes: 5 }], 0);
    mended("snapshot-used", &[], |built| built.put(&keys::snapshot_used(built.snapshot()), vec![77]));
    mended("snapshot-used", &[], |built| built.put(&keys::snapshot_used(Epoch(900)), vec![77]));
    mended("history-stray", &[], |built| {
        let value = built.get(&keys::inode(built.ino("/small"))).unwrap();
        built.put(&keys::history(&keys::inode(built.ino("/small")), Epoch(1)), value);
    });
    mended("changes-stray", &[], |built| {
        built.put(&keys::changes(built.snapshot(), GroupId(1), 0), ChangeList::encode(&[]));
    });
    mended("changes-lack", &[], |built| {
        for key in built.keys(keys::CHANGES) {
            built.delete(&key);
        }
    });
    mended("dead-stray", &[], |built| built.put(&keys::dead(Epoch(1), Epoch(1), GroupId(1), 0), dead(1)));
    named("dead-damaged", "dead list", &[], |built| {
        let key = built.keys(keys::DEAD).into_iter().next().unwrap();
        built.put(&key, vec![200]);
    });
    named("changes-damaged", "change list", &[], |built| {
        let key = built.keys(keys::CHANGES).into_iter().next().unwrap();
        built.put(&key, vec![200]);
    });
    named("snapshot-record", "snapshot", &[], |built| built.put(&keys::snapshot(built.snapshot()), vec![200]));
    named("history-damaged", "history", &[], |built| {
        let key = built.keys(keys::HISTORY).into_iter().find(|key| key[1] == keys::INODE).unwrap();
        built.put(&key, vec![]);
    });
}

#[test]
fn runs_and_unowned_data_keep_their_references() {
    let built = mended("content-unowned", &[], |built| {
        let (chunk, record) = built.chunk_of("/dir/file");
        let run = Run { len: 1, data: RunData::Chunk { id: chunk, offset: 0, birth: Epoch(1) } };
        let value = encode_versioned(Epoch(1), |out| out.extend_from_slice(&Segment { runs: vec![run] }.encode()));
        built.put(&keys::segment(ContentId(900), 0), value);
        built.put(&chunk_key(chunk), ChunkRecord { refcount: record.refcount + 1, ..record }.encode());
    });
    assert_eq!(built.found_directory(), ["#900"]);
}

#[test]
fn a_locked_vault_is_checked_and_what_is_not_sealed_of_it_is_mended() {
    let built = Built::new();
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    let secret = VaultSecret::new(b"a password".to_vec(), VaultSecret::new_key_file().unwrap().into_bytes()).unwrap();
    volume.create_vault(&secret, VaultCompression::On).unwrap();
    volume.unlock_vault(&secret).unwrap();
    let vault = volume.vault_vfs().unwrap();
    let root = verfs_vfs::Context::ROOT;
    let made = vault.mknod(&root, Ino::ROOT, b"secret", verfs_vfs::NodeKind::Regular, 0o600).unwrap().ino;
    vault.write(&root, made, 0, &damage::noise(9, 200_000)).unwrap();
    vault.symlink(&root, Ino::ROOT, b"link", b"secret").unwrap();
    vault.setxattr(&root, made, b"user.name", b"value", verfs_vfs::XattrMode::Set).unwrap();
    vault.sync().unwrap();
    volume.create_snapshot(b"tuesday", b"").unwrap();
    vault.write(&root, made, 0, b"changed").unwrap();
    drop(vault);
    volume.close().unwrap();
    assert_eq!(codes(&built, Repair::No), (FsckVerdict::Clean, Vec::new()));
    let sealed = |key: &[u8]| [b"V", key].concat();
    let chunk = built.keys_from(b"Vc").into_iter().next().unwrap();
    let record = ChunkRecord::decode(&built.get(&chunk).unwrap()).unwrap();
    built.put(&chunk, ChunkRecord { refcount: record.refcount + 3, ..record }.encode());
    assert_eq!(codes(&built, Repair::Yes).0, FsckVerdict::Mended);
    assert_eq!(codes(&built, Repair::No), (FsckVerdict::Clean, Vec::new()));
    // What its seal protects can't be written without the key.
    built.delete(&sealed(&keys::inode(made)));
    let report = Volume::fsck(&built.path, Repair::Yes, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(report.verdict, FsckVerdict::Left);
    let written: Vec<_> = report.findings.iter().filter(|finding| finding.mending == Mending::Mended).collect();
    assert!(written.iter().all(|finding| finding.code == "tree-counters"), "{written:?}");
    assert!(report.findings.iter().any(|finding| finding.detail.contains("unlock the vault")));
    assert_eq!(built.get(&sealed(&keys::inode(made))), None);
    built.assert_reads(&[]);
}

#[test]
fn a_volume_that_was_never_opened_is_clean_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).unwrap();
    assert_eq!(
        Volume::fsck(&path, Repair::No, &mut |_| ControlFlow::Continue(())).unwrap().verdict,
        FsckVerdict::Clean
    );
    assert!(!path.join("meta").exists());
}

#[test]
fn a_volume_that_somebody_has_open_is_refused() {
    let built = Built::new();
    let _open = Volume::open(&built.path, &damage::options()).unwrap();
    let error = Volume::fsck(&built.path, Repair::No, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.code(), "VERFS_E_VOLUME_LOCKED");
}

#[test]
fn a_repair_that_is_cut_short_is_completed_by_the_next() {
    let built = Built::new();
    built.delete(&built.dirent("/dir"));
    built.delete(&keys::inode(built.ino("/link")));
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Volume::fsck(&built.path, Repair::Yes, &mut |progress| {
            assert_ne!(progress.stage, FsckStage::Checking(3), "cut");
            ControlFlow::Continue(())
        })
    }));
    assert!(cut.is_err());
    assert_eq!(codes(&built, Repair::Yes).0, FsckVerdict::Mended);
    assert_eq!(codes(&built, Repair::No).0, FsckVerdict::Clean);
    built.assert_found(built.ino("/dir"), Kept::Directory);
}

/// What a volume consists of: every file of its packs and log, and its records.
fn everything(built: &Built) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut each = |key: &[u8], value: &[u8]| {
        found.push((PathBuf::from(OsStr::from_bytes(key)), value.to_vec()));
        ControlFlow::Continue(())
    };
    built.meta(|meta| meta.scan(&KeyRange::prefix(b""), Direction::Forward, &mut each)).unwrap();
    for part in ["packs", "log"] {
        let mut todo = vec![built.path.join(part)];
        while let Some(path) = todo.pop() {
            if path.is_dir() {
                todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_check_that_is_ended_anywhere_says_so_and_changes_nothing() {
    let built = Built::new();
    built.delete(&built.dirent("/dir"));
    let before = everything(&built);
    let mut told = Vec::new();
    let whole = Volume::fsck(&built.path, Repair::No, &mut |progress| {
        told.push(*progress);
        ControlFlow::Continue(())
    });
    assert_eq!(whole.unwrap().verdict, FsckVerdict::Found);
    assert!(told.len() > 2, "{told:?}");
    assert!(told.windows(2).all(|two| two[0].records <= two[1].records && two[1].expected > 0), "{told:?}");
    for end in 0..told.len() {
        let mut calls = 0;
        let ended = Volume::fsck(&built.path, Repair::No, &mut |_| {
            calls += 1;
            if calls > end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(ended.unwrap_err().code(), "VERFS_E_CANCELLED");
        // Who ends it does not wait for the rest.
        assert_eq!(calls, end + 1);
    }
    assert!(everything(&built) == before, "a check wrote something");
    assert_eq!(codes(&built, Repair::No).0, FsckVerdict::Found);
}

#[test]
fn a_repair_that_is_ended_anywhere_is_completed_by_the_next() {
    // Each takes a few checks: every fourth moment is enough.
    for end in (0..).step_by(4) {
        let built = Built::new();
        built.delete(&built.dirent("/dir"));
        built.delete(&keys::inode(built.ino("/link")));
        let mut calls = 0;
        let ended = Volume::fsck(&built.path, Repair::Yes, &mut |_| {
            calls += 1;
            if calls > end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Ok(report) = ended {
            assert_eq!(report.verdict, FsckVerdict::Mended);
            assert!(calls > 8, "it was asked {calls} times");
            return;
        }
        assert_eq!(ended.unwrap_err().code(), "VERFS_E_CANCELLED");
        let (verdict, found) = codes(&built, Repair::Yes);
        assert!(matches!(verdict, FsckVerdict::Mended | FsckVerdict::Clean), "ended at {end}: {found:?}");
        assert_eq!(codes(&built, Repair::No).0, FsckVerdict::Clean, "ended at {end}");
        built.assert_found(built.ino("/dir"), Kept::Directory);
    }
}
