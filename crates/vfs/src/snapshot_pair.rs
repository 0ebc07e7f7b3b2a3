//! One snapshot of two trees, the volume's and its open vault's: closed at one instant, and gone back to in one piece.
//!
//! Both committers end what they have at hand, and close nothing more. Then the groups of both are closed under both
//! locks: whatever returned before is in the snapshot of its tree, and nothing that began later. The vault's is durable
//! before the volume's is committed, which goes without its snapshot if that fails. So a crash leaves one of both, or one
//! of the vault that no snapshot of the volume names: whoever opens the vault next deletes it.
//!
//! Both go back while both are frozen, the volume first: the intent of the vault's way back is durable with the first
//! step of the volume's. So a crash leaves both as they were, or both are completed: the vault when it is opened next.

use std::sync::Arc;

use parking_lot::MutexGuard;
use verfs_base::{Epoch, GroupId};
use verfs_format::vault::VAULT_PREFIX;
use verfs_format::{keys, varint};

use crate::commit::close;
use crate::companion::{Bond, Companion, Fate};
use crate::group::EpochEnd;
use crate::rollback::Freeze;
use crate::snapshots::NewSnapshot;
use crate::state::{Failure, State};
use crate::vault::{LockedVault, WhileLocked};
use crate::volume::Shared;
use crate::{Outdated, Result, Snapshot, Vfs, VfsError};

/// Keeps the committers of two trees from closing groups.
struct Meeting<'a>([&'a Shared; 2]);

impl<'a> Meeting<'a> {
    fn begin(trees: [&'a Shared; 2]) -> Self {
        trees.iter().for_each(|shared| shared.state.lock().meeting = true);
        Meeting(trees)
    }
}

impl Drop for Meeting<'_> {
    fn drop(&mut self) {
        for shared in self.0 {
            shared.state.lock().meeting = false;
            shared.work.notify_one();
        }
    }
}

/// Whether a tree's group can be closed now. What can't be waited for is an error.
fn is_ready(state: &mut State, shared: &Shared) -> Result<bool> {
    match (&state.failure, state.stalled) {
        (Some(Failure::Store | Failure::Defect), _) => return Err(VfsError::ReadOnly),
        (Some(Failure::Closed), _) => return Err(VfsError::Closed),
        (None, Some(error)) => return Err(error),
        (None, None) => {}
    }
    if state.closing.is_some() || state.freeze != Freeze::No {
        return Ok(false);
    }
    match state.open.ends {
        EpochEnd::No => Ok(true),
        EpochEnd::Snapshot => {
            // Another snapshot goes with the open group.
            close_now(state, shared);
            Ok(false)
        }
    }
}

fn close_now(state: &mut State, shared: &Shared) -> GroupId {
    state.begin_change(shared.monotonic());
    let group = close(state, shared).id;
    shared.work.notify_one();
    group
}

/// Waits until the groups of both can be closed, and holds both then.
fn both<'a>(volume: &'a Shared, vault: &'a Shared) -> Result<(MutexGuard<'a, State>, MutexGuard<'a, State>)> {
    loop {
        let mut first = volume.state.lock();
        if !is_ready(&mut first, volume)? {
            volume.progress.wait(&mut first);
            continue;
        }
        // Nobody holds both locks in the other order.
        let mut second = vault.state.lock();
        if is_ready(&mut second, vault)? {
            return Ok((first, second));
        }
        drop(first);
        vault.progress.wait(&mut second);
    }
}

