//! The conformance suite: what every engine promises, checked on all of them, and what only one of them has to guard.
//!
//! Runs as root: the tests of full disks and of lost power mount file systems of their own.
//! `VERFS_TEST_FACTOR=n` makes the random tests n times as long.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod subject;

/// Makes a test of each function for each engine.
macro_rules! for_every_engine {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $test() { super::$test(crate::subject::Subject::Memory); })+
        }
        for_kept_engines!($($test),+);
    };
}

/// The same without the reference model, which has nothing on a disk.
macro_rules! for_kept_engines {
    ($($test:ident),+ $(,)?) => {
        mod surrealkv {
            $(#[test] fn $test() { super::$test(verfs_meta::EngineKind::Surrealkv.into()); })+
        }
        mod fjall {
            $(#[test] fn $test() { super::$test(verfs_meta::EngineKind::Fjall.into()); })+
        }
    };
}

mod child;
mod concurrency;
mod contract;
mod crash;
mod damage;
mod directory;
mod fjall_damage;
mod latency;
mod model;
mod mounted;
mod space;
