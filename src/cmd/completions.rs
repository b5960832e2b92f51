//! `completions`: what a shell needs to complete our command line, from the same definitions as `--help`.

use clap::CommandFactory;
use clap_complete::aot::Shell as Kind;

use super::out::Out;
use crate::cli::{Cli, CompletionsArgs, Shell};
use crate::error::{Result, exit};

pub fn run(args: &CompletionsArgs) -> Result<u8> {
    let shell = match args.shell {
        Shell::Bash => Kind::Bash,
        Shell::Zsh => Kind::Zsh,
        Shell::Fish => Kind::Fish,
    };
    let mut script = Vec::new();
    clap_complete::aot::generate(shell, &mut Cli::command(), "logarchivefs", &mut script);
    let mut out = Out::new();
    // Whether somebody reads it to its end is not our concern.
    let _ = (out.write(&script)?, out.flush()?);
    Ok(exit::OK)
}
