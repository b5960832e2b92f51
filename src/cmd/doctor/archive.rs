//! What is in the bucket, from a listing alone: which keys its logs need, what is no log, what lies in cold storage.
//!
//! The listing is walked page by page and only sums are kept, of 1,000 master keys at most.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use super::check::Check;
use super::report::{number, size};
use crate::envelope::Keyring;
use crate::error::{Result, escape};
use crate::key::{LogKey, NotALog};
use crate::store::{Entry, ListRequest, Pages, Store};

const MOST_SUMS: usize = 1000;
/// Objects that are named.
const EXAMPLES: usize = 5;
/// With `--quick`.
const FIRST: u64 = 10_000;

pub const CHECKS: [&str; 5] = ["archive", "archive-keys", "other-objects", "instruction-files", "storage-classes"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    objects: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn plus(self, other: Sum) -> Sum {
        Sum { objects: self.objects + other.objects, bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn said(self) -> String {
        let s = if self.objects == 1 { "" } else { "s" };
        format!("{} object{s}, {}", number(self.objects), size(self.bytes))
    }
}

#[derive(Default)]
struct Tally {
    all: u64,
    /// Logs by the fingerprint of their master key.
    logs: BTreeMap<String, Sum>,
    /// Logs of still more master keys.
    more_logs: Sum,
    others: Sum,
    /// The first few of them.
    examples: Vec<String>,
    instructions: Sum,
    glacier: Sum,
    deep: Sum,
    /// There is more that was not looked at.
    cut: bool,
}

/// Walks the whole listing, or with `quick` its beginning.
pub async fn checks(store: &dyn Store, keys: &Keyring, quick: bool) -> Vec<Check> {
    match tally(store, quick).await {
        Ok(tally) => tally.findings(keys),
        Err(e) => {
            let mut checks = vec![Check::error(CHECKS[0], &e)];
            checks.extend(CHECKS[1..].iter().map(|name| Check::skipped(name, "the listing failed")));
            checks
        }
    }
}

async fn tally(store: &dyn Store, quick: bool) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut pages = Pages::new(store, ListRequest::default());
    let terminal = std::io::stderr().is_terminal();
    while let Some(page) = pages.next().await? {
        for entry in &page.objects {
            if quick && tally.all == FIRST {
                tally.cut = true;
                break;
            }
            tally.add(entry);
        }
        if terminal && tally.all >= FIRST {
            eprint!("\r{} objects looked at", number(tally.all));
        }
        if tally.cut {
            break;
        }
    }
    if terminal && tally.all >= FIRST {
        eprint!("\r{:40}\r", "");
    }
    Ok(tally)
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        self.all += 1;
        match entry.storage_class.as_deref() {
            Some("GLACIER") => self.glacier.add(entry.size),
            Some("DEEP_ARCHIVE") => self.deep.add(entry.size),
            _ => {}
        }
        match LogKey::parse(&entry.key) {
            Ok(key) if self.logs.len() < MOST_SUMS || self.logs.contains_key(&key.key_sum) => {
                self.logs.entry(key.key_sum).or_default().add(entry.size);
            }
            Ok(_) => self.more_logs.add(entry.size),
            Err(NotALog::Instruction) => self.instructions.add(entry.size),
            Err(why) => {
                self.others.add(entry.size);
                if self.examples.len() < EXAMPLES {
                    self.examples.push(format!("{}: {why}", escape(&entry.key)));
                }
            }
        }
    }

    fn findings(self, keys: &Keyring) -> Vec<Check> {
        let instructions = match self.instructions.objects {
            0 => Check::ok("instruction-files", "none"),
            _ => Check::warn(
                "instruction-files",
                self.instructions.said(),
                "logs whose envelope is in one are read with --allow-instruction-files only: nothing binds the two together",
            ),
        };
        vec![self.archive(), self.keys(keys), self.others(), instructions, self.classes()]
    }

    fn logs(&self) -> Sum {
        self.logs.values().fold(self.more_logs, |all, sum| all.plus(*sum))
    }

    fn archive(&self) -> Check {
        let name = "archive";
        let bound =
            if self.cut { format!(" among the first {} objects (--quick)", number(FIRST)) } else { String::new() };
        if self.logs().objects == 0 {
            let advice = "logs come once an hour, of containers that have ended or written 500 MB; if there should be \
                          some, check the bucket's name and prefix";
            return Check::warn(name, format!("no logs{bound}"), advice);
        }
        Check::ok(name, format!("logs: {}{bound}", self.logs().said()))
    }

    fn keys(&self, keys: &Keyring) -> Check {
        let name = "archive-keys";
        let all = self.logs();
        if all.objects == 0 {
            return Check::skipped(name, "there are no logs to have keys for");
        }
        let mut details: Vec<String> = self
            .logs
            .iter()
            .map(|(sum, logs)| {
                let here = if keys.get(sum).is_some() { "key given" } else { "NO KEY" };
                format!("{}: {here}, {}", escape(sum.as_bytes()), logs.said())
            })
            .collect();
        if self.more_logs.objects > 0 {
            details.push(format!("still more keys: NO KEY looked for, {}", self.more_logs.said()));
        }
        details.extend(
            keys.fingerprints()
                .filter(|f| !self.logs.contains_key(*f))
                .map(|f| format!("{f}: key given, no object uses it")),
        );
        let missing = self.logs.iter().filter(|(sum, _)| keys.get(sum).is_none()).map(|(_, logs)| *logs);
        let missing = missing.fold(self.more_logs, Sum::plus);
        let advice = "give the keys with these fingerprints (SHA-256), as Aptible handed them out: --key-file, \
                      --key-command or LOGARCHIVEFS_KEYS";
        let check = match missing.objects {
            0 => Check::ok(name, "every log has its key here"),
            _ if keys.is_empty() => Check::warn(name, format!("unreadable without a key: {}", missing.said()), advice),
            _ => {
                let finding = format!("unreadable for want of a key: {}, of {}", missing.said(), all.said());
                Check::fail(name, finding, advice)
            }
        };
        check.with(details)
    }

    fn others(&self) -> Check {
        let name = "other-objects";
        if self.others.objects == 0 {
            return Check::ok(name, "none");
        }
        let mut details = self.examples.clone();
        let unnamed = self.others.objects - details.len() as u64;
        if unnamed > 0 {
            details.push(format!("and {} more: `logarchivefs doctor BUCKET --left-out` names all", number(unnamed)));
        }
        let advice = "they are no logs and are left out everywhere; the archive wants its bucket for itself";
        Check::warn(name, self.others.said(), advice).with(details)
    }

    fn classes(&self) -> Check {
        let name = "storage-classes";
        let cold = self.glacier.plus(self.deep);
        if cold.objects == 0 {
            return Check::ok(name, "nothing needs a restore first, as far as a listing shows");
        }
        let classes = [("GLACIER", self.glacier), ("DEEP_ARCHIVE", self.deep)];
        let details =
            classes.iter().filter(|(_, sum)| sum.objects > 0).map(|(class, sum)| format!("{class}: {}", sum.said()));
        let advice = "restore what you want to read: `aws s3api restore-object --bucket BUCKET --key KEY \
                      --restore-request Days=7,GlacierJobParameters={Tier=Standard}`";
        Check::warn(name, format!("unreadable before a restore: {}", cold.said()), advice).with(details.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;
    use crate::envelope::MasterKey;

    fn key(n: u8) -> MasterKey {
        MasterKey::new(&[n; 32]).unwrap()
    }

    fn log(sum: &str) -> String {
        format!("prod/shareable/v2/{sum}/apps-1/{}-json.log.2022-08-24T00:00:00.bck.gz", "ab".repeat(32))
    }

    fn tally(entries: &[(&str, u64, Option<&str>)]) -> Tally {
        let mut tally = Tally::default();
        for (key, size, class) in entries {
            let (key, storage_class) = (key.as_bytes().to_vec(), class.map(str::to_owned));
            tally.add(&Entry { key, size: *size, etag: String::new(), last_modified: (0, 0), storage_class });
        }
        tally
    }

    fn ring(keys: &[u8]) -> Keyring {
        let mut ring = Keyring::default();
        keys.iter().for_each(|n| ring.insert(key(*n)));
        ring
    }

    fn statuses(checks: &[Check]) -> Vec<Status> {
        checks.iter().map(|c| c.status).collect()
    }

    #[test]
    fn keys_and_what_needs_them() {
        let (a, b) = (log(&key(1).fingerprint()), log(&key(2).fingerprint()));
        let two = || tally(&[(&a, 10, None), (&b, 2048, None), (&b, 1024, None)]);
        let check = |keys: &[u8]| two().keys(&ring(keys));
        assert_eq!(check(&[1, 2]).status, Status::Ok);
        assert_eq!(check(&[]).status, Status::Warn);
        let lacking = check(&[1, 3]);
        assert_eq!(lacking.status, Status::Fail);
        assert!(lacking.finding.contains("2 objects, 3.0 KiB, of 3 objects"), "{}", lacking.finding);
        let said = |n: u8, what: &str| {
            let want = format!("{}: {what}", key(n).fingerprint());
            assert!(lacking.details.contains(&want), "{want} is not in {:?}", lacking.details);
        };
        said(1, "key given, 1 object, 10 B");
        said(2, "NO KEY, 2 objects, 3.0 KiB");
        said(3, "key given, no object uses it");
        // Upper-case fingerprints name no key, here as in a mount.
        let upper = log(&key(1).fingerprint().to_uppercase());
        assert_eq!(tally(&[(&upper, 1, None)]).keys(&ring(&[1])).status, Status::Fail);
    }

    #[test]
    fn what_is_no_log() {
        let a = log(&key(1).fingerprint());
        let instruction = format!("{a}.instruction");
        let keys = ["README", "a/", "x\u{1b}[0m", "../..", "b", "c", instruction.as_str()];
        let entries: Vec<_> = keys.iter().map(|k| (*k, 5, None)).chain([(a.as_str(), 1, Some("GLACIER_IR"))]).collect();
        let checks = tally(&entries).findings(&ring(&[1]));
        let names: Vec<_> = checks.iter().map(|c| c.name).collect();
        assert_eq!(names, CHECKS);
        assert_eq!(statuses(&checks), [Status::Ok, Status::Ok, Status::Warn, Status::Warn, Status::Ok]);
        assert_eq!(checks[2].finding, "6 objects, 30 B");
        assert_eq!(checks[2].details.len(), EXAMPLES + 1);
        assert!(checks[2].details[2].starts_with("x\\x1b[0m: "), "{:?}", checks[2].details);
        assert_eq!(checks[2].details[5], "and 1 more: `logarchivefs doctor BUCKET --left-out` names all");
        assert_eq!(checks[3].finding, "1 object, 5 B");
    }

    #[test]
    fn cold_storage_and_nothing_at_all() {
        let a = log(&key(1).fingerprint());
        let cold = tally(&[(&a, 1, Some("GLACIER")), (&a, 2, Some("DEEP_ARCHIVE")), (&a, 4, Some("STANDARD"))]);
        let check = cold.classes();
        assert_eq!(
            (check.status, check.finding.as_str()),
            (Status::Warn, "unreadable before a restore: 2 objects, 3 B")
        );
        assert_eq!(check.details, ["GLACIER: 1 object, 1 B", "DEEP_ARCHIVE: 1 object, 2 B"]);
        let none = tally(&[]).findings(&ring(&[1]));
        assert_eq!(statuses(&none), [Status::Warn, Status::Skipped, Status::Ok, Status::Ok, Status::Ok]);
    }

    #[test]
    fn memory_does_not_grow_with_the_number_of_keys() {
        let logs: Vec<String> = (0..MOST_SUMS + 7).map(|n| log(&format!("{n:064x}"))).collect();
        let entries: Vec<_> = logs.iter().map(|l| (l.as_str(), 1, None)).collect();
        let tally = tally(&entries);
        assert_eq!((tally.logs.len(), tally.more_logs.objects), (MOST_SUMS, 7));
        assert_eq!(tally.logs().objects, MOST_SUMS as u64 + 7);
        assert!(tally.keys(&ring(&[1])).finding.contains("1,007 objects"));
    }
}
