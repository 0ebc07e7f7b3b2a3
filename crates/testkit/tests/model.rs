//! The volume does what POSIX says: random operations on it and on the model, without a mount and without crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use verfs_testkit::{
    Campaign, Generator, Listed, Op, Purpose, Settings, Step, TestRng, caught, fresh, note, shrink, shrink_time,
};

/// Operations between two comparisons of the whole tree.
const COMPARE_EVERY: usize = 25;

fn run(settings: &Settings, ops: &[Op], seed: u64) -> Result<(), String> {
    note(format!("{settings}\n{}", Listed(ops)));
    let (machine, mut session, _) = fresh(settings, seed)?;
    for (number, op) in ops.iter().enumerate() {
        match session.step(op).map_err(|difference| format!("operation {number}: {difference}"))? {
            Step::Agreed => {}
            Step::Failed { error, .. } => return Err(format!("operation {number}: {op}: the volume said {error}")),
        }
        if number % COMPARE_EVERY == COMPARE_EVERY - 1 {
            session.compare_tree(&format!("after operation {number}")).map_err(|stop| stop.to_string())?;
            machine.audit().map_err(|what| format!("after operation {number}: {what}"))?;
        }
    }
    session.compare_tree("at the end").map_err(|stop| stop.to_string())?;
    let remounted = session.step(&Op::Remount)?;
    assert!(matches!(remounted, Step::Agreed), "{remounted:?}");
    drop(session);
    machine.check_released()?;
    if seed.is_multiple_of(2) {
        // Nothing must be left of them.
        machine.delete_snapshots()?;
        machine.check_released()?;
        machine.audit()?;
    }
    machine.close()
}

fn case(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let settings = Settings::random(&mut rng);
    let model = verfs_testkit::Model::new(verfs_base::Timestamp::default(), 0o755);
    let len = rng.between(10, 120) as usize;
    let bytes = *rng.pick(&[100_000, 1 << 20, 8 << 20]);
    let ops = Generator::new(rng.fork(), model, Purpose::Model, bytes).sequence(len);
    let Err(reason) = caught(|| run(&settings, &ops, seed)) else { return Ok(()) };
    let (ops, reason) =
        shrink(&ops, reason, shrink_time(), Op::simpler, |ops| caught(|| run(&settings, ops, seed)).err());
    Err(format!("{reason}\n{settings}\n{}", Listed(&ops)))
}

#[test]
fn the_volume_equals_the_model() {
    Campaign::new("the_volume_equals_the_model", 4000, Duration::from_secs(25)).run(case);
}
