//! The rules of the source tree that no compiler checks: which module may use which, where the AWS SDK, fuser and
//! `unsafe` may appear, how long a file may be, and that nothing panics on purpose.
//!
//! The files are read as text: comments and literals are blanked out, then code for tests is. The rules are functions
//! over that text, and have tests of their own below: each must be able to fail.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What each module may use of ours. A module that is not here may use everything (`cmd` and `main` are the top).
const ARROWS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("key", &["error"]),
    ("envelope", &["error"]),
    ("gunzip", &["error"]),
    ("record", &["error"]),
    ("store", &["error"]),
    ("cachedir", &["error"]),
    ("audit", &["error"]),
    ("catalog", &["store", "key", "error"]),
    ("object", &["store", "key", "envelope", "gunzip", "cachedir", "error"]),
    ("fs", &["catalog", "object", "key", "envelope", "audit", "error"]),
    ("fuse", &["fs", "error"]),
    // Beside the data flow: what the commands are made of.
    ("cli", &[]),
    ("daemon", &["error"]),
    ("logging", &["error"]),
    ("memory", &[]),
    ("keysource", &["envelope", "error"]),
    ("demo", &["store", "key", "envelope", "error"]),
    (
        "config",
        &["cli", "cachedir", "catalog", "daemon", "object", "store", "envelope", "keysource", "memory", "error"],
    ),
    ("lib", &[]),
    // The build script.
    ("build", &[]),
    ("main", &["cli", "cmd", "daemon", "keysource", "logging", "error"]),
];

/// Outside crates that have one home: the words that name them, and the folder or file that may. Of two words that fit, the
/// longer one counts: aws-lc is a library of ciphers, not a part of the SDK.
const HOMES: [(&str, &str); 3] =
    [("aws_", "src/store/s3/"), ("aws_lc_rs", "src/object/digest.rs"), ("fuser", "src/fuse/")];

/// The only files with `unsafe`, how often, and what for. Each is a module that lib.rs or its parent allows it.
const UNSAFE: &[(&str, usize, &str)] = &[
    (
        "src/daemon.rs",
        11,
        "fork, setsid, dup2, waitpid, rlimits, prctl, mlock, malloc_trim, user ids: std has none of them",
    ),
    ("src/fuse/sys.rs", 2, "umount2 and statfs: no crate of ours wraps them"),
    ("src/gunzip/fast.rs", 20, "inflate's loop: bounds are checked once a round, not for each byte"),
    ("src/gunzip/out.rs", 3, "text is put into buffers that were never zeroed"),
    ("src/keysource/process.rs", 2, "removing an environment variable and wiping it, and geteuid"),
    ("src/record/masks.rs", 2, "SSE2, AVX2 and AVX-512 by name, one call for all: plain Rust is not made into them"),
];

const LONGEST: usize = 400;

/// Words that stop the program. `assert` is not among them: there is none outside tests either, see the test.
const PANICS: [&str; 9] = [
    ".unwrap()",
    ".unwrap_err()",
    ".expect(",
    ".expect_err(",
    "panic!",
    "unreachable!",
    "todo!",
    "unimplemented!",
    "assert",
];
/// Where one of them stands all the same: file, word, reason.
const MAY_PANIC: [(&str, &str, &str); 1] = [(
    "src/object/cache.rs",
    "unreachable!",
    "a semaphore's only error is that it was closed, and nothing closes these",
)];

struct Source {
    /// From the root of the repository.
    path: String,
    raw: String,
    /// Without comments and literals, line for line.
    code: String,
    /// `code` without what `#[cfg(test)]` stands before.
    shipped: String,
}

impl Source {
    fn new(path: &str, raw: &str) -> Source {
        let code = blank(raw);
        Source { path: path.into(), raw: raw.into(), shipped: without_tests(&code), code }
    }

    /// The name of the module below `src/` that the file belongs to.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or(below)
    }
}

/// Every file of `src`; files that are only there for tests (`#[cfg(test)] mod name;`) have no shipped code.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join("src"), &mut paths);
    paths.sort();
    let mut all: Vec<Source> = paths
        .iter()
        .map(|path| {
            let shown = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            Source::new(&shown, &std::fs::read_to_string(path).unwrap())
        })
        .collect();
    let test_files: BTreeSet<String> = all.iter().flat_map(test_modules).collect();
    for source in all.iter_mut().filter(|s| test_files.contains(&s.path)) {
        source.shipped = String::new();
    }
    assert!(all.len() > 40, "the sources were not found");
    all
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The files of `#[cfg(test)] mod name;` in `source`.
fn test_modules(source: &Source) -> Vec<String> {
    let folder = match source.path.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
        _ => source.path.trim_end_matches(".rs").to_owned(),
    };
    let mut found = Vec::new();
    for (_, after) in source.code.match_indices("#[cfg(test)]").map(|(at, m)| (at, &source.code[at + m.len()..])) {
        let item = after.trim_start();
        if let Some((name, _)) = item.strip_prefix("mod ").and_then(|rest| rest.split_once(';')) {
            found.extend((!name.contains('{')).then(|| format!("{folder}/{}.rs", name.trim())));
        }
    }
    found
}

