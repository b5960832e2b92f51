//! Parse, log, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use logarchivefs::cli::{Cli, Command};
use logarchivefs::error::{Error, exit};
use logarchivefs::{cmd, daemon, keysource, logging};

fn main() -> ExitCode {
    // First, while there is one thread and nothing secret yet.
    let env_keys = keysource::take_env_keys();
    daemon::harden();
    daemon::tame_allocator();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { exit::USAGE } else { exit::OK };
            // Nobody is left to tell if this fails.
            e.print().ok();
            return ExitCode::from(code);
        }
    };
    match run(cli, env_keys) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("logarchivefs: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

fn run(cli: Cli, env_keys: Result<Option<keysource::EnvKeys>, Error>) -> Result<u8, Error> {
    let env_keys = env_keys?;
    match cli.command {
        Command::Mount(args) => {
            logging::start(cli.verbose, args.log_file.as_deref())?;
            cmd::mount::run(*args, env_keys)
        }
        Command::Verify(args) => {
            logging::start(cli.verbose, None)?;
            cmd::verify::run(*args, env_keys)
        }
        Command::Demo(args) => {
            logging::start(cli.verbose, None)?;
            cmd::demo::run(args)
        }
    }
}
