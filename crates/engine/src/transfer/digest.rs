//! A checksum of a file's content that doesn't depend on where its holes are.

use xxhash_rust::xxh3::Xxh3;

/// Blocks of zeros of this size are not looked at: it makes no difference whether they are stored.
const BLOCK_BYTES: usize = 4096;

/// XXH3-128 over the blocks that aren't zero, each with its offset. Data come in order of their offsets.
pub(super) struct Digest {
    hash: Box<Xxh3>,
    /// Where the block begins that is being gathered.
    at: u64,
    block: Box<[u8; BLOCK_BYTES]>,
    gathers: Gathers,
}

/// Whether the block that is being gathered has data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gathers {
    Nothing,
    Data,
}

impl Digest {
    pub(super) fn new() -> Digest {
        Digest { hash: Box::default(), at: 0, block: Box::new([0; BLOCK_BYTES]), gathers: Gathers::Nothing }
    }

    fn put(hash: &mut Xxh3, at: u64, block: &[u8]) {
        if block.iter().any(|byte| *byte != 0) {
            hash.update(&at.to_le_bytes());
            hash.update(block);
        }
    }

    fn end_block(&mut self) {
        if self.gathers == Gathers::Data {
            Self::put(&mut self.hash, self.at, &*self.block);
            self.block.fill(0);
            self.gathers = Gathers::Nothing;
        }
    }

    /// Takes data at an offset behind all earlier ones.
    pub(super) fn take(&mut self, mut offset: u64, mut data: &[u8]) {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        while !data.is_empty() {
            let begin = offset - offset % BLOCK;
            if begin != self.at {
                self.end_block();
                self.at = begin;
            }
            let inside = (offset - begin) as usize;
            let len = data.len().min(BLOCK_BYTES - inside);
            let (part, rest) = data.split_at(len);
            if len == BLOCK_BYTES {
                Self::put(&mut self.hash, begin, part);
            } else if let Some(place) = self.block.get_mut(inside..inside + len) {
                place.copy_from_slice(part);
                self.gathers = Gathers::Data;
            }
            data = rest;
            offset += len as u64;
        }
    }

    /// The checksum of a file of `size` bytes with these data.
    pub(super) fn end(mut self, size: u64) -> u128 {
        self.end_block();
        self.hash.update(&size.to_le_bytes());
        self.hash.digest128()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test may panic")]

    use super::Digest;

    fn of(parts: &[(u64, &[u8])], size: u64) -> u128 {
        let mut digest = Digest::new();
        parts.iter().for_each(|(offset, data)| digest.take(*offset, data));
        digest.end(size)
    }

    #[test]
    fn holes_and_pieces_make_no_difference_and_bytes_do() {
        let content: Vec<u8> = (0..20_000_u32).map(|i| if i / 5000 == 1 { 0 } else { (i % 251) as u8 }).collect();
        let whole = of(&[(0, &content)], 20_000);
        let cut: Vec<(u64, &[u8])> = content.chunks(777).enumerate().map(|(i, part)| (i as u64 * 777, part)).collect();
        assert_eq!(of(&cut, 20_000), whole);
        // Bytes 5000 to 9999 are zeros: stored or not.
        assert_eq!(of(&[(0, &content[..5000]), (10_000, &content[10_000..])], 20_000), whole);
        assert_eq!(of(&[(0, &content[..6000]), (9000, &content[9000..])], 20_000), whole);
        let mut other = content.clone();
        other[12_345] ^= 1;
        assert_ne!(of(&[(0, &other)], 20_000), whole);
        assert_ne!(of(&[(0, &content)], 20_001), whole);
        // The same bytes at another place.
        assert_ne!(of(&[(4096, &content)], 24_096), of(&[(0, &content)], 24_096));
    }
}
