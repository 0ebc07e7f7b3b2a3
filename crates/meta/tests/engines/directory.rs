//! Whose directory it is, and what opening it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use verfs_meta::{EngineKind, EngineOptions, MetaError, UnknownEngine, open};

use crate::child::{Role, Running, are_an_engines};
use crate::subject::{SMALL, Subject, open_small, put, temporary_dir};

for_kept_engines!(
    a_directory_of_another_engine_is_refused_and_unchanged,
    a_directory_of_something_else_is_refused_and_unchanged,
    a_store_that_is_open_is_refused_and_goes_on,
    a_newer_format_is_refused,
    a_creation_that_was_cut_short_is_finished,
    the_engines_threads_end_when_it_closes,
);

fn other(kind: EngineKind) -> EngineKind {
    match kind {
        EngineKind::Surrealkv => EngineKind::Fjall,
        EngineKind::Fjall => EngineKind::Surrealkv,
    }
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn a_directory_of_another_engine_is_refused_and_unchanged(subject: Subject) {
    let kind = subject.kept();
    let dir = temporary_dir();
    let store = open_small(other(kind), dir.path()).unwrap();
    put(store.as_ref(), b"k", b"1").unwrap();
    store.close().unwrap();
    drop(store);
    let before = files(dir.path());
    assert!(matches!(open_small(kind, dir.path()), Err(MetaError::Corrupt(_))));
    assert!(files(dir.path()) == before);
    let store = open_small(other(kind), dir.path()).unwrap();
    assert!(store.get(b"k").unwrap().is_some());
}

fn a_directory_of_something_else_is_refused_and_unchanged(subject: Subject) {
    let dir = temporary_dir();
    fs::write(dir.path().join("notes"), "mine").unwrap();
    assert!(matches!(open_small(subject.kept(), dir.path()), Err(MetaError::Corrupt(_))));
    fs::write(dir.path().join("ENGINE"), "leveldb\n").unwrap();
    assert!(matches!(open_small(subject.kept(), dir.path()), Err(MetaError::Corrupt(_))));
    assert_eq!(files(dir.path()).len(), 2);
}

fn a_store_that_is_open_is_refused_and_goes_on(subject: Subject) {
    let dir = temporary_dir();
    let store = open_small(subject.kept(), dir.path()).unwrap();
    assert!(matches!(open_small(subject.kept(), dir.path()), Err(MetaError::Io(_))));
    put(store.as_ref(), b"k", b"1").unwrap();
    store.sync().unwrap();
    // Dropping closes, too.
    drop(store);
    assert!(open_small(subject.kept(), dir.path()).unwrap().get(b"k").unwrap().is_some());
}

/// Writes a format version past the guards, with the engine itself.
fn write_format_version(kind: EngineKind, dir: &Path, version: u32) {
    let key: &[u8] = &[0, b'f'];
    match kind {
        EngineKind::Surrealkv => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
            runtime.block_on(async {
                let tree = ::surrealkv::TreeBuilder::new().with_path(dir.join("store")).build().unwrap();
                let mut transaction = tree.begin().unwrap();
                transaction.set(key, &version.to_le_bytes()[..]).unwrap();
                transaction.commit().await.unwrap();
                tree.close().await.unwrap();
            });
        }
        EngineKind::Fjall => {
            let database = ::fjall::Database::builder(dir.join("store")).open().unwrap();
            let keyspace = database.keyspace("meta", ::fjall::KeyspaceCreateOptions::default).unwrap();
            keyspace.insert(key, version.to_le_bytes()).unwrap();
            database.persist(::fjall::PersistMode::SyncAll).unwrap();
        }
    }
}

fn a_newer_format_is_refused(subject: Subject) {
    let kind = subject.kept();
    let dir = temporary_dir();
    open_small(kind, dir.path()).unwrap().close().unwrap();
    write_format_version(kind, dir.path(), 2);
    for _ in 0..2 {
        let refusal = open_small(kind, dir.path()).map(drop);
        assert!(matches!(&refusal, Err(MetaError::Unsupported(_))), "{refusal:?}");
    }
    write_format_version(kind, dir.path(), 1);
    open_small(kind, dir.path()).unwrap();
}

fn a_creation_that_was_cut_short_is_finished(subject: Subject) {
    let dir = temporary_dir();
    for name in ["", &format!("{}\n", subject.kept())] {
        fs::write(dir.path().join("ENGINE"), name).unwrap();
        let store = open_small(subject.kept(), dir.path()).unwrap();
        put(store.as_ref(), b"k", b"1").unwrap();
        store.close().unwrap();
        drop(store);
        assert!(open_small(subject.kept(), dir.path()).unwrap().get(b"k").unwrap().is_some());
        fs::remove_dir_all(dir.path().join("store")).unwrap();
        let _ = fs::remove_file(dir.path().join("synced"));
    }
}

fn the_engines_threads_end_when_it_closes(subject: Subject) {
    let dir = temporary_dir();
    let mut child = Running::start(Role::ListThreads, subject.kept(), dir.path());
    let open = child.line().expect("the child opens the store");
    assert!(are_an_engines(&open), "{open}");
    assert_eq!(child.line().as_deref(), Some(""), "threads left after closing");
}

#[test]
fn engines_are_named_as_in_the_config() {
    for kind in EngineKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(kind.to_string(), kind.name());
    }
    assert_eq!("SurrealKV".parse::<EngineKind>(), Err(UnknownEngine("SurrealKV".into())));
    assert_eq!(EngineKind::default(), EngineKind::Surrealkv);
}

#[test]
fn a_store_opens_with_other_sizes_than_it_was_made_with() {
    for kind in EngineKind::ALL {
        let dir = temporary_dir();
        for options in [SMALL, EngineOptions::default(), SMALL] {
            let store = open(kind, dir.path(), &options).unwrap();
            put(store.as_ref(), b"k", b"1").unwrap();
            store.close().unwrap();
        }
    }
}
