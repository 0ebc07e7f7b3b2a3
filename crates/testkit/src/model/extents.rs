//! Where files have data: fallocate(2), lseek(2) for data and holes, copy_file_range(2).

use std::sync::Arc;

use verfs_vfs::{Allocation, VfsError};

use super::{Answer, Body, Id, Model, Node, SIZE_MAX_BYTES, Who, errors_of, refuse};
use crate::content::Content;

/// Most bytes that the volume copies at once.
const COPY_MAX_BYTES: u64 = 32 << 20;

impl Node {
    fn change_content(&mut self, change: impl FnOnce(&mut Content)) {
        if let Body::File(content) = &mut self.body {
            change(Arc::make_mut(content));
        }
    }
}

impl Model {
    /// `fallocate`.
    ///
    /// # Errors
    /// As the operation.
    pub fn allocate(&mut self, who: Who, id: Id, offset: u64, len: u64, how: Allocation) -> Answer<()> {
        let mut errors = errors_of(self.refuse_growth(id, offset.checked_add(len)));
        if len == 0 {
            errors.push(VfsError::InvalidArgument);
        }
        let only_reserves = matches!(how, Allocation::Reserve | Allocation::ReserveKeepSize);
        if let Ok(node) = self.node(id) {
            errors.extend(errors_of(if only_reserves { node.refuse_any() } else { node.refuse_change() }));
        }
        refuse(errors)?;
        let now = self.now;
        let node = self.node_mut(id)?;
        let end = offset + len;
        if matches!(how, Allocation::Reserve | Allocation::Zero) && end > node.size() {
            node.change_content(|content| content.set_size(end));
        }
        if !only_reserves {
            node.change_content(|content| content.punch(offset, end));
        }
        node.touch_content(now);
        node.drop_set_ids(who);
        Ok(())
    }

    /// `lseek` for data or a hole: the content to look at.
    ///
    /// # Errors
    /// As the operation; that there is no data any more is for the content to say.
    pub fn seek(&self, id: Id, offset: u64) -> Answer<Arc<Content>> {
        let content = self.refuse_content(id)?;
        if offset >= content.size() {
            return Err(VfsError::NoSuchOffset.into());
        }
        Ok(Arc::clone(content))
    }

    /// `copy_file_range`: how many bytes were copied.
    ///
    /// # Errors
    /// As the operation.
    pub fn copy_range(&mut self, who: Who, from: (Id, u64), to: (Id, u64), len: u64) -> Answer<u64> {
        let mut errors = errors_of(self.refuse_content(from.0));
        errors.extend(errors_of(self.refuse_content(to.0)));
        refuse(errors)?;
        let source = Arc::clone(self.refuse_content(from.0)?);
        let len = len.min(COPY_MAX_BYTES).min(source.size().saturating_sub(from.1));
        let Some(end) = to.1.checked_add(len).filter(|end| *end <= SIZE_MAX_BYTES) else {
            return Err(VfsError::FileTooLarge.into());
        };
        if len == 0 {
            return Ok(0);
        }
        let mut errors = errors_of(self.node(to.0)?.refuse_write(to.1));
        if from.0 == to.0 && from.1 < end && to.1 < from.1 + len {
            errors.push(VfsError::InvalidArgument);
        }
        refuse(errors)?;
        let now = self.now;
        self.accessed(from.0);
        let node = self.node_mut(to.0)?;
        node.change_content(|content| content.copy(&source, from.1, to.1, len));
        node.touch_content(now);
        node.drop_set_ids(who);
        Ok(len)
    }
}
