//! The report as people and as programs read it. Pure: text out.

use std::fmt::Write;

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use super::check::{Check, Status};
use crate::err;
use crate::error::{Kind, Result};

/// A table, with colours; whoever writes it out takes them away where they do not belong.
pub fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Check { name, status, finding, details, advice, .. } in checks {
        let (word, style) = match status {
            Status::Ok => ("ok", AnsiColor::Green.on_default()),
            Status::Skipped => ("skipped", Style::new().dimmed()),
            Status::Warn => ("warn", AnsiColor::Yellow.on_default()),
            Status::Fail => ("FAIL", AnsiColor::Red.on_default().bold()),
        };
        let _ = writeln!(out, "{style}{word:<7}{style:#}  {name:<width$}  {finding}");
        let more = details.iter().map(|d| ("  ", d)).chain(advice.iter().map(|a| ("-> ", a)));
        for (mark, line) in more {
            let _ = writeln!(out, "{:indent$}{mark}{line}", "", indent = 9);
        }
    }
    out
}

/// One line for people at the end.
pub fn summary(checks: &[Check]) -> String {
    let count = |status| checks.iter().filter(|c| c.status == status).count();
    let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
    format!("{ok} ok, {warn} warn, {fail} fail, {} skipped", count(Status::Skipped))
}

pub fn json(bucket: Option<&str>, checks: &[Check]) -> Result<String> {
    #[derive(Serialize)]
    struct Report<'a> {
        version: &'static str,
        bucket: Option<&'a str>,
        checks: &'a [Check],
    }
    let report = Report { version: env!("CARGO_PKG_VERSION"), bucket, checks };
    let text =
        serde_json::to_string_pretty(&report).map_err(|e| err!(Kind::Internal, "cannot write the report: {e}"))?;
    Ok(text + "\n")
}

/// `1,234,567`
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `999 B`, `1.5 MiB`
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = bytes as f64;
    let mut unit = "B";
    for next in units.iter().take_while(|_| bytes >= 1024) {
        amount /= 1024.0;
        unit = next;
        // What would be shown as 1024.0 is one of the next.
        if amount < 1023.95 {
            break;
        }
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), text);
        }
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_table_is_aligned_and_advice_has_its_own_line() {
        let checks = [
            Check::ok("a", "good"),
            Check::warn("longer-name", "odd", "do this").with(vec!["detail".into()]),
            Check::skipped("b", "not now"),
        ];
        let plain = text(&checks).replace("\u{1b}[32m", "").replace("\u{1b}[33m", "").replace("\u{1b}[2m", "");
        assert_eq!(
            plain.replace("\u{1b}[0m", ""),
            "ok       a            good\n\
             warn     longer-name  odd\n\
             \x20          detail\n\
             \x20        -> do this\n\
             skipped  b            not now\n"
        );
        assert_eq!(summary(&checks), "1 ok, 1 warn, 0 fail, 1 skipped");
    }
}
