//! Making, moving and removing names.

use verfs_vfs::{FileKind, RenameMode, SetAttr};

use super::path::{Ending, Place};
use super::{Access, FileError, Files, Found, Links};

impl Files {
    /// A place for a new name in a directory where the caller may make one.
    fn new_place(&self, path: &[u8]) -> Result<Place, FileError> {
        let place = self.walk(path, Links::Stay)?;
        self.new_name(&place)?;
        self.check(&place.directory, Access::WRITE.and(Access::EXECUTE))?;
        Ok(place)
    }

    /// The name of something, in a directory from which the caller may take it.
    fn taken<'a>(&self, place: &'a Place) -> Result<(&'a [u8], &'a Found), FileError> {
        match (&place.name, &place.found, place.ending) {
            (Some(name), Some(found), _) => {
                self.check_removal(&place.directory, found)?;
                if place.is_root_of_tree() { Err(FileError::BUSY) } else { Ok((name, found)) }
            }
            (Some(_), None, _) => Err(FileError::NOT_FOUND),
            (None, _, Ending::Dot) => Err(FileError::INVALID),
            (None, _, Ending::DotDot) => Err(FileError::NOT_EMPTY),
            (None, _, Ending::Root | Ending::Name) => Err(FileError::BUSY),
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As `mkdir(2)`.
    pub fn mkdir(&self, path: &[u8], mode: u16) -> Result<(), FileError> {
        let place = self.new_place(path)?;
        let (ground, parent, name) = (&place.directory.ground, place.directory.ino, self.new_name(&place)?);
        self.change(ground, |tree| tree.mkdir(&self.context(), parent, name, mode & 0o1777))?;
        self.tell_names(ground, &[(parent, name)], &[]);
        Ok(())
    }

    /// Makes a symbolic link that leads to `target`.
    ///
    /// # Errors
    /// As `symlink(2)`.
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result<(), FileError> {
        let place = self.new_place(path)?;
        if place.wants_directory {
            return Err(FileError::NOT_FOUND);
        }
        let (ground, parent, name) = (&place.directory.ground, place.directory.ino, self.new_name(&place)?);
        self.change(ground, |tree| tree.symlink(&self.context(), parent, name, target))?;
        self.tell_names(ground, &[(parent, name)], &[]);
        Ok(())
    }

    /// Gives what `existing` leads to one more name.
    ///
    /// # Errors
    /// As `link(2)`.
    pub fn link(&self, existing: &[u8], path: &[u8]) -> Result<(), FileError> {
        let found = self.existing(existing, Links::Stay)?;
        let place = self.new_place(path)?;
        if place.wants_directory {
            return Err(FileError::NOT_FOUND);
        }
        let (ground, parent, name) = (&place.directory.ground, place.directory.ino, self.new_name(&place)?);
        if !found.ground.is(ground) {
            return Err(FileError::CROSS_DEVICE);
        }
        self.change(ground, |tree| tree.link(&self.context(), found.ino, parent, name))?;
        self.tell_names(ground, &[(parent, name)], &[found.ino]);
        Ok(())
    }

    /// Removes the name of anything but a directory.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub fn unlink(&self, path: &[u8]) -> Result<(), FileError> {
        let place = self.walk(path, Links::Stay)?;
        if place.name.is_none() || place.is_root_of_tree() {
            return Err(FileError::IS_DIRECTORY);
        }
        let (name, found) = self.taken(&place)?;
        let (ground, parent) = (&place.directory.ground, place.directory.ino);
        self.change(ground, |tree| tree.unlink(&self.context(), parent, name))?;
        self.tell_names(ground, &[(parent, name)], &[found.ino]);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As `rmdir(2)`.
    pub fn rmdir(&self, path: &[u8]) -> Result<(), FileError> {
        let place = self.walk(path, Links::Stay)?;
        let (name, found) = self.taken(&place)?;
        let (ground, parent) = (&place.directory.ground, place.directory.ino);
        self.change(ground, |tree| tree.rmdir(&self.context(), parent, name))?;
        self.tell_names(ground, &[(parent, name)], &[found.ino]);
        Ok(())
    }

    /// Moves a name; what had the new one is replaced.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), FileError> {
        let (from, to) = (self.walk(from, Links::Stay)?, self.walk(to, Links::Stay)?);
        let (Some(name), Some(new_name)) = (&from.name, &to.name) else { return Err(FileError::BUSY) };
        let source = from.found.as_ref().ok_or(FileError::NOT_FOUND)?;
        let ground = &from.directory.ground;
        if !ground.is(&to.directory.ground) {
            return Err(FileError::CROSS_DEVICE);
        }
        let wants_directory = from.wants_directory || to.wants_directory;
        if wants_directory && source.kind != FileKind::Directory {
            return Err(FileError::NOT_DIRECTORY);
        }
        self.check_removal(&from.directory, source)?;
        match &to.found {
            Some(replaced) => self.check_removal(&to.directory, replaced)?,
            None => self.check(&to.directory, Access::WRITE.and(Access::EXECUTE))?,
        }
        if from.is_root_of_tree() || to.is_root_of_tree() {
            return Err(FileError::BUSY);
        }
        self.check_unreserved(&to.directory, new_name)?;
        let (parent, new_parent) = (from.directory.ino, to.directory.ino);
        // Its `..` changes: that takes the right to write into it.
        if source.kind == FileKind::Directory && parent != new_parent {
            self.check(source, Access::WRITE)?;
        }
        let (old, new) = ((parent, name.as_slice()), (new_parent, new_name.as_slice()));
        self.change(ground, |tree| tree.rename(&self.context(), old, new, RenameMode::Replace))?;
        let counted: Vec<_> = [source].into_iter().chain(&to.found).map(|found| found.ino).collect();
        self.tell_names(ground, &[old, new], &counted);
        Ok(())
    }

    /// Sets the length of a file.
    ///
    /// # Errors
    /// As `truncate(2)`.
    pub fn truncate(&self, path: &[u8], len: u64) -> Result<(), FileError> {
        let found = self.existing(path, Links::Follow)?;
        if found.kind == FileKind::Directory {
            return Err(FileError::IS_DIRECTORY);
        }
        self.check(&found, Access::WRITE)?;
        let change = SetAttr { size: Some(len), ..SetAttr::default() };
        self.change(&found.ground, |tree| tree.setattr(&self.context(), found.ino, &change))?;
        self.tell_content(&found.ground, found.ino);
        Ok(())
    }
}
