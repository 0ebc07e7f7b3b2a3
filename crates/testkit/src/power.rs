//! The switch that a disk and a metadata engine share: it counts what they do, cuts the power in the middle of a call
//! and makes chosen calls fail.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use parking_lot::Mutex;

/// What a disk or a metadata engine is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Call {
    /// `Disk::create`.
    Create,
    /// `Disk::open` and `Disk::open_read`.
    Open,
    /// `Disk::rename`.
    Rename,
    /// `Disk::remove`.
    Remove,
    /// `Disk::create_dir_all`.
    CreateDir,
    /// `Disk::list`.
    List,
    /// `Disk::sync_dir`.
    SyncDir,
    /// `DiskFile::read_at`.
    Read,
    /// `DiskFile::write_all_at`.
    Write,
    /// `DiskFile::sync_data`.
    SyncData,
    /// `DiskFile::set_len`.
    SetLen,
    /// `DiskFile::allocate`.
    Allocate,
    /// `Disk::ready`.
    Ready,
    /// `MetaStore::get`, `multi_get`, `view` and `scan`.
    MetaRead,
    /// `MetaStore::commit`.
    MetaCommit,
    /// `MetaStore::sync`.
    MetaSync,
}

impl Call {
    /// Every call.
    pub const ALL: [Call; 16] = [
        Call::Create,
        Call::Open,
        Call::Rename,
        Call::Remove,
        Call::CreateDir,
        Call::List,
        Call::SyncDir,
        Call::Read,
        Call::Write,
        Call::SyncData,
        Call::SetLen,
        Call::Allocate,
        Call::Ready,
        Call::MetaRead,
        Call::MetaCommit,
        Call::MetaSync,
    ];

    /// Whether it can change what a crash leaves behind. Only these count towards a cut: a cut at a read is a cut at
    /// the next change.
    #[must_use]
    pub fn changes(self) -> bool {
        match self {
            Call::Open | Call::List | Call::Read | Call::Ready | Call::MetaRead => false,
            Call::Create
            | Call::Rename
            | Call::Remove
            | Call::CreateDir
            | Call::SyncDir
            | Call::Write
            | Call::SyncData
            | Call::SetLen
            | Call::Allocate
            | Call::MetaCommit
            | Call::MetaSync => true,
        }
    }
}

/// How long a fault lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasting {
    /// One call fails, the next works.
    Once,
    /// That call and every later one of its kind fails.
    Forever,
}

/// What a call that fails answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// EIO: it is broken.
    Broken,
    /// ENOSPC: it is full.
    Full,
    /// EMFILE: the process may open no more files.
    OutOfFiles,
}

impl DiskError {
    /// As the operating system says it.
    #[must_use]
    pub fn to_io(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            DiskError::Broken => 5,
            DiskError::Full => 28,
            DiskError::OutOfFiles => 24,
        })
    }
}

/// A call that shall fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which calls are counted.
    pub call: Call,
    /// Which of them fails, from 0.
    pub nth: u64,
    /// What it answers.
    pub error: DiskError,
    /// Whether later ones fail too.
    pub lasting: Lasting,
}

/// What a call has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// What it was asked to.
    Proceed,
    /// Power fails during this call: its effect is pending (a crash may keep it, lose it or tear it), the caller
    /// hears an error. A sync or a commit is under way but not finished.
    CutHere,
    /// Nothing but an error of this kind.
    Fail(DiskError),
}

/// A call as it was made, for reading a failure.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its number among the changing calls.
    pub number: u64,
    /// The call.
    pub call: Call,
    /// Path, offset and length.
    pub detail: String,
    /// What came of it.
    pub verdict: Verdict,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5} {:?} {}", self.number, self.call, self.detail)?;
        match self.verdict {
            Verdict::Proceed => Ok(()),
            Verdict::CutHere => write!(f, " <- power cut here"),
            Verdict::Fail(error) => write!(f, " <- {error:?}"),
        }
    }
}

#[derive(Default)]
struct State {
    changes: u64,
    cut_at: Option<u64>,
    off: bool,
    faults: Vec<(Fault, u64)>,
    faults_hit: u64,
    aside: u32,
    counts: [u64; Call::ALL.len()],
    tracing: bool,
    trace: VecDeque<Trace>,
    recorder: Option<Recorder>,
    pretended: Option<Call>,
    panicking: Option<(Call, Lasting)>,
}

/// Called before each changing call, with its number, while no other call begins.
type Recorder = Box<dyn FnMut(u64) + Send>;

/// Longest trace kept; the newest calls matter.
const TRACE_ENTRIES: usize = 4000;

/// Calls of it that a failure shows.
const TRACE_SHOWN: usize = 60;

/// Shared by everything that stops working when the power is gone.
#[derive(Default)]
pub struct Power {
    state: Mutex<State>,
}

impl fmt::Debug for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Power").field("changes", &state.changes).field("off", &state.off).finish_non_exhaustive()
    }
}

