//! What can be typed: clap definitions only. Help, completions and man pages come from here; what the words mean is
//! decided in `config`.

mod cat;
mod demo;
mod doctor;
mod download;
mod find;
pub mod helper;
mod manual;
mod mount;
mod shared;
mod values;
mod verify;

use clap::{ArgAction, Parser, Subcommand};

pub use cat::{CatArgs, StreamArg};
pub use demo::DemoArgs;
pub use doctor::{DoctorArgs, TableFormat};
pub use download::DownloadArgs;
pub use find::{FindArgs, FindFormat};
pub use manual::{CompletionsArgs, ManArgs, Shell};
pub use mount::{LogFormatArg, MountArgs};
pub use shared::{AtArgs, KeyArgs, RatioArgs, ReadArgs, SelectArgs, SizesArg, StoreArgs, VerifyArg};
pub use verify::{AuditArgs, ReportFormat, VerifyArgs};

/// With the commit that it was built from, where that is known.
pub const VERSION: &str = env!("LOGARCHIVEFS_VERSION");

#[derive(Debug, Parser)]
#[command(
    name = "logarchivefs",
    version = VERSION,
    about = "Read Aptible S3 log archives as plain files",
    long_about = "Mounts a bucket of Aptible S3 log archives as a read-only folder. Each file reads as the plain \
                  Docker JSON it was before it was gzipped and encrypted. Nothing decrypted is written to disk.",
    after_help = "Switches are off unless given. Exit codes: 0 ok, 1 some items failed, 2 usage, 3 configuration, credentials or keys, \
                  4 nothing matched, 5 integrity failure, 6 storage failure.

Examples:
  logarchivefs demo                                   # a made-up archive to try things on
  logarchivefs find my-bucket --summary               # what is there; needs no decryption key
  logarchivefs mount my-bucket ~/logs --key-file keys
  logarchivefs COMMAND --help                         # flags of a command, with examples",
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
  logarchivefs mount my-bucket /mnt/logs --key-command 'pass show aptible/log-key' --daemon
  logarchivefs mount file:///evidence/copy /mnt/logs --key-file keys --stack prod
  logarchivefs mount my-bucket /mnt/logs --key-file keys --audit-log /var/log/logs-audit.jsonl

  grep -F 'ERROR' /mnt/logs/prod/apps-321/*/2022-08-24/*.json
  fusermount3 -u /mnt/logs")]
    Mount(Box<MountArgs>),

    /// List logs: paths, keys, JSON, a table, or a summary
    #[command(after_help = "Examples:
  logarchivefs find my-bucket --summary
  logarchivefs find my-bucket --app-id 321 --start-date 2022-08-24 --end-date 2022-08-25
  logarchivefs find my-bucket prod/apps-321/38d59273887f --format table
  logarchivefs find my-bucket --stack prod --format keys -0 | xargs -0 -n 1 echo
  logarchivefs find my-bucket --format json | jq -r 'select(.size > 1e8) | .path'")]
    Find(Box<FindArgs>),

    /// Copy logs into a folder: as text, gzipped, or as they are stored
    #[command(
        after_help = "A run that was broken off is resumed by the same command; what is finished is not fetched again.

Examples:
  logarchivefs download my-bucket --to logs --key-file keys --stack prod --start-date 2022-08-24
  logarchivefs download my-bucket prod/apps-321/38d59273887f --to logs --key-file keys --gzip
  logarchivefs download my-bucket --to /evidence/copy --sealed
  logarchivefs mount file:///evidence/copy /mnt/logs --key-file keys"
    )]
    Download(Box<DownloadArgs>),

    /// Print logs: whole files, a time range, one stream, the plain text, several merged by time
    #[command(after_help = "Examples:
  logarchivefs cat my-bucket prod/apps-321/38d59273887f/2022-08-24 --key-file keys | jq -r .log
  logarchivefs cat my-logs prod --merge --since 2022-08-24T21:00:00Z --until 2022-08-24T21:15:00Z
  logarchivefs cat my-bucket prod/apps-321 --start-date 2022-08-24 --text --stream stderr | less")]
    Cat(Box<CatArgs>),

    /// Read everything selected end to end and say what is not as its writer left it
    #[command(
        after_help = "Exit code 5 where anything is not sound, missing or changed; 6 where the store alone failed.

Examples:
  logarchivefs verify my-bucket --key-file keys
  logarchivefs verify my-bucket --key-file keys --stack prod --end-date 2022-08-31 \\
      --manifest august.jsonl --sha256sums august.sha256
  logarchivefs verify file:///evidence/copy --key-file keys --against august.jsonl
  logarchivefs verify --audit-log /var/log/logarchivefs-audit.jsonl"
    )]
    Verify(Box<VerifyArgs>),

    /// Mount a made-up archive to try things on
    #[command(after_help = "Examples:
  logarchivefs demo
  logarchivefs demo --run 'grep -rc ERROR . | head'")]
    Demo(DemoArgs),

    /// Check credentials, bucket, policies, keys and this machine, read-only, and say what to do
    #[command(after_help = "Examples:
  logarchivefs doctor my-bucket --key-file ~/.config/logarchivefs/keys
  logarchivefs doctor                              # this machine only
  logarchivefs doctor my-bucket --format json | jq '.checks[] | select(.status != \"ok\")'
  logarchivefs doctor my-bucket --left-out > foreign  # each key that is no log
  logarchivefs doctor --print-iam-policy my-bucket")]
    Doctor(Box<DoctorArgs>),

    /// Print what a shell needs to complete the command line
    #[command(after_help = "Examples:
  logarchivefs completions bash > ~/.local/share/bash-completion/completions/logarchivefs
  logarchivefs completions zsh > \"${fpath[1]}/_logarchivefs\"
  logarchivefs completions fish > ~/.config/fish/completions/logarchivefs.fish")]
    Completions(CompletionsArgs),

    /// Print the manual page, or write those of all commands
    #[command(after_help = "Examples:
  logarchivefs man | man -l -
  logarchivefs man --out ~/.local/share/man/man1 && man logarchivefs-find")]
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_whole() {
        let mut main = Cli::command();
        main.build();
        for command in main.get_subcommands().chain([&main]) {
            let name = command.get_name();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, examples) = after.split_once("Examples:\n").unwrap_or_else(|| panic!("{name} has no examples"));
            for line in examples.lines() {
                assert!(line.is_empty() || line.starts_with("  ") && line.len() <= 98, "{name}: {line}");
            }
            for arg in command.get_arguments().filter(|a| !a.is_hide_set()) {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "{name}: {arg}");
                // Switches are off, and what must be given has no default; the selection's is in its heading.
                let takes_one = arg.get_action().takes_values() && !arg.is_required_set();
                let selects = arg.get_help_heading().is_some_and(|h| h.contains("default: everything"));
                let says = !arg.get_default_values().is_empty() || help.contains("[default: ") || selects;
                assert!(says || !takes_one, "{name}: {arg} does not say its default");
            }
        }
    }
}
