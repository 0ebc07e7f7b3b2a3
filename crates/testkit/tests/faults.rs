//! A disk that fails: the caller hears of it, the volume goes on or is read-only, and the promises hold afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use verfs_testkit::{
    Call, Campaign, DiskError, Fault, FaultCase, Generator, Lasting, Model, Op, Purpose, Settings, TestRng, caught,
    shrink, shrink_time,
};

/// Faults tried for each sequence.
const FAULTS: usize = 12;
/// Faults tried for each smaller sequence while shrinking.
const SHRINK_FAULTS: usize = 60;

fn any_fault(case: &FaultCase, rng: &mut TestRng, faults: usize) -> Option<String> {
    let counts = match caught(|| case.dry_run()) {
        Ok(counts) if counts.is_empty() => return None,
        Ok(counts) => counts,
        Err(what) => return Some(format!("without a fault: {what}")),
    };
    (0..faults).find_map(|_| {
        let (call, count) = *rng.pick(&counts);
        let error = *rng.pick(&[DiskError::Broken, DiskError::Full, DiskError::OutOfFiles]);
        let lasting = *rng.pick(&[Lasting::Once, Lasting::Forever]);
        let fault = Fault { call, nth: rng.below(count), error, lasting };
        let seed = rng.bits();
        caught(|| case.run(fault, seed)).err().map(|what| format!("{fault:?}: {what}"))
    })
}

fn fault(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let settings = Settings::random(&mut rng);
    let model = Model::new(verfs_base::Timestamp::default(), 0o755);
    let len = rng.between(3, 30) as usize;
    let ops = Generator::new(rng.fork(), model, Purpose::Fault, 2 << 20).sequence(len);
    let case = FaultCase { settings, ops };
    let Some(reason) = any_fault(&case, &mut rng, FAULTS) else { return Ok(()) };
    let fails = |ops: &[Op]| any_fault(&FaultCase { ops: ops.to_vec(), ..case.clone() }, &mut rng, SHRINK_FAULTS);
    let (ops, reason) = shrink(&case.ops, reason, shrink_time(), Op::simpler, fails);
    Err(format!("{reason}\n{}", FaultCase { ops, ..case }))
}

#[test]
fn a_failing_call_is_reported_and_breaks_no_promise() {
    Campaign::new("a_failing_call_is_reported_and_breaks_no_promise", 500, Duration::from_secs(25)).run(fault);
}

/// Faults of [`descriptors_that_run_out_at_any_call_lose_nothing_and_the_volume_goes_on`] that were tried.
static TRIED: AtomicU64 = AtomicU64::new(0);

/// Runs a sequence once for each call that it makes, which finds no descriptor, and once for each kind of them with none
/// from some call on.
fn out_of_files(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let settings = Settings::random(&mut rng);
    let model = Model::new(verfs_base::Timestamp::default(), 0o755);
    let len = rng.between(3, 12) as usize;
    let ops = Generator::new(rng.fork(), model, Purpose::Fault, 2 << 20).sequence(len);
    let case = FaultCase { settings, ops };
    let counts = caught(|| case.dry_run())?;
    let run = |call: Call, nth: u64, lasting: Lasting| {
        TRIED.fetch_add(1, Ordering::Relaxed);
        let fault = Fault { call, nth, error: DiskError::OutOfFiles, lasting };
        caught(|| case.run(fault, seed)).map_err(|what| format!("{fault:?}: {what}\n{case}"))
    };
    for (call, count) in counts {
        (0..count).try_for_each(|nth| run(call, nth, Lasting::Once))?;
        run(call, rng.below(count), Lasting::Forever)?;
    }
    Ok(())
}

/// A shortage passes: unlike a broken disk it must leave no volume read-only, and nothing of it is damage.
#[test]
fn descriptors_that_run_out_at_any_call_lose_nothing_and_the_volume_goes_on() {
    let name = "descriptors_that_run_out_at_any_call_lose_nothing_and_the_volume_goes_on";
    let cases = Campaign::new(name, 40, Duration::from_secs(20)).run(out_of_files);
    let tried = TRIED.load(Ordering::Relaxed);
    eprintln!("calls without a descriptor: {tried}");
    assert!(tried >= cases, "{cases} cases, and {tried} calls were refused");
}
