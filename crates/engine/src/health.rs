//! What works for a volume in the background, by name, and how it is: for those who ask why something takes so long.

use std::time::Duration;

use verfs_fuse::SessionStats;
use verfs_vfs::Commits;

use crate::RekeyState;
use crate::gc::GcStatus;

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

/// Requests of one kind that were answered EIO because the store did not answer in time, and that wait for it still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overdue {
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
        Commits::Failed => (
            TaskState::Failed,
            Duration::ZERO,
            "the store failed, and the volume takes no more changes: see the log, then unmount and mount again",
        ),
    };
    TaskStatus { name: "commit", state, busy, restarts: 0, detail: detail.to_owned() }
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

pub(crate) fn serving(stats: &SessionStats) -> TaskStatus {
    let longest = stats.overdue.iter().map(|overdue| overdue.longest).max();
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

pub(crate) fn overdue(stats: &SessionStats) -> Vec<Overdue> {
    let of = |overdue: &verfs_fuse::OverdueStats| Overdue {
        op: overdue.operation.name(),
        count: overdue.count,
        longest: overdue.longest,
    };
    stats.overdue.iter().map(of).collect()
}
