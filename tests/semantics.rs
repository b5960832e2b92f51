//! The documents tell the truth: the `console` examples of docs/SEMANTICS.md are run on a mounted demo archive, and the
//! tables of errors and exit codes are compared with the code.
//!
//! An example is a line that begins with `$ ` and the lines that it prints. Each starts at the top of the mount, in a
//! shell of its own. ` ```console root ` marks a block that holds for root only (the kernel keeps others from files of mode 0000).

use std::fs;
use std::path::Path;
use std::process::Command;

use logarchivefs::error::{Kind, exit};

/// One command and what it prints, standard error included.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    /// Of the command in its document, from 1.
    line: usize,
    command: String,
    output: String,
    root: bool,
}

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    // Inside a block: whether it is for root.
    let mut block = None;
    for (n, line) in text.lines().enumerate() {
        match (block, line) {
            (None, "```console" | "```console root") => block = Some(line.ends_with("root")),
            (None, _) => assert!(!line.starts_with("```console"), "line {}: an unknown mark", n + 1),
            (Some(_), "```") => block = None,
            (Some(root), _) => match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(command), _) => {
                    found.push(Example { line: n + 1, command: command.into(), output: String::new(), root });
                }
                (None, Some(example)) => {
                    example.output.push_str(line);
                    example.output.push('\n');
                }
                (None, None) => panic!("line {}: output of no command", n + 1),
            },
        }
    }
    assert!(block.is_none(), "a block without end");
    found
}

/// The mark between the outputs; no log holds it.
const MARK: &str = "=-=-=-=-=-= logarchivefs example =-=-=-=-=-=";

