//! Flags of `cat`.

use clap::{Args, ValueEnum};

use super::{AtArgs, KeyArgs, ReadArgs, SelectArgs, StoreArgs};

#[derive(Debug, Args)]
pub struct CatArgs {
    /// The bucket: NAME, s3://NAME, s3://NAME/PREFIX/, or file:///DIR for a sealed copy
    #[arg(value_name = "BUCKET")]
    pub bucket: String,

    /// Files or folders, as below a mountpoint [default: all that is selected]
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,

    /// One sequence of all files by the time of their records, instead of one file after the other
    #[arg(long, help_heading = "Records")]
    pub merge: bool,

    /// Only records from this RFC 3339 instant, or from the start of this UTC day (YYYY-MM-DD), on [default: the first]
    #[arg(long, value_name = "TIME", help_heading = "Records")]
    pub since: Option<String>,

    /// Only records up to this RFC 3339 instant, or to the end of this UTC day (YYYY-MM-DD), inclusive [default: the last]
    #[arg(long, value_name = "TIME", help_heading = "Records")]
    pub until: Option<String>,

    /// The text that was logged instead of JSON; pieces of one long line are joined
    #[arg(long, help_heading = "Records")]
    pub text: bool,

    /// Only records of this stream [default: all]
    #[arg(long, value_enum, value_name = "STREAM", help_heading = "Records")]
    pub stream: Option<StreamArg>,

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StreamArg {
    Stdout,
    Stderr,
}
