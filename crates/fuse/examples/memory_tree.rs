//! Mounts a tree in memory, to measure the transport without a volume:
//! `memory_tree MOUNTPOINT [POLL_US [TRANSPORT]]`. Prints the requests since the last line whenever a line is read from standard
//! input, and unmounts at its end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a tool for measuring")]

#[path = "../tests/support/memory_tree.rs"]
#[allow(dead_code, reason = "the tests look deeper")]
mod memory_tree;

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use verfs_fuse::{Session, SessionOptions, TransportChoice};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mountpoint = arguments.next().expect("usage: memory_tree MOUNTPOINT [POLL_US [TRANSPORT]]");
    let mut options = SessionOptions::default();
    if let Some(poll_us) = arguments.next() {
        options.poll_us = poll_us.parse().expect("microseconds");
    }
    if let Some(name) = arguments.next() {
        options.transport = TransportChoice::named(&name).expect("a transport");
    }
    let tree = Arc::new(memory_tree::MemoryTree::new());
    let session = Session::mount(tree, Path::new(&mountpoint), &options).unwrap_or_else(|error| panic!("{error}"));
    println!("mounted, {}", session.stats().transport);
    let mut seen = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let label = line.unwrap();
        let stats = session.stats();
        let counts: Vec<String> = stats
            .operations
            .iter()
            .filter_map(|operation| {
                let new = operation.count - seen.insert(operation.operation, operation.count).unwrap_or(0);
                let name = operation.operation.name();
                (new > 0).then(|| format!("{name}={new} (p50 {:?}, p99 {:?})", operation.p50, operation.p99))
            })
            .collect();
        println!("{label}: {}; polls started {}", counts.join(" "), stats.polls_started);
    }
    session.unmount().unwrap_or_else(|error| panic!("{error}"));
}
