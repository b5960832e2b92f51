//! Each promise of `docs/SECURITY.md` names the tests that show it: they are there, and run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The source of the module that a name's first part says: a test program, a module of one, or a file of `src/`.
fn source(module: &str) -> String {
    let candidates = match module.strip_prefix("src/") {
        Some(module) => [format!("src/{module}.rs"), format!("src/{module}/mod.rs")],
        None => [format!("tests/{}.rs", module.replace("::", "/")), String::new()],
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = candidates.iter().find_map(|file| fs::read_to_string(root.join(file)).ok());
    found.unwrap_or_else(|| panic!("{module}: no such file"))
}

/// The attributes of a function; none if it is not there.
fn attributes(source: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| {
        let line = line.trim_start_matches("async ");
        line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    })?;
    Some(lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).copied().collect())
}

#[test]
fn each_promise_is_shown_by_tests_that_exist() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SECURITY.md")).unwrap();
    let (_, promises) = text.split_once("## The promises").unwrap();
    let promises = promises.split_once("\n## ").unwrap().0;
    let (mut numbers, mut named, mut wrong) = (Vec::new(), BTreeSet::new(), Vec::new());
    let mut tests = 0;
    for line in promises.lines() {
        if let Some((number, _)) = line.split_once(". **") {
            numbers.push(number.parse::<u32>().unwrap());
            tests = 0;
        }
        let Some(path) = line.trim().strip_prefix("- `").and_then(|rest| rest.strip_suffix('`')) else { continue };
        tests += 1;
        assert!(!numbers.is_empty(), "{path} belongs to no promise");
        named.insert(path);
        let (module, test) = path.rsplit_once("::").unwrap();
        match attributes(&source(module), test) {
            None => wrong.push(format!("{path}: there is no such function")),
            Some(attributes) if !attributes.contains("test") => wrong.push(format!("{path}: not a test")),
            Some(attributes) if attributes.contains("ignore") => wrong.push(format!("{path}: is not run")),
            Some(_) => {}
        }
    }
    assert!(tests > 0 && wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>(), "RELIABILITY section 4 has ten");
    assert!(named.len() > 40, "{} tests", named.len());
}

#[test]
fn each_fault_is_shown_by_a_test_that_exists() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SECURITY.md")).unwrap();
    let head = |line: &&str| line.starts_with("| ") && !line.ends_with("| shown by |");
    let rows: Vec<&str> = text.lines().filter(head).collect();
    assert!(rows.len() > 35, "{} rows", rows.len());
    for row in rows {
        let tests: Vec<&str> =
            row.rsplit(" | ").next().unwrap().split('`').filter(|part| part.contains("::")).collect();
        assert!(!tests.is_empty(), "{row}");
        for path in tests {
            let (module, test) = path.rsplit_once("::").unwrap();
            let attributes = attributes(&source(module), test);
            assert!(attributes.is_some_and(|a| a.contains("test") && !a.contains("ignore")), "{path}: no such test");
        }
    }
}