impl Power {
    /// Power that stays on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power during the changing call number `number`, counted from 0 and from the beginning.
    pub fn cut_at(&self, number: u64) {
        self.state.lock().cut_at = Some(number);
    }

    /// Takes the cut back. `false` if it has happened.
    pub fn keep_on(&self) -> bool {
        let mut state = self.state.lock();
        state.cut_at = None;
        !state.off
    }

    /// Cuts the power now, between two calls.
    pub fn cut_now(&self) {
        self.state.lock().off = true;
    }

    /// Makes a call fail; `nth` counts from now.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.push((fault, 0));
    }

    /// The next call of a kind, or every one from now on, panics as one with a defect does.
    pub fn panic_at(&self, call: Call, lasting: Lasting) {
        self.state.lock().panicking = Some((call, lasting));
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.panicking = None;
    }

    /// Runs something, a check, without faults, cuts or counts.
    pub fn aside<T>(&self, run: impl FnOnce() -> T) -> T {
        self.state.lock().aside += 1;
        let done = run();
        self.state.lock().aside -= 1;
        done
    }

    /// Power that is gone: of a disk that is only looked at.
    #[must_use]
    pub fn spent() -> Self {
        let power = Self::default();
        power.cut_now();
        power
    }

    /// From now on calls of a kind, syncs, say that they are done and do nothing: for tests of the tests.
    pub fn pretend(&self, call: Call) {
        self.state.lock().pretended = Some(call);
    }

    /// Whether [`Power::pretend`] said so of a kind of calls.
    pub(crate) fn pretends(&self, call: Call) -> bool {
        self.state.lock().pretended == Some(call)
    }

    /// Has `recorder` called before each changing call, with its number, from now on. What it sees is what a cut during
    /// that call leaves: every earlier call that has returned is done, and no other begins meanwhile. It must not call
    /// what has this power.
    pub fn record(&self, recorder: impl FnMut(u64) + Send + 'static) {
        self.state.lock().recorder = Some(Box::new(recorder));
    }

    /// Ends what [`Power::record`] began.
    pub fn stop_recording(&self) {
        let recorder = self.state.lock().recorder.take();
        drop(recorder);
    }

    /// How many calls failed because of a fault.
    #[must_use]
    pub fn faults_hit(&self) -> u64 {
        self.state.lock().faults_hit
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// How many changing calls were made.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// How many calls of a kind were made.
    #[must_use]
    pub fn count(&self, call: Call) -> u64 {
        self.state.lock().counts[call as usize]
    }

    /// Keeps a trace of the newest calls from now on.
    pub fn start_trace(&self) {
        self.state.lock().tracing = true;
    }

    /// The newest calls that changed something or failed, a line for each, oldest first.
    #[must_use]
    pub fn trace(&self) -> String {
        let state = self.state.lock();
        let telling = |trace: &&Trace| trace.call.changes() || trace.verdict != Verdict::Proceed;
        let lines: Vec<String> = state.trace.iter().filter(telling).map(|trace| format!("  {trace}\n")).collect();
        lines[lines.len().saturating_sub(TRACE_SHOWN)..].concat()
    }

    /// Called by a disk or an engine at the start of each call.
    pub fn spend(&self, call: Call, detail: impl FnOnce() -> String) -> Verdict {
        let state = &mut *self.state.lock();
        if state.aside > 0 && !state.off {
            return Verdict::Proceed;
        }
        let panicking = state.panicking.filter(|(wanted, _)| *wanted == call);
        if panicking.is_some_and(|(_, lasting)| lasting == Lasting::Once) {
            state.panicking = None;
        }
        assert!(panicking.is_none(), "a defect in {call:?}, on purpose");
        state.counts[call as usize] += 1;
        let number = state.changes;
        let verdict = state.judge(call);
        if state.tracing {
            if state.trace.len() == TRACE_ENTRIES {
                state.trace.pop_front();
            }
            state.trace.push_back(Trace { number, call, detail: detail(), verdict });
        }
        verdict
    }

    /// The error of a call after the power has gone.
    #[must_use]
    pub fn gone() -> io::Error {
        io::Error::other("the power is gone")
    }
}

impl State {
    fn judge(&mut self, call: Call) -> Verdict {
        if self.off {
            return Verdict::Fail(DiskError::Broken);
        }
        let number = self.changes;
        if call.changes() {
            if let Some(recorder) = &mut self.recorder {
                recorder(number);
            }
            self.changes += 1;
            if self.cut_at.is_some_and(|cut| number >= cut) {
                self.off = true;
                return Verdict::CutHere;
            }
        }
        let mut hit = None;
        for (fault, seen) in &mut self.faults {
            if fault.call != call {
                continue;
            }
            let due = match fault.lasting {
                Lasting::Once => *seen == fault.nth,
                Lasting::Forever => *seen >= fault.nth,
            };
            *seen += 1;
            if due {
                hit = Some(fault.error);
            }
        }
        match hit {
            Some(error) => {
                self.faults_hit += 1;
                Verdict::Fail(error)
            }
            None => Verdict::Proceed,
        }
    }
}
