//! One broken call: operations on a disk that fails now and then, what the caller is told, and what is there later.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use verfs_base::Ino;
use verfs_vfs::VfsError;

use crate::crash_case::{fresh, meaning};
use crate::disk::CrashStyle;
use crate::machine::{Machine, Settings};
use crate::op::{Listed, Op};
use crate::power::{Call, DiskError, Fault};
use crate::promise::{History, Meaning};
use crate::random::TestRng;
use crate::session::{Host, Session, Step, Stop};

/// Operations on a disk that breaks.
#[derive(Clone, Debug)]
pub struct FaultCase {
    /// How the volume is run.
    pub settings: Settings,
    /// The operations.
    pub ops: Vec<Op>,
}

/// Failing operations after which a volume is taken to be read-only for good.
const FAILURES_MAX: usize = 6;
/// How long a volume that was out of space or of descriptors may take to go on once there are any.
const ROOM_MAX: Duration = Duration::from_secs(4);

impl fmt::Display for FaultCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.settings, Listed(&self.ops))
    }
}

impl FaultCase {
    /// Runs without a fault and counts the calls of each kind.
    ///
    /// # Errors
    /// The volume differs from the model.
    pub fn dry_run(&self) -> Result<Vec<(Call, u64)>, String> {
        crate::campaign::note(format!("without a fault\n{self}"));
        let (machine, mut session, _) = fresh(&self.settings, 0)?;
        let power = machine.power();
        let before = Call::ALL.map(|call| power.count(call));
        for op in self.ops.iter().chain(&[Op::Sync]) {
            if let Step::Failed { error, .. } = session.step(op)? {
                return Err(format!("{op}: the volume said {error}"));
            }
        }
        let counts = Call::ALL.iter().zip(before).map(|(call, before)| (*call, power.count(*call) - before));
        let counts = counts.filter(|(_, count)| *count > 0).collect();
        drop(session);
        machine.close()?;
        Ok(counts)
    }

    /// Runs with a fault; then the disk is whole again, and the volume must be, too, or read-only; then the power
    /// fails.
    ///
    /// # Errors
    /// A broken promise.
    pub fn run(&self, fault: Fault, seed: u64) -> Result<(), String> {
        crate::campaign::note(format!("{fault:?} seed {seed:#x}\n{self}"));
        let (machine, mut session, mut history) = fresh(&self.settings, seed)?;
        let power = machine.power();
        power.start_trace();
        power.fail(fault);
        let ended = self.run_ops(&machine, &mut session, &mut history).and_then(|running| {
            power.heal();
            let damaged = machine.store().map(|store| store.damaged()).unwrap_or_default();
            if fault.error == DiskError::OutOfFiles && !damaged.is_empty() {
                return Err(format!("what could not be opened for a while is taken for damaged: {damaged:?}"));
            }
            if running { self.aftermath(fault.error, &mut session, &mut history) } else { Ok(()) }
        });
        drop(session);
        // A volume that is read-only says so here too.
        let _failed = machine.close();
        ended
            .and_then(|()| reopen(&machine, &history, &mut TestRng::new(seed)))
            .map_err(|what| format!("{what}\ncalls:\n{}", power.trace()))
    }

    /// Returns whether the volume is still open and its state known.
    fn run_ops(&self, machine: &Machine, session: &mut Session, history: &mut History) -> Result<bool, String> {
        let mut failures = 0;
        for (number, op) in self.ops.iter().enumerate() {
            let meaning = meaning(session, op);
            let told = |what: &dyn fmt::Display| format!("operation {number}: {op}: {what}");
            match session.step(op).map_err(|difference| told(&difference))? {
                Step::Agreed => history.completed(meaning, &session.model, session.inos()),
                Step::Failed { error, .. } if machine.power().faults_hit() == 0 => {
                    return Err(told(&format!("the volume said {error} without a fault")));
                }
                Step::Failed { after, .. } if *op == Op::Remount => {
                    history.interrupted(Meaning::Barrier, &after);
                    return Ok(false);
                }
                // Whether it will be done once there is room is open.
                Step::Failed { after, .. } if changes_in_one_piece(op) => {
                    history.interrupted(meaning, &after);
                    return Ok(false);
                }
                // Collecting changes nothing that anybody sees, done or not.
                Step::Failed { .. } if matches!(op, Op::Collect { .. }) => {
                    history.completed(Meaning::Plain, &session.model, session.inos());
                }
                Step::Failed { error, after } => {
                    failures += 1;
                    let before = session.model.clone();
                    match session.settle((*after).clone()) {
                        Ok(()) if error == VfsError::NoSpace && session.model.differs(&before) => {
                            return Err(told(&"it said that there is no room, and did it"));
                        }
                        Ok(()) => history.completed(Meaning::Plain, &session.model, session.inos()),
                        Err(Stop::Diverged(difference)) => return Err(told(&difference)),
                        Err(Stop::Environment(_)) => {
                            // What was looked at before the look failed has moved its access time.
                            let mut after = *after;
                            session.inos().keys().for_each(|id| after.accessed(*id));
                            history.interrupted(meaning, &after);
                            return Ok(false);
                        }
                    }
                    if failures >= FAILURES_MAX {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The disk works again: everything can be read, and either be made durable or not.
    fn aftermath(&self, was: DiskError, session: &mut Session, history: &mut History) -> Result<(), String> {
        session.compare_tree("with the disk whole again").map_err(|stop| stop.to_string())?;
        let begun = Instant::now();
        loop {
            match session.step(&Op::Sync)? {
                Step::Agreed => {
                    history.completed(Meaning::Barrier, &session.model, session.inos());
                    return Ok(());
                }
                Step::Failed { error, .. } if error.passes() && begun.elapsed() < ROOM_MAX => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Step::Failed { error, .. } if was == DiskError::OutOfFiles => {
                    return Err(format!("files can be opened again, and sync says {error}"));
                }
                Step::Failed { error: VfsError::NoSpace, .. } => {
                    return Err("there is room again, and sync still says that there is none".into());
                }
                Step::Failed { .. } => return Ok(()),
            }
        }
    }
}

/// Whether an operation is done in several commits.
fn changes_in_one_piece(op: &Op) -> bool {
    matches!(op, Op::Snapshot(op) if op.is_change()) || matches!(op, Op::CopyOut { .. })
}

fn reopen(before: &Machine, history: &History, rng: &mut TestRng) -> Result<(), String> {
    let style = *rng.pick(&CrashStyle::ALL);
    let machine = Arc::new(before.crash(style, rng)?);
    let told = |what: String| format!("after a crash ({style:?}): {what}");
    machine.audit().map_err(told)?;
    if rng.chance(1, 2) {
        let call = *rng.pick(&Call::ALL);
        let error = *rng.pick(&[DiskError::Broken, DiskError::Full, DiskError::OutOfFiles]);
        let fault = Fault { call, nth: rng.below(4), error, lasting: crate::power::Lasting::Once };
        machine.power().fail(fault);
        let opened = machine.open();
        machine.power().heal();
        match opened {
            Ok(()) | Err(Stop::Environment(_)) => {}
            Err(Stop::Diverged(what)) => return Err(told(what)),
        }
        // Whether it closes well is not the question: it opens again.
        let _closed = machine.close();
    }
    machine.open().map_err(|stop| told(stop.to_string()))?;
    history.explain(&machine.vfs(), Ino::ROOT, machine.now()).map_err(told)?;
    machine.audit().map_err(told)?;
    machine.close().map_err(told)
}
