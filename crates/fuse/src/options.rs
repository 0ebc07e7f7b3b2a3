//! Options of a mount: ours, and those of `mount -o`.

use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;
use verfs_vfs::AccessTimes;

use crate::error::FuseError;
use crate::mount_table::MountKind;

/// Who may enter the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AllowOther {
    /// The user who mounts it, as far as the modes of the files allow.
    #[default]
    No,
    /// Everybody, as far as the modes of the files allow.
    Yes,
}

/// Who holds callers to the modes and access control lists of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum PermissionChecks {
    /// The kernel, before it asks. For that it asks for the attributes of a directory after each change in it.
    #[default]
    Kernel,
    /// Nobody: only root may enter, and root passes them all.
    Private,
}

/// Whether the mount takes writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessMode {
    /// It does.
    #[default]
    ReadWrite,
    /// Every write gives EROFS, from the kernel.
    ReadOnly,
}

/// Whether a mounted volume shows its snapshots, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SnapshotsDirectory {
    /// Nowhere: `.snapshots` is a name like any other.
    Off,
    /// In `.snapshots` in the root, which is found by its name and not listed.
    #[default]
    Hidden,
    /// In `.snapshots` in the root, also in its listing.
    Listed,
    /// As [`SnapshotsDirectory::Hidden`]; and in `.snapshots` of every other directory, also only by name, that
    /// directory's earlier states.
    Everywhere,
}

/// The way between the kernel and a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TransportChoice {
    /// io_uring where the kernel has it switched on, else the device.
    #[default]
    Auto,
    /// The device, `/dev/fuse`.
    Device,
    /// io_uring, with the device for what can't go through that. Only where the kernel has it switched on.
    IoUring,
    /// The device through the library fuser, which knows fewer requests.
    Fuser,
}

impl TransportChoice {
    /// What the option `transport=` calls them.
    const NAMES: &'static [(&'static str, TransportChoice)] = &[
        ("auto", TransportChoice::Auto),
        ("device", TransportChoice::Device),
        ("io_uring", TransportChoice::IoUring),
        ("fuser", TransportChoice::Fuser),
    ];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<TransportChoice> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, choice)| *choice)
    }
}

/// How to mount a tree and how many threads serve it.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// What the mount table shows as the mount's source: the volume's path.
    pub fs_name: String,
    /// Who may enter.
    pub allow_other: AllowOther,
    /// Whether it takes writes. The option `ro` among the extra options says the same.
    pub access: AccessMode,
    /// Threads that wait for the store: so many for reads and look-ups, and as many again for changes. 1 ..= 64.
    pub io_threads: u32,
    /// Threads that wait in `fsync(2)`; as many fsyncs can share one disk flush. 1 ..= 64.
    pub sync_threads: u32,
    /// Bytes that the requests queued for each of the three groups of threads may hold. A queued write holds its data,
    /// 1 MiB at most; what changes no content holds next to nothing.
    pub queue_max_bytes: usize,
    /// How long the leader goes on polling after a request before it blocks, in microseconds; 0 never polls.
    pub poll_us: u32,
    /// How long a request may wait for the store before it is answered EIO, while the work for it goes on; `None` waits
    /// for ever. Not with [`TransportChoice::Fuser`].
    pub deadline: Option<Duration>,
    /// The way to the kernel. The option `transport=` among the extra options says the same.
    pub transport: TransportChoice,
    /// Where a volume shows its snapshots. The option `snapshots=` among the extra options says the same.
    pub snapshots: SnapshotsDirectory,
    /// Where an ordinary user's snapshots are mounted: he can't have a mount inside of his own, so `.snapshots` is a
    /// symlink to this directory, which is made. Without it he has none.
    pub snapshots_mountpoint: Option<PathBuf>,
    /// Values of `mount -o`, each one option or several with commas.
    pub extra_options: Vec<String>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            fs_name: "verfs".to_owned(),
            allow_other: AllowOther::No,
            access: AccessMode::ReadWrite,
            io_threads: 4,
            sync_threads: 16,
            queue_max_bytes: 64 << 20,
            poll_us: 100,
            deadline: Some(DEADLINE),
            transport: TransportChoice::default(),
            snapshots: SnapshotsDirectory::default(),
            snapshots_mountpoint: None,
            extra_options: Vec::new(),
        }
    }
}

