//! Which of the states that a crash may leave behind it does leave behind.

use std::collections::BTreeMap;

use crate::random::TestRng;

/// A manner of losing things. All are allowed by POSIX; real machines prefer some of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashStyle {
    /// Everything unsynced is lost.
    LoseAll,
    /// Nothing is lost: the process was killed, the system lives on.
    KeepAll,
    /// Each sector, length and name has any of its states.
    Scatter,
    /// Changes reached the disk in their order, up to some moment.
    InOrder,
    /// Each file's unsynced content is there or not there; each name likewise.
    WholeFiles,
    /// Names and lengths are new, contents old: zeros or old bytes where new ones should be.
    NamesFirst,
    /// Contents are new, names and lengths old.
    ContentFirst,
}

impl CrashStyle {
    /// Every style.
    pub const ALL: [CrashStyle; 7] = [
        CrashStyle::LoseAll,
        CrashStyle::KeepAll,
        CrashStyle::Scatter,
        CrashStyle::InOrder,
        CrashStyle::WholeFiles,
        CrashStyle::NamesFirst,
        CrashStyle::ContentFirst,
    ];
}

/// Picks states during one crash. A choice is an index into the states, oldest (durable) first.
pub(super) struct Chooser<'a> {
    style: CrashStyle,
    rng: &'a mut TestRng,
    until: u64,
    keeps: BTreeMap<u64, bool>,
}

impl<'a> Chooser<'a> {
    /// `now` is the moment of the newest change.
    pub(super) fn new(style: CrashStyle, now: u64, rng: &'a mut TestRng) -> Self {
        let until = rng.below(now + 1);
        Chooser { style, rng, until, keeps: BTreeMap::new() }
    }

    fn any(&mut self, states: usize) -> usize {
        self.rng.index(states)
    }

    /// The newest state that the disk had got by then; the change of that very moment may be torn.
    fn until(&mut self, moments: &[u64]) -> usize {
        let last = moments.iter().rposition(|moment| *moment <= self.until).unwrap_or(0);
        let torn = last > 0 && moments[last] == self.until && self.rng.chance(1, 2);
        if torn { last - 1 } else { last }
    }

    fn whole(&mut self, file: u64, states: usize) -> usize {
        let rng = &mut *self.rng;
        let keep = *self.keeps.entry(file).or_insert_with(|| rng.chance(1, 2));
        if keep { states - 1 } else { 0 }
    }

    pub(super) fn content(&mut self, file: u64, moments: &[u64]) -> usize {
        match self.style {
            CrashStyle::LoseAll | CrashStyle::NamesFirst => 0,
            CrashStyle::KeepAll | CrashStyle::ContentFirst => moments.len() - 1,
            CrashStyle::Scatter => self.any(moments.len()),
            CrashStyle::InOrder => self.until(moments),
            CrashStyle::WholeFiles => self.whole(file, moments.len()),
        }
    }

    pub(super) fn length(&mut self, file: u64, moments: &[u64]) -> usize {
        match self.style {
            CrashStyle::LoseAll | CrashStyle::ContentFirst => 0,
            CrashStyle::KeepAll | CrashStyle::NamesFirst => moments.len() - 1,
            CrashStyle::Scatter => self.any(moments.len()),
            CrashStyle::InOrder => self.until(moments),
            CrashStyle::WholeFiles => self.whole(file, moments.len()),
        }
    }

    pub(super) fn name(&mut self, moments: &[u64]) -> usize {
        match self.style {
            CrashStyle::LoseAll | CrashStyle::ContentFirst => 0,
            CrashStyle::KeepAll | CrashStyle::NamesFirst => moments.len() - 1,
            CrashStyle::Scatter | CrashStyle::WholeFiles => self.any(moments.len()),
            CrashStyle::InOrder => self.until(moments),
        }
    }
}
