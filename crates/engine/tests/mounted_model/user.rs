//! Acts as another user on this thread alone, as a file server does: permissions are no matter here, but what a user
//! makes is his, and he keeps no set-id bits.

use std::cell::Cell;

use rustix::fs::Mode;
use rustix::io::Errno;
use verfs_testkit::Who;

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_MKNOD; CAP_FSETID not among them.
const KEPT: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 27;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Capabilities {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn set_user(who: Who) {
    // SAFETY: they take numbers, and change nothing but this thread's credentials.
    unsafe {
        libc::setfsgid(who.gid);
        libc::setfsuid(who.uid);
    }
}

fn keep_capabilities() {
    let mut header = Header { version: CAPABILITY_VERSION, pid: 0 };
    let mut sets = [Capabilities::default(); 2];
    // SAFETY: version 3 reads a header and writes two sets; both outlive the call.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    assert_eq!(got, 0, "capget");
    sets[0].effective |= KEPT & sets[0].permitted;
    // SAFETY: version 3 reads a header and two sets; both outlive the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    assert_eq!(set, 0, "capset");
}

thread_local! {
    /// Whether this thread has a umask of its own.
    static HAS_OWN_UMASK: Cell<bool> = const { Cell::new(false) };
}

fn set_umask(umask: u16) {
    if !HAS_OWN_UMASK.replace(true) {
        // SAFETY: it takes a number; from now on this thread's umask and directory are nobody else's.
        let unshared = unsafe { libc::unshare(libc::CLONE_FS) };
        assert_eq!(unshared, 0, "unshare");
    }
    rustix::process::umask(Mode::from_bits_retain(umask.into()));
}

/// Does something as somebody. The kernel gives root's capabilities back with root's number.
pub(crate) fn acting<T>(who: Who, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    set_umask(who.umask);
    if who.uid == 0 && who.gid == 0 {
        return act();
    }
    set_user(who);
    keep_capabilities();
    let done = act();
    set_user(Who::ROOT);
    done
}
