//! Sizes: hints before the first open, the truth from then on, and never a truncated text, whatever the gzip trailer says.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, DAY, Log, sha256};
use crate::common::mounted::{Mount, Setup, xattr};
use crate::common::s3::Server;

/// A gzip stream, its text, and what its last four bytes say if that is plausible.
struct Shape {
    name: &'static str,
    gzip: Vec<u8>,
    text: Vec<u8>,
    hint: Option<u64>,
}

/// All with more than 512 KiB of ciphertext, so that their size is a hint, or half a dozen kilobytes.
fn shapes(large: bool) -> Vec<Shape> {
    let noise = |seed| archive::noise(seed, if large { 480_000 } else { 3000 });
    let repeated: Vec<u8> = b"{\"log\":\"again\\n\"}\n".repeat(if large { 60_000 } else { 600 });
    let (a, b) = (noise(1), noise(2));
    let members = [archive::gzip(&a), archive::gzip(&b), archive::gzip(&repeated)];
    let stream = members.concat();
    let text = [a, b, repeated.clone()].concat();
    let with = |tail: &[u8]| [&stream[..], tail].concat();
    let claim = |n: u32| [&b"no gzip"[..], &n.to_le_bytes()].concat();
    let last = repeated.len() as u64;
    assert!(!large || stream.len() > 600_000 && last > stream.len() as u64 && last < text.len() as u64);
    let huge = text.len() as u64 * 3;
    // Plausible: deflate makes little more of anything than it is.
    let less = stream.len() as u32 + 1000;
    vec![
        Shape { name: "members", gzip: stream.clone(), text: text.clone(), hint: Some(last) },
        Shape { name: "zeros", gzip: with(&[0; 4096]), text: text.clone(), hint: None },
        Shape { name: "garbage, too small", gzip: with(&claim(less)), text: text.clone(), hint: Some(u64::from(less)) },
        Shape { name: "garbage, too large", gzip: with(&claim(huge as u32)), text: text.clone(), hint: Some(huge) },
        Shape {
            name: "short last member",
            gzip: [&stream[..], &archive::gzip(b"x")].concat(),
            text: [&text[..], b"x"].concat(),
            hint: None,
        },
        Shape { name: "single", gzip: archive::gzip(&text), hint: Some(text.len() as u64), text },
    ]
}

/// Each tool gets a file of its own, which nobody has touched before.
const TOOLS: [&str; 8] = [
    "cat F | sha256sum",
    "wc -c < F",
    "wc -c F",
    "tail -c 70 F | sha256sum",
    "cp F COPY && sha256sum < COPY && rm COPY",
    "dd if=F bs=99991 status=none | sha256sum",
    "python3 -c 'import mmap,hashlib; f=open(\"F\"); print(hashlib.sha256(mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)).hexdigest())'",
    "sha256sum < F",
];

fn want(tool: &str, text: &[u8]) -> String {
    match tool {
        t if t.starts_with("wc") => text.len().to_string(),
        t if t.starts_with("tail") => sha256(&text[text.len() - 70..]),
        _ => sha256(text),
    }
}

fn first_access(large: bool) {
    let server = Server::start();
    let shapes = shapes(large);
    let place = |shape: usize, tool: usize| Log::at((shape * 100 + tool) as i64);
    for (s, shape) in shapes.iter().enumerate() {
        for tool in 0..TOOLS.len() {
            archive::put(&server, &place(s, tool), SealAs::ALL[1 + s % 3], &shape.gzip);
        }
    }
    let copies = tempfile::tempdir().unwrap();
    let mount = Setup::s3(&server).mount();
    for (s, shape) in shapes.iter().enumerate() {
        for (t, tool) in TOOLS.iter().enumerate() {
            let copy = copies.path().join("copy");
            let command = tool.replace('F', &place(s, t).path()).replace("COPY", copy.to_str().unwrap());
            let got = mount.out(&command);
            let got = got.split_whitespace().next().unwrap_or_default();
            assert_eq!(got, want(tool, &shape.text), "{}: {tool}", shape.name);
        }
    }
    if shapes[2].gzip.len() > shapes[0].gzip.len() {
        let warned = mount.log().matches("are no gzip and are left out").count();
        assert!(warned >= 2 * TOOLS.len(), "trailing garbage is warned about:\n{}", mount.log());
    }
}

#[test]
fn small_odd_streams_are_whole_at_first_access() {
    first_access(false);
}

#[test]
fn large_odd_streams_are_whole_at_first_access() {
    first_access(true);
}

fn sizes(mount: &Mount, log: &Log) -> (u64, u64) {
    let meta = fs::metadata(mount.path(log.path())).unwrap();
    (meta.len(), meta.blocks())
}

