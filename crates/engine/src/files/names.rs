//! Making, moving and removing names.

use verfs_vfs::{Attr, FileKind, RenameMode, SetAttr};

use super::path::{Ending, Place};
use super::{Access, FileError, Files, Links};

impl Files {
    /// A place for a new name in a directory where the caller may make one.
    fn new_place(&self, path: &[u8]) -> Result<Place, FileError> {
        let place = self.walk(path, Links::Stay)?;
        place.new_name()?;
        self.caller.check(&place.directory, Access::WRITE.and(Access::EXECUTE))?;
        Ok(place)
    }

    /// The name of something, in a directory from which the caller may take it.
    fn taken<'a>(&self, place: &'a Place) -> Result<(&'a [u8], Attr), FileError> {
        match (&place.name, place.attr, place.ending) {
            (Some(name), Some(attr), _) => {
                self.caller.check_removal(&place.directory, &attr)?;
                Ok((name, attr))
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
        let (parent, name) = (place.directory.ino, place.new_name()?);
        self.changing()?.mkdir(&self.context(), parent, name, mode & 0o1777)?;
        self.tell_names(&[(parent, name)], &[]);
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
        let (parent, name) = (place.directory.ino, place.new_name()?);
        self.changing()?.symlink(&self.context(), parent, name, target)?;
        self.tell_names(&[(parent, name)], &[]);
        Ok(())
    }

    /// Gives what `existing` leads to one more name.
    ///
    /// # Errors
    /// As `link(2)`.
    pub fn link(&self, existing: &[u8], path: &[u8]) -> Result<(), FileError> {
        let attr = self.existing(existing, Links::Stay)?;
        let place = self.new_place(path)?;
        if place.wants_directory {
            return Err(FileError::NOT_FOUND);
        }
        let (parent, name) = (place.directory.ino, place.new_name()?);
        self.changing()?.link(&self.context(), attr.ino, parent, name)?;
        self.tell_names(&[(parent, name)], &[attr.ino]);
        Ok(())
    }

    /// Removes the name of anything but a directory.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub fn unlink(&self, path: &[u8]) -> Result<(), FileError> {
        let place = self.walk(path, Links::Stay)?;
        if place.name.is_none() {
            return Err(FileError::IS_DIRECTORY);
        }
        let (name, attr) = self.taken(&place)?;
        self.changing()?.unlink(&self.context(), place.directory.ino, name)?;
        self.tell_names(&[(place.directory.ino, name)], &[attr.ino]);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As `rmdir(2)`.
    pub fn rmdir(&self, path: &[u8]) -> Result<(), FileError> {
        let place = self.walk(path, Links::Stay)?;
        let (name, attr) = self.taken(&place)?;
        self.changing()?.rmdir(&self.context(), place.directory.ino, name)?;
        self.tell_names(&[(place.directory.ino, name)], &[attr.ino]);
        Ok(())
    }

    /// Moves a name; what had the new one is replaced.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), FileError> {
        let (from, to) = (self.walk(from, Links::Stay)?, self.walk(to, Links::Stay)?);
        let (Some(name), Some(new_name)) = (&from.name, &to.name) else { return Err(FileError::BUSY) };
        let source = from.attr.ok_or(FileError::NOT_FOUND)?;
        let wants_directory = from.wants_directory || to.wants_directory;
        if wants_directory && source.kind != FileKind::Directory {
            return Err(FileError::NOT_DIRECTORY);
        }
        self.caller.check_removal(&from.directory, &source)?;
        match to.attr {
            Some(replaced) => self.caller.check_removal(&to.directory, &replaced)?,
            None => self.caller.check(&to.directory, Access::WRITE.and(Access::EXECUTE))?,
        }
        to.check_unreserved(new_name)?;
        let (parent, new_parent) = (from.directory.ino, to.directory.ino);
        // Its `..` changes: that takes the right to write into it.
        if source.kind == FileKind::Directory && parent != new_parent {
            self.caller.check(&source, Access::WRITE)?;
        }
        self.changing()?.rename(&self.context(), parent, name, new_parent, new_name, RenameMode::Replace)?;
        let counted: Vec<_> = [source].into_iter().chain(to.attr).map(|attr| attr.ino).collect();
        self.tell_names(&[(parent, name), (new_parent, new_name)], &counted);
        Ok(())
    }

    /// Sets the length of a file.
    ///
    /// # Errors
    /// As `truncate(2)`.
    pub fn truncate(&self, path: &[u8], len: u64) -> Result<(), FileError> {
        let attr = self.existing(path, Links::Follow)?;
        if attr.kind == FileKind::Directory {
            return Err(FileError::IS_DIRECTORY);
        }
        self.caller.check(&attr, Access::WRITE)?;
        let change = SetAttr { size: Some(len), ..SetAttr::default() };
        self.changing()?.setattr(&self.context(), attr.ino, &change)?;
        self.tell_content(attr.ino);
        Ok(())
    }
}
