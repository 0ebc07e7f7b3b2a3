//! One crash: operations up to a power cut, what a crash leaves, recovery (perhaps cut as well), the promises.

use std::fmt::{self, Write};
use std::sync::Arc;

use verfs_base::Ino;

use crate::disk::CrashStyle;
use crate::machine::{Machine, Settings};
use crate::op::{Listed, Op};
use crate::promise::{History, Meaning, Survived};
use crate::random::TestRng;
use crate::session::{Clockwork, Host, Session, Step, Stop};

/// Operations before the first crash and between that and a second one.
#[derive(Clone, Debug)]
pub struct CrashCase {
    /// How the volume is run.
    pub settings: Settings,
    /// Operations before the crash.
    pub first: Vec<Op>,
    /// Operations after recovery.
    pub second: Vec<Op>,
}

/// Where the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Number of the changing call, counted from the moment the volume is open.
    pub at: u64,
    /// Decides what the crash leaves, and about cuts during recovery.
    pub seed: u64,
}

/// Most changing calls of a recovery among which a cut is chosen.
const RECOVERY_CALLS: u64 = 24;
/// Most times that recovery itself is cut.
const RECOVERY_CUTS: u32 = 3;
/// Crashes drawn from one cut.
const DRAWS: u32 = 2;

/// What an operation will mean for durability, asked before it runs.
#[must_use]
pub fn meaning(session: &Session, op: &Op) -> Meaning {
    match op {
        Op::Sync | Op::Remount => Meaning::Barrier,
        // What is refused makes nothing durable.
        Op::Snapshot(op) if op.is_barrier() && session.model.clone().change_snapshot(*op).is_ok() => Meaning::Barrier,
        Op::CopyOut { snapshot, from, to, mode } => {
            match session.model.clone().copy_out(*snapshot, from, to, *mode).is_ok() {
                true => Meaning::Barrier,
                false => Meaning::Plain,
            }
        }
        Op::Fsync { target, .. } => session.target(target).map_or(Meaning::Plain, Meaning::Fsync),
        Op::Make { .. }
        | Op::Create { .. }
        | Op::MakeDir { .. }
        | Op::Symlink { .. }
        | Op::Link { .. }
        | Op::Unlink { .. }
        | Op::RemoveDir { .. }
        | Op::Rename { .. }
        | Op::Change { .. }
        | Op::SetXattr { .. }
        | Op::RemoveXattr { .. }
        | Op::GetXattr { .. }
        | Op::ListXattr { .. }
        | Op::SetFlags { .. }
        | Op::Allocate { .. }
        | Op::Seek { .. }
        | Op::Copy { .. }
        | Op::Write { .. }
        | Op::Read { .. }
        | Op::ReadLink { .. }
        | Op::Stat { .. }
        | Op::List { .. }
        | Op::ListBegin { .. }
        | Op::ListNext { .. }
        | Op::Open { .. }
        | Op::Close { .. }
        | Op::Snapshot(_)
        | Op::Collect { .. }
        | Op::Pause { .. } => Meaning::Plain,
    }
}

/// A freshly made volume with its session and the beginning of its history.
///
/// # Errors
/// It can't be made.
pub fn fresh(settings: &Settings, seed: u64) -> Result<(Arc<Machine>, Session, History), String> {
    let machine = Arc::new(Machine::new(settings.clone(), seed));
    machine.open().map_err(|stop| stop.to_string())?;
    let host: Arc<dyn Host> = Arc::clone(&machine) as Arc<dyn Host>;
    let session = Session::over_empty(host, Ino::ROOT, Clockwork::Exact).map_err(|stop| stop.to_string())?;
    let history = History::new(session.model.clone(), session.inos().clone(), settings.quiet);
    Ok((machine, session, history))
}

/// Runs operations until they end or the power does.
///
/// # Errors
/// The volume differs from the model, or fails with the power on.
pub fn run_until_cut(
    machine: &Machine,
    session: &mut Session,
    history: &mut History,
    ops: &[Op],
) -> Result<(), String> {
    for (number, op) in ops.iter().enumerate() {
        let meaning = meaning(session, op);
        match session.step(op).map_err(|difference| format!("operation {number}: {difference}"))? {
            Step::Agreed => history.completed(meaning, &session.model, session.inos()),
            Step::Failed { after, .. } if machine.power().is_off() => {
                history.interrupted(meaning, &after);
                return Ok(());
            }
            Step::Failed { error, .. } => return Err(format!("operation {number}: {op}: the volume said {error}")),
        }
        if machine.power().is_off() {
            return Ok(());
        }
    }
    Ok(())
}

impl fmt::Display for CrashCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nbefore the crash:\n{}after it:\n{}", self.settings, Listed(&self.first), Listed(&self.second))
    }
}

