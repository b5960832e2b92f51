//! `find`: which logs are there. Lists only: no object is fetched, and no decryption key is needed.
//!
//! Invariant: each log is shown once, in the order of the tree, however many of the paths name it.

mod show;
mod summary;

use std::time::Duration;

use futures::StreamExt;

use super::archive::selected;
use super::out::{Out, Reader};
use super::serve::runtime;
use super::tally::Tally;
use crate::catalog::select::Selection;
use crate::catalog::{Catalog, Selected};
use crate::cli::{FindArgs, FindFormat};
use crate::config;
use crate::err;
use crate::error::{Kind, Result, exit};
use show::Lines;
use summary::Summary;

/// Logs that are made into text at a time: a resource may have a million.
const PART: usize = 1000;

/// Returns the exit code.
pub fn run(args: FindArgs) -> Result<u8> {
    let mut report = Report::new(&args)?;
    let selection = config::selection(args.select)?;
    let at = config::moment(&args.at)?;
    config::Place::parse(&args.bucket)?;
    let everything = selection == Selection::default() && args.paths.is_empty();
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let store = config::store(&args.bucket, &args.store, at, &selection).await?;
        let place = store.describe();
        // One state of each listing.
        let catalog = Catalog::new(store, selection, Duration::MAX);
        let tally = Tally::default();
        if list(&catalog, &args.paths, &mut report, &tally).await? == Reader::Gone {
            return Ok(exit::OK);
        }
        match tally.counts() {
            counts if counts.ok > 0 || counts.failed > 0 => Ok(tally.exit_code()),
            _ if everything => Err(err!(Kind::NoMatch, "{place} holds no logs")),
            _ => Err(err!(Kind::NoMatch, "nothing matched: no log in {place} is selected")),
        }
    });
    runtime.shutdown_background();
    result
}

/// What is printed.
enum Report {
    Lines(Lines, Out),
    Summary(Summary, Out),
}

impl Report {
    fn new(args: &FindArgs) -> Result<Report> {
        let out = Out::new();
        match (args.summary, args.format) {
            (true, None | Some(FindFormat::Table)) => Ok(Report::Summary(Summary::new(false), out)),
            (true, Some(FindFormat::Json)) => Ok(Report::Summary(Summary::new(true), out)),
            (true, Some(_)) => Err(err!(Kind::Usage, "--summary is a table or json: it has neither paths nor keys")),
            (false, Some(FindFormat::Table)) if args.null => {
                Err(err!(Kind::Usage, "--null ends paths, keys or json: a table has lines"))
            }
            (false, format) => Ok(Report::Lines(
                Lines::new(format.unwrap_or(FindFormat::Paths), if args.null { 0 } else { b'\n' }),
                out,
            )),
        }
    }

    fn logs(&mut self, logs: &[Selected]) -> Result<Reader> {
        match self {
            Report::Lines(lines, out) => {
                if out.write(&lines.of(logs)?)? == Reader::Gone {
                    return Ok(Reader::Gone);
                }
                // What is found is seen at once: the next resource may be a slow one.
                out.flush()
            }
            Report::Summary(summary, _) => {
                summary.add(logs);
                Ok(Reader::There)
            }
        }
    }

    fn end(&mut self) -> Result<Reader> {
        match self {
            Report::Lines(_, out) => out.flush(),
            Report::Summary(summary, out) => {
                if out.write(&summary.text()?)? == Reader::Gone {
                    return Ok(Reader::Gone);
                }
                out.flush()
            }
        }
    }
}

async fn list(catalog: &Catalog, paths: &[String], report: &mut Report, tally: &Tally) -> Result<Reader> {
    let mut found = selected(catalog, paths);
    while let Some(logs) = found.next().await {
        let logs = match logs {
            Ok(logs) => logs,
            Err(e) if e.kind() == Kind::NoMatch => {
                tally.failed(&e);
                continue;
            }
            Err(e) => return Err(e),
        };
        let mut logs = logs.into_iter();
        loop {
            let part: Vec<Selected> = logs.by_ref().take(PART).collect();
            if part.is_empty() {
                break;
            }
            part.iter().for_each(|_| tally.ok());
            if report.logs(&part)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
    }
    // Not for nothing: a head without rows, or a sum of nothing, would look like an answer.
    if tally.counts().ok == 0 { Ok(Reader::There) } else { report.end() }
}
