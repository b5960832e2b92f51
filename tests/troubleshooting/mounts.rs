//! What tools say in a mount: the texts of its errnos.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;

use super::desk::Desk;
use crate::common::archive::{self, Log};
use crate::common::mounted::Setup;
use crate::common::s3::{Reply, Server};
use crate::common::watch::run;

pub fn said() -> Vec<String> {
    let mut desk = Desk::new();
    let server = Server::start();
    let logs = [0, 1, 2, 3, 4, 5, 6, 7].map(Log::at);
    let gzip = archive::gzip(b"x\n");
    let no_key = Log { master: 7, ..logs[0].clone() };
    archive::put(&server, &no_key, SealAs::V2, &gzip);
    archive::put_changed(&server, &logs[1], SealAs::V2, &gzip, |body| body[0] ^= 1);
    archive::put(&server, &logs[2], SealAs::V1, &gzip);
    let (metadata, body) = archive::sealed(SealAs::V2, 0, &gzip, &mut Random::new(1));
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    server.put_class(&logs[3].key(), &metadata, body, "GLACIER");
    archive::put(&server, &logs[7], SealAs::V2, &archive::gzip(&[b'x'; 10_000]));
    for log in &logs[4..7] {
        archive::put(&server, log, SealAs::V2, &gzip);
    }
    let (down, denied) = (logs[4].key(), logs[5].key());
    server.set_hook(move |seen| match &seen.key {
        key if *key == down => Some(Reply::error(503, "SlowDown")),
        key if *key == denied => Some(Reply::error(403, "AccessDenied")),
        _ => None,
    });
    let mount = Setup::s3(&server).args(["--request-deadline", "10s", "--max-ratio", "100"]).mount();
    for log in [&no_key, &logs[1], &logs[2], &logs[3], &logs[4], &logs[5], &logs[7]] {
        desk.tool(&mount, &format!("cat {}", log.path()));
    }
    desk.tool(&mount, "cat prod/nothing");
    desk.tool(&mount, &format!("echo x >> {}", logs[6].path()));
    desk.tool(&mount, "touch new");
    let folder = mount.root().parent().unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut nobody = Command::new("ls");
    let output = run(nobody.arg(mount.root()).uid(65_534).gid(65_534).current_dir("/").env("LC_ALL", "C"));
    desk.errno(&output);
    let output = run(Command::new("umount").arg(mount.root()).current_dir(mount.root()).env("LC_ALL", "C"));
    desk.errno(&output);
    desk.log_of(&mount);
    slow(&mut desk);
    desk.said
}

/// A line on which a scan takes longer than a reader may wait.
fn slow(desk: &mut Desk) {
    let server = Server::start();
    let log = Log::at(0);
    archive::put(&server, &log, SealAs::V2, &archive::gzip_level(&archive::noise(1, 60_000_000), 1));
    // So little memory that the scan's requests come one after the other.
    let mount = Setup::s3(&server).args(["--memory", "32MiB", "--request-deadline", "6s"]).mount();
    std::fs::metadata(mount.path(log.path())).unwrap();
    server.set_latency(Duration::from_millis(700));
    desk.tool(&mount, &format!("cat {}", log.path()));
    desk.log_of(&mount);
}
