//! What the errors of surrealkv mean to a caller, and whether writes go on after them.

use std::io::ErrorKind;

use ::surrealkv::{BackgroundError, Error, ErrorSeverity};

use crate::MetaError;
use crate::engine::is_out_of_space;

/// What the machine lacked for a write, and may have later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shortage {
    /// Room on the disk.
    Space,
    /// Descriptors.
    Files,
}

/// How the last write ended.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) enum Writes {
    /// It succeeded.
    #[default]
    Working,
    /// The disk was full, or no more files could be opened. The engine heals this by itself, within two seconds of there
    /// being what it lacked; meanwhile it answers errors that may say nothing of that.
    Short(Shortage),
    /// It failed otherwise. The engine heals some of these too, but nobody knows what is durable, so the store takes no
    /// write until it is opened again.
    Failed(String),
}

/// What the engine's own threads met with.
pub(super) struct Background {
    error: Error,
    severity: ErrorSeverity,
}

impl From<BackgroundError> for Background {
    fn from(background: BackgroundError) -> Self {
        Background { error: background.error, severity: background.severity }
    }
}

impl Background {
    /// Whether the engine has given up until it is opened again.
    fn is_for_good(&self) -> bool {
        self.severity >= ErrorSeverity::FatalError
    }

    /// Why writes are refused, if they are: a soft error stops none, and a shortage is waited for.
    pub(super) fn stops_writes(&self) -> Option<String> {
        let is_short = shortage(&self.error).is_some();
        let passes = self.severity < ErrorSeverity::HardError || (is_short && !self.is_for_good());
        (!passes).then(|| self.error.to_string())
    }
}

impl Writes {
    /// A write failed: what its caller is told, and what becomes of the writes after it.
    pub(super) fn failed(&mut self, error: &Error, background: Option<Background>) -> MetaError {
        let lasting = match self {
            Writes::Short(lasting) => Some(*lasting),
            Writes::Working | Writes::Failed(_) => None,
        };
        let lacked = background.as_ref().and_then(|other| shortage(&other.error)).or(lasting);
        let lacked = shortage(error).or(lacked);
        // Poisoned: it doesn't know itself whether the batch took effect.
        let is_for_good = error.is_poisoned() || background.as_ref().is_some_and(Background::is_for_good);
        let reason = match background {
            Some(background) => format!("{error} ({})", background.error),
            None => error.to_string(),
        };
        if let Some(lacked) = lacked.filter(|_| !is_for_good) {
            *self = Writes::Short(lacked);
            return lacked.error(reason);
        }
        tracing::error!(reason, "the metadata engine stopped taking writes");
        *self = Writes::Failed(reason.clone());
        MetaError::Io(reason)
    }
}

impl Shortage {
    fn error(self, reason: String) -> MetaError {
        match self {
            Shortage::Space => MetaError::OutOfSpace(reason),
            Shortage::Files => MetaError::OutOfFiles(reason),
        }
    }
}

/// Whether an error says that something ran out, and what. The engine turns most errors of the operating system into
/// text on their way up, so the text of `std::io::Error` for their numbers is all there is to go by.
pub(super) fn shortage(error: &Error) -> Option<Shortage> {
    const ENOSPC: &str = "(os error 28)";
    const EDQUOT: &str = "(os error 122)";
    const ENFILE: &str = "(os error 23)";
    const EMFILE: &str = "(os error 24)";
    if let Error::Io(error) = error
        && is_out_of_space(error.kind())
    {
        return Some(Shortage::Space);
    }
    let text = error.to_string();
    if text.contains(ENOSPC) || text.contains(EDQUOT) {
        Some(Shortage::Space)
    } else if text.contains(ENFILE) || text.contains(EMFILE) {
        Some(Shortage::Files)
    } else {
        None
    }
}

pub(super) fn reading_error(error: &Error) -> MetaError {
    if is_damage(error) { MetaError::Corrupt(error.to_string()) } else { MetaError::Io(error.to_string()) }
}

pub(super) fn opening_error(error: &Error) -> MetaError {
    if let Some(lacked) = shortage(error) {
        return lacked.error(error.to_string());
    }
    match error {
        Error::LegacyFormat(_) | Error::MigrationFailed(_) => MetaError::Unsupported(error.to_string()),
        // Its manifest names files: what is short or not there was damaged.
        Error::Io(io)
            if matches!(io.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound) =>
        {
            MetaError::Corrupt(error.to_string())
        }
        // A log that is damaged before its end is an error in words.
        Error::Other(text) if text.contains("corruption") => MetaError::Corrupt(error.to_string()),
        error => reading_error(error),
    }
}

pub(super) fn closing_error(error: &Error) -> MetaError {
    let reason = error.to_string();
    shortage(error).map_or_else(|| MetaError::Io(reason.clone()), |lacked| lacked.error(reason.clone()))
}

fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Corruption(_)
            | Error::CorruptedBlock(_)
            | Error::CorruptedTableMetadata(_)
            | Error::Decompression(_)
            | Error::InvalidTableFormat
            | Error::LoadManifestFail(_)
            | Error::ManifestCorruption(_)
            | Error::ManifestMissing(_)
            | Error::SSTable(_)
            | Error::WalCorruption { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    fn io_error(errno: i32) -> Error {
        Error::Io(Arc::new(io::Error::from_raw_os_error(errno)))
    }

    /// As the engine passes an error of its log on.
    fn as_text(errno: i32) -> Error {
        Error::Wal(format!("cannot append: {}", io::Error::from_raw_os_error(errno)))
    }

    fn background(error: Error, severity: ErrorSeverity) -> Option<Background> {
        Some(Background { error, severity })
    }

    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;
    const EIO: i32 = 5;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;

    #[test]
    fn a_full_disk_is_known_by_its_number_and_by_its_text() {
        for errno in [ENOSPC, EDQUOT] {
            for error in [io_error(errno), as_text(errno)] {
                assert_eq!(shortage(&error), Some(Shortage::Space));
                assert!(matches!(opening_error(&error), MetaError::OutOfSpace(_)));
                assert!(matches!(closing_error(&error), MetaError::OutOfSpace(_)));
            }
        }
        assert!(shortage(&io_error(EIO)).is_none() && shortage(&as_text(EIO)).is_none());
        assert!(matches!(closing_error(&io_error(EIO)), MetaError::Io(_)));
    }

    #[test]
    fn a_lack_of_descriptors_is_known_passes_and_is_no_full_disk() {
        for errno in [ENFILE, EMFILE] {
            for error in [io_error(errno), as_text(errno)] {
                assert_eq!(shortage(&error), Some(Shortage::Files));
                assert!(matches!(opening_error(&error), MetaError::OutOfFiles(_)));
                assert!(matches!(closing_error(&error), MetaError::OutOfFiles(_)));
            }
            let mut writes = Writes::Working;
            assert!(matches!(writes.failed(&as_text(errno), None), MetaError::OutOfFiles(_)));
            let nameless = Error::Other("the next replacement of the log is due in 40 ms".into());
            assert!(
                matches!(writes.failed(&nameless, None), MetaError::OutOfFiles(_)),
                "it is still repairing its log"
            );
            assert_eq!(writes, Writes::Short(Shortage::Files));
            let flush = background(io_error(errno), ErrorSeverity::FatalError);
            assert!(matches!(writes.failed(&Error::PipelineStall, flush), MetaError::Io(_)));
        }
    }

    #[test]
    fn writes_go_on_after_a_full_disk_and_after_no_failure() {
        let nameless = || Error::Other("the next replacement of the log is due in 40 ms".into());
        let mut writes = Writes::Working;
        assert!(matches!(writes.failed(&as_text(ENOSPC), None), MetaError::OutOfSpace(_)));
        assert!(matches!(writes.failed(&nameless(), None), MetaError::OutOfSpace(_)), "it is still repairing its log");
        assert_eq!(writes, Writes::Short(Shortage::Space));

        let mut writes = Writes::Working;
        assert!(matches!(writes.failed(&nameless(), None), MetaError::Io(_)));
        assert!(matches!(writes, Writes::Failed(_)));

        let mut writes = Writes::Working;
        let flush = background(as_text(ENOSPC), ErrorSeverity::HardError);
        assert!(matches!(writes.failed(&Error::PipelineStall, flush), MetaError::OutOfSpace(_)));
        let manifest = background(as_text(ENOSPC), ErrorSeverity::FatalError);
        assert!(matches!(writes.failed(&Error::PipelineStall, manifest), MetaError::Io(_)));
        assert!(matches!(writes, Writes::Failed(_)));

        let mut writes = Writes::Working;
        let poisoned = Error::DatabaseStopped("of a commit, half is in a table: (os error 28)".into());
        assert!(matches!(writes.failed(&poisoned, None), MetaError::Io(_)));
    }

    #[test]
    fn health_tells_a_full_disk_from_a_broken_one() {
        let stops = |errno, severity| Background { error: as_text(errno), severity }.stops_writes().is_some();
        assert!(!stops(ENOSPC, ErrorSeverity::SoftError));
        assert!(!stops(ENOSPC, ErrorSeverity::HardError));
        assert!(stops(ENOSPC, ErrorSeverity::FatalError));
        assert!(!stops(EIO, ErrorSeverity::SoftError));
        assert!(stops(EIO, ErrorSeverity::HardError));
        assert!(stops(EIO, ErrorSeverity::Unrecoverable));
    }

    #[test]
    fn damage_and_foreign_formats_are_told_apart() {
        let manifest = Error::ManifestCorruption("checksum".into());
        assert!(matches!(opening_error(&manifest), MetaError::Corrupt(_)));
        let log = Error::WalCorruption { segment_id: 1, offset: 2, message: String::new() };
        assert!(matches!(reading_error(&log), MetaError::Corrupt(_)));
        assert!(matches!(opening_error(&Error::LegacyFormat(String::new())), MetaError::Unsupported(_)));
        assert!(matches!(opening_error(&Error::Other("locked".into())), MetaError::Io(_)));
        let log = Error::Other("WAL segment 3.wal has interior corruption at offset 0".into());
        assert!(matches!(opening_error(&log), MetaError::Corrupt(_)));
        let missing = Error::Io(Arc::new(io::ErrorKind::NotFound.into()));
        assert!(matches!(opening_error(&missing), MetaError::Corrupt(_)), "a table that is gone");
        assert!(matches!(opening_error(&io_error(EIO)), MetaError::Io(_)));
    }
}
