//! Chunks that nothing leads to: each pack's become a file in `lost+found`.

use verfs_base::{ChunkId, Epoch, Ino};
use verfs_format::chunk_record::ChunkRecord;
use verfs_format::{ContentId, InodeKind, Run, RunData, SEGMENT_BYTES, Segment, encode_versioned, keys};
use verfs_meta::WriteBatch;
use verfs_store::{Findings, UnplacedPack, chunk_record_key};

use super::names::merge;
use super::{Checker, Result, TreeCheck, put_inode};

/// Chunks one behind the other in a file.
#[derive(Default)]
struct Layout {
    segments: Vec<Segment>,
    /// How many runs each chunk got, in their order.
    references: Vec<u64>,
    size: u64,
}

fn lay_out(chunks: &[(ChunkId, ChunkRecord)], birth: Epoch) -> Layout {
    let mut layout = Layout::default();
    for (id, record) in chunks {
        let (mut offset, mut runs) = (0, 0);
        while offset < record.raw_len {
            let at = layout.size % SEGMENT_BYTES;
            if at == 0 {
                layout.segments.push(Segment::default());
            }
            let room = u32::try_from(SEGMENT_BYTES - at).unwrap_or(u32::MAX);
            let len = room.min(record.raw_len - offset);
            if let Some(segment) = layout.segments.last_mut() {
                segment.runs.push(Run { len, data: RunData::Chunk { id: *id, offset, birth } });
            }
            (offset, runs) = (offset + len, runs + 1);
            layout.size += u64::from(len);
        }
        layout.references.push(runs);
    }
    layout
}

impl TreeCheck<'_> {
    /// Gives chunks that nothing refers to a file in `lost+found`, one for each pack, in the order in which they were
    /// stored: garbage collection would take them for deleted. Everything else was checked, and nothing was to be mended.
    ///
    /// # Errors
    /// What the metadata engine says.
    pub fn place(&self, packs: &[UnplacedPack], findings: &mut Findings) -> verfs_store::Result<()> {
        let Some(system) = self.system(findings)? else { return Ok(()) };
        let mut checker = self.checker(system, findings);
        for pack in packs {
            checker.place(pack)?;
        }
        Ok(())
    }
}

impl Checker<'_> {
    fn place(&mut self, UnplacedPack { pack, chunks }: &UnplacedPack) -> Result<()> {
        let mut batch = WriteBatch::new();
        let ino = Ino(self.fresh_number(&mut batch));
        let epoch = self.system.epoch;
        let Layout { segments, references, size } = lay_out(chunks, epoch);
        let mut record = self.rebuilt(ino, InodeKind::Regular, Ino::ROOT)?;
        (record.size, record.allocated) = (size, size);
        let mut born = vec![keys::inode(ino)];
        for (index, segment) in (0..).zip(&segments) {
            let key = keys::segment(ContentId(ino.0), index);
            batch.put(key.clone(), encode_versioned(epoch, |out| out.extend_from_slice(&segment.encode())));
            born.push(key);
        }
        for ((id, found), references) in chunks.iter().zip(references) {
            batch.put(chunk_record_key(*id), ChunkRecord { refcount: references, ..*found }.encode());
        }
        self.adopt(&mut batch, ino, &mut record)?;
        put_inode(&mut batch, ino, epoch, &record);
        self.list_births(&mut batch, &born)?;
        let detail =
            format!("nothing leads to {} of its chunks, {size} bytes: they become lost+found/#{ino}", chunks.len());
        self.mend("chunks-unplaced", format!("pack {pack}"), detail, |all| merge(all, batch));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use verfs_base::PackId;

    use super::*;

    #[test]
    fn chunks_lie_one_behind_the_other_and_are_split_where_a_segment_ends() {
        let chunk = |number: u8, raw_len: u32| {
            (ChunkId([number; 16]), ChunkRecord { refcount: 0, pack: PackId(1), raw_len, stored_len: 9 })
        };
        let mib = SEGMENT_BYTES as u32;
        let Layout { segments, references, size } =
            lay_out(&[chunk(1, mib - 10), chunk(2, 10), chunk(3, 2 * mib + 5), chunk(4, 1)], Epoch(7));
        assert_eq!(references, [1, 1, 3, 1]);
        assert_eq!(size, 3 * SEGMENT_BYTES + 6);
        let lens: Vec<Vec<(u32, u32)>> = segments
            .iter()
            .map(|segment| {
                let of = |run: &Run| match run.data {
                    RunData::Chunk { offset, birth: Epoch(7), .. } => (run.len, offset),
                    RunData::Chunk { .. } | RunData::Hole | RunData::Inline(_) => panic!("{run:?}"),
                };
                segment.runs.iter().map(of).collect()
            })
            .collect();
        assert_eq!(lens, [vec![(mib - 10, 0), (10, 0)], vec![(mib, 0)], vec![(mib, mib)], vec![(5, 2 * mib), (1, 0)]]);
    }
}
