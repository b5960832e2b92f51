//! What `cat` should print, by somebody who has time and memory: whole files, the general JSON reader, one stable sort.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub type Time = OffsetDateTime;

pub fn instant(text: &str) -> Time {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

/// Each line with its time, or that of the line before it; `start` for those before the first.
fn timed(file: &str, start: Time) -> Vec<(Time, &str)> {
    let time = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        OffsetDateTime::parse(value.get("time")?.as_str()?, &Rfc3339).ok()
    };
    let mut now = start;
    let lines = file.split_inclusive('\n');
    let with_time = |line| {
        now = time(line).unwrap_or(now);
        (now, line)
    };
    lines.map(with_time).collect()
}

/// The lines of a file in the range, both ends inclusive.
pub fn range(file: &str, start: Time, since: Time, until: Time) -> String {
    timed(file, start).into_iter().filter(|(t, _)| (since..=until).contains(t)).map(|(_, line)| line).collect()
}

/// Files in their order, each with its start, as one sequence. A line never comes before one that stood before it in its
/// file, so where times go back the latest so far counts.
pub fn merged(files: &[(Time, String)]) -> String {
    let mut all = Vec::new();
    for (start, file) in files {
        let mut latest = *start;
        for (time, line) in timed(file, *start) {
            latest = latest.max(time);
            all.push((latest, line));
        }
    }
    // Stable: among equals the order of the files, then of the lines.
    all.sort_by_key(|(time, _)| *time);
    let mut out = String::new();
    for (_, line) in all {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out += line;
    }
    out
}
