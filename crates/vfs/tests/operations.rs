//! Behaviour of single operations that the model test doesn't reach, and of groups and the intent log.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod volume;

use verfs_base::Ino;
use verfs_vfs::{Context, Listing, NodeKind, RenameMode, SyncScope, VfsError, VfsOptions};

use self::volume::{ROOT, Volume, noise, slow};

#[test]
fn a_tree_is_the_same_after_it_was_closed_and_opened() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let dir = open.vfs.mkdir(&ROOT, Ino::ROOT, b"dir", 0o755).unwrap();
    let file = open.vfs.mknod(&ROOT, dir.ino, b"file", NodeKind::Regular, 0o640).unwrap();
    let data = noise(3_000_000, 1);
    for (index, piece) in data.chunks(100_000).enumerate() {
        open.vfs.write(&ROOT, file.ino, index as u64 * 100_000, piece).unwrap();
    }
    let link = open.vfs.symlink(&ROOT, dir.ino, b"link", b"../target").unwrap();
    open.vfs.link(&ROOT, file.ino, Ino::ROOT, b"hard").unwrap();
    assert_eq!(open.read(file.ino), data);
    open.vfs.sync().unwrap();
    assert_eq!(open.read(file.ino), data);
    open.close();

    let open = volume.open();
    let found = open.vfs.lookup(&ROOT, Ino::ROOT, b"hard").unwrap();
    assert_eq!((found.ino, found.size, found.nlink, found.mode), (file.ino, 3_000_000, 2, 0o640));
    assert_eq!(found.blocks, 3_000_000u64.next_multiple_of(4096) / 512);
    assert_eq!(open.read(file.ino), data);
    assert_eq!(open.vfs.readlink(&ROOT, link.ino).unwrap(), "../target");
    let names: Vec<_> = open.vfs.readdir(&ROOT, dir.ino, 0, 100, Listing::Plus).unwrap();
    let mut names: Vec<_> = names.into_iter().map(|entry| entry.name).collect();
    names.sort();
    assert_eq!(names, [".", "..", "file", "link"]);
    let stats = open.vfs.stats();
    assert_eq!((stats.inodes, stats.directories, stats.logical_bytes), (4, 2, 3_000_000));
    open.close();
}

#[test]
fn small_overwrites_cuts_and_holes_read_back_before_and_after_commits() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let file = open.vfs.mknod(&ROOT, Ino::ROOT, b"f", NodeKind::Regular, 0o644).unwrap().ino;
    let mut model = noise(2_500_000, 3);
    open.vfs.write(&ROOT, file, 0, &model).unwrap();
    let mut seed = 5u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for step in 0..300u64 {
        match next(10) {
            0 => open.vfs.sync().unwrap(),
            1 => {
                let size = next(2_600_000);
                let change = verfs_vfs::SetAttr { size: Some(size), ..Default::default() };
                open.vfs.setattr(&ROOT, file, &change).unwrap();
                model.resize(size as usize, 0);
            }
            _ => {
                let (at, len) = (next(2_600_000) as usize, 1 + next(9000) as usize);
                let data = noise(len, step);
                open.vfs.write(&ROOT, file, at as u64, &data).unwrap();
                if model.len() < at + len {
                    model.resize(at + len, 0);
                }
                model[at..at + len].copy_from_slice(&data);
            }
        }
        assert!(open.read(file) == model, "step {step}");
    }
    open.close();
    let open = volume.open();
    assert!(open.read(file) == model);
    open.close();
}

