//! The messages that the source can make, against those that were made.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Not in the document, as nobody has to act on them or they cannot be had from outside; each with its reason.
#[rustfmt::skip]
const NOT_THERE: [(&str, &str); 56] = [
    ("the listing is not in order", "takes a listing so long that it is cut into ranges: tests/catalog.rs"),
    ("core dumps could not be turned off: {}", "takes a kernel that refuses"),
    ("this kernel cannot look up names of one folder in parallel", "takes an old kernel"),
    ("the FUSE session ended: {e}", "takes a kernel that fails"),
    ("fusermount3 is missing: install the package fuse3", "takes a machine without it, and fuser looks in fixed places"),
    ("{shown} holds a dead mount that cannot be removed ({e}): run `fusermount3 -u {shown}`", "takes a kernel that refuses, and says what to do"),
    ("{:?} does not answer: going on without for a while", "takes a disk that hangs"),
    ("the audit log has ended with the mount", "an errno, for who is too late"),
    ("the mount has ended", "an errno, for who is too late"),
    ("the audit log's disk does not answer, so nothing is opened", "takes a disk that hangs, and says what it is"),
    ("the audit log's disk does not answer: its end is not written", "takes a disk that hangs, and says what it is"),
    ("the audit log cannot be synced: {e}", "takes a disk that fails, and says what it is"),
    ("the audit log: {e}", "takes a machine without memory"),
    ("the audit log: cannot start a thread: {e}", "takes a machine without memory"),
    ("{e}; {} lines are lost", "takes a disk that is full to the end"),
    ("no memory for {len} bytes", "takes a machine without memory"),
    ("no such attribute", "an errno, never a message"),
    ("not a symbolic link", "an errno, never a message"),
    ("not a file", "an errno, never a message"),
    ("this inode is not known", "an errno, never a message"),
    ("not a directory", "an errno, never a message"),
    ("no such file", "an errno, never a message"),
    ("handle {handle} is not open", "an errno, never a message"),
    ("the data key has {len} bytes: not an AES key of this envelope", "takes a writer with the master key and a bug"),
    ("{object_len} bytes are more than AES-GCM can encrypt", "takes an object of 64 GiB"),
    ("{object_len} bytes are not whole blocks of {BLOCK}", "told as damage of an object that nothing authenticates"),
    ("the object is damaged, or was changed", "told as damage of an object that nothing authenticates"),
    ("an instruction file of {} bytes", "larger ones are not fetched"),
    ("{} bytes of an object of {}", "takes a store that ends early and says that it did not"),
    ("{} bytes are more than AES-GCM can encrypt", "of the writer"),
    ("empty byte range asked for: {self:?}", "nobody asks for one"),
    ("{total} bytes are too many to fetch at once (limit {MOST_WHOLE})", "nobody asks for it"),
    ("the answer has Content-Length {n}", "the SDK takes no such answer"),
    ("sealed copy: a folder vanished while it was listed", "takes a race"),
    ("sealed copy: the object was replaced while it was opened", "takes a race"),
    ("{}: the manifest changed while it was read", "takes a race"),
    ("{shown}/{path}: exists: --force overwrites it", "takes a race"),
    ("not a continuation token of this store", "tokens are its own"),
    ("no date: {secs} s after 1970", "of the writer"),
    ("the object's metadata are too large", "of the writer"),
    ("cannot write to the sealed copy: {e}", "of the writer"),
    ("no answer within {most:?}", "one request has half of that time, and says so first"),
    ("no answer within {:?}", "doctor's: docs/DOCTOR.md"),
    ("STS {code}, HTTP {}: {message}", "doctor's: docs/DOCTOR.md"),
    ("cannot ask STS: {}", "doctor's: docs/DOCTOR.md"),
    ("\"{}\" is not the name of a bucket", "other names are refused before"),
    ("the body broke off after {} bytes", "hyper says why"),
    ("the body broke off after {have} of {want} bytes", "the store's own check comes first"),
    ("the body is longer than was asked for", "hyper cuts it at its length"),
    ("no valid S3 request: {}", "the SDK takes every key"),
    ("cannot read the answer from S3: {}", "such answers have a status, which is told"),
    ("the AWS credentials took too long ({text}): {CREDENTIALS}", "a request has less time than the SDK gives credentials"),
    ("an object key has 1 to {LONGEST_KEY} bytes, not {}", "S3 has no others"),
    ("a bug: panicked at {at}", "a bug"),
    ("a bug: panicked", "a bug"),
    ("{shown}: cannot lock this folder: {e}", "takes a file system without locks"),
];

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => files(&path, all),
            Some(end) if end == "rs" && !path.ends_with("tests.rs") => all.push(path),
            _ => {}
        }
    }
}

/// The string literal at the beginning of `text`, unescaped.
fn literal(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => return Some(out),
            '\\' => match chars.next()? {
                '\n' => {
                    let rest = chars.as_str().trim_start();
                    chars = rest.chars();
                }
                'n' => out.push('\n'),
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
}

/// The formats of errors and warnings, but for errors that are bugs, with the file that has each.
fn formats() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    let made = Regex::new(
        r#"(?x) (?: \b(?:err!|Error::new)\( \s* (?:crate::error::)? (?:Kind::(\w+)|e?\.?kind(?:\(\))?) ,
            | \blog::(?:warn|error)!\( ) \s* (?:format!\()? \s* (?:r\#?)? ""#,
    )
    .unwrap();
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        if path.ends_with("error.rs") && path.parent() == Some(&root) {
            // Its macros are not messages.
            continue;
        }
        let shown = path.strip_prefix(&root).unwrap().display().to_string();
        for found in made.captures_iter(text) {
            if found.get(1).is_some_and(|kind| kind.as_str() == "Internal") {
                continue;
            }
            let format = literal(&text[found.get(0).unwrap().end() - 1..]).unwrap();
            all.push((shown.clone(), format));
        }
    }
    assert!(all.len() > 150, "{} formats", all.len());
    all
}

/// Whether a message was made by this format.
fn pattern(format: &str) -> Regex {
    let holes = Regex::new(r"\{[^{}]*\}").unwrap();
    let literal: Vec<String> = holes
        .split(&format.replace("{{", "\u{1}").replace("}}", "\u{2}"))
        .map(|part| regex::escape(&part.replace('\u{1}', "{").replace('\u{2}', "}")))
        .collect();
    Regex::new(&format!("{}$", literal.join("(?s:.*)"))).unwrap()
}

/// What is wrong: messages that nobody has heard, and exceptions that are none.
pub fn unsaid(said: &BTreeSet<String>) -> Vec<String> {
    let formats = formats();
    let mut wrong = Vec::new();
    let excused = |format: &str| NOT_THERE.iter().any(|(text, _)| *text == format);
    for (file, format) in &formats {
        let heard = said.iter().any(|line| pattern(format).is_match(line));
        match (heard, excused(format)) {
            (false, false) => wrong.push(format!("src/{file} can say, and nobody has heard: {format}")),
            (true, true) => wrong.push(format!("src/{file} says, though it is said not to: {format}")),
            _ => {}
        }
    }
    for (text, why) in NOT_THERE {
        assert!(!why.is_empty());
        if !formats.iter().any(|(_, format)| format == text) {
            wrong.push(format!("an exception for what the source does not say: {text}"));
        }
    }
    wrong
}
