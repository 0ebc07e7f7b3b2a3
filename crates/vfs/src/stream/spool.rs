//! Where a stream lands: a file of the volume's directory that holds verified frames only. There is one at a time.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use verfs_base::{Disk, DiskFile};
use verfs_format::{
    STREAM_BODY_MAX_BYTES, STREAM_CHECK_BYTES, STREAM_HEAD_BYTES, STREAM_MAGIC, STREAM_RESUME_MAGIC,
    STREAM_VAULT_MAGIC, StreamBegin, StreamCheck, StreamFrame,
};

use super::{ResumeToken, StreamError};
use crate::VfsError;
use crate::space::SpaceGauge;

/// Directory of the spool, under the volume's root.
const SPOOL_DIRECTORY: &str = "receive";
/// Frames are collected until they fill a write of this size.
const WRITE_BYTES: usize = 1 << 20;

/// What a record of a stream takes at most where it is applied, beside four times its bytes: its versions, and the
/// metadata engine's log of them.
const RECORD_ROOM_BYTES: u64 = 512;

/// A stream that came whole.
pub(crate) struct Filled {
    pub(crate) begin: StreamBegin,
    /// What it takes at most on the disk, applied.
    pub(crate) room_bytes: u64,
}

/// A stream's file.
pub(crate) fn spool_path(stream: [u8; 16]) -> PathBuf {
    let name: String = stream.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(SPOOL_DIRECTORY).join(format!("{name}.part"))
}

/// Removes every spool but that of `stream`.
pub(crate) fn remove_others(disk: &dyn Disk, stream: Option<[u8; 16]>) -> io::Result<()> {
    let kept = stream.map(spool_path);
    for name in disk.list(Path::new(SPOOL_DIRECTORY))? {
        let path = Path::new(SPOOL_DIRECTORY).join(name);
        if Some(&path) != kept.as_ref() {
            disk.remove(&path)?;
        }
    }
    Ok(())
}

/// Why no frame comes from a source.
pub(crate) enum NoFrame {
    Ended,
    Bad(String),
    Failed(io::Error),
}

/// Frames of a stream, each one checked against all before it.
pub(crate) struct Frames {
    check: StreamCheck,
    count: u64,
    /// What they take at most on the disk, applied.
    room_bytes: u64,
    /// The last frame was the stream's last.
    ended: bool,
}

impl Frames {
    fn new() -> Self {
        Frames { check: StreamCheck::default(), count: 0, room_bytes: 0, ended: false }
    }

    /// The next frame, and its bytes.
    fn next(&mut self, source: &mut dyn Read) -> Result<(StreamFrame, Vec<u8>), NoFrame> {
        let ends = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => NoFrame::Ended,
            _ => NoFrame::Failed(error),
        };
        let mut bytes = vec![0; STREAM_HEAD_BYTES];
        source.read_exact(&mut bytes).map_err(ends)?;
        let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let kind = bytes[4];
        if len > STREAM_BODY_MAX_BYTES {
            return Err(NoFrame::Bad(format!("frame {} says that it has {len} bytes", self.count)));
        }
        bytes.resize(STREAM_HEAD_BYTES + len + STREAM_CHECK_BYTES, 0);
        source.read_exact(&mut bytes[STREAM_HEAD_BYTES..]).map_err(ends)?;
        let (body, check) = bytes[STREAM_HEAD_BYTES..].split_at(len);
        let expected = self.check.with(kind, body);
        if !expected.is(check) {
            return Err(NoFrame::Bad(format!("the check of frame {} is wrong", self.count)));
        }
        let frame = StreamFrame::decode(kind, body)
            .map_err(|error| NoFrame::Bad(format!("frame {} is none of a stream: {error}", self.count)))?;
        match (&frame, self.count) {
            (StreamFrame::Begin(_), 0) => {}
            (StreamFrame::Begin(_), _) | (_, 0) => {
                return Err(NoFrame::Bad(format!("frame {} is out of its place", self.count)));
            }
            (StreamFrame::End(frames), count) if *frames != count => {
                return Err(NoFrame::Bad(format!("{count} frames came, and {frames} were sent")));
            }
            _ => {}
        }
        self.check = expected;
        self.count += 1;
        self.room_bytes += match &frame {
            StreamFrame::Chunk(raw_len, ..) | StreamFrame::Block(_, raw_len, ..) => {
                SpaceGauge::claim_of(u64::from(*raw_len))
            }
            StreamFrame::Begin(_)
            | StreamFrame::Inode(..)
            | StreamFrame::Dirent(..)
            | StreamFrame::Symlink(..)
            | StreamFrame::Xattrs(..)
            | StreamFrame::Segment(..)
            | StreamFrame::Sealed(_)
            | StreamFrame::End(_) => RECORD_ROOM_BYTES + 4 * len as u64,
        };
        self.ended = matches!(frame, StreamFrame::End(_));
        Ok((frame, bytes))
    }
}

