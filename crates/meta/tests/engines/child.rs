//! Processes of the tests' own: this test binary, started again to do one thing and, mostly, to be killed.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use verfs_meta::EngineKind;

use crate::crash::Load;
use crate::subject::{open_small, put};

const ROLE: &str = "VERFS_META_CHILD";
const ENGINE: &str = "VERFS_META_CHILD_ENGINE";
const DIR: &str = "VERFS_META_CHILD_DIR";
/// What the lines of a child that are for its parent begin with; the test harness prints others.
const MARK: &str = "child: ";

/// What a child does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Commits and syncs until it is killed, and says which number it synced.
    Write,
    /// The same, with batches so large that tables are written and merged all the time.
    WriteMuch,
    /// Opens a store, closes it, and says which threads there were before and after.
    ListThreads,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Write => "write",
            Role::WriteMuch => "write-much",
            Role::ListThreads => "list-threads",
        }
    }
}

/// A running child; killed when its guard goes.
pub struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a child on a store.
    pub fn start(role: Role, kind: EngineKind, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child::entry", "--exact", "--ignored", "--nocapture"])
            .env(ROLE, role.name())
            .env(ENGINE, kind.name())
            .env(DIR, dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Running { child, output }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next line that the child has for its parent; `None` once it has ended.
    pub fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // A line that the kill cut short says nothing.
            if let Some(message) = line.strip_prefix(MARK).and_then(|message| message.strip_suffix('\n')) {
                return Some(message.to_owned());
            }
        }
    }

    /// The lines that the child has written by now, without waiting for more.
    pub fn lines_so_far(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while !self.output.buffer().is_empty() || has_bytes(self.output.get_ref()) {
            lines.extend(self.line());
        }
        lines
    }

    /// Kills the child with SIGKILL, and gives the lines that it had still written.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only for a child that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a read of the pipe would not wait.
fn has_bytes(pipe: &ChildStdout) -> bool {
    let mut poll = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one live pollfd, which is what the count says; the call does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    assert!(ready >= 0, "{}", std::io::Error::last_os_error());
    poll.revents & libc::POLLIN != 0
}

fn say(message: &str) {
    let mut output = std::io::stdout().lock();
    // In one write, after the line that the test harness has begun.
    output.write_all(format!("\n{MARK}{message}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}

#[test]
#[ignore = "what a child process of the other tests runs"]
fn entry() {
    let kind: EngineKind = std::env::var(ENGINE).expect("only the other tests run this").parse().unwrap();
    let dir = std::env::var_os(DIR).unwrap();
    match std::env::var(ROLE).unwrap().as_str() {
        role @ ("write" | "write-much") => {
            let load = if role == "write" { Load::Light } else { Load::Heavy };
            crate::crash::write_until_killed(kind, Path::new(&dir), load, &mut |number| say(&number.to_string()));
        }
        "list-threads" => {
            let store = open_small(kind, Path::new(&dir)).unwrap();
            put(store.as_ref(), b"k", b"1").unwrap();
            // A thread gets its name when it first runs.
            wait_until(|| are_an_engines(&threads()));
            say(&threads());
            store.close().unwrap();
            // Who was joined has ended, but may be listed for a moment yet.
            wait_until(|| threads().is_empty());
            say(&threads());
        }
        other => panic!("no role {other}"),
    }
}

/// Whether an engine's threads are among these.
pub fn are_an_engines(threads: &str) -> bool {
    threads.contains("verfs-meta verfs-meta verfs-meta verfs-meta") || threads.contains("fjall:worker")
}

/// Waits some seconds at most.
fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Names of the threads of this process, in order, without those of the test harness.
fn threads() -> String {
    let mut names: Vec<String> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("verfs") || name.starts_with("fjall") || name.contains("tokio"))
        .collect();
    names.sort_unstable();
    names.join(" ")
}
