//! What works for a volume in the background, by name, and how it is: for those who ask why something takes so long.

#[cfg(test)]
mod tests;

use std::time::Duration;

use verfs_base::DescriptorRoom;
use verfs_fuse::{SessionStats, VolumeMount};
use verfs_vfs::Commits;

use crate::RekeyState;
use crate::gc::GcStatus;
use crate::tasks::{Defect, Kind};

/// What something in the background does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// It waits for something to do.
    Idle,
    /// It works.
    Working,
    /// It can't go on for now, and will by itself.
    Stalled,
    /// It has given up; the detail says what to do.
    Failed,
}

impl TaskState {
    /// Its name, for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Idle => "idle",
            TaskState::Working => "working",
            TaskState::Stalled => "stalled",
            TaskState::Failed => "failed",
        }
    }
}

/// Something that works in the background.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskStatus {
    /// Which.
    pub name: &'static str,
    /// What it does.
    pub state: TaskState,
    /// For how long it has been at what it is at; zero where that says nothing.
    pub busy: Duration,
    /// How often it was begun anew after a defect.
    pub restarts: u64,
    /// In words; may be empty.
    pub detail: String,
}

/// A session of a volume's mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionName {
    /// The tree.
    Tree,
    /// `/.snapshots`.
    Snapshots,
    /// `/.vault`.
    Vault,
    /// `/.vault/.snapshots`.
    VaultSnapshots,
}

impl SessionName {
    /// Its name, for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SessionName::Tree => "tree",
            SessionName::Snapshots => "snapshots",
            SessionName::Vault => "vault",
            SessionName::VaultSnapshots => "vault snapshots",
        }
    }
}

/// Requests of one kind that were answered EIO because the store did not answer in time, and that wait for it still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overdue {
    /// Where they came.
    pub session: SessionName,
    /// The operation, such as `fsync`.
    pub op: &'static str,
    /// How many.
    pub count: u64,
    /// How long the oldest waits.
    pub longest: Duration,
}

pub(crate) fn commits(commits: Commits) -> TaskStatus {
    let (state, busy, detail) = match commits {
        Commits::Idle => (TaskState::Idle, Duration::ZERO, ""),
        Commits::Working(busy) => (TaskState::Working, busy, ""),
        Commits::Full(busy) => {
            (TaskState::Stalled, busy, "the disk is full: it goes on by itself when there is room again")
        }
        Commits::OutOfFiles(busy) => {
            (TaskState::Stalled, busy, "no more files can be opened: it goes on by itself when some are closed")
        }
        Commits::Failed => (
            TaskState::Failed,
            Duration::ZERO,
            "the store failed, and the volume takes no more changes: see the log, then unmount and mount again",
        ),
        Commits::Defect => (
            TaskState::Failed,
            Duration::ZERO,
            "it ended by a defect, and the volume takes no more changes: see the log, then unmount and mount again",
        ),
    };
    TaskStatus { name: "commit", state, busy, restarts: 0, detail: detail.to_owned() }
}

pub(crate) fn defect(Defect { name, kind, times }: Defect) -> TaskStatus {
    let (state, restarts, detail) = match kind {
        Kind::Steady => (TaskState::Working, times, String::new()),
        Kind::Errand => (TaskState::Failed, 0, format!("ended {times} times by a defect: see the log")),
    };
    TaskStatus { name, state, busy: Duration::ZERO, restarts, detail }
}

pub(crate) fn files(room: DescriptorRoom) -> TaskStatus {
    let DescriptorRoom { free, limit, on_reserve } = room;
    let advice = "close some, or raise the limit with `prlimit`";
    let (state, detail) = match (room.is_enough(), on_reserve) {
        (true, false) => (TaskState::Idle, String::new()),
        (true, true) => {
            (TaskState::Working, format!("{free} of {limit} files are left, the reserve included: {advice}"))
        }
        (false, _) => (TaskState::Stalled, format!("{free} of {limit} files are left: {advice}")),
    };
    TaskStatus { name: "open files", state, busy: Duration::ZERO, restarts: 0, detail }
}

pub(crate) fn collection(status: &GcStatus) -> TaskStatus {
    let state = match (status.active, status.failure.is_empty()) {
        (true, _) => TaskState::Working,
        (false, true) => TaskState::Idle,
        // It is tried again.
        (false, false) => TaskState::Stalled,
    };
    TaskStatus {
        name: "garbage collection",
        state,
        busy: Duration::ZERO,
        restarts: status.restarts,
        detail: status.failure.clone(),
    }
}

/// The mount, with all its sessions.
pub(crate) fn serving(waiting: &Waiting) -> TaskStatus {
    let longest = waiting.overdue.iter().map(|overdue| overdue.longest).max();
    let (state, detail) = match longest {
        None => (TaskState::Idle, String::new()),
        Some(_) => (TaskState::Stalled, "the store does not answer: requests past their deadline get EIO".to_owned()),
    };
    TaskStatus { name: "mount", state, busy: longest.unwrap_or_default(), restarts: 0, detail }
}

pub(crate) fn rekey(state: &RekeyState) -> Option<TaskStatus> {
    let (state, detail) = match state {
        RekeyState::Idle => return None,
        RekeyState::Running(_) => (TaskState::Working, String::new()),
        RekeyState::Failed(detail) => (TaskState::Failed, format!("{detail}: it goes on after the next unlocking")),
    };
    Some(TaskStatus { name: "vault rekey", state, busy: Duration::ZERO, restarts: 0, detail })
}

/// What waits past its deadline in the sessions of a mount, and how many requests were answered EIO for that.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) overdue: Vec<Overdue>,
    pub(crate) refused: u64,
}

impl Waiting {
    /// Adds what `mount` has: in its tree, whose name is `tree`, and in its snapshots.
    pub(crate) fn add(&mut self, mount: &VolumeMount, (tree, snapshots): (SessionName, SessionName)) {
        self.add_session(&mount.session().stats(), tree);
        if let Some(session) = mount.snapshots() {
            self.add_session(&session.stats(), snapshots);
        }
    }

    fn add_session(&mut self, stats: &SessionStats, session: SessionName) {
        let of = |overdue: &verfs_fuse::OverdueStats| Overdue {
            session,
            op: overdue.operation.name(),
            count: overdue.count,
            longest: overdue.longest,
        };
        self.overdue.extend(stats.overdue.iter().map(of));
        self.refused += stats.refused;
    }
}
