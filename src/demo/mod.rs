//! The demo archive: a sealed copy as a real one looks after a week, written with freshly made keys.
//!
//! Two stacks; apps, databases and endpoints; rotations, a span over midnight, unknown times, the older v2 naming; all
//! three envelope versions; two keys that are given and one that is not; and a few objects that are damaged.

pub mod logs;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::envelope::{MasterKey, SealAs, seal};
use crate::err;
use crate::error::{Kind, Result};
use crate::key::{LogKey, Resource, Span, Time};
use crate::store::{NewObject, write_object};
use logs::{Program, Random};

/// What was written.
pub struct Archive {
    /// Base64 keys, one a line, of all objects but the undecryptable one. To be held in memory only.
    pub keys: zeroize::Zeroizing<String>,
    pub objects: usize,
    pub text_bytes: u64,
    /// Keys of objects that cannot be read, with the reason.
    pub unreadable: Vec<(String, &'static str)>,
}

struct Service {
    stack: &'static str,
    kind: &'static str,
    id: u64,
    service: Option<u64>,
    program: Program,
    /// Containers a day.
    containers: u64,
    lines: u64,
}

const SERVICES: [Service; 8] = [
    Service {
        stack: "acme-prod",
        kind: "apps",
        id: 321,
        service: Some(1201),
        program: Program::Web,
        containers: 2,
        lines: 1500,
    },
    Service {
        stack: "acme-prod",
        kind: "apps",
        id: 321,
        service: Some(1202),
        program: Program::Worker,
        containers: 1,
        lines: 600,
    },
    Service {
        stack: "acme-prod",
        kind: "apps",
        id: 322,
        service: Some(1210),
        program: Program::Web,
        containers: 1,
        lines: 500,
    },
    Service {
        stack: "acme-prod",
        kind: "databases",
        id: 71,
        service: None,
        program: Program::Database,
        containers: 1,
        lines: 900,
    },
    Service {
        stack: "acme-prod",
        kind: "proxy",
        id: 55,
        service: None,
        program: Program::Proxy,
        containers: 1,
        lines: 1200,
    },
    Service {
        stack: "acme-staging",
        kind: "apps",
        id: 410,
        service: Some(1301),
        program: Program::Web,
        containers: 1,
        lines: 200,
    },
    Service {
        stack: "acme-staging",
        kind: "databases",
        id: 90,
        service: None,
        program: Program::Database,
        containers: 1,
        lines: 150,
    },
    Service {
        stack: "acme-staging",
        kind: "proxy",
        id: 77,
        service: None,
        program: Program::Proxy,
        containers: 1,
        lines: 150,
    },
];

/// 2022-08-22, a Monday, 00:00:00 UTC.
const MONDAY: i64 = 1_661_126_400;
const DAY: i64 = 86_400;
const DAYS: i64 = 7;

/// What happens to an object on its way into the archive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    None,
    FlippedBit,
    Truncated,
    /// Encrypted under a key that nobody gives.
    LostKey,
    NoEnvelope,
}

struct Writer<'a> {
    dir: &'a Path,
    random: Random,
    current: MasterKey,
    /// Before the key was changed on Thursday.
    older: MasterKey,
    lost: MasterKey,
    archive: Archive,
}

/// Writes the archive as a sealed copy in `dir`. The logs come from `seed`, the keys from the system.
pub fn write(dir: &Path, seed: u64) -> Result<Archive> {
    let (current, older, lost) = (fresh_key()?, fresh_key()?, fresh_key()?);
    let mut keys = zeroize::Zeroizing::new(String::new());
    for (key, note) in [(&current.1, "since 2022-08-25"), (&older.1, "before")] {
        let _ = writeln!(keys, "{}  # {note}", **key);
    }
    let archive = Archive { keys, objects: 0, text_bytes: 0, unreadable: Vec::new() };
    let mut writer =
        Writer { dir, random: Random::new(seed), current: current.0, older: older.0, lost: lost.0, archive };
    for service in &SERVICES {
        writer.week(service)?;
    }
    writer.specials()?;
    Ok(writer.archive)
}

fn fresh_key() -> Result<(MasterKey, zeroize::Zeroizing<String>)> {
    let mut raw = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(raw.as_mut_slice()).map_err(|e| err!(Kind::Internal, "no random bytes: {e}"))?;
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, raw.as_slice());
    Ok((MasterKey::new(raw.as_slice())?, zeroize::Zeroizing::new(text)))
}

