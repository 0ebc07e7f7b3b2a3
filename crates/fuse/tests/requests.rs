//! Every request of the kernel's protocol is written down in docs/REQUESTS.md, with what becomes of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use verfs_fuse::Operation;

/// The source of the library, where cargo has it.
fn library() -> PathBuf {
    // Of this platform only: what others need may not have been fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(metadata.stdout).unwrap();
    let manifest = text.split('"').find(|word| word.contains("/fuser-") && word.ends_with("/Cargo.toml"));
    Path::new(manifest.unwrap()).parent().unwrap().to_path_buf()
}

/// Callbacks of the library's trait on Linux.
fn callbacks(source: &str) -> BTreeSet<String> {
    let (_, rest) = source.split_once("pub trait Filesystem").unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let mut names = BTreeSet::new();
    let mut elsewhere = false;
    for line in body.lines() {
        if let Some(function) = line.strip_prefix("    fn ") {
            if !elsewhere {
                names.insert(function.split(['(', '<']).next().unwrap().to_owned());
            }
            elsewhere = false;
        } else if line.contains("target_os = \"macos\"") {
            elsewhere = true;
        }
    }
    names
}

fn listed(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
    rows.map(|row| row.split('|').next().unwrap().trim().to_owned()).filter(|name| !name.starts_with('-')).collect()
}

#[test]
fn every_request_of_the_protocol_is_accounted_for() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/REQUESTS.md");
    let expected: BTreeSet<String> = Operation::ALL.iter().map(|operation| operation.name().to_owned()).collect();
    assert_eq!(listed(&std::fs::read_to_string(page).unwrap()), expected);
    // The library gives some of them names of its own, and passes others on as one.
    let library = callbacks(&std::fs::read_to_string(library().join("src/lib.rs")).unwrap());
    assert!(library.len() > 30, "the trait was not read: {library:?}");
    assert_eq!(library.difference(&expected).collect::<Vec<_>>(), Vec::<&String>::new());
}
