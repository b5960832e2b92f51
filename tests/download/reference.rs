//! What `download` leaves, beside what `aptible logs_from_archive` does: every row of the table in docs/COMMANDS.md is seen to
//! occur. The other side is taken from FORMAT section 1, which was made by running it.

use std::collections::BTreeSet;

use logarchivefs::envelope::SealAs;

use super::forms::{keys, load};
use super::run::Place;
use crate::common::archive::{self, Log, key_sum, sha256};
use crate::common::s3::Server;

/// Where the reference CLI puts an object below its folder.
fn theirs(key: &str) -> String {
    key.split('/').skip(4).collect::<Vec<_>>().join("/")
}

#[test]
fn every_documented_difference_is_one() {
    let mut seen = BTreeSet::new();
    let server = Server::start();
    let text = archive::text(1, 30);
    let gzip = archive::gzip(&text);
    let twins = [Log::at(0), Log { master: 1, ..Log::at(0) }];
    let keyless = Log { master: 7, ..Log::at(100) };
    let (committed, damaged, last) = (Log::at(200), Log::at(300), Log::at(400));
    twins.iter().chain([&keyless, &last]).for_each(|log| drop(archive::put(&server, log, SealAs::V2, &gzip)));
    archive::put(&server, &committed, SealAs::V3, &gzip);
    archive::put_changed(&server, &damaged, SealAs::V2, &gzip, |body| body[9] ^= 1);

    let [plain, gzipped] = [&[][..], &["--gzip"]].map(|form| {
        let place = Place::s3(&server);
        let ended = place.run(form);
        assert_eq!(ended.code, Some(5), "{}", ended.stderr);
        (place.files(), place.journal(), ended.stderr)
    });
    let (files, journal, said) = &gzipped;

    // The plain text; as they have it only where that is asked for.
    assert_eq!(plain.0[&last.path()].1, sha256(&text));
    assert_eq!(files[&format!("{}.gz", last.path())].1, sha256(&gzip));
    seen.insert("form");

    // Two objects that would have one name there are two files here, at the places of the mount.
    assert_eq!(theirs(&twins[0].key()), theirs(&twins[1].key()));
    let path = |log: &Log| journal.iter().find(|line| line["key"] == log.key()).map(|line| line["path"].clone());
    assert!(path(&twins[0]).is_some() && path(&twins[1]).is_some() && path(&twins[0]) != path(&twins[1]));
    assert_ne!(theirs(&last.key()), format!("{}.gz", last.path()));
    seen.insert("layout and names");

    // Both would have ended the run.
    assert!(said.contains(&key_sum(7)) && path(&keyless).is_none(), "{said}");
    seen.insert("a missing key");
    assert!(said.contains(&damaged.key()) && path(&damaged).is_none(), "{said}");
    assert!(path(&last).is_some() && path(&committed).is_some(), "those behind them are there");
    assert_eq!(files.len(), 4, "and of these two nothing is: {files:?}");
    seen.insert("damage");

    let server = Server::start();
    let vectors = load(&server);
    let place = Place::s3(&server).keys(&keys(&vectors[0].1));
    place.run(&["--gzip"]);
    let (files, journal) = (place.files(), place.journal());
    for name in ["aeswrap-gcm", "v3commit-metadata"] {
        let meta = &vectors.iter().find(|(vector, ..)| vector == name).unwrap().1;
        let line =
            journal.iter().find(|line| line["key"] == meta["key"]).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(files[line["path"].as_str().unwrap()].1, meta["gzip_sha256"].as_str().unwrap(), "{name}");
    }
    seen.insert("V3 envelopes and AESWrap");

    // The second table of differences.
    let docs = include_str!("../../docs/COMMANDS.md");
    let table = docs.split("| difference |").nth(2).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let documented: BTreeSet<&str> = rows.map(|row| row.split('|').nth(1).unwrap().trim()).collect();
    assert_eq!(documented, seen, "the table of differences of `download` in docs/COMMANDS.md");
}