/// Reads a file of the volume from its start.
struct FileReader {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Reads the frames of a whole spool again, to be applied.
pub(crate) struct SpoolReader {
    source: io::BufReader<FileReader>,
    frames: Frames,
}

impl SpoolReader {
    pub(crate) fn open(disk: &dyn Disk, stream: [u8; 16]) -> Result<SpoolReader, StreamError> {
        let file = disk.open_read(&spool_path(stream))?;
        let mut source = io::BufReader::with_capacity(WRITE_BYTES, FileReader { file, at: 0 });
        let mut magic = [0; 8];
        source.read_exact(&mut magic)?;
        if magic != STREAM_MAGIC && magic != STREAM_VAULT_MAGIC {
            return Err(StreamError::Damaged { detail: "the spool is no stream".to_owned(), resume: None });
        }
        Ok(SpoolReader { source, frames: Frames::new() })
    }

    /// The next frame.
    pub(crate) fn next(&mut self) -> Result<StreamFrame, StreamError> {
        match self.frames.next(&mut self.source) {
            Ok((frame, _)) => Ok(frame),
            Err(NoFrame::Failed(error)) => Err(error.into()),
            Err(NoFrame::Ended) => {
                Err(StreamError::Damaged { detail: "the spool has no end".to_owned(), resume: None })
            }
            Err(NoFrame::Bad(detail)) => Err(StreamError::Damaged { detail, resume: None }),
        }
    }
}

/// A spool that is being filled.
struct Spool {
    file: Arc<dyn DiskFile>,
    stream: [u8; 16],
    /// Verified bytes that are written, and those that wait.
    written: u64,
    waiting: Vec<u8>,
}

impl Spool {
    fn token(&self) -> ResumeToken {
        ResumeToken { stream: self.stream, offset: self.written }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.waiting, self.written)?;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Makes what came durable, so that it can be gone on with.
    fn keep(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.set_len(self.written)?;
        self.file.sync_data()
    }
}

/// Receives a stream, or the rest of one, into its spool, and verifies it to its end. `accept` may refuse what the
/// stream begins with, before anything is kept.
pub(crate) fn fill(
    disk: &dyn Disk,
    source: &mut dyn Read,
    accept: &mut dyn FnMut(&StreamBegin) -> Result<(), StreamError>,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Filled, StreamError> {
    disk.create_dir_all(Path::new(SPOOL_DIRECTORY))?;
    let mut magic = [0; 8];
    let nothing = || StreamError::Damaged { detail: "nothing came".to_owned(), resume: None };
    source.read_exact(&mut magic).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => nothing(),
        _ => error.into(),
    })?;
    let (mut spool, mut frames, begin) = match magic {
        STREAM_MAGIC | STREAM_VAULT_MAGIC => begin_spool(disk, (&magic, source), accept)?,
        STREAM_RESUME_MAGIC => resume_spool(disk, source, accept)?,
        _ => return Err(StreamError::Damaged { detail: "this is no stream of a snapshot".to_owned(), resume: None }),
    };
    // All of it may be there already: what came after its end, applying it, failed.
    while !frames.ended {
        match frames.next(source) {
            Ok((_, bytes)) => {
                spool.take(&bytes)?;
                if !progress(spool.written + spool.waiting.len() as u64) {
                    spool.keep()?;
                    return Err(VfsError::Interrupted.into());
                }
            }
            Err(stop) => {
                spool.keep()?;
                return Err(match stop {
                    NoFrame::Ended => StreamError::Cut(spool.token()),
                    NoFrame::Bad(detail) => StreamError::Damaged { detail, resume: Some(spool.token()) },
                    NoFrame::Failed(error) => error.into(),
                });
            }
        }
    }
    spool.keep()?;
    disk.sync_dir(Path::new(SPOOL_DIRECTORY))?;
    disk.sync_dir(Path::new(""))?;
    Ok(Filled { begin, room_bytes: frames.room_bytes })
}

