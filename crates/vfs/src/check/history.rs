//! What snapshots keep: versions of records, lists of what changed and of what died.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use rustc_hash::FxHashSet;
use verfs_base::Epoch;
use verfs_format::{ChangeList, DeadList, LOST_CHUNK, keys, split_versioned, varint};
use verfs_meta::{Direction, KeyRange};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Checker, Result};

/// Keys that are missing in a change list of one epoch, listed anew in one round.
const UNLISTED_MAX: usize = 100_000;

/// Sums over what died as a version of some snapshots: by death and birth.
type Lives = BTreeMap<(Epoch, Epoch), u64>;

impl Checker<'_> {
    /// Whether some snapshot that isn't wholly gone has a version of this life.
    fn is_needed(&self, birth: Epoch, death: Epoch) -> bool {
        let ids = &self.system.snapshots;
        let from = ids.partition_point(|(id, _)| *id < birth);
        ids.get(from).is_some_and(|(id, _)| *id < death)
    }

    pub(super) fn history(&mut self) -> Result<()> {
        self.snapshot_names();
        let listed = self.change_lists()?;
        let mut lives = Lives::new();
        self.dead_lists(&mut lives)?;
        self.versions(&listed, &mut lives)?;
        // How long sealed names and values are is not to be seen: what the vault's snapshots use can't be worked out.
        if self.check.name_hash.is_some() { self.used(&lives) } else { Ok(()) }
    }

    fn snapshot_names(&mut self) {
        let mut names = BTreeSet::new();
        let standing = self.system.snapshots.iter().filter_map(|(id, record)| Some((*id, record.as_ref()?)));
        for (id, record) in standing.filter(|(_, record)| record.pruning.is_none()) {
            if !names.insert(&record.name) {
                let mut renamed = record.clone();
                renamed.name = [&record.name[..], format!("-{}", id.0).as_bytes()].concat().into();
                let detail = format!("another one is called {} too", record.name.escape_ascii());
                self.findings.records("snapshot-name", format!("snapshot {}", id.0), detail, |batch| {
                    batch.put(keys::snapshot(id), renamed.encode());
                });
            }
        }
    }

    /// Fingerprints of what change lists name, each with its epoch. Lists that no snapshot needs go.
    fn change_lists(&mut self) -> Result<FxHashSet<u64>> {
        let oldest = self.system.snapshots.first().map(|(id, _)| *id);
        let (mut listed, mut stray, mut damaged) = (FxHashSet::default(), Vec::new(), Vec::new());
        self.view.scan(&KeyRange::prefix(&[keys::CHANGES]), Direction::Forward, &mut |key, value| {
            let Some(epoch) = keys::parse_changes(key) else { return ControlFlow::Continue(()) };
            if oldest.is_none_or(|oldest| oldest >= epoch) {
                stray.push((Bytes::copy_from_slice(key), epoch));
            }
            match ChangeList::decode(value) {
                Ok(list) => listed.extend(list.keys.iter().map(|key| fingerprint(key, epoch))),
                Err(error) => damaged.push((epoch, error)),
            }
            ControlFlow::Continue(())
        })?;
        for (key, epoch) in stray {
            let detail = "no snapshot before it is left".to_owned();
            self.findings.records("changes-stray", format!("change list of epoch {}", epoch.0), detail, |batch| {
                batch.delete(key);
            });
        }
        for (epoch, error) in damaged {
            let detail = format!("it can't be decoded ({error}): comparisons and rollbacks may miss changes");
            self.findings.left("changes-damaged", format!("change list of epoch {}", epoch.0), detail);
        }
        Ok(listed)
    }

    fn dead_lists(&mut self, lives: &mut Lives) -> Result<()> {
        let (mut unneeded, mut damaged) = (Vec::new(), Vec::new());
        self.view.scan(&KeyRange::prefix(&[keys::DEAD]), Direction::Forward, &mut |key, value| {
            let Some((death, birth)) = keys::parse_dead(key) else { return ControlFlow::Continue(()) };
            if !self.is_needed(birth, death) {
                unneeded.push((Bytes::copy_from_slice(key), death, birth));
            }
            match DeadList::decode(value) {
                Ok(list) if list.references.iter().all(|dead| dead.references > 0 && dead.chunk != LOST_CHUNK) => {
                    *lives.entry((death, birth)).or_default() +=
                        list.references.iter().map(|dead| dead.bytes).sum::<u64>();
                }
                Ok(_) => damaged.push((death, birth, "it names no references, or no chunk".to_owned())),
                Err(error) => damaged.push((death, birth, error.to_string())),
            }
            ControlFlow::Continue(())
        })?;
        let place = |death: Epoch, birth: Epoch| format!("dead list of {} to {}", birth.0, death.0);
        for (key, death, birth) in unneeded {
            let detail = "no snapshot has what died then".to_owned();
            self.findings.records("dead-stray", place(death, birth), detail, |batch| batch.delete(key));
        }
        for (death, birth, error) in damaged {
            let detail = format!("{error}: the room of what it names stays taken");
            self.findings.left("dead-damaged", place(death, birth), detail);
        }
        Ok(())
    }

    /// Old versions: somebody needs each, lists name it, and lives follow each other.
    fn versions(&mut self, listed: &FxHashSet<u64>, lives: &mut Lives) -> Result<()> {
        let (mut unneeded, mut damaged, mut overlaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut unlisted: BTreeMap<Epoch, Vec<Bytes>> = BTreeMap::new();
        let mut last: Option<(Bytes, Epoch)> = None;
        let mut ends = Vec::new();
        self.view.scan(&KeyRange::prefix(&[keys::HISTORY]), Direction::Forward, &mut |key, value| {
            let Some((of, death)) = keys::parse_history(key) else { return ControlFlow::Continue(()) };
            let shown = || of.escape_ascii().to_string();
            let Ok((birth, _)) = split_versioned(value) else {
                damaged.push(shown());
                return ControlFlow::Continue(());
            };
            *lives.entry((death, birth)).or_default() += (key.len() + value.len()) as u64;
            if !self.is_needed(birth, death) {
                unneeded.push(Bytes::copy_from_slice(key));
            }
            if !listed.contains(&fingerprint(of, death)) {
                let keys = unlisted.entry(death).or_default();
                if keys.len() < UNLISTED_MAX {
                    keys.push(Bytes::copy_from_slice(of));
                }
            }
            match &last {
                Some((before, ended)) if before[..] == *of => {
                    if birth < *ended {
                        overlaps.push(shown());
                    }
                }
                _ => ends.extend(last.take()),
            }
            last = Some((Bytes::copy_from_slice(of), death));
            if ends.len() > UNLISTED_MAX {
                ends.clear();
            }
            ControlFlow::Continue(())
        })?;
        ends.extend(last);
        for (key, ended) in ends {
            let live = self.view.get(&key)?;
            if live.is_some_and(|value| split_versioned(&value).is_ok_and(|(birth, _)| birth < ended)) {
                overlaps.push(key.escape_ascii().to_string());
            }
        }
        for key in unneeded {
            let place = format!("history of {}", key[1..].escape_ascii());
            self.findings.records("history-stray", place, "no snapshot has it", |batch| batch.delete(key));
        }
        for (epoch, keys) in unlisted {
            let place = format!("change list of epoch {}", epoch.0);
            let detail = format!("it lacks {} keys that have a version which ended then", keys.len());
            let mut list_key = None;
            while list_key.is_none() {
                let key = keys::changes(epoch, self.system.group, self.repair_part);
                self.repair_part += 1;
                list_key = self.view.get(&key)?.is_none().then_some(key);
            }
            self.mend("changes-lack", place, detail, |batch| {
                if let Some(key) = list_key {
                    batch.put(key, ChangeList::encode(&keys));
                }
            });
        }
        for key in damaged {
            self.findings.left("history-damaged", format!("history of {key}"), "a version can't be decoded");
        }
        for key in overlaps {
            self.findings.left("history-overlap", format!("history of {key}"), "two versions lived at the same time");
        }
        Ok(())
    }

    /// What each snapshot alone uses.
    fn used(&mut self, lives: &Lives) -> Result<()> {
        let standing: BTreeSet<Epoch> = (self.system.snapshots.iter())
            .filter(|(_, record)| record.as_ref().is_none_or(|record| record.pruning.is_none()))
            .map(|(id, _)| *id)
            .collect();
        let mut used: BTreeMap<Epoch, u64> = standing.iter().map(|id| (*id, 0)).collect();
        for ((death, birth), bytes) in lives.iter().filter(|((death, birth), _)| birth < death) {
            let mut holders = standing.range(*birth..*death);
            if let (Some(only), None) = (holders.next(), holders.next())
                && let Some(used) = used.get_mut(only)
            {
                *used += bytes;
            }
        }
        let mut told = BTreeMap::new();
        self.view.scan(&KeyRange::prefix(&[keys::SNAPSHOT_USED]), Direction::Forward, &mut |key, value| {
            let id = key.get(1..).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes);
            told.extend(id.map(|id| (Epoch(id), varint::Reader::new(value).u64().ok())));
            ControlFlow::Continue(())
        })?;
        for (id, bytes) in used {
            if told.get(&id).copied().flatten().unwrap_or(0) != bytes {
                let detail = format!("it says that it alone uses {:?} bytes, and uses {bytes}", told.get(&id));
                self.findings.records("snapshot-used", format!("snapshot {}", id.0), detail, |batch| {
                    let mut value = Vec::new();
                    varint::put_u64(&mut value, bytes);
                    batch.put(keys::snapshot_used(id), value);
                });
            }
        }
        let gone = told.keys().filter(|id| !self.system.snapshots.iter().any(|(other, _)| other == *id));
        for id in gone {
            let detail = "the snapshot does not exist";
            self.findings.records("snapshot-used", format!("snapshot {}", id.0), detail, |batch| {
                batch.delete(keys::snapshot_used(*id));
            });
        }
        Ok(())
    }
}

/// 64 bits of a key and an epoch: two that are equal by chance hide what is missing of one.
fn fingerprint(key: &[u8], epoch: Epoch) -> u64 {
    xxh3_64_with_seed(key, epoch.0)
}
