//! A flood: 64 clients at once, each with a directory and a model of its own, and all with the same shared files.
//!
//! Lives here: the clients, what they share, and a watchdog. Never here: a second model. The clients are threads of a
//! process of their own: they map files, and who unmaps one waits for the volume with the lock of his address space.
//! It takes 20 seconds, or ten minutes where `VERFS_TEST_FACTOR` asks for more of everything.

mod sealed;
mod shared;
mod watchdog;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use verfs_engine::Volume;
use verfs_testkit::{Clockwork, Generator, Op, Purpose, SLOTS, TestRng};

use crate::client::Client;
use crate::mount::Mount;
use crate::support::connection::Connection;
use crate::support::{Other, report, told, wait_for_the_end};
use shared::{Guest, Shared};
use watchdog::Board;

const CLIENTS: usize = 64;
/// Where the clients' choices begin. What they meet differs each time all the same.
const SEED: u64 = 64;
/// Operations between two fresh starts of a client's generator.
const ROUND_OPERATIONS: usize = 40;
/// Most bytes that a client writes in a round.
const ROUND_BYTES: u64 = 1 << 20;
/// One of so many rounds ends with a comparison of the client's whole tree.
const COMPARE_EVERY: u64 = 8;
/// Longest that the clients may take to end after their mount was cut off.
const END_MAX: Duration = Duration::from_secs(20);
/// File of what the clients do.
const BOARD: &str = "board";
/// Longest that one operation may take: with 64 clients on a machine with two cores, a comparison takes seconds.
const STUCK_AFTER: Duration = Duration::from_secs(60);

fn duration() -> Duration {
    let is_set = |name| std::env::var_os(name).is_some();
    match (is_set("VERFS_TEST_FACTOR"), is_set("VERFS_TEST_CASES")) {
        (true, _) => Duration::from_secs(600),
        (false, true) => Duration::from_secs(4),
        (false, false) => Duration::from_secs(20),
    }
}

/// One client, until the time is over.
fn live(
    mount: &Mount,
    shared: &Shared,
    client: &mut Client,
    guest: &mut Guest<'_>,
    end: Instant,
) -> Result<(), String> {
    let home = format!("client{}", guest.number);
    let step = |client: &mut Client, guest: &Guest<'_>, op: &Op| {
        guest.board.begin(guest.number, &op.to_string(), &home);
        let done = client.step(mount, op);
        guest.board.end(guest.number);
        done
    };
    while Instant::now() < end {
        let mut generator = Generator::new(guest.rng.fork(), client.model.clone(), Purpose::Threads, ROUND_BYTES);
        for op in generator.sequence(ROUND_OPERATIONS) {
            step(client, guest, &op)?;
            shared.act(guest)?;
            if Instant::now() > end {
                break;
            }
        }
        // A generator begins with a tree of which nothing is open.
        for slot in 0..SLOTS {
            step(client, guest, &Op::Close { slot })?;
        }
        if guest.rng.chance(1, COMPARE_EVERY) {
            guest.board.begin(guest.number, "comparing", &home);
            let compared = client.compare_tree("between two rounds");
            guest.board.end(guest.number);
            compared?;
        }
    }
    guest.board.begin(guest.number, "comparing", &home);
    let compared = client.compare_tree("at the end");
    guest.board.end(guest.number);
    compared
}

/// Has the kernel ask once, alone, for its newer request to copy a range, which the library doesn't know. Two that ask
/// for the first time at once make it take the older one for unknown, too (`__fuse_copy_file_range` of Linux 6.18): from
/// then on it copies bytes itself, holes and all.
fn copy_once(mount: &Mount) -> std::io::Result<()> {
    let (from, to) = (mount.path(Path::new("from")), mount.path(Path::new("to")));
    std::fs::write(&from, "copied")?;
    let copied = rustix::fs::copy_file_range(File::open(&from)?, None, File::create(&to)?, None, 6)?;
    assert_eq!(copied, 6);
    std::fs::remove_file(from)?;
    std::fs::remove_file(to)
}

/// The clients' process: lives until the end, and once more after a remount.
fn run_clients(folder: PathBuf) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let board = Board::new(&folder.join(BOARD), CLIENTS).map_err(text)?;
    let mount = Mount::elsewhere(folder);
    let common = mount.path(Path::new("shared"));
    std::fs::create_dir(&common).map_err(text)?;
    copy_once(&mount).map_err(text)?;
    let shared = Shared::new(common, CLIENTS).map_err(text)?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let directory = PathBuf::from(format!("client{number}"));
        std::fs::create_dir(mount.path(&directory)).map_err(text)?;
        clients.push(Client::new(&mount, directory, Clockwork::Shared)?);
    }
    let (begun, mut rng) = (Instant::now(), TestRng::new(SEED));
    let end = begun + duration();
    std::thread::scope(|scope| {
        let at_work: Vec<_> = (clients.iter_mut().enumerate())
            .map(|(number, client)| {
                let mut guest = Guest { number, rng: rng.fork(), board: &board, serial: 0 };
                let (mount, shared) = (&mount, &shared);
                scope.spawn(move || {
                    live(mount, shared, client, &mut guest, end).map_err(|what| format!("client {number}: {what}"))
                })
            })
            .collect();
        let ended = at_work.into_iter().map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())));
        let failures: Vec<String> = ended.filter_map(Result::err).collect();
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    })?;
    let (done, seconds) = (board.summary(), begun.elapsed().as_secs_f64());
    eprintln!(
        "flood: {} operations in {seconds:.1} s, half within {:?}, 99 % within {:?}, all within {:?}",
        done.count, done.p50, done.p99, done.max
    );
    shared.check()?;
    mount.sync()?;
    clients.iter_mut().for_each(Client::let_go);
    report("agreed");
    wait_for_the_end();
    for client in &mut clients {
        client.attach(&mount)?;
        client.compare_tree("after a remount")?;
    }
    shared.check().map_err(|what| format!("after a remount: {what}"))?;
    clients.iter_mut().for_each(Client::let_go);
    report("agreed");
    wait_for_the_end();
    Ok(())
}

