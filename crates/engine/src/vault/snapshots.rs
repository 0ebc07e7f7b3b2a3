//! The vault's past: each snapshot of the volume has one of the vault beside it, with the volume's uuid of it as note.
//!
//! While the vault is locked nothing changes in it. So what a snapshot that was taken then has of the vault is what the
//! vault is when it is opened next: its own snapshot is made then, before anybody can change anything.

use verfs_vfs::{Result, Snapshot, Vfs, VfsError};

/// What the vault's snapshot notes of the volume's.
pub(super) fn mark(snapshot: &Snapshot) -> Vec<u8> {
    snapshot.uuid.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Makes what is missing of the vault's snapshots, and deletes what the volume has no more.
pub(super) fn settle(vault: &Vfs, volume: &[Snapshot], since: verfs_base::Timestamp) -> Result<()> {
    let mine = vault.snapshots();
    let of = |marked: &[u8]| volume.iter().find(|snapshot| mark(snapshot) == marked);
    for gone in mine.iter().filter(|own| of(&own.note).is_none_or(|snapshot| snapshot.name != own.name)) {
        vault.delete_snapshot(&gone.name)?;
    }
    // What was made before the vault has nothing of it.
    for snapshot in volume.iter().filter(|snapshot| snapshot.created >= since) {
        match vault.create_snapshot(&snapshot.name, &mark(snapshot)) {
            Ok(_) | Err(VfsError::Exists) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