/// As `nfs(5)` has it for `soft` mounts over TCP by default: after 60 s, two more tries of which the last ends after 3
/// minutes. Whoever waits so long on a local disk waits for a disk that hangs.
const DEADLINE: Duration = Duration::from_secs(180);

/// Most threads of one kind.
const THREADS_MAX: u32 = 64;

/// Longest polling: longer costs a core and gains nothing over the 45 us that a wake-up takes.
const POLL_MAX_US: u32 = 1000;

/// What of the options the kernel gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MountOptions {
    /// Source in the mount table.
    pub(crate) fs_name: String,
    /// Flags of `mount(2)`.
    pub(crate) flags: MountFlags,
    /// Who may enter.
    pub(crate) allow_other: AllowOther,
    /// Who checks permissions.
    pub(crate) permission_checks: PermissionChecks,
    /// The way to the kernel.
    pub(crate) transport: TransportChoice,
    /// Where a volume shows its snapshots.
    pub(crate) snapshots: SnapshotsDirectory,
    /// What it shows.
    pub(crate) kind: MountKind,
}

impl MountOptions {
    /// Whether reads leave a trace. The kernel doesn't tell a server that it must not: the server knows its mount.
    pub(crate) fn access_times(&self) -> AccessTimes {
        if self.flags.intersects(MountFlags::RDONLY | MountFlags::NOATIME) {
            AccessTimes::Stay
        } else {
            AccessTimes::Move
        }
    }
}

/// The flags of `mount(8)` that mean something here: name, and whether it sets or clears which flag. `dirsync` is not
/// among them: the kernel takes it and a FUSE server never hears of it.
const FLAGS: &[(&str, FlagChange, MountFlags)] = &[
    ("ro", FlagChange::Set, MountFlags::RDONLY),
    ("rw", FlagChange::Clear, MountFlags::RDONLY),
    ("nosuid", FlagChange::Set, MountFlags::NOSUID),
    ("suid", FlagChange::Clear, MountFlags::NOSUID),
    ("nodev", FlagChange::Set, MountFlags::NODEV),
    ("dev", FlagChange::Clear, MountFlags::NODEV),
    ("noexec", FlagChange::Set, MountFlags::NOEXEC),
    ("exec", FlagChange::Clear, MountFlags::NOEXEC),
    ("noatime", FlagChange::Set, MountFlags::NOATIME),
    ("atime", FlagChange::Clear, MountFlags::NOATIME),
    ("sync", FlagChange::Set, MountFlags::SYNCHRONOUS),
    ("async", FlagChange::Clear, MountFlags::SYNCHRONOUS),
];

#[derive(Clone, Copy)]
enum FlagChange {
    Set,
    Clear,
}

impl SessionOptions {
    /// Checks everything and works out what the kernel gets. Later extra options win over earlier ones.
    ///
    /// # Errors
    /// [`FuseError::InvalidOption`] for the first one that is wrong.
    pub(crate) fn validate(&self) -> Result<MountOptions, FuseError> {
        let number = |name: &str, value: u32| {
            let in_range = (1..=THREADS_MAX).contains(&value);
            in_range.then_some(()).ok_or_else(|| invalid(&format!("{name}={value}"), &format!("1 to {THREADS_MAX}")))
        };
        number("io_threads", self.io_threads)?;
        number("sync_threads", self.sync_threads)?;
        if self.queue_max_bytes == 0 {
            return Err(invalid("queue_max_bytes=0", "at least 1"));
        }
        if self.poll_us > POLL_MAX_US {
            return Err(invalid(&format!("poll_us={}", self.poll_us), &format!("at most {POLL_MAX_US}")));
        }
        if self.fs_name.contains('\0') {
            return Err(invalid("fsname", "it holds a NUL byte"));
        }
        let mut options = MountOptions {
            fs_name: self.fs_name.clone(),
            // Device nodes and set-id programs of a volume that anyone may have written are not to be trusted.
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            allow_other: self.allow_other,
            permission_checks: PermissionChecks::Kernel,
            transport: self.transport,
            snapshots: self.snapshots,
            kind: MountKind::Tree,
        };
        if self.access == AccessMode::ReadOnly {
            options.flags |= MountFlags::RDONLY;
        }
        for option in self.extra_options.iter().flat_map(|value| value.split(',')).filter(|option| !option.is_empty()) {
            options.apply(option)?;
        }
        options.check_private()?;
        Ok(options)
    }
}

