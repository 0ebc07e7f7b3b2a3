//! Watches how many files the process may still open: what has to be opened in the middle of something finds the reserve
//! free before it is needed, and the log says so once.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use verfs_base::{DescriptorRoom, Descriptors};

use crate::tasks::StopSignal;

/// How often it is looked. A limit that is lowered meanwhile is noticed by whatever is to be opened, too.
const LOOK: Duration = Duration::from_millis(250);

/// What the process may open at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Enough,
    Reserve,
    TooFew,
}

fn level(room: DescriptorRoom) -> Level {
    match (room.is_enough(), room.on_reserve) {
        (true, false) => Level::Enough,
        (true, true) => Level::Reserve,
        (false, _) => Level::TooFew,
    }
}

/// Looks until it is told to stop.
pub(crate) fn watch(descriptors: &Arc<Descriptors>, stop: &StopSignal) {
    let mut before = Level::Enough;
    while stop.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let room = descriptors.look();
        let now = level(room);
        let DescriptorRoom { free, limit, .. } = room;
        match now {
            _ if now == before => {}
            Level::Enough => tracing::info!(free, limit, "files can be opened again"),
            Level::Reserve => tracing::warn!(free, limit, "few more files can be opened: the reserve is given up"),
            Level::TooFew => tracing::error!(free, limit, "too few files can be opened: nothing is committed for now"),
        }
        before = now;
    }
}
