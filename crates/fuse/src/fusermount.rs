//! `fusermount3(1)`, the set-user-id program that mounts for an ordinary user.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::error::FuseError;
use crate::mount_table::{escape_option_value, mount_at};
use crate::mounting::{FUSE_DEVICE, Unmounting, device_error};
use crate::options::{AllowOther, MountOptions};

const PROGRAM: &str = "fusermount3";

/// Where the program tells the descriptor of the socket on which it sends the device.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// Whether a mount that is in use is taken away nevertheless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Detach {
    /// It stays.
    No,
    /// It leaves the tree of names; who has files open keeps them.
    Yes,
}

/// Mounts at `path` and gives the device.
pub(crate) fn mount(path: &Path, options: &MountOptions) -> Result<OwnedFd, FuseError> {
    rustix::fs::stat(FUSE_DEVICE).map_err(device_error)?;
    let io = |source: std::io::Error| FuseError::io("mounting through fusermount3 at", path, source);
    let (ours, theirs) = UnixStream::pair().map_err(io)?;
    let mut child = program()?
        .arg("-o")
        .arg(option_string(options))
        .arg("--")
        .arg(path)
        // Its standard input is the one descriptor that it inherits.
        .env(SOCKET_VARIABLE, "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // Fails on rubbish only, which then stays unsaid.
        let _ = stderr.read_to_string(&mut said);
    }
    let status = child.wait().map_err(io)?;
    match receive_device(&ours) {
        Ok(Some(device)) => Ok(device),
        Ok(None) => Err(refusal(path, said.trim())),
        Err(errno) => Err(io(std::io::Error::from(errno))),
    }
    .inspect_err(|_| tracing::debug!(%status, said, "fusermount3 did not mount"))
}

/// Unmounts `path`.
pub(crate) fn unmount(path: &Path, detach: Detach) -> Result<Unmounting, FuseError> {
    let mut command = program()?;
    command.arg("-u");
    if detach == Detach::Yes {
        command.arg("-z");
    }
    let io = |source: std::io::Error| FuseError::io("unmounting through fusermount3", path, source);
    let output = command.arg("--").arg(path).stdin(Stdio::null()).output().map_err(io)?;
    if output.status.success() || mount_at(path)?.is_none_or(|entry| !entry.is_verfs()) {
        return Ok(Unmounting::Done);
    }
    match detach {
        Detach::No => Ok(Unmounting::Busy),
        Detach::Yes => Err(refusal(path, String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn program() -> Result<Command, FuseError> {
    let search = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let found: Option<PathBuf> =
        std::env::split_paths(&search).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file());
    found.map(Command::new).ok_or(FuseError::NoFusermount)
}

fn option_string(options: &MountOptions) -> String {
    let mut parts = vec![
        format!("fsname={}", escape_option_value(&options.fs_name)),
        format!("subtype={}", options.kind.subtype()),
        "default_permissions".to_owned(),
    ];
    if options.allow_other == AllowOther::Yes {
        parts.push("allow_other".to_owned());
    }
    parts.extend(options.flag_names().into_iter().map(str::to_owned));
    parts.join(",")
}

/// The device that the program sent before it ended, if it did.
fn receive_device(socket: &UnixStream) -> Result<Option<OwnedFd>, rustix::io::Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags))?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// What the program's message means. Its wording is stable: tools grep for it.
fn refusal(path: &Path, said: &str) -> FuseError {
    let message = said.strip_prefix("fusermount3: ").unwrap_or(said);
    let denied = |detail: String| FuseError::PermissionDenied { path: path.to_path_buf(), detail };
    if message.contains("user_allow_other") {
        return denied(
            "allow_other needs the line user_allow_other in /etc/fuse.conf, which root can write".to_owned(),
        );
    }
    if message.contains("device not found") {
        return FuseError::NoFuseDevice;
    }
    if message.contains("unknown option") {
        return FuseError::InvalidOption { option: message.to_owned(), detail: "fusermount3 refuses it".to_owned() };
    }
    if ["ermission denied", "not permitted", "no write access", "too many FUSE", "not owned", "not owner", "sticky"]
        .iter()
        .any(|refused| message.contains(refused))
    {
        return denied(format!("fusermount3 says: {message}"));
    }
    FuseError::io("mounting through fusermount3 at", path, std::io::Error::other(message.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::options::SessionOptions;

    #[test]
    fn options_reach_the_program_with_commas_escaped() {
        let options = SessionOptions {
            fs_name: "/a,b".to_owned(),
            extra_options: vec!["ro,allow_other".to_owned()],
            ..SessionOptions::default()
        };
        assert_eq!(
            option_string(&options.validate().unwrap()),
            r"fsname=/a\,b,subtype=verfs,default_permissions,allow_other,ro,nosuid,nodev"
        );
    }

    #[test]
    fn messages_of_the_program_have_their_errors() {
        let refusal = |said: &str| refusal(Path::new("/m"), said);
        assert!(matches!(
            refusal("fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf"),
            FuseError::PermissionDenied { detail, .. } if detail.contains("/etc/fuse.conf")
        ));
        assert!(matches!(
            refusal("fusermount3: failed to open /dev/fuse: Permission denied"),
            FuseError::PermissionDenied { .. }
        ));
        assert!(matches!(
            refusal("fusermount3: user has no write access to mountpoint /m"),
            FuseError::PermissionDenied { .. }
        ));
        assert!(matches!(
            refusal("fusermount3: fuse device not found, try 'modprobe fuse' first"),
            FuseError::NoFuseDevice
        ));
        assert!(matches!(refusal("fusermount3: unknown option 'x'"), FuseError::InvalidOption { .. }));
        assert!(matches!(refusal("fusermount3: mount failed: Invalid argument"), FuseError::Io { .. }));
    }
}
