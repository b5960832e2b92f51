//! `verify --audit-log`: whether the audit log of a mount is whole, and what it tells.

use std::fmt::Write as _;

use crate::audit::{Report, check};
use crate::cli::{AuditArgs, ReportFormat};
use crate::cmd::out::Out;
use crate::err;
use crate::error::{Kind, Result, escape, exit};

/// Returns the exit code.
pub fn run(args: &AuditArgs, format: ReportFormat) -> Result<u8> {
    let report = check(&args.audit_log, &args.audit_head)?;
    let text = match format {
        ReportFormat::Json => {
            let json = serde_json::to_string(&report).map_err(|e| err!(Kind::Internal, "{e}"))?;
            format!("{json}\n")
        }
        ReportFormat::Text => table(&report),
        ReportFormat::Paths => report.broken.iter().map(|broken| format!("{}\n", broken.file)).collect(),
    };
    let mut out = Out::new();
    let _ = out.write(text.as_bytes())?;
    let _ = out.flush()?;
    Ok(if report.whole { exit::OK } else { exit::INTEGRITY })
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<19} {value}");
    };
    if let Some(broken) = &report.broken {
        row("broken", format!("{}, line {}: {}", broken.file, broken.line, broken.reason));
    }
    for head in &report.heads {
        let place = head.n.map_or("no line has it: the log was cut, or written anew".into(), |n| format!("line {n}"));
        row("audit-head", format!("{}  {place}", head.hash));
    }
    row("chain", if report.broken.is_some() { "broken: what follows is of the lines before" } else { "whole" }.into());
    if let Some(before) = &report.continues {
        row("continues", format!("{before}  the last line of the file before"));
    }
    row("lines", report.lines.to_string());
    let unended = match report.unended {
        0 => String::new(),
        n => format!(" ({n} before the last did not end in order)"),
    };
    row("mounts", format!("{}{unended}", report.mounts));
    row("opens", report.opens.to_string());
    row("closes", format!("{} ({} bytes)", report.closes, report.bytes));
    row("refused", report.refused.to_string());
    if report.torn > 0 {
        row("torn", format!("{}, by a crash or a full disk; the chain goes on behind", report.torn));
    }
    if let (Some(first), Some(last)) = (&report.first_time, &report.last_time) {
        row("times", format!("{} to {}", escape(first.as_bytes()), escape(last.as_bytes())));
    }
    if report.unfinished > 0 {
        row("unfinished", format!("{} bytes behind the last line", report.unfinished));
    }
    let ended = match (report.ended, report.broken.is_some()) {
        (true, _) => "in order",
        (false, true) => "nothing can be said",
        (false, false) => "no: the mount is there still, or was killed, or the end was cut off",
    };
    row("ended", ended.into());
    row("head", report.head.clone());
    text
}
