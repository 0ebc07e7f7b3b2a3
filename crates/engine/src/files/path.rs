//! From paths to inodes, as path_resolution(7) says. The root is also the current directory.

use verfs_vfs::{Context, FileKind};

use super::ground::Ground;
use super::{Access, FileError, Files, Found, Links};

/// Longest path.
const PATH_MAX_BYTES: usize = 4095;
/// Symbolic links that one path may lead through.
const LINKS_MAX: u32 = 40;

/// A directory on the way, and the name by which it was entered.
struct Step {
    found: Found,
    name: Vec<u8>,
}

/// Where a path leads.
pub(super) struct Place {
    /// The directory in which the last name is.
    pub(super) directory: Found,
    /// The last name. None where the path ends with `.`, `..` or is the root: no name can be made or taken there.
    pub(super) name: Option<Vec<u8>>,
    /// What is there.
    pub(super) found: Option<Found>,
    /// A slash follows: only a directory is meant.
    pub(super) wants_directory: bool,
    /// Names of the directories passed through, from the root on.
    trail: Vec<Vec<u8>>,
    /// How the path ended, where it has no name.
    pub(super) ending: Ending,
}

/// How a path ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// With a name.
    Name,
    /// With `.`.
    Dot,
    /// With `..`.
    DotDot,
    /// It is the root.
    Root,
}

/// A walk.
struct Walk {
    context: Context,
    /// From the root to where it is.
    steps: Vec<Step>,
    /// Names still to go through, the next one last.
    ahead: Vec<Vec<u8>>,
    links: u32,
    wants_directory: bool,
    ending: Ending,
}

fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

impl Walk {
    fn here(&self) -> Result<&Found, FileError> {
        Ok(&self.steps.last().ok_or(FileError::NOT_FOUND)?.found)
    }

    /// Puts the names of a path before those that are ahead.
    fn add(&mut self, path: &[u8]) {
        if self.ahead.is_empty() {
            self.wants_directory |= path.ends_with(b"/") || path.ends_with(b"/.") || path.ends_with(b"/..");
        }
        if path.first() == Some(&b'/') {
            self.steps.truncate(1);
            self.ending = Ending::Root;
        }
        self.ahead.extend(names(path).rev().map(<[u8]>::to_vec));
    }

    fn place(mut self, name: Option<Vec<u8>>, found: Option<Found>) -> Result<Place, FileError> {
        let directory = self.here()?.clone();
        let trail = self.steps.drain(1..).map(|step| step.name).collect();
        let ending = self.ending;
        Ok(Place { directory, name, found, wants_directory: self.wants_directory, trail, ending })
    }
}

impl Files {
    /// Walks along `path` to its last name, which need not be there.
    pub(super) fn walk(&self, path: &[u8], links: Links) -> Result<Place, FileError> {
        if path.is_empty() {
            return Err(FileError::NOT_FOUND);
        }
        if path.len() > PATH_MAX_BYTES {
            return Err(FileError::NAME_TOO_LONG);
        }
        if path.contains(&0) {
            return Err(FileError::INVALID);
        }
        let context = self.context();
        let root = Step { found: self.root_of(Ground::Tree, &context)?, name: Vec::new() };
        let mut walk = Walk {
            context,
            steps: vec![root],
            ahead: Vec::new(),
            links: 0,
            wants_directory: false,
            ending: Ending::Root,
        };
        walk.add(path);
        while let Some(name) = walk.ahead.pop() {
            let here = walk.here()?.clone();
            self.check(&here, Access::EXECUTE)?;
            match name.as_slice() {
                b"." => {
                    walk.ending = Ending::Dot;
                    continue;
                }
                b".." => {
                    walk.steps.truncate((walk.steps.len() - 1).max(1));
                    walk.ending = Ending::DotDot;
                    continue;
                }
                _ => walk.ending = Ending::Name,
            }
            let is_last = walk.ahead.is_empty();
            let found = match self.step(&walk.context, &here, &name) {
                Ok(found) => found,
                Err(FileError::NOT_FOUND) if is_last => return walk.place(Some(name), None),
                Err(error) => return Err(error),
            };
            match found.kind {
                FileKind::Directory => walk.steps.push(Step { found, name }),
                FileKind::Symlink if !is_last || links == Links::Follow || walk.wants_directory => {
                    walk.links += 1;
                    if walk.links > LINKS_MAX {
                        return Err(FileError::LOOP);
                    }
                    let target = self.on(&found.ground, |tree| tree.readlink(&walk.context, found.ino))?;
                    walk.add(&target);
                }
                FileKind::Regular
                | FileKind::Symlink
                | FileKind::Fifo
                | FileKind::Socket
                | FileKind::CharDevice
                | FileKind::BlockDevice => {
                    if !is_last || walk.wants_directory {
                        return Err(FileError::NOT_DIRECTORY);
                    }
                    return walk.place(Some(name), Some(found));
                }
            }
        }
        // It ends in a directory: the last one entered.
        let found = walk.here()?.clone();
        match walk.ending {
            Ending::Name => {
                let last = walk.steps.pop().ok_or(FileError::NOT_FOUND)?;
                walk.place(Some(last.name), Some(found))
            }
            Ending::Dot | Ending::DotDot | Ending::Root => walk.place(None, Some(found)),
        }
    }

    /// What `path` leads to, which must be something.
    pub(super) fn existing(&self, path: &[u8], links: Links) -> Result<Found, FileError> {
        self.walk(path, links)?.found.ok_or(FileError::NOT_FOUND)
    }

    /// The path without symbolic links, `.` and `..`, with a slash in front.
    ///
    /// # Errors
    /// As `realpath(3)`.
    pub fn realpath(&self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        let place = self.walk(path, Links::Follow)?;
        if place.found.is_none() {
            return Err(FileError::NOT_FOUND);
        }
        let mut real = Vec::new();
        for name in place.trail.iter().chain(&place.name) {
            real.push(b'/');
            real.extend_from_slice(name);
        }
        if real.is_empty() {
            real.push(b'/');
        }
        Ok(real)
    }
}

impl Files {
    /// The last name, for one who makes it.
    pub(super) fn new_name<'a>(&self, place: &'a Place) -> Result<&'a [u8], FileError> {
        match (&place.name, &place.found) {
            (_, Some(_)) | (None, None) => Err(FileError::EXISTS),
            (Some(name), None) => {
                self.check_unreserved(&place.directory, name)?;
                Ok(name)
            }
        }
    }
}

impl Place {
    /// Whether another tree begins there: such a name stays, as a mountpoint does.
    pub(super) fn is_root_of_tree(&self) -> bool {
        self.name.is_some() && self.found.as_ref().is_some_and(|found| !found.ground.is(&self.directory.ground))
    }
}
