//! A stream with a vault that is cut and gone on with, or altered; and how far it is told to be meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;

use verfs_format::vault::VaultCompression;
use verfs_format::{STREAM_CHECK_BYTES, STREAM_HEAD_BYTES, StreamFrame};
use verfs_meta::{Direction, KeyRange, MetaStore};
use verfs_vfs::{StreamError, TargetChanges, create_snapshot_of_both};

use self::volume::Open;
use self::volume::tree::{Dice, Dump, assert_same, change, dump};
use self::volume::vault::{COST, SECRETS, World, receive, resume, send};

/// Magic, id of the stream, place in it: before the rest of a stream.
const RESUME_HEAD_BYTES: usize = 32;

/// A source with a vault, and its tree.
fn source() -> (World, Open) {
    let from = World::new(1);
    drop(from.keyring(from.whole()).create(SECRETS, COST, VaultCompression::On).unwrap());
    from.unlocked().close();
    let tree = from.tree(from.whole());
    (from, tree)
}

/// Changes the tree and the vault, and makes a snapshot of both. Gives what both are.
fn change_and_keep(from: &World, tree: &Open, name: &[u8], dice: &mut Dice) -> (Dump, Dump) {
    let open = from.unlocked();
    for _ in 0..60 {
        change(&open, dice);
        change(tree, dice);
    }
    create_snapshot_of_both(&tree.vfs, &open.vfs, name, b"").unwrap();
    let state = (dump(&*tree.vfs), dump(&*open.vfs));
    open.close();
    state
}

/// All metadata of a volume, its vault's included.
fn records_of(world: &World) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    let scanned = world.meta.scan(&KeyRange::prefix(&[]), Direction::Forward, &mut |key, value| {
        records.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    });
    scanned.unwrap();
    records
}

/// A volume that takes a stream in pieces.
struct Target {
    world: World,
    open: Open,
}

impl Target {
    fn new(world: World) -> Target {
        let open = world.tree(world.whole());
        Target { world, open }
    }

    fn reopen(self) -> Target {
        self.open.close();
        Target::new(self.world)
    }

    fn take(&self, stream: &[u8]) -> Result<(), StreamError> {
        receive(&self.world, &self.world.whole(), &self.open, stream)
    }

    /// Takes what has to be refused, and is what it was.
    fn refuse(&self, stream: &[u8], when: &str) -> StreamError {
        let before = records_of(&self.world);
        let said = self.take(stream).err().unwrap_or_else(|| panic!("{when}: it was taken"));
        assert!(records_of(&self.world) == before, "{when}: something changed");
        said
    }
}

#[test]
fn a_stream_with_a_vault_that_is_cut_anywhere_is_gone_on_with() {
    let (from, tree) = source();
    let to = World::new(2);
    let mut dice = Dice(7);
    let mut base: Option<&[u8]> = None;
    let mut resumed = 0;
    for name in [&b"one"[..], b"two"] {
        let expected = change_and_keep(&from, &tree, name, &mut dice);
        let stream = send(&from, &tree, name, base);
        let len = stream.len();
        let mut cuts = vec![0, 7, 8, 30, len - 1, len - 20, len - 200];
        cuts.extend((0..12).map(|_| dice.below(len as u64) as usize));
        for cut in cuts {
            let when = format!("{name:?} of {len} bytes, cut at {cut}");
            let mut target = Target::new(to.copy());
            let said = target.refuse(&stream[..cut], &when);
            if dice.below(2) == 0 {
                target = target.reopen();
            }
            let token = target.open.vfs.interrupted_receive().unwrap();
            let rest = match (said, token) {
                (StreamError::Cut(said), Some(token)) => {
                    assert_eq!(said, token, "{when}");
                    assert!(token.offset <= cut as u64, "{when}: {token} was not sent");
                    let rest = resume(&from, &tree, (name, base), Some(token));
                    assert!(rest[RESUME_HEAD_BYTES..] == stream[token.offset as usize..], "{when}: another rest");
                    resumed += 1;
                    rest
                }
                // Not even its beginning came.
                (StreamError::Damaged { resume: None, .. }, None) => stream.clone(),
                other => panic!("{when}: {other:?}"),
            };
            let mut altered = rest.clone();
            let at = dice.below(rest.len() as u64) as usize;
            altered[at] ^= 1 << dice.below(8);
            target.refuse(&altered, &format!("{when}, byte {at} of the rest altered"));
            target.refuse(&rest[..at], &format!("{when}, cut again at {at}"));
            let token = target.open.vfs.interrupted_receive().unwrap();
            target.take(&resume(&from, &tree, (name, base), token)).unwrap_or_else(|error| panic!("{when}: {error}"));

            assert_same(&dump(&*target.open.vfs), &expected.0, &when);
            assert_eq!(target.open.vfs.interrupted_receive().unwrap(), None, "{when}");
            let vault = target.world.unlocked();
            assert_same(&dump(&*vault.vfs), &expected.1, &when);
            assert_same(&dump(&vault.vfs.open_snapshot(name).unwrap()), &expected.1, &when);
            vault.close();
            target.open.close();
        }
        let target = to.tree(to.whole());
        receive(&to, &to.whole(), &target, &stream).unwrap();
        target.close();
        base = Some(name);
    }
    assert!(resumed > 20, "{resumed} were gone on with");
    tree.close();
}

