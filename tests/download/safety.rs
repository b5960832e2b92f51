//! What must not happen: overwriting, unproven content, a way out of the folder, a full disk without a word.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use super::run::{Ended, JOURNAL, Place};
use crate::common::archive::{self, Log, WEDNESDAY};
use crate::common::mounted::Setup;
use crate::common::s3::Server;
use crate::common::watch;

fn one_log() -> (Server, Log, Vec<u8>, Place) {
    let (server, log, text) = (Server::start(), Log::at(0), archive::text(1, 40));
    archive::put(&server, &log, SealAs::V2, &archive::gzip(&text));
    let place = Place::s3(&server);
    (server, log, text, place)
}

fn refused(ended: &Ended, log: &Log, why: &str) {
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&log.path()) && ended.stderr.contains(why), "{}", ended.stderr);
}

#[test]
fn nothing_is_overwritten_without_force() {
    let (server, log, text, place) = one_log();
    let path = place.path(log.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "mine").unwrap();
    refused(&place.run(&[]), &log, "no download made it: --force");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert!(!server.requests().iter().any(|r| r.is_get()), "what cannot be written is not fetched");
    place.works(&["--force"]);
    assert_eq!(fs::read(&path).unwrap(), text);

    fs::write(&path, "changed").unwrap();
    refused(&place.run(&[]), &log, "changed since");
    place.works(&["--force"]);
    assert_eq!(fs::read(&path).unwrap(), text);
    server.forget();
    place.works(&["--force"]);
    assert!(!server.requests().iter().any(|r| r.is_get()), "what is finished is not fetched again");

    let new = archive::text(2, 40);
    archive::put(&server, &log, SealAs::V2, &archive::gzip(&new));
    refused(&place.run(&[]), &log, "another version");
    assert_eq!(fs::read(&path).unwrap(), text);
    place.works(&["--force"]);
    assert_eq!(fs::read(&path).unwrap(), new);
    fs::remove_file(&path).unwrap();
    place.works(&[]);
    assert_eq!(fs::read(&path).unwrap(), new);

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for args in [&[][..], &["--force"]] {
        refused(&place.run(args), &log, "no file is in the way");
    }
}

#[test]
fn what_is_damaged_leaves_nothing() {
    let server = Server::start();
    let gzip = archive::gzip_level(&archive::noise(1, 3_000_000), 1);
    let middle = gzip.len() / 2;
    let logs: Vec<Log> = (0..4).map(|n| Log::at(n * 100)).collect();
    archive::put_changed(&server, &logs[0], SealAs::V2, &gzip, |body| body[middle] ^= 1);
    archive::put_changed(&server, &logs[1], SealAs::V3, &gzip, |body| body.truncate(middle));
    // Authentic, and yet no gzip to its end.
    archive::put(&server, &logs[2], SealAs::V2, &gzip[..middle]);
    let mut bad_crc = gzip.clone();
    let crc = gzip.len() - 8;
    bad_crc[crc] ^= 1;
    archive::put(&server, &logs[3], SealAs::V2, &bad_crc);
    for form in [&[][..], &["--gzip"]] {
        let place = Place::s3(&server);
        let ended = place.run(form);
        assert_eq!(ended.code, Some(5), "{}", ended.stderr);
        assert!(logs.iter().all(|log| ended.stderr.contains(&log.key())), "{}", ended.stderr);
        assert!(place.files().is_empty() && place.journal().is_empty(), "{:?}", place.files());
        let left: Vec<_> = fs::read_dir(place.to()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [JOURNAL], "not even a folder");
    }
}

