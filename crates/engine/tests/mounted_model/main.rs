//! A mounted volume does what POSIX says: random operations as system calls in a real mount, and in the model. What the
//! kernel keeps, in which order it asks, and what it decides itself is under test with what the volume does.
//!
//! Lives here: the model test of `crates/testkit` through the kernel, and a flood of its clients. Never here: another
//! model. Data flows from an operation into system calls and into the model, and from both into a comparison;
//! `kernel.rs` has the differences that are the kernel's own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod attributes;
mod calls;
mod client;
mod compare;
mod extents;
mod flood;
mod kernel;
mod listing;
mod mount;
#[path = "../support/mod.rs"]
mod support;
mod user;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::Mode;
use verfs_base::Timestamp;
use verfs_testkit::{
    Campaign, Clockwork, Generator, Listed, Model, Op, Purpose, Settings, TestRng, caught, note, shrink, shrink_time,
};

use crate::client::Client;
use crate::mount::Mount;

/// Operations between two comparisons of the whole tree.
const COMPARE_EVERY: usize = 25;
/// One of so many cases is on a real volume, which takes longer.
const REAL_EVERY: u64 = 10;
/// Programs at work in one mount.
const CLIENTS: usize = 4;

/// A campaign watches the panics of the whole process, and each needs a process without a umask, and root.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where a case runs.
#[derive(Clone, Debug)]
enum Ground {
    Simulated(Settings),
    Real,
}

impl Ground {
    fn mount(&self, seed: u64) -> Result<Mount, String> {
        match self {
            Ground::Simulated(settings) => Mount::simulated(settings, seed),
            Ground::Real => Mount::real(),
        }
    }

    fn clockwork(&self) -> Clockwork {
        match self {
            Ground::Simulated(_) => Clockwork::Exact,
            Ground::Real => Clockwork::Shared,
        }
    }
}

fn remount(mount: &mut Mount, client: &mut Client) -> Result<(), String> {
    client.let_go();
    mount.remount()?;
    client.attach(mount)?;
    client.compare_tree("after a remount")
}

fn run(ground: &Ground, ops: &[Op], seed: u64) -> Result<(), String> {
    note(format!("{ground:?}\n{}", Listed(ops)));
    let mut mount = ground.mount(seed)?;
    let mut client = Client::new(&mount, PathBuf::new(), ground.clockwork())?;
    for (number, op) in ops.iter().enumerate() {
        let done = match op {
            Op::Remount => remount(&mut mount, &mut client),
            op => client.step(&mount, op),
        };
        done.map_err(|difference| format!("operation {number}: {difference}"))?;
        if number % COMPARE_EVERY == COMPARE_EVERY - 1 {
            client.compare_tree(&format!("after operation {number}"))?;
        }
    }
    client.compare_tree("at the end")?;
    remount(&mut mount, &mut client)?;
    client.let_go();
    mount.finish()
}

fn model() -> Model {
    Model::new(Timestamp::default(), 0o755)
}

fn case(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let settings = Settings::random(&mut rng);
    let ground = if rng.chance(1, REAL_EVERY) { Ground::Real } else { Ground::Simulated(settings) };
    let len = rng.between(10, 120) as usize;
    let bytes = *rng.pick(&[100_000, 1 << 20, 8 << 20]);
    let ops = Generator::new(rng.fork(), model(), Purpose::Model, bytes).sequence(len);
    let Err(reason) = caught(|| run(&ground, &ops, seed)) else { return Ok(()) };
    let (ops, reason) =
        shrink(&ops, reason, shrink_time(), Op::simpler, |ops| caught(|| run(&ground, ops, seed)).err());
    Err(format!("{reason}\n{ground:?}\n{}", Listed(&ops)))
}

fn run_clients(callers: &[Vec<Op>]) -> Result<(), String> {
    let shown: Vec<String> = callers.iter().map(|ops| Listed(ops).to_string()).collect();
    note(shown.join("\n"));
    let mut mount = Mount::real()?;
    let mut clients = Vec::new();
    for number in 0..callers.len() {
        let directory = PathBuf::from(format!("client{number}"));
        std::fs::create_dir(mount.path(&directory)).map_err(|error| error.to_string())?;
        clients.push(Client::new(&mount, directory, Clockwork::Shared)?);
    }
    std::thread::scope(|scope| {
        let at_work: Vec<_> = (clients.iter_mut().zip(callers).enumerate())
            .map(|(number, (client, ops))| {
                let mount = &mount;
                scope.spawn(move || {
                    for (step, op) in ops.iter().enumerate() {
                        client.step(mount, op).map_err(|what| format!("client {number}, operation {step}: {what}"))?;
                    }
                    client.compare_tree(&format!("client {number} at the end"))
                })
            })
            .collect();
        let ended = at_work.into_iter().map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())));
        ended.collect::<Result<Vec<()>, String>>()
    })?;
    clients.iter_mut().for_each(Client::let_go);
    mount.remount()?;
    for client in &mut clients {
        client.attach(&mount)?;
        client.compare_tree("after a remount")?;
    }
    drop(clients);
    mount.finish()
}

fn clients_case(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let callers: Vec<Vec<Op>> =
        (0..CLIENTS).map(|_| Generator::new(rng.fork(), model(), Purpose::Threads, 4 << 20).sequence(100)).collect();
    let shown: Vec<String> = callers.iter().map(|ops| Listed(ops).to_string()).collect();
    caught(|| run_clients(&callers)).map_err(|what| format!("{what}\n{}", shown.join("\n")))
}

/// Waits until no other test is under way that needs what this one does.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(rustix::process::geteuid().is_root(), "it makes devices and acts as other users: run it as root");
    rustix::process::umask(Mode::empty());
    alone
}

fn campaign(name: &'static str, cases: u64, time: Duration, case: fn(u64) -> Result<(), String>) {
    let _alone = alone();
    Campaign::new(name, cases, time).run(case);
}

#[test]
fn a_mount_equals_the_model() {
    campaign("a_mount_equals_the_model", 300, Duration::from_secs(30), case);
}

#[test]
fn clients_in_directories_of_their_own_equal_their_models() {
    campaign("clients_in_directories_of_their_own_equal_their_models", 40, Duration::from_secs(10), clients_case);
}
