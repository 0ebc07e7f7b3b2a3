//! Everything that programs ask of a volume, each once.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FallocateFlags, FileType, IFlags, Mode, RenameFlags, XattrFlags};

use crate::support::page::Page;
use crate::{MIB, random};

/// Something that is tried on a full volume.
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    /// Whether it must succeed: it gives room, or makes durable what was accepted.
    pub(crate) must_succeed: bool,
    pub(crate) run: fn(&Path) -> io::Result<()>,
}

fn open(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn acl() -> Vec<u8> {
    let mut value = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 5, 7), (4, 4, u32::MAX), (16, 7, u32::MAX), (32, 4, u32::MAX)]
    {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// Everything that programs ask of a volume, in `work`, where [`prepare`] made what they need.
pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "write a little",
        must_succeed: false,
        run: |at| open(at.join("small"))?.write_all_at(b"changed", 3),
    },
    Attempt {
        name: "write much",
        must_succeed: false,
        run: |at| File::create(at.join("much"))?.write_all(&random(77, 3 * MIB)),
    },
    Attempt {
        name: "overwrite a block",
        must_succeed: false,
        run: |at| open(at.join("large"))?.write_all_at(&random(78, 4096), 8192),
    },
    Attempt {
        name: "append",
        must_succeed: false,
        run: |at| open(at.join("large"))?.write_all_at(b"more", MIB as u64),
    },
    Attempt {
        name: "write synchronously",
        must_succeed: false,
        run: |at| {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_SYNC).open(at.join("small"))?.write_all_at(b"now", 20)
        },
    },
    Attempt { name: "fsync", must_succeed: true, run: |at| open(at.join("small"))?.sync_all() },
    Attempt { name: "fsync of a directory", must_succeed: true, run: |at| File::open(at)?.sync_all() },
    Attempt { name: "create", must_succeed: false, run: |at| File::create_new(at.join("new")).map(drop) },
    Attempt { name: "mkdir", must_succeed: false, run: |at| fs::create_dir(at.join("new directory")) },
    Attempt { name: "symlink", must_succeed: false, run: |at| symlink("t".repeat(3000), at.join("new symlink")) },
    Attempt { name: "link", must_succeed: false, run: |at| fs::hard_link(at.join("small"), at.join("new link")) },
    Attempt {
        name: "mknod",
        must_succeed: false,
        run: |at| Ok(rustix::fs::mknodat(CWD, at.join("new pipe"), FileType::Fifo, Mode::RWXU, 0)?),
    },
    Attempt { name: "rename", must_succeed: false, run: |at| fs::rename(at.join("moved"), at.join("moved here")) },
    Attempt { name: "rename over", must_succeed: false, run: |at| fs::rename(at.join("over"), at.join("overwritten")) },
    Attempt {
        name: "exchange",
        must_succeed: false,
        run: |at| {
            Ok(rustix::fs::renameat_with(CWD, at.join("small"), CWD, at.join("large"), RenameFlags::EXCHANGE)
                .and_then(|()| {
                    rustix::fs::renameat_with(CWD, at.join("small"), CWD, at.join("large"), RenameFlags::EXCHANGE)
                })?)
        },
    },
    Attempt {
        name: "setxattr",
        must_succeed: false,
        run: |at| Ok(rustix::fs::setxattr(at.join("small"), "user.new", b"value", XattrFlags::empty())?),
    },
    Attempt {
        name: "setxattr of much",
        must_succeed: false,
        run: |at| Ok(rustix::fs::setxattr(at.join("large"), "user.new", &random(79, 60_000), XattrFlags::empty())?),
    },
    Attempt {
        name: "removexattr",
        must_succeed: true,
        run: |at| Ok(rustix::fs::removexattr(at.join("small"), "user.old")?),
    },
    Attempt {
        name: "access control list",
        must_succeed: false,
        run: |at| {
            let name = "system.posix_acl_access";
            Ok(rustix::fs::setxattr(at.join("small"), name, &acl(), XattrFlags::empty())?)
        },
    },
    Attempt {
        name: "chmod",
        must_succeed: false,
        run: |at| fs::set_permissions(at.join("small"), Permissions::from_mode(0o600)),
    },
    Attempt {
        name: "chown",
        must_succeed: false,
        run: |at| std::os::unix::fs::chown(at.join("small"), Some(7), Some(8)),
    },
    Attempt {
        name: "utimes",
        must_succeed: false,
        run: |at| open(at.join("small"))?.set_modified(std::time::SystemTime::UNIX_EPOCH),
    },
    Attempt {
        name: "chattr",
        must_succeed: false,
        run: |at| Ok(rustix::fs::ioctl_setflags(open(at.join("small"))?, IFlags::NODUMP)?),
    },
    Attempt { name: "extend", must_succeed: false, run: |at| open(at.join("large"))?.set_len(100 * MIB as u64) },
    Attempt { name: "truncate", must_succeed: false, run: |at| open(at.join("large"))?.set_len(300_001) },
    Attempt {
        name: "fallocate",
        must_succeed: false,
        run: |at| Ok(rustix::fs::fallocate(open(at.join("large"))?, FallocateFlags::empty(), 0, 4 * MIB as u64)?),
    },
    Attempt {
        name: "fallocate behind the end",
        must_succeed: false,
        run: |at| Ok(rustix::fs::fallocate(open(at.join("large"))?, FallocateFlags::KEEP_SIZE, 0, 8 * MIB as u64)?),
    },
    Attempt {
        name: "zero a range",
        must_succeed: false,
        run: |at| Ok(rustix::fs::fallocate(open(at.join("large"))?, FallocateFlags::ZERO_RANGE, 5000, 100_000)?),
    },
    Attempt {
        name: "punch a hole",
        must_succeed: true,
        run: |at| {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            Ok(rustix::fs::fallocate(open(at.join("large"))?, flags, 5001, 100_000)?)
        },
    },
    Attempt {
        name: "copy",
        must_succeed: false,
        run: |at| {
            let (from, to) = (File::open(at.join("source"))?, File::create(at.join("copy"))?);
            Ok(rustix::fs::copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), MIB).map(drop)?)
        },
    },
    Attempt {
        name: "write through a map",
        must_succeed: false,
        run: |at| {
            let file = open(at.join("mapped"))?;
            if file.metadata()?.len() < 8192 {
                // It was to be made when there was no room.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let page = Page::map(&file, libc::MAP_SHARED, 4096);
            page.set(17, b'm');
            page.sync()
        },
    },
    Attempt { name: "truncate to nothing", must_succeed: false, run: |at| open(at.join("large"))?.set_len(0) },
    Attempt { name: "unlink", must_succeed: true, run: |at| fs::remove_file(at.join("doomed")) },
    Attempt { name: "rmdir", must_succeed: true, run: |at| fs::remove_dir(at.join("doomed directory")) },
    Attempt { name: "unlink a large file", must_succeed: true, run: |at| fs::remove_file(at.join("large")) },
];

/// Makes what the attempts need.
pub(crate) fn prepare(at: &Path) -> io::Result<()> {
    fs::create_dir(at)?;
    for name in ["small", "moved", "over", "overwritten", "doomed"] {
        fs::write(at.join(name), random(5, 100))?;
    }
    for (seed, name) in [(6, "large"), (7, "source"), (8, "mapped")] {
        fs::write(at.join(name), random(seed, MIB))?;
    }
    fs::create_dir(at.join("doomed directory"))?;
    Ok(rustix::fs::setxattr(at.join("small"), "user.old", b"old", XattrFlags::empty())?)
}