/// Comments, strings and character literals become spaces; line ends stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let after_word = at > 0 && word(bytes[at - 1]);
        let len = if rest.starts_with(b"//") {
            rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if let Some(len) = (!after_word).then(|| raw_string(rest)).flatten() {
            len
        } else if rest[0] == b'"' {
            string(rest)
        } else if rest[0] == b'\'' {
            char_literal(text, at).unwrap_or(0)
        } else {
            0
        };
        if len == 0 {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..at + len].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
            at += len;
        }
    }
    String::from_utf8(out).unwrap()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = usize::from(matches!(rest.first(), Some(b'b' | b'c')));
    if rest.get(prefix) != Some(&b'r') {
        return None;
    }
    let hashes = rest[prefix + 1..].iter().take_while(|b| **b == b'#').count();
    let open = prefix + 1 + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|w| w == close)?;
    Some(open + 1 + end + close.len())
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of the literal at `at`; none if that is a lifetime or a label.
fn char_literal(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        // The escaped character itself may be a quote.
        let (escaped, _) = chars.next()?;
        let tail = &rest[escaped + 1..];
        return tail.find('\'').map(|end| escaped + 1 + end + 1);
    }
    let (end, quote) = chars.next()?;
    (quote == '\'').then_some(end + 1)
}

/// Blanks the item behind each `#[cfg(test)]`, up to its closing brace or its semicolon.
fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let marker = "#[cfg(test)]";
    for (start, _) in code.match_indices(marker) {
        let mut depth = 0;
        let mut end = code.len();
        for (at, b) in code.bytes().enumerate().skip(start + marker.len()) {
            match b {
                b'{' => depth += 1,
                b'}' if depth == 1 => {
                    end = at + 1;
                    break;
                }
                b'}' => depth -= 1,
                b';' if depth == 0 => {
                    end = at + 1;
                    break;
                }
                _ => {}
            }
        }
        out[start..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    }
    String::from_utf8(out).unwrap()
}

/// Places where `word` begins a word, as (line number from 1, offset).
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
    let starts_word = word.starts_with(|c: char| c.is_alphanumeric());
    code.match_indices(word).filter_map(move |(at, _)| {
        let before = code[..at].chars().next_back();
        let inside = starts_word && before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        (!inside).then(|| (code[..at].matches('\n').count() + 1, at))
    })
}

/// The modules that `crate::…` and `logarchivefs::…` paths lead to, with their lines. The macro `err!` is `error`'s.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate::", "logarchivefs::"] {
        for (line, at) in places(code, root) {
            let rest = &code[at + root.len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => top_level_names(group),
                None => vec![first_word(rest)],
            };
            found.extend(names.into_iter().map(|n| (line, if n == "err" { "error".into() } else { n.to_owned() })));
        }
    }
    found
}

