//! Flags of `demo`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// An existing folder to mount on [default: a temporary one]
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,

    /// Run COMMAND with `sh -c` in the mounted folder, unmount, and exit with its status [default: serve until
    /// Ctrl-C]
    #[arg(long, value_name = "COMMAND")]
    pub run: Option<String>,
}
