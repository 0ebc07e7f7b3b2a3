//! A task that panics is begun anew or is over, and has a name either way.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_steady_task_that_panics_is_begun_anew_and_ends_with_the_others() {
    let tasks = Tasks::new();
    let (began, begins) = crossbeam_channel::unbounded();
    let runs = AtomicU32::new(0);
    let job = move |stop: &StopSignal| {
        began.send(()).unwrap();
        assert!(runs.fetch_add(1, Ordering::SeqCst) > 0, "a defect, on purpose");
        // Until it is told to stop.
        assert!(stop.recv().is_err());
    };
    tasks.start_steady("steady", job).unwrap();
    (0..2).for_each(|_| begins.recv_timeout(PATIENCE).unwrap());
    assert_eq!(tasks.defects(), [Defect { name: "steady", kind: Kind::Steady, times: 1 }]);
    tasks.stop();
    tasks.join();
    assert!(begins.try_recv().is_err(), "it was begun once too often");
}

#[test]
fn an_errand_that_panics_is_over_and_named_and_keeps_nothing_from_stopping() {
    let tasks = Tasks::new();
    let (held, gone) = crossbeam_channel::bounded::<()>(0);
    tasks
        .start("errand", move |_| {
            let _held = held;
            panic!("a defect, on purpose");
        })
        .unwrap();
    // Whoever waits for what it has hears that it is gone.
    assert_eq!(gone.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    tasks.stop();
    tasks.join();
    assert_eq!(tasks.defects(), [Defect { name: "errand", kind: Kind::Errand, times: 1 }]);
}
