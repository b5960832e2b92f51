//! Interop with the reference: AWS's own Ruby encryption clients, as the reference CLI configures them, over the S3 wire.
//!
//! What Ruby writes the mount reads, byte for byte; what our writer seals Ruby reads; and with the same random numbers
//! both write the same bytes. Needs `ruby`, `ruby-aws-sdk-s3`, FUSE: without them these tests fail, they are not skipped.

mod common;
mod ruby;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::s3::Server;
use flate2::{Compression, GzBuilder, write::GzEncoder};
use logarchivefs::demo::logs::{self, Program, Random};
use logarchivefs::envelope::{MasterKey, SealAs, seal};
use ruby::mount::Mount;
use ruby::{Ruby, decode};
use serde_json::json;
use sha2::{Digest, Sha256};

/// A log, and the gzip file that an archiver makes of it.
struct Log {
    name: &'static str,
    text: Vec<u8>,
    gzip: Vec<u8>,
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Docker's own `compress=true`: bare JSON in FEXTRA, no time, an unknown system.
fn docker_gzip(text: &[u8]) -> Vec<u8> {
    let extra = br#"{"lastTime":"2022-08-24T21:14:38.123456789Z"}"#;
    let mut encoder = GzBuilder::new().extra(&extra[..]).operating_system(255).write(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn lines(program: Program, n: u64) -> Vec<u8> {
    let mut text = Vec::new();
    logs::write(program, &mut Random::new(n), 1_661_375_553, 1_661_375_678, n, &mut text);
    text
}

/// Sizes on both sides of what is fetched whole (512 KiB), and of what Ruby encrypts in memory (1 MiB).
fn payloads() -> Vec<Log> {
    let plain = |name, text: Vec<u8>| Log { name, gzip: gzip(&text), text };
    let whole = lines(Program::Proxy, 900);
    let (first, second) = whole.split_at(whole.len() / 3);
    let mut random = Random::new(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.below(256) as u8).take(3_200_000).collect();
    let logs = vec![
        plain("empty", Vec::new()),
        plain("one line", br#"{"log":"hi\n","stream":"stdout","time":"2022-08-24T21:12:33Z"}"#.to_vec()),
        plain("300 KB", lines(Program::Web, 1_300)),
        plain("5 MB", lines(Program::Web, 23_000)),
        plain("5 MB that shrink to little", lines(Program::Web, 1)[..].repeat(23_000)),
        plain("3 MB that do not shrink", noise),
        Log { name: "four members", gzip: [gzip(first), gzip(b""), gzip(second), gzip(b"")].concat(), text: whole },
        Log {
            name: "docker's own",
            gzip: docker_gzip(&lines(Program::Worker, 2000)),
            text: lines(Program::Worker, 2000),
        },
    ];
    for log in &logs {
        println!("{}: {} bytes in {}", log.name, log.text.len(), log.gzip.len());
    }
    assert!(logs[2].text.len() > 300_000 && logs[3].text.len() > 5 << 20 && logs[4].text.len() > 5 << 20);
    assert!(logs[3].gzip.len() > 512 << 10 && logs[4].gzip.len() < 512 << 10 && logs[5].gzip.len() > 1 << 20);
    logs
}

/// All lengths that an AES key has, which are all that Ruby takes.
fn masters() -> Vec<Vec<u8>> {
    [32, 24, 16].into_iter().map(fresh).collect()
}

fn fresh(len: usize) -> Vec<u8> {
    let mut key = vec![0; len];
    getrandom::fill(&mut key).unwrap();
    key
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// An object key of either naming, and where the mount shows it; `n` makes both unique.
fn place(v3: bool, n: usize, master: &[u8]) -> (String, String) {
    let (sum, container) = (sha256(master), sha256(&n.to_le_bytes()));
    if !v3 {
        let key = format!("prod/shareable/v2/{sum}/databases-7/{container}-json.1.log.2022-06-29T18:30:01.bck.gz");
        return (key, format!("prod/databases-7/{container}/2022-06-29/uploaded-20220629T183001Z.1.json"));
    }
    let file = format!("{container}-json.log.2022-08-24T21:12:33.2022-08-24T21:14:38.archived.gz");
    let path = format!("{container}/2022-08-24/20220824T211233Z_20220824T211438Z.json");
    if n.is_multiple_of(2) {
        let key = format!("prod/shareable/v3/{sum}/apps-321/service-1201/{file}");
        return (key, format!("prod/apps-321/{path}"));
    }
    (format!("prod/shareable/v3/{sum}/proxy-55/{file}"), format!("prod/proxy-55/{path}"))
}

/// Not `assert_eq`, which would print megabytes.
fn same(what: &str, got: &[u8], want: &[u8]) {
    let at = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or(got.len().min(want.len()));
    assert!(got == want, "{what}: {} bytes, not {}; they differ from {at} on", got.len(), want.len());
    assert_eq!(sha256(got), sha256(want), "{what}");
}

#[track_caller]
fn refused(what: &str, result: std::io::Result<Vec<u8>>, errno: i32) {
    let got = result.as_ref().map(Vec::len).map_err(|e| e.raw_os_error());
    assert_eq!(got, Err(Some(errno)), "{what}");
}

/// Reads at offsets of its own through one handle, as `tail -c` or an editor do.
fn reads_anywhere(mnt: &Path, path: &str, text: &[u8]) {
    let file = std::fs::File::open(mnt.join(path)).unwrap();
    assert_eq!(file.metadata().unwrap().len(), text.len() as u64, "{path}");
    let mut random = Random::new(text.len() as u64);
    for _ in 0..20 {
        let at = random.below(text.len() as u64 + 1) as usize;
        let want = &text[at..text.len().min(at + random.below(200_000) as usize)];
        let mut got = vec![0; want.len()];
        file.read_exact_at(&mut got, at as u64).unwrap();
        same(&format!("{path} at {at}"), &got, want);
    }
}

/// Every payload, under every length of key and both namings, written by `client` with its envelope at `location`. What
/// the mount shows: text by path.
fn written_by(ruby: &Ruby, client: &str, location: &str, masters: &[Vec<u8>]) -> BTreeMap<String, Vec<u8>> {
    let mut shown = BTreeMap::new();
    let payloads = payloads();
    for (m, master) in masters.iter().enumerate() {
        for (p, log) in payloads.iter().enumerate() {
            // Both namings under each key, and each payload under both over the keys.
            let (key, path) = place((m + p) % 2 == 0, m * 100 + p, master);
            ruby.put(client, location, &key, master, &log.gzip);
            assert!(shown.insert(path, log.text.clone()).is_none());
        }
    }
    shown
}

fn all_read_back(mount: &Mount, shown: BTreeMap<String, Vec<u8>>) {
    assert_eq!(mount.files(), shown.keys().cloned().collect::<Vec<_>>());
    for (path, text) in shown {
        let got = mount.read(&path).unwrap_or_else(|e| panic!("{path}: {e}; the mount's log:\n{}", mount.log()));
        same(&path, &got, &text);
        mount.within(move |mnt| reads_anywhere(&mnt, &path, &text));
    }
}

fn slices(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

#[test]
fn the_mount_reads_what_ruby_writes() {
    let (server, masters) = (Server::start(), masters());
    let ruby = Ruby::start(&server.endpoint());
    println!("aws-sdk-s3 {}", ruby.version);
    let shown = written_by(&ruby, "v2", "metadata", &masters);
    let stranger = fresh(32);
    let (key, lost) = place(true, 999, &stranger);
    ruby.put("v2", "metadata", &key, &stranger, &gzip(b"nobody knows"));

    let mount = Mount::start(&server, &slices(&masters), &[]);
    refused("no key", mount.read(&lost), libc::ENOKEY);
    let mut listed = shown.clone();
    listed.insert(lost, Vec::new());
    assert_eq!(mount.files(), listed.into_keys().collect::<Vec<_>>());
    mount.stop();

    // Again without the stranger; and in the mode that shows bytes as they come.
    server.delete(&key);
    for verify in ["full", "stream"] {
        let mount = Mount::start(&server, &slices(&masters), &["--verify", verify]);
        all_read_back(&mount, shown.clone());
        mount.stop();
    }
}

#[test]
fn cbc_of_the_legacy_client_is_refused_unless_allowed() {
    let (server, masters) = (Server::start(), masters());
    let ruby = Ruby::start(&server.endpoint());
    let shown = written_by(&ruby, "v1", "metadata", &masters);

    let mount = Mount::start(&server, &slices(&masters), &[]);
    for path in shown.keys() {
        refused(path, mount.read(path), libc::EOPNOTSUPP);
    }
    assert!(mount.log().contains("--allow-unauthenticated"), "the log names the way out: {}", mount.log());
    mount.stop();

    let mount = Mount::start(&server, &slices(&masters), &["--allow-unauthenticated"]);
    all_read_back(&mount, shown);
    mount.stop();
}

#[test]
fn instruction_files_are_refused_unless_allowed() {
    let (server, masters) = (Server::start(), masters());
    let ruby = Ruby::start(&server.endpoint());
    let shown = written_by(&ruby, "v2", "instruction_file", &masters);

    let mount = Mount::start(&server, &slices(&masters), &[]);
    for path in shown.keys() {
        refused(path, mount.read(path), libc::EOPNOTSUPP);
    }
    assert!(mount.log().contains("--allow-instruction-files"), "the log names the way out: {}", mount.log());
    mount.stop();

    let mount = Mount::start(&server, &slices(&masters), &["--allow-instruction-files"]);
    all_read_back(&mount, shown);
    mount.stop();
}

fn put(server: &Server, key: &str, (metadata, body): (BTreeMap<String, String>, Vec<u8>)) {
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    server.put(key, &metadata, body);
}

fn sealed(kind: SealAs, master: &[u8], gzip: &[u8]) -> (BTreeMap<String, String>, Vec<u8>) {
    let mut random = |bytes: &mut [u8]| getrandom::fill(bytes).unwrap();
    seal(kind, &MasterKey::new(master).unwrap(), gzip, &mut random).unwrap()
}

#[test]
fn ruby_reads_what_we_seal() {
    let (server, payloads) = (Server::start(), payloads());
    let ruby = Ruby::start(&server.endpoint());
    for (m, master) in masters().iter().enumerate() {
        for (p, log) in payloads.iter().enumerate() {
            for kind in [SealAs::V1, SealAs::V2] {
                let what = format!("{kind:?} of {}, {} bytes of key", log.name, master.len());
                let (key, _) = place(p % 2 == 0, m * 100 + p, master);
                put(&server, &key, sealed(kind, master, &log.gzip));
                let got = ruby.get("v2_and_legacy", &key, master).unwrap_or_else(|e| panic!("{what}: {e}"));
                same(&what, &got, &log.gzip);
            }
        }
    }
}

/// Not a property of ours, but what users of both programs will see; when it changes, the documents have to.
#[test]
fn what_ruby_cannot_read() {
    const DENIED: &str = "Aws::S3::EncryptionV2::Errors::";
    let (server, master) = (Server::start(), fresh(32));
    let ruby = Ruby::start(&server.endpoint());
    let gzip = gzip(b"{}\n");
    for (kind, profile, message) in [
        (SealAs::V3, "v2_and_legacy", "DecryptionError: unable to locate encryption envelope"),
        (SealAs::AesWrap, "v2_and_legacy", "DecryptionError: unsupported key wrapping algorithm: \"AESWrap\""),
        (SealAs::V1, "v2", "LegacyDecryptionError: The requested object is encrypted with V1 encryption schemas"),
    ] {
        let (key, _) = place(true, 0, &master);
        put(&server, &key, sealed(kind, &master, &gzip));
        let got = ruby.get(profile, &key, &master);
        let told = got.as_ref().is_err_and(|e| e.strip_prefix(DENIED).is_some_and(|e| e.starts_with(message)));
        assert!(told, "aws-sdk-s3 {} reads {kind:?} otherwise than it did: {got:?}", ruby.version);
        // It is not the object: ours can be opened.
        let mount = Mount::start(&server, &[&master], &["--allow-unauthenticated"]);
        same("what the mount reads", &mount.read(&place(true, 0, &master).1).unwrap(), b"{}\n");
        mount.stop();
    }
}

/// With Ruby's data key and IVs our writer makes Ruby's object: the same body, the same metadata, names and values.
#[test]
fn with_the_same_random_numbers_we_seal_the_bytes_that_ruby_does() {
    let (server, payloads) = (Server::start(), payloads());
    let ruby = Ruby::start(&server.endpoint());
    for (m, master) in masters().iter().enumerate() {
        for (p, log) in payloads.iter().enumerate() {
            for (client, kind) in [("v1", SealAs::V1), ("v2", SealAs::V2)] {
                let (key, _) = place(true, m * 100 + p, master);
                ruby.put(client, "metadata", &key, master, &log.gzip);
                let request = json!({"op": "look", "key": key, "master": STANDARD.encode(master)});
                let stored = ruby.ask(&request).unwrap();
                let metadata: BTreeMap<String, String> = serde_json::from_value(stored["metadata"].clone()).unwrap();
                let field = |name: &str| STANDARD.decode(&metadata[name]).unwrap();
                // In the order in which `seal` asks for them.
                let mut numbers = decode(&stored["data_key"]);
                assert_eq!(numbers.len(), 32);
                if kind == SealAs::V2 {
                    numbers.extend_from_slice(&field("x-amz-key-v2")[..12]);
                }
                numbers.extend(field("x-amz-iv"));
                let mut left = numbers.as_slice();
                let mut replay = |bytes: &mut [u8]| bytes.copy_from_slice(left.split_off(..bytes.len()).unwrap());
                let ours = seal(kind, &MasterKey::new(master).unwrap(), &log.gzip, &mut replay).unwrap();
                assert!(left.is_empty());
                let what = format!("{kind:?} of {}, {} bytes of key", log.name, master.len());
                assert_eq!(ours.0, metadata, "{what}");
                same(&what, &ours.1, &decode(&stored["body"]));
            }
        }
    }
}
