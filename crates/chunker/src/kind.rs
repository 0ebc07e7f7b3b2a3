//! The chunkers that a volume can be made with.

use std::fmt;
use std::str::FromStr;

use crate::ChunkerError;

/// A chunking algorithm. A volume records its name, for good: another algorithm would find none of its duplicates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ChunkerKind {
    /// MinCDC by a hash of 4 bytes: the cut is where the hash is smallest between the bounds.
    #[default]
    Min,
    /// FastCDC as published in 2020: gear hash, two masks, two bytes per step.
    Fast,
    /// UltraCDC as published in 2022: Hamming distance of 8-byte windows, two masks, low-entropy rule.
    Ultra,
}

impl ChunkerKind {
    /// Every kind, the default first.
    pub const ALL: [Self; 3] = [Self::Min, Self::Fast, Self::Ultra];

    /// The name in configuration and on disk: `mincdc`, `fastcdc` or `ultracdc`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Min => "mincdc",
            Self::Fast => "fastcdc",
            Self::Ultra => "ultracdc",
        }
    }
}

impl fmt::Display for ChunkerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChunkerKind {
    type Err = ChunkerError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| ChunkerError::UnknownKind { name: name.to_owned() })
    }
}
