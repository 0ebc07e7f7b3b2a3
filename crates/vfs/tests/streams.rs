//! A stream of a snapshot makes another volume the same, or changes nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use verfs_base::Ino;
use verfs_meta::MetaStore;
use verfs_vfs::{NodeKind, Received, ResumeToken, Sent, StreamError, TargetChanges, VfsError, VfsOptions};

use self::volume::cut_off::CutOff;
use self::volume::tree::{Dice, assert_same, change, dump};
use self::volume::{Open, ROOT, Volume, noise, slow};

fn send(from: &Open, name: &str, base: Option<&str>) -> Vec<u8> {
    resume(from, name, base, None).unwrap().1
}

fn resume(
    from: &Open,
    name: &str,
    base: Option<&str>,
    token: Option<ResumeToken>,
) -> Result<(Sent, Vec<u8>), StreamError> {
    let mut out = Vec::new();
    let base = base.map(str::as_bytes);
    let sent = from.vfs.send(name.as_bytes(), base, token, &mut out, &mut |_| ControlFlow::Continue(()))?;
    Ok((sent, out))
}

fn receive(to: &Open, stream: &[u8], changes: TargetChanges) -> Result<Received, StreamError> {
    to.vfs.receive(&mut Cursor::new(stream), changes, &mut |_| ControlFlow::Continue(()))
}

fn options() -> VfsOptions {
    VfsOptions { group_interval_ms: 2, ..VfsOptions::default() }
}

#[test]
fn a_chain_of_streams_makes_an_identical_volume() {
    for seed in 1..=4 {
        let (source, target) = (Volume::new(options()), Volume::new(options()));
        let (mut from, mut to) = (source.open(), target.open());
        let mut dice = Dice(seed);
        let mut last: Option<String> = None;
        for number in 0..12 {
            for _ in 0..40 {
                change(&from, &mut dice);
            }
            let name = format!("s{number}");
            from.vfs.create_snapshot(name.as_bytes(), b"a note").unwrap();
            let expected = dump(&*from.vfs);
            for _ in 0..10 {
                change(&from, &mut dice);
            }
            let stream = send(&from, &name, last.as_deref());
            assert_eq!(send(&from, &name, last.as_deref()), stream, "the same snapshot gives the same stream");
            let received = receive(&to, &stream, TargetChanges::Refuse).unwrap();
            assert_eq!((&received.snapshot.name[..], &received.snapshot.note[..]), (name.as_bytes(), &b"a note"[..]));
            assert_eq!(received.snapshot.uuid, from.vfs.snapshot(name.as_bytes()).unwrap().uuid);
            assert_same(&dump(&*to.vfs), &expected, &format!("seed {seed}, {name}"));
            assert_same(&dump(&to.vfs.open_snapshot(name.as_bytes()).unwrap()), &expected, "its snapshot");
            if number % 4 == 3 {
                to.close();
                to = target.open();
                from.close();
                from = source.open();
            }
            // What was received before stands, and the middle ones may go.
            if number >= 2 && dice.below(2) == 0 {
                let old = format!("s{}", number - 2);
                for open in [&from, &to] {
                    let deleted = open.vfs.delete_snapshot(old.as_bytes());
                    assert!(deleted.is_ok(), "{old}: {deleted:?}");
                }
            }
            last = Some(name);
        }
        to.close();
        from.close();
    }
}

fn two_volumes() -> (Volume, Volume) {
    let (source, target) = (Volume::new(options()), Volume::new(options()));
    let from = source.open();
    for number in 0..300u64 {
        let file = from.vfs.mknod(&ROOT, Ino::ROOT, format!("file {number}").as_bytes(), NodeKind::Regular, 0o644);
        from.vfs.write(&ROOT, file.unwrap().ino, 0, &noise(20_000, number)).unwrap();
    }
    from.vfs.create_snapshot(b"one", b"").unwrap();
    from.close();
    (source, target)
}

#[test]
fn a_stream_that_is_cut_or_altered_changes_nothing_and_can_be_gone_on_with() {
    let (source, target) = two_volumes();
    let (from, to) = (source.open(), target.open());
    let before = dump(&*to.vfs);
    let stream = send(&from, "one", None);
    let mut dice = Dice(7);
    for _ in 0..40 {
        let at = dice.below(stream.len() as u64) as usize;
        let mut altered = stream.clone();
        altered[at] ^= 1 << dice.below(8);
        let refused = receive(&to, &altered, TargetChanges::Refuse);
        let refused = refused.map(|received| received.snapshot).unwrap_err();
        assert!(
            matches!(refused, StreamError::Damaged { .. } | StreamError::Cut(_) | StreamError::Mismatch(_)),
            "byte {at}: {refused}"
        );
        assert_same(&dump(&*to.vfs), &before, &format!("byte {at} altered"));
        let cut = receive(&to, &stream[..at], TargetChanges::Refuse).map(drop).unwrap_err();
        assert!(matches!(cut, StreamError::Damaged { .. } | StreamError::Cut(_)), "cut at {at}: {cut}");
        assert_same(&dump(&*to.vfs), &before, &format!("cut at {at}"));
    }
    assert!(to.vfs.snapshots().is_empty());

    // Three parts, with a remount between.
    let third = stream.len() / 3;
    let Err(StreamError::Cut(token)) = receive(&to, &stream[..third], TargetChanges::Refuse).map(drop) else {
        panic!("it was cut");
    };
    assert!(token.offset > third as u64 - 100_000 && token.offset <= third as u64, "{token}");
    let token: ResumeToken = token.to_string().parse().unwrap();
    to.close();
    let to = target.open();
    assert_eq!(to.vfs.interrupted_receive().unwrap(), Some(token));
    let (sent, rest) = resume(&from, "one", None, Some(token)).unwrap();
    assert_eq!(sent.bytes, stream.len() as u64);
    assert_eq!(rest.len() as u64, stream.len() as u64 - token.offset + 32);
    let cut = receive(&to, &rest[..third], TargetChanges::Refuse).map(drop).unwrap_err();
    let StreamError::Cut(token) = cut else { panic!("it was cut: {cut}") };
    assert!(token.offset > third as u64);
    let (_, rest) = resume(&from, "one", None, Some(token)).unwrap();
    receive(&to, &rest, TargetChanges::Refuse).unwrap();
    assert_same(&dump(&*to.vfs), &dump(&*from.vfs), "received in three parts");
    assert_eq!(to.vfs.interrupted_receive().unwrap(), None, "the spool is gone");

    let other = ResumeToken { stream: [9; 16], offset: 8 };
    assert!(matches!(resume(&from, "one", None, Some(other)), Err(StreamError::Mismatch(_))));
    assert!(
        matches!(receive(&to, &rest, TargetChanges::Refuse), Err(StreamError::Mismatch(_))),
        "nothing to go on with"
    );
    assert!("nonsense".parse::<ResumeToken>().is_err());
    from.close();
    to.close();
}

