//! Imports between crates go strictly downwards.

use std::path::Path;

use serde_json::Value;

use crate::Report;
use crate::failure::XtaskError;
use crate::sources::output_of;

/// Crates and their levels, as docs/ARCHITECTURE.md has them. A crate may import those of lower levels only.
const LEVELS: &[(&str, u32)] = &[
    ("verfs-base", 0),
    ("verfs-memory", 0),
    ("verfs-format", 1),
    ("verfs-chunker", 1),
    ("verfs-codec", 1),
    ("verfs-pack", 2),
    ("verfs-meta", 2),
    ("verfs-store", 3),
    ("verfs-vfs", 4),
    ("verfs-fuse", 5),
    ("verfs-engine", 6),
    ("verfs-node", 7),
];

/// Crates for development: they may import any, and only tests may import them.
const DEVELOPMENT: &[&str] = &["verfs-testkit", "verfs-bench-client", "xtask"];

fn level(name: &str) -> Option<u32> {
    LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
}

/// Checks the dependencies that `cargo metadata` tells.
pub fn check(root: &Path) -> Result<Report, XtaskError> {
    let metadata = output_of("cargo", &["metadata", "--format-version", "1", "--no-deps", "--offline"], root)?;
    let what = "the output of cargo metadata";
    let metadata: Value = serde_json::from_str(&metadata)
        .map_err(|error| XtaskError::Json { what: what.to_owned(), detail: error.to_string() })?;
    violations_in(&metadata)
        .ok_or_else(|| XtaskError::Json { what: what.to_owned(), detail: "it lists no packages".to_owned() })
}

fn violations_in(metadata: &Value) -> Option<Report> {
    let packages = metadata.get("packages")?.as_array()?;
    let mut violations = Vec::new();
    for package in packages {
        let name = package.get("name")?.as_str()?;
        if level(name).is_none() && !DEVELOPMENT.contains(&name) {
            violations.push(format!("crate {name} has no level: give it one in crates/xtask/src/crate_layers.rs"));
        }
        for dependency in package.get("dependencies")?.as_array()? {
            let is_for_tests = dependency.get("kind")?.as_str() == Some("dev");
            let imported = dependency.get("name")?.as_str()?;
            violations.extend(violation(name, imported, is_for_tests));
        }
    }
    Some(Report { seen: packages.len(), violations })
}

fn violation(importer: &str, imported: &str, is_for_tests: bool) -> Option<String> {
    if DEVELOPMENT.contains(&importer) || (is_for_tests && DEVELOPMENT.contains(&imported)) {
        return None;
    }
    if DEVELOPMENT.contains(&imported) {
        return Some(format!("{importer} imports {imported}, which is for tests only"));
    }
    let (above, below) = (level(importer)?, level(imported)?);
    (above <= below).then(|| {
        format!("{importer} (level {above}) imports {imported} (level {below}): imports go strictly downwards")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    fn metadata(importer: &str, imported: &str, kind: Option<&str>) -> Value {
        json!({ "packages": [{ "name": importer, "dependencies": [{ "name": imported, "kind": kind }] }] })
    }

    #[test]
    fn a_canary_that_imports_upwards_or_sideways_is_found() {
        for (importer, imported) in
            [("verfs-base", "verfs-vfs"), ("verfs-store", "verfs-store"), ("verfs-pack", "verfs-meta")]
        {
            for kind in [None, Some("build"), Some("dev")] {
                let report = violations_in(&metadata(importer, imported, kind)).unwrap();
                assert_eq!((report.seen, report.violations.len()), (1, 1), "{importer} -> {imported}, {kind:?}");
            }
        }
    }

    #[test]
    fn downward_imports_and_foreign_crates_are_fine() {
        for (importer, imported) in [
            ("verfs-vfs", "verfs-base"),
            ("verfs-node", "verfs-engine"),
            ("verfs-base", "serde"),
            ("xtask", "verfs-vfs"),
        ] {
            assert!(violations_in(&metadata(importer, imported, None)).unwrap().violations.is_empty(), "{importer}");
        }
    }

    #[test]
    fn the_test_kit_is_for_tests() {
        let found = |kind| violations_in(&metadata("verfs-vfs", "verfs-testkit", kind)).unwrap().violations.len();
        assert_eq!((found(Some("dev")), found(None)), (0, 1));
    }

    #[test]
    fn a_crate_without_a_level_is_found() {
        assert_eq!(violations_in(&metadata("verfs-new", "serde", None)).unwrap().violations.len(), 1);
    }

    #[test]
    fn this_repository_is_clean_and_was_looked_at() {
        let report = check(&crate::repository()).unwrap();
        assert_eq!(report.violations, Vec::<String>::new());
        assert!(report.seen >= LEVELS.len(), "saw only {} crates", report.seen);
    }
}
