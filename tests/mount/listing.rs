//! What the tree shows and what it leaves out: selections, short container ids, foreign keys.

use std::collections::BTreeSet;
use std::fs;
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