/// Takes everything, and tells how much it was.
struct Counting<'a>(&'a Cell<u64>);

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.set(self.0.get() + bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The frames of a stream that are records, and where each of all ends.
fn frames_of(stream: &[u8]) -> (u64, Vec<u64>) {
    let (mut at, mut records, mut ends) = (8, 0, Vec::new());
    while at < stream.len() {
        let len = u32::from_le_bytes(stream[at..at + 4].try_into().unwrap()) as usize;
        let body = &stream[at + STREAM_HEAD_BYTES..at + STREAM_HEAD_BYTES + len];
        records += match StreamFrame::decode(stream[at + 4], body).unwrap() {
            StreamFrame::Begin(_) | StreamFrame::Chunk(..) | StreamFrame::Block(..) | StreamFrame::End(_) => 0,
            StreamFrame::Inode(..)
            | StreamFrame::Dirent(..)
            | StreamFrame::Symlink(..)
            | StreamFrame::Xattrs(..)
            | StreamFrame::Segment(..)
            | StreamFrame::Sealed(_) => 1,
        };
        at += STREAM_HEAD_BYTES + len + STREAM_CHECK_BYTES;
        ends.push(at as u64);
    }
    (records, ends)
}

#[test]
fn what_is_told_of_a_transfer_is_what_went_through() {
    let (from, tree) = source();
    let mut dice = Dice(3);
    change_and_keep(&from, &tree, b"one", &mut dice);
    let stream = send(&from, &tree, b"one", None);
    let (records, ends) = frames_of(&stream);
    assert!(records > 20 && ends.len() as u64 > records, "{records} records in {} frames", ends.len());

    let vault = from.vault(from.whole());
    let written = Cell::new(0);
    let mut told = Vec::new();
    let sent = tree.vfs.send_with_vault((b"one", None), None, Some(&vault), &mut Counting(&written), &mut |sent| {
        assert_eq!(sent.bytes, written.get());
        told.push(sent);
        ControlFlow::Continue(())
    });
    let sent = sent.unwrap();
    assert_eq!((sent.bytes, sent.records), (stream.len() as u64, records));
    assert_eq!(told.last(), Some(&sent));
    assert_eq!(told.iter().map(|sent| sent.bytes).collect::<Vec<_>>(), ends);
    assert!(told.is_sorted_by(|one, other| one.records <= other.records));
    vault.close();

    // Of what is gone on with, the whole is told: what is there already is a part of it.
    let to = World::new(2);
    let open = to.tree(to.whole());
    let locked = to.vault(to.whole());
    let take = |stream: &[u8]| {
        let mut told = Vec::new();
        let received = open.vfs.receive_with_vault(&mut &*stream, TargetChanges::Refuse, Some(&locked), &mut |bytes| {
            told.push(bytes);
            ControlFlow::Continue(())
        });
        (received.map(drop), told)
    };
    let half = ends[ends.len() / 2];
    let (said, told) = take(&stream[..half as usize]);
    assert!(matches!(said, Err(StreamError::Cut(token)) if token.offset == half));
    assert_eq!(told, ends[1..=ends.len() / 2]);
    let token = open.vfs.interrupted_receive().unwrap();
    let (said, told) = take(&resume(&from, &tree, (b"one", None), token));
    said.unwrap();
    assert_eq!(told, ends[ends.len() / 2 + 1..]);
    locked.close();
    open.close();
    tree.close();
}
