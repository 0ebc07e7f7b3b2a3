//! Random numbers that a seed replays.

use std::io;

use parking_lot::Mutex;

/// A small generator for test decisions: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", OOPSLA 2014). Equal seeds give equal sequences for ever, so a printed seed stays good.
#[derive(Clone, Debug)]
pub struct TestRng {
    state: u64,
}

impl TestRng {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        TestRng { state: seed }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0 .. bound`; 0 for an empty range.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.bits() % bound }
    }

    /// An index into something of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number in `low ..= high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `hits` times out of `of`.
    pub fn chance(&mut self, hits: u64, of: u64) -> bool {
        self.below(of) < hits
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// A choice by weights; at least one weight must be positive.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let total: u64 = choices.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut left = self.below(total);
        for (weight, choice) in choices {
            if left < u64::from(*weight) {
                return *choice;
            }
            left -= u64::from(*weight);
        }
        choices[choices.len() - 1].1
    }

    /// A generator with a sequence of its own, so that what one part draws doesn't move another part.
    #[must_use]
    pub fn fork(&mut self) -> TestRng {
        TestRng::new(self.bits())
    }
}

/// The volume's source of randomness in tests.
#[derive(Debug)]
pub struct SeededRng(Mutex<TestRng>);

impl SeededRng {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        SeededRng(Mutex::new(TestRng::new(seed)))
    }
}

impl verfs_base::Rng for SeededRng {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        let mut rng = self.0.lock();
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&rng.bits().to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}
