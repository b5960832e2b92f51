//! What the tree shows and what it leaves out: selections, short container ids, foreign keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, DAY, Log, WEDNESDAY, When};
use crate::common::mounted::{Setup, errno};
use crate::common::s3::Server;

/// Six logs that differ in one thing each.
fn logs() -> Vec<Log> {
    let base = Log::at(3600);
    let span = |from: i64, to: i64| When::Span(Some(WEDNESDAY + from), Some(WEDNESDAY + to));
    vec![
        base.clone(),
        Log { stack: "prod-2".into(), ..base.clone() },
        Log { resource: "databases-321".into(), ..base.clone() },
        Log { resource: "proxy-55".into(), ..base.clone() },
        Log { service: 13, when: span(7200, 7300), ..base.clone() },
        Log { container: "fe".repeat(32), when: span(2 * DAY, 3 * DAY + 5), ..base.clone() },
        Log { when: When::Uploaded(Some(WEDNESDAY + 5 * DAY)), ..base },
    ]
}

fn put_all(server: &Server, logs: &[Log]) {
    for log in logs {
        archive::put(server, log, SealAs::V2, &archive::gzip(b"x\n"));
    }
}

#[test]
fn selections() {
    let server = Server::start();
    let logs = logs();
    put_all(&server, &logs);
    for (args, want) in [
        (&[][..], &[0, 1, 2, 3, 4, 5, 6][..]),
        (&["--stack", "prod"], &[0, 2, 3, 4, 5, 6]),
        (&["--stack", "prod-2"], &[1]),
        (&["--stack", "prod", "--stack", "prod-2"], &[0, 1, 2, 3, 4, 5, 6]),
        (&["--stack", "pro"], &[]),
        (&["--app-id", "321"], &[0, 1, 4, 5, 6]),
        (&["--database-id", "321"], &[2]),
        (&["--endpoint-id", "55"], &[3]),
        (&["--app-id", "321", "--database-id", "321"], &[]),
        (&["--service-id", "13"], &[4]),
        (&["--container-id", "fefefefefefe"], &[5]),
        (&["--start-date", "2022-08-25"], &[5, 6]),
        (&["--end-date", "2022-08-24"], &[0, 1, 2, 3, 4]),
        (&["--start-date", "2022-08-27", "--end-date", "2022-08-28"], &[5]),
        (&["--start-date", "2022-08-24T02:00:00Z", "--end-date", "2022-08-24T03:00:00+01:00"], &[4]),
        (&["--stack", "prod", "--app-id", "321", "--start-date", "2022-08-29"], &[6]),
    ] {
        let mount = Setup::s3(&server).args(args).mount();
        let shown = mount.out("find . -type f");
        let got: BTreeSet<&str> = shown.lines().map(|l| &l[2..]).collect();
        let paths: Vec<String> = want.iter().map(|n| logs[*n].path()).collect();
        assert_eq!(got, paths.iter().map(String::as_str).collect(), "{args:?}");
    }
}

#[test]
fn a_prefix_of_a_container_is_a_link_that_is_not_listed() {
    let server = Server::start();
    let mut logs = vec![Log::at(0), Log::at(1), Log::at(2)];
    logs[1].container = format!("38d5927338d5{}", "f".repeat(52));
    logs[2].container = "0123456789ab".into();
    put_all(&server, &logs);
    let mount = Setup::s3(&server).mount();
    let apps = mount.path("prod/apps-321");
    let link = |prefix: &str| fs::read_link(apps.join(prefix)).map(|t| t.to_str().unwrap().to_owned());
    assert_eq!(link(&logs[0].container[..13]).unwrap(), logs[0].container);
    assert_eq!(link("38d5927338d5f").unwrap(), logs[1].container);
    let meta = fs::symlink_metadata(apps.join("38d5927338d5f")).unwrap();
    assert!(meta.is_symlink() && meta.size() == 64);
    assert_eq!(errno(link(&logs[0].container[..12])), libc::ENOENT, "not unique");
    assert_eq!(errno(link(&logs[0].container[..11])), libc::ENOENT, "too short");
    assert_eq!(errno(link("38d5927338d5e")), libc::ENOENT, "nobody's");
    assert!(fs::symlink_metadata(apps.join("0123456789ab")).unwrap().is_dir(), "a whole id is its folder");
    let text =
        fs::read(apps.join(&logs[1].container[..20]).join(logs[1].day()).join(format!("{}.json", logs[1].stem())));
    assert_eq!(text.unwrap(), b"x\n");
    assert_eq!(fs::read_dir(&apps).unwrap().count(), 3, "prefixes are not listed, even after they were used");
}

