//! `setattr`: chmod, chown, utimens, truncate.

use std::sync::Arc;

use verfs_base::Timestamp;
use verfs_vfs::{FileKind, SetAttr, SetTime};

use super::{Answer, Body, GROUP_EXECUTE, Id, Model, Node, SET_GID, SET_UID, Time, Who, errors_of, refuse};

/// A change of attributes as one system call makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// `chmod(2)`.
    Mode(u16),
    /// `chown(2)`: user and group, either may stay.
    Owner {
        /// New user.
        uid: Option<u32>,
        /// New group.
        gid: Option<u32>,
    },
    /// `truncate(2)`.
    Size(u64),
    /// `utimensat(2)`: access and modification time; `None` stays.
    Times {
        /// New access time.
        access: Option<SetTime>,
        /// New modification time.
        modification: Option<SetTime>,
    },
    /// Nothing at all.
    Nothing,
}

impl Change {
    /// As the volume is asked.
    #[must_use]
    pub fn request(self) -> SetAttr {
        let nothing = SetAttr::default();
        match self {
            Change::Mode(mode) => SetAttr { mode: Some(mode), ..nothing },
            Change::Owner { uid, gid } => SetAttr { uid, gid, ..nothing },
            Change::Size(size) => SetAttr { size: Some(size), ..nothing },
            Change::Times { access, modification } => SetAttr { atime: access, mtime: modification, ..nothing },
            Change::Nothing => nothing,
        }
    }
}

impl Node {
    fn set_owner(&mut self, uid: Option<u32>, gid: Option<u32>, who: Who) {
        self.uid = uid.unwrap_or(self.uid);
        self.gid = gid.unwrap_or(self.gid);
        if self.kind == FileKind::Directory || (uid.is_none() && gid.is_none()) {
            return;
        }
        self.mode &= !SET_UID;
        if self.mode & GROUP_EXECUTE != 0 {
            self.mode &= !SET_GID;
        } else if self.mode & SET_GID != 0 && who.uid != 0 {
            self.set_gid_in_doubt = true;
        }
    }

    fn set_size(&mut self, size: u64, who: Who, now: Timestamp) {
        let Body::File(content) = &mut self.body else { return };
        if content.size() == size {
            // truncate(2) and ftruncate(2) differ here; what is asked doesn't tell which it is.
            let before = self.times.clone();
            self.touch_content(now);
            self.times.modification.or_all(&before.modification);
            self.times.change.or_all(&before.change);
            if who.uid != 0 && self.mode & (SET_UID | SET_GID) != 0 {
                self.drop_set_ids(who);
            }
            return;
        }
        Arc::make_mut(content).set_size(size);
        self.touch_content(now);
        self.drop_set_ids(who);
    }
}

impl Time {
    fn or_all(&mut self, other: &Time) {
        self.or(other.likely);
        other.also.iter().for_each(|at| self.or(*at));
    }
}

impl Model {
    /// `setattr`.
    ///
    /// # Errors
    /// As the operation.
    pub fn set_attributes(&mut self, who: Who, id: Id, change: Change) -> Answer<()> {
        let now = self.now;
        let mut errors = match change {
            Change::Size(size) => errors_of(self.refuse_growth(id, Some(size))),
            Change::Mode(_) | Change::Owner { .. } | Change::Times { .. } | Change::Nothing => Vec::new(),
        };
        errors.extend(errors_of(self.node(id)?.refuse_attributes(change)));
        refuse(errors)?;
        let node = self.node_mut(id)?;
        let pick = |time: Option<SetTime>, old: &Time| match time {
            None => old.clone(),
            Some(SetTime::Now) => Time::exactly(now),
            Some(SetTime::At(at)) => Time::exactly(at),
        };
        match change {
            // chown(2) of nothing moves the time, an empty request need not.
            Change::Nothing
            | Change::Owner { uid: None, gid: None }
            | Change::Times { access: None, modification: None } => {
                node.times.change.or(now);
                return Ok(());
            }
            Change::Mode(mode) => {
                node.mode = mode;
                node.set_gid_in_doubt = false;
                node.list_follows_mode();
            }
            Change::Owner { uid, gid } => node.set_owner(uid, gid, who),
            Change::Size(size) => {
                node.set_size(size, who, now);
                return Ok(());
            }
            Change::Times { access, modification } => {
                node.times.access = pick(access, &node.times.access);
                node.times.modification = pick(modification, &node.times.modification);
            }
        }
        node.times.change = Time::exactly(now);
        Ok(())
    }
}
