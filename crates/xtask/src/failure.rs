//! Why a check could not be made.

use std::io;
use std::path::PathBuf;

/// A check that could not be made, which is not the same as a violation.
#[derive(Debug, thiserror::Error)]
pub enum XtaskError {
    /// A program could not be run.
    #[error("{program} cannot be run: {source}")]
    Start {
        /// Its name.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {stderr}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// What it said.
        stderr: String,
    },
    /// A file could not be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something isn't the JSON that it should be.
    #[error("{what} is not the expected JSON: {detail}")]
    Json {
        /// What it is.
        what: String,
        /// What is wrong.
        detail: String,
    },
}
