//! Who owns what is copied, and which extended attributes go with it: what the user of this process may set.

use rustix::process;

use super::tree::Meta;

/// What a user may give to others.
#[derive(Clone, Debug)]
pub(super) enum Owners {
    /// Root keeps everything.
    Kept,
    /// Anybody else owns what he copies, with its group where he is in it.
    Mine { uid: u32, gid: u32, groups: Vec<u32> },
}

impl Owners {
    /// Of the user of this process.
    pub(super) fn of_process() -> Owners {
        if process::geteuid().is_root() {
            return Owners::Kept;
        }
        let groups = process::getgroups().unwrap_or_default();
        Owners::Mine {
            uid: process::geteuid().as_raw(),
            gid: process::getegid().as_raw(),
            groups: groups.into_iter().map(process::Gid::as_raw).collect(),
        }
    }

    /// User and group of a copy.
    pub(super) fn of(&self, meta: &Meta) -> (u32, u32) {
        match self {
            Owners::Kept => (meta.uid, meta.gid),
            Owners::Mine { uid, gid, groups } if meta.gid == *gid || groups.contains(&meta.gid) => (*uid, meta.gid),
            Owners::Mine { uid, gid, .. } => (*uid, *gid),
        }
    }

    /// Whether an extended attribute is copied: those of namespaces that a volume has, and that the user may set.
    pub(super) fn keeps_xattr(&self, name: &[u8]) -> bool {
        let is_list = matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default");
        match self {
            // A label of SELinux belongs to the policy of a place.
            Owners::Kept => {
                is_list
                    || name.starts_with(b"user.")
                    || name.starts_with(b"trusted.")
                    || (name.starts_with(b"security.") && name != b"security.selinux")
            }
            Owners::Mine { .. } => is_list || name.starts_with(b"user."),
        }
    }

    /// Whether device nodes are made.
    pub(super) fn makes_devices(&self) -> bool {
        matches!(self, Owners::Kept)
    }
}
