//! Extended attributes and flags of inodes.

use verfs_vfs::{Pin, XattrMode};

use super::step::Both;
use super::{Session, Stop, demand, meet};
use crate::model::{Id, Node, Who};
use crate::observe::{Extras, extras};
use crate::op::Target;
use crate::xattr::{XATTR_NAMES, XattrName, XattrValue};

/// What is wrong with an inode's extended attributes and flags.
pub(crate) fn extras_difference(node: &Node, found: &Extras) -> Option<String> {
    if node.flags != found.flags {
        return Some(format!("expected {:?}, found {:?}", node.flags, found.flags));
    }
    if *node.xattrs == found.xattrs {
        return None;
    }
    let shown = |name: &[u8], value: Option<&Vec<u8>>| match value {
        None => format!("no {}", crate::op::short(name)),
        Some(value) => {
            let some = &value[..value.len().min(60)];
            format!("{} of {} bytes, {}", crate::op::short(name), value.len(), some.escape_ascii())
        }
    };
    let names = node.xattrs.keys().chain(found.xattrs.keys());
    let mut pairs = names.map(|name| (name, node.xattrs.get(name), found.xattrs.get(name)));
    let (name, expected, seen) = pairs.find(|(_, expected, seen)| expected != seen)?;
    Some(format!("expected {}, found {}", shown(name, expected), shown(name, seen)))
}

impl Session {
    /// Compares everything of an inode that `getattr` doesn't show.
    pub(super) fn check_extras(&mut self, what: &str, id: Id) -> Result<(), Stop> {
        let ino = self.ino(id)?;
        let found = demand(what, self.ask(Who::ROOT, Pin::No, |context| extras(&self.vfs, context, ino)))?;
        let difference = self.model.node(id).ok().and_then(|node| extras_difference(node, &found));
        difference.map_or(Ok(()), |difference| Err(Stop::Diverged(format!("{what}: inode #{}: {difference}", id.0))))
    }

    pub(super) fn set_xattr(
        &mut self,
        what: &str,
        target: &Target,
        (name, value): (XattrName, XattrValue),
        mode: XattrMode,
        who: Who,
    ) -> Result<(), Stop> {
        let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
        let (name, value) = (XATTR_NAMES[name as usize], value.bytes());
        let done = self.ask(who, Pin::No, |context| self.vfs.setxattr(context, ino, name, &value, mode));
        meet(what, self.model.set_xattr(who, id, name, &value, mode), done).map(|_| ())
    }

    pub(super) fn remove_xattr(&mut self, what: &str, target: &Target, name: XattrName) -> Result<(), Stop> {
        let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
        let name = XATTR_NAMES[name as usize];
        let done = self.ask(Who::ROOT, Pin::No, |context| self.vfs.removexattr(context, ino, name));
        meet(what, self.model.remove_xattr(id, name), done).map(|_| ())
    }

    pub(super) fn get_xattr(&mut self, what: &str, target: &Target, name: XattrName) -> Result<(), Stop> {
        let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
        let name = XATTR_NAMES[name as usize];
        let found = self.ask(Who::ROOT, Pin::No, |context| self.vfs.getxattr(context, ino, name));
        match meet(what, self.model.get_xattr(id, name), found)? {
            Some((expected, found)) if expected != found => {
                Err(Stop::Diverged(format!("{what}: {} bytes of something else", found.len())))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn list_xattr(&mut self, what: &str, target: &Target, who: Who) -> Result<(), Stop> {
        let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
        let found = self.ask(who, Pin::No, |context| self.vfs.listxattr(context, ino));
        match meet(what, self.model.list_xattrs(who, id), found)? {
            Some((expected, found)) if expected != found => {
                Err(Stop::Diverged(format!("{what}: expected {} names, found {found:?}", expected.len())))
            }
            Some(_) | None => Ok(()),
        }
    }
}
