//! Rules for single files: their size, their name, and what must not be in them.

use std::path::Path;

use crate::Report;
use crate::failure::XtaskError;
use crate::sources::{read, tracked_files};

/// Longer files have more than one reason to change.
const LINES_MAX: usize = 800;
/// Names that say nothing of what is in a file or folder.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc"];
/// Endings of files that people write code in.
const CODE: &[&str] = &["rs", "ts", "mjs", "js", "c"];
/// Files of others, and generated ones.
const EXEMPT: &[&str] = &["Cargo.lock", "package-lock.json", "bindings/node/index.d.ts"];

/// Checks every file of the repository.
pub fn check(root: &Path) -> Result<Report, XtaskError> {
    let mut report = Report { seen: 0, violations: Vec::new() };
    for path in tracked_files(root)? {
        let Some(name) = path.to_str() else {
            report.violations.push(format!("{}: the name is no UTF-8", path.display()));
            continue;
        };
        if EXEMPT.contains(&name) {
            continue;
        }
        report.seen += 1;
        let found = violations_in(name, &read(root, &path)?);
        report.violations.extend(found.into_iter().map(|violation| format!("{name}{violation}")));
    }
    Ok(report)
}

fn is_code(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| CODE.contains(&ending))
}

/// What is wrong with the file `name`, as `:LINE: what` or `: what`.
fn violations_in(name: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let words = name.split(['/', '.', '-', '_']);
    violations.extend(words.filter(|word| EMPTY_NAMES.contains(word)).map(|word| format!(": {word} names nothing")));
    let lines = text.lines().count();
    if is_code(name) && lines > LINES_MAX {
        violations.push(format!(": {lines} lines are more than {LINES_MAX}: split it"));
    }
    for (index, line) in text.lines().enumerate() {
        let mut add = |what: String| violations.push(format!(":{}: {what}", index + 1));
        if let Some(path) = machine_path(line) {
            add(format!("{path} is a path of one machine"));
        }
        if is_code(name) {
            nameless_mark(line).into_iter().for_each(|mark| add(format!("{mark} without an issue: {mark}(issue)")));
        }
    }
    if name.ends_with(".rs") {
        violations.extend(panics_in(name, text));
    }
    violations
}

/// A path that exists on the machine of one developer.
fn machine_path(line: &str) -> Option<&'static str> {
    // Put together here, so that this file doesn't break its own rule.
    const PATHS: &[(&str, &str)] = &[("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/Us", "ers/")];
    const NAMES: [&str; 4] = ["/w…/", "/r…/", "/h…/", "/U…/"];
    let found = PATHS.iter().position(|(start, end)| {
        line.match_indices(&format!("{start}{end}")).any(|(position, _)| {
            // It may be inside another path, such as a relative one.
            let before = line[..position].chars().next_back();
            !before.is_some_and(|character| character.is_alphanumeric() || "_-.*}~".contains(character))
        })
    })?;
    NAMES.get(found).copied()
}

/// A mark for later that doesn't name its issue.
fn nameless_mark(line: &str) -> Option<&'static str> {
    // Put together here, so that this file doesn't break its own rule.
    const MARKS: [(&str, &str, &str); 3] = [("TO", "DO", "TODO"), ("FIX", "ME", "FIXME"), ("XX", "X", "XXX")];
    MARKS.iter().find_map(|(start, end, mark)| {
        let word = format!("{start}{end}");
        let position = line.find(&word)?;
        let (before, after) = (&line[..position], &line[position + word.len()..]);
        let is_word = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"')
            && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
        (is_word && !after.starts_with('(')).then_some(*mark)
    })
}

/// Calls that panic, outside tests and without a reason beside them.
fn panics_in(name: &str, text: &str) -> Vec<String> {
    let is_for_tests =
        ["tests", "benches", "testkit", "examples"].iter().any(|part| name.split('/').any(|dir| dir == *part));
    if is_for_tests || name.ends_with("/tests.rs") {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").collect();
    let calls = [concat!(".unw", "rap()"), concat!(".exp", "ect(")];
    let allows = [concat!("clippy::unw", "rap_used"), concat!("clippy::exp", "ect_used")];
    let mut violations = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let near = &lines[index.saturating_sub(8)..=index];
        let is_allowed = near.iter().any(|near| allows.iter().any(|allow| near.contains(allow)));
        if calls.iter().any(|call| code.contains(call)) && !is_allowed {
            violations.push(format!(":{}: this panics: return an error, or prove why it can't happen", index + 1));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn count(name: &str, text: &str) -> usize {
        violations_in(name, text).len()
    }

    #[test]
    fn long_files_are_found() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!((count("a.rs", &long), count("a.ts", &long), count("a.md", &long)), (1, 1, 0));
        assert_eq!(count("a.rs", &"x\n".repeat(LINES_MAX)), 0);
    }

    #[test]
    fn empty_names_are_found_in_files_and_folders() {
        for name in ["crates/x/src/utils.rs", "packages/common/a.ts", "a/string-helpers.ts", "a/task_manager.rs"] {
            assert_eq!(count(name, ""), 1, "{name}");
        }
        assert_eq!(count("crates/x/src/utility.rs", ""), 0);
    }

    #[test]
    fn marks_need_an_issue() {
        let mark = concat!("TO", "DO");
        assert_eq!(count("a.rs", &format!("// {mark}: later")), 1);
        assert_eq!(count("a.ts", &format!("// {mark}(issue 12): later")), 0);
        assert_eq!(count("a.md", &format!("{mark}: in prose")), 0);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for path in [concat!("/wo", "rk/main"), concat!("/ro", "ot/.cargo"), concat!("/ho", "me/me")] {
            assert_eq!(count("a.md", &format!("see {path}/x")), 1, "{path}");
            assert_eq!(count("a.md", &format!("see a{path}/x")), 0, "{path}");
        }
    }

    #[test]
    fn panics_need_a_proof() {
        let call = concat!("value.unw", "rap();");
        let allow = concat!("#[allow(clippy::unw", "rap_used, reason = \"the line above\")]");
        assert_eq!(count("src/a.rs", call), 1);
        assert_eq!(count("src/a.rs", &format!("{allow}\n{call}")), 0);
        assert_eq!(count("src/a.rs", &format!("/// {call}")), 0);
        assert_eq!(count("src/a.rs", &format!("#[cfg(test)]\nmod tests {{ {call} }}")), 0);
        assert_eq!(count("tests/a.rs", call), 0);
    }

    #[test]
    fn this_repository_is_looked_at() {
        assert!(check(&crate::repository()).unwrap().seen > 50);
    }
}
