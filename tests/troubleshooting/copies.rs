//! Sealed copies that are not whole, or not theirs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;
use logarchivefs::store::object_paths;

use super::desk::{Desk, place};
use crate::common::archive::{self, Log, WEDNESDAY};
use crate::common::mounted::Setup;

pub fn said() -> Vec<String> {
    let mut desk = Desk::new();
    let dir = desk.path("copy");
    let mut n = 0;
    let mut damage = |by: &dyn Fn(PathBuf, PathBuf)| {
        n += 1;
        let log = Log::at(n);
        archive::write(&dir, &log, SealAs::V2, &archive::gzip(b"x\n"), WEDNESDAY, &mut Random::new(n as u64));
        let (body, meta) = object_paths(&log.key()).unwrap();
        by(dir.join(body), dir.join(meta));
        log
    };
    let good = damage(&|_, _| {});
    damage(&|body, _| fs::write(body, b"another").unwrap());
    damage(&|_, meta| fs::write(meta, b"{").unwrap());
    damage(&|_, meta| fs::remove_file(meta).unwrap());
    let other = dir.join(object_paths(&good.key()).unwrap().1);
    damage(&|_, meta| {
        fs::copy(&other, meta).unwrap();
    });
    damage(&|_, meta| fs::write(meta, vec![b' '; 300 << 10]).unwrap());
    damage(&|_, meta| {
        let away = meta.with_extension("away");
        fs::rename(&meta, &away).unwrap();
        symlink(away, meta).unwrap();
    });
    damage(&|_, meta| {
        fs::remove_file(&meta).unwrap();
        fs::create_dir(meta).unwrap();
    });
    damage(&|_, meta| {
        let text = fs::read_to_string(&meta).unwrap();
        fs::write(meta, text.replace("\"last_modified\":\"", "\"last_modified\":\"on ")).unwrap();
    });
    let (place, keys) = (place(&dir), desk.shown("keys"));
    fs::write(dir.join("objects/README"), "x").unwrap();
    desk.say(&["cat", &place, "--key-file", &keys]);

    // Once a mount has listed it, the object is replaced, is gone, or is behind a link.
    let log = Log::at(20);
    let (body, meta) = object_paths(&log.key()).map(|(body, meta)| (dir.join(body), dir.join(meta))).unwrap();
    let (mut random, gzip) = (Random::new(1), archive::gzip(b"x\n"));
    for case in 0..3 {
        fs::remove_dir_all(&dir).unwrap();
        archive::write(&dir, &log, SealAs::V2, &gzip, WEDNESDAY, &mut random);
        let mount = Setup::copy(&dir).mount();
        mount.out("find . | wc -l");
        match case {
            0 => archive::write(&dir, &log, SealAs::V3, &gzip, WEDNESDAY, &mut random),
            1 => [&body, &meta].into_iter().for_each(|path| fs::remove_file(path).unwrap()),
            _ => {
                let (folder, away) = (body.parent().unwrap(), desk.path("away"));
                fs::rename(folder, &away).unwrap();
                symlink(away, folder).unwrap();
            }
        }
        // With an error, unless a new listing is there by then.
        fs::read(mount.path(log.path())).ok();
        desk.log_of(&mount);
    }
    desk.said
}
