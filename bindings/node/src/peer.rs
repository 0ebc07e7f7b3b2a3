//! Who is at the other end of a Unix socket.
#![allow(unsafe_code, reason = "a file descriptor comes from JavaScript as a number")]

use std::os::fd::BorrowedFd;

use napi::{Error, Status};
use napi_derive::napi;
use rustix::net::sockopt::socket_peercred;

/// The user id of the process at the other end of the Unix socket `fd` (SO_PEERCRED, unix(7)).
///
/// Throws when `fd` isn't an open Unix socket.
#[napi]
pub fn peer_uid(fd: i32) -> napi::Result<u32> {
    if fd < 0 {
        return Err(Error::new(Status::InvalidArg, format!("{fd} is not a file descriptor")));
    }
    // SAFETY: `fd` isn't negative, and the borrow ends with this call, during which the JavaScript thread, which owns
    // the socket, can't close it. A number that isn't open makes getsockopt(2) answer EBADF.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let peer = socket_peercred(socket)
        .map_err(|errno| Error::new(Status::InvalidArg, format!("the user at the other end is unknown: {errno}")))?;
    Ok(peer.uid.as_raw())
}
