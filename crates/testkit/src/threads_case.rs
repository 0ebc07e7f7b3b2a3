//! Several callers at once, each in a directory of its own, up to a power cut: each directory must show a past of its
//! own. This is what makes callers share frames of the intent log and commits.

use std::fmt;
use std::sync::Arc;

use verfs_base::Ino;
use verfs_vfs::Context;

use crate::crash_case::{Cut, run_until_cut};
use crate::disk::CrashStyle;
use crate::machine::{Machine, Settings};
use crate::op::{Listed, Op};
use crate::promise::History;
use crate::random::TestRng;
use crate::session::{Clockwork, Host, Session};

/// Operations of each caller.
#[derive(Clone, Debug)]
pub struct ThreadsCase {
    /// How the volume is run.
    pub settings: Settings,
    /// One sequence for each caller.
    pub callers: Vec<Vec<Op>>,
}

impl fmt::Display for ThreadsCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.settings)?;
        self.callers.iter().enumerate().try_for_each(|(caller, ops)| write!(f, "\ncaller {caller}:\n{}", Listed(ops)))
    }
}

impl ThreadsCase {
    /// Runs all callers until the power is cut, or to their end.
    ///
    /// # Errors
    /// The volume differs from a caller's model, or what a crash leaves breaks a promise to one of them.
    pub fn run(&self, cut: Cut) -> Result<(), String> {
        crate::campaign::note(format!("{cut:?}\n{self}"));
        let machine = Arc::new(Machine::new(self.settings.clone(), cut.seed));
        machine.open().map_err(|stop| stop.to_string())?;
        let mut roots = Vec::new();
        for caller in 0..self.callers.len() {
            let name = format!("caller{caller}");
            let made = machine.vfs().mkdir(&Context::ROOT, Ino::ROOT, name.as_bytes(), 0o755);
            roots.push(made.map_err(|error| error.to_string())?.ino);
        }
        machine.vfs().sync().map_err(|error| error.to_string())?;
        let sessions: Result<Vec<Session>, _> = roots.iter().map(|root| session(&machine, *root)).collect();
        let power = machine.power();
        power.start_trace();
        power.cut_at(power.changes() + cut.at);
        let ended: Vec<Result<History, String>> = std::thread::scope(|scope| {
            let callers = self.callers.iter().zip(sessions?);
            let running: Vec<_> =
                callers.map(|(ops, session)| scope.spawn(|| run_caller(&machine, session, ops))).collect();
            let joined = running.into_iter().map(|thread| thread.join());
            Ok::<_, String>(joined.map(|ended| ended.unwrap_or_else(|_| Err("a caller panicked".into()))).collect())
        })?;
        power.cut_now();
        // Without power it fails.
        let _failed = machine.close();
        check(&machine, &roots, ended, &mut TestRng::new(cut.seed))
            .map_err(|what| format!("{what}\ncalls before the cut:\n{}", power.trace()))
    }
}

fn session(machine: &Arc<Machine>, root: Ino) -> Result<Session, String> {
    let host: Arc<dyn Host> = Arc::clone(machine) as Arc<dyn Host>;
    Session::over_empty(host, root, Clockwork::Shared).map_err(|stop| stop.to_string())
}

fn run_caller(machine: &Machine, mut session: Session, ops: &[Op]) -> Result<History, String> {
    let mut history = History::new(session.model.clone(), session.inos().clone(), false).timeless();
    run_until_cut(machine, &mut session, &mut history, ops)?;
    Ok(history)
}

fn check(
    machine: &Machine,
    roots: &[Ino],
    ended: Vec<Result<History, String>>,
    rng: &mut TestRng,
) -> Result<(), String> {
    let mut histories = Vec::new();
    for (caller, ended) in ended.into_iter().enumerate() {
        histories.push(ended.map_err(|what| format!("caller {caller}: {what}"))?);
    }
    crate::campaign::count_crash_point();
    let style = *rng.pick(&CrashStyle::ALL);
    let after = machine.crash(style, rng)?;
    after.audit().map_err(|what| format!("what the crash left ({style:?}): {what}"))?;
    after.open().map_err(|stop| format!("recovery ({style:?}): {stop}"))?;
    for (caller, (history, root)) in histories.iter().zip(roots).enumerate() {
        let explained = history.explain(&after.vfs(), *root, after.now());
        explained.map_err(|what| format!("caller {caller} after a crash ({style:?}): {what}"))?;
    }
    after.audit().map_err(|what| format!("after recovery ({style:?}): {what}"))?;
    after.close()
}
