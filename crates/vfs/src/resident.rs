//! Records kept in memory: the changed ones until their group is committed, the others while there is room.

use std::collections::VecDeque;
use std::hash::Hash;

use rustc_hash::FxHashMap;
use verfs_base::GroupId;

/// How many entries one call of [`Resident::trim`] looks at, so that no operation pays for a long sweep.
const TRIM_STEPS: usize = 16;

#[derive(Debug)]
struct Slot<V> {
    value: V,
    changed_in: GroupId,
    touched: bool,
    weight: usize,
}

/// A map whose clean entries are evicted by the CLOCK rule (second chance).
#[derive(Debug)]
pub(crate) struct Resident<K, V> {
    /// Boxed: a table has room for twice as many as were ever in it, and never shrinks.
    slots: FxHashMap<K, Box<Slot<V>>>,
    ring: VecDeque<K>,
    weight: usize,
    capacity: usize,
}

impl<K: Copy + Eq + Hash, V> Resident<K, V> {
    /// Room for clean entries of `capacity` in weight together; changed ones are kept beyond it.
    pub(crate) fn new(capacity: usize) -> Self {
        Resident { slots: FxHashMap::default(), ring: VecDeque::new(), weight: 0, capacity }
    }

    /// The value of a key.
    pub(crate) fn get(&mut self, key: K) -> Option<&V> {
        self.slots.get_mut(&key).map(|slot| {
            slot.touched = true;
            &slot.value
        })
    }

    /// The value of a key, to be changed in `group`.
    pub(crate) fn change(&mut self, key: K, group: GroupId) -> Option<&mut V> {
        self.slots.get_mut(&key).map(|slot| {
            slot.touched = true;
            slot.changed_in = slot.changed_in.max(group);
            &mut slot.value
        })
    }

    /// The value of a key, to be changed in memory only.
    pub(crate) fn adjust(&mut self, key: K) -> Option<&mut V> {
        self.slots.get_mut(&key).map(|slot| &mut slot.value)
    }

    /// Keeps a value that was read from the store. One that is here already wins.
    pub(crate) fn load(&mut self, key: K, value: V, weight: usize) {
        self.insert_if_absent(key, value, GroupId(0), weight);
    }

    /// Keeps a value that was changed in `group`.
    pub(crate) fn put(&mut self, key: K, value: V, group: GroupId, weight: usize) {
        match self.slots.get_mut(&key) {
            Some(slot) => {
                self.weight = self.weight - slot.weight + weight;
                **slot = Slot { value, changed_in: group, touched: true, weight };
            }
            None => self.insert_if_absent(key, value, group, weight),
        }
    }

    fn insert_if_absent(&mut self, key: K, value: V, changed_in: GroupId, weight: usize) {
        self.slots.entry(key).or_insert_with(|| {
            self.ring.push_back(key);
            self.weight += weight;
            Box::new(Slot { value, changed_in, touched: true, weight })
        });
    }

    /// Evicts a few entries that are over capacity, unused and changed in no group after `committed`.
    pub(crate) fn trim(&mut self, committed: GroupId) {
        for _ in 0..TRIM_STEPS {
            if self.weight <= self.capacity {
                return;
            }
            let Some(key) = self.ring.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            if slot.changed_in > committed || slot.touched {
                slot.touched = false;
                self.ring.push_back(key);
            } else {
                self.weight -= slot.weight;
                self.slots.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_entries_stay_until_their_group_is_committed() {
        let mut resident = Resident::new(4);
        for key in 0..100u64 {
            resident.put(key, key, GroupId(2), 1);
            resident.trim(GroupId(1));
        }
        assert_eq!(resident.slots.len(), 100);
        for _ in 0..100 {
            resident.trim(GroupId(2));
        }
        assert_eq!(resident.slots.len(), 4);
    }

    #[test]
    fn used_entries_outlive_unused_ones() {
        let mut resident = Resident::new(10);
        for key in 0..10u64 {
            resident.load(key, key, 1);
        }
        for key in 10..200u64 {
            resident.get(3);
            resident.load(key, key, 1);
            resident.trim(GroupId(0));
        }
        assert!(resident.get(3).is_some());
        assert!(resident.slots.len() < 40);
    }
}
