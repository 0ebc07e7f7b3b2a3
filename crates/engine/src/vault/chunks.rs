//! The chunks of the vault, whoever asks for them: its open tree, or what works on the locked one.

use std::sync::Arc;

use parking_lot::Mutex;
use verfs_store::{ChunkStore, StoreError};

/// Opens the store of a locked vault.
type Open = dyn Fn() -> Result<Arc<ChunkStore>, StoreError> + Send + Sync;

enum Chunks {
    /// Nobody needs them now.
    Unused,
    /// They are open without keys.
    Locked(Arc<ChunkStore>),
    /// The vault is being opened or locked: nobody else may open them.
    Changing,
    /// They are those of the open vault.
    Open(Arc<ChunkStore>),
}

/// The one store of the vault's chunks.
pub(super) struct VaultChunks {
    chunks: Mutex<Chunks>,
    open: Box<Open>,
}

impl VaultChunks {
    /// None is open; `open` opens one without keys.
    pub(super) fn new(open: impl Fn() -> Result<Arc<ChunkStore>, StoreError> + Send + Sync + 'static) -> VaultChunks {
        VaultChunks { chunks: Mutex::new(Chunks::Unused), open: Box::new(open) }
    }

    /// The store that is open, or one without keys.
    ///
    /// # Errors
    /// [`StoreError::Closed`] while the vault is being opened or locked, and what opening says.
    pub(super) fn get(&self) -> Result<Arc<ChunkStore>, StoreError> {
        let mut chunks = self.chunks.lock();
        match &*chunks {
            Chunks::Locked(store) | Chunks::Open(store) => Ok(Arc::clone(store)),
            Chunks::Changing => Err(StoreError::Closed),
            Chunks::Unused => {
                let store = (self.open)()?;
                *chunks = Chunks::Locked(Arc::clone(&store));
                Ok(store)
            }
        }
    }

    /// Whether they are open without keys.
    pub(super) fn is_locked(&self) -> bool {
        matches!(*self.chunks.lock(), Chunks::Locked(_))
    }

    /// Closes what is open without keys, if it is; it is opened again when somebody needs it.
    pub(super) fn rest(&self) {
        let mut chunks = self.chunks.lock();
        if let Chunks::Locked(store) = &*chunks {
            close(store);
            *chunks = Chunks::Unused;
        }
    }

    /// Nobody opens them until [`VaultChunks::settle`].
    pub(super) fn begin_change(&self) {
        self.rest();
        *self.chunks.lock() = Chunks::Changing;
    }

    /// The vault was opened, with this store, or locked.
    pub(super) fn settle(&self, open: Option<&Arc<ChunkStore>>) {
        *self.chunks.lock() = open.map_or(Chunks::Unused, |store| Chunks::Open(Arc::clone(store)));
    }
}

fn close(store: &ChunkStore) {
    if let Err(error) = store.close() {
        tracing::error!(%error, "closing the chunks of the locked vault");
    }
}