impl Writer<'_> {
    /// New containers each morning; the first of a day is rotated once; the last runs on past midnight.
    fn week(&mut self, service: &Service) -> Result<()> {
        for day in 0..DAYS {
            for n in 0..service.containers {
                let container = self.random.hex(64);
                let start = MONDAY + day * DAY + 3600 * n as i64 + self.random.below(600) as i64;
                let noon = MONDAY + day * DAY + DAY / 2;
                let end = MONDAY + (day + 1) * DAY - 900 + self.random.below(3600) as i64;
                let kind = if day % 3 == 2 { SealAs::V3 } else { SealAs::V2 };
                if n == 0 {
                    self.object(service, &container, Some(1), range(start, noon), kind, Harm::None)?;
                    self.object(service, &container, None, range(noon, end), kind, Harm::None)?;
                } else {
                    self.object(service, &container, None, range(start, end), kind, Harm::None)?;
                }
            }
        }
        Ok(())
    }

    /// What a real archive has too: relics, unknown times, damage.
    fn specials(&mut self) -> Result<()> {
        let (app, staging) = (&SERVICES[0], &SERVICES[5]);
        let at = |day: i64, hour: i64| MONDAY + day * DAY + hour * 3600;
        let container = self.random.hex(64);
        let unknown = Span::Range { start: None, end: None };
        self.object(app, &container, None, unknown, SealAs::V2, Harm::None)?;
        let uploaded = Span::Uploaded(Time::from_unix(at(1, 13), 0));
        self.object(app, &container, Some(2), uploaded, SealAs::V2, Harm::None)?;
        let relic = self.random.hex(64);
        self.object(staging, &relic, None, range(at(0, 8), at(0, 9)), SealAs::V1, Harm::None)?;
        let damaged = self.random.hex(64);
        for (hour, harm) in [(1, Harm::FlippedBit), (2, Harm::Truncated), (3, Harm::LostKey), (4, Harm::NoEnvelope)] {
            self.object(staging, &damaged, None, range(at(3, hour), at(3, hour + 1)), SealAs::V2, harm)?;
        }
        Ok(())
    }

    fn object(
        &mut self,
        service: &Service,
        container: &str,
        rotation: Option<u64>,
        span: Span,
        kind: SealAs,
        harm: Harm,
    ) -> Result<()> {
        let (start, end) = match span {
            Span::Range { start: Some(start), end: Some(end) } => (start.unix().0, end.unix().0),
            Span::Uploaded(Some(time)) => (time.unix().0 - 3600, time.unix().0),
            _ => (MONDAY, MONDAY + DAY),
        };
        let mut text = Vec::new();
        logs::write(service.program, &mut self.random, start, end, service.lines, &mut text);
        let gzip = gzip(&text)?;
        let master = match harm {
            Harm::LostKey => &self.lost,
            _ if start >= MONDAY + 3 * DAY => &self.current,
            _ => &self.older,
        };
        let mut failed = None;
        let mut rng = |buf: &mut [u8]| failed = failed.take().or(getrandom::fill(buf).err());
        let (mut metadata, mut body) = seal(kind, master, &gzip, &mut rng)?;
        if let Some(e) = failed {
            return Err(err!(Kind::Internal, "no random bytes: {e}"));
        }
        let reason = match harm {
            Harm::None if kind == SealAs::V1 => Some("AES-CBC: needs --allow-unauthenticated"),
            Harm::None => None,
            Harm::FlippedBit => {
                let middle = body.len() / 2;
                if let Some(byte) = body.get_mut(middle) {
                    *byte ^= 1;
                }
                Some("one bit was flipped")
            }
            Harm::Truncated => {
                body.truncate(body.len() / 2);
                Some("the second half is missing")
            }
            Harm::LostKey => Some("its key is not among those given"),
            Harm::NoEnvelope => {
                metadata = BTreeMap::new();
                Some("its metadata were lost in a copy")
            }
        };
        let key = LogKey {
            stack: service.stack.into(),
            key_sum: master.fingerprint(),
            resource: Resource::new(service.kind, service.id),
            service: service.service.filter(|_| matches!(span, Span::Range { .. })),
            container: container.into(),
            rotation,
            span,
        }
        .to_key();
        // Uploads happen at the bottom of the hour.
        let uploaded = (end / 3600 + 1) * 3600 + 1800;
        let object =
            NewObject { key: &key, metadata: &metadata, etag: None, version_id: None, last_modified: (uploaded, 0) };
        write_object(self.dir, &object, &mut body.as_slice())?;
        self.archive.objects += 1;
        match reason {
            Some(reason) => self.archive.unreadable.push((key, reason)),
            None => self.archive.text_bytes += text.len() as u64,
        }
        Ok(())
    }
}

fn range(start: i64, end: i64) -> Span {
    Span::Range { start: Time::from_unix(start, 0), end: Time::from_unix(end, 0) }
}

/// One gzip member, as the archiver makes it.
pub fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| err!(Kind::Internal, "gzip: {e}");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(text).map_err(failed)?;
    encoder.finish().map_err(failed)
}
