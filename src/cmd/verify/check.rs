//! One object, read end to end.
//!
//! Invariant: every selected object gives a [`Checked`], whatever happens to it; the sums are of all its bytes or absent.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::lines::Lines;
use super::report::{self, Finding, Note, Report};
use crate::catalog::Selected;
use crate::cmd::archive::{Archive, listed};
use crate::cmd::progress::Progress;
use crate::error::{Result, exit};
use crate::key::{Span, Time};
use crate::object::head::Head;
use crate::object::{Held, Stored, Swept};

/// Seconds that a host's clock may be ahead of S3's. S3 itself refuses requests that are off by more.
const MOST_SKEW: i64 = 15 * 60;

pub struct Checked {
    pub report: Report,
    /// Times of the first and the last record.
    pub times: [Option<Time>; 2],
    /// It could not be read, which is no fault of its own.
    pub storage: bool,
}

/// Reads the object. With `sums` it is hashed on the way, in all its forms.
pub async fn check(archive: &Archive, selected: &Selected, sums: bool, progress: &Progress) -> Checked {
    let item = &selected.item;
    let mut report = Report {
        path: selected.path(),
        key: item.key(),
        etag: item.etag(),
        last_modified: item.modified().to_string(),
        size: item.size(),
        verdict: report::OK.into(),
        notes: selected.by_upload.then_some(Note::SelectedByUpload).into_iter().collect(),
        ..Report::default()
    };
    let bytes: Held<Bytes> = Arc::new(Mutex::new(Bytes::new(sums, progress.clone())));
    let lines: Held<Lines> = Arc::new(Mutex::new(Lines::new(sums)));
    let swept = archive.objects.sweep(&listed(selected), &bytes, &lines).await;
    let (mut times, mut storage) = ([None; 2], false);
    lock(&bytes).told(&mut report, swept.is_ok());
    // What was not read is not waited for either.
    progress.bytes(item.size().saturating_sub(lock(&bytes).seen));
    match swept {
        Ok(swept) => times = proven(&mut report, &swept, &mut lock(&lines), selected),
        Err(e) => {
            storage = e.exit_code() == exit::STORAGE;
            report.verdict = e.kind().row().name.into();
            report.reason = Some(e.message().to_owned());
        }
    }
    Checked { report, times, storage }
}

/// The tag has held: what the text is like. Returns the times of its first and last record.
fn proven(report: &mut Report, swept: &Swept, lines: &mut Lines, selected: &Selected) -> [Option<Time>; 2] {
    let Head { gzip_len, authenticated, .. } = *swept.head;
    report.sha256_text = lines.finish().map(hex);
    (report.gzip_size, report.text_size) = (Some(gzip_len), Some(swept.size));
    report.lines = Some(lines.count);
    let (first, last) = (lines.first_time(), lines.last_time());
    (report.first_time, report.last_time) = (first.map(|t| t.to_string()), last.map(|t| t.to_string()));
    if !authenticated {
        report.verdict = report::UNAUTHENTICATED.into();
        report.reason = Some("AES-CBC: nothing tells whether it was changed".into());
    }
    if let Some(garbage) = swept.garbage {
        report.find(Finding::GarbageBehindGzip, &format!("{garbage} bytes behind the gzip stream are no gzip"));
    }
    if let Some(line) = lines.first_invalid {
        let (n, s) = (lines.invalid, if lines.invalid == 1 { " is" } else { "s are" });
        report.find(Finding::InvalidRecords, &format!("{n} line{s} no Docker record, the first is line {line}"));
    }
    if let Some(reason) = outside(&selected.log.span, first, last) {
        report.find(Finding::TimeOutsideName, &reason);
    }
    if let Some(reason) = after_upload(&selected.log.span, selected.item.modified(), first.max(last)) {
        report.find(Finding::TimeAfterUpload, &reason);
    }
    if lines.unfinished {
        report.notes.push(Note::UnfinishedLine);
    }
    [first, last]
}

/// Names have whole seconds, cut or rounded: a record may be one second outside.
fn outside(span: &Span, first: Option<Time>, last: Option<Time>) -> Option<String> {
    let Span::Range { start, end } = span else { return None };
    let moved = |time: Option<Time>, by: i64| {
        let (secs, nanos) = time?.unix();
        Time::from_unix(secs + by, nanos)
    };
    let (start, end) = (moved(*start, -1), moved(*end, 1));
    let what = [("first", first), ("last", last)];
    what.into_iter().find_map(|(which, time)| {
        let time = time?;
        let side = match () {
            () if start.is_some_and(|start| time < start) => "before its name's start",
            () if end.is_some_and(|end| time > end) => "after its name's end",
            () => return None,
        };
        Some(format!("the {which} record is of {time}, {side}"))
    })
}

/// What was uploaded cannot hold what was logged later; clocks may differ by [`MOST_SKEW`]. A copy may not know when it was
/// uploaded, and a v3 name does not tell.
fn after_upload(span: &Span, modified: Time, latest: Option<Time>) -> Option<String> {
    let latest = latest?;
    let in_name = if let Span::Uploaded(at) = span { *at } else { None };
    let uploads =
        [("Last-Modified", Some(modified).filter(|m| *m != Time::EPOCH)), ("the upload in its name", in_name)];
    uploads.into_iter().find_map(|(which, upload)| {
        let upload = upload?;
        let (secs, nanos) = upload.unix();
        let most = Time::from_unix(secs + MOST_SKEW, nanos)?;
        (latest > most)
            .then(|| format!("a record is of {latest}, more than {} min after {which}, {upload}", MOST_SKEW / 60))
    })
}

