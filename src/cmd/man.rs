//! `man`: manual pages, from the same definitions as `--help`.

use std::fs;
use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::out::Out;
use crate::cli::{Cli, ManArgs};
use crate::err;
use crate::error::{Error, Kind, Result, exit};

pub fn run(args: &ManArgs) -> Result<u8> {
    let mut main = Cli::command();
    // Gives the commands their full names.
    main.build();
    let Some(folder) = &args.out else {
        let mut out = Out::new();
        // Whether somebody reads it to its end is not our concern.
        let _ = (out.write(&page(&main).map_err(internal)?)?, out.flush()?);
        return Ok(exit::OK);
    };
    let failed = |what: &std::path::Path, e: io::Error| err!(Kind::Config, "cannot write {}: {e}", what.display());
    fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
    for command in main.get_subcommands().chain([&main]) {
        let path = folder.join(Man::new(command.clone()).get_filename());
        fs::write(&path, page(command).map_err(internal)?).map_err(|e| failed(&path, e))?;
    }
    Ok(exit::OK)
}

/// As clap_mangen has it, but for what follows the options: examples are to keep their lines.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).manual("logarchivefs").source(crate::cli::VERSION);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let rest = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = rest.split_once("Examples:\n").unwrap_or((&rest, ""));
    let mut roff = Roff::new();
    for (title, text) in [("NOTES", notes.trim()), ("EXAMPLES", examples)] {
        if !text.is_empty() {
            let keep_lines = title == "EXAMPLES";
            roff.control("SH", [title]);
            if keep_lines {
                roff.control("nf", []);
            }
            for line in text.lines() {
                roff.text([roman(line)]);
            }
            if keep_lines {
                roff.control("fi", []);
            }
        }
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn internal(e: io::Error) -> Error {
    err!(Kind::Internal, "writing a manual page: {e}")
}
