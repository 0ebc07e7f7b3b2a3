//! Files of a volume without a mount, as tests use them.

use verfs_engine::{FileError, Files, OpenFlags};

pub const READ: i32 = libc::O_RDONLY;
pub const NEW: i32 = libc::O_RDWR | libc::O_CREAT;

pub fn open(files: &Files, path: &str, flags: i32) -> Result<i32, FileError> {
    files.open(path.as_bytes(), OpenFlags::from_bits(flags), 0o666)
}

pub fn put(files: &Files, path: &str, content: &str) {
    let file = open(files, path, NEW).unwrap();
    files.write(file, None, content.as_bytes()).unwrap();
    files.close(file).unwrap();
}

pub fn errno<T: std::fmt::Debug>(result: Result<T, FileError>) -> i32 {
    match result.unwrap_err() {
        FileError::System(errno) => errno.raw_os_error(),
        FileError::Closed => panic!("closed"),
    }
}
