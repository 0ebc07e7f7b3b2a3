//! Streams of snapshots, through a Unix socket on which the caller listens: the same for a volume in its process and
//! for one that a daemon has open.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use verfs_engine::{EngineError, TargetChanges};

use crate::call::{Call, Place, Wanted};
use crate::failure::Failure;
use crate::options::js_integer;
use crate::pool::Kind;
use crate::snapshots::Snapshot;
use crate::volume::Volume;

/// How long a transfer that stands still doesn't notice that nobody wants it any more.
const PATIENCE: Duration = Duration::from_millis(500);
/// Frames are as small as names are: they are collected.
const BUFFER_BYTES: usize = 256 << 10;

/// What is sent.
#[napi(object)]
pub struct SendOptions {
    /// The snapshot.
    pub name: String,
    /// The snapshot from which the stream leads on.
    pub from: Option<String>,
    /// From where a receiver wants it, as he was told.
    pub resume: Option<String>,
    /// A Unix socket on which somebody listens for the stream.
    pub socket: String,
}

/// How a stream is received.
#[napi(object)]
pub struct ReceiveOptions {
    /// Whether changes since the stream's base are undone. Otherwise they refuse it.
    pub rollback: bool,
    /// A Unix socket from which the stream comes.
    pub socket: String,
}

/// One end of a stream. It breaks when nobody waits for the call any more, also while nothing moves.
pub(crate) struct Line<'a> {
    socket: UnixStream,
    wanted: &'a Wanted<'a>,
}

impl<'a> Line<'a> {
    pub(crate) fn connect(path: &Path, wanted: &'a Wanted<'a>) -> Result<Self, Failure> {
        let failed = |detail: String| Failure::from(EngineError::Io { path: PathBuf::from(path), detail });
        let socket = UnixStream::connect(path).map_err(|error| failed(error.to_string()))?;
        let peer = socket_peercred(&socket).map_err(|errno| failed(errno.to_string()))?;
        // A snapshot is for its owner only.
        if peer.uid != geteuid() {
            return Err(failed(format!("user {} listens there", peer.uid.as_raw())));
        }
        let patience = Some(PATIENCE);
        let set = socket.set_read_timeout(patience).and_then(|()| socket.set_write_timeout(patience));
        set.map_err(|error| failed(error.to_string()))?;
        Ok(Self { socket, wanted })
    }

    /// Tries until something moves.
    fn patiently<T>(&mut self, mut attempt: impl FnMut(&mut UnixStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.wanted.flow().is_break() {
                        return Err(io::Error::new(ErrorKind::ConnectionAborted, "nobody waits for it any more"));
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

impl Read for Line<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(|socket| socket.read(buffer))
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[napi]
impl Volume {
    /// Writes the stream of a snapshot to a socket; resolves to the bytes of the stream when all is written.
    #[napi]
    pub fn snapshot_send<'env>(
        &self,
        env: &'env Env,
        options: SendOptions,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, i64>> {
        let inner = self.inner()?;
        let work = move |wanted: &Wanted<'_>| {
            let SendOptions { name, from, resume, socket } = &options;
            let line = Line::connect(Path::new(socket), wanted)?;
            let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, line);
            let base = from.as_deref().map(str::as_bytes);
            let sent =
                inner.send_snapshot(name.as_bytes(), base, resume.as_deref(), &mut out, &mut || wanted.flow())?;
            Ok(js_integer(sent.bytes))
        };
        Call { name: "snapshotSend", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// Makes the volume what the stream says that comes from a socket, and the snapshot of it. Cancelled before the
    /// stream was whole, nothing changes.
    #[napi]
    pub fn snapshot_receive<'env>(
        &self,
        env: &'env Env,
        options: ReceiveOptions,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, Snapshot>> {
        let inner = self.inner()?;
        let work = move |wanted: &Wanted<'_>| {
            let line = Line::connect(Path::new(&options.socket), wanted)?;
            let mut source = io::BufReader::with_capacity(BUFFER_BYTES, line);
            let changes = if options.rollback { TargetChanges::RollBack } else { TargetChanges::Refuse };
            Ok(Snapshot::from(inner.receive_snapshot(&mut source, changes, &mut || wanted.flow())?))
        };
        Call { name: "snapshotReceive", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// From where a stream that was cut can go on; null when there is none.
    #[napi]
    pub fn interrupted_receive<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, Option<String>>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.interrupted_receive()?);
        Call { name: "interruptedReceive", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }
}
