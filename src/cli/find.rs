//! Flags of `find`.

use clap::{Args, ValueEnum};

use super::{AtArgs, SelectArgs, StoreArgs};

#[derive(Debug, Args)]
pub struct FindArgs {
    /// The bucket: NAME, s3://NAME, s3://NAME/PREFIX/, or file:///DIR for a sealed copy
    #[arg(value_name = "BUCKET")]
    pub bucket: String,

    /// Only what lies below, as in the mount: STACK[/TYPE-ID[/CONTAINER[/DAY[/FILE]]]] [default: everything]
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,

    /// `paths` as in the mount, `keys` of the objects, `json`: all that is known, one log a line, or a `table`
    /// [default: paths; with --summary: table]
    #[arg(long, value_enum, help_heading = "Output")]
    pub format: Option<FindFormat>,

    /// End each entry with NUL instead of a line end, for `xargs -0`
    #[arg(short = '0', long, help_heading = "Output", conflicts_with = "summary")]
    pub null: bool,

    /// Count objects, bytes in the store and the span of each resource, instead of listing logs
    #[arg(long, help_heading = "Output")]
    pub summary: bool,

    #[command(flatten)]
    pub select: SelectArgs,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub at: AtArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FindFormat {
    Paths,
    Keys,
    Json,
    Table,
}
