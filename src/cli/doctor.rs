//! Flags of `doctor`.

use clap::{Args, ValueEnum};

use super::values::memory;
use super::{KeyArgs, StoreArgs};

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The bucket: NAME, s3://NAME, s3://NAME/PREFIX/, or file:///DIR for a sealed copy; without it, only this machine
    /// and the keys are looked at [default: none]
    #[arg(value_name = "BUCKET")]
    pub bucket: Option<String>,

    /// Look at the first 10,000 objects only
    #[arg(long)]
    pub quick: bool,

    /// How the findings are written
    #[arg(long, value_enum, default_value_t)]
    pub format: TableFormat,

    /// Print every key that is no log and why, escaped, one a line (with --format json an object a line), and do nothing else
    #[arg(long, help_heading = "What is no log", requires = "bucket",
          conflicts_with_all = ["quick", "print_iam_policy", "print_bucket_policy"])]
    pub left_out: bool,

    /// The --memory that a mount is going to have [default: what it would take]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<usize>,

    /// Print the IAM policy that this program needs, and do nothing else
    #[arg(long, help_heading = "Policies", conflicts_with = "print_bucket_policy")]
    pub print_iam_policy: bool,

    /// Print the bucket policy that lets Aptible deliver, and do nothing else
    #[arg(long, help_heading = "Policies", requires = "bucket")]
    pub print_bucket_policy: bool,

    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    #[default]
    Text,
    Json,
}
