//! What parts of the tree take.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::ops::ControlFlow;

use verfs_base::Ino;
use verfs_vfs::{NodeKind, Usage, VfsError};

use self::volume::{Open, ROOT, Volume, noise, slow};

const LEN: usize = 400_000;

fn file(open: &Open, parent: Ino, name: &[u8], data: &[u8]) -> Ino {
    let ino = open.vfs.mknod(&ROOT, parent, name, NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.write(&ROOT, ino, 0, data).unwrap();
    ino
}

fn usage(open: &Open, path: &str) -> Usage {
    open.vfs.usage(path.as_bytes(), &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Two directories with a file in common, one of them with it twice, and something of its own.
fn open() -> (Volume, Open) {
    let volume = Volume::new(slow());
    let open = volume.open();
    let [one, two] = [b"one", b"two"].map(|name| open.vfs.mkdir(&ROOT, Ino::ROOT, name, 0o755).unwrap().ino);
    let (common, own) = (noise(LEN, 1), noise(LEN, 2));
    file(&open, one, b"common", &common);
    file(&open, one, b"again", &common);
    file(&open, one, b"own", &own);
    let linked = file(&open, two, b"common", &common);
    open.vfs.link(&ROOT, linked, two, b"linked").unwrap();
    open.vfs.symlink(&ROOT, two, b"link", b"common").unwrap();
    (volume, open)
}

#[test]
fn of_what_is_there_twice_is_unique_once_and_shared_with_others() {
    let (_volume, open) = open();
    let len = LEN as u64;
    let one = usage(&open, "one");
    assert_eq!((one.files, one.directories, one.logical_bytes), (3, 1, 3 * len));
    assert_eq!((one.unique_bytes, one.shared_bytes), (2 * len, len));
    // Noise is not made smaller by compression: what is stored of it is about as long.
    assert!(one.stored_bytes > 2 * len - 4096 && one.stored_bytes < 2 * len + 4096, "{one:?}");
    assert!(one.exclusive_bytes > len - 4096 && one.exclusive_bytes < len + 4096, "{one:?}");
    let two = usage(&open, "/two/");
    assert_eq!((two.files, two.directories, two.unique_bytes, two.shared_bytes), (2, 1, len, len));
    assert_eq!(two.exclusive_bytes, 0);
    let own = usage(&open, "one/own");
    assert_eq!((own.files, own.directories, own.logical_bytes, own.shared_bytes), (1, 0, len, 0));
    let all = usage(&open, "");
    assert_eq!((all.files, all.directories, all.logical_bytes), (5, 3, 4 * len));
    assert_eq!((all.unique_bytes, all.shared_bytes, all.exclusive_bytes), (2 * len, 0, all.stored_bytes));
    open.close();
}

#[test]
fn is_the_same_in_many_passes_as_in_one() {
    let (_volume, open) = open();
    for chunks_max in [1, 2, 5, 1000] {
        for path in ["", "one", "two"] {
            let passes = open.vfs.usage_with(path.as_bytes(), chunks_max, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(passes, usage(&open, path), "{chunks_max} chunks of {path:?}");
        }
    }
    open.close();
}

#[test]
fn small_files_and_holes_take_what_they_hold() {
    let volume = Volume::new(slow());
    let open = volume.open();
    file(&open, Ino::ROOT, b"small", b"in its metadata");
    let sparse = file(&open, Ino::ROOT, b"sparse", b"");
    open.vfs.write(&ROOT, sparse, 64 << 20, &noise(LEN, 3)).unwrap();
    let small = usage(&open, "small");
    assert_eq!((small.logical_bytes, small.unique_bytes, small.shared_bytes), (15, 15, 0));
    let sparse = usage(&open, "sparse");
    assert_eq!((sparse.logical_bytes, sparse.unique_bytes), ((64 << 20) + LEN as u64, LEN as u64));
    open.close();
}

#[test]
fn of_nothing_is_refused_and_whoever_has_seen_enough_ends_it() {
    let (_volume, open) = open();
    let ask = |path: &[u8]| open.vfs.usage(path, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(ask(b"absent"), Err(VfsError::NotFound)));
    assert!(matches!(ask(b"one/own/below"), Err(VfsError::NotFound)));
    assert!(matches!(ask(b"one/../two"), Err(VfsError::InvalidArgument)));
    let ended =
        open.vfs.usage(b"", &mut |seen| if seen < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
    assert!(matches!(ended, Err(VfsError::Interrupted)));
    open.close();
}