impl MountOptions {
    fn check_private(&self) -> Result<(), FuseError> {
        let hindrance = match (self.permission_checks, self.allow_other) {
            (PermissionChecks::Kernel, _) => return Ok(()),
            (PermissionChecks::Private, AllowOther::Yes) => "it keeps everybody but root out: leave allow_other out",
            (PermissionChecks::Private, AllowOther::No) if !rustix::process::geteuid().is_root() => {
                "only root can do without permission checks"
            }
            (PermissionChecks::Private, AllowOther::No) if self.transport == TransportChoice::Fuser => {
                "transport=fuser can't do without permission checks"
            }
            (PermissionChecks::Private, AllowOther::No) => return Ok(()),
        };
        Err(invalid("private", hindrance))
    }

    fn apply(&mut self, option: &str) -> Result<(), FuseError> {
        if let Some((_, change, flag)) = FLAGS.iter().find(|(name, ..)| *name == option) {
            match change {
                FlagChange::Set => self.flags.insert(*flag),
                FlagChange::Clear => self.flags.remove(*flag),
            }
            return Ok(());
        }
        if let Some(name) = option.strip_prefix("transport=") {
            let names: Vec<&str> = TransportChoice::NAMES.iter().map(|(name, _)| *name).collect();
            self.transport = TransportChoice::named(name).ok_or_else(|| invalid(option, &names.join(", ")))?;
            return Ok(());
        }
        match option {
            "allow_other" => self.allow_other = AllowOther::Yes,
            "default_permissions" => self.permission_checks = PermissionChecks::Kernel,
            "private" => self.permission_checks = PermissionChecks::Private,
            "snapshots=off" => self.snapshots = SnapshotsDirectory::Off,
            "snapshots=hidden" => self.snapshots = SnapshotsDirectory::Hidden,
            "snapshots=listed" => self.snapshots = SnapshotsDirectory::Listed,
            "snapshots=everywhere" => self.snapshots = SnapshotsDirectory::Everywhere,
            // By convention only for tools that read fstab(5).
            tool if tool.starts_with("x-") => {}
            _ => {
                let ours = [
                    "allow_other",
                    "private",
                    "snapshots=off|hidden|listed|everywhere",
                    "transport=auto|device|io_uring|fuser",
                ];
                let known: Vec<&str> = FLAGS.iter().map(|(name, ..)| *name).chain(ours).collect();
                return Err(invalid(option, &format!("known are {}", known.join(", "))));
            }
        }
        Ok(())
    }

    /// The same flags as option names, for `fusermount3`.
    pub(crate) fn flag_names(&self) -> Vec<&'static str> {
        FLAGS
            .iter()
            .filter(|(_, change, flag)| match change {
                FlagChange::Set => self.flags.contains(*flag),
                FlagChange::Clear => false,
            })
            .map(|(name, ..)| *name)
            .collect()
    }
}