#[test]
fn a_stream_that_does_not_fit_is_refused() {
    let (source, target) = two_volumes();
    let (from, to) = (source.open(), target.open());
    let whole = send(&from, "one", None);
    from.vfs.mkdir(&ROOT, Ino::ROOT, b"later", 0o755).unwrap();
    from.vfs.create_snapshot(b"two", b"").unwrap();
    let changes = send(&from, "two", Some("one"));
    let refused = |stream: &[u8]| match receive(&to, stream, TargetChanges::Refuse) {
        Err(StreamError::Mismatch(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(&changes).contains("from which the stream leads on"));
    to.vfs.mkdir(&ROOT, Ino::ROOT, b"something", 0o755).unwrap();
    assert!(refused(&whole).contains("not empty"));
    to.vfs.rmdir(&ROOT, Ino::ROOT, b"something").unwrap();
    to.vfs.sync().unwrap();
    to.vfs.sync().unwrap();
    receive(&to, &whole, TargetChanges::Refuse).unwrap();
    assert!(refused(&whole).contains("already"));

    // A look moves access times only; a change is refused, or undone.
    let file = to.vfs.lookup(&ROOT, Ino::ROOT, b"file 3").unwrap().ino;
    to.vfs.read(&ROOT, file, 0, 10).unwrap();
    to.vfs.write(&ROOT, file, 0, b"changed").unwrap();
    assert!(refused(&changes).contains("changed since"));
    assert_eq!(to.vfs.read(&ROOT, file, 0, 7).unwrap().concat(), b"changed", "and nothing happened");
    let received = receive(&to, &changes, TargetChanges::RollBack).unwrap();
    assert!(to.outdated_names(&received.outdated).contains(&(Ino::ROOT, Bytes::from_static(b"later"))));
    assert_same(&dump(&*to.vfs), &dump(&*from.vfs), "rolled back and received");
    assert!(matches!(resume(&from, "one", Some("two"), None), Err(StreamError::Volume(VfsError::InvalidArgument))));
    assert!(matches!(resume(&from, "none", None, None), Err(StreamError::Volume(VfsError::NotFound))));
    from.close();
    to.close();
}

#[test]
fn a_receive_that_was_cut_while_it_was_applied_is_completed_by_the_next_open() {
    let source = Volume::new(options());
    let from = source.open();
    for number in 0..3000u64 {
        let file = from.vfs.mknod(&ROOT, Ino::ROOT, format!("file {number}").as_bytes(), NodeKind::Regular, 0o644);
        from.vfs.write(&ROOT, file.unwrap().ino, 0, &noise(3000, number)).unwrap();
    }
    from.vfs.create_snapshot(b"one", b"").unwrap();
    let expected = dump(&*from.vfs);
    let stream = send(&from, "one", None);
    for commits in [0, 1, 2] {
        let target = Volume::new(slow());
        let meta = Arc::new(CutOff { inner: Arc::clone(&target.meta), commits_left: AtomicI64::new(i64::MAX) });
        let to = target.open_over(Arc::clone(&meta) as Arc<dyn MetaStore>);
        meta.commits_left.store(commits, Ordering::Relaxed);
        let cut = receive(&to, &stream, TargetChanges::Refuse).map(drop).unwrap_err();
        assert!(matches!(cut, StreamError::Volume(VfsError::Io)), "it takes more than {commits} steps: {cut}");
        assert_eq!(to.vfs.mkdir(&ROOT, Ino::ROOT, b"x", 0o755).err(), Some(VfsError::ReadOnly));
        drop(to);

        let to = target.open();
        let found = dump(&*to.vfs);
        match commits {
            // Of nothing that was committed, nothing is left to be completed; the stream is there to be applied.
            0 => {
                assert_eq!(found.len(), 1);
                let token = to.vfs.interrupted_receive().unwrap();
                let (_, rest) = resume(&from, "one", None, token).unwrap();
                assert_eq!(rest.len(), 32, "nothing but the head is left to be sent");
                receive(&to, &rest, TargetChanges::Refuse).unwrap();
                assert_same(&dump(&*to.vfs), &expected, "received at the second try");
            }
            _ => {
                assert_same(&found, &expected, &format!("cut after {commits} steps"));
                assert_same(&dump(&to.vfs.open_snapshot(b"one").unwrap()), &expected, "its snapshot");
                assert_eq!(to.vfs.interrupted_receive().unwrap(), None, "the spool is gone");
            }
        }
        to.close();
    }
    from.close();
}
