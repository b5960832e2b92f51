//! The sum of a run, and the exit code that follows.
//!
//! | what happened | exit code |
//! |---|---|
//! | nothing was selected | 4 |
//! | everything selected is sound, and nothing is missing or changed | 0 |
//! | an object is not sound, missing or changed | 5 |
//! | nothing is wrong with what could be read, but the store failed | 6 |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::against::Change;
use super::check::Checked;
use super::report::Note;
use crate::error::exit;
use crate::key::Time;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Only with `--at`: all of this is of that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    pub objects: u64,
    pub ok: u64,
    /// Objects by verdict, `ok` left out.
    pub failed: BTreeMap<String, u64>,
    /// Objects by finding. One object may have several.
    pub findings: BTreeMap<&'static str, u64>,
    pub unfinished: u64,
    /// Objects that did not come by replication.
    pub not_replicas: u64,
    /// `enabled`, `suspended` or `never`; none if it was not to be seen, or makes no sense here.
    pub versioning: Option<&'static str>,
    /// Objects of which the bucket has more versions, or delete markers.
    pub several_versions: u64,
    /// Logs that a delete marker hides. They are no objects of this run.
    pub deleted: u64,
    /// Why there may be more of these two.
    pub versions_unseen: Option<String>,
    /// Bytes of the objects that were read to their end.
    pub ciphertext_bytes: u64,
    pub gzip_bytes: u64,
    pub text_bytes: u64,
    pub lines: u64,
    pub first_time: Option<String>,
    pub last_time: Option<String>,
    /// Only with `--against`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Compared>,
    pub seconds: f64,
    #[serde(skip)]
    times: Option<(Time, Time)>,
    #[serde(skip)]
    storage: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Compared {
    pub missing: u64,
    pub changed: u64,
    pub other_version: u64,
    pub new: u64,
}

impl Summary {
    pub fn new(compares: bool, at: Option<String>) -> Summary {
        Summary { at, against: compares.then(Compared::default), ..Summary::default() }
    }

    pub fn add(&mut self, checked: &Checked) {
        let report = &checked.report;
        self.objects += 1;
        self.storage += u64::from(checked.storage);
        if report.is_ok() {
            self.ok += 1;
        } else {
            *self.failed.entry(report.verdict.clone()).or_default() += 1;
        }
        for finding in &report.findings {
            *self.findings.entry(finding.name()).or_default() += 1;
        }
        self.unfinished += u64::from(report.notes.contains(&Note::UnfinishedLine));
        self.not_replicas += u64::from(report.notes.contains(&Note::NotAReplica));
        self.several_versions += u64::from(report.notes.contains(&Note::SeveralVersions));
        if let (Some(gzip), Some(text)) = (report.gzip_size, report.text_size) {
            self.ciphertext_bytes += report.size;
            self.gzip_bytes += gzip;
            self.text_bytes += text;
            self.lines += report.lines.unwrap_or_default();
        }
        for time in checked.times.iter().flatten() {
            let (first, last) = self.times.get_or_insert((*time, *time));
            (*first, *last) = ((*first).min(*time), (*last).max(*time));
        }
    }

    pub fn compared(&mut self, change: &Change) {
        let Some(against) = &mut self.against else { return };
        match change {
            Change::None => {}
            Change::New => against.new += 1,
            Change::OtherVersion(_) => against.other_version += 1,
            Change::Changed(_) => against.changed += 1,
        }
    }

    pub fn end(&mut self, took: Duration) {
        self.seconds = took.as_secs_f64();
        self.first_time = self.times.map(|(first, _)| first.to_string());
        self.last_time = self.times.map(|(_, last)| last.to_string());
    }

    pub fn exit_code(&self) -> u8 {
        let failed = self.objects - self.ok;
        let (missing, changed) = self.against.as_ref().map_or((0, 0), |a| (a.missing, a.changed));
        if failed > self.storage || missing > 0 || changed > 0 {
            exit::INTEGRITY
        } else if failed > 0 {
            exit::STORAGE
        } else if self.objects == 0 {
            exit::NO_MATCH
        } else {
            exit::OK
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<19} {value}");
        };
        if let Some(at) = &self.at {
            row("as it was at", at.clone());
        }
        row("objects", self.objects.to_string());
        row("ok", self.ok.to_string());
        for (verdict, count) in &self.failed {
            row(verdict, count.to_string());
        }
        for (finding, count) in &self.findings {
            row(&format!("  {finding}"), count.to_string());
        }
        if self.unfinished > 0 {
            row("unfinished line", format!("{} (no fault)", self.unfinished));
        }
        if self.not_replicas > 0 {
            row("no replica", format!("{} (Aptible delivers by replication)", self.not_replicas));
        }
        if self.several_versions > 0 {
            row("several versions", format!("{} (replaced, or deleted and put back)", self.several_versions));
        }
        if self.deleted > 0 {
            row("deleted", format!("{} (behind delete markers: --format json names them)", self.deleted));
        }
        if let Some(why) = &self.versions_unseen {
            row("versions", format!("not all seen: {why}"));
        }
        if let Some(off @ ("suspended" | "never")) = self.versioning {
            row("versioning", format!("{off}: what is replaced or deleted is gone"));
        }
        if let Some(against) = &self.against {
            row("missing", against.missing.to_string());
            row("changed", against.changed.to_string());
            row("other version", format!("{} (same bytes)", against.other_version));
            row("new", format!("{} (no fault)", against.new));
        }
        row("ciphertext", bytes(self.ciphertext_bytes));
        row("gzip", bytes(self.gzip_bytes));
        row("text", bytes(self.text_bytes));
        row("lines", self.lines.to_string());
        if let Some((first, last)) = self.times {
            row("records", format!("{first} to {last}"));
        }
        let rate = self.text_bytes as f64 / self.seconds.max(1e-9);
        row("took", format!("{:.1} s, {:.0} MB of text a second", self.seconds, rate / 1e6));
        text
    }
}

fn bytes(n: u64) -> String {
    if n < 1_000_000 { format!("{n} bytes") } else { format!("{n} bytes ({:.1} MB)", n as f64 / 1e6) }
}

#[cfg(test)]
mod tests {
    use super::super::report::{OK, Report};
    use super::*;

    #[test]
    fn exit_codes() {
        let code = |verdicts: &[(&str, bool)], against: Option<Compared>| {
            let mut summary = Summary { against, ..Summary::default() };
            for (verdict, storage) in verdicts {
                let report = Report { verdict: (*verdict).into(), ..Report::default() };
                summary.add(&Checked { report, times: [None; 2], storage: *storage });
            }
            summary.exit_code()
        };
        assert_eq!(code(&[], None), exit::NO_MATCH);
        assert_eq!(code(&[(OK, false)], None), exit::OK);
        for verdict in ["suspect", "unauthenticated", "no-key", "tag-mismatch", "unsupported-wrap"] {
            assert_eq!(code(&[(OK, false), (verdict, false)], None), exit::INTEGRITY, "{verdict}");
        }
        assert_eq!(code(&[(OK, false), ("timeout", true)], None), exit::STORAGE);
        assert_eq!(code(&[("tag-mismatch", false), ("timeout", true)], None), exit::INTEGRITY);
        let against = |missing, changed, new| Some(Compared { missing, changed, new, other_version: 1 });
        assert_eq!(code(&[], against(1, 0, 0)), exit::INTEGRITY);
        assert_eq!(code(&[(OK, false)], against(0, 1, 0)), exit::INTEGRITY);
        assert_eq!(code(&[(OK, false)], against(0, 0, 1)), exit::OK);
    }
}
