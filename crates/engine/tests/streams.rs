//! Streams between volumes of one process: what goes through, what is refused and in which words.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::ops::ControlFlow;

use support::new_volume;
use verfs_base::Ino;
use verfs_engine::{EngineError, OpenOptions, Volume};
use verfs_vfs::{Context, NodeKind, TargetChanges};

const ROOT: Context = Context::ROOT;

fn go_on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn send(from: &Volume, name: &[u8], base: Option<&[u8]>, resume: Option<&str>) -> Result<Vec<u8>, EngineError> {
    let mut stream = Vec::new();
    from.send_snapshot(name, base, resume, &mut stream, &mut go_on).map(|_| stream)
}

fn receive(to: &Volume, stream: &[u8]) -> Result<(), EngineError> {
    to.receive_snapshot(&mut &stream[..], TargetChanges::Refuse, &mut go_on).map(drop)
}

#[test]
fn a_stream_goes_through_whole_or_says_from_where_to_go_on() {
    let (one, other) = (new_volume(), new_volume());
    let from = Volume::open(&one.path().join("volume"), &OpenOptions::default()).unwrap();
    let to = Volume::open(&other.path().join("volume"), &OpenOptions::default()).unwrap();
    let file = from.vfs().mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    from.vfs().write(&ROOT, file, 0, &[7; 100_000]).unwrap();
    from.create_snapshot(b"one", b"a note").unwrap();
    from.vfs().write(&ROOT, file, 0, b"changed").unwrap();
    from.create_snapshot(b"two", b"").unwrap();

    let whole = send(&from, b"one", None, None).unwrap();
    let cut = receive(&to, &whole[..whole.len() - 1]).unwrap_err();
    let token = to.interrupted_receive().unwrap().unwrap();
    assert!(cut.to_string().contains(&token), "{cut} names {token}");
    let rest = send(&from, b"one", None, Some(&token)).unwrap();
    assert!(rest.len() < whole.len() / 2);
    receive(&to, &rest).unwrap();
    assert_eq!(to.interrupted_receive().unwrap(), None);
    receive(&to, &send(&from, b"two", Some(b"one"), None).unwrap()).unwrap();
    let snapshots = to.snapshots().unwrap();
    assert_eq!(snapshots.iter().map(|snapshot| &snapshot.name[..]).collect::<Vec<_>>(), [b"one", b"two"]);
    let found = to.vfs().read(&ROOT, to.vfs().lookup(&ROOT, Ino::ROOT, b"file").unwrap().ino, 0, 9).unwrap().concat();
    assert_eq!(found, b"changed\x07\x07");
    from.close().unwrap();
    to.close().unwrap();
}

#[test]
fn what_does_not_fit_is_said_in_words_of_the_caller() {
    let (one, other) = (new_volume(), new_volume());
    let from = Volume::open(&one.path().join("volume"), &OpenOptions::default()).unwrap();
    let to = Volume::open(&other.path().join("volume"), &OpenOptions::default()).unwrap();
    from.create_snapshot(b"one", b"").unwrap();
    from.create_snapshot(b"two", b"").unwrap();
    let whole = send(&from, b"one", None, None).unwrap();
    let said = |error: EngineError| error.to_string();

    assert!(said(send(&from, b"none", None, None).unwrap_err()).contains("none"));
    let missing = send(&from, b"two", Some(b"gone"), None).unwrap_err();
    assert!(matches!(missing, EngineError::SnapshotNotFound { .. }) && said(missing).contains("gone"));
    assert!(matches!(send(&from, b"one", Some(b"two"), None), Err(EngineError::Usage(_))));
    assert!(matches!(send(&from, b"one", None, Some("nonsense")), Err(EngineError::Usage(_))));
    let token = format!("{}:8", "0".repeat(32));
    assert!(matches!(send(&from, b"one", None, Some(&token)), Err(EngineError::StreamMismatch { .. })));

    assert!(matches!(receive(&to, b"no stream at all"), Err(EngineError::StreamDamaged { .. })));
    let mut altered = whole.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert!(matches!(receive(&to, &altered), Err(EngineError::StreamDamaged { .. })));
    let from_nothing = send(&from, b"two", Some(b"one"), None).unwrap();
    assert!(matches!(receive(&to, &from_nothing), Err(EngineError::StreamMismatch { .. })));
    assert!(to.snapshots().unwrap().is_empty(), "nothing of it was taken");

    let mut out = Vec::new();
    let ended = from.send_snapshot(b"one", None, None, &mut out, &mut || ControlFlow::Break(()));
    assert!(matches!(ended, Err(EngineError::StreamCancelled)));
    let ended = to.receive_snapshot(&mut &whole[..], TargetChanges::Refuse, &mut || ControlFlow::Break(()));
    assert!(matches!(ended, Err(EngineError::StreamCancelled)));
    to.close().unwrap();
    assert!(matches!(receive(&to, &whole), Err(EngineError::Closed { .. })));
    from.close().unwrap();
}