#[test]
fn no_link_leads_out_of_the_folder() {
    let (_server, log, text, place) = one_log();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("target"), "mine").unwrap();
    let path = place.path(log.path());
    for above in path.ancestors().skip(1).take_while(|above| *above != place.to()) {
        fs::remove_dir_all(place.path("prod")).ok();
        fs::create_dir_all(above.parent().unwrap()).unwrap();
        symlink(outside.path(), above).unwrap();
        for args in [&[][..], &["--force"]] {
            let ended = place.run(args);
            assert_eq!(ended.code, Some(1), "{}", ended.stderr);
            assert!(ended.stderr.contains("a symbolic link or a file is where a folder should be"), "{}", ended.stderr);
        }
        fs::remove_file(above).unwrap();
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(outside.path().join("target"), &path).unwrap();
    for args in [&[][..], &["--force"]] {
        refused(&place.run(args), &log, "no file is in the way");
    }
    fs::remove_file(&path).unwrap();
    // A temporary file's name does not make a link ours.
    let planted = place.path(".logarchivefs-0123456789abcdef.part");
    symlink(outside.path().join("target"), &planted).unwrap();
    fs::write(place.path(".logarchivefs-0123.part"), "mine").unwrap();
    let output = watch::run(&mut place.command(&[]));
    assert!(output.status.success());
    assert_eq!(fs::read(&path).unwrap(), text);
    assert!(planted.is_symlink() && place.path(".logarchivefs-0123.part").exists());
    // Nor does the journal's name.
    fs::remove_file(place.path(JOURNAL)).unwrap();
    symlink(outside.path().join("target"), place.path(JOURNAL)).unwrap();
    let output = watch::run(&mut place.command(&[]));
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(fs::read(outside.path().join("target")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

/// Keys that would be paths elsewhere are no logs; names that only look odd stay inside.
#[test]
fn hostile_keys_stay_inside() {
    let server = Server::start();
    let gzip = archive::gzip(&archive::text(1, 5));
    let hostile = ["..", ".", "a\nb", "\u{1b}[31m"];
    for (n, stack) in hostile.iter().enumerate() {
        archive::put(&server, &Log { stack: (*stack).into(), ..Log::at(n as i64) }, SealAs::V2, &gzip);
        archive::put(&server, &Log { container: (*stack).into(), ..Log::at(n as i64) }, SealAs::V2, &gzip);
    }
    let odd = [".hidden", "-rf", "~", "$(reboot)", "a b", JOURNAL, "objects"];
    for (n, stack) in odd.iter().enumerate() {
        archive::put(&server, &Log { stack: (*stack).into(), ..Log::at(n as i64) }, SealAs::V2, &gzip);
    }
    let place = Place::s3(&server);
    let ended = place.run(&[]);
    assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
    // One name is taken: that stack is named, and nothing else is harmed.
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(place.files().len(), odd.len() - 1, "{:?}", place.files());
    let above: Vec<_> = fs::read_dir(place.to().parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(above.len(), 2, "the folder and the key file: {above:?}");
    let sealed = Place::s3(&server);
    sealed.works(&["--sealed"]);
    assert_eq!(sealed.files().len(), 2 * odd.len());
    let inside = |name: &str| name.starts_with("objects/") && !name.contains("..");
    assert!(sealed.files().keys().all(|name| inside(name)), "{:?}", sealed.files());
}

/// In a mount namespace of its own, as root is not needed there.
#[test]
fn a_full_disk_ends_the_run_with_one_clear_line() {
    let server = Server::start();
    for n in 0..60 {
        archive::put(&server, &Log::at(n), SealAs::V2, &archive::gzip_level(&archive::noise(n as u64, 60_000), 1));
    }
    for form in ["--force", "--gzip", "--sealed"] {
        let place = Place::s3(&server);
        fs::create_dir(place.to()).unwrap();
        let program: Vec<String> = {
            let command = place.command(&[form]);
            let args = command.get_args().map(|a| a.to_str().unwrap().to_owned());
            [command.get_program().to_str().unwrap().to_owned()].into_iter().chain(args).collect()
        };
        let script = r#"mount -t tmpfs -o size=1m none "$1" && to=$1 && shift && "$@"; echo "code $?"
            find "$to" -name '*.part'; echo "lines $(wc -l < "$to"/.logarchivefs-download.jsonl)"
            echo "files $(find "$to" -type f ! -name '*.meta.json' ! -name '*.jsonl' | wc -l)""#;
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, "sh"]).arg(place.to()).args(&program);
        let run = place.command(&[]);
        command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = watch::run(&mut command);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "code 1", "{out}{err}");
        assert_eq!(lines.len(), 3, "a temporary file is left: {out}");
        let count = |n: usize| lines[n].rsplit_once(' ').unwrap().1.parse::<usize>().unwrap();
        assert!(count(1) >= count(2) && (1..60).contains(&count(2)), "{form}: {out}{err}");
        assert!(err.contains("No space left on device") && err.contains("make room"), "{err}");
        assert!(err.contains(&format!("{} downloaded", count(2))), "{form}: {out}{err}");
        assert!(err.lines().count() < 6, "not a line for each file: {err}");
    }
}

#[test]
fn folders_that_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    let gzip = archive::gzip(&archive::text(1, 5));
    archive::write(&copy, &Log::at(0), SealAs::V2, &gzip, WEDNESDAY, &mut Random::new(1));
    let place = Place::copy(&copy);
    let run = |to: &Path, args: &[&str]| {
        let mut command = Command::new(place.command(&[]).get_program());
        command.args(["download", &format!("file://{}", copy.display()), "--key-file"]);
        command.arg(place.to().with_file_name("keys")).arg("--to").arg(to).args(args);
        let output = watch::run(&mut command);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let link = dir.path().join("link");
    symlink(&copy, &link).unwrap();
    for to in [copy.clone(), copy.join("objects"), copy.join("new/folder"), link.join("x")] {
        let (code, said) = run(&to, &["--sealed"]);
        assert!(code == 2 && said.contains("is in the sealed copy"), "{code} {said}");
    }
    assert!(!copy.join("new").exists());
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(run(&file, &[]).0, 3);
    let mount = Setup::copy(&copy).mount();
    let (code, said) = run(mount.root(), &[]);
    assert!(code == 3 && said.contains("Read-only file system"), "{code} {said}");
    assert_eq!(run(&dir.path().join("x"), &["--gzip", "--sealed"]).0, 2);
    assert_eq!(run(&dir.path().join("some/new/folder"), &[]).0, 0);
}