fn begin_spool(
    disk: &dyn Disk,
    (magic, source): (&[u8; 8], &mut dyn Read),
    accept: &mut dyn FnMut(&StreamBegin) -> Result<(), StreamError>,
) -> Result<(Spool, Frames, StreamBegin), StreamError> {
    let mut frames = Frames::new();
    let damaged = |detail: String| StreamError::Damaged { detail, resume: None };
    let (frame, bytes) = frames.next(source).map_err(|stop| match stop {
        NoFrame::Ended => damaged("it ends before it begins".to_owned()),
        NoFrame::Bad(detail) => damaged(detail),
        NoFrame::Failed(error) => error.into(),
    })?;
    let StreamFrame::Begin(begin) = frame else { return Err(damaged("it doesn't begin".to_owned())) };
    if begin.vault.is_some() != (*magic == STREAM_VAULT_MAGIC) {
        return Err(damaged("it is not of the version that it says".to_owned()));
    }
    accept(&begin)?;
    remove_others(disk, None)?;
    let file = disk.create(&spool_path(begin.stream))?;
    let mut spool = Spool { file, stream: begin.stream, written: 0, waiting: Vec::new() };
    spool.take(magic)?;
    spool.take(&bytes)?;
    Ok((spool, frames, begin))
}

fn resume_spool(
    disk: &dyn Disk,
    source: &mut dyn Read,
    accept: &mut dyn FnMut(&StreamBegin) -> Result<(), StreamError>,
) -> Result<(Spool, Frames, StreamBegin), StreamError> {
    let (mut stream, mut offset) = ([0; 16], [0; 8]);
    source.read_exact(&mut stream)?;
    source.read_exact(&mut offset)?;
    let offset = u64::from_le_bytes(offset);
    let nothing =
        || StreamError::Mismatch("there is nothing to go on with: the stream has to come from its start".to_owned());
    let mut reader = SpoolReader::open(disk, stream).map_err(|error| match error {
        StreamError::Pipe(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => nothing(),
            _ => error.into(),
        },
        StreamError::Damaged { .. } => nothing(),
        other => other,
    })?;
    let begin = match reader.next()? {
        StreamFrame::Begin(begin) => begin,
        _ => return Err(StreamError::Damaged { detail: "the spool doesn't begin".to_owned(), resume: None }),
    };
    accept(&begin)?;
    let file = disk.open(&spool_path(stream))?;
    // What is there is verified once more, up to where the rest begins.
    loop {
        let at = reader.position();
        if at == offset {
            break;
        }
        if at > offset {
            return Err(StreamError::Mismatch("the stream goes on in the middle of a frame".to_owned()));
        }
        match reader.frames.next(&mut reader.source) {
            Ok(_) => {}
            Err(NoFrame::Failed(error)) => return Err(error.into()),
            Err(NoFrame::Ended | NoFrame::Bad(_)) => {
                let have = ResumeToken { stream, offset: at };
                return Err(StreamError::Mismatch(format!("only a part is there: send it from {have} on")));
            }
        }
    }
    let spool = Spool { file, stream, written: offset, waiting: Vec::new() };
    Ok((spool, reader.frames, begin))
}

impl SpoolReader {
    /// Bytes of the frames read so far, and of the magic.
    fn position(&self) -> u64 {
        self.source.get_ref().at - self.source.buffer().len() as u64
    }
}

/// Where the spool ends that is there, if one is.
pub(crate) fn interrupted(disk: &dyn Disk) -> Result<Option<ResumeToken>, StreamError> {
    for name in disk.list(Path::new(SPOOL_DIRECTORY))? {
        let stem = name.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let Ok(token) = format!("{stem}:0").parse::<ResumeToken>() else { continue };
        let mut reader = match SpoolReader::open(disk, token.stream) {
            Ok(reader) => reader,
            Err(StreamError::Pipe(error)) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            // Of what was never said to be kept, a crash leaves anything.
            Err(StreamError::Damaged { .. }) => continue,
            Err(error) => return Err(error),
        };
        let mut offset = None;
        while reader.next().is_ok() {
            offset = Some(reader.position());
        }
        if let Some(offset) = offset {
            return Ok(Some(ResumeToken { stream: token.stream, offset }));
        }
    }
    Ok(None)
}
