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

/// Files that are handed on at a time, or as many as a container has: a resource may have a million.
const PART: usize = 1000;

/// Lists in the background; each message has whole containers.
pub fn list(archive: Arc<Archive>, paths: Vec<String>, window: Window) -> mpsc::Receiver<Result<Vec<File>>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut batches = archive.selected(&paths);
        while let Some(batch) = batches.next().await {
            let mut logs = match batch {
                Ok(batch) => batch.into_iter().peekable(),
                Err(e) => match sender.send(Err(e)).await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            while logs.peek().is_some() {
                let mut files = Vec::new();
                while files.len() < PART
                    && let Some(first) = logs.next()
                {
                    let mut container = vec![first];
                    while let Some(log) = logs.next_if(|log| log.log.container == container[0].log.container) {
                        container.push(log);
                    }
                    files.extend(order(container, &window));
                }
                if sender.send(Ok(files)).await.is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

/// The files of a container.
fn order(mut logs: Vec<Selected>, window: &Window) -> impl Iterator<Item = File> {
    logs.retain(|s| !window.misses(&s.log.span));
    logs.sort_by_cached_key(|s| (begin(s), s.item.name()));
    let file = |s: Selected| {
        let (start, untold) = match s.log.span {
            Span::Range { start, end } => (start.map(stamp), start.is_none() || end.is_none()),
            Span::Uploaded(_) => (None, true),
        };
        File { order: 0, listed: listed(&s), start, untold }
    };
    logs.into_iter().map(file)
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
