//! Objects whose envelope, ciphertext or gzip stream is not as it should be, in a sealed copy, read by `cat`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;
use logarchivefs::store::{NewObject, write_object};

use super::desk::{Desk, place};
use crate::common::archive::{self, Log};

type Metadata = BTreeMap<String, String>;

/// Objects, one a second of a Wednesday.
struct Copy<'a> {
    desk: &'a Desk,
    n: i64,
}

impl Copy<'_> {
    fn log(&mut self) -> Log {
        self.n += 1;
        Log::at(self.n)
    }

    fn add(&mut self, kind: SealAs, gzip: &[u8], change: impl FnOnce(&mut Metadata, &mut Vec<u8>)) {
        let log = self.log();
        let (mut metadata, mut body) = archive::sealed(kind, 0, gzip, &mut Random::new(self.n as u64));
        change(&mut metadata, &mut body);
        self.write(&log.key(), &metadata, &body);
    }

    fn write(&self, key: &str, metadata: &Metadata, body: &[u8]) {
        let object = NewObject { key, metadata, etag: None, version_id: None, last_modified: (1_661_300_000, 0) };
        write_object(&self.desk.path("copy"), &object, &mut &body[..]).unwrap();
    }

    /// An object with another value of a name, or without it.
    fn other(&mut self, kind: SealAs, name: &str, value: Option<&str>) {
        self.add(kind, &archive::gzip(b"x\n"), |metadata, _| match value {
            Some(value) => drop(metadata.insert(name.into(), value.into())),
            None => drop(metadata.remove(name).unwrap_or_else(|| panic!("no {name}"))),
        });
    }

    /// A gzip stream that is not right, well sealed.
    fn stream(&mut self, gzip: &[u8]) {
        self.add(SealAs::V2, gzip, |_, _| {});
    }

    fn instruction(&mut self, kind: SealAs, change: impl FnOnce(&mut Metadata), instruction: Option<&str>) {
        let log = self.log();
        let (mut metadata, body) = archive::sealed(kind, 0, &archive::gzip(b"x\n"), &mut Random::new(self.n as u64));
        change(&mut metadata);
        self.write(&log.key(), &metadata, &body);
        if let Some(text) = instruction {
            self.write(&format!("{}.instruction", log.key()), &Metadata::new(), text.as_bytes());
        }
    }
}

pub fn said() -> Vec<String> {
    let mut desk = Desk::new();
    let mut copy = Copy { desk: &desk, n: 0 };
    for name in ["x-amz-iv", "x-amz-cek-alg", "x-amz-wrap-alg", "x-amz-tag-len"] {
        copy.other(SealAs::V2, name, None);
    }
    copy.other(SealAs::V2, "x-amz-tag-len", Some("128; DROP"));
    copy.other(SealAs::V2, "x-amz-iv", Some("AAAA"));
    copy.other(SealAs::V2, "x-amz-iv", Some("not base64!"));
    copy.other(SealAs::V2, "X-Amz-Iv", Some("AAAAAAAAAAAAAAAA"));
    copy.other(SealAs::V2, "x-amz-key", Some("AAAA"));
    copy.other(SealAs::V1, "x-amz-cek-alg", Some("AES/GCM/NoPadding"));
    copy.other(SealAs::V1, "x-amz-key", Some(&STANDARD.encode([7; 256])));
    copy.other(SealAs::V2, "x-amz-iv", Some(&"A".repeat(9000)));
    copy.other(SealAs::V2, "x-amz-wrap-alg", Some("kms+context"));
    copy.other(SealAs::V2, "x-amz-cek-alg", Some("AES/CTR/NoPadding"));
    copy.other(SealAs::V2, "x-amz-key-v2", Some(&STANDARD.encode([7; 60])));
    copy.other(SealAs::V3, "x-amz-c", Some("116"));
    copy.other(SealAs::V3, "x-amz-d", Some(&STANDARD.encode([7; 28])));
    copy.add(SealAs::V2, &archive::gzip(b"x\n"), |metadata, _| metadata.clear());
    copy.add(SealAs::V2, &archive::gzip(b"x\n"), |_, body| body[3] ^= 1);
    copy.add(SealAs::V2, &archive::gzip(b"x\n"), |_, body| body.truncate(15));
    copy.add(SealAs::V1, &archive::gzip(b"x\n"), |_, _| {});

    let good = archive::gzip(&archive::text(1, 20));
    let with = |at: usize, byte: u8| [&good[..at], &[byte], &good[at + 1..]].concat();
    for bad in [with(0, 0x1e), with(2, 7), with(3, 0xe0), with(good.len() - 8, good[good.len() - 8] ^ 1)] {
        copy.stream(&bad);
    }
    copy.stream(&with(good.len() - 4, good[good.len() - 4] ^ 1));
    for end in [0, 5, 200, good.len() - 3] {
        copy.stream(&good[..end]);
    }
    let mut deflate = good.clone();
    deflate[10..40].fill(0xff);
    copy.stream(&deflate);
    copy.stream(&[&good[..], b"not gzip"].concat());

    // With their keys elsewhere: a V3 object whose instruction file has the rest, one that may have one, one without its key.
    copy.instruction(SealAs::V3, |metadata| drop(metadata.remove("x-amz-3")), None);
    let missing = Log { master: 7, ..copy.log() };
    copy.write(&missing.key(), &Metadata::new(), b"");
    let n = copy.n;
    let (place, keys) = (place(desk.path("copy")), desk.shown("keys"));
    desk.say(&["cat", &place, "--key-file", &keys]);

    // Instruction files and AES-CBC, allowed.
    std::fs::remove_dir_all(desk.path("copy")).unwrap();
    let mut copy = Copy { desk: &desk, n };
    let empty = |metadata: &mut Metadata| metadata.clear();
    copy.instruction(SealAs::V2, empty, None);
    copy.instruction(SealAs::V2, empty, Some("[]"));
    copy.instruction(SealAs::V2, empty, Some("{}"));
    copy.instruction(SealAs::V2, empty, Some(r#"{"x-amz-iv":[]}"#));
    copy.instruction(SealAs::V2, empty, Some(r#"{"x-amz-iv":"AAAA","X-Amz-Iv":"AAAA"}"#));
    copy.instruction(SealAs::V2, empty, Some(&format!(r#"{{"x":"{}"}}"#, "x".repeat(70_000))));
    copy.add(SealAs::V1, &archive::gzip(b"x\n"), |_, body| body[20] ^= 1);
    copy.add(SealAs::V1, &archive::gzip(b"x\n"), |_, body| body.truncate(17));
    desk.say(&["cat", &place, "--key-file", &keys, "--allow-instruction-files", "--allow-unauthenticated"]);

    // More text than allowed.
    std::fs::remove_dir_all(desk.path("copy")).unwrap();
    let mut copy = Copy { desk: &desk, n };
    copy.stream(&archive::gzip(&[b'x'; 100_000]));
    desk.say(&["cat", &place, "--key-file", &keys, "--max-ratio", "50"]);

    // What a sealed download and one as text say.
    let to = desk.shown("to");
    std::fs::remove_dir_all(desk.path("copy")).unwrap();
    let mut copy = Copy { desk: &desk, n };
    copy.add(SealAs::V2, &archive::gzip(b"x\n"), |_, body| body[3] ^= 1);
    copy.stream(&[&good[..], b"not gzip"].concat());
    desk.say(&["download", &place, "--to", &to, "--sealed", "--key-file", &keys]);
    let to = desk.shown("text");
    desk.say(&["download", &place, "--to", &to, "--key-file", &keys]);
    desk.said
}