#[test]
fn unlinked_files_live_while_pinned_and_give_their_chunks_back() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let pinning = Context { pin: verfs_vfs::Pin::Count, ..ROOT };
    let file = open.vfs.mknod(&pinning, Ino::ROOT, b"f", NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.write(&ROOT, file, 0, &noise(1_000_000, 9)).unwrap();
    open.vfs.sync().unwrap();
    open.vfs.unlink(&ROOT, Ino::ROOT, b"f").unwrap();
    open.vfs.sync().unwrap();
    assert_eq!(open.read(file), noise(1_000_000, 9));
    assert!(open.store.stats().unique_bytes >= 1_000_000);
    open.vfs.forget(file, 1);
    open.vfs.sync().unwrap();
    assert_eq!(open.vfs.getattr(&ROOT, file), Err(VfsError::NotFound));
    assert_eq!(open.store.stats().unique_bytes, 0);
    assert_eq!(open.vfs.stats().inodes, 1);
    open.close();
}

#[test]
fn equal_files_are_stored_once_whatever_the_group_boundaries() {
    let volume = Volume::new(VfsOptions { group_blocks: 300, dirty_limit_bytes: 2 << 20, ..slow() });
    let open = volume.open();
    let data = noise(8 << 20, 11);
    for (name, step) in [(b"a", 1 << 20), (b"b", 70_000), (b"c", 4096)] {
        let file = open.vfs.mknod(&ROOT, Ino::ROOT, name, NodeKind::Regular, 0o644).unwrap().ino;
        for (index, piece) in data.chunks(step).enumerate() {
            open.vfs.write(&ROOT, file, (index * step) as u64, piece).unwrap();
        }
        open.vfs.sync().unwrap();
        assert!(open.read(file) == data);
    }
    let unique = open.store.stats().unique_bytes;
    assert!(unique < (8 << 20) + (600 << 10), "{unique}");
    assert!(open.vfs.stats().groups_committed > 10);
    open.close();
}

