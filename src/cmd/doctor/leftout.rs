//! `doctor --left-out`: every object that is no log, by its key, escaped, with the reason.
//!
//! Invariant: page by page, so that memory does not grow with their number; a listing that fails is an error behind what was
//! told, never a list that looks whole.

use serde::Serialize;

use crate::catalog::select::Selection;
use crate::cli::{StoreArgs, TableFormat};
use crate::cmd::out::{Out, Reader};
use crate::cmd::serve::runtime;
use crate::config;
use crate::err;
use crate::error::{Kind, Result, escape_whole, exit};
use crate::key::LogKey;
use crate::store::{Entry, ListRequest, Pages};

/// Returns the exit code.
pub fn run(bucket: &str, args: &StoreArgs, format: TableFormat) -> Result<u8> {
    let runtime = runtime()?;
    let told = runtime.block_on(tell(bucket, args, format));
    runtime.shutdown_background();
    told.map(|()| exit::OK)
}

async fn tell(bucket: &str, args: &StoreArgs, format: TableFormat) -> Result<()> {
    let store = config::store(bucket, args, None, &Selection::default()).await?;
    let mut pages = Pages::new(store, ListRequest::default());
    let mut out = Out::new();
    let told = loop {
        match pages.next().await {
            Ok(Some(page)) => {
                for line in page.objects.iter().filter_map(|entry| line(entry, format).transpose()) {
                    if out.write(line?.as_bytes())? == Reader::Gone {
                        return Ok(());
                    }
                }
            }
            Ok(None) => break Ok(()),
            Err(e) => break Err(e),
        }
    };
    let _ = out.flush()?;
    told
}

/// A key with its reason; none for a log. The key is escaped in JSON too: it may be no UTF-8.
fn line(entry: &Entry, format: TableFormat) -> Result<Option<String>> {
    #[derive(Serialize)]
    struct LeftOut<'a> {
        key: &'a str,
        reason: &'a str,
        size: u64,
    }
    let Err(why) = LogKey::parse(&entry.key) else { return Ok(None) };
    let (key, reason) = (&escape_whole(&entry.key), why.as_str());
    let line = match format {
        TableFormat::Text => format!("{key} ({reason})"),
        TableFormat::Json => serde_json::to_string(&LeftOut { key, reason, size: entry.size })
            .map_err(|e| err!(Kind::Internal, "cannot write a key: {e}"))?,
    };
    Ok(Some(line + "\n"))
}
