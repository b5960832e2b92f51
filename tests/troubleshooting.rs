//! `docs/TROUBLESHOOTING.md`, whose headings are the messages: each is one that the real program or a tool on a real mount
//! really says, each that is said here is in it, and so is what else the source can say, but for what `source` excuses. Needs
//! root. `LOGARCHIVEFS_MESSAGES=FILE` writes down all that was said.

mod common;

#[path = "troubleshooting/audits.rs"]
mod audits;
#[path = "troubleshooting/commands.rs"]
mod commands;
#[path = "troubleshooting/copies.rs"]
mod copies;
#[path = "troubleshooting/desk.rs"]
mod desk;
#[path = "troubleshooting/envelopes.rs"]
mod envelopes;
#[path = "troubleshooting/mounts.rs"]
mod mounts;
#[path = "troubleshooting/objects.rs"]
mod objects;
#[path = "troubleshooting/source.rs"]
mod source;
#[path = "troubleshooting/start.rs"]
mod start;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;

/// What stands for any text of its kind in a heading.
const PLACEHOLDERS: [(&str, &str); 21] = [
    ("FINGERPRINT", r"[0-9a-f]{64}"),
    ("HEX", r"[0-9a-f]+"),
    ("xHEX", r"x[0-9a-f]+"),
    ("N", r"[0-9]+"),
    ("TIME", r"[0-9.]+(?:ms|s|m|h)"),
    ("ACCOUNT", r"[0-9]{12}"),
    ("REGION", r"[a-z0-9-]+"),
    ("NAME", r"[A-Za-z0-9._-]+"),
    ("FLAG", r"--[a-z-]+"),
    ("STATUS", r"(?:exit status|signal): .+"),
    ("ANSWER", r"\(.+"),
    ("FILE", r"(?:standard input|\S+)"),
    ("DIR", r"\S+"),
    ("PATH", r"\S+"),
    ("PLACE", r".+"),
    ("BUCKET", r"\S+"),
    ("VALUE", r".*"),
    ("KEY", r".+"),
    ("ALGORITHM", r".+"),
    ("ERROR", r".+"),
    ("REASON", r".+"),
];

struct Heading {
    text: String,
    pattern: Regex,
}

/// The message in code style; what it is about may stand before it.
fn heading(line: &str) -> Option<Heading> {
    let code = line.strip_prefix("### ")?;
    let text = code.trim_matches('`').trim();
    assert!(code.starts_with('`') && code.ends_with('`'), "not a message: {line}");
    let mut pattern = String::new();
    let words = Regex::new("[A-Za-z_]+|[^A-Za-z_]+").unwrap();
    for word in words.find_iter(text).map(|m| m.as_str()) {
        match PLACEHOLDERS.iter().find(|(name, _)| *name == word) {
            Some((_, any)) => pattern.push_str(any),
            None => pattern.push_str(&regex::escape(word)),
        }
    }
    let pattern = Regex::new(&format!(r"^(?:(?:E[A-Z]+ )?\S+: )*{pattern}$")).unwrap();
    Some(Heading { text: text.to_owned(), pattern })
}

/// A message that tells another one is two.
fn unpacked(line: &str) -> Vec<String> {
    let outer = [
        r"(.*no success within \S+, \d+ attempts: )(.+)",
        r"(.*the old one serves on: )(.+)",
        r"()(.+)( \(after \d+ attempts\))",
        r"()(.+)( \(the copy is kept as it is\))",
        r"()(.+)(; or the bucket is not account .*)",
    ];
    for outer in outer {
        if let Some(parts) = Regex::new(&format!("^{outer}$")).unwrap().captures(line) {
            let tail = parts.get(3).map_or("", |tail| tail.as_str());
            return [vec![format!("{}REASON{tail}", &parts[1])], unpacked(&parts[2])].concat();
        }
    }
    vec![line.to_owned()]
}

#[test]
fn every_message() {
    let groups = [
        &[audits::said, commands::said, copies::said, envelopes::said, mounts::said],
        &objects::SAID[..],
        &start::SAID,
    ]
    .concat();
    let said: BTreeSet<String> = std::thread::scope(|scope| {
        let groups: Vec<_> = groups.into_iter().map(|group| scope.spawn(group)).collect();
        groups.into_iter().flat_map(|group| group.join().unwrap()).flat_map(|line| unpacked(&line)).collect()
    });
    if let Some(path) = std::env::var_os("LOGARCHIVEFS_MESSAGES") {
        fs::write(path, said.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TROUBLESHOOTING.md")).unwrap();
    let headings: Vec<Heading> = text.lines().filter_map(heading).collect();
    let mut wrong = Vec::new();
    for line in &said {
        let found: Vec<&str> = headings.iter().filter(|h| h.pattern.is_match(line)).map(|h| h.text.as_str()).collect();
        if found.len() != 1 {
            wrong.push(format!("{} headings for: {line} {found:?}", found.len()));
        }
    }
    for Heading { text, pattern } in &headings {
        if !said.iter().any(|line| pattern.is_match(line)) {
            wrong.push(format!("said by nobody: {text}"));
        }
    }
    wrong.extend(source::unsaid(&said));
    assert!(wrong.is_empty(), "{} things are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_heading_is_a_whole_message() {
    let heading = heading("### ``key file FILE is open to others (mode N): `chmod 600 FILE` ``").unwrap().pattern;
    assert!(heading.is_match("key file /k is open to others (mode 0644): `chmod 600 /k`"));
    assert!(heading.is_match("EACCES a/b: key file /k is open to others (mode 0644): `chmod 600 /k`"));
    for other in
        ["key file /k is open to others (mode 0644)", "a key file /k is open to others (mode 7): `chmod 600 /k`"]
    {
        assert!(!heading.is_match(other));
    }
    let told = unpacked("k: no success within 2s, 3 attempts: it (after 10 attempts)");
    assert_eq!(told, ["k: no success within 2s, 3 attempts: REASON", "REASON (after 10 attempts)", "it"]);
}
