//! The docs are true: their examples run on the demo archive, their tables are those of the code, their links lead
//! somewhere.

use std::path::Path;
use std::process::{Command, Stdio};

use logarchivefs::error::{Kind, exit};

const SEMANTICS: &str = include_str!("../docs/SEMANTICS.md");
const README: &str = include_str!("../README.md");
const DEVELOPMENT: &str = include_str!("../docs/DEVELOPMENT.md");

/// A command of a `console` block, with what it prints.
#[derive(Debug, PartialEq)]
struct Example {
    command: String,
    output: String,
}

fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            // The suite runs as root, whom the kernel lets through to our own errors.
            "```console" | "```console root" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(command), _) => found.push(Example { command: command.into(), output: String::new() }),
                (None, Some(last)) => last.output.push_str(&format!("{line}\n")),
                (None, None) => panic!("output without a command: {line}"),
            },
        }
    }
    found
}

#[test]
fn examples_are_found() {
    let text = "a\n```console\n$ ls\nx\ny\n$ true\n```\nb\n```sh\n$ no\n```\n";
    let expected = [("ls", "x\ny\n"), ("true", "")];
    let found = examples(text);
    assert_eq!(found.len(), 2);
    for (example, (command, output)) in found.iter().zip(expected) {
        assert_eq!((example.command.as_str(), example.output.as_str()), (command, output));
    }
}

/// All in one demo: each command in a subshell in the mount's root, its output between marks.
#[test]
fn the_examples_do_what_they_say() {
    let examples = examples(SEMANTICS);
    assert!(examples.len() >= 10, "{} examples", examples.len());
    let script: String =
        examples.iter().enumerate().map(|(n, e)| format!("echo '<<{n}'\n( {} )\necho '>>{n}'\n", e.command)).collect();
    let run = Command::new(env!("CARGO_BIN_EXE_logarchivefs"))
        .args(["demo", "--run", &script])
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{printed}\n{}", String::from_utf8_lossy(&run.stderr));
    for (n, example) in examples.iter().enumerate() {
        let start = format!("<<{n}\n");
        let from = printed.find(&start).unwrap_or_else(|| panic!("{} did not run", example.command)) + start.len();
        let len = printed[from..].find(&format!(">>{n}\n")).unwrap();
        // A command need not end its line.
        let got = printed[from..from + len].trim_end();
        assert_eq!(got, example.output.trim_end(), "$ {}", example.command);
    }
}

/// The cells of the table whose header begins with `first`.
fn table<'a>(text: &'a str, first: &str) -> Vec<Vec<&'a str>> {
    let header = format!("| {first} |");
    let rows = text.lines().skip_while(|l| !l.starts_with(&header)).skip(2).take_while(|l| l.starts_with('|'));
    rows.map(|l| l.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn errno(name: &str) -> i32 {
    match name {
        "ENOKEY" => libc::ENOKEY,
        "EBADMSG" => libc::EBADMSG,
        "EOPNOTSUPP" => libc::EOPNOTSUPP,
        "EACCES" => libc::EACCES,
        "EREMOTE" => libc::EREMOTE,
        "ENOENT" => libc::ENOENT,
        "ESTALE" => libc::ESTALE,
        "EIO" => libc::EIO,
        "EROFS" => libc::EROFS,
        "ENOTDIR" => libc::ENOTDIR,
        "EISDIR" => libc::EISDIR,
        "ENODATA" => libc::ENODATA,
        "EINVAL" => libc::EINVAL,
        "ENOMEM" => libc::ENOMEM,
        other => panic!("{other} is new here"),
    }
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let rows = table(SEMANTICS, "name");
    let names: Vec<&str> = rows.iter().map(|r| r[0]).collect();
    assert_eq!(names, Kind::ALL.map(|k| k.row().name));
    for (row, kind) in rows.iter().zip(Kind::ALL) {
        assert_eq!(errno(row[1]), kind.row().errno, "{}", row[0]);
        assert_eq!(row[2], kind.row().exit.to_string(), "{}", row[0]);
    }
}

#[test]
fn the_exit_codes_are_those_of_the_code() {
    let codes: Vec<u8> = table(README, "exit code").iter().map(|r| r[0].parse().unwrap()).collect();
    let known =
        [exit::OK, exit::SOME_FAILED, exit::USAGE, exit::CONFIG, exit::NO_MATCH, exit::INTEGRITY, exit::STORAGE];
    assert_eq!(codes, known);
}

#[test]
fn links_lead_somewhere() {
    for (folder, text) in [("", README), ("docs", SEMANTICS), ("docs", DEVELOPMENT)] {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(link);
            assert!(link.starts_with("https://") || here.exists(), "{link}");
        }
    }
    for name in ["scripts/demo", "scripts/test", "scripts/bench", ".ci/run"] {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists(), "{name}");
    }
}
