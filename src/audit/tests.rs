use super::*;
use std::fs;
use std::io::Write;

use super::line::{GENESIS, TORN};

fn mount() -> Mount {
    Mount { program: "p".into(), source: "s3://b/".into(), mountpoint: "/mnt".into(), uid: 7 }
}

fn what(key: &str) -> What {
    What { key: key.into(), etag: "e".into(), version_id: Some("v".into()) }
}

fn us() -> Caller {
    Caller { uid: 1, gid: 2, pid: std::process::id() }
}

/// A mount with so many opens and one that is refused.
fn write(path: &Path, opens: u64) -> Result<()> {
    let audit = Audit::start(path, mount())?;
    wait(async {
        for n in 0..opens {
            let open = audit.opened(us(), what("a\u{e9}\"\n,\"hash\":\"x\"}"), "unproven", false).await?;
            open.given(n)?;
            open.close("proven", 5);
            open.close("proven", 5);
        }
        audit.refused(us(), what("b"), &err!(Kind::NoKey, "no key")).await
    })
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("audit")
    }

    fn text(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    fn report(&self) -> Report {
        check(&[self.path()], &[]).unwrap()
    }

    fn append(&self, bytes: &[u8]) {
        fs::OpenOptions::new().append(true).open(self.path()).unwrap().write_all(bytes).unwrap();
    }

    fn cut(&self, by: usize) {
        let text = self.text();
        fs::write(self.path(), &text[..text.len() - by]).unwrap();
    }
}

fn refused<T>(result: Result<T>) -> String {
    let e = result.err().unwrap();
    assert_eq!(e.kind(), Kind::Config);
    e.to_string()
}

