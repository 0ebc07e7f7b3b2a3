//! Every interleaving of groups and garbage collection around one chunk: a chunk that is referenced again while it is
//! being reclaimed is never lost. The turns and the decision are the store's own source files, compiled against loom.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "tests")]

#[path = "../src/gc/fate.rs"]
mod fate;
#[path = "../src/slot.rs"]
mod slot;

/// What the store takes from parking_lot, from loom.
mod sync {
    use std::ops::{Deref, DerefMut};

    #[derive(Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);
    pub(crate) struct InTime;
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);
    pub(crate) struct Guard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Mutex(loom::sync::Mutex::new(T::default()))
        }
    }

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> Guard<'_, T> {
            Guard(Some(self.0.lock().unwrap()))
        }
    }

    impl Condvar {
        pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
            guard.0 = Some(self.0.wait(guard.0.take().unwrap()).unwrap());
        }

        /// Time doesn't pass.
        pub(crate) fn wait_for<T>(&self, guard: &mut Guard<'_, T>, _: std::time::Duration) -> InTime {
            self.wait(guard);
            InTime
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    impl InTime {
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().unwrap()
        }
    }
}

use std::collections::BTreeSet;
use std::sync::Arc;

use fate::{Copied, Fate, fate};
use slot::Slot;
use verfs_base::PackId;
use verfs_format::chunk_record::ChunkRecord;

/// The pack that is collected, the one that new chunks go to, and the one that survivors go to.
const COLLECTED: PackId = PackId(1);
const OPEN: PackId = PackId(2);
const OUTPUT: PackId = PackId(3);

/// What keeps collection from acting on what is no longer so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// As in the store.
    Whole,
    /// The decision is made on what the list says.
    DecidesOnTheList,
    /// No turn is taken.
    TakesNoTurn,
}

/// The metadata of a volume with one chunk, and its packs.
#[derive(Default)]
struct World {
    slot: Arc<Slot>,
    record: sync::Mutex<Option<ChunkRecord>>,
    packs: sync::Mutex<BTreeSet<PackId>>,
}

impl World {
    fn with(refcount: u64) -> Arc<World> {
        let world = World::default();
        *world.record.lock() = Some(ChunkRecord { refcount, pack: COLLECTED, raw_len: 1, stored_len: 1 });
        world.packs.lock().insert(COLLECTED);
        Arc::new(world)
    }

    fn read(&self) -> Option<ChunkRecord> {
        *self.record.lock()
    }

    /// A group that puts the chunk: found by its look-up, or stored; committed later.
    fn put(&self) {
        let _turn = self.slot.take();
        let found = self.read();
        let stored = ChunkRecord { refcount: 0, pack: OPEN, raw_len: 1, stored_len: 1 };
        if found.is_none() {
            self.packs.lock().insert(OPEN);
        }
        let record = found.unwrap_or(stored);
        *self.record.lock() = Some(ChunkRecord { refcount: record.refcount + 1, ..record });
    }

    /// A group that gives a reference back.
    fn give_back(&self) {
        let _turn = self.slot.take();
        let found = self.read();
        *self.record.lock() = found.map(|record| ChunkRecord { refcount: record.refcount - 1, ..record });
    }

    /// Collects the pack: list, copy, decide, remove.
    fn collect(&self, guard: Guard) {
        let listed = self.read();
        let copied = match fate(COLLECTED, listed, Copied::No) {
            Fate::Unneeded | Fate::Drop => Copied::No,
            Fate::Move(_) | Fate::Stay(_) => Copied::Yes,
        };
        if copied == Copied::Yes {
            self.packs.lock().insert(OUTPUT);
        }
        let turn = (guard != Guard::TakesNoTurn).then(|| self.slot.take_within(std::time::Duration::ZERO));
        let record = if guard == Guard::DecidesOnTheList { listed } else { self.read() };
        match fate(COLLECTED, record, copied) {
            Fate::Unneeded => {}
            Fate::Drop => *self.record.lock() = None,
            Fate::Move(record) => *self.record.lock() = Some(ChunkRecord { pack: OUTPUT, ..record }),
            Fate::Stay(_) => return,
        }
        drop(turn);
        self.packs.lock().remove(&COLLECTED);
    }

    fn assert_references(&self, references: u64) {
        let record = self.read();
        assert_eq!(record.map_or(0, |record| record.refcount), references);
        if let Some(record) = record {
            assert!(self.packs.lock().contains(&record.pack), "the record leads to a pack that is gone: {record:?}");
        }
    }
}

fn dead_and_put_again(guard: Guard) {
    loom::model(move || {
        let world = World::with(0);
        let group = Arc::clone(&world);
        let group = loom::thread::spawn(move || group.put());
        world.collect(guard);
        group.join().unwrap();
        world.assert_references(1);
    });
}

fn alive_and_given_back_and_put_again(guard: Guard) {
    loom::model(move || {
        let world = World::with(1);
        let groups = Arc::clone(&world);
        let groups = loom::thread::spawn(move || {
            groups.give_back();
            groups.put();
        });
        world.collect(guard);
        groups.join().unwrap();
        world.assert_references(1);
    });
}

#[test]
fn a_dead_chunk_that_is_put_again_is_never_lost() {
    dead_and_put_again(Guard::Whole);
}

#[test]
fn a_chunk_that_dies_and_is_put_again_is_never_lost() {
    alive_and_given_back_and_put_again(Guard::Whole);
}

#[test]
fn three_parties_take_turns() {
    loom::model(|| {
        let world = World::with(1);
        let parties = [Arc::clone(&world), Arc::clone(&world)];
        let [putter, giver] = parties;
        let putter = loom::thread::spawn(move || putter.put());
        let giver = loom::thread::spawn(move || giver.give_back());
        world.collect(Guard::Whole);
        putter.join().unwrap();
        giver.join().unwrap();
        world.assert_references(1);
    });
}

#[test]
#[should_panic(expected = "left")]
fn deciding_on_the_list_would_lose_it() {
    dead_and_put_again(Guard::DecidesOnTheList);
}

#[test]
#[should_panic]
fn deciding_without_the_turn_would_lose_it() {
    dead_and_put_again(Guard::TakesNoTurn);
}

#[test]
#[should_panic]
fn moving_without_the_turn_would_bring_a_reference_back() {
    alive_and_given_back_and_put_again(Guard::TakesNoTurn);
}
