//! Limits of extended attributes, and what becomes of them with their inode.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use verfs_base::Ino;
use verfs_format::keys;
use verfs_meta::MetaStore;
use verfs_vfs::{NodeKind, SyncScope, VfsError, XattrMode};

use self::volume::{ROOT, Volume, slow};

#[test]
fn an_inode_has_room_for_128_kib_of_names_and_values() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let vfs = &open.vfs;
    let file = vfs.mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    let set = |name: &[u8], len: usize| vfs.setxattr(&ROOT, file, name, &vec![7; len], XattrMode::Set);
    set(b"user.a", 65_536).unwrap();
    set(b"user.b", 65_536 - 12).unwrap();
    assert_eq!(set(b"user.b", 65_536 - 11), Err(VfsError::NoSpace));
    assert_eq!(set(b"user.c", 0), Err(VfsError::NoSpace));
    set(b"user.a", 10).unwrap();
    let longest = [&b"user."[..], &[b'n'; 250]].concat();
    set(&longest, 1).unwrap();
    assert_eq!(set(&[&longest[..], b"n"].concat(), 1), Err(VfsError::NameTooLong));
    for name in [&b"user."[..], b"trusted.", b"security."] {
        assert_eq!(set(name, 1), Err(VfsError::InvalidArgument));
    }
    for name in [&b""[..], b"user", b"os2.a", b"system.posix_acl"] {
        assert_eq!(set(name, 1), Err(VfsError::Unsupported));
    }
    vfs.sync().unwrap();
    open.close();
    let open = volume.open();
    assert_eq!(open.vfs.getxattr(&ROOT, file, b"user.b").unwrap(), vec![7; 65_536 - 12]);
    assert_eq!(open.vfs.listxattr(&ROOT, file).unwrap(), [b"user.a", b"user.b", &longest[..]]);
    open.close();
}

#[test]
fn attributes_that_were_synced_survive_a_crash_and_removed_ones_stay_away() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let file = open.vfs.mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.setxattr(&ROOT, file, b"user.gone", b"1", XattrMode::Create).unwrap();
    open.vfs.sync().unwrap();
    open.vfs.removexattr(&ROOT, file, b"user.gone").unwrap();
    open.vfs.setxattr(&ROOT, file, b"user.kept", b"2", XattrMode::Create).unwrap();
    open.vfs.fsync(&ROOT, file, SyncScope::All).unwrap();
    let commits = open.vfs.stats().groups_committed;
    let crashed = volume.after_power_loss();
    let recovered = crashed.open();
    assert_eq!(recovered.vfs.listxattr(&ROOT, file).unwrap(), [&b"user.kept"[..]]);
    assert_eq!(commits, 1, "the log alone had them");
    recovered.close();
    open.close();
}

#[test]
fn no_record_is_left_of_an_inode_that_lost_its_attributes_and_its_name_in_one_group() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let file = open.vfs.mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.setxattr(&ROOT, file, b"user.a", b"1", XattrMode::Set).unwrap();
    open.vfs.sync().unwrap();
    assert!(volume.meta.get(&keys::xattrs(file)).unwrap().is_some());
    open.vfs.removexattr(&ROOT, file, b"user.a").unwrap();
    open.vfs.unlink(&ROOT, Ino::ROOT, b"file").unwrap();
    open.vfs.sync().unwrap();
    open.vfs.sync().unwrap();
    assert_eq!(volume.meta.get(&keys::xattrs(file)).unwrap(), None);
    open.close();
}
