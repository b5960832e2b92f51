//! Flags of `download`.

use std::path::PathBuf;

use clap::Args;

use super::values::memory;
use super::{AtArgs, KeyArgs, RatioArgs, SelectArgs, StoreArgs};

#[derive(Debug, Args)]
pub struct DownloadArgs {
    /// The bucket: NAME, s3://NAME, s3://NAME/PREFIX/, or file:///DIR for a sealed copy
    #[arg(value_name = "BUCKET")]
    pub bucket: String,

    /// Files and folders of the archive, as a mount shows them [default: all]
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,

    /// Folder to copy to; made, for the owner only, if it is not there
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,

    /// Decrypted, still gzipped: `.json.gz`
    #[arg(long, conflicts_with = "sealed")]
    pub gzip: bool,

    /// A sealed copy: ciphertext and metadata as they are stored, for `file://DIR`; keys are optional
    #[arg(long)]
    pub sealed: bool,

    /// Overwrite files that are in the way
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub at: AtArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub select: SelectArgs,

    // Not `ReadArgs`: its other flags mean nothing here, where nothing is shown before it is proven.
    /// Take AES-CBC objects too, which nothing authenticates
    #[arg(long, help_heading = "Reading")]
    pub allow_unauthenticated: bool,

    /// Take envelopes from KEY.instruction objects too, which are not bound to the object they describe
    #[arg(long, help_heading = "Reading")]
    pub allow_instruction_files: bool,

    #[command(flatten)]
    pub ratio: RatioArgs,

    /// Memory for what is under way [default: 256MiB; less if the control
    /// group or the machine has less than twice that]
    #[arg(long, value_name = "SIZE", value_parser = memory, help_heading = "Reading")]
    pub memory: Option<usize>,
}
