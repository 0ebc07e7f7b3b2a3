//! What the pack tests share.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod disk;

use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{ChunkId, Disk, DiskFile, PackId};
use verfs_pack::{BlockDecoder, BlockEncoder, BlockSeal, Compression, IndexEntry, PackWriter, RecordSeed, pack_dir};

pub const PACK: PackId = PackId(0x1234);

/// Number of random cases: `usual`, times `VERFS_TEST_FACTOR` if that is set.
pub fn cases(usual: u32) -> u32 {
    let factor = std::env::var("VERFS_TEST_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual.saturating_mul(factor)
}

pub fn seed() -> RecordSeed {
    RecordSeed::of_volume(&[5; 192])
}

pub fn decoder() -> Arc<BlockDecoder> {
    Arc::new(BlockDecoder::new(seed(), BlockSeal::None))
}

/// Chunk `number`: some are text, some are random, some are small.
pub fn chunk(number: u64) -> (ChunkId, Bytes) {
    let len = 1 + (number * 7919 % 9000) as usize;
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes: Vec<u8> = (0..len)
        .map(|at| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if number.is_multiple_of(2) { b"lorem ipsum dolor "[at % 18] } else { random as u8 }
        })
        .collect();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0xd6e8_feb8_6659_fd93).to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    (ChunkId(id), bytes.into())
}

/// Writes and syncs a pack of these chunks, without an index.
pub fn write_pack(disk: &dyn Disk, numbers: impl Iterator<Item = u64>) -> (Arc<dyn DiskFile>, Vec<IndexEntry>, u64) {
    disk.create_dir_all(&pack_dir(PACK)).unwrap();
    let mut writer = PackWriter::create(disk, PACK).unwrap();
    let mut encoder = self::encoder(3);
    let entries = numbers
        .map(|number| {
            let (id, data) = chunk(number);
            let entry = writer.append(&encoder.encode(id, &data).unwrap());
            if writer.buffered_bytes() > 20_000 {
                writer.take_write(Vec::new()).run().unwrap();
            }
            entry
        })
        .collect();
    writer.take_write(Vec::new()).run().unwrap();
    writer.sync().unwrap();
    disk.sync_dir(&writer.dir()).unwrap();
    (Arc::clone(writer.file()), entries, writer.len())
}

/// An encoder of plain blocks.
pub fn encoder(level: i32) -> BlockEncoder {
    BlockEncoder::new(seed(), Compression::Level(level), BlockSeal::None).unwrap()
}
