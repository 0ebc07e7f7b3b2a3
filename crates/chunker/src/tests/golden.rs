//! Boundaries that volumes on disk already have. If one of these fails, duplicates of stored data are no longer found:
//! the change needs a new kind beside the old one.

use super::{cut_all, data};
use crate::{ChunkSizes, ChunkerKind, chunker};

fn first_lengths(kind: ChunkerKind, shape: data::Shape) -> (usize, [usize; 8]) {
    let data = data::bytes(shape, 2026, 4 << 20);
    let chunker = chunker(kind, ChunkSizes::for_mean(kind, 16 << 10).unwrap()).unwrap();
    let lengths: Vec<usize> = cut_all(chunker.as_ref(), &data).iter().map(|chunk| chunk.len()).collect();
    (lengths.len(), lengths[..8].try_into().unwrap())
}

#[test]
fn mincdc_cuts_where_it_always_did() {
    assert_eq!(
        first_lengths(ChunkerKind::Min, data::Shape::Random),
        (256, [15181, 12260, 12131, 14146, 21667, 16387, 10941, 13667])
    );
    assert_eq!(
        first_lengths(ChunkerKind::Min, data::Shape::Text),
        (258, [19659, 15940, 12630, 15851, 18770, 11771, 21787, 20919])
    );
}

#[test]
fn fastcdc_cuts_where_it_always_did() {
    assert_eq!(
        first_lengths(ChunkerKind::Fast, data::Shape::Random),
        (256, [12939, 16835, 15550, 14960, 13359, 12731, 18013, 14085])
    );
    assert_eq!(
        first_lengths(ChunkerKind::Fast, data::Shape::Text),
        (259, [17912, 19320, 15072, 16058, 16397, 13285, 9134, 13281])
    );
}

#[test]
fn ultracdc_cuts_where_it_always_did() {
    assert_eq!(
        first_lengths(ChunkerKind::Ultra, data::Shape::Random),
        (255, [18286, 16503, 17991, 15817, 16119, 15103, 15044, 16525])
    );
    assert_eq!(
        first_lengths(ChunkerKind::Ultra, data::Shape::Runs),
        (479, [8376, 9176, 8712, 8712, 8904, 9056, 8864, 8768])
    );
}