fn invalid(option: &str, detail: &str) -> FuseError {
    FuseError::InvalidOption { option: option.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn validate(extra: &[&str]) -> Result<MountOptions, FuseError> {
        let extra_options = extra.iter().map(ToString::to_string).collect();
        SessionOptions { extra_options, ..SessionOptions::default() }.validate()
    }

    #[test]
    fn set_id_and_devices_are_off_until_asked_for() {
        assert_eq!(validate(&[]).unwrap().flags, MountFlags::NOSUID | MountFlags::NODEV);
        assert_eq!(validate(&["suid,dev"]).unwrap().flags, MountFlags::empty());
        assert_eq!(validate(&["suid", "nosuid", "dev"]).unwrap().flags, MountFlags::NOSUID);
    }

    #[test]
    fn read_only_comes_from_the_field_and_from_the_option() {
        let options = SessionOptions { access: AccessMode::ReadOnly, ..SessionOptions::default() };
        assert!(options.validate().unwrap().flags.contains(MountFlags::RDONLY));
        assert_eq!(validate(&["ro"]).unwrap().flag_names(), ["ro", "nosuid", "nodev"]);
        assert_eq!(validate(&["ro,rw"]).unwrap().flag_names(), ["nosuid", "nodev"]);
    }

    #[test]
    fn allow_other_is_an_option_too_and_tool_options_are_ignored() {
        let options = validate(&["allow_other,,default_permissions", "x-systemd.automount"]).unwrap();
        assert_eq!(options.allow_other, AllowOther::Yes);
    }

    #[test]
    fn a_private_mount_is_for_root_alone() {
        assert_eq!(validate(&[]).unwrap().permission_checks, PermissionChecks::Kernel);
        assert_eq!(validate(&["private"]).unwrap().permission_checks, PermissionChecks::Private);
        assert_eq!(validate(&["private,default_permissions"]).unwrap().permission_checks, PermissionChecks::Kernel);
        for other in ["allow_other", "transport=fuser"] {
            assert!(matches!(validate(&["private", other]), Err(FuseError::InvalidOption { .. })), "{other}");
        }
    }

    #[test]
    fn snapshots_are_hidden_until_an_option_says_otherwise() {
        assert_eq!(validate(&[]).unwrap().snapshots, SnapshotsDirectory::Hidden);
        assert_eq!(validate(&["snapshots=listed"]).unwrap().snapshots, SnapshotsDirectory::Listed);
        assert_eq!(validate(&["snapshots=listed,snapshots=off"]).unwrap().snapshots, SnapshotsDirectory::Off);
        assert_eq!(validate(&["snapshots=everywhere"]).unwrap().snapshots, SnapshotsDirectory::Everywhere);
        assert!(matches!(validate(&["snapshots=some"]), Err(FuseError::InvalidOption { .. })));
    }

    #[test]
    fn the_transport_is_an_option_too() {
        assert_eq!(validate(&[]).unwrap().transport, TransportChoice::Auto);
        for (name, choice) in TransportChoice::NAMES {
            assert_eq!(validate(&[&format!("transport={name}")]).unwrap().transport, *choice);
        }
        match validate(&["transport=pigeon"]) {
            Err(FuseError::InvalidOption { detail, .. }) => assert!(detail.contains("fuser"), "{detail}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_leave_a_trace_unless_the_mount_forbids_it() {
        assert_eq!(validate(&[]).unwrap().access_times(), AccessTimes::Move);
        assert_eq!(validate(&["noatime"]).unwrap().access_times(), AccessTimes::Stay);
        assert_eq!(validate(&["noatime,atime"]).unwrap().access_times(), AccessTimes::Move);
        assert_eq!(validate(&["ro"]).unwrap().access_times(), AccessTimes::Stay);
    }

    #[test]
    fn unknown_options_are_named() {
        for option in ["allow_othr", "dirsync", "fsname=x", "ro "] {
            match validate(&["noatime", option]) {
                Err(FuseError::InvalidOption { option: named, detail }) => {
                    assert_eq!(named, option);
                    assert!(detail.contains("noatime"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for options in [
            SessionOptions { io_threads: 0, ..SessionOptions::default() },
            SessionOptions { sync_threads: 65, ..SessionOptions::default() },
            SessionOptions { queue_max_bytes: 0, ..SessionOptions::default() },
            SessionOptions { poll_us: 1001, ..SessionOptions::default() },
            SessionOptions { fs_name: "a\0b".to_owned(), ..SessionOptions::default() },
        ] {
            assert!(matches!(options.validate(), Err(FuseError::InvalidOption { .. })), "{options:?}");
        }
    }
}
