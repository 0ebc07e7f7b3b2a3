//! A defect in any thread of a volume: whoever waits for that thread gets an answer within a bound, the volume goes on or
//! is read-only under a name, and what was acknowledged before is there after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use verfs_base::Ino;
use verfs_testkit::{Call, CrashStyle, Host, Lasting, Machine, Settings, TestRng, TreeKind};
use verfs_vfs::{Commits, Context, NodeKind, SyncScope, Vfs, VfsError};

/// Longest until an answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const CALLERS: usize = 8;

/// A volume of which nothing becomes durable by itself.
fn quiet() -> Arc<Machine> {
    let settings = Settings { tree: TreeKind::Volume, ..Settings::random(&mut TestRng::new(7)).quiet() };
    let machine = Arc::new(Machine::new(settings, 7));
    machine.open().unwrap();
    machine
}

fn make(vfs: &Vfs, name: &str, text: &str) -> Ino {
    let ino = vfs.mknod(&Context::ROOT, Ino::ROOT, name.as_bytes(), NodeKind::Regular, 0o644).unwrap().ino;
    vfs.write(&Context::ROOT, ino, 0, text.as_bytes()).unwrap();
    ino
}

fn text_of(vfs: &Vfs, name: &str) -> Option<String> {
    let found = vfs.lookup(&Context::ROOT, Ino::ROOT, name.as_bytes()).ok()?;
    let bytes = vfs.read(&Context::ROOT, found.ino, 0, 4096).unwrap().concat();
    Some(String::from_utf8(bytes).unwrap())
}

/// Runs each on a thread of its own; all have to end in time.
fn all_end<T: Send + 'static>(what: &str, acts: Vec<Box<dyn FnOnce() -> T + Send>>) -> Vec<T> {
    let (ended, ends) = channel();
    let count = acts.len();
    for (number, act) in acts.into_iter().enumerate() {
        let ended = ended.clone();
        std::thread::spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(act));
            // Nobody listens after the test failed.
            let _ = ended.send((number, done));
        });
    }
    let next = |_| ends.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what}: somebody waits for ever"));
    let mut all: Vec<_> = (0..count).map(next).collect();
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, done)| done.unwrap_or_else(|_| panic!("{what}: a caller got the panic"))).collect()
}

/// The volume after its power went now, opened again.
fn after_a_crash(machine: &Machine) -> Machine {
    let crashed = machine.crash(CrashStyle::ALL[0], &mut TestRng::new(3)).unwrap();
    crashed.open().unwrap();
    crashed.audit().unwrap();
    crashed
}

#[test]
fn a_panic_while_the_log_is_written_leaves_no_fsync_waiting_and_loses_nothing() {
    let machine = quiet();
    let vfs = machine.vfs();
    let names: Vec<String> = (0..CALLERS).map(|number| format!("file{number}")).collect();
    let inodes: Vec<Ino> = names.iter().map(|name| make(&vfs, name, name)).collect();
    machine.power().panic_at(Call::Write, Lasting::Once);
    let sync = |ino: &Ino| {
        let (vfs, ino) = (Arc::clone(&vfs), *ino);
        Box::new(move || vfs.fsync(&Context::ROOT, ino, SyncScope::All)) as Box<dyn FnOnce() -> _ + Send>
    };
    // The log lost what it was given: a group has it instead.
    let synced = all_end("fsync", inodes.iter().map(sync).collect());
    assert!(synced.iter().all(Result::is_ok), "{synced:?}");
    // And from then on the log takes frames again.
    let frames = vfs.stats().log_frames;
    let later = make(&vfs, "later", "later");
    assert_eq!(all_end("fsync", vec![sync(&later)]), [Ok(())]);
    assert!(vfs.stats().log_frames > frames, "the log is given up");
    let crashed = after_a_crash(&machine);
    for name in names.iter().map(String::as_str).chain(["later"]) {
        assert_eq!(text_of(&crashed.vfs(), name).as_deref(), Some(name));
    }
    drop(vfs);
    machine.close().unwrap();
    crashed.close().unwrap();
}

