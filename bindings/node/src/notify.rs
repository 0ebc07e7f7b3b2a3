//! Word to the service manager that started this process: sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use napi::{Error, Status};
use napi_derive::napi;

/// Sends `state`, lines of `NAME=value` as of sd_notify(3), to the datagram socket that the environment variable
/// `NOTIFY_SOCKET` names: a path, or with `@` in front a name without one. Node.js has no such sockets.
///
/// Throws when nobody takes it.
#[napi]
pub fn notify_service_manager(socket: String, state: String) -> napi::Result<()> {
    let send = || {
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&socket)?,
        };
        let sender = UnixDatagram::unbound()?;
        // A manager that doesn't read must not hold up the JavaScript thread.
        sender.set_nonblocking(true)?;
        sender.send_to_addr(state.as_bytes(), &address)
    };
    let told = send().map_err(|error| Error::new(Status::GenericFailure, format!("{socket}: {error}")))?;
    match told == state.len() {
        true => Ok(()),
        false => {
            Err(Error::new(Status::GenericFailure, format!("{socket}: {told} bytes of {} were taken", state.len())))
        }
    }
}