#[test]
fn a_chain_holds_over_restarts() {
    let dir = Dir::new();
    write(&dir.path(), 3).unwrap();
    write(&dir.path(), 1).unwrap();
    let report = dir.report();
    assert!(report.whole && report.ended, "{report:?}");
    assert_eq!((report.lines, report.mounts, report.unended), (3 + 6 + 3 + 2, 2, 0));
    assert_eq!((report.opens, report.closes, report.refused, report.bytes), (4, 4, 2, 5 + 6 + 7 + 5));
    let text = String::from_utf8(dir.text()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let open = &lines[1];
    assert_eq!((&open["event"], &open["uid"], &open["gid"]), (&"open".into(), &1.into(), &2.into()));
    assert_eq!(open["pid"], std::process::id());
    assert_eq!(lines[2]["open"], open["n"]);
    assert!(!open["command"].as_str().unwrap().is_empty());
    // Every head is found, and no other.
    let heads = lines.iter().map(|l| l["hash"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(report.head, *heads.last().unwrap());
    let found = check(&[dir.path()], &heads).unwrap();
    assert!(found.whole && found.heads.iter().map(|h| h.n.unwrap()).eq(1..=heads.len() as u64));
    let other = check(&[dir.path()], &[heads[0].clone(), "ab".repeat(32)]).unwrap();
    assert!(!other.whole && other.broken.is_none() && other.heads[0].n == Some(1) && other.heads[1].n.is_none());
}

#[test]
fn every_change_shows() {
    let dir = Dir::new();
    write(&dir.path(), 2).unwrap();
    // With a torn line in it.
    dir.cut(9);
    write(&dir.path(), 1).unwrap();
    let whole = dir.text();
    let before = check_bytes(&whole);
    assert!(before.whole && before.torn == 1 && before.unended == 1, "{before:?}");
    for at in 0..whole.len() {
        for bit in [1, 0x20] {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            let after = check_bytes(&changed);
            // The last line feed is all that can go without a break: then there is no end.
            assert!(!after.whole || at + 1 == whole.len() && !after.ended, "byte {at}: {after:?}");
        }
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
    let without = |n: usize| lines.iter().enumerate().filter(move |(i, _)| *i != n).flat_map(|(_, l)| *l).copied();
    for n in 0..lines.len() {
        let last = n + 1 == lines.len();
        let cut = check_bytes(&without(n).collect::<Vec<_>>());
        assert!(if last { cut.whole && !cut.ended } else { !cut.whole }, "without line {n}: {cut:?}");
        let mut moved = lines.clone();
        moved.swap(n, (n + 1) % lines.len());
        assert!(!check_bytes(&moved.concat()).whole, "line {n} moved");
        let twice = [&lines[..=n], &lines[n..]].concat().concat();
        assert!(!check_bytes(&twice).whole, "line {n} twice");
        // The beginning cut off.
        let rest = check_bytes(&lines[n..].concat());
        let told = rest.broken.is_some_and(|broken| broken.reason.contains("what was before it is not there"));
        assert!(told != rest.whole && rest.whole == (n == 0), "from line {n}");
    }
    // A line of one's own, with a hash that fits it, in place of one that was there.
    let event = Event::Refused { who: Who::default(), what: what("x"), error: "no-key", reason: String::new() };
    let prev = super::line::parse(lines[0].strip_suffix(b"\n").unwrap()).unwrap().hash;
    let (forged, _) = super::line::render(2, "t", &event, &prev).unwrap();
    let forged = [lines[0], forged.as_bytes(), &lines[2..].concat()].concat();
    let broken = check_bytes(&forged).broken.unwrap();
    assert_eq!(broken.line, 3, "{broken:?}");
    // One that hangs on the last, with a number of its own.
    let (forged, _) = super::line::render(before.lines + 2, "t", &event, &before.head).unwrap();
    assert!(!check_bytes(&[&whole, forged.as_bytes()].concat()).whole);
    // The end: only to who knows a later head.
    assert!(check_bytes(&lines[..lines.len() - 3].concat()).whole);
    fs::write(dir.path(), lines[..lines.len() - 3].concat()).unwrap();
    assert!(!check(&[dir.path()], &[before.head]).unwrap().whole);
    for odd in [&b"x"[..], b"\n", b"{}\n", &[b'x'; 100_000], &[b'{'; 100_000]] {
        let after = check_bytes(&[&whole, odd].concat());
        assert!(!after.whole || after.unfinished == odd.len() as u64 && !after.ended, "{after:?}");
    }
    assert_eq!(check_bytes(b""), Report { whole: true, head: GENESIS.into(), ..Report::default() });
}

#[test]
fn a_torn_end_is_told_apart_from_a_changed_one() {
    let dir = Dir::new();
    write(&dir.path(), 1).unwrap();
    let whole = dir.text();
    let last = whole.split_inclusive(|b| *b == b'\n').next_back().unwrap().len();
    // A crash may leave any part of a line, or zeros.
    for left in 1..last {
        fs::write(dir.path(), &whole[..whole.len() - left]).unwrap();
        let torn = dir.report();
        assert!(torn.whole && !torn.ended && torn.unfinished == (last - left) as u64, "{torn:?}");
        write(&dir.path(), 1).unwrap();
        let mended = dir.report();
        assert!(mended.whole && mended.ended, "{left}: {mended:?}");
        assert_eq!((mended.torn, mended.unended, mended.mounts, mended.unfinished), (1, 1, 2, 0));
    }
    fs::write(dir.path(), [&whole[..], &[0; 3000]].concat()).unwrap();
    // Also where the next mount did not come further than to mark it, or not even so far.
    dir.append(TORN);
    dir.append(b"{\"n\":8,\"ti");
    write(&dir.path(), 1).unwrap();
    assert_eq!((dir.report().torn, dir.report().whole), (2, true));
    // All of the first line that was ever written.
    fs::write(dir.path(), &whole[..100]).unwrap();
    write(&dir.path(), 1).unwrap();
    assert!(dir.report().whole && dir.report().torn == 1);

    // A line that was changed is not vouched for.
    let mut changed = whole.clone();
    changed[whole.len() - 100] ^= 1;
    fs::write(dir.path(), &changed).unwrap();
    assert!(refused(write(&dir.path(), 1)).contains("its last line was changed"));
    assert_eq!(dir.text(), changed, "evidence is left as it is");
    // Nor is what never was an audit log.
    for other in [&b"c2VjcmV0"[..], b"c2VjcmV0\n", b"a\nb", b"\n", b"{}\n{\"n\":1"] {
        fs::write(dir.path(), other).unwrap();
        assert!(refused(write(&dir.path(), 1)).contains("is no audit log"));
        assert_eq!(dir.text(), other);
    }
}

#[test]
fn the_file_is_ours_alone() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = Dir::new();
    let audit = Audit::start(&dir.path(), mount()).unwrap();
    assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(refused(Audit::start(&dir.path(), mount())).contains("another mount"));
    drop(audit);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o620)).unwrap();
    assert!(refused(Audit::start(&dir.path(), mount())).contains("chmod 600"));
    let link = dir.0.path().join("link");
    symlink(dir.path(), &link).unwrap();
    assert!(refused(Audit::start(&link, mount())).contains("symbolic link"));
    for odd in ["/dev/full", "/dev/null"] {
        assert!(refused(Audit::start(Path::new(odd), mount())).contains("not a regular file"));
    }
    assert!(refused(Audit::start(&dir.0.path().join("none/audit"), mount())).contains("No such file"));
}

/// As a child has one of everything until it is a program of its own.
#[test]
fn a_copy_of_the_file_does_not_keep_it_locked() {
    let dir = Dir::new();
    let chain = Chain::open(&dir.path()).unwrap();
    let _copy = chain.file().unwrap();
    assert!(refused(Chain::open(&dir.path())).contains("another mount"));
    drop(chain);
    Chain::open(&dir.path()).unwrap();
}

#[test]
fn a_rotated_log_goes_on_in_a_new_file() {
    let dir = Dir::new();
    let old = dir.0.path().join("old");
    let audit = Audit::start(&dir.path(), mount()).unwrap();
    let open = wait(audit.opened(us(), what("a"), "proven", true)).unwrap();
    audit.reopen();
    fs::rename(dir.path(), &old).unwrap();
    audit.reopen();
    open.close("proven", 1);
    drop(audit);
    let both = check(&[old.clone(), dir.path()], &[]).unwrap();
    assert!(both.whole && both.ended && both.continues.is_none(), "{both:?}");
    assert_eq!((both.opens, both.closes, both.lines), (1, 1, 6));
    let new = dir.report();
    assert!(
        new.whole && new.ended && new.continues == Some(check(std::slice::from_ref(&old), &[]).unwrap().head),
        "{new:?}"
    );
    // In another order, or with a file missing between them, it is not one log.
    assert!(!check(&[dir.path(), old.clone()], &[]).unwrap().whole);
    assert!(!check(&[old.clone(), old.clone()], &[]).unwrap().whole);
    // A mount goes on in the new file.
    write(&dir.path(), 1).unwrap();
    assert!(check(&[old, dir.path()], &[]).unwrap().whole);

    // What is there already is not written to.
    let audit = Audit::start(&dir.path(), mount()).unwrap();
    let kept = dir.0.path().join("kept");
    fs::rename(dir.path(), &kept).unwrap();
    fs::write(dir.path(), "else").unwrap();
    audit.reopen();
    wait(audit.refused(us(), what("a"), &err!(Kind::NoKey, ""))).unwrap();
    drop(audit);
    assert_eq!(dir.text(), b"else");
    assert!(check(&[kept], &[]).unwrap().ended);
}

#[test]
fn a_log_that_was_removed_stops_opens_until_there_is_a_new_one() {
    let dir = Dir::new();
    let audit = Audit::start(&dir.path(), mount()).unwrap();
    let open = wait(audit.opened(us(), what("a"), "proven", true)).unwrap();
    fs::remove_file(dir.path()).unwrap();
    let e = wait(audit.opened(us(), what("a"), "proven", true)).err().unwrap();
    assert!(e.errno() == libc::EIO && e.to_string().contains("removed; SIGHUP"), "{e}");
    open.close("proven", 1);
    audit.reopen();
    wait(audit.opened(us(), what("a"), "proven", true)).unwrap().close("proven", 2);
    drop(audit);
    // The close that could not be written was kept.
    let report = dir.report();
    assert_eq!((report.opens, report.closes, report.bytes, report.whole), (1, 2, 3, true));
    assert!(report.continues.is_some());
}

/// A disk that does not answer: the open fails, and when the disk is back, the log says that nothing was read.
#[test]
fn nobody_waits_for_ever() {
    let dir = Dir::new();
    let chain = Chain::open(&dir.path()).unwrap();
    let (jobs, received) = mpsc::channel();
    let audit = Audit { jobs, path: dir.path(), ended: AtomicBool::new(false) };
    // Nobody writes yet, and the clock goes forward by itself.
    let paused = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let e = paused.block_on(audit.opened(us(), what("a"), "proven", true)).err().unwrap();
    assert!(e.errno() == libc::EIO && e.to_string().contains("does not answer"), "{e}");
    let (done, _) = mpsc::channel();
    audit.jobs.send(Job::End(done)).unwrap();
    audit.closing();
    Writer::new(chain).run(&received);
    let report = dir.report();
    assert_eq!((report.opens, report.closes, report.bytes), (1, 1, 0));
}

#[test]
fn after_the_end_nothing_is_opened_or_given() {
    let dir = Dir::new();
    let audit = Audit::start(&dir.path(), mount()).unwrap();
    let open = wait(audit.opened(us(), what("a"), "proven", true)).unwrap();
    open.given(5).unwrap();
    open.close("proven", 0);
    assert_eq!(open.given(5).unwrap_err().kind(), Kind::Stale);
    audit.end();
    assert!(wait(audit.opened(us(), what("a"), "proven", true)).is_err());
    assert!(wait(audit.refused(us(), what("a"), &err!(Kind::NoKey, ""))).is_err());
    drop(audit);
    assert!(dir.report().ended && dir.report().bytes == 5);
}