/// What the committer calls: a panic there, and in what it waits for, ends commits and nothing else.
#[test]
fn a_committer_that_panics_anywhere_answers_all_who_wait_and_says_why_it_ended() {
    for (call, ended) in [
        (Call::Ready, Commits::Defect),
        (Call::MetaCommit, Commits::Defect),
        (Call::MetaSync, Commits::Defect),
        (Call::SyncData, Commits::Defect),
        // In a thread of the store, whose batch fails.
        (Call::Write, Commits::Failed),
    ] {
        let machine = quiet();
        let vfs = machine.vfs();
        let safe = make(&vfs, "safe", "safe");
        vfs.fsync(&Context::ROOT, safe, SyncScope::All).unwrap();
        vfs.sync().unwrap();
        // More than a worker of the store collects before it writes.
        let big = make(&vfs, "big", "big");
        let mut rng = TestRng::new(5);
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(3 << 20).collect();
        vfs.write(&Context::ROOT, big, 0, &noise).unwrap();
        machine.power().panic_at(call, Lasting::Forever);
        let acts = (0..CALLERS).map(|_| {
            let vfs = Arc::clone(&vfs);
            Box::new(move || vfs.sync()) as Box<dyn FnOnce() -> _ + Send>
        });
        let answers = all_end("sync", acts.collect());
        assert!(answers.iter().all(|answer| *answer == Err(VfsError::Io)), "{call:?}: {answers:?}");
        assert_eq!(vfs.commits(), ended, "{call:?}");
        assert_eq!(vfs.mkdir(&Context::ROOT, Ino::ROOT, b"new", 0o755).err(), Some(VfsError::ReadOnly), "{call:?}");
        assert_eq!(vfs.fsync(&Context::ROOT, big, SyncScope::All), Err(VfsError::Io), "{call:?}");
        machine.power().heal();
        assert_eq!(text_of(&vfs, "safe").as_deref(), Some("safe"), "{call:?}");
        let crashed = after_a_crash(&machine);
        assert_eq!(text_of(&crashed.vfs(), "safe").as_deref(), Some("safe"), "{call:?}");
        drop(vfs);
        assert!(machine.close().is_err(), "{call:?}: nobody hears of what is lost");
        crashed.close().unwrap();
    }
}

#[test]
fn a_rollback_that_panics_lets_everybody_go_on_and_is_completed_by_the_next_open() {
    let machine = quiet();
    let vfs = machine.vfs();
    let file = make(&vfs, "file", "before");
    vfs.create_snapshot(b"before", b"").unwrap();
    vfs.write(&Context::ROOT, file, 0, b"after!").unwrap();
    vfs.sync().unwrap();
    let power = machine.power();
    power.panic_at(Call::MetaCommit, Lasting::Once);
    assert!(catch_unwind(AssertUnwindSafe(|| vfs.rollback(b"before"))).is_err(), "it did not come to the defect");
    let (reader, writer) = (Arc::clone(&vfs), Arc::clone(&vfs));
    let answers = all_end::<Option<VfsError>>(
        "after a rollback",
        vec![
            Box::new(move || reader.getattr(&Context::ROOT, file).err()),
            Box::new(move || writer.mkdir(&Context::ROOT, Ino::ROOT, b"new", 0o755).err()),
        ],
    );
    assert_eq!(answers, [None, Some(VfsError::ReadOnly)]);
    assert_eq!(vfs.commits(), Commits::Defect);
    let crashed = after_a_crash(&machine);
    let found = text_of(&crashed.vfs(), "file");
    assert!(matches!(found.as_deref(), Some("before" | "after!")), "{found:?}");
    drop(vfs);
    let _failed = machine.close();
    crashed.close().unwrap();
}