/// What a volume has to do. Where not even that is answered, nothing can be closed either, and the process ends.
fn figures(volume: &Arc<Volume>) -> String {
    let (sender, receiver) = mpsc::channel();
    let asked = Arc::clone(volume);
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        let _sent = sender.send(asked.stats());
    });
    let Ok(stats) = receiver.recv_timeout(END_MAX) else {
        let _written = writeln!(std::io::stderr(), "the volume does not answer");
        std::process::abort();
    };
    format!(
        "{} queued, {} dirty bytes, {} groups committed, {} bytes free",
        stats.queue_depth, stats.dirty_bytes, stats.groups_committed, stats.free_bytes
    )
}

/// Waits for the clients. Whoever is stuck is told of, and his mount is cut off so that he ends.
fn watch(mount: &Mount, clients: &mut Other) -> Result<(), String> {
    let board = mount.folder_path().join(BOARD);
    let connection = Connection::of(&mount.path(Path::new("")));
    let volume = mount.volume().ok_or("no volume")?;
    let process = Pid::from_raw(clients.pid()).ok_or("no process")?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watchdog = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(200));
                let Some(stuck) = watchdog::stuck(&board, STUCK_AFTER) else { continue };
                let waiting = connection.waiting();
                let told = format!(
                    "{stuck}requests that are not answered: {waiting:?}\nthreads of the volume:\n{}",
                    watchdog::own_threads()
                );
                // Past the test's captured output, which dies with the process.
                let _written = writeln!(std::io::stderr(), "{told}");
                let aborted = connection.abort();
                std::thread::sleep(END_MAX);
                if !is_over.load(Ordering::SeqCst) {
                    let _written = writeln!(std::io::stderr(), "they don't end: the abort said {aborted:?}");
                    rustix::process::kill_process(process, Signal::KILL).unwrap();
                }
                return Some(format!("{told}{}", figures(volume)));
            }
            None
        });
        let agreed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| clients.expect("agreed")));
        is_over.store(true, Ordering::SeqCst);
        match (watchdog.join(), agreed) {
            (Ok(None), Ok(())) => Ok(()),
            (Ok(Some(stuck)), _) => Err(format!("clients were stuck for {STUCK_AFTER:?}:\n{stuck}")),
            (Ok(None), Err(_)) => Err("the clients failed: they say above why".to_owned()),
            (Err(_), _) => Err("the watchdog panicked".to_owned()),
        }
    })
}

/// Fails, even where what is stuck is the volume, which then can't be closed.
fn give_up(mount: Mount, what: &str) -> ! {
    let (mountpoint, (sender, receiver)) = (mount.path(Path::new("")), mpsc::channel());
    std::thread::spawn(move || {
        drop(mount);
        // Nobody may be waiting any more.
        let _sent = sender.send(());
    });
    if receiver.recv_timeout(END_MAX).is_err() {
        let _written = writeln!(std::io::stderr(), "{what}\nthe volume can't be closed");
        let _detached = std::process::Command::new("umount").arg("-l").arg(mountpoint).status();
        std::process::abort();
    }
    panic!("{what}")
}

const FLOOD: &str = "flood::a_flood_of_clients_neither_locks_up_nor_loses_anything";

#[test]
fn a_flood_of_clients_neither_locks_up_nor_loses_anything() {
    let _alone = crate::alone();
    if let Some(folder) = told("FLOOD") {
        return run_clients(folder).unwrap_or_else(|what| panic!("{what}"));
    }
    let mut mount = Mount::real().unwrap();
    let mut clients = Other::start(FLOOD, "FLOOD", mount.folder_path());
    if let Err(what) = watch(&mount, &mut clients) {
        give_up(mount, &what);
    }
    let stats = mount.volume().unwrap().stats();
    let requests: u64 = stats.op_latencies.iter().map(|op| op.count).sum();
    let slowest = stats.op_latencies.iter().max_by(|left, right| left.p99_us.total_cmp(&right.p99_us)).unwrap();
    eprintln!(
        "flood: {requests} requests, 99 % of the slowest kind ({}) within {:.1} ms; {} MiB resident, {} MiB stored",
        slowest.op,
        slowest.p99_us / 1000.0,
        stats.memory_rss_bytes >> 20,
        stats.stored_bytes >> 20,
    );
    mount.remount().unwrap();
    clients.let_go();
    if let Err(what) = watch(&mount, &mut clients) {
        give_up(mount, &what);
    }
    clients.let_go();
    drop(clients);
    mount.finish().unwrap();
}
