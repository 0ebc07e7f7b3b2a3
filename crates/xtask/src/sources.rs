//! The files of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::XtaskError;

/// Runs a program in `root` and returns what it wrote to standard output.
pub fn output_of(program: &'static str, args: &[&str], root: &Path) -> Result<String, XtaskError> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root)
        .output()
        .map_err(|source| XtaskError::Start { program, source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(XtaskError::Failed { program, stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Paths, from the root, of every file that is or could be committed and is still there.
pub fn tracked_files(root: &Path) -> Result<Vec<PathBuf>, XtaskError> {
    let listed = output_of("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"], root)?;
    Ok(listed.split('\0').map(PathBuf::from).filter(|path| root.join(path).is_file()).collect())
}

/// The text of a file; bytes that are no UTF-8 are replaced.
pub fn read(root: &Path, path: &Path) -> Result<String, XtaskError> {
    let path = root.join(path);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(XtaskError::Read { path, source }),
    }
}