/// Counts, hashes and shows on the bar what is stored.
struct Bytes {
    progress: Progress,
    seen: u64,
    /// Of the ciphertext and of the gzip stream.
    sums: Option<[Sha256; 2]>,
    head: Option<Told>,
}

/// What an examiner wants to know of an object even if it is damaged.
struct Told {
    version_id: Option<String>,
    replica: Option<bool>,
    envelope: &'static str,
    data_key: [u8; 32],
    total: u64,
}

impl Bytes {
    fn new(sums: bool, progress: Progress) -> Bytes {
        Bytes { progress, seen: 0, sums: sums.then(|| [Sha256::new(), Sha256::new()]), head: None }
    }

    fn told(&mut self, report: &mut Report, proven: bool) {
        let Some(head) = &self.head else { return };
        report.version_id.clone_from(&head.version_id);
        report.envelope = Some(head.envelope.into());
        report.notes.extend((head.replica == Some(false)).then_some(Note::NotAReplica));
        report.data_key = Some(hex(head.data_key));
        if let Some([ciphertext, gzip]) = self.sums.take()
            && self.seen == head.total
        {
            // Of a damaged object too: this is what the store holds. What it decrypts to is nobody's word.
            report.sha256_ciphertext = Some(hex(ciphertext.finalize().into()));
            report.sha256_gzip = proven.then(|| hex(gzip.finalize().into()));
        }
    }
}

impl Stored for Bytes {
    fn head(&mut self, head: &Head) {
        let Head { ref version_id, replica, version, data_key, total, .. } = *head;
        self.head = Some(Told { version_id: version_id.clone(), replica, envelope: version.name(), data_key, total });
    }

    fn ciphertext(&mut self, bytes: &[u8]) -> Result<()> {
        self.seen += bytes.len() as u64;
        self.progress.bytes(bytes.len() as u64);
        if let Some([sum, _]) = &mut self.sums {
            sum.update(bytes);
        }
        Ok(())
    }

    fn gzip(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some([_, sum]) = &mut self.sums {
            sum.update(bytes);
        }
        Ok(())
    }
}

fn hex(sum: [u8; 32]) -> String {
    sum.iter().fold(String::with_capacity(64), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn lock<T>(shelf: &Mutex<T>) -> MutexGuard<'_, T> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_may_be_a_second_outside_its_name() {
        let at = |text: &str| Time::parse(text);
        let span = Span::Range { start: at("2022-08-24T21:12:33"), end: at("2022-08-24T21:12:47") };
        let judge = |first, last| outside(&span, at(first), at(last));
        assert_eq!(judge("2022-08-24T21:12:33.2", "2022-08-24T21:12:47.99"), None);
        assert_eq!(judge("2022-08-24T21:12:32", "2022-08-24T21:12:48"), None);
        let early = judge("2022-08-24T21:12:31.9", "2022-08-24T21:12:40").unwrap();
        assert!(early.contains("first record") && early.contains("before"), "{early}");
        let late = judge("2022-08-24T21:12:33", "2022-08-24T21:12:48.1").unwrap();
        assert!(late.contains("last record") && late.contains("after"), "{late}");
        assert!(judge("2022-08-25T00:00:00", "2022-08-25T00:00:01").unwrap().contains("first record"));
        assert_eq!(outside(&span, None, None), None);
        let open = Span::Range { start: None, end: at("2022-08-24T21:12:47") };
        assert_eq!(outside(&open, at("2001-01-01T00:00:00"), at("2001-01-01T00:00:00")), None);
        assert_eq!(outside(&Span::Uploaded(at("2022-08-24T21:12:47")), at("2030-01-01T00:00:00"), None), None);
    }

    #[test]
    fn no_record_is_later_than_its_upload() {
        let at = |text: &str| Time::parse(text);
        let (v3, v2) = (Span::Range { start: None, end: None }, Span::Uploaded(at("2022-08-24T22:00:00")));
        let late = |span, modified: &str, latest| after_upload(span, at(modified).unwrap(), at(latest));
        assert_eq!(late(&v3, "2022-08-24T21:00:00", "2022-08-24T21:15:00"), None, "clocks differ");
        let reason = late(&v3, "2022-08-24T21:00:00", "2022-08-24T21:15:00.1").unwrap();
        assert!(reason.contains("more than 15 min after Last-Modified, 2022-08-24T21:00:00Z"), "{reason}");
        assert_eq!(late(&v3, "1970-01-01T00:00:00", "2022-08-24T21:15:00"), None, "unknown");
        // A copy has a new Last-Modified; the name of an older log tells the first upload.
        let reason = late(&v2, "2023-01-01T00:00:00", "2022-08-24T22:15:01").unwrap();
        assert!(reason.contains("the upload in its name, 2022-08-24T22:00:00Z"), "{reason}");
        assert_eq!(late(&v2, "2022-08-24T22:00:00", "2022-08-24T22:10:00"), None);
        assert_eq!(after_upload(&v2, Time::EPOCH, None), None);
    }
}
