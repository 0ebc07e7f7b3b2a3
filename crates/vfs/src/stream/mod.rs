//! Snapshots as streams of bytes: made by `send`, applied to another volume by `receive`.
//!
//! Lives here: what goes into a stream and what a volume makes of it. Never here: the bytes of frames, which are
//! `verfs-format`'s. Data flows from records and chunks of a snapshot into frames; on the other side through a spool
//! file, which is verified to its end before anything of the volume changes, into records.

mod receive;
mod send;
mod spool;

use std::fmt;
use std::io;
use std::str::FromStr;

pub(crate) use receive::complete_receive;
pub use receive::{Received, TargetChanges, complete_vault_receive};
pub use send::Sent;
pub(crate) use spool::SpoolReader;

use crate::VfsError;

/// Where an interrupted stream goes on: shown by the receiver, given to the sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResumeToken {
    /// The stream.
    pub stream: [u8; 16],
    /// Bytes of it that were received and verified.
    pub offset: u64,
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ":{}", self.offset)
    }
}

impl FromStr for ResumeToken {
    type Err = VfsError;

    fn from_str(text: &str) -> Result<Self, VfsError> {
        let (stream, offset) = text.split_once(':').ok_or(VfsError::InvalidArgument)?;
        let number = u128::from_str_radix(stream, 16).ok().filter(|_| stream.len() == 32);
        let offset = offset.parse().ok();
        match number.zip(offset) {
            Some((number, offset)) => Ok(ResumeToken { stream: number.to_be_bytes(), offset }),
            None => Err(VfsError::InvalidArgument),
        }
    }
}

/// Why a stream could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The volume failed, or the snapshot isn't there.
    #[error(transparent)]
    Volume(#[from] VfsError),
    /// The stream could not be read or written.
    #[error("the stream: {0}")]
    Pipe(#[from] io::Error),
    /// It ends too early. What came is kept: it can be gone on with.
    #[error("the stream ends too early, {} bytes from its start", .0.offset)]
    Cut(ResumeToken),
    /// It isn't what was sent. What came before the damage is kept, where there is a token.
    #[error("the stream is damaged: {detail}")]
    Damaged {
        /// What is wrong.
        detail: String,
        /// Where to go on.
        resume: Option<ResumeToken>,
    },
    /// It is not for this volume.
    #[error("the stream does not fit the volume: {0}")]
    Mismatch(String),
}
