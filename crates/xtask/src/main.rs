//! House rules as commands: `cargo xtask layers` and `cargo xtask tidy`.
//!
//! Lives here: checks of the repository that no tool of others does. Never here: anything that a product needs.
//! Data flows from the files of the repository to a list of violations.
#![forbid(unsafe_code)]

mod crate_layers;
mod failure;
mod package_layers;
mod sources;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::failure::XtaskError;

/// What a check found.
struct Report {
    /// How many things it looked at: a check that saw nothing has failed.
    seen: usize,
    /// One line each.
    violations: Vec<String>,
}

/// What a check looks at, and the check.
type Check = (&'static str, fn(&Path) -> Result<Report, XtaskError>);

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let root = repository();
    let checks: &[Check] = match command.as_str() {
        "layers" => &[("crates", crate_layers::check), ("imports of TypeScript", package_layers::check)],
        "tidy" => &[("files", tidy::check)],
        _ => {
            eprintln!("usage: cargo xtask layers | tidy");
            return ExitCode::from(2);
        }
    };
    let mut is_clean = true;
    for (what, check) in checks {
        match check(&root) {
            Ok(Report { seen: 0, .. }) => {
                is_clean = false;
                eprintln!("{command}: saw no {what}: the check itself is broken");
            }
            Ok(Report { seen, violations }) => {
                is_clean &= violations.is_empty();
                violations.iter().for_each(|violation| eprintln!("{violation}"));
                println!("{command}: {seen} {what}, {} violations", violations.len());
            }
            Err(error) => {
                is_clean = false;
                eprintln!("{command}: {error}");
            }
        }
    }
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The root of the repository: two levels above this crate.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
