//! The last failures, for `.logarchivefs/errors.jsonl`.
//!
//! Invariant: memory is bounded, by [`MOST`] failures and by the length of each text.

use std::collections::VecDeque;
use std::time::SystemTime;

use serde::Serialize;

use super::report::errno_name;
use crate::error::Error;
use crate::key::Time;

const MOST: usize = 1000;
/// Of one text; a key is no longer, see [`crate::error::escape`].
const LONGEST: usize = 1203;

#[derive(Default)]
pub struct Failures {
    last: VecDeque<Failure>,
    /// How many there ever were.
    serial: u64,
}

/// Texts are escaped already.
#[derive(Serialize)]
struct Failure {
    time: String,
    /// None for what is about no object.
    key: Option<Box<str>>,
    errno: &'static str,
    kind: &'static str,
    reason: Box<str>,
}

impl Failures {
    pub fn push(&mut self, error: &Error) {
        if self.last.len() >= MOST {
            self.last.pop_front();
        }
        self.serial += 1;
        self.last.push_back(Failure {
            time: stamp(SystemTime::now()),
            key: error.subject().map(cut),
            errno: errno_name(error.errno()),
            kind: error.kind().row().name,
            reason: cut(error.message()),
        });
    }

    /// A new number with each failure.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Oldest first, one object a line.
    pub fn lines(&self) -> String {
        // Numbers, texts and a name for each: this cannot fail.
        self.last.iter().filter_map(|failure| serde_json::to_string(failure).ok()).map(|line| line + "\n").collect()
    }
}

fn cut(text: &str) -> Box<str> {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

/// RFC 3339, UTC, to the millisecond.
pub fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let secs = i64::try_from(since.as_secs()).unwrap_or_default();
    Time::from_unix(secs, since.subsec_millis() * 1_000_000).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn what_is_kept_is_bounded_in_number_and_length() {
        let mut failures = Failures::default();
        for n in 0..MOST + 5 {
            failures
                .push(&Error::new(Kind::Tag, "\u{e9}".repeat(LONGEST * 2)).about(&format!("{n}{}", "\n".repeat(5000))));
        }
        let lines = failures.lines();
        assert_eq!((lines.lines().count(), failures.serial()), (MOST, MOST as u64 + 5));
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert!(first["key"].as_str().unwrap().starts_with("5\\x0a"), "the oldest are gone");
        assert!(lines.lines().all(|line| line.len() < 4 * LONGEST), "{}", lines.len());
        assert_eq!(first["reason"].as_str().unwrap().chars().count(), LONGEST + 3);
    }
}
