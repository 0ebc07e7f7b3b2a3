//! Inputs made from a seed.

use proptest::prelude::*;

/// What the bytes are like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Every byte at random.
    Random,
    /// Words of a small vocabulary, blanks, newlines and punctuation.
    Text,
    /// The same few bytes again and again.
    Period(usize),
    /// Runs of one byte, of any length, with random bytes between them.
    Runs,
}

pub(super) fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![Just(Shape::Random), Just(Shape::Text), (1..20_usize).prop_map(Shape::Period), Just(Shape::Runs)]
}

/// splitmix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

pub(super) fn bytes(shape: Shape, seed: u64, count: usize) -> Vec<u8> {
    let mut random = SplitMix(seed);
    let mut out = Vec::with_capacity(count + 4096);
    match shape {
        Shape::Random => {
            while out.len() < count {
                out.extend_from_slice(&random.next().to_le_bytes());
            }
        }
        Shape::Text => {
            let vocabulary: Vec<Vec<u8>> = (0..2000)
                .map(|_| (0..1 + random.below(9)).map(|_| b"etaoinshrdlucmfwypvbgkqjxz"[random.below(26)]).collect())
                .collect();
            while out.len() < count {
                // The product of two makes the first words common, the last ones rare.
                out.extend_from_slice(&vocabulary[random.below(2000) * random.below(2000) / 2000]);
                out.extend_from_slice(
                    [" ", " ", " ", " ", ", ", ". ", "(", "\n", "\n    "][random.below(9)].as_bytes(),
                );
            }
        }
        Shape::Period(period) => {
            let unit: Vec<u8> = (0..period).map(|_| random.below(256) as u8).collect();
            out.extend(unit.iter().cycle().take(count));
        }
        Shape::Runs => {
            while out.len() < count {
                let (byte, length) = (random.below(256) as u8, 1 + random.below(3000));
                out.resize(out.len() + length, byte);
                (0..random.below(100)).for_each(|_| out.push(random.below(256) as u8));
            }
        }
    }
    out.truncate(count);
    out
}