#[test]
fn a_hint_before_the_open_the_truth_after_it() {
    let server = Server::start();
    let shapes = shapes(true);
    for (s, shape) in shapes.iter().enumerate() {
        archive::put(&server, &Log::at(s as i64), SealAs::V2, &shape.gzip);
    }
    let mount = Setup::s3(&server).mount();
    for (s, shape) in shapes.iter().enumerate() {
        let log = Log::at(s as i64);
        let exact = shape.text.len() as u64;
        let first = shape.hint.unwrap_or(exact);
        assert_eq!(sizes(&mount, &log), (first, first.div_ceil(512)), "{} before", shape.name);
        let path = mount.path(log.path());
        if shape.hint.is_some() {
            assert_eq!(xattr(&path, "auth").unwrap(), "unproven", "{}", shape.name);
        }
        assert!(fs::read(&path).unwrap() == shape.text, "{}", shape.name);
        assert_eq!(sizes(&mount, &log), (exact, exact.div_ceil(512)), "{} after", shape.name);
        assert_eq!(xattr(&path, "auth").unwrap(), "proven");
    }
}

#[test]
fn exact_sizes_are_exact_before_any_open() {
    let server = Server::start();
    let shapes = shapes(true);
    for (s, shape) in shapes.iter().enumerate() {
        archive::put(&server, &Log::at(s as i64), SealAs::V2, &shape.gzip);
    }
    let mount = Setup::s3(&server).args(["--sizes", "exact"]).mount();
    for (s, shape) in shapes.iter().enumerate() {
        assert_eq!(sizes(&mount, &Log::at(s as i64)).0, shape.text.len() as u64, "{}", shape.name);
    }
}

/// Folders show the day, links their targets' time; nothing of it asks for an object.
#[test]
fn folders_have_times_too() {
    let server = Server::start();
    let log = Log::at(DAY - 5);
    archive::put(&server, &log, SealAs::V2, &archive::gzip(b"x\n"));
    let mount = Setup::s3(&server).mount();
    let day = fs::metadata(mount.path(log.folder()).join(log.day())).unwrap();
    assert_eq!(day.mtime(), archive::WEDNESDAY);
    let link = mount.path(log.folder()).join(&log.later_days()[0]).join(format!("{}.json", log.stem()));
    assert_eq!(fs::symlink_metadata(&link).unwrap().mtime(), log.mtime().unwrap());
    assert!(server.requests().iter().all(|r| !r.is_get()));
    assert_eq!(fs::read(link).unwrap(), b"x\n");
}

/// One reader waits for the size, which sends the text to the kernel's pages meanwhile; others read on without asking.
#[test]
fn readers_beside_one_who_waits_for_the_size() {
    let server = Server::start();
    let shapes = shapes(true);
    let names = ["members", "garbage, too small", "garbage, too large"];
    let shapes: Vec<&Shape> = shapes.iter().filter(|s| names.contains(&s.name)).collect();
    for (s, shape) in shapes.iter().enumerate() {
        for copy in 0..12 {
            archive::put(&server, &Log::at((s * 100 + copy * 7) as i64), SealAs::V2, &shape.gzip);
        }
    }
    let mount = Setup::s3(&server).mount();
    for (s, shape) in shapes.iter().enumerate() {
        for copy in 0..12 {
            let path = mount.path(Log::at((s * 100 + copy * 7) as i64).path());
            std::thread::scope(|scope| {
                for piece in [4096, 5000, 70_000] {
                    let path = &path;
                    scope.spawn(move || {
                        let mut file = File::open(path).unwrap();
                        let (mut got, mut buf) = (0, vec![0; piece]);
                        loop {
                            let n = file.read(&mut buf).unwrap();
                            let want = &shape.text[got..(got + n).min(shape.text.len())];
                            assert!(buf[..n] == *want, "{}: wrong text between {got} and {}", shape.name, got + n);
                            got += n;
                            if n == 0 {
                                break;
                            }
                        }
                        assert_eq!(got, shape.text.len(), "{}: cut short", shape.name);
                    });
                }
                let size = File::open(&path).unwrap().metadata().unwrap().len();
                assert_eq!(size, shape.text.len() as u64);
            });
        }
    }
}

/// A reader that never asks for the size learns the true end of a file whose hint was too large from its reads alone.
#[test]
fn no_zeros_behind_the_end() {
    const COPIES: i64 = 24;
    let server = Server::start();
    let shapes = shapes(true);
    let shape = shapes.iter().find(|s| s.name == "garbage, too large").unwrap();
    assert!(shape.hint.unwrap() > shape.text.len() as u64);
    for copy in 0..COPIES {
        archive::put(&server, &Log::at(copy * 7), SealAs::V2, &shape.gzip);
    }
    let mount = Setup::s3(&server).mount();
    for copy in 0..COPIES {
        let path = mount.path(Log::at(copy * 7).path());
        for piece in [70_000, 4096, 1 << 20] {
            let mut file = File::open(&path).unwrap();
            let (mut got, mut buf) = (Vec::new(), vec![0; piece]);
            loop {
                match file.read(&mut buf).unwrap() {
                    0 => break,
                    n => got.extend_from_slice(&buf[..n]),
                }
            }
            assert!(got == shape.text, "{} bytes of {} in pieces of {piece}", got.len(), shape.text.len());
        }
        // Straight behind the end.
        assert_eq!(File::open(&path).unwrap().read_at(&mut [0; 10], shape.text.len() as u64 + 9_000).unwrap(), 0);
    }
}