#[test]
fn fsync_survives_without_a_commit_and_rename_takes_content_along() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let file = open.vfs.mknod(&ROOT, Ino::ROOT, b"new", NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.write(&ROOT, file, 0, b"renamed content").unwrap();
    open.vfs.rename(&ROOT, Ino::ROOT, b"new", Ino::ROOT, b"name", RenameMode::Replace).unwrap();
    let other = open.vfs.mknod(&ROOT, Ino::ROOT, b"other", NodeKind::Regular, 0o644).unwrap().ino;
    let unsynced = open.vfs.mknod(&ROOT, Ino::ROOT, b"unsynced", NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.write(&ROOT, unsynced, 0, b"not durable").unwrap();
    open.vfs.write(&ROOT, other, 5000, b"synced").unwrap();
    open.vfs.fsync(&ROOT, other, SyncScope::All).unwrap();
    assert_eq!(open.vfs.stats().groups_committed, 0);
    assert!(open.vfs.stats().log_frames > 0);

    // The power goes: nothing of the open handle's memory reaches the disk.
    let crashed = volume.after_power_loss();
    let recovered = crashed.open();
    let find = |name: &[u8]| recovered.vfs.lookup(&ROOT, Ino::ROOT, name).unwrap();
    assert_eq!(recovered.read(find(b"name").ino), b"renamed content");
    let content = recovered.read(find(b"other").ino);
    assert_eq!((content.len(), &content[5000..]), (5006, &b"synced"[..]));
    assert_eq!(find(b"unsynced").size, 0);
    assert_eq!(recovered.vfs.lookup(&ROOT, Ino::ROOT, b"new"), Err(VfsError::NotFound));
    recovered.close();
    open.close();
}

#[test]
fn groups_close_at_their_block_count_and_after_their_interval() {
    let volume = Volume::new(VfsOptions { group_blocks: 10, ..slow() });
    let open = volume.open();
    let file = open.vfs.mknod(&ROOT, Ino::ROOT, b"f", NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.write(&ROOT, file, 0, &noise(100_000, 1)).unwrap();
    wait_for(|| open.vfs.stats().groups_committed == 1);
    open.vfs.write(&ROOT, file, 0, b"few").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(open.vfs.stats().groups_committed, 1);
    open.close();

    let volume = Volume::new(VfsOptions { group_interval_ms: 50, ..slow() });
    let open = volume.open();
    open.vfs.mkdir(&ROOT, Ino::ROOT, b"d", 0o755).unwrap();
    assert_eq!(open.vfs.stats().groups_committed, 0);
    wait_for(|| open.vfs.stats().groups_committed == 1);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(open.vfs.stats().groups_committed, 1);
    open.close();
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "nothing happened for 10 s");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_large_directory_is_listed_whole_while_names_come_and_go() {
    let volume = Volume::new(VfsOptions { dirent_cache_entries: 1000, inode_cache_entries: 1000, ..slow() });
    let open = volume.open();
    for index in 0..40_000 {
        open.vfs.mknod(&ROOT, Ino::ROOT, format!("n{index}").as_bytes(), NodeKind::Regular, 0o644).unwrap();
    }
    open.vfs.sync().unwrap();
    let mut seen = std::collections::BTreeMap::new();
    let (mut cookie, mut round) = (0, 0);
    loop {
        let entries = open.vfs.readdir(&ROOT, Ino::ROOT, cookie, 500, Listing::Plus).unwrap();
        let Some(last) = entries.last() else { break };
        cookie = last.cookie;
        for entry in &entries {
            *seen.entry(entry.name.clone()).or_insert(0) += 1;
        }
        round += 1;
        open.vfs.mknod(&ROOT, Ino::ROOT, format!("new{round}").as_bytes(), NodeKind::Regular, 0o644).unwrap();
        open.vfs.unlink(&ROOT, Ino::ROOT, last.name.as_ref()).unwrap();
    }
    for index in 0..40_000 {
        assert_eq!(seen.get(format!("n{index}").as_bytes()), Some(&1), "n{index}");
    }
    assert!(seen.values().all(|count| *count == 1));
    open.close();
}

#[test]
fn names_are_made_and_removed_while_writers_wait_for_room() {
    let volume = Volume::new(VfsOptions { dirty_limit_bytes: 2 << 20, ..slow() });
    let open = volume.open();
    let file = open.vfs.mknod(&ROOT, Ino::ROOT, b"f", NodeKind::Regular, 0o644).unwrap().ino;
    let hasty = Context { patience: verfs_vfs::Patience::Try, ..ROOT };
    let data = noise(32 << 10, 11);
    let mut offset = 0;
    for round in 0..40 {
        let name = format!("made-{round}").into_bytes();
        // That there is no such name is known from here on.
        assert_eq!(open.vfs.lookup(&ROOT, Ino::ROOT, &name).unwrap_err(), VfsError::NotFound);
        while open.vfs.write(&hasty, file, offset, &data).is_ok() {
            offset += data.len() as u64;
        }
        open.vfs.mknod(&hasty, Ino::ROOT, &name, NodeKind::Regular, 0o644).unwrap();
        open.vfs.unlink(&hasty, Ino::ROOT, &name).unwrap();
        open.vfs.write(&ROOT, file, 0, &data).unwrap();
    }
    open.close();
}

#[test]
fn a_reader_who_leaves_no_trace_moves_no_access_time() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let file = open.vfs.mknod(&ROOT, Ino::ROOT, b"f", NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.write(&ROOT, file, 0, b"x").unwrap();
    open.vfs.sync().unwrap();
    let before = open.vfs.getattr(&ROOT, file).unwrap().atime;
    let tracelessly = Context { access_times: verfs_vfs::AccessTimes::Stay, ..ROOT };
    open.vfs.read(&tracelessly, file, 0, 1).unwrap();
    assert_eq!(open.vfs.getattr(&ROOT, file).unwrap().atime, before);
    assert_eq!(open.vfs.stats().dirty_bytes, 0);
    open.vfs.read(&ROOT, file, 0, 1).unwrap();
    assert!(open.vfs.getattr(&ROOT, file).unwrap().atime > before);
    open.close();
}
