//! What is found out about one object: a line of the manifest and of `--format json`, and its verdict.
//!
//! Invariant: a report holds no text of a log. Sums and sizes of text are there only if the tag over the whole object held
//! and the gzip stream is whole (or, for AES-CBC, where nothing can be held, with the verdict `unauthenticated`).

use serde::{Deserialize, Serialize};

/// The names of verdicts that are no [`Kind`](crate::error::Kind).
pub const OK: &str = "ok";
pub const SUSPECT: &str = "suspect";
pub const UNAUTHENTICATED: &str = "unauthenticated";

/// The fields as docs/COMMANDS.md explains them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub path: String,
    pub key: String,
    pub version_id: Option<String>,
    pub etag: String,
    pub last_modified: String,
    pub envelope: Option<String>,
    pub data_key: Option<String>,
    pub size: u64,
    pub gzip_size: Option<u64>,
    pub text_size: Option<u64>,
    pub sha256_ciphertext: Option<String>,
    pub sha256_gzip: Option<String>,
    pub sha256_text: Option<String>,
    pub lines: Option<u64>,
    pub first_time: Option<String>,
    pub last_time: Option<String>,
    pub verdict: String,
    /// For people.
    pub reason: Option<String>,
    pub findings: Vec<Finding>,
    pub notes: Vec<Note>,
}

/// What is wrong with an object that is, byte for byte, what somebody with its key wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Lines that are no Docker records.
    InvalidRecords,
    /// The first or last record is not of the time that the name tells.
    TimeOutsideName,
    /// Bytes behind the gzip stream.
    GarbageBehindGzip,
    /// Another object of this run has the same data key: one log under two names.
    DuplicateDataKey,
    /// A record is later than the upload of what holds it.
    TimeAfterUpload,
}

/// Worth knowing, and no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// The text does not end with a line feed, as when a container is killed or a live file copied.
    UnfinishedLine,
    /// The name does not tell its times: the dates given were compared with its upload.
    SelectedByUpload,
    /// It did not come by replication, as Aptible delivers: somebody with access to the bucket has put it there.
    NotAReplica,
    /// The bucket has more versions of it, or delete markers: it was replaced, or deleted and put back.
    SeveralVersions,
}

impl Finding {
    pub fn name(self) -> &'static str {
        match self {
            Finding::InvalidRecords => "invalid-records",
            Finding::TimeOutsideName => "time-outside-name",
            Finding::GarbageBehindGzip => "garbage-behind-gzip",
            Finding::DuplicateDataKey => "duplicate-data-key",
            Finding::TimeAfterUpload => "time-after-upload",
        }
    }
}

impl Report {
    pub fn is_ok(&self) -> bool {
        self.verdict == OK
    }

    pub fn find(&mut self, finding: Finding, reason: &str) {
        if self.verdict == OK {
            self.verdict = SUSPECT.into();
        }
        self.findings.push(finding);
        match &mut self.reason {
            Some(all) => *all = format!("{all}; {reason}"),
            None => self.reason = Some(reason.into()),
        }
    }

    /// The verdict, or what makes it suspect.
    pub fn label(&self) -> String {
        if self.verdict != SUSPECT {
            return self.verdict.clone();
        }
        self.findings.iter().map(|f| f.name()).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_have_one_name() {
        use Finding::*;
        for finding in [InvalidRecords, TimeOutsideName, GarbageBehindGzip, DuplicateDataKey, TimeAfterUpload] {
            assert_eq!(serde_json::to_value(finding).unwrap(), finding.name());
        }
    }

    #[test]
    fn the_document_has_each_finding_and_note() {
        let document = include_str!("../../../docs/COMMANDS.md");
        let section = document.split_once("### Verdicts").unwrap().1.split_once("\n### ").unwrap().0;
        use {Finding::*, Note::*};
        let findings = [InvalidRecords, TimeOutsideName, GarbageBehindGzip, DuplicateDataKey, TimeAfterUpload];
        let rows: Vec<&str> = section.split_once("| finding |").unwrap().1.lines().skip(2).collect();
        let rows = rows.iter().map_while(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<Vec<_>>(), findings.map(Finding::name));
        for note in [UnfinishedLine, SelectedByUpload, NotAReplica, SeveralVersions] {
            let name = serde_json::to_value(note).unwrap();
            assert!(section.contains(&format!("`{}`", name.as_str().unwrap())), "{name}");
        }
    }

    #[test]
    fn a_finding_makes_suspect_only_what_was_ok() {
        let mut report = Report { verdict: OK.into(), ..Report::default() };
        report.find(Finding::InvalidRecords, "a");
        report.find(Finding::TimeOutsideName, "b");
        assert_eq!(
            (report.label().as_str(), report.reason.as_deref()),
            ("invalid-records,time-outside-name", Some("a; b"))
        );
        let mut cbc = Report { verdict: UNAUTHENTICATED.into(), ..Report::default() };
        cbc.find(Finding::InvalidRecords, "a");
        assert_eq!(cbc.label(), UNAUTHENTICATED);
    }
}
