//! Snapshots of a volume as streams of bytes, for whoever has both ends of the line.

use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;

use verfs_vfs::{LockedVaults, ResumeToken, Sent, Snapshot, StreamError, TargetChanges, VfsError};

use crate::{EngineError, Volume};

impl Volume {
    /// Writes the stream of a snapshot: the whole of it, or what leads there from the snapshot `base`; with `resume`
    /// from where a receiver has it. `progress` may end it.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], [`EngineError::Usage`] for a base that isn't older or a token that is none,
    /// [`EngineError::StreamMismatch`] for a token of another stream, [`EngineError::StreamCancelled`],
    /// [`EngineError::Io`] also when `out` takes no more, [`EngineError::Closed`].
    pub fn send_snapshot(
        &self,
        name: &[u8],
        base: Option<&[u8]>,
        resume: Option<&str>,
        out: &mut dyn Write,
        progress: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Sent, EngineError> {
        self.refuse_closed()?;
        let resume = resume.map(parse_token).transpose()?;
        let vault = self.vault().for_stream()?;
        let sent = self.vfs().send_with_vault((name, base), resume, vault.as_ref(), out, &mut |_| progress());
        sent.map_err(|error| match error {
            StreamError::Volume(VfsError::NotFound) => match base {
                Some(base) if self.vfs().snapshot(name).is_ok() => EngineError::snapshot_not_found(base),
                Some(_) | None => EngineError::snapshot_not_found(name),
            },
            StreamError::Volume(VfsError::InvalidArgument) => EngineError::Usage(
                "a stream leads from an older snapshot to a newer one: `verfs snapshot list` has the oldest first"
                    .to_owned(),
            ),
            StreamError::Mismatch(detail) if resume.is_some() => EngineError::StreamMismatch {
                detail,
                advice: "take it from `verfs receive --status`, and name the snapshot and `--from` as before",
            },
            error => self.stream_error(error),
        })
    }

    /// Makes the tree what the sender's snapshot was, and a snapshot of it. A mount shows it when the call returns.
    /// `progress` may end it until the stream was verified to its end; before that nothing changes.
    ///
    /// # Errors
    /// [`EngineError::StreamDamaged`], [`EngineError::StreamMismatch`], [`EngineError::StreamCancelled`], and those of
    /// every change. After [`EngineError::Io`] while the stream was applied the volume takes no changes any more;
    /// opening it again completes that.
    pub fn receive_snapshot(
        &self,
        source: &mut dyn Read,
        changes: TargetChanges,
        progress: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Snapshot, EngineError> {
        self.refuse_read_only()?;
        let vaults: &dyn LockedVaults = &**self.vault();
        let received = self.vfs().receive_with_vault(source, changes, Some(vaults), &mut |_| progress());
        let received = received.map_err(|error| self.stream_error(error))?;
        self.tell_outdated(&received.outdated);
        Ok(received.snapshot)
    }

    /// Where a stream that was cut can be gone on with: what to send it with, or nothing.
    ///
    /// # Errors
    /// [`EngineError::Closed`], [`EngineError::Io`].
    pub fn interrupted_receive(&self) -> Result<Option<String>, EngineError> {
        self.refuse_closed()?;
        let token = self.vfs().interrupted_receive().map_err(|error| self.stream_error(error))?;
        Ok(token.map(|token| token.to_string()))
    }

    fn stream_error(&self, error: StreamError) -> EngineError {
        let advice = |token: Option<ResumeToken>| match token {
            Some(token) => format!("go on with `verfs send … --resume {token}`"),
            None => "send it again".to_owned(),
        };
        match error {
            StreamError::Volume(VfsError::Interrupted) => EngineError::StreamCancelled,
            StreamError::Volume(error) => EngineError::from_vfs(self.path(), error),
            StreamError::Cut(token) => {
                let detail = format!("ends too early, {} bytes from its start", token.offset);
                EngineError::StreamDamaged { detail, advice: advice(Some(token)) }
            }
            StreamError::Damaged { detail, resume } => {
                EngineError::StreamDamaged { detail: format!("is damaged ({detail})"), advice: advice(resume) }
            }
            StreamError::Mismatch(detail) => EngineError::StreamMismatch {
                detail,
                advice: "`verfs snapshot list` shows what is there; send a base first, or the whole snapshot to an empty \
                         volume, or undo changes with `--rollback`",
            },
            StreamError::Pipe(error) => match error.kind() {
                ErrorKind::UnexpectedEof => {
                    EngineError::StreamDamaged { detail: "ends before it begins".to_owned(), advice: advice(None) }
                }
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                    let detail = format!("the other end of the stream is gone ({error})");
                    EngineError::Io { path: self.path().to_path_buf(), detail }
                }
                // The disk on which a stream is kept until it is whole.
                _ => EngineError::from_io(self.path(), &error),
            },
        }
    }
}

fn parse_token(text: &str) -> Result<ResumeToken, EngineError> {
    let what = "is no place to go on from: `verfs receive --status` shows it";
    text.parse().map_err(|_| EngineError::Usage(format!("{text:?} {what}")))
}
