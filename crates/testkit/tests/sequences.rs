//! Every short sequence of core operations, cut at every call: those of one operation whole, of two as far as time goes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::time::Duration;

use verfs_testkit::{Call, Campaign, Crashes, FsyncPath, SequenceCase, Sequences, caught};

fn case(sequences: &Sequences, path: FsyncPath, number: u64, crashes: Crashes) -> Result<(), String> {
    let case = SequenceCase { ops: sequences.sequence(number), path, pretended: None };
    caught(|| case.run(crashes, number)).map(|_| ())
}

#[test]
fn the_sequences_of_two_operations_are_all_different() {
    let sequences = Sequences::of_length(2);
    let all: BTreeSet<String> =
        (0..sequences.count()).map(|number| format!("{:?}", sequences.sequence(number))).collect();
    assert_eq!(all.len() as u64, sequences.count());
}

/// The check of the check: what a sync did not do is missed by some sequence.
#[test]
fn syncs_that_only_pretend_are_found_out() {
    let sequences = Sequences::of_length(1);
    for (pretended, path) in
        [(Call::SyncData, FsyncPath::Log), (Call::SyncData, FsyncPath::Group), (Call::MetaSync, FsyncPath::Group)]
    {
        let fails = |number| {
            let case = SequenceCase { ops: sequences.sequence(number), path, pretended: Some(pretended) };
            caught(|| case.run(Crashes::EveryStyle, number)).is_err()
        };
        assert!((0..sequences.count()).any(fails), "nobody noticed that {pretended:?} did nothing, fsync by {path:?}");
    }
}

/// All of them, with every manner of crash at every call.
#[test]
fn a_crash_in_any_sequence_of_one_operation_keeps_the_promises() {
    let sequences = Sequences::of_length(1);
    let count = sequences.count();
    let run =
        |number| case(&sequences, FsyncPath::BOTH[(number / count) as usize], number % count, Crashes::EveryStyle);
    let name = "a_crash_in_any_sequence_of_one_operation_keeps_the_promises";
    let done = Campaign::new(name, 2 * count, Duration::from_secs(600)).run_through(2 * count, run);
    let is_part = ["VERFS_TEST_CASES", "VERFS_TEST_SEED"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(done == 2 * count || is_part, "{done} of {}", 2 * count);
}

/// As many as there is time for; all of them where `VERFS_TEST_CRASH_POINTS` is set.
#[test]
fn a_crash_in_a_sequence_of_two_operations_keeps_the_promises() {
    let sequences = Sequences::of_length(2);
    let count = sequences.count();
    let run = |number| case(&sequences, FsyncPath::BOTH[(number / count) as usize], number % count, Crashes::OneStyle);
    let name = "a_crash_in_a_sequence_of_two_operations_keeps_the_promises";
    Campaign::new(name, 20_000, Duration::from_secs(60)).with_share(30).run_through(2 * count, run);
}
