//! Groups of two trees that end with one snapshot of both: that of the one is made only if that of the other is.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// What became of the snapshot that must be durable first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Fate {
    /// Its group is being committed.
    #[default]
    Open,
    /// It is durable.
    Durable,
    /// Its group could not be committed, or not at once. That does not change any more, even if it is committed later.
    Lost,
}

/// What two groups that end with one snapshot tell each other.
#[derive(Default, Debug)]
pub(crate) struct Bond {
    fate: Mutex<Fate>,
    decided: Condvar,
}

impl Bond {
    /// Says what became of the first one. Only the first word counts.
    pub(crate) fn decide(&self, fate: Fate) {
        let mut now = self.fate.lock();
        if *now == Fate::Open {
            *now = fate;
            self.decided.notify_all();
        }
    }

    /// Waits until that is known.
    pub(crate) fn wait(&self) -> Fate {
        let mut fate = self.fate.lock();
        while *fate == Fate::Open {
            self.decided.wait(&mut fate);
        }
        *fate
    }
}

/// A group's part in a snapshot of two trees.
#[derive(Clone, Default, Debug)]
pub(crate) enum Companion {
    /// It has none.
    #[default]
    None,
    /// The other group waits for this one.
    First(Arc<Bond>),
    /// This one waits for the other.
    Second(Arc<Bond>),
}

impl Companion {
    /// Tells the group that waits what became of this one.
    pub(crate) fn decide(&self, fate: Fate) {
        match self {
            Companion::First(bond) => bond.decide(fate),
            Companion::Second(_) | Companion::None => {}
        }
    }

    /// Whether the group's own snapshot is to be made. Waits for the other group, if there is one.
    pub(crate) fn is_made(&self) -> bool {
        match self {
            Companion::Second(bond) => bond.wait() == Fate::Durable,
            Companion::First(_) | Companion::None => true,
        }
    }
}
