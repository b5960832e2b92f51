//! Completions and manual pages are what the programs that read them accept; colour is for terminals.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::common::terminal::OnTerminal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_logarchivefs");

fn ours(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

/// `false`, visibly, where there is no such program.
fn installed(name: &str) -> bool {
    let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: no {name} here");
    }
    found
}

/// As `src/build.rs` has it; a checkout knows its commit.
#[test]
fn the_version_names_the_commit() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    };
    if std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".cargo_vcs_info.json").exists() {
        return eprintln!("SKIPPED: a package, whose commit is not git's");
    }
    let version = env!("CARGO_PKG_VERSION");
    let said = String::from_utf8(ours(&["--version"]).stdout).unwrap();
    let expected = match (git(&["rev-parse", "--show-prefix"]).as_deref(), git(&["rev-parse", "HEAD"])) {
        (Some(""), Some(commit)) => format!("logarchivefs {version} ({})\n", &commit[..12]),
        _ => format!("logarchivefs {version}\n"),
    };
    assert_eq!(said, expected);
}

#[test]
fn shells_accept_their_completions() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let made = ours(&["completions", shell]);
        assert!(made.status.success());
        let script = String::from_utf8(made.stdout).unwrap();
        for word in ["find", "string-matches", "request-deadline", "summary"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("c2VjcmV0"));
        if !installed(shell) {
            continue;
        }
        let mut reader = Command::new(shell).arg(check).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        reader.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let said = reader.wait_with_output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&said.stderr));
    }
}

/// Not only the syntax: bash completes with it.
#[test]
fn bash_completes() {
    if !installed("bash") {
        return;
    }
    let script = "eval \"$(\"$0\" completions bash)\"\n\
                  COMP_WORDS=(logarchivefs find b --string-) COMP_CWORD=3\n\
                  _logarchivefs logarchivefs --string- b; echo \"${COMPREPLY[@]}\"";
    let said = Command::new("bash").args(["-c", script, PROGRAM]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "--string-matches", "{said:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    assert!(ours(&["man", "--out", out.to_str().unwrap()]).status.success());
    let main = ours(&["man"]).stdout;
    assert_eq!(std::fs::read(out.join("logarchivefs.1")).unwrap(), main);
    let text = String::from_utf8(main).unwrap();
    let pages: Vec<_> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).collect();
    let commands: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("logarchivefs\\-")?.strip_suffix("(1)")).collect();
    assert!(commands.contains(&"find") && commands.contains(&"mount"), "{commands:?}");
    assert_eq!(pages.len(), commands.len() + 1);
    let groff = installed("groff");
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        assert!(text.contains(".SH EXAMPLES") && !text.contains("decryption\\-keys"), "{}", page.display());
        if groff {
            let said = Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).arg(page).output().unwrap();
            assert!(said.status.success() && said.stderr.is_empty(), "{}: {said:?}", page.display());
        }
    }
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    for args in [&["--help"][..], &["find", "b", "--start-dat", "x"], &["fnd"]] {
        let piped = ours(args);
        let piped = String::from_utf8([piped.stdout, piped.stderr].concat()).unwrap();
        assert!(!piped.is_empty() && !piped.contains('\x1b'), "{piped}");
        let command = || {
            let mut command = Command::new(PROGRAM);
            command.args(args).env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CLICOLOR_FORCE");
            command
        };
        let (_, coloured) = OnTerminal::start(&mut command()).end();
        assert!(coloured.contains('\x1b'), "{args:?}");
        let (_, plain) = OnTerminal::start(command().env("NO_COLOR", "1")).end();
        assert!(!plain.is_empty() && !plain.contains('\x1b'), "{plain}");
    }
}

/// A reader that has seen enough is no failure.
#[test]
fn a_closed_pipe_is_quiet() {
    for args in [&["man"][..], &["completions", "zsh"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = Command::new(PROGRAM).args(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{args:?}: {said:?}");
    }
}
