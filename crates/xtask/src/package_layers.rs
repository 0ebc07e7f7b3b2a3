//! Imports between TypeScript packages go strictly downwards, and through their front doors.

use std::path::{Component, Path};

use crate::Report;
use crate::failure::XtaskError;
use crate::sources::{read, tracked_files};

/// Packages and their levels. A package may import those of lower levels only.
const LEVELS: &[(&str, u32)] = &[
    ("errors", 0),
    ("config", 1),
    ("log", 1),
    ("native", 1),
    ("fs", 2),
    ("snapshots", 2),
    ("vault", 2),
    ("sdk", 3),
    ("cli", 4),
];

/// The addon's package, and the only package that may import it.
const BINDINGS: (&str, &str) = ("bindings", "native");

fn level(name: &str) -> Option<u32> {
    LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
}

/// Checks every import in packages/*/src.
pub fn check(root: &Path) -> Result<Report, XtaskError> {
    let mut report = Report { seen: 0, violations: Vec::new() };
    for path in tracked_files(root)? {
        let parts: Vec<&str> = path.components().filter_map(part).collect();
        let ["packages", package, "src", inner @ ..] = parts.as_slice() else {
            continue;
        };
        let imports = imports_in(&read(root, &path)?);
        report.seen += imports.len();
        for import in imports {
            let found = violation(package, inner.len(), &import);
            report.violations.extend(found.map(|violation| format!("{}: {violation}", path.display())));
        }
    }
    Ok(report)
}

fn part(component: Component<'_>) -> Option<&str> {
    match component {
        Component::Normal(name) => name.to_str(),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    }
}

/// What `text` imports: the quoted word after `from`, `import` and `import(`.
fn imports_in(text: &str) -> Vec<String> {
    let mut imports = Vec::new();
    for keyword in ["from '", "import '", "import('", "require('"] {
        for (position, _) in text.match_indices(keyword) {
            let rest = &text[position + keyword.len()..];
            let line = rest.lines().next().unwrap_or_default();
            imports.extend(line.split_once('\'').map(|(import, _)| import.to_owned()));
        }
    }
    imports
}

/// What is wrong with `import` in a file of `package` that lies `depth` names below its `src`.
fn violation(package: &str, depth: usize, import: &str) -> Option<String> {
    let Some(above) = level(package) else {
        return Some(format!("package {package} has no level: give it one in crates/xtask/src/package_layers.rs"));
    };
    if import.starts_with('.') {
        let up = import.split('/').filter(|part| *part == "..").count();
        return (up >= depth).then(|| format!("{import} leaves the package: import it by its name"));
    }
    let imported = import.strip_prefix("@verfs/")?.split('/').next()?;
    if imported == BINDINGS.0 {
        return (package != BINDINGS.1).then(|| format!("only {} may import {import}", BINDINGS.1));
    }
    match level(imported) {
        None => Some(format!("{import} has no level: give it one in crates/xtask/src/package_layers.rs")),
        Some(below) => (above <= below).then(|| {
            format!("{package} (level {above}) imports {import} (level {below}): imports go strictly downwards")
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn every_form_of_import_is_seen() {
        let text = "import { a } from '@verfs/sdk';\nexport * from './x.ts';\nimport 'side';\nawait import('late');\n\
                    createRequire(url)('no');\nimport {\n  b,\n} from '@verfs/log';\nrequire('old');\n";
        let mut imports = imports_in(text);
        imports.sort();
        assert_eq!(imports, ["./x.ts", "@verfs/log", "@verfs/sdk", "late", "old", "side"]);
    }

    #[test]
    fn a_canary_that_imports_upwards_sideways_or_around_is_found() {
        for (package, depth, import) in [
            ("errors", 1, "@verfs/config"),
            ("config", 1, "@verfs/log"),
            ("native", 1, "@verfs/sdk/control"),
            ("sdk", 1, "@verfs/bindings"),
            ("sdk", 1, "../../config/src/load.ts"),
            ("sdk", 2, "../../config.ts"),
            ("new", 1, "winston"),
            ("cli", 1, "@verfs/policy"),
        ] {
            assert!(violation(package, depth, import).is_some(), "{package}: {import}");
        }
    }

    #[test]
    fn downward_imports_are_fine() {
        for (package, depth, import) in [
            ("cli", 1, "@verfs/sdk/daemon"),
            ("native", 1, "@verfs/bindings"),
            ("sdk", 2, "../mounts.ts"),
            ("config", 1, "./keys.ts"),
            ("errors", 1, "node:fs"),
        ] {
            assert_eq!(violation(package, depth, import), None);
        }
    }

    #[test]
    fn this_repository_is_clean_and_was_looked_at() {
        let report = check(&crate::repository()).unwrap();
        assert_eq!(report.violations, Vec::<String>::new());
        assert!(report.seen > 100, "saw only {} imports", report.seen);
    }
}
