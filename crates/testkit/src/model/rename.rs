//! `renameat2(2)`, in the order of checks of Linux's `do_renameat2` and `vfs_rename`.

use verfs_vfs::{FileKind, RenameMode, VfsError};

use super::{Answer, Body, Id, Model, ROOT, Refusal, Time, errors_of};

/// A name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// The directory.
    pub dir: Id,
    /// The name.
    pub name: &'a [u8],
}

impl Model {
    /// `rename`.
    ///
    /// # Errors
    /// As the operation.
    pub fn rename(&mut self, from: Place<'_>, to: Place<'_>, mode: RenameMode) -> Answer<()> {
        let places = [self.refuse_place(from.dir, from.name).err(), self.refuse_place(to.dir, to.name).err()];
        let errors: Vec<VfsError> = places.into_iter().flatten().flat_map(|Refusal(errors)| errors).collect();
        if !errors.is_empty() {
            return Err(Refusal(errors));
        }
        let source = self.lookup(from.dir, from.name)?;
        let target = self.lookup(to.dir, to.name).ok();
        if let Some(errors) = self.refuse_rename(source, target, from, to, mode)? {
            return Err(Refusal(errors));
        }
        if target == Some(source) {
            return Ok(());
        }
        match (mode, target) {
            (RenameMode::Exchange, Some(target)) => self.exchange(source, target, from, to),
            (RenameMode::Replace | RenameMode::NoReplace | RenameMode::Exchange, _) => {
                if let Some(target) = target {
                    self.detach(to.dir, to.name)?;
                    self.lose_name(target)?;
                }
                self.detach(from.dir, from.name)?;
                self.attach(to.dir, to.name, source)?;
                self.changed(source)
            }
        }
    }

    /// Errors that fit, or none.
    fn refuse_rename(
        &self,
        source: Id,
        target: Option<Id>,
        from: Place<'_>,
        to: Place<'_>,
        mode: RenameMode,
    ) -> Answer<Option<Vec<VfsError>>> {
        let source_is_dir = self.node(source)?.kind == FileKind::Directory;
        let mut errors = Vec::new();
        // Two names of one inode: nothing changes, whatever its flags say.
        if target != Some(source) {
            errors.extend(errors_of(self.refuse_removal(from.dir, source)));
            errors.extend(match target {
                Some(target) => errors_of(self.refuse_removal(to.dir, target)),
                None => errors_of(self.node(to.dir)?.refuse_any()),
            });
        }
        if source_is_dir && self.is_within(to.dir, source) {
            errors.push(VfsError::InvalidArgument);
        }
        if target.is_none() && self.node(to.dir)?.nlink == 0 {
            errors.push(VfsError::NotFound);
        }
        let replaces = match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => {
                errors.push(VfsError::Exists);
                None
            }
            (RenameMode::Exchange, None) => {
                errors.push(VfsError::NotFound);
                None
            }
            (RenameMode::Exchange, Some(target)) => {
                if self.node(target)?.kind == FileKind::Directory && self.is_within(from.dir, target) {
                    errors.push(VfsError::InvalidArgument);
                }
                None
            }
            (RenameMode::Replace, target) => target.filter(|target| *target != source),
            (RenameMode::NoReplace, None) => None,
        };
        if let Some(target) = replaces {
            let target = self.node(target)?;
            match (source_is_dir, target.entries()) {
                (true, None) => errors.push(VfsError::NotDirectory),
                (false, Some(entries)) => {
                    errors.push(VfsError::IsDirectory);
                    if !entries.is_empty() {
                        errors.push(VfsError::NotEmpty);
                    }
                }
                (true, Some(entries)) if !entries.is_empty() => errors.push(VfsError::NotEmpty),
                (true, Some(_)) | (false, None) => {}
            }
        }
        Ok(if errors.is_empty() { None } else { Some(errors) })
    }

    fn exchange(&mut self, source: Id, target: Id, from: Place<'_>, to: Place<'_>) -> Answer<()> {
        self.detach(from.dir, from.name)?;
        self.detach(to.dir, to.name)?;
        self.attach(from.dir, from.name, target)?;
        self.attach(to.dir, to.name, source)?;
        self.changed(source)?;
        self.changed(target)
    }

    fn changed(&mut self, id: Id) -> Answer<()> {
        let now = self.now;
        self.node_mut(id)?.times.change = Time::exactly(now);
        Ok(())
    }

    /// Whether `dir` is `top` or somewhere below it.
    fn is_within(&self, dir: Id, top: Id) -> bool {
        let mut at = dir;
        loop {
            if at == top {
                return true;
            }
            match self.node(at).map(|node| &node.body) {
                Ok(Body::Directory { parent, .. }) if at != ROOT && *parent != at => at = *parent,
                Ok(_) | Err(_) => return false,
            }
        }
    }
}
