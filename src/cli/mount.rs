//! Flags of `mount`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::{duration, mode};
use super::{AtArgs, KeyArgs, ReadArgs, SelectArgs, SizesArg, StoreArgs};

#[derive(Debug, Args)]
pub struct MountArgs {
    /// The bucket: NAME, s3://NAME, s3://NAME/PREFIX/, or file:///DIR for a sealed copy
    #[arg(value_name = "BUCKET")]
    pub bucket: String,

    /// An existing folder
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    /// Return when the mount answers and serve it from the background
    #[arg(long, help_heading = "Mount")]
    pub daemon: bool,

    /// Append the log to this file (made with mode 0600); with --daemon there is no other place for it
    /// [default: standard error]
    #[arg(long, value_name = "FILE", help_heading = "Mount")]
    pub log_file: Option<PathBuf>,

    /// `text`, or `json`: one object a line with time, level, target and message
    #[arg(long, value_enum, default_value_t, help_heading = "Mount")]
    pub log_format: LogFormatArg,

    /// Write who opened which object to this file (made with mode 0600), a line of JSON for each open and close, chained by
    /// hashes: see `verify --audit-log` [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Mount")]
    pub audit_log: Option<PathBuf>,

    /// Write the process id to this file while the mount is there [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Mount")]
    pub pid_file: Option<PathBuf>,

    /// Unmount when nobody has asked for anything, and nothing is open, for this time [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Mount")]
    pub idle_timeout: Option<Duration>,

    /// Let other users see the mount too (as non-root this needs `user_allow_other` in /etc/fuse.conf)
    #[arg(long, help_heading = "Mount")]
    pub allow_other: bool,

    /// Show the folder `.logarchivefs` (status.json, metrics, errors.jsonl) in listings of the top of the mount; by its name
    /// it is there in any case
    #[arg(long, help_heading = "Mount")]
    pub show_control: bool,

    /// Owner that files and folders show [default: the caller's]
    #[arg(long, value_name = "UID", help_heading = "Mount")]
    pub uid: Option<u32>,

    /// Group that files and folders show [default: the caller's]
    #[arg(long, value_name = "GID", help_heading = "Mount")]
    pub gid: Option<u32>,

    /// Permission bits of files, octal, without any for writing
    #[arg(long, value_name = "MODE", default_value = "0400", value_parser = mode, help_heading = "Mount")]
    pub file_mode: u16,

    /// Permission bits of folders, octal, without any for writing
    #[arg(long, value_name = "MODE", default_value = "0500", value_parser = mode, help_heading = "Mount")]
    pub dir_mode: u16,

    /// Threads that take the kernel's questions; more than one only help many programs that go through folders at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64),
          help_heading = "Mount")]
    pub threads: u16,

    /// How long a listing may be shown before it is fetched again; SIGHUP does it at once
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration,
          help_heading = "Mount")]
    pub listing_ttl: Duration,

    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub at: AtArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub select: SelectArgs,
    #[command(flatten)]
    pub read: ReadArgs,

    /// `hint`: stat before open shows the size in the gzip trailer; `exact`: it scans the file first (for tar)
    #[arg(long, value_enum, default_value_t, help_heading = "Reading")]
    pub sizes: SizesArg,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    #[default]
    Text,
    Json,
}
