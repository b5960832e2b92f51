//! The fuzz targets on stable Rust: over seeds made from the vectors, and over inputs that are made from the seeds by a
//! generator with a fixed start. `scripts/fuzz` runs it for longer, and cargo-fuzz where there is a nightly compiler.
//!
//! `LOGARCHIVEFS_FUZZ_SECONDS`: so long for each target, from another start (which is printed). `LOGARCHIVEFS_FUZZ_CORPUS`:
//! a folder to write the seeds to, for cargo-fuzz. An input that fails is kept in `target/fuzz-failures`.

mod gunzip_support;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gunzip_support::{Rng, gzip, one_block, text};
use logarchivefs::envelope::{Found, Keyring, MasterKey, SealAs, seal};
use serde_json::Value;
use targets::{MASTER, Target, envelope_input};

/// The longest input.
const LONGEST: usize = 1 << 16;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// The folders of the vectors, with their `meta.json` and body.
fn objects() -> Vec<(PathBuf, Value, Vec<u8>)> {
    let mut folders: Vec<_> =
        fs::read_dir(vectors()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    let read = |folder: PathBuf| {
        let meta = serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let body = fs::read(folder.join("object")).unwrap();
        (folder, meta, body)
    };
    folders.into_iter().map(read).collect()
}

fn metadata(meta: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(meta["metadata"].clone()).unwrap()
}

/// The gzip stream of a vector, if its envelope opens.
fn stream(meta: &Value, body: &[u8]) -> Option<Vec<u8>> {
    let mut ring = Keyring::default();
    meta["keys_b64"].as_array()?.iter().for_each(|k| ring.insert_b64(k.as_str().unwrap()).unwrap());
    let Ok(Found::Complete(envelope)) = Found::from_metadata(metadata(meta)) else { return None };
    let key = envelope.open(ring.require(meta["key"].as_str()?.split('/').nth(3)?).ok()?).ok()?;
    let len = body.len() as u64;
    let plain = key.plain_len(len, &body[body.len().saturating_sub(64)..]).ok()?;
    let cover = key.cover(0..plain, len);
    let mut buf = body[cover.start as usize..cover.end as usize].to_vec();
    let at = key.decrypt(0..plain, len, &mut buf).ok()?;
    Some(buf[at].to_vec())
}

const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix><KeyCount>3</KeyCount>
<MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><EncodingType>url</EncodingType>
<Contents><Key>a%2Fb+c</Key><LastModified>2022-08-24T21:12:33.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size>
<StorageClass>STANDARD</StorageClass></Contents><!-- c --><Contents><Key><![CDATA[x]]></Key><Size>18446744073709551615</Size>
</Contents><CommonPrefixes><Prefix>p%2F</Prefix></CommonPrefixes></ListBucketResult>"#;

const VERSIONS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><EncodingType>url</EncodingType>
<IsTruncated>true</IsTruncated><NextKeyMarker>b</NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker><DeleteMarker>
<Key>a%2Fb</Key><VersionId>3</VersionId><IsLatest>true</IsLatest><LastModified>2022-08-24T21:12:34.000Z</LastModified></DeleteMarker>
<Version><Key>a%2Fb</Key><VersionId>2</VersionId><IsLatest>false</IsLatest><LastModified>2022-08-24T21:12:33.000Z</LastModified>
<ETag>&quot;e&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Version><CommonPrefixes><Prefix>p%2F</Prefix>
</CommonPrefixes></ListVersionsResult>"#;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let objects = objects();
    let seeds: Vec<Vec<u8>> = match target {
        "key" => {
            let keys: Value = serde_json::from_slice(&fs::read(vectors().join("keys.json")).unwrap()).unwrap();
            let keys = keys["keys"].as_array().unwrap().iter().map(|k| k["key"].as_str().unwrap().into());
            keys.chain(["2022-08-24", "undated"].map(Into::into)).collect()
        }
        "envelope" => {
            let mut random = Rng(1);
            let mut fill = |buf: &mut [u8]| buf.fill_with(|| random.next() as u8);
            let master = MasterKey::new(&MASTER).unwrap();
            let sealed = [SealAs::V1, SealAs::V2, SealAs::V3].map(|kind| {
                let (metadata, body) = seal(kind, &master, b"just text", &mut fill).unwrap();
                envelope_input(&metadata, b"{}", &body)
            });
            let vectors = objects.iter().filter(|(.., body)| body.len() < 4096).map(|(folder, meta, body)| {
                let instruction = fs::read(folder.join("instruction")).unwrap_or_default();
                envelope_input(&metadata(meta), &instruction, body)
            });
            // The ones that open come often.
            vectors.chain(sealed.iter().cycle().take(30).cloned()).collect()
        }
        "gunzip" => {
            let streams = objects.iter().filter_map(|(_, meta, body)| stream(meta, body));
            let plain = text(1, 300_000);
            let members = [gzip(&plain, 1), gzip(b"", 6), gzip(&plain[..1000], 0), vec![0; 99]].concat();
            streams.chain([members, one_block(2, 60_000).0, gzip(&vec![0; 30_000_000], 9)]).collect()
        }
        "inflate" => {
            let streams = objects.iter().filter_map(|(_, meta, body)| stream(meta, body));
            let made = [(3000, 1), (3000, 9), (20, 6), (40_000, 6), (0, 0)];
            let made = made.map(|(len, level)| gzip(&text(len as u64, len), level));
            // Without gzip's header and trailer, and short ones often.
            let all = streams.chain(made.iter().cycle().take(20).cloned()).chain([one_block(2, 9000).0]);
            all.filter_map(|gzip| Some(gzip.get(10..gzip.len().checked_sub(8)?)?.to_vec())).collect()
        }
        "copy" => {
            let json = |etag: &str| {
                let sum = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
                format!(
                    r#"{{"key":"k","metadata":{{"x-amz-iv":"AA=="}},"etag":"{etag}","version_id":null,"last_modified":"2022-08-24T00:00:00.5Z","size":10,"sha256":"{sum}"}}"#
                )
            };
            vec![json("e").into(), json(&"e".repeat(5000)).into(), b"{}".into(), vec![], vec![b'['; 10_000]]
        }
        "listing" => {
            let end = r#"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"#;
            let deep = [&b"<a>".repeat(5000)[..], end.as_bytes()].concat();
            let entity =
                format!(r#"<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>{}"#, PAGE.replace("x]]>", "]]>&b;"));
            let versions = VERSIONS.into();
            vec![
                PAGE.into(),
                versions,
                end.into(),
                deep,
                entity.into(),
                b"<Error><Code>x</Code></Error>".into(),
                vec![],
            ]
        }
        "cache" => targets::cache_seeds(),
        "audit" => {
            let golden = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/golden.jsonl")).unwrap();
            let lines: Vec<&[u8]> = golden.split_inclusive(|b| *b == b'\n').collect();
            // Its beginnings, which are whole, and come often.
            (1..=lines.len()).map(|n| lines[..n].concat()).chain([golden[..golden.len() - 50].to_vec()]).collect()
        }
        _ => unreachable!("{target}"),
    };
    assert!(seeds.len() >= 5, "{target}: {} seeds", seeds.len());
    seeds
}

/// One to eight changes: bits, bytes, numbers at their limits, pieces cut out, doubled, or taken from another seed.
fn mutate(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    const WORDS: [&[u8]; 14] = [
        b"\0",
        b"\xff\xff\xff\xff",
        b"..",
        b"/",
        b"%",
        b"&#x1b;",
        b"\"",
        b"{",
        b"-1",
        b"18446744073709551616",
        b"</",
        b"\x1f\x8b\x08",
        b"unknown",
        b"A===",
    ];
    let pick = |rng: &mut Rng| &seeds[rng.below(seeds.len() as u64) as usize];
    let mut data = pick(rng).clone();
    for _ in 0..1 + rng.below(8) {
        let at = rng.below(data.len() as u64 + 1) as usize;
        let end = (at + rng.below(1 + (data.len() as u64 / 4).min(64)) as usize).min(data.len());
        match rng.below(7) {
            0 if at < data.len() => data[at] ^= 1 << rng.below(8),
            1 if at < data.len() => data[at] = rng.next() as u8,
            2 => drop(data.drain(at..end)),
            3 => {
                let again = data[at..end].to_vec();
                drop(data.splice(at..at, again));
            }
            4 => drop(data.splice(at..end, WORDS[rng.below(WORDS.len() as u64) as usize].iter().copied())),
            5 => {
                let other = pick(rng);
                let from = rng.below(other.len() as u64 + 1) as usize;
                let to = (from + rng.below(256) as usize).min(other.len());
                drop(data.splice(at..end, other[from..to].iter().copied()));
            }
            _ if rng.below(8) == 0 => data.truncate(at),
            _ => {}
        }
    }
    data.truncate(LONGEST);
    data
}

/// Runs one input; one that fails is written to a file whose name is told.
fn run(name: &str, target: Target, data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_ok() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("fuzz-failures");
    fs::create_dir_all(&folder).unwrap();
    let sum = data.iter().fold(0u64, |sum, b| (sum ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let path = folder.join(format!("{name}-{sum:016x}"));
    fs::write(&path, data).unwrap();
    panic!("{name}: an input of {} bytes fails: {}", data.len(), path.display());
}

fn fuzz(name: &str, inputs: u64) {
    let target = targets::ALL.iter().find(|(n, _)| *n == name).unwrap().1;
    let seeds = seeds(name);
    if let Some(folder) = std::env::var_os("LOGARCHIVEFS_FUZZ_CORPUS") {
        let folder = Path::new(&folder).join(name);
        fs::create_dir_all(&folder).unwrap();
        seeds.iter().enumerate().for_each(|(n, seed)| fs::write(folder.join(format!("seed-{n}")), seed).unwrap());
        return;
    }
    seeds.iter().for_each(|seed| run(name, target, seed));
    let Ok(seconds) = std::env::var("LOGARCHIVEFS_FUZZ_SECONDS") else {
        let mut rng = Rng(1);
        (0..inputs).for_each(|_| run(name, target, &mutate(&mut rng, &seeds)));
        return;
    };
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (mut rng, mut n) = (Rng(start), 0);
    while Instant::now() < end {
        run(name, target, &mutate(&mut rng, &seeds));
        n += 1;
    }
    println!("{name}: {n} inputs from {start}");
}

#[test]
fn keys() {
    fuzz("key", 50_000);
}

#[test]
fn envelopes() {
    fuzz("envelope", 10_000);
}

#[test]
fn deflate_data() {
    fuzz("inflate", 5_000);
}

#[test]
fn gzip_streams() {
    fuzz("gunzip", 1_500);
}

#[test]
fn sealed_copies() {
    fuzz("copy", 2_000);
}

#[test]
fn listings() {
    fuzz("listing", 1_500);
}

#[test]
fn cache_files() {
    fuzz("cache", 400);
}

#[test]
fn audit_logs() {
    fuzz("audit", 10_000);
}

/// The generator finds what is there to be found: a target that fails for one in a few inputs.
#[test]
fn an_input_that_fails_is_kept_and_named() {
    let seeds = vec![b"0123456789".to_vec()];
    let fails = |data: &[u8]| assert!(!data.contains(&b'%'));
    let mut rng = Rng(1);
    let failed = (0..1000).find_map(|_| {
        let data = mutate(&mut rng, &seeds);
        catch_unwind(|| run("test-of-the-tests", fails, &data)).err()
    });
    let told = *failed.expect("one of a thousand").downcast::<String>().unwrap();
    let path = told.rsplit_once(' ').unwrap().1;
    assert!(fs::read(path).unwrap().contains(&b'%'));
    fs::remove_file(path).unwrap();
}

/// Nothing here compiles the programs of cargo-fuzz, which takes a nightly compiler: they are one line around a target.
#[test]
fn each_target_has_its_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in targets::ALL {
        let program = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.ends_with(&format!("fuzz_target!(|data: &[u8]| targets::{name}(data));\n")), "{name}");
        for path in program.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]")) {
            assert!(folder.join("fuzz_targets").join(path).is_file(), "{name}: {path}");
        }
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n")), "{name}");
    }
    let programs = fs::read_dir(folder.join("fuzz_targets")).unwrap().count();
    assert_eq!((programs, manifest.matches("[[bin]]").count()), (targets::ALL.len(), targets::ALL.len()));
}