/// Foreign keys are counted and named, escaped; instruction files belong to their objects and are neither.
#[test]
fn foreign_keys_are_not_shown_but_named() {
    let server = Server::start();
    let log = Log::at(0);
    put_all(&server, std::slice::from_ref(&log));
    let sum = archive::key_sum(0);
    let foreign = [
        "README.txt".to_owned(),
        "prod/notes".into(),
        "prod/shareable/v1/x".into(),
        format!("prod/shareable/v3/{sum}/weird/x"),
        format!("prod/shareable/v3/{sum}/apps-321/service-12/{}-json.log.1.archived.gz", log.container),
        format!("prod/shareable/v3/{sum}/apps-321/service-12/..-json.log.unknown.unknown.archived.gz"),
        format!("prod/shareable/v3/{sum}/apps-321/service-12/\u{1b}[31mred-json.log.unknown.unknown.archived.gz"),
        "../etc/passwd".into(),
        "//double".into(),
    ];
    for key in &foreign {
        server.put(key, &[], "foreign");
    }
    server.put(&format!("{}.instruction", log.key()), &[], "{}");
    let mount = Setup::s3(&server).mount();
    let all = mount.out("find . | sort");
    let mut want: Vec<String> = vec![".".into()];
    let path = log.path();
    want.extend(path.match_indices('/').map(|(at, _)| format!("./{}", &path[..at])));
    want.push(format!("./{path}"));
    assert_eq!(all.lines().collect::<Vec<_>>(), want);
    let log = mount.log();
    for key in &foreign {
        let first = key.split('\u{1b}').next().unwrap();
        // A level of the listing names what is at it: a folder by its prefix.
        let named = log.contains(first)
            || key.match_indices('/').any(|(at, _)| at > 3 && log.contains(&format!("{} (", &key[..at + 1])))
            || key.starts_with("../") && log.contains("../ (")
            || key.starts_with("//") && log.contains("/ (");
        assert!(named, "{key:?} is not in the log:\n{log}");
    }
    assert!(!log.contains('\u{1b}') && log.contains("\\x1b"), "escaped:\n{log}");
    // Never asked for.
    assert!(server.requests().iter().all(|r| !r.is_get()));
    // Listed again, the same is not logged again.
    mount.signal(libc::SIGHUP);
    let before = server.requests().len();
    crate::common::watch::eventually("the listing is fetched again", || {
        mount.out("find . -type f");
        (server.requests().len() > before + 4).then_some(())
    });
    assert_eq!(mount.log(), log);
}

#[test]
fn a_prefix_of_the_bucket_is_the_root() {
    let server = Server::start();
    let log = Log::at(0);
    let (metadata, body) =
        archive::sealed(SealAs::V2, 0, &archive::gzip(b"below\n"), &mut logarchivefs::demo::logs::Random::new(1));
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    server.put(&format!("backup/2022/{}", log.key()), &metadata, body);
    put_all(&server, &[Log { stack: "other".into(), ..log.clone() }]);
    let mount = Setup::s3(&server).bucket("s3://archive/backup/2022/").mount();
    assert_eq!(mount.out("ls"), "prod");
    assert_eq!(fs::read(mount.path(log.path())).unwrap(), b"below\n");
}

/// More than a page of a listing; all of it is there, in the order of the names.
#[test]
fn long_folders_are_whole() {
    let server = Server::start();
    for n in 0..2300 {
        server.put(&Log::at(n).key(), &[], "x");
    }
    let mount = Setup::s3(&server).mount();
    let want: Vec<String> = (0..2300).map(|n| format!("{}.json", Log::at(n).stem())).collect();
    let shown = mount.out(&format!("ls -U prod/apps-321/*/{}", Log::at(0).day()));
    let got: Vec<&str> = shown.lines().collect();
    assert!(got == want, "{} of {} names", got.len(), want.len());
}

fn lists(server: &Server) -> usize {
    server.requests().iter().filter(|r| r.is_list()).count()
}

