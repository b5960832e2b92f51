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

/// The promises as the project's RELIABILITY.md, section 4, has them, word by word but for one: the seventh says "Memory is
/// bounded (300 MB), whatever …" there, and DESIGN.md, section 6, which decides, says "budget + 100 MiB". SECURITY.md
/// may say more below each.
const PROMISES: [&str; 10] = [
    "Not one byte of a log is delivered that was not authenticated, and later reads are as authentic as the first.",
    "A read gives the exact text or an error; no short file, no zeros, no mixture of versions; `stat` says the true size.",
    "The mount cannot change anything, locally or in S3.",
    "No text on disk, no keys in argv, logs, caches or cores.",
    "Every object in the bucket is in the tree or is named in the report; listings are whole or fail.",
    "Every operation ends within D; one bad object does not disturb others; it heals without a remount.",
    "Memory is bounded, whatever the sizes, ratios and numbers.",
    "Only the mounting user can read, unless told otherwise.",
    "Errors name the object, the cause and what to do, in one escaped line.",
    "What is *not* promised: that an authentic log lies under its true name, date or version, or that none is missing.",
];

fn promises(text: &str) -> &str {
    text.split_once("## The promises").unwrap().1.split_once("\n## ").unwrap().0
}

#[test]
fn the_promises_are_made_word_by_word() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SECURITY.md")).unwrap();
    let made: Vec<String> = promises(&text)
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.split_once(". **")?;
            Some(format!("{number} {}", rest.strip_suffix("**").expect("a promise is one line")))
        })
        .collect();
    let expected: Vec<String> = PROMISES.iter().zip(1..).map(|(promise, n)| format!("{n} {promise}")).collect();
    assert_eq!(made, expected);
}

#[test]
fn each_promise_is_shown_by_tests_that_exist() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SECURITY.md")).unwrap();
    let promises = promises(&text);
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
