//! Arguments of `completions` and `man`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that reads it
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write logarchivefs.1, and a page of each command, into this folder [default: the main page, to stdout]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