/// The entries of a folder by `getdents` with a buffer for a few at a time; `between` is called after each.
fn slowly(folder: &std::path::Path, mut between: impl FnMut()) -> Vec<String> {
    let dir = fs::File::open(folder).unwrap();
    let mut names = Vec::new();
    let mut buf = [0u8; 400];
    loop {
        // SAFETY: an open descriptor, and a buffer of the length that is given.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buf.as_mut_ptr(), buf.len()) };
        assert!(got >= 0, "{}", std::io::Error::last_os_error());
        let mut left = &buf[..got as usize];
        if left.is_empty() {
            return names;
        }
        while !left.is_empty() {
            let len = usize::from(u16::from_le_bytes([left[16], left[17]]));
            let name = left[19..len].split(|b| *b == 0).next().unwrap();
            names.push(String::from_utf8(name.to_vec()).unwrap());
            left = &left[len..];
        }
        between();
    }
}

/// A mount costs what a look at the root costs, and each folder its own listing, once.
#[test]
fn requests_are_those_that_a_folder_needs() {
    let server = Server::start();
    // As many pages as a million keys have in a resource that nobody looks into.
    server.set_page(10);
    put_all(&server, &logs());
    for n in 0..5000 {
        let log = Log { resource: "apps-9".into(), container: archive::sha256(&[(n / 20) as u8]), ..Log::at(60 * n) };
        server.put(&log.key(), &[], "x");
    }
    let mount = Setup::s3(&server).mount();
    assert_eq!(mount.out("ls"), "prod\nprod-2");
    assert!(lists(&server) <= 5, "{} LISTs", lists(&server));
    mount.out("ls prod");
    server.forget();
    let shown = mount.out("find prod/apps-9 -type f | wc -l");
    assert_eq!(shown, "5000");
    let pages = lists(&server);
    assert!((500..=650).contains(&pages), "{pages} LISTs for 500 pages");
    let split = server.requests().iter().filter(|r| r.query.contains("start-after=")).count();
    assert!(split > 0, "one page after another");
    server.forget();
    mount.out("find prod -mindepth 1 -maxdepth 1; find prod/apps-9; stat prod/apps-9; ls -d prod/apps-9/*/* | tail -1");
    assert_eq!(mount.sh("stat prod/apps-9/nothing prod/nothing nothing").status.code(), Some(1));
    assert_eq!(lists(&server), 0, "what was listed is asked for again");
}

/// A folder that is being read when its listing changes shows each entry that stays exactly once.
#[test]
fn a_refresh_neither_loses_nor_repeats_an_entry() {
    let server = Server::start();
    let keys: Vec<String> = (0..200).map(|n| Log::at(100 * n).key()).collect();
    for key in &keys {
        server.put(key, &[], "x");
    }
    let mount = Setup::s3(&server).mount();
    let folder = mount.path(Log::at(0).path()).parent().unwrap().to_owned();
    let other = mount.path(format!("{}/{}", Log::at(0).folder(), "2022-08-26"));
    let mut round = 0;
    let names = slowly(&folder, || {
        round += 1;
        if round != 3 {
            return;
        }
        // Between and before the rest, and some of what was shown and of what was not goes.
        for n in 0..200 {
            server.put(&Log::at(100 * n + 50).key(), &[], "x");
        }
        server.put(&Log::at(2 * DAY).key(), &[], "x");
        keys.iter().step_by(2).for_each(|key| server.delete(key));
        mount.signal(libc::SIGHUP);
        crate::common::watch::eventually("the new listing is there", || other.exists().then_some(()));
    });
    assert!(round > 10, "read at once: the test shows nothing");
    let want: Vec<String> = (0..200).map(|n| format!("{}.json", Log::at(100 * n).stem())).collect();
    assert_eq!(names[2..], want);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 300, "a new look shows the new listing");
}

/// While a new listing does not come, the old one answers.
#[test]
fn a_stalled_refresh_blocks_nobody() {
    let server = Server::start();
    put_all(&server, &logs());
    let mount = Setup::s3(&server).args(["--listing-ttl", "1s"]).mount();
    let before = mount.out("find . | sort");
    server.set_hook(|seen| seen.is_list().then_some(crate::common::s3::Reply::Hang));
    server.forget();
    mount.signal(libc::SIGHUP);
    crate::common::watch::eventually("the refresh has begun", || (lists(&server) > 0).then_some(()));
    // Had it to wait, it would fail when the request's deadline has passed.
    assert_eq!(mount.out("find . | sort"), before);
    assert_eq!(fs::read(mount.path(logs()[0].path())).unwrap(), b"x\n");
    server.clear_hook();
}

