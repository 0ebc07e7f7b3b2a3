//! Streams from one volume to another whose power goes, whose disk breaks or is full: the other has what it had before
//! or what came, whole, and takes what it has not got afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use verfs_base::Ino;
use verfs_vfs::{StreamError, TargetChanges, Vfs};

use crate::crash_case::fresh;
use crate::disk::CrashStyle;
use crate::generate::{Generator, Purpose};
use crate::machine::{Machine, Settings};
use crate::model::{Id, Model};
use crate::op::{Listed, Op};
use crate::power::Fault;
use crate::random::TestRng;
use crate::session::{Clockwork, Host, Session, Step, Stop};
use crate::snapshot::{SNAPSHOT_NAMES_GOOD, SnapshotName, SnapshotOp, snapshot_name};

/// Operations on the sender. All its snapshots are sent, each from the one before.
#[derive(Clone, Debug)]
pub struct StreamCase {
    /// How both volumes are run.
    pub settings: Settings,
    /// The operations.
    pub ops: Vec<Op>,
}

/// What befalls the receiver of one of the streams.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// The power goes at this changing call.
    Cut(u64),
    /// A call fails.
    Fault(Fault),
    /// The disk has so much room, in bytes, and no more.
    Full(u64),
}

/// Most changes that a receiver makes on its own.
const OWN_CHANGES: u64 = 6;
/// Times that opening the receiver is cut once more.
const RECOVERY_CUTS: u32 = 2;
/// Changing calls of an opening among which a cut is chosen.
const RECOVERY_CALLS: u64 = 24;

/// A state that a receiver may be in.
#[derive(Clone)]
struct State {
    model: Model,
    inos: BTreeMap<Id, Ino>,
}

/// A stream, and what it leads to.
struct Link {
    name: Vec<u8>,
    base: Option<Vec<u8>>,
    stream: Vec<u8>,
    after: State,
}

/// The sender with all its streams.
struct Sender {
    machine: Arc<Machine>,
    chain: Vec<Link>,
}

impl fmt::Display for StreamCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.settings, Listed(&self.ops))
    }
}

fn stream_of(vfs: &Vfs, name: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let mut stream = Vec::new();
    let sent = vfs.send(name, base, None, &mut stream, &mut |_| ControlFlow::Continue(()));
    sent.map(|_| stream).map_err(|error| format!("sending: {error}"))
}

