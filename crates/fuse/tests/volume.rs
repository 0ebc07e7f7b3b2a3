//! A real tree through a real mount: what the kernel and the tree can only do right together.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{Access, Advice, CWD, RenameFlags, XattrFlags};
use verfs_base::{Ino, RealDisk, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_fuse::{AllowOther, Operation, Session, SessionOptions, mount_table};
use verfs_meta::{MemoryStore, MetaStore};
use verfs_store::{ChunkStore, StoreOptions};
use verfs_vfs::{Context, Vfs, VfsOptions, VfsParts};

/// An ordinary user.
const USER: u32 = 65534;

/// A volume whose metadata lives as long as this, mounted or not.
struct Volume {
    folder: tempfile::TempDir,
    meta: Arc<MemoryStore>,
}

struct Mounted<'a> {
    volume: &'a Volume,
    vfs: Arc<Vfs>,
    store: Arc<ChunkStore>,
    session: Session,
}

impl Volume {
    fn new() -> Volume {
        let folder = tempfile::Builder::new().prefix("verfs-fuse-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("mount")).unwrap();
        Volume { folder, meta: Arc::new(MemoryStore::new()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("mount").join(name)
    }

    fn mount(&self) -> Mounted<'_> {
        self.mount_with("")
    }

    fn mount_with(&self, mount_option: &str) -> Mounted<'_> {
        self.mount_for(AllowOther::Yes, mount_option)
    }

    fn mount_for(&self, allow_other: AllowOther, mount_option: &str) -> Mounted<'_> {
        let disk = Arc::new(RealDisk::new(self.folder.path().to_path_buf()));
        let meta: Arc<dyn MetaStore> = self.meta.clone();
        let clock = Arc::new(SystemClock::new());
        let store =
            ChunkStore::open(disk.clone(), meta.clone(), &[7; 192], clock.clone(), StoreOptions::default()).unwrap();
        let sizes = ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, sizes).unwrap();
        let parts = VfsParts { disk, meta, store: store.clone(), chunker, clock };
        let vfs = Vfs::open(parts, VfsOptions { log_file_bytes: 1 << 20, ..VfsOptions::default() }).unwrap();
        let extra_options = vec![mount_option.to_owned()];
        let options = SessionOptions { allow_other, extra_options, ..SessionOptions::default() };
        let session = Session::mount(vfs.clone(), &self.path(""), &options).unwrap();
        Mounted { volume: self, vfs, store, session }
    }
}

impl Mounted<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.volume.path(name)
    }

    fn unmount(&self) {
        self.session.unmount().unwrap();
        self.vfs.close().unwrap();
        self.store.close().unwrap();
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Of a test that failed: the folder must not be removed through the mount.
        if mount_table().unwrap().iter().any(|entry| self.path("").starts_with(&entry.mount_point) && entry.is_verfs())
        {
            let _ = self.session.detach();
        }
    }
}

/// Runs a shell command as an ordinary user and says whether it succeeded.
fn as_user(script: &str, path: &Path) -> bool {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &USER.to_string(), "--regid", &USER.to_string(), "--clear-groups"]);
    command.args(["sh", "-c", script, "sh"]).arg(path).stderr(std::process::Stdio::null());
    command.status().unwrap().success()
}

