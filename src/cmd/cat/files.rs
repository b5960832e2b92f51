//! Which files, and in what order: container by container, and by start time in each.

use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::mpsc;

use super::super::archive::{Archive, listed};
use super::window::{Window, stamp};
use crate::catalog::Selected;
use crate::error::Result;
use crate::key::Span;
use crate::object::Listed;
use crate::record::Stamp;

/// A file to be printed.
#[derive(Debug)]
pub struct File {
    /// Its place among all files.
    pub order: u64,
    pub listed: Listed,
    /// When its first record is, as the key says.
    pub start: Option<Stamp>,
    /// The key does not tell its span, so that it is read to see.
    pub untold: bool,
}

/// Lists in the background; each message is what one listing, or one path, has given.
pub fn list(archive: Arc<Archive>, paths: Vec<String>, window: Window) -> mpsc::Receiver<Result<Vec<File>>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut batches = archive.selected(&paths);
        while let Some(batch) = batches.next().await {
            let files = batch.map(|batch| order(batch, &window));
            if sender.send(files).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn order(mut batch: Vec<Selected>, window: &Window) -> Vec<File> {
    batch.retain(|s| !window.misses(&s.log.span));
    batch.sort_by_cached_key(|s| {
        let place = (s.log.stack.clone(), s.log.resource.to_string(), s.log.container.clone());
        (place, begin(s), s.item.name().to_string())
    });
    let file = |s: Selected| {
        let (start, untold) = match s.log.span {
            Span::Range { start, end } => (start.map(stamp), start.is_none() || end.is_none()),
            Span::Uploaded(_) => (None, true),
        };
        File { order: 0, listed: listed(&s), start, untold }
    };
    batch.into_iter().map(file).collect()
}

/// For the order: the start, else the next best that is known, then the end.
fn begin(s: &Selected) -> (Stamp, Stamp) {
    let upload = stamp(s.item.modified());
    match s.log.span {
        Span::Range { start, end } => {
            let end = end.map_or(upload, stamp);
            (start.map_or(end, stamp), end)
        }
        Span::Uploaded(at) => (at.map_or(upload, stamp), upload),
    }
}
