//! Attributes of many files: one request for each, many at once, and none the second time.

use std::fs;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, DAY, Log};
use crate::common::gate::Gate;
use crate::common::mounted::{Setup, errno, xattr};
use crate::common::s3::{Reply, Seen, Server};
use crate::common::watch::eventually;

const FILES: usize = 1000;
/// On their way at once, at least.
const TOGETHER: usize = 16;

#[test]
fn a_walk_with_sizes_asks_for_many_at_once_and_for_each_once() {
    for tool in ["ls -l FOLDER/", "find FOLDER -type f -size +0", "du -a --apparent-size FOLDER"] {
        let server = Server::start();
        let logs: Vec<Log> = (0..FILES).map(|n| Log::at(60 * n as i64)).collect();
        for (n, log) in logs.iter().enumerate() {
            archive::put(&server, log, SealAs::ALL[1 + n % 3], &archive::gzip(&archive::text(n as u64, 3)));
        }
        let mount = Setup::s3(&server).mount();
        let folder = format!("{}/{}", logs[0].folder(), logs[0].day());
        let command = tool.replace("FOLDER", &folder);
        let gets = || server.requests().iter().filter(|r| r.is_get()).count();
        // The first few show that it is a walk. From then on nothing comes before so many are on their way: one after the
        // other they would wait for each other until the deadline, and fail.
        let gate = Gate::new(100, TOGETHER);
        server.set_gate(&gate);
        let first = mount.out(&command);
        assert!(first.lines().count() >= FILES, "{tool}: {first}");
        assert_eq!(gets(), FILES, "{tool}");
        assert!(gate.counts().most >= TOGETHER, "{tool}: {:?}", gate.counts());
        assert_eq!(mount.out(&command), first);
        let attributes = mount.out(&format!("getfattr -d {folder}/*"));
        assert_eq!(attributes.matches("user.logarchive.gzip_size=").count(), FILES);
        assert_eq!(mount.out(&command), first);
        assert_eq!(gets(), FILES, "{tool}: asked again");
        // Another listing of the same objects, and one that is new and elsewhere.
        archive::put(&server, &Log::at(2 * DAY), SealAs::V2, &archive::gzip(b"new\n"));
        mount.signal(libc::SIGHUP);
        let new = mount.path(Log::at(2 * DAY).path());
        eventually("the new listing is there", || fs::symlink_metadata(&new).ok());
        assert_eq!(mount.out(&command), first);
        assert_eq!(gets(), FILES + 1, "{tool}: asked again after a refresh");
    }
}

/// `ls -l` of a folder in Glacier is not shown a size, for which it asks once; again after a refresh, and each open does.
#[test]
fn archived_objects_are_asked_for_once_a_listing() {
    let server = Server::start();
    let logs: Vec<Log> = (0..50).map(|n| Log::at(60 * n)).collect();
    for log in &logs {
        archive::put(&server, log, SealAs::V2, &archive::gzip(b"restored\n"));
    }
    let archived = |r: &Seen| r.is_get().then(|| Reply::error(403, "InvalidObjectState"));
    server.set_hook(archived);
    let mount = Setup::s3(&server).mount();
    let gets = || server.requests().iter().filter(|r| r.is_get()).count();
    let list = || mount.out("find . -type f -perm 0 -size 0 | wc -l");
    assert_eq!(list(), "50");
    let asked = gets();
    assert!(asked >= 50, "{asked}");
    assert_eq!((list(), gets()), ("50".into(), asked), "asked again");
    let path = mount.path(logs[0].path());
    assert!(xattr(&path, "error").unwrap().contains("restore it first"));
    assert_eq!(gets(), asked);
    assert_eq!(errno(fs::read(&path)), libc::EREMOTE);
    assert_eq!(gets(), asked + 1, "an open asks");
    // Another listing.
    archive::put(&server, &Log::at(2 * DAY), SealAs::V2, &archive::gzip(b"new\n"));
    mount.signal(libc::SIGHUP);
    let new = mount.path(Log::at(2 * DAY).path());
    eventually("the new listing is there", || fs::symlink_metadata(&new).ok());
    server.forget();
    assert_eq!(list(), "51");
    let asked = gets();
    assert!(asked >= 50, "{asked}");
    assert_eq!((list(), gets()), ("51".into(), asked), "asked again");
    // Somebody has one of them restored: to be opened it need not be listed again.
    server.clear_hook();
    assert_eq!(fs::read(&path).unwrap(), b"restored\n");
    assert_eq!(fs::metadata(&path).unwrap().len(), 9);
    server.set_hook(archived);
    assert_eq!((list(), gets()), ("50".into(), asked + 1), "the others are as they were");
}
