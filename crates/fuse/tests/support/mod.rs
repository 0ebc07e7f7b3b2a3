//! What the tests with real mounts share: a mounted tree in memory, in a temporary directory of its own.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod memory_tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory_tree::MemoryTree;
use verfs_fuse::{Operation, Session, SessionOptions, TransportChoice, mount_table};

/// A mount that is gone when the test ends, however it ends.
pub struct Mount {
    pub session: Option<Session>,
    pub tree: Arc<MemoryTree>,
    folder: Option<tempfile::TempDir>,
}

impl Mount {
    pub fn new() -> Mount {
        Mount::with(MemoryTree::new(), &SessionOptions::default())
    }

    /// `VERFS_TEST_TRANSPORT` names the transport that the whole suite is to run on.
    pub fn with(tree: MemoryTree, options: &SessionOptions) -> Mount {
        let transport = std::env::var("VERFS_TEST_TRANSPORT").ok();
        let transport = transport.map_or(options.transport, |name| TransportChoice::named(&name).unwrap());
        Mount::over(transport, tree, options)
    }

    pub fn over(transport: TransportChoice, tree: MemoryTree, options: &SessionOptions) -> Mount {
        let folder = tempfile::Builder::new().prefix("verfs-fuse-").tempdir().unwrap();
        let mountpoint = folder.path().join("mount");
        std::fs::create_dir(&mountpoint).unwrap();
        let tree = Arc::new(tree);
        let options = SessionOptions { transport, ..options.clone() };
        let session = Session::mount(tree.clone(), &mountpoint, &options).unwrap();
        Mount { session: Some(session), tree, folder: Some(folder) }
    }

    pub fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    pub fn root(&self) -> PathBuf {
        self.folder.as_ref().unwrap().path().join("mount")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// What the kernel asks while `action` runs, and how often.
    pub fn asked_during(&self, action: impl FnOnce()) -> Vec<(Operation, u64)> {
        let before = self.session().stats().operations;
        action();
        let earlier =
            |operation| before.iter().find(|stats| stats.operation == operation).map_or(0, |stats| stats.count);
        let after = self.session().stats().operations;
        after
            .into_iter()
            .map(|stats| (stats.operation, stats.count - earlier(stats.operation)))
            .filter(|(_, new)| *new > 0)
            .collect()
    }

    /// How often an operation came.
    pub fn count(&self, operation: Operation) -> u64 {
        let operations = self.session().stats().operations;
        operations.iter().find(|stats| stats.operation == operation).map_or(0, |stats| stats.count)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let root = self.root();
        drop(self.session.take());
        let folder = self.folder.take().unwrap();
        if is_mounted(&root) {
            // Removing the folder would remove what is in the mount.
            let _ = folder.keep();
        }
    }
}

/// Whether something is mounted exactly there.
pub fn is_mounted(path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    mount_table().unwrap().iter().any(|entry| entry.mount_point == path)
}

/// Waits until `condition` holds, and says whether it did within ten seconds.
pub fn eventually(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    condition()
}
