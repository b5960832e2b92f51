//! Flags that several commands have: the bucket, the keys, the selection, reading.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::{account, cache_size, duration, memory};

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Bucket")]
pub struct StoreArgs {
    /// AWS region of the bucket [default: from the AWS configuration]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,

    /// URL of an S3-compatible server; path-style requests [default: from the AWS configuration]
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,

    /// Profile of the AWS configuration, SSO profiles included [default: AWS_PROFILE, else `default`]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Allow an http:// endpoint that is not on this machine
    #[arg(long)]
    pub allow_http: bool,

    /// The AWS account that the bucket must belong to: S3 refuses all requests otherwise [default: any]
    #[arg(long, value_name = "ID", value_parser = account)]
    pub expected_bucket_owner: Option<String>,

    /// Give up on one request to the store, retries included, after this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub request_deadline: Duration,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Bucket")]
pub struct AtArgs {
    /// The archive as it was at this RFC 3339 instant, or at the end of this UTC day (YYYY-MM-DD), from the versions that the
    /// bucket keeps [default: as it is now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Keys")]
pub struct KeyArgs {
    /// File with one base64 key a line, `#` comments; `-` for standard input; may be repeated
    /// [default: LOGARCHIVEFS_KEYS]
    #[arg(long, value_name = "FILE")]
    pub key_file: Vec<PathBuf>,

    /// Command whose output is like a key file [default: none]
    #[arg(long, value_name = "COMMAND")]
    pub key_command: Option<String>,

    /// Accept a key file that other users can read
    #[arg(long)]
    pub insecure_key_file: bool,

    /// Refused: a key on the command line shows in `ps`
    #[arg(long, value_name = "KEY", num_args = 1.., hide = true)]
    pub decryption_keys: Vec<String>,
}

#[derive(Debug, Default, Args, serde::Serialize)]
#[command(next_help_heading = "Selection (all given ones must hold; default: everything)")]
pub struct SelectArgs {
    /// Only this stack; may be repeated
    #[arg(long, value_name = "NAME")]
    pub stack: Vec<String>,

    /// Only this app; may be repeated
    #[arg(long, value_name = "ID")]
    pub app_id: Vec<u64>,

    /// Only this database; may be repeated
    #[arg(long, value_name = "ID")]
    pub database_id: Vec<u64>,

    /// Only this endpoint (proxy); may be repeated
    #[arg(long, value_name = "ID")]
    pub endpoint_id: Vec<u64>,

    /// Only the container whose id begins with this (12 characters at least)
    #[arg(long, value_name = "ID")]
    pub container_id: Option<String>,

    /// Only this service of an app
    #[arg(long, value_name = "ID")]
    pub service_id: Option<u64>,

    /// Only objects whose whole key matches this regular expression somewhere; may be repeated, all must match
    #[arg(long, value_name = "RE")]
    pub string_matches: Vec<String>,

    /// Only logs that reach this day (YYYY-MM-DD, inclusive) or RFC 3339 instant
    #[arg(long, value_name = "DATE")]
    pub start_date: Option<String>,

    /// Only logs that begin by the end of this day (YYYY-MM-DD, inclusive) or by this RFC 3339 instant
    #[arg(long, value_name = "DATE")]
    pub end_date: Option<String>,
}

#[derive(Debug, Default, Args)]
pub struct RatioArgs {
    /// Refuse a log once its text is more than N times as long as its gzip stream [default: no limit; 1032 is the most
    /// that gzip can do]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Reading")]
    pub max_ratio: Option<u32>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Reading")]
pub struct ReadArgs {
    /// `full`: no byte before the whole object is authenticated; `stream`: as it arrives, the last read fails
    #[arg(long, value_enum, default_value_t)]
    pub verify: VerifyArg,

    /// Read AES-CBC objects too, which nothing authenticates
    #[arg(long)]
    pub allow_unauthenticated: bool,

    /// Read envelopes from KEY.instruction objects too, which are not bound to the object they describe
    #[arg(long)]
    pub allow_instruction_files: bool,

    #[command(flatten)]
    pub ratio: RatioArgs,

    /// Memory for text, ciphertext in flight and seek points [default: 256MiB; less if the control
    /// group or the machine has less than twice that]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<usize>,

    /// Keep ciphertext, and sealed proofs that it is authentic, in this folder (0700, yours; made if need be) for the next
    /// time; mounts may share it [default: none]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,

    /// What --cache-dir may take at most
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = cache_size, requires = "cache_dir")]
    pub cache_size: u64,
}

impl Default for ReadArgs {
    fn default() -> Self {
        ReadArgs {
            verify: VerifyArg::Full,
            allow_unauthenticated: false,
            allow_instruction_files: false,
            ratio: RatioArgs::default(),
            memory: None,
            cache_dir: None,
            cache_size: 10 << 30,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VerifyArg {
    #[default]
    Full,
    Stream,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SizesArg {
    #[default]
    Hint,
    Exact,
}
