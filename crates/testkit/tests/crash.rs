//! Promises 1 and 2: what was said to be durable is, and the rest is a past that the volume really had.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use verfs_testkit::{
    Campaign, CrashCase, Cut, Generator, Model, Op, Purpose, Settings, TestRng, ThreadsCase, caught, shrink,
    shrink_time,
};

/// Cuts of one sequence.
const CUTS: usize = 8;
/// Cuts tried for each smaller sequence while shrinking: threads don't repeat themselves.
const SHRINK_CUTS: u64 = 60;

fn any_cut(case: &CrashCase, rng: &mut TestRng, cuts: u64) -> Option<(Cut, String)> {
    let calls = match caught(|| case.dry_run()) {
        Ok(calls) => calls,
        Err(what) => return Some((Cut { at: 0, seed: 0 }, format!("without a cut: {what}"))),
    };
    (0..cuts).find_map(|_| {
        let cut = Cut { at: rng.below(calls + 1), seed: rng.bits() };
        caught(|| case.run(cut)).err().map(|what| (cut, format!("{cut:?} of {calls} calls: {what}")))
    })
}

fn crash(seed: u64, settings: impl Fn(&mut TestRng) -> Settings) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let settings = settings(&mut rng);
    let model = Model::new(verfs_base::Timestamp::default(), 0o755);
    let mut generator = Generator::new(rng.fork(), model, Purpose::Crash, 600_000);
    let first = generator.sequence(rng.between(3, 40) as usize);
    let second = generator.sequence(rng.between(0, 15) as usize);
    let case = CrashCase { settings, first, second };
    let Some((cut, reason)) = any_cut(&case, &mut rng, CUTS as u64) else { return Ok(()) };
    let mut rng = TestRng::new(cut.seed);
    let fails = |ops: &[Op]| {
        let case = CrashCase { first: ops.to_vec(), ..case.clone() };
        any_cut(&case, &mut rng, SHRINK_CUTS).map(|(_, reason)| reason)
    };
    let (first, reason) = shrink(&case.first, reason, shrink_time(), Op::simpler, fails);
    let fails = |ops: &[Op]| {
        let case = CrashCase { first: first.clone(), second: ops.to_vec(), ..case.clone() };
        any_cut(&case, &mut rng, SHRINK_CUTS).map(|(_, reason)| reason)
    };
    let (second, reason) = shrink(&case.second, reason, shrink_time() / 3, Op::simpler, fails);
    Err(format!("{reason}\n{}", CrashCase { first, second, ..case }))
}

#[test]
fn a_crash_leaves_a_past_of_the_volume() {
    let case = |seed| crash(seed, Settings::random);
    Campaign::new("a_crash_leaves_a_past_of_the_volume", 2000, Duration::from_secs(25)).with_share(20).run(case);
}

/// Groups never close by themselves here, so that what survives is known exactly: this finds what the other test takes
/// for luck.
#[test]
fn a_crash_leaves_the_last_sync_where_only_syncs_commit() {
    let case = |seed| crash(seed, |rng| Settings::random(rng).quiet());
    let name = "a_crash_leaves_the_last_sync_where_only_syncs_commit";
    Campaign::new(name, 2000, Duration::from_secs(25)).with_share(20).run(case);
}

/// Callers at once.
const CALLERS: usize = 3;

fn threads(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let settings = Settings::random(&mut rng);
    let callers = (0..CALLERS).map(|_| {
        let model = Model::new(verfs_base::Timestamp::default(), 0o755);
        let len = rng.between(5, 40) as usize;
        Generator::new(rng.fork(), model, Purpose::Threads, 300_000).sequence(len)
    });
    let callers = callers.collect();
    let case = ThreadsCase { settings, callers };
    for _ in 0..CUTS {
        let cut = Cut { at: rng.below(rng.clone().between(1, 150)), seed: rng.bits() };
        if let Err(reason) = caught(|| case.run(cut)) {
            // Which thread came first is no part of the sequence: a smaller one would fail for luck.
            return Err(format!("{cut:?}: {reason}\n{case}"));
        }
    }
    Ok(())
}

#[test]
fn a_crash_leaves_each_of_several_callers_a_past_of_its_own() {
    let name = "a_crash_leaves_each_of_several_callers_a_past_of_its_own";
    Campaign::new(name, 2000, Duration::from_secs(25)).with_share(10).run(threads);
}
