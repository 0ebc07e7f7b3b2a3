//! The vault's past: each snapshot of the volume has one of the vault beside it, with the volume's uuid of it as note.
//!
//! While the vault is locked nothing changes in it, so that its snapshots are made and deleted without its keys. Only
//! where a crash left changes in its intent log, what a snapshot has of the vault is what it is when it is opened next.

use verfs_vfs::{Result, Snapshot, Vfs, VfsError, vault_note};

/// Makes what is missing of the vault's snapshots, and deletes what the volume has no more.
pub(super) fn settle(vault: &Vfs, volume: &[Snapshot], since: verfs_base::Timestamp) -> Result<()> {
    let mine = vault.snapshots();
    let of = |marked: &[u8]| volume.iter().find(|snapshot| vault_note(&snapshot.uuid) == marked);
    for gone in mine.iter().filter(|own| of(&own.note).is_none_or(|snapshot| snapshot.name != own.name)) {
        vault.delete_snapshot(&gone.name)?;
    }
    // What was made before the vault has nothing of it.
    for snapshot in volume.iter().filter(|snapshot| snapshot.created >= since) {
        match vault.create_snapshot(&snapshot.name, &vault_note(&snapshot.uuid)) {
            Ok(_) | Err(VfsError::Exists) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