/// What the vault's snapshot notes of the volume's: its identity, in hexadecimal digits.
#[must_use]
pub fn vault_note(uuid: &[u8; 16]) -> Vec<u8> {
    uuid.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Makes a snapshot of the volume and one of its vault, both of the same instant: everything that returned before the
/// call is in them. The one of the vault has the note [`vault_note`]. Takes the time of two commits at most.
///
/// # Errors
/// As [`Vfs::create_snapshot`], then neither is made; of the vault's there may be something left that no snapshot of the
/// volume has the identity of.
pub fn create_snapshot_of_both(volume: &Vfs, vault: &Vfs, name: &[u8], note: &[u8]) -> Result<Snapshot> {
    let new = NewSnapshot::checked(name, note, volume.shared.now())?;
    if volume.shared.state.lock().snapshots.has_name(name) {
        return Err(VfsError::Exists);
    }
    match vault.delete_snapshot(name) {
        // What was left there; or what a crash took from the volume.
        Ok(()) | Err(VfsError::NotFound) => {}
        Err(error) => return Err(error),
    }
    let trees = [&*volume.shared, &*vault.shared];
    let Closed { id, groups, bond } = close_both(trees, &new)?;
    let committed: Result<()> = trees.iter().zip(groups).try_for_each(|(shared, group)| {
        let mut state = shared.state.lock();
        shared.wait_committed(&mut state, group)
    });
    match committed {
        Ok(()) if bond.wait() == Fate::Durable => volume.made_snapshot(id),
        Ok(()) => {
            // The vault's came too late: the disk was full for a while.
            vault.delete_snapshot(name)?;
            Err(VfsError::NoSpace)
        }
        Err(error) => Err(error),
    }
}

/// Groups of both trees that were closed at one instant.
struct Closed {
    /// The volume's snapshot.
    id: Epoch,
    groups: [GroupId; 2],
    bond: Arc<Bond>,
}

fn close_both(trees: [&Shared; 2], new: &NewSnapshot<'_>) -> Result<Closed> {
    let [volume, vault] = trees;
    let _meeting = Meeting::begin(trees);
    let (mut first, mut second) = both(volume, vault)?;
    if first.snapshots.has_name(new.name) || second.snapshots.has_name(new.name) {
        return Err(VfsError::Exists);
    }
    let id = first.end_epoch(volume, new)?;
    let uuid = new.uuid_at(volume, id);
    let note = vault_note(&uuid);
    second.end_epoch(vault, &NewSnapshot { note: &note, uuid: Some(uuid), ..*new })?;
    let bond = Arc::new(Bond::default());
    first.open.companion = Companion::Second(Arc::clone(&bond));
    second.open.companion = Companion::First(Arc::clone(&bond));
    let groups = [close_now(&mut first, volume), close_now(&mut second, vault)];
    Ok(Closed { id, groups, bond })
}

/// Makes both trees what they were when the snapshot was made: as [`Vfs::rollback`], of the volume and of its vault, whose
/// records are the volume's engine's behind [`VAULT_PREFIX`]. Gives what changed in the one and in the other.
///
/// # Errors
/// As [`Vfs::rollback`]; [`VfsError::NotFound`] also if the snapshot is older than the vault. After an error of the store
/// neither takes changes, and opening them again completes it.
pub fn rollback_of_both(volume: &Vfs, vault: &Vfs, name: &[u8]) -> Result<[Outdated; 2]> {
    let (tree, sealed) = (&volume.shared, &vault.shared);
    let _whole_trees = (tree.whole_tree.lock(), sealed.whole_tree.lock());
    let (to, to_sealed) = (volume.use_snapshot(name)?, vault.use_snapshot(name)?);
    let frozen = tree.freeze()?;
    let gone_back = sealed.freeze().and_then(|frozen| {
        let mut intent = Vec::new();
        varint::put_u64(&mut intent, to_sealed.id().0);
        let key = [&[VAULT_PREFIX], keys::SYSTEM_ROLLBACK].concat();
        let gone_back = tree.go_back(to.id(), Some((key.into(), intent.into())));
        if gone_back.is_err() {
            // Its intent may be durable: what was written from here on would be lost.
            sealed.state.lock().failure = Some(Failure::Store);
        }
        let gone_back = gone_back.and_then(|()| sealed.go_back(to_sealed.id(), None));
        drop(frozen);
        gone_back
    });
    drop(frozen);
    gone_back?;
    Ok([volume.outdated_since(Some(to)), vault.outdated_since(Some(to_sealed))])
}

/// Makes a snapshot of the volume and one of its locked vault, in which nothing changes. After a crash there may be one of
/// the vault that no snapshot of the volume has the identity of.
///
/// # Errors
/// As [`Vfs::create_snapshot`].
pub fn create_snapshot_while_locked(volume: &Vfs, vault: &LockedVault, name: &[u8], note: &[u8]) -> Result<Snapshot> {
    let shared = &volume.shared;
    let new = NewSnapshot::checked(name, note, shared.now())?;
    let uuid = {
        let state = shared.state.lock();
        if state.snapshots.has_name(name) {
            return Err(VfsError::Exists);
        }
        new.uuid_at(shared, state.epoch)
    };
    let _turn = vault.turn.lock();
    match vault.create_snapshot(name, uuid, new.created)? {
        WhileLocked::Done => {}
        WhileLocked::Later => tracing::info!("the vault's part of a snapshot is made when it is unlocked"),
    }
    volume.create(&NewSnapshot { uuid: Some(uuid), ..new })
}