impl CrashCase {
    /// Runs everything without a cut, then compares and syncs and compares again. Returns how many changing calls
    /// the first part made: the cuts there are.
    ///
    /// # Errors
    /// The volume differs from the model.
    pub fn dry_run(&self) -> Result<u64, String> {
        crate::campaign::note(format!("without a cut\n{self}"));
        let (machine, mut session, mut history) = fresh(&self.settings, 0)?;
        let begun = machine.power().changes();
        for op in self.first.iter().chain(&self.second).chain(&[Op::Sync, Op::Remount]) {
            let meaning = meaning(&session, op);
            match session.step(op)? {
                Step::Agreed => history.completed(meaning, &session.model, session.inos()),
                Step::Failed { error, .. } => return Err(format!("{op}: the volume said {error}")),
            }
        }
        session.compare_tree("at the end").map_err(|stop| stop.to_string())?;
        let calls = machine.power().changes() - begun;
        drop(session);
        machine.close()?;
        Ok(calls)
    }

    /// Runs up to a cut and checks what crashes leave.
    ///
    /// # Errors
    /// A broken promise.
    pub fn run(&self, cut: Cut) -> Result<(), String> {
        crate::campaign::note(format!("{cut:?}\n{self}"));
        let (machine, mut session, mut history) = fresh(&self.settings, cut.seed)?;
        let power = machine.power();
        power.start_trace();
        power.cut_at(power.changes() + cut.at);
        let mut told = String::new();
        let ended = run_until_cut(&machine, &mut session, &mut history, &self.first);
        drop(session);
        ended
            .and_then(|()| {
                let mut rng = TestRng::new(cut.seed);
                crate::campaign::count_crash_point();
                for _ in 0..DRAWS {
                    self.recover(&machine, &history, &mut rng.fork(), &mut told)?;
                }
                Ok(())
            })
            .map_err(|what| format!("{what}\n{told}calls before the cut:\n{}", power.trace()))
    }

    /// One crash of a machine whose power is gone, its recovery, the check, and a second life.
    fn recover(&self, before: &Machine, history: &History, rng: &mut TestRng, told: &mut String) -> Result<(), String> {
        told.clear();
        // Operations may have come to their end before the cut. Nothing may still be running: what it would do comes
        // after the crash.
        before.power().cut_now();
        let _failed = before.close();
        let style = *rng.pick(&CrashStyle::ALL);
        let (machine, survived) = reopen(before, style, history, rng, told)?;
        if self.second.is_empty() || rng.chance(1, 2) {
            end_of_snapshots(&machine, rng)?;
            return machine.close();
        }
        let settings = &self.settings;
        let mut history = History::new(survived.model.clone(), survived.inos.clone(), settings.quiet);
        let host: Arc<dyn Host> = Arc::clone(&machine) as Arc<dyn Host>;
        let mut session = Session::new(host, survived.model, survived.inos, Clockwork::Exact);
        let power = machine.power();
        if rng.chance(3, 4) {
            power.cut_at(power.changes() + rng.below(60));
            let _ = writeln!(told, "second life, to be cut at most 60 calls on from {}", power.changes());
        }
        run_until_cut(&machine, &mut session, &mut history, &self.second)
            .map_err(|what| format!("after recovery: {what}"))?;
        drop(session);
        crate::campaign::count_crash_point();
        power.cut_now();
        let _failed = machine.close();
        let style = *rng.pick(&CrashStyle::ALL);
        let (machine, _survived) =
            reopen(&machine, style, &history, rng, told).map_err(|what| format!("second crash: {what}"))?;
        machine.close()
    }
}

/// Now and then deletes all snapshots: nothing must be left of them.
fn end_of_snapshots(machine: &Machine, rng: &mut TestRng) -> Result<(), String> {
    if rng.chance(1, 2) {
        let ended = machine.delete_snapshots().and_then(|()| machine.check_released()).and_then(|()| machine.audit());
        ended.map_err(|what| format!("at the end of all snapshots: {what}"))?;
    }
    Ok(())
}

/// Crashes, opens, and opens again for as long as the opening itself is cut.
pub(crate) fn reopen(
    before: &Machine,
    style: CrashStyle,
    history: &History,
    rng: &mut TestRng,
    told: &mut String,
) -> Result<(Arc<Machine>, Survived), String> {
    let _ = writeln!(told, "crash {style:?}");
    let mut machine = Arc::new(before.crash(style, rng)?);
    machine.audit().map_err(|what| format!("what the crash left: {what}"))?;
    let mut cuts = 0;
    loop {
        let power = machine.power();
        power.start_trace();
        if cuts < RECOVERY_CUTS && rng.chance(1, 3) {
            power.cut_at(rng.below(RECOVERY_CALLS));
            cuts += 1;
        }
        let opened = machine.open();
        match &opened {
            Ok(()) if power.keep_on() => break,
            Ok(()) | Err(Stop::Environment(_)) => {
                let style = *rng.pick(&CrashStyle::ALL);
                let _ = write!(told, "cut during recovery, crash {style:?}; it had done:\n{}", power.trace());
                let _failed = machine.close();
                machine = Arc::new(machine.crash(style, rng)?);
            }
            Err(Stop::Diverged(what)) => return Err(format!("recovery: {what}")),
        }
    }
    let survived = history.explain(&machine.vfs(), Ino::ROOT, machine.now())?;
    machine.audit().map_err(|what| format!("after recovery: {what}"))?;
    if rng.chance(1, 4) {
        machine.check_released().map_err(|what| format!("after recovery: {what}"))?;
        machine.audit().map_err(|what| format!("after recovery and a release: {what}"))?;
    }
    Ok((machine, survived))
}