/// Runs all of them in one demo mount; what each printed.
fn run(examples: &[&Example]) -> Vec<String> {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    // Some output has no line end of its own.
    let script: String = examples
        .iter()
        .map(|e| format!("sh -c {} 2>&1; printf '\\n%s\\n' {}\n", quote(&e.command), quote(MARK)))
        .collect();
    let done = Command::new(env!("CARGO_BIN_EXE_logarchivefs"))
        .args(["demo", "--run", &script])
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{:?}\n{log}", done.status);
    let text = String::from_utf8(done.stdout).unwrap();
    let mut outputs: Vec<String> = text.split(&format!("\n{MARK}\n")).map(str::to_owned).collect();
    assert_eq!(outputs.pop().as_deref(), Some(""), "something after the last mark");
    assert_eq!(outputs.len(), examples.len(), "{log}");
    outputs
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn the_examples_print_what_they_say() {
    let all = examples(&document("docs/SEMANTICS.md"));
    assert!(all.len() >= 10, "only {} examples were found", all.len());
    let chosen: Vec<&Example> = all.iter().filter(|e| is_root() || !e.root).collect();
    let mut wrong = String::new();
    for (example, got) in chosen.iter().zip(run(&chosen)) {
        if got.trim_end() != example.output.trim_end() {
            let Example { line, command, output, .. } = example;
            wrong += &format!("docs/SEMANTICS.md:{line}\n$ {command}\n--- it says\n{output}--- it prints\n{got}\n\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The cells of the table whose header's first cell is `first`.
fn table<'a>(text: &'a str, first: &str) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| -> Option<Vec<&'a str>> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(inner.split('|').map(str::trim).collect())
    };
    let mut lines = text.lines().map(cells).skip_while(|c| c.as_ref().is_none_or(|c| c[0] != first));
    assert!(lines.next().is_some(), "no table of {first:?}");
    assert!(lines.next().flatten().is_some_and(|c| c.iter().all(|c| c.starts_with("--"))), "no rule below its header");
    lines.map_while(|c| c).collect()
}

fn errno_name(errno: i32) -> &'static str {
    let names = [
        (libc::ENOKEY, "ENOKEY"),
        (libc::EBADMSG, "EBADMSG"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EFBIG, "EFBIG"),
        (libc::EACCES, "EACCES"),
        (libc::EREMOTE, "EREMOTE"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESTALE, "ESTALE"),
        (libc::EIO, "EIO"),
        (libc::EROFS, "EROFS"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::ENODATA, "ENODATA"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENOMEM, "ENOMEM"),
    ];
    names.iter().find(|(n, _)| *n == errno).unwrap_or_else(|| panic!("no name for errno {errno}")).1
}

#[test]
fn the_table_of_errors_is_the_codes_table() {
    let text = document("docs/SEMANTICS.md");
    let documented: Vec<Vec<&str>> = table(&text, "name").into_iter().map(|row| row[..3].to_vec()).collect();
    let codes: Vec<String> = Kind::ALL.iter().map(|k| k.row().exit.to_string()).collect();
    let expected: Vec<Vec<&str>> = Kind::ALL
        .iter()
        .zip(&codes)
        .map(|(kind, code)| vec![kind.row().name, errno_name(kind.row().errno), code.as_str()])
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn the_exit_codes_are_the_programs() {
    let codes = [
        (exit::OK, "ok"),
        (exit::SOME_FAILED, "some items failed"),
        (exit::USAGE, "usage"),
        (exit::CONFIG, "configuration, credentials or keys"),
        (exit::NO_MATCH, "nothing matched"),
        (exit::INTEGRITY, "integrity failure"),
        (exit::STORAGE, "storage failure"),
    ];
    let text = document("README.md");
    let documented: Vec<(String, &str)> =
        table(&text, "exit code").into_iter().map(|row| (row[0].to_owned(), row[1])).collect();
    assert_eq!(documented, codes.map(|(code, meaning)| (code.to_string(), meaning)));
    // `--help` says the same.
    let help = Command::new(env!("CARGO_BIN_EXE_logarchivefs")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let list = codes.map(|(code, meaning)| format!("{code} {meaning}")).join(", ");
    assert!(help.contains(&format!("Exit codes: {list}.")), "{help}");
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (folder, name) in [
        ("", "README.md"),
        ("docs", "docs/SEMANTICS.md"),
        ("docs", "docs/COMMANDS.md"),
        ("docs", "docs/DEVELOPMENT.md"),
    ] {
        for link in document(name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            assert!(link.starts_with("https://") || root.join(folder).join(file).exists(), "{name}: {link}");
        }
    }
    for name in ["scripts/demo", "scripts/test", "scripts/bench", ".ci/run"] {
        assert!(root.join(name).exists(), "{name}");
    }
}

/// The reading of documents, on small ones.
mod the_reading {
    use super::*;

    #[test]
    fn examples_are_found() {
        let text = "$ no\n```sh\n$ no\n```\n```console\n$ a\nb\n\nc\n$ d\n```\n```console root\n$ e\n```\n";
        let example = |line, command: &str, output: &str, root| Example {
            line,
            command: command.into(),
            output: output.into(),
            root,
        };
        assert_eq!(
            examples(text),
            [example(6, "a", "b\n\nc\n", false), example(10, "d", "", false), example(13, "e", "", true)]
        );
    }

    #[test]
    fn tables_are_found() {
        let text = "| a | b |\n|---|---|\n| 1 | 2 |\n\n| c |\n|---|\n| 3 |\n| 4 |\nend\n| 5 |\n";
        assert_eq!(table(text, "a"), [["1", "2"]]);
        assert_eq!(table(text, "c"), [["3"], ["4"]]);
    }

    #[test]
    fn outputs_are_told_apart() {
        let example = |command: &str| Example { line: 1, command: command.into(), output: String::new(), root: false };
        let (cd, quotes, fails) =
            (example("cd acme-prod && ls -d apps-321"), example("printf '%s' \"a'b\""), example("echo x >&2; exit 3"));
        assert_eq!(run(&[&cd, &quotes, &cd, &fails]), ["apps-321\n", "a'b", "apps-321\n", "x\n"]);
    }
}
