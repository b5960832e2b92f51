//! What can be typed: clap definitions only. Help, completions and man pages come from here; what the words mean is
//! decided in `config`.

mod demo;
mod mount;
mod shared;
mod values;
mod verify;

use clap::{ArgAction, Parser, Subcommand};

pub use demo::DemoArgs;
pub use mount::MountArgs;
pub use shared::{KeyArgs, ReadArgs, SelectArgs, SizesArg, StoreArgs, VerifyArg};
pub use verify::{ReportFormat, VerifyArgs};

#[derive(Debug, Parser)]
#[command(
    name = "logarchivefs",
    version,
    about = "Read Aptible S3 log archives as plain files",
    long_about = "Mounts a bucket of Aptible S3 log archives as a read-only folder. Each file reads as the plain \
                  Docker JSON it was before it was gzipped and encrypted. Nothing decrypted is written to disk.",
    after_help = "Exit codes: 0 ok, 1 some items failed, 2 usage, 3 configuration, credentials or keys, \
                  4 nothing matched, 5 integrity failure, 6 storage failure.",
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub struct Cli {
    /// More log: -v for what is done, -vv for everything. RUST_LOG overrides it.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount a bucket on a folder
    #[command(after_help = "Examples:
  logarchivefs mount my-bucket /mnt/logs --key-file ~/.config/logarchivefs/keys
  logarchivefs mount my-bucket /mnt/logs --key-command 'pass show aptible/log-key' --region us-east-1 --daemon
  logarchivefs mount file:///evidence/copy /mnt/logs --key-file keys --stack prod --start-date 2022-08-24

  grep -F 'ERROR' /mnt/logs/prod/apps-321/*/2022-08-24/*.json
  fusermount3 -u /mnt/logs")]
    Mount(Box<MountArgs>),

    /// Read everything selected end to end and say what is not as its writer left it
    #[command(after_help = "Examples:
  logarchivefs verify my-bucket --key-file keys
  logarchivefs verify my-bucket --key-file keys --stack prod --start-date 2022-08-01 --end-date 2022-08-31 \\
      --manifest august.jsonl --sha256sums august.sha256
  logarchivefs verify file:///evidence/copy --key-file keys --against august.jsonl

Exit code 5 where anything is not sound, missing or changed; 6 where the store alone failed.")]
    Verify(Box<VerifyArgs>),

    /// Mount a made-up archive to try things on
    #[command(after_help = "Examples:
  logarchivefs demo
  logarchivefs demo --run 'grep -rc ERROR . | head'")]
    Demo(DemoArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }
}
