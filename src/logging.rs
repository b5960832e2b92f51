//! The log: to standard error, or to a file that only its owner can read; as text, as JSON lines, or as journald likes
//! it. SIGUSR1 turns more of it on and off while the program runs.
//!
//! Invariants: a record is one line, whatever its message holds; of a panic, the place is logged and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::Location;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use env_logger::fmt::Formatter;
use env_logger::{Builder, Env, Logger, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::err;
use crate::error::{Kind, Result};

/// The heads of the audit log are told in any case: a copy elsewhere is what shows that the log was cut.
/// The SDK's own lines are errors only, unless asked for: at its lower levels it tells of each request, with secrets blacked out
/// (`tests/mount/secrets.rs` sees to it). What it says of errors that ours have taken the place of is left out.
const LEVELS: [&str; 3] = [
    "warn,aws=error,fuser=error,aws_smithy_runtime_api::client::interceptors=off,logarchivefs::audit=info",
    "info,aws=warn,fuser=warn,tracing=warn,aws_smithy_runtime_api::client::interceptors=off",
    "debug,aws=info,hyper=info,rustls=info,h2=info",
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    /// One object a line: `time` (RFC 3339, UTC), `level`, `target`, `message`.
    Json,
}

/// The log of `-vv` is on.
static MORE: AtomicBool = AtomicBool::new(false);
static USUAL: OnceLock<LevelFilter> = OnceLock::new();

/// Two loggers to one place: the usual one, and the one of `-vv`.
struct Switch {
    usual: Logger,
    more: Logger,
}

impl Switch {
    fn now(&self) -> &Logger {
        if MORE.load(Ordering::Relaxed) { &self.more } else { &self.usual }
    }
}

impl Log for Switch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.now().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.now().log(record);
    }

    fn flush(&self) {}
}

/// `verbose`: how often `-v` was given. `RUST_LOG` overrides it.
pub fn start(verbose: u8, format: Format, file: Option<&Path>) -> Result<()> {
    let usual = LEVELS[usize::from(verbose).min(LEVELS.len() - 1)];
    let target = file.map(open).transpose()?;
    let build = |mut builder: Builder| {
        match (format, &target) {
            (Format::Json, _) => drop(builder.format(json)),
            (Format::Text, None) if journal_reads_stderr() => drop(builder.format(for_journal)),
            (Format::Text, _) => drop(builder.format_target(false)),
        }
        if let Some(file) = &target {
            let file = file.try_clone().map_err(|e| err!(Kind::Internal, "the log file: {e}"))?;
            builder.target(Target::Pipe(Box::new(file)));
        }
        Ok(builder.build())
    };
    let usual = build(Builder::from_env(Env::default().default_filter_or(usual)))?;
    let mut all = Builder::new();
    all.parse_filters(LEVELS[LEVELS.len() - 1]);
    let more = build(all)?;
    log::set_max_level(usual.filter());
    log::set_boxed_logger(Box::new(Switch { usual, more }))
        .map_err(|e| err!(Kind::Internal, "cannot start the log: {e}"))?;
    std::panic::set_hook(Box::new(|panic| panicked(panic.location())));
    // Started once.
    USUAL.set(log::max_level()).ok();
    Ok(())
}

/// Where, and not the message: that may quote what was being worked on, keys and text included. For the same reason no error
/// quotes the one that a panicked task ends with.
fn panicked(at: Option<&Location<'_>>) {
    match at {
        Some(at) => log::error!("a bug: panicked at {at}"),
        None => log::error!("a bug: panicked"),
    }
}

/// Turns the debug log on, or off again.
pub fn toggle() {
    let more = !MORE.fetch_xor(true, Ordering::Relaxed);
    let usual = USUAL.get().copied().unwrap_or(LevelFilter::Warn);
    log::set_max_level(if more { LevelFilter::Debug.max(usual) } else { usual });
    log::warn!("SIGUSR1: the debug log is {}", if more { "on" } else { "off" });
}

fn open(path: &Path) -> Result<File> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    log.map_err(|e| err!(Kind::Config, "cannot write the log file {}: {e}", path.display()))
}

/// systemd says which stream it has connected to the journal: `device:inode` (systemd.exec(5)).
fn journal_reads_stderr() -> bool {
    let said = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    said == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// Priority (sd-daemon(3)) and message: the journal knows the time.
fn for_journal(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    writeln!(out, "<{priority}>{}", one_line(record))
}

fn json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let line = serde_json::json!({
        "time": time,
        "level": record.level().as_str().to_ascii_lowercase(),
        "target": record.target(),
        "message": record.args().to_string(),
    });
    writeln!(out, "{line}")
}

fn one_line(record: &Record<'_>) -> String {
    record.args().to_string().replace('\n', " ")
}
