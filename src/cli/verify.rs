//! Flags of `verify`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::{memory, sha256};
use super::{AtArgs, KeyArgs, RatioArgs, SelectArgs, StoreArgs};

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The bucket: NAME, s3://NAME, s3://NAME/PREFIX/, or file:///DIR for a sealed copy
    /// [default: none, with --audit-log]
    #[arg(value_name = "BUCKET", required_unless_present = "audit_log")]
    pub bucket: Option<String>,

    /// Only these files and folders, as a mount shows them: STACK/TYPE-ID/CONTAINER/DAY/NAME or the front of it [default: all]
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,

    /// Write a manifest: one line of JSON an object, between a head and an end [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Evidence")]
    pub manifest: Option<PathBuf>,

    /// Write the SHA-256 of each sound log's text, for `sha256sum -c` inside a mount [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Evidence")]
    pub sha256sums: Option<PathBuf>,

    /// Compare with a manifest of before: what is missing, changed or new [default: none]
    #[arg(long, value_name = "MANIFEST", help_heading = "Evidence")]
    pub against: Option<PathBuf>,

    /// Replace FILEs that exist
    #[arg(long, help_heading = "Evidence")]
    pub force: bool,

    /// `text`: what is not sound, and a summary; `json`: a line an object, and a summary; `paths`: what is not sound
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: ReportFormat,

    /// Read AES-CBC objects too: their verdict is `unauthenticated`, never `ok`
    #[arg(long, help_heading = "Reading")]
    pub allow_unauthenticated: bool,

    /// Read envelopes from KEY.instruction objects too, which are not bound to the object they describe
    #[arg(long, help_heading = "Reading")]
    pub allow_instruction_files: bool,

    #[command(flatten)]
    pub ratio: RatioArgs,

    /// Memory for text and ciphertext on their way [default: 256MiB; less if the control
    /// group or the machine has less than twice that]
    #[arg(long, value_name = "SIZE", value_parser = memory, help_heading = "Reading")]
    pub memory: Option<usize>,

    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub at: AtArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub select: SelectArgs,
    #[command(flatten)]
    pub audit: AuditArgs,
}

/// Another thing to verify than a bucket.
#[derive(Debug, Args)]
#[command(next_help_heading = "Audit log")]
pub struct AuditArgs {
    /// Check the audit log of a mount instead of a bucket; of one that was rotated, all its files in order, oldest first,
    /// each with its --audit-log [default: none]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bucket", "paths", "manifest", "sha256sums", "against", "force",
          "allow_unauthenticated", "allow_instruction_files", "RatioArgs", "memory", "StoreArgs",
          "AtArgs", "KeyArgs", "SelectArgs"])]
    pub audit_log: Vec<PathBuf>,

    /// A head that the mount's own log told: the audit log must still have it; may be repeated [default: none]
    #[arg(long, value_name = "HASH", requires = "audit_log", conflicts_with = "bucket", value_parser = sha256)]
    pub audit_head: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    #[default]
    Text,
    Json,
    Paths,
}
