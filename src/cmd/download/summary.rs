//! What became of everything, for people: the last lines of a download on standard error.

use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::HumanBytes;

use crate::cmd::tally::Tally;

#[derive(Default)]
pub struct Summary {
    written: AtomicU64,
    bytes: AtomicU64,
    pub skipped: AtomicU64,
    /// Copied, but not opened.
    pub unchecked: AtomicU64,
    pub by_upload: AtomicU64,
}

impl Summary {
    /// A file of so many bytes has its name.
    pub fn wrote(&self, size: u64) {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    pub fn print(&self, folder: &str, tally: &Tally) {
        let (counts, count) = (tally.counts(), |n: &AtomicU64| n.load(Ordering::Relaxed));
        let (written, skipped) = (count(&self.written), count(&self.skipped));
        if written + skipped + counts.failed == 0 {
            return eprintln!("Nothing was downloaded.");
        }
        let mut text = format!("{written} downloaded to {folder} ({})", HumanBytes(count(&self.bytes)));
        for (n, what) in [
            (skipped, "there already"),
            (count(&self.unchecked), "copied without looking inside (no key, or not authenticated)"),
            (count(&self.by_upload), "selected by the day of their upload, as their names tell no other"),
            (counts.failed, "failed (named above)"),
        ] {
            if n > 0 {
                text += &format!(", {n} {what}");
            }
        }
        eprintln!("{text}.");
    }
}