/// The first word of each path of a `use` group: `a, b::{c, d}, e` gives a, b, e.
fn top_level_names(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(first_word(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(first_word(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

fn check_arrows(source: &Source, bad: &mut String) {
    let module = source.module();
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else { return };
    for (line, used) in uses(&source.code) {
        if used != module && !allowed.contains(&used.as_str()) {
            let _ = writeln!(bad, "{}:{line}: `{module}` must not use `{used}` (may: {allowed:?})", source.path);
        }
    }
}

fn check_homes(source: &Source, bad: &mut String) {
    for (word, home) in HOMES {
        if !source.path.starts_with(home) {
            for (line, at) in places(&source.code, word) {
                let is_another =
                    |(other, _): &(&str, &str)| other.len() > word.len() && source.code[at..].starts_with(other);
                if !HOMES.iter().any(is_another) {
                    let _ = writeln!(bad, "{}:{line}: `{word}` belongs to {home} only", source.path);
                }
            }
        }
    }
}

/// Where the keyword is, and not the lint of its name.
fn unsafes(code: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    places(code, "unsafe").filter(|(_, at)| first_word(&code[*at..]) != "unsafe_code")
}

fn check_unsafe(source: &Source, bad: &mut String) {
    for (line, at) in unsafes(&source.code) {
        // A block or an `unsafe impl` promises something; an `unsafe fn` asks its callers to.
        let promises =
            matches!(source.code[at + "unsafe".len()..].trim_start().as_bytes(), [b'{', ..] | [b'i', b'm', ..]);
        if !UNSAFE.iter().any(|(path, ..)| *path == source.path) {
            let _ = writeln!(bad, "{}:{line}: `unsafe` is not allowed in this file", source.path);
        } else if promises && !has_reason(&source.raw, line) {
            let _ = writeln!(bad, "{}:{line}: `unsafe` without a `// SAFETY:` comment above it", source.path);
        }
    }
}

/// Whether a comment with `SAFETY:` ends at most two lines of code above `line`, the start of its statement.
fn has_reason(raw: &str, line: usize) -> bool {
    let above: Vec<&str> = raw.lines().take(line - 1).map(str::trim).collect();
    let mut code = 0;
    let mut in_comment = false;
    for text in above.iter().rev() {
        if text.starts_with("//") {
            in_comment = true;
            if text.contains("SAFETY:") {
                return true;
            }
        } else if in_comment || text.is_empty() || text.ends_with([';', '}']) {
            return false;
        } else {
            code += 1;
            if code > 2 {
                return false;
            }
        }
    }
    false
}

fn check_length(source: &Source, bad: &mut String) {
    let lines = source.raw.lines().count();
    if lines > LONGEST {
        let _ = writeln!(bad, "{}: {lines} lines, more than {LONGEST}", source.path);
    }
}

fn check_panics(source: &Source, bad: &mut String) {
    for word in PANICS {
        if MAY_PANIC.iter().any(|(path, allowed, _)| *path == source.path && *allowed == word) {
            continue;
        }
        for (line, _) in places(&source.shipped, word) {
            let _ = writeln!(bad, "{}:{line}: `{word}` outside tests", source.path);
        }
    }
}

fn hold(check: fn(&Source, &mut String)) {
    let mut bad = String::new();
    for source in &sources() {
        check(source, &mut bad);
    }
    assert!(bad.is_empty(), "\n{bad}");
}

#[test]
fn arrows_point_down_only() {
    hold(check_arrows);
    // Every module has a rule or is the top.
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).chain(["cmd"]).collect();
    let unknown: BTreeSet<String> =
        sources().iter().map(|s| s.module().to_owned()).filter(|m| !known.contains(m.as_str())).collect();
    assert!(unknown.is_empty(), "no rule for {unknown:?}: add one to ARROWS");
}

#[test]
fn the_sdk_and_fuser_stay_at_home() {
    hold(check_homes);
}

#[test]
fn unsafe_is_where_it_is_needed_and_says_why() {
    hold(check_unsafe);
    let sources = sources();
    for (path, expected, _) in UNSAFE {
        let source = sources.iter().find(|s| s.path == *path).unwrap_or_else(|| panic!("{path} is gone"));
        assert_eq!(unsafes(&source.code).count(), *expected, "{path}: an `unsafe` more or less is to be looked at");
    }
    // The compiler refuses it everywhere else.
    let says = |path: &str, text: &str| sources.iter().any(|s| s.path == path && s.code.contains(text));
    assert!(says("src/lib.rs", "#![deny(unsafe_code)]") && says("src/main.rs", "#![forbid(unsafe_code)]"));
    let allowed: usize = sources.iter().map(|s| s.code.matches("allow(unsafe_code)").count()).sum();
    assert_eq!(allowed, UNSAFE.len());
}

#[test]
fn files_stay_short() {
    hold(check_length);
}

#[test]
fn nothing_panics_on_purpose() {
    hold(check_panics);
    for (path, word, _) in MAY_PANIC {
        let used = sources().iter().any(|s| s.path == path && places(&s.shipped, word).next().is_some());
        assert!(used, "{path} has no {word} any more: take it off the list");
    }
}

/// The rules themselves, on small texts.
mod the_rules {
    use super::*;

    fn says(check: fn(&Source, &mut String), path: &str, text: &str) -> String {
        let mut bad = String::new();
        check(&Source::new(path, text), &mut bad);
        bad
    }

    #[test]
    fn comments_and_literals_are_blank() {
        let text =
            "a // crate::x\n/* b /* c */ d */e \"f\\\"g\" h r#\"i\"j\"# k 'l' '\\'' '\"' m::<'n>(o) b\"p\" br\"q\" r\n";
        let code = blank(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "e", "h", "k", "m::<'n>(o)", "b", "r"]);
        assert_eq!(blank("var\"x\"").trim(), "var", "the r of a word begins no raw string");
        assert_eq!(blank("'é' x").trim(), "x");
        assert_eq!(blank("'\\u{1b}' x").trim(), "x");
        assert_eq!(blank("\"a\nb\""), "  \n  ", "lines stay");
    }

    #[test]
    fn test_code_is_left_out() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c(); } }\nfn d() {}\n#[cfg(test)]\nuse e::f;\nfn g() {}";
        let shipped = without_tests(text);
        assert_eq!(shipped.split_whitespace().filter(|w| *w == "fn").count(), 3);
        assert!(shipped.contains("fn d") && shipped.contains("fn g") && !shipped.contains("c()"));
        let file = Source::new("src/a/mod.rs", "mod x;\n#[cfg(test)]\nmod y;\n#[cfg(test)]\nmod z { }\n");
        assert_eq!(test_modules(&file), ["src/a/y.rs"]);
        assert_eq!(test_modules(&Source::new("src/a/b.rs", "#[cfg(test)]\nmod y;")), ["src/a/b/y.rs"]);
    }

    #[test]
    fn forbidden_arrows_are_found() {
        for text in [
            "use crate::fs::Fs;",
            "use crate::{error::Result, fs::{Fs, Ino}};",
            "fn a() { crate::fs::b() }",
            "use crate::{\n    error,\n    fs,\n};",
            "#[cfg(test)]\nmod tests { use logarchivefs::fs::Fs; }",
        ] {
            assert!(says(check_arrows, "src/key/mod.rs", text).contains("must not use `fs`"), "{text}");
            assert_eq!(says(check_arrows, "src/fuse/mod.rs", text), "", "{text}");
        }
        for text in ["use crate::err;", "use crate::error::{Kind, Result};", "// crate::fs", "let a = \"crate::fs\";"] {
            assert_eq!(says(check_arrows, "src/key/mod.rs", text), "", "{text}");
        }
        assert_ne!(says(check_arrows, "src/key.rs", "use crate::store::Store;"), "");
        assert_eq!(says(check_arrows, "src/cmd/x.rs", "use crate::fuse::mount;"), "");
    }

    #[test]
    fn crates_away_from_home_are_found() {
        assert_ne!(says(check_homes, "src/store/mod.rs", "use aws_sdk_s3::Client;"), "");
        assert_ne!(says(check_homes, "src/fs/mod.rs", "let e = fuser::Errno::EIO;"), "");
        assert_eq!(says(check_homes, "src/store/s3/mod.rs", "use aws_sdk_s3::Client;"), "");
        assert_eq!(says(check_homes, "src/object/digest.rs", "use aws_lc_rs::aead;"), "");
        assert_ne!(says(check_homes, "src/object/digest.rs", "use aws_sdk_s3::Client;"), "");
        assert_ne!(says(check_homes, "src/object/scan.rs", "use aws_lc_rs::aead;"), "");
        assert_ne!(says(check_homes, "src/store/s3/mod.rs", "use aws_lc_rs::aead;"), "");
        assert_eq!(says(check_homes, "src/logging.rs", "f(\"aws_x,fuser=error\") // fuser"), "");
    }

    #[test]
    fn unsafe_needs_a_place_and_a_reason() {
        let good = "// SAFETY: it holds.\nlet a =\n    unsafe { b() };\n// SAFETY: so\n// does this.\nunsafe { c() };";
        assert_eq!(says(check_unsafe, "src/daemon.rs", good), "");
        assert!(says(check_unsafe, "src/fs/mod.rs", good).contains("not allowed"));
        for bad in [
            "unsafe { a() }",
            "// SAFETY: of another\nunsafe { a() };\nunsafe { b() };",
            "// SAFETY: far away\nlet a = 1;\nunsafe { b() };",
            "// safe\nunsafe { b() };",
            "unsafe { b() } // SAFETY: below",
        ] {
            assert!(says(check_unsafe, "src/daemon.rs", bad).contains("without"), "{bad}");
        }
        assert_eq!(
            says(check_unsafe, "src/fs/mod.rs", "// unsafe\nlet unsafety = not_unsafe;"),
            "src/fs/mod.rs:2: `unsafe` is not allowed in this file\n"
        );
        assert_eq!(says(check_unsafe, "src/lib.rs", "#![deny(unsafe_code)]"), "");
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(says(check_length, "src/a.rs", &"x\n".repeat(LONGEST)), "");
        assert_ne!(says(check_length, "src/a.rs", &"x\n".repeat(LONGEST + 1)), "");
    }

    #[test]
    fn panics_are_found_outside_tests() {
        for text in ["a.unwrap()", "a.expect(\"b\")", "panic!()", "unreachable!()", "assert_eq!(a, b)", "todo!()"] {
            assert_ne!(says(check_panics, "src/a.rs", text), "", "{text}");
            let tested = format!("#[cfg(test)]\nmod tests {{ fn a() {{ {text} }} }}");
            assert_eq!(says(check_panics, "src/a.rs", &tested), "", "{text}");
        }
        for text in ["a.unwrap_or_default()", "// a.unwrap()", "f(\"panic!\")", "debug_assertions"] {
            assert_eq!(says(check_panics, "src/a.rs", text), "", "{text}");
        }
        assert_eq!(says(check_panics, "src/object/cache.rs", "unreachable!()"), "");
        assert_ne!(says(check_panics, "src/object/cache.rs", "a.unwrap()"), "");
    }
}