#[test]
fn set_id_bits_go_with_a_users_write_truncate_and_with_any_chown() {
    let volume = Volume::new();
    let mounted = volume.mount();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    let check = |name: &str, change: &dyn Fn(&Path), expected: u32| {
        let path = mounted.path(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
        change(&path);
        assert_eq!(mode(&path), expected, "{name}");
    };
    check("users-write", &|path| assert!(as_user("echo x >>\"$1\"", path)), 0o777);
    check("users-truncate", &|path| assert!(as_user("truncate -s 1 \"$1\"", path)), 0o777);
    check("users-fallocate", &|path| assert!(as_user("fallocate -n -l 1 \"$1\"", path)), 0o777);
    check("roots-write", &|path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap(), 0o6777);
    check("roots-chown", &|path| std::os::unix::fs::chown(path, Some(USER), None).unwrap(), 0o777);
    mounted.unmount();
    let mounted = volume.mount();
    assert_eq!(mode(&mounted.path("users-write")), 0o777, "only the kernel's copy had changed");
    assert_eq!(mode(&mounted.path("roots-write")), 0o6777);
    mounted.unmount();
}

/// The kernel keeps a mode for ever: it has to forget it in the same moment.
#[test]
fn a_program_that_a_user_wrote_to_no_longer_runs_as_its_owner() {
    let volume = Volume::new();
    let mounted = volume.mount_with("suid");
    let id = ["/usr/bin/id", "/bin/id"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    for (name, change) in [("write", "printf x >>\"$1\""), ("fallocate", "fallocate -n -l 1 \"$1\"")] {
        let path = mounted.path(name);
        fs::copy(id, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4777)).unwrap();
        assert!(as_user("test \"$(\"$1\" -u)\" = 0", &path), "{name}: it is not even set-user-id");
        assert!(as_user(&format!("{change} && test \"$(\"$1\" -u)\" = {USER}"), &path), "{name}");
    }
    mounted.unmount();
}

#[test]
fn modes_keep_users_out_although_everybody_may_enter_the_mount() {
    let volume = Volume::new();
    let mounted = volume.mount();
    fs::write(mounted.path("secret"), "x").unwrap();
    fs::set_permissions(mounted.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!as_user("cat \"$1\"", &mounted.path("secret")));
    assert!(!as_user("touch \"$1\"", &mounted.path("new")));
    fs::create_dir(mounted.path("open")).unwrap();
    fs::set_permissions(mounted.path("open"), fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(as_user("echo mine >\"$1\"", &mounted.path("open/new")));
    assert_eq!(fs::metadata(mounted.path("open/new")).unwrap().uid(), USER);
    fs::write(mounted.path("open/roots"), "x").unwrap();
    assert!(!as_user("rm -f \"$1\"", &mounted.path("open/roots")), "the sticky bit does not protect");
    mounted.unmount();
}

#[test]
fn what_was_written_is_read_after_a_remount_from_the_pool() {
    let volume = Volume::new();
    let mut random = vec![0; 6_000_001];
    File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    let mounted = volume.mount();
    fs::create_dir(mounted.path("folder")).unwrap();
    fs::write(mounted.path("folder/file"), &random).unwrap();
    mounted.unmount();
    let mounted = volume.mount();
    assert!(fs::read(mounted.path("folder/file")).unwrap() == random);
    let stats = mounted.session.stats().operations;
    let read = stats.iter().find(|stats| stats.operation == Operation::Read).unwrap();
    assert!(read.queued > 0, "cold reads were done by the leader: {read:?}");
    mounted.unmount();
}

#[test]
fn an_unlinked_file_lives_as_long_as_it_is_open() {
    let volume = Volume::new();
    let mounted = volume.mount();
    fs::write(mounted.path("file"), vec![7; 300_000]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(mounted.path("file")).unwrap();
    fs::remove_file(mounted.path("file")).unwrap();
    mounted.vfs.sync().unwrap();
    file.write_all_at(b"more", 300_000).unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let mut content = vec![0; 300_004];
    file.read_exact_at(&mut content, 0).unwrap();
    assert!(content.ends_with(b"\x07more"));
    assert_eq!((file.metadata().unwrap().nlink(), file.metadata().unwrap().len()), (0, 300_004));
    drop(file);
    mounted.unmount();
}

#[test]
fn renames_exchange_and_long_names_are_refused() {
    let volume = Volume::new();
    let mounted = volume.mount();
    fs::write(mounted.path("file"), "x").unwrap();
    fs::create_dir(mounted.path("folder")).unwrap();
    let exchange = RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(CWD, mounted.path("file"), CWD, mounted.path("folder"), exchange).unwrap();
    assert!(fs::metadata(mounted.path("file")).unwrap().is_dir());
    assert_eq!(fs::read(mounted.path("folder")).unwrap(), b"x");
    let too_long = mounted.path(&"n".repeat(256));
    assert_eq!(fs::write(&too_long, "x").unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    fs::write(mounted.path(&"n".repeat(255)), "x").unwrap();
    mounted.unmount();
}

#[test]
fn a_file_with_holes_past_four_gib_takes_little_room() {
    const OFFSET: u64 = 5 << 30;
    let volume = Volume::new();
    let mounted = volume.mount();
    let file = File::options().create_new(true).read(true).write(true).open(mounted.path("sparse")).unwrap();
    file.write_all_at(b"end", OFFSET).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), OFFSET + 3);
    assert!(metadata.blocks() * 512 <= 1 << 20, "{} blocks", metadata.blocks());
    let mut read = [1; 6];
    file.read_exact_at(&mut read, OFFSET - 3).unwrap();
    assert_eq!(&read, b"\0\0\0end");
    drop(file);
    mounted.unmount();
}

#[test]
fn reads_leave_no_trace_where_the_mount_or_the_reader_forbids_it() {
    let volume = Volume::new();
    let mounted = volume.mount();
    fs::write(mounted.path("file"), "x").unwrap();
    mounted.unmount();
    // Opened anew each time, so that nothing but the read asks for the file.
    let moves = |mount_option: &str, flags: i32| {
        let mounted = volume.mount_with(mount_option);
        let before = mounted.vfs.lookup(&Context::ROOT, Ino::ROOT, b"file").unwrap();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(mounted.path("file")).unwrap();
        assert_eq!(file.read(&mut [0; 10]).unwrap(), 1);
        drop(file);
        let after = mounted.vfs.getattr(&Context::ROOT, before.ino).unwrap();
        assert_eq!(mounted.vfs.stats().dirty_bytes > 0, before.atime != after.atime);
        mounted.unmount();
        before.atime != after.atime
    };
    assert!(!moves("ro", 0), "a read-only mount changed the volume");
    assert!(!moves("noatime", 0));
    assert!(!moves("", libc::O_NOATIME));
    assert!(moves("", 0));
}

#[test]
fn a_private_mount_keeps_others_out_and_saves_what_the_kernel_would_check() {
    let volume = Volume::new();
    let mounted = volume.mount_for(AllowOther::No, "private");
    let asked = |action: &dyn Fn()| {
        let counts = || mounted.session.stats().operations.into_iter().map(|stats| (stats.operation, stats.count));
        let before: HashMap<Operation, u64> = counts().collect();
        action();
        counts()
            .filter(|(operation, count)| before.get(operation) != Some(count))
            .map(|(operation, _)| operation)
            // It comes when the kernel thinks fit, and nobody waits for it.
            .filter(|operation| *operation != Operation::Forget)
            .collect::<Vec<_>>()
    };
    let path = mounted.path("file");
    fs::write(mounted.path("teacher"), "x").unwrap();
    assert_eq!(asked(&|| drop(File::create(&path).unwrap())), [Operation::Lookup, Operation::Mknod]);
    assert_eq!(asked(&|| fs::remove_file(mounted.path("teacher")).unwrap()), [Operation::Unlink]);
    assert!(!as_user("ls \"$1\"", &mounted.path("")));

    // Root may do everything but execute what nobody may.
    let may = |access| rustix::fs::access(&path, access).map_err(rustix::io::Errno::raw_os_error);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!((may(Access::READ_OK | Access::WRITE_OK), may(Access::EXEC_OK)), (Ok(()), Err(libc::EACCES)));
    assert_eq!(Command::new(&path).spawn().unwrap_err().raw_os_error(), Some(libc::EACCES));
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o100)).unwrap();
    assert_eq!(may(Access::EXEC_OK), Ok(()));
    assert!(Command::new(&path).status().unwrap().success());

    // owner rw-, user 65534 r--, group r--, mask r--, others ---: entries of tag, permissions, id.
    let entries: [(u16, u16, u32); 5] = [(1, 6, !0), (2, 4, USER), (4, 4, !0), (0x10, 4, !0), (0x20, 0, !0)];
    let list: Vec<u8> = 2_u32
        .to_le_bytes()
        .into_iter()
        .chain(entries.iter().flat_map(|(tag, permissions, id)| {
            [tag.to_le_bytes().as_slice(), &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        }))
        .collect();
    let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
    assert_eq!(mode(), 0o100);
    rustix::fs::setxattr(&path, "system.posix_acl_access", &list, XattrFlags::empty()).unwrap();
    assert_eq!(mode(), 0o640, "the kernel shows the mode from before the list");
    mounted.unmount();
}
