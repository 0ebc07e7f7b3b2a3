//! References: each chunk counts the runs that refer to it, in the live tree and in dead lists, and has what they say.

use std::ops::ControlFlow;

use rustc_hash::{FxHashMap, FxHashSet};
use verfs_base::ChunkId;
use verfs_format::chunk_record::{CHUNK, ChunkRecord, chunk_key};
use verfs_format::{DeadList, LOST_CHUNK, RunData, keys};
use verfs_meta::{Direction, KeyRange};
use verfs_store::{chunk_record_key, parse_chunk};

use super::{Checker, Result};
use crate::load::decode_segment;

/// Chunks without a record that are looked for.
const MISSING_MAX: usize = 1 << 20;

/// A chunk of a pass.
#[derive(Clone, Copy, Default)]
struct Counted {
    /// What its record says; `None` without a readable one.
    record: Option<ChunkRecord>,
    found: u64,
    /// Some run goes beyond its end.
    is_short: bool,
    /// There is a record, and it can't be read.
    is_damaged: bool,
}

impl Checker<'_> {
    /// Pass by pass through the chunks, by the first bytes of their ids.
    pub(super) fn references(&mut self) -> verfs_store::Result<()> {
        let mut short = FxHashSet::default();
        let mut missing: FxHashMap<ChunkId, u64> = FxHashMap::default();
        let mut from = ChunkId([0; 16]);
        loop {
            let (mut chunks, next) = self.chunks_from(from)?;
            let inside = |id: &ChunkId| *id >= from && next.is_none_or(|next| *id < next);
            self.count(&inside, &mut chunks)?;
            let mut ids: Vec<ChunkId> = chunks.keys().copied().collect();
            ids.sort_unstable();
            for id in ids {
                let counted = chunks[&id];
                match counted.record {
                    Some(record) => self.chunk(id, &record, &counted, &mut short),
                    None if missing.len() < MISSING_MAX && (counted.found > 0 || counted.is_damaged) => {
                        missing.insert(id, counted.found);
                    }
                    None => {}
                }
            }
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        self.missing(missing)?;
        Ok(self.name_lost("chunk-short", &short, "are behind the end of their chunk")?)
    }

    /// Records of chunks from `from` on, and where the next pass begins.
    fn chunks_from(&self, from: ChunkId) -> Result<(FxHashMap<ChunkId, Counted>, Option<ChunkId>)> {
        let (mut chunks, mut next) = (FxHashMap::<ChunkId, Counted>::default(), None);
        let range = KeyRange { start: chunk_key(from).to_vec().into(), ..KeyRange::prefix(&[CHUNK]) };
        let max = self.check.pass_max;
        self.view.scan(&range, Direction::Forward, &mut |key, value| {
            let Some(id) = parse_chunk(key) else { return ControlFlow::Continue(()) };
            if chunks.len() == max {
                next = Some(id);
                return ControlFlow::Break(());
            }
            let record = ChunkRecord::decode(value).ok();
            chunks.insert(id, Counted { record, is_damaged: record.is_none(), ..Counted::default() });
            ControlFlow::Continue(())
        })?;
        Ok((chunks, next))
    }

    fn count(&mut self, inside: &dyn Fn(&ChunkId) -> bool, chunks: &mut FxHashMap<ChunkId, Counted>) -> Result<()> {
        let mut young = None;
        let epoch = self.system.epoch;
        self.view.scan(&KeyRange::prefix(&[keys::SEGMENT]), Direction::Forward, &mut |key, value| {
            let Ok(segment) = decode_segment(value) else { return ControlFlow::Continue(()) };
            for run in &segment.runs {
                let RunData::Chunk { id, offset, birth } = &run.data else { continue };
                if *id == LOST_CHUNK || !inside(id) {
                    continue;
                }
                if *birth > epoch {
                    young = Some((key.escape_ascii().to_string(), *birth));
                }
                let counted = chunks.entry(*id).or_default();
                counted.found += 1;
                counted.is_short |= counted.record.is_some_and(|record| offset + run.len > record.raw_len);
            }
            ControlFlow::Continue(())
        })?;
        let mut damaged = 0u64;
        self.view.scan(&KeyRange::prefix(&[keys::DEAD]), Direction::Forward, &mut |_, value| {
            match DeadList::decode(value) {
                Ok(list) => {
                    for dead in list.references.iter().filter(|dead| inside(&dead.chunk) && dead.chunk != LOST_CHUNK) {
                        chunks.entry(dead.chunk).or_default().found += dead.references;
                    }
                }
                Err(_) => damaged += 1,
            }
            ControlFlow::Continue(())
        })?;
        self.unknown_references |= damaged > 0;
        if let Some((key, birth)) = young {
            self.findings.left("run-epoch", key, format!("a run of it was born in {}, an epoch to come", birth.0));
        }
        Ok(())
    }

    fn chunk(&mut self, id: ChunkId, record: &ChunkRecord, counted: &Counted, short: &mut FxHashSet<ChunkId>) {
        if counted.is_short {
            short.insert(id);
        }
        // A record that can't be read may have the references that seem too many.
        let is_wrong = match self.unknown_references {
            true => record.refcount < counted.found,
            false => record.refcount != counted.found,
        };
        if is_wrong {
            let right = ChunkRecord { refcount: counted.found, ..*record };
            let detail = format!("it counts {} references and has {}", record.refcount, counted.found);
            self.findings.records("refcount", format!("chunk {id}"), detail, |batch| {
                batch.put(chunk_record_key(id), right.encode());
            });
        }
    }

    /// Chunks that are referred to and have no record: their packs may have them.
    fn missing(&mut self, missing: FxHashMap<ChunkId, u64>) -> verfs_store::Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let found = self.check.packs.find_chunks(&missing.keys().copied().collect())?;
        let mut lost = FxHashSet::default();
        for (id, refcount) in missing {
            match found.get(&id) {
                Some(record) => {
                    let right = ChunkRecord { refcount, ..*record };
                    let detail = format!("it has no readable record; pack {} has it", record.pack);
                    self.findings.records("chunk-record", format!("chunk {id}"), detail, |batch| {
                        batch.put(chunk_record_key(id), right.encode());
                    });
                }
                None if refcount > 0 => drop(lost.insert(id)),
                None => {
                    let detail = "its record can't be decoded, and nothing refers to it";
                    self.findings.records("chunk-record", format!("chunk {id}"), detail, |batch| {
                        batch.delete(chunk_record_key(id));
                    });
                }
            }
        }
        Ok(self.name_lost("chunk-missing", &lost, "are in no pack")?)
    }
}
