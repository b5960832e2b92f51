//! Flags of `verify`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::memory;
use super::{KeyArgs, SelectArgs, StoreArgs};

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The bucket: NAME, s3://NAME, s3://NAME/PREFIX/, or file:///DIR for a sealed copy
    #[arg(value_name = "BUCKET")]
    pub bucket: String,

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

    /// Memory for text and ciphertext on their way [default: 256MiB; less if the control
    /// group or the machine has less than twice that]
    #[arg(long, value_name = "SIZE", value_parser = memory, help_heading = "Reading")]
    pub memory: Option<usize>,

    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub select: SelectArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    #[default]
    Text,
    Json,
    Paths,
}