impl Sender {
    fn make(case: &StreamCase) -> Result<Sender, String> {
        let (machine, mut session, _) = fresh(&case.settings, 0)?;
        let free =
            |session: &Session| (0..SNAPSHOT_NAMES_GOOD).find(|name| !session.model.snapshots().contains_key(name));
        let last = |session: &Session| free(session).map(|name| Op::Snapshot(SnapshotOp::Create(name)));
        let mut ops = case.ops.iter().cloned();
        loop {
            let op = ops.next();
            let ended = op.is_none();
            let Some(op) = op.or_else(|| last(&session)) else { break };
            if let Step::Failed { error, .. } = session.step(&op)? {
                return Err(format!("{op}: the sender said {error}"));
            }
            if ended {
                break;
            }
        }
        let mut names: Vec<SnapshotName> = session.model.snapshots().keys().copied().collect();
        names.sort_by_key(|name| session.model.snapshots()[name].number);
        let vfs = machine.vfs();
        let mut chain: Vec<Link> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let (name, base) = (snapshot_name(b"", *name), chain.last().map(|link| link.name.clone()));
            let stream = stream_of(&vfs, &name, base.as_deref())?;
            if stream_of(&vfs, &name, base.as_deref())? != stream {
                return Err(format!("{} is another stream each time", crate::op::short(&name)));
            }
            let Some(model) = session.model.received(&names[..=at]) else { break };
            let after = State { model, inos: session.inos().clone() };
            chain.push(Link { name, base, stream, after });
        }
        drop(session);
        Ok(Sender { machine, chain })
    }

    /// Gives a receiver a stream: at once, or in two parts, or what it has not got of it.
    fn deliver(&self, link: &Link, to: &Vfs, rng: &mut TestRng) -> Result<(), StreamError> {
        let receive = |bytes: &[u8]| {
            let mut bytes = bytes;
            to.receive(&mut bytes, TargetChanges::RollBack, &mut |_| ControlFlow::Continue(())).map(|_| ())
        };
        let rest = |token| {
            let mut rest = Vec::new();
            let from = self.machine.vfs();
            from.send(&link.name, link.base.as_deref(), Some(token), &mut rest, &mut |_| ControlFlow::Continue(()))
                .map(|_| rest)
        };
        let mut token = to.interrupted_receive()?.filter(|_| rng.chance(3, 4));
        if token.is_none() && rng.chance(1, 2) {
            let cut = rng.below(link.stream.len() as u64) as usize;
            match receive(&link.stream[..cut]) {
                Err(StreamError::Cut(at)) => token = Some(at),
                Err(StreamError::Damaged { resume: None, .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => return Err(StreamError::Mismatch("a part of a stream was taken for the whole".to_owned())),
            }
        }
        match token.map(rest) {
            // It is what came of another one.
            None | Some(Err(StreamError::Mismatch(_))) => receive(&link.stream),
            Some(Ok(rest)) => receive(&rest),
            Some(Err(error)) => Err(error),
        }
    }
}

/// Which of several states a volume is in.
fn find(machine: &Arc<Machine>, states: &[&State]) -> Result<usize, String> {
    let mut reasons = Vec::new();
    for (at, state) in states.iter().enumerate() {
        let host: Arc<dyn Host> = Arc::clone(machine) as Arc<dyn Host>;
        let mut session = Session::new(host, state.model.clone(), state.inos.clone(), Clockwork::Exact);
        match session.compare_tree("received") {
            Ok(()) => return Ok(at),
            Err(stop) => reasons.push(format!("state {at}: {stop}")),
        }
    }
    Err(format!("it is in none of the states: {}", reasons.join("; ")))
}

/// Changes a volume, so that there is something to be undone.
fn change(machine: &Arc<Machine>, state: &State, rng: &mut TestRng) -> Result<State, String> {
    let ids: Vec<Id> = state.model.nodes().map(|(id, _)| id).collect();
    let inos = ids.iter().filter_map(|id| Some((*id, *state.inos.get(id)?))).collect();
    let host: Arc<dyn Host> = Arc::clone(machine) as Arc<dyn Host>;
    let mut session = Session::new(host, state.model.clone(), inos, Clockwork::Exact);
    let mut generator = Generator::new(rng.fork(), state.model.clone(), Purpose::Crash, 50_000);
    let ops = generator.sequence(rng.between(1, OWN_CHANGES) as usize);
    let fits = |op: &Op| !matches!(op, Op::Snapshot(_) | Op::CopyOut { .. } | Op::Remount);
    // Nothing is open while a stream comes: what has no name then is no part of any state.
    let ends = (0..crate::op::SLOTS).map(|slot| Op::Close { slot }).chain([Op::Sync]);
    for op in ops.into_iter().filter(fits).chain(ends) {
        if let Step::Failed { error, .. } = session.step(&op).map_err(|what| format!("of its own, {op}: {what}"))? {
            return Err(format!("{op}: the receiver said {error}"));
        }
    }
    let mut model = session.model.clone();
    model.forget_access();
    Ok(State { model, inos: session.inos().clone() })
}

impl StreamCase {
    /// Sends everything to a volume that nothing befalls. Returns how many changing calls each stream took.
    ///
    /// # Errors
    /// What is not as it was sent.
    pub fn dry_run(&self) -> Result<Vec<u64>, String> {
        crate::campaign::note(format!("undisturbed\n{self}"));
        let sender = Sender::make(self)?;
        let (target, session, _) = fresh(&self.settings, 1)?;
        drop(session);
        let mut calls = Vec::new();
        for link in &sender.chain {
            let begun = target.power().changes();
            let delivered = sender.deliver(link, &target.vfs(), &mut TestRng::new(1));
            delivered.map_err(|error| format!("receiving {}: {error}", crate::op::short(&link.name)))?;
            calls.push(target.power().changes() - begun);
            find(&target, &[&link.after])?;
            target.audit()?;
        }
        target.close()?;
        sender.machine.close()?;
        Ok(calls)
    }

    /// Sends everything to a volume that a blow meets while it takes stream number `at`.
    ///
    /// # Errors
    /// It is in no state that it may be in, or can't be brought to the last one.
    pub fn run(&self, at: usize, blow: Blow, seed: u64) -> Result<(), String> {
        crate::campaign::note(format!("stream {at}, {blow:?}, seed {seed:#x}\n{self}"));
        let sender = Sender::make(self)?;
        let mut rng = TestRng::new(seed);
        let (target, session, _) = fresh(&self.settings, seed)?;
        let mut state = State { model: session.model.clone(), inos: session.inos().clone() };
        drop(session);
        let told = |what: &str, error: &dyn fmt::Display| format!("{what}: {error}");
        for link in &sender.chain[..at] {
            sender.deliver(link, &target.vfs(), &mut rng).map_err(|error| told("before the blow", &error))?;
            state = link.after.clone();
        }
        let link = &sender.chain[at];
        let mut states = vec![state.clone(), link.after.clone()];
        if link.base.is_some() && rng.chance(1, 2) {
            states.push(change(&target, &state, &mut rng)?);
        }
        let power = target.power();
        power.start_trace();
        let mut trace = String::new();
        let ended = self.strike(&target, &sender, (link, blow), &states, &mut rng).and_then(|after| {
            trace = after.power().trace();
            let states: Vec<&State> = states.iter().collect();
            let found = find(&after, &states)?;
            after.audit()?;
            if found != 1 {
                let again = sender.deliver(link, &after.vfs(), &mut rng);
                again.map_err(|error| told("receiving it again", &error))?;
            }
            for link in &sender.chain[at + 1..] {
                sender.deliver(link, &after.vfs(), &mut rng).map_err(|error| told("after the blow", &error))?;
            }
            if let Some(last) = sender.chain.last() {
                find(&after, &[&last.after]).map_err(|what| told("at the end", &what))?;
            }
            after.audit()?;
            after.delete_snapshots()?;
            after.check_released()?;
            after.audit()?;
            after.close()
        });
        sender.machine.close()?;
        ended.map_err(|what| format!("{what}\ncalls before:\n{}after:\n{trace}", power.trace()))
    }

    /// Delivers a stream under a blow, and brings the receiver back to life.
    fn strike(
        &self,
        target: &Arc<Machine>,
        sender: &Sender,
        (link, blow): (&Link, Blow),
        states: &[State],
        rng: &mut TestRng,
    ) -> Result<Arc<Machine>, String> {
        let power = target.power();
        let disk = target.disk();
        match blow {
            Blow::Cut(nth) => power.cut_at(power.changes() + nth),
            Blow::Fault(fault) => power.fail(fault),
            Blow::Full(room) => disk.limit(disk.used_bytes() + room),
        }
        let ended = sender.deliver(link, &target.vfs(), rng);
        let excused = power.is_off() || power.faults_hit() > 0;
        match (&ended, blow) {
            (Ok(()), _) => {}
            (Err(error), Blow::Full(_)) if is_no_room(error) => {
                // Refused before anything was accepted.
                let before: Vec<&State> = states.iter().collect();
                let found = find(target, &before).map_err(|what| format!("after {error}: {what}"))?;
                if found == 1 {
                    return Err(format!("it said {error}, and took the stream"));
                }
            }
            (Err(_), Blow::Cut(_) | Blow::Fault(_)) if excused => {}
            (Err(error), _) => return Err(format!("receiving under the blow: {error}")),
        }
        power.heal();
        crate::campaign::count_crash_point();
        power.cut_now();
        let _failed = target.close();
        let mut machine = Arc::new(target.crash(*rng.pick(&CrashStyle::ALL), rng)?);
        machine.audit().map_err(|what| format!("what the crash left: {what}"))?;
        let mut cuts = 0;
        loop {
            let power = machine.power();
            power.start_trace();
            if cuts < RECOVERY_CUTS && rng.chance(1, 3) {
                power.cut_at(rng.below(RECOVERY_CALLS));
                cuts += 1;
            }
            match machine.open() {
                Ok(()) if power.keep_on() => break,
                Ok(()) | Err(Stop::Environment(_)) if power.is_off() => {
                    let _failed = machine.close();
                    machine = Arc::new(machine.crash(*rng.pick(&CrashStyle::ALL), rng)?);
                }
                Ok(()) => {}
                Err(stop) => return Err(format!("opening again: {stop}")),
            }
        }
        if let Ok(()) = ended {
            let found = find(&machine, &[&states[1]]);
            found.map_err(|what| format!("what was received is not there after a crash: {what}"))?;
        }
        machine.disk().limit(u64::MAX);
        Ok(machine)
    }
}

fn is_no_room(error: &StreamError) -> bool {
    match error {
        StreamError::Volume(error) => error.passes(),
        StreamError::Pipe(error) => error.kind() == std::io::ErrorKind::StorageFull,
        StreamError::Cut(_) | StreamError::Damaged { .. } | StreamError::Mismatch(_) => false,
    }
}
