//! What can be typed: clap definitions only. Help, completions and man pages come from here; what the words mean is
//! decided in `config`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

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

    /// Mount a made-up archive to try things on
    #[command(after_help = "Examples:
  logarchivefs demo
  logarchivefs demo --run 'grep -rc ERROR . | head'")]
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub struct MountArgs {
    /// The bucket: NAME, s3://NAME, s3://NAME/PREFIX/, or file:///DIR for a sealed copy
    #[arg(value_name = "BUCKET")]
    pub bucket: String,

    /// An existing folder
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    /// Return when the mount answers and serve it from the background
    #[arg(long, help_heading = "Mount")]
    pub daemon: bool,

    /// Append the log to this file (made with mode 0600); with --daemon there is no other place for it
    #[arg(long, value_name = "FILE", help_heading = "Mount")]
    pub log_file: Option<PathBuf>,

    /// Let other users see the mount too (as non-root this needs `user_allow_other` in /etc/fuse.conf)
    #[arg(long, help_heading = "Mount")]
    pub allow_other: bool,

    /// Owner that files and folders show [default: the caller's]
    #[arg(long, value_name = "UID", help_heading = "Mount")]
    pub uid: Option<u32>,

    /// Group that files and folders show [default: the caller's]
    #[arg(long, value_name = "GID", help_heading = "Mount")]
    pub gid: Option<u32>,

    /// Permission bits of files, octal, without any for writing
    #[arg(long, value_name = "MODE", default_value = "0400", value_parser = mode, help_heading = "Mount")]
    pub file_mode: u16,

    /// Permission bits of folders, octal, without any for writing
    #[arg(long, value_name = "MODE", default_value = "0500", value_parser = mode, help_heading = "Mount")]
    pub dir_mode: u16,

    /// FUSE event threads
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64),
          help_heading = "Mount")]
    pub threads: u16,

    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub select: SelectArgs,
    #[command(flatten)]
    pub read: ReadArgs,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// An existing folder to mount on [default: a temporary one]
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,

    /// Run COMMAND with `sh -c` in the mounted folder, unmount, and exit with its status
    #[arg(long, value_name = "COMMAND")]
    pub run: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Bucket")]
pub struct StoreArgs {
    /// AWS region of the bucket [default: from the AWS configuration]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,

    /// URL of an S3-compatible server; path-style requests
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,

    /// Profile of the AWS configuration, SSO profiles included
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Allow an http:// endpoint that is not on this machine
    #[arg(long)]
    pub allow_http: bool,

    /// Give up on one request to the store, retries included, after this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub request_deadline: std::time::Duration,

    /// How long a listing may be shown before it is fetched again; SIGHUP does it at once
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub listing_ttl: std::time::Duration,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Keys")]
pub struct KeyArgs {
    /// File with one base64 key a line, `#` comments; `-` for standard input; may be repeated
    #[arg(long, value_name = "FILE")]
    pub key_file: Vec<PathBuf>,

    /// Command whose output is like a key file
    #[arg(long, value_name = "COMMAND")]
    pub key_command: Option<String>,

    /// Accept a key file that other users can read
    #[arg(long)]
    pub insecure_key_file: bool,

    /// Refused: a key on the command line shows in `ps`
    #[arg(long, value_name = "KEY", num_args = 1.., hide = true)]
    pub decryption_keys: Vec<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Selection (all given ones must hold)")]
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

    /// Only logs that reach this day (YYYY-MM-DD, inclusive) or RFC 3339 instant
    #[arg(long, value_name = "DATE")]
    pub start_date: Option<String>,

    /// Only logs that begin by the end of this day (YYYY-MM-DD, inclusive) or by this RFC 3339 instant
    #[arg(long, value_name = "DATE")]
    pub end_date: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Reading")]
pub struct ReadArgs {
    /// `full`: no byte before the whole object is authenticated; `stream`: as it arrives, the last read fails
    #[arg(long, value_enum, default_value_t)]
    pub verify: VerifyArg,

    /// `hint`: stat before open shows the size in the gzip trailer; `exact`: it scans the file first (for tar)
    #[arg(long, value_enum, default_value_t)]
    pub sizes: SizesArg,

    /// Read AES-CBC objects too, which nothing authenticates
    #[arg(long)]
    pub allow_unauthenticated: bool,

    /// Read envelopes from KEY.instruction objects too, which are not bound to the object they describe
    #[arg(long)]
    pub allow_instruction_files: bool,

    /// Memory for text, ciphertext in flight and seek points
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = memory)]
    pub memory: usize,
}

impl Default for ReadArgs {
    fn default() -> Self {
        ReadArgs {
            verify: VerifyArg::Full,
            sizes: SizesArg::Hint,
            allow_unauthenticated: false,
            allow_instruction_files: false,
            memory: 256 << 20,
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

/// `2s`, `5m`, `1h`, `250ms`.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write it as 250ms, 2s, 5m, 1h or 1d".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 250ms, 2s, 5m, 1h or 1d".to_owned())?;
    number.checked_mul(scale).map(std::time::Duration::from_millis).ok_or_else(|| "too long".into())
}

/// `64MiB`, `1GiB`, `1000000`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return Err("write it as 64MiB or 1GiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 64MiB or 1GiB".to_owned())?;
    number.checked_mul(scale).ok_or_else(|| "too large".into())
}

fn memory(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(size(text)?).map_err(|_| "too large".to_owned())?;
    if bytes < 32 << 20 { Err("32MiB is the least".into()) } else { Ok(bytes) }
}

fn mode(text: &str) -> Result<u16, String> {
    let bits = u16::from_str_radix(text, 8).map_err(|_| "write it in octal, as 0440".to_owned())?;
    if bits & !0o555 != 0 {
        Err("only bits for reading and searching: the mount is read-only".into())
    } else {
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::time::Duration;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn units() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "5", "5 s", "-1s", "99999999999999999999s", "18446744073709551615h", "5µs"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("10"), Ok(10));
        assert!(size("1XB").is_err() && size("99999999999TiB").is_err());
        assert!(memory("1MiB").is_err());
        assert_eq!(mode("0440"), Ok(0o440));
        assert!(mode("0644").is_err() && mode("9").is_err());
    }
}
