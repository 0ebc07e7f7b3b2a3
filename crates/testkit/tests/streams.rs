//! A stream that a receiver could not take to its end leaves it as it was, or is taken to its end later.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use verfs_testkit::{
    Blow, Call, Campaign, DiskError, Fault, Generator, Lasting, Model, Op, Purpose, Settings, SnapshotOp, StreamCase,
    TestRng, caught, shrink, shrink_time,
};

/// Blows tried for each sequence.
const BLOWS: usize = 6;
/// Blows tried for each smaller sequence while shrinking.
const SHRINK_BLOWS: usize = 40;

/// Makes a blow: of one stream that takes so many changing calls.
type Strike = fn(&mut TestRng, u64) -> Blow;

fn any_blow(case: &StreamCase, rng: &mut TestRng, blows: usize, strike: Strike) -> Option<String> {
    let calls = match caught(|| case.dry_run()) {
        Ok(calls) if calls.is_empty() => return None,
        Ok(calls) => calls,
        Err(what) => return Some(format!("undisturbed: {what}")),
    };
    (0..blows).find_map(|_| {
        let at = rng.index(calls.len());
        let (blow, seed) = (strike(rng, calls[at]), rng.bits());
        caught(|| case.run(at, blow, seed)).err().map(|what| format!("stream {at}, {blow:?}, {seed:#x}: {what}"))
    })
}

fn case(seed: u64, strike: Strike, settings: fn(&mut TestRng) -> Settings) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let settings = settings(&mut rng);
    let model = Model::new(verfs_base::Timestamp::default(), 0o755);
    let mut generator = Generator::new(rng.fork(), model, Purpose::Crash, 400_000);
    let mut ops = generator.sequence(rng.between(3, 30) as usize);
    // The generator leaves snapshots out of half of its sequences.
    for name in 0..rng.below(4) as u8 {
        ops.insert(rng.index(ops.len()), Op::Snapshot(SnapshotOp::Create(name)));
    }
    let case = StreamCase { settings, ops };
    let Some(reason) = any_blow(&case, &mut rng, BLOWS, strike) else { return Ok(()) };
    let fails =
        |ops: &[Op]| any_blow(&StreamCase { ops: ops.to_vec(), ..case.clone() }, &mut rng, SHRINK_BLOWS, strike);
    let (ops, reason) = shrink(&case.ops, reason, shrink_time(), Op::simpler, fails);
    Err(format!("{reason}\n{}", StreamCase { ops, ..case }))
}

#[test]
fn a_receiver_whose_power_goes_has_what_it_had_or_what_came() {
    let cut = |rng: &mut TestRng, calls| Blow::Cut(rng.below(calls + 1));
    let run = |seed| case(seed, cut, Settings::random);
    let name = "a_receiver_whose_power_goes_has_what_it_had_or_what_came";
    Campaign::new(name, 1000, Duration::from_secs(15)).with_share(10).run(run);
}

#[test]
fn a_receiver_whose_disk_fails_has_what_it_had_or_what_came() {
    let fault = |rng: &mut TestRng, calls| {
        let call = *rng.pick(&Call::ALL);
        let error = *rng.pick(&[DiskError::Broken, DiskError::Full, DiskError::OutOfFiles]);
        let lasting = *rng.pick(&[Lasting::Once, Lasting::Forever]);
        Blow::Fault(Fault { call, nth: rng.below(calls / 3 + 1), error, lasting })
    };
    let run = |seed| case(seed, fault, Settings::random);
    Campaign::new("a_receiver_whose_disk_fails_has_what_it_had_or_what_came", 1000, Duration::from_secs(15)).run(run);
}

#[test]
fn a_receiver_whose_disk_is_full_refuses_before_it_accepts() {
    let settings = |rng: &mut TestRng| {
        let mut settings = Settings::random(rng);
        // Tiny packs and chunks take more room beside the data than any reserve is made for.
        settings.store.pack_target_bytes = *rng.pick(&[4 << 20, 64 << 20]);
        settings.chunk_mean_bytes = settings.chunk_mean_bytes.max(4096);
        settings
    };
    let full = |rng: &mut TestRng, _| Blow::Full(rng.below(1 << rng.clone().between(10, 22)));
    let run = |seed| case(seed, full, settings);
    Campaign::new("a_receiver_whose_disk_is_full_refuses_before_it_accepts", 1000, Duration::from_secs(15)).run(run);
}
