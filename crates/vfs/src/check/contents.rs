//! Contents: each segment belongs to a file, lies within it, and the file counts what it has.

use std::ops::ControlFlow;

use rustc_hash::FxHashMap;
use verfs_base::Ino;
use verfs_format::{ContentId, InodeKind, keys};
use verfs_meta::{Direction, KeyRange, WriteBatch};

use super::names::merge;
use super::{Checker, Node, Result, put_inode, segment_end};
use crate::load::decode_segment;

/// What the segments of a content say.
#[derive(Clone, Copy, Default)]
struct Extent {
    end: u64,
    allocated: u64,
    is_damaged: bool,
}

impl Checker<'_> {
    /// Pass by pass through the contents of regular files.
    pub(super) fn contents(&mut self) -> Result<()> {
        let mut from = Some(ContentId(0));
        while let Some(first) = from {
            let (nodes, next) = self.files_from(first)?;
            self.segments(first, next, &nodes)?;
            from = next;
        }
        Ok(())
    }

    /// The files with the smallest contents from `from` on, and where the next pass begins.
    fn files_from(&mut self, from: ContentId) -> Result<(Vec<Node>, Option<ContentId>)> {
        let max = self.check.pass_max;
        let mut nodes: Vec<Node> = Vec::new();
        let mut limit = None;
        self.each_inode(Ino(0), &mut |ino, record| {
            if let Ok(record) = record
                && record.kind == InodeKind::Regular
                && record.content >= from
                && limit.is_none_or(|limit| record.content < limit)
            {
                nodes.push(Node::new(ino, &record));
                if nodes.len() >= 2 * max {
                    nodes.sort_unstable_by_key(|node| node.content);
                    limit = nodes.get(max).map(|node| node.content);
                    nodes.truncate(max);
                }
            }
            ControlFlow::Continue(())
        })?;
        nodes.sort_unstable_by_key(|node| node.content);
        if nodes.len() > max {
            limit = nodes.get(max).map(|node| node.content);
            nodes.truncate(max);
        }
        Ok((nodes, limit))
    }

    fn segments(&mut self, from: ContentId, end: Option<ContentId>, nodes: &[Node]) -> Result<()> {
        let mut extents: FxHashMap<ContentId, Extent> = FxHashMap::default();
        let mut damaged = Vec::new();
        let range = KeyRange {
            start: keys::segment(from, 0).into(),
            end: end.map_or_else(|| KeyRange::prefix(&[keys::SEGMENT]).end, |end| Some(keys::segments(end).into())),
        };
        self.view.scan(&range, Direction::Forward, &mut |key, value| {
            let Some((content, index)) = keys::parse_segment_of(key) else { return ControlFlow::Continue(()) };
            let extent = extents.entry(content).or_default();
            match decode_segment(value) {
                Ok(segment) => {
                    extent.end = extent.end.max(segment_end(index, &segment));
                    extent.allocated += segment.allocated();
                }
                Err(error) => {
                    extent.is_damaged = true;
                    damaged.push((content, index, error));
                }
            }
            ControlFlow::Continue(())
        })?;
        for (content, index, error) in damaged {
            self.unknown_references = true;
            let owner = nodes.binary_search_by_key(&content, |node| node.content).ok();
            let place = match owner {
                Some(at) => self.path(nodes[at].ino)?,
                None => format!("content {}", content.0),
            };
            let detail = format!("MiB {index} of it can't be decoded ({error}); reading it gives an error");
            self.findings.left("segment-damaged", place, detail);
        }
        for node in nodes {
            let extent = extents.remove(&node.content).unwrap_or_default();
            self.file(node, extent)?;
        }
        let mut unowned: Vec<_> =
            extents.into_iter().filter(|(content, _)| !self.orphans.contains_key(content)).collect();
        unowned.sort_unstable_by_key(|(content, _)| *content);
        for (content, extent) in unowned {
            self.unowned(content, extent)?;
        }
        Ok(())
    }

    fn file(&mut self, node: &Node, extent: Extent) -> Result<()> {
        if extent.end > node.size {
            let detail = format!("it has {} bytes, and data up to {}", node.size, extent.end);
            self.mend_inode("file-size", node.ino, detail, |record| record.size = extent.end)?;
        }
        // Of what lost a segment nobody knows how much it had.
        if extent.allocated != node.allocated && node.nlink > 0 && !extent.is_damaged {
            let detail = format!("it says {} allocated bytes and has {}", node.allocated, extent.allocated);
            self.mend_inode("file-allocated", node.ino, detail, |record| record.allocated = extent.allocated)?;
        }
        Ok(())
    }

    /// Data of no file gets one. That of an inode which is made anew has it: two would share their content.
    fn unowned(&mut self, content: ContentId, extent: Extent) -> Result<()> {
        if self.made.contains(&Ino(content.0)) {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        let ino = match self.view.get(&keys::inode(Ino(content.0)))? {
            None => Ino(content.0),
            Some(_) => Ino(self.fresh_number(&mut batch)),
        };
        let mut record = self.rebuilt(ino, InodeKind::Regular, Ino::ROOT)?;
        (record.content, record.size, record.allocated) = (content, extent.end, extent.allocated);
        self.adopt(&mut batch, ino, &mut record)?;
        put_inode(&mut batch, ino, self.system.epoch, &record);
        let detail = format!("{} bytes belong to no file: they become lost+found/#{ino}", extent.allocated);
        self.mend("content-unowned", format!("content {}", content.0), detail, |all| merge(all, batch));
        Ok(())
    }
}
