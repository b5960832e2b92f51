//! Parse, log, dispatch, exit code.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use logarchivefs::cli::{Cli, Command, LogFormatArg, helper};
use logarchivefs::error::{Error, exit};
use logarchivefs::{cmd, daemon, keysource, logging};

fn main() -> ExitCode {
    // First, while there is one thread and nothing secret yet.
    let env_keys = keysource::take_env_keys();
    daemon::harden();
    daemon::tame_allocator();
    let typed: Vec<_> = std::env::args_os().collect();
    match helper::translate(&typed) {
        helper::Call::NotMount => ExitCode::from(start(typed, env_keys)),
        helper::Call::Fake => ExitCode::from(exit::OK),
        // As mount(8) would say it: a wrong call, or a mount that failed.
        helper::Call::Mount(args) => ExitCode::from(match start(args, env_keys) {
            exit::OK => exit::OK,
            exit::USAGE => 1,
            _ => 32,
        }),
    }
}

fn start(args: Vec<OsString>, env_keys: Result<Option<keysource::EnvKeys>, Error>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Nobody is left to tell if this fails.
            e.print().ok();
            return if e.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    run(cli, env_keys).unwrap_or_else(|e| {
        eprintln!("logarchivefs: {e}");
        e.exit_code()
    })
}

fn run(cli: Cli, env_keys: Result<Option<keysource::EnvKeys>, Error>) -> Result<u8, Error> {
    let env_keys = env_keys?;
    match &cli.command {
        Command::Mount(args) => {
            let format = match args.log_format {
                LogFormatArg::Text => logging::Format::Text,
                LogFormatArg::Json => logging::Format::Json,
            };
            logging::start(cli.verbose, format, args.log_file.as_deref())?;
        }
        _ => logging::start(cli.verbose, logging::Format::Text, None)?,
    }
    match cli.command {
        Command::Cat(args) => cmd::cat::run(*args, env_keys),
        Command::Completions(args) => cmd::completions::run(&args),
        Command::Demo(args) => cmd::demo::run(args),
        Command::Doctor(args) => cmd::doctor::run(*args, env_keys),
        Command::Download(args) => cmd::download::run(*args, env_keys),
        Command::Find(args) => cmd::find::run(*args),
        Command::Man(args) => cmd::man::run(&args),
        Command::Mount(args) => cmd::mount::run(*args, env_keys),
        Command::Verify(args) => cmd::verify::run(*args, env_keys),
    }
}
