//! Sealed logs for tests, and where DESIGN section 3 wants to see them: written from that section, not from the source.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::Compression;
use flate2::write::GzEncoder;
use logarchivefs::demo::logs::{self, Program, Random};
use logarchivefs::envelope::{MasterKey, SealAs, seal};
use logarchivefs::store::{NewObject, write_object};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::s3::Server;

/// Wednesday, 2022-08-24, 00:00:00 UTC.
pub const WEDNESDAY: i64 = 1_661_299_200;
pub const DAY: i64 = 86_400;

/// Master key `n`: the keys 0 and 1 are given to mounts, others not.
pub fn key_bytes(n: u8) -> [u8; 32] {
    [0xa0 + n; 32]
}

pub fn key_base64(n: u8) -> String {
    STANDARD.encode(key_bytes(n))
}

/// The key file of every mount.
pub fn key_text() -> String {
    format!("# two keys\n{}\n{}  # the older one\n", key_base64(0), key_base64(1))
}

pub fn key_sum(n: u8) -> String {
    sha256(&key_bytes(n))
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// v3, Unix seconds.
    Span(Option<i64>, Option<i64>),
    /// v2.
    Uploaded(Option<i64>),
}

/// A log as the archiver sees it.
#[derive(Clone, Debug)]
pub struct Log {
    pub stack: String,
    pub resource: String,
    pub service: u64,
    pub container: String,
    pub rotation: Option<u64>,
    pub when: When,
    pub master: u8,
}

impl Log {
    /// A span on Wednesday, from `start` seconds on, of an app on the stack `prod`.
    pub fn at(start: i64) -> Log {
        Log {
            stack: "prod".into(),
            resource: "apps-321".into(),
            service: 12,
            container: "38d59273".repeat(8),
            rotation: None,
            when: When::Span(Some(WEDNESDAY + start), Some(WEDNESDAY + start + 60)),
            master: 0,
        }
    }

    pub fn key(&self) -> String {
        let (stack, resource, container, sum) = (&self.stack, &self.resource, &self.container, key_sum(self.master));
        let time = |t: Option<i64>| t.map_or("unknown".into(), |t| stamp(t, "T", ":", "-", ""));
        let n = self.rotation.map_or(String::new(), |n| format!(".{n}"));
        match self.when {
            When::Uploaded(at) => {
                format!("{stack}/shareable/v2/{sum}/{resource}/{container}-json{n}.log.{}.bck.gz", time(at))
            }
            When::Span(start, end) => {
                let service =
                    if resource.starts_with("apps-") { format!("service-{}/", self.service) } else { String::new() };
                let (start, end) = (time(start), time(end));
                format!(
                    "{stack}/shareable/v3/{sum}/{resource}/{service}{container}-json.log{n}.{start}.{end}.archived.gz"
                )
            }
        }
    }

    /// `<stack>/<type>-<id>/<container>`
    pub fn folder(&self) -> String {
        format!("{}/{}/{}", self.stack, self.resource, self.container)
    }

    /// The folder of the day that holds the file.
    pub fn day(&self) -> String {
        let (When::Span(home, _) | When::Uploaded(home)) = self.when;
        home.map_or("undated".into(), date)
    }

    /// Later days, which hold a link.
    pub fn later_days(&self) -> Vec<String> {
        let When::Span(Some(start), Some(end)) = self.when else { return Vec::new() };
        (start.div_euclid(DAY) + 1..=end.div_euclid(DAY)).map(|day| date(day * DAY)).collect()
    }

    /// The name without `.json` and without what tells rivals apart.
    pub fn stem(&self) -> String {
        let time = |t: Option<i64>| t.map_or("unknown".into(), |t| stamp(t, "T", "", "", "Z"));
        let n = self.rotation.map_or(String::new(), |n| format!(".{n}"));
        match self.when {
            When::Span(start, end) => format!("{}_{}{n}", time(start), time(end)),
            When::Uploaded(at) => format!("uploaded-{}{n}", time(at)),
        }
    }

    /// Where it is if no other log wants its name.
    pub fn path(&self) -> String {
        format!("{}/{}/{}.json", self.folder(), self.day(), self.stem())
    }

    /// The last time that the key tells.
    pub fn mtime(&self) -> Option<i64> {
        match self.when {
            When::Span(start, end) => end.or(start),
            When::Uploaded(at) => at,
        }
    }
}

fn date(at: i64) -> String {
    OffsetDateTime::from_unix_timestamp(at).unwrap().date().to_string()
}

fn stamp(at: i64, t: &str, colon: &str, dash: &str, z: &str) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at).unwrap();
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (h, m, s) = (at.hour(), at.minute(), at.second());
    format!("{year:04}{dash}{month:02}{dash}{day:02}{t}{h:02}{colon}{m:02}{colon}{s:02}{z}")
}

/// Docker records, `lines` of them.
pub fn text(seed: u64, lines: u64) -> Vec<u8> {
    let mut out = Vec::new();
    logs::write(Program::Web, &mut Random::new(seed), WEDNESDAY, WEDNESDAY + DAY, lines, &mut out);
    out
}

/// Records that hardly compress, `len` bytes: gzip makes about three quarters of it.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut out = Vec::with_capacity(len + 200);
    while out.len() < len {
        let raw: Vec<u8> = (0..12).flat_map(|_| random.number().to_le_bytes()).collect();
        writeln!(out, r#"{{"log":"{}\n","stream":"stdout"}}"#, STANDARD.encode(raw)).unwrap();
    }
    out.truncate(len);
    out
}

/// As gzip(1) and the archiver make it.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    gzip_level(text, 6)
}

/// Level 1 makes one deflate block of everything, so that seek points are within a block.
pub fn gzip_level(text: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

pub fn sealed(kind: SealAs, master: u8, gzip: &[u8], random: &mut Random) -> (BTreeMap<String, String>, Vec<u8>) {
    let master = MasterKey::from_b64(&key_base64(master)).unwrap();
    let mut fill = |buf: &mut [u8]| buf.fill_with(|| random.number() as u8);
    seal(kind, &master, gzip, &mut fill).unwrap()
}

/// Puts a sealed log into the server's bucket: its ETag and version id.
pub fn put(server: &Server, log: &Log, kind: SealAs, gzip: &[u8]) -> (String, String) {
    put_changed(server, log, kind, gzip, |_| ())
}

/// The same, with something done to the ciphertext first.
pub fn put_changed(
    server: &Server,
    log: &Log,
    kind: SealAs,
    gzip: &[u8],
    change: impl FnOnce(&mut Vec<u8>),
) -> (String, String) {
    let seed = u64::from_le_bytes(Sha256::digest(gzip)[..8].try_into().unwrap());
    let (metadata, mut body) = sealed(kind, log.master, gzip, &mut Random::new(seed));
    change(&mut body);
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    server.put(&log.key(), &metadata, body)
}

/// Writes a sealed log into a sealed copy.
pub fn write(dir: &Path, log: &Log, kind: SealAs, gzip: &[u8], modified: i64, random: &mut Random) {
    let (metadata, body) = sealed(kind, log.master, gzip, random);
    let key = log.key();
    let object =
        NewObject { key: &key, metadata: &metadata, etag: None, version_id: None, last_modified: (modified, 0) };
    write_object(dir, &object, &mut body.as_slice()).unwrap();
}