/// A refresh that brings other objects changes no number of what stays; a new version of an object is another file.
#[test]
fn inode_numbers_outlast_a_refresh() {
    let server = Server::start();
    let logs: Vec<Log> =
        (0..20).map(|n| Log { container: archive::sha256(&[n % 4]), ..Log::at(i64::from(n) * 600) }).collect();
    put_all(&server, &logs);
    let mount = Setup::s3(&server).mount();
    // Files with their folders, by what `stat` says and by what `readdir` says.
    let numbers = || -> BTreeMap<String, u64> {
        let shown = mount.out("find . -printf '%i %p\\n' && find . -mindepth 1 -print0 | xargs -0 stat -c '%i %n'");
        let mut all = BTreeMap::new();
        for line in shown.lines() {
            let (number, path) = line.split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            assert_eq!(*all.entry(path.to_owned()).or_insert(number), number, "{path}");
        }
        all
    };
    let before = numbers();
    assert!(before.len() > logs.len() + 6, "{before:#?}");
    // Before, between and behind the others: a stack, resources, containers, days, files. One object goes, one is replaced.
    let mut new: Vec<Log> =
        (0..20).map(|n| Log { container: archive::sha256(&[n]), ..Log::at(i64::from(n) * 600 - DAY) }).collect();
    new.extend(logs.iter().map(|log| Log { resource: "apps-3".into(), ..log.clone() }));
    new.push(Log { stack: "another".into(), ..logs[0].clone() });
    put_all(&server, &new);
    server.delete(&logs[5].key());
    archive::put(&server, &logs[6], SealAs::V2, &archive::gzip(b"longer\n"));
    mount.signal(libc::SIGHUP);
    let last = mount.path(Log { resource: "apps-3".into(), ..logs[19].clone() }.path());
    let day = mount.path(new[19].path());
    crate::common::watch::eventually("the new listing is there", || (last.exists() && day.exists()).then_some(()));
    crate::common::watch::eventually("the kernel has forgotten the old name", || {
        (fs::metadata(mount.path(logs[6].path())).ok()?.len() == 7).then_some(())
    });
    let after = numbers();
    assert!(after.len() > before.len() + 40);
    let changed: Vec<&String> =
        before.iter().filter(|(path, number)| after.get(*path) != Some(number)).map(|(path, _)| path).collect();
    let of = |n: usize| format!("./{}", logs[n].path());
    assert_eq!(changed.into_iter().collect::<BTreeSet<_>>(), [&of(5), &of(6)].into_iter().collect());
    assert!(!after.contains_key(&of(5)));
    assert_eq!(after.values().collect::<BTreeSet<_>>().len(), after.len(), "two have one number");
}

/// What one request told of a file is not asked again, not even after a refresh; a new version is.
#[test]
fn attributes_are_remembered_while_the_version_stays() {
    let server = Server::start();
    let logs: Vec<Log> = (0..300).map(|n| Log::at(60 * n)).collect();
    put_all(&server, &logs);
    let mount = Setup::s3(&server).mount();
    let folder = format!("{}/{}", logs[0].folder(), logs[0].day());
    let gets = || server.requests().iter().filter(|r| r.is_get()).count();
    mount.out(&format!("ls {folder}"));
    assert_eq!(gets(), 0, "names cost no request");
    let first = mount.out(&format!("ls -l {folder}"));
    assert_eq!(gets(), logs.len());
    assert_eq!(mount.out(&format!("ls -l {folder}")), first);
    assert_eq!(gets(), logs.len());
    // The same objects and a new one, so that the end of the refresh shows.
    archive::put(&server, &logs[7], SealAs::V2, &archive::gzip(b"longer\n"));
    put_all(&server, &[Log::at(2 * DAY)]);
    mount.signal(libc::SIGHUP);
    let new = mount.path(Log::at(2 * DAY).path());
    crate::common::watch::eventually("the new listing is there", || fs::symlink_metadata(&new).ok());
    let before = gets();
    // The kernel keeps names for some seconds.
    crate::common::watch::eventually("the new version is there", || {
        mount.out(&format!("ls -l {folder}"));
        (fs::metadata(mount.path(logs[7].path())).unwrap().len() == 7).then_some(())
    });
    assert_eq!(gets(), before + 1, "only the new version is asked for");
}
