//! Every key below some prefixes, listed by ranges in parallel.
//!
//! A prefix begins as one range. When a page of it says that there is more, the rest may be cut ([`split`](super::split)) into ranges
//! that are listed at once. A cut costs at most one page that is not full, so there are never more of them than 0.3 for
//! each full page that there is, or, where that can be told, that half of what is expected will make.
//!
//! Invariants: ranges do not overlap and leave nothing out: one ends with its `stop`, which the next one starts after; a key
//! outside its range, or out of order in a listing that was cut, is an error; all pages of all ranges came, or it is
//! an error. Keys come in no particular order.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::gate::Gate;
use super::split::Seen;
use crate::err;
use crate::error::{Kind, Result};
use crate::store::{Entry, ListRequest, Page, Pages, Store};

/// Ranges of one sweep that are listed at once.
const MOST_RANGES: usize = 32;
/// Cuts for each page.
const CUTS: f64 = 0.3;
/// How much of what is expected is relied on.
const TRUST: f64 = 0.5;
/// A range with fewer pages to come is not cut.
const WORTH: f64 = 4.0;

struct Range {
    prefix: String,
    /// Its keys are behind this one.
    after: Option<String>,
    /// Its last key at most.
    stop: Option<String>,
    seen: Seen,
    /// Pages expected to come; 0 if nothing is known.
    expected: f64,
}

struct Sweep {
    ranges: Vec<Range>,
    open: usize,
    keys: usize,
    /// The most keys that a page had.
    page: usize,
    cuts: usize,
    /// Every page so far was in order.
    ordered: bool,
}

/// Calls `take` with the objects of page after page until all below `prefixes` were there. `gate` bounds the requests at once.
pub async fn sweep(
    store: &Arc<dyn Store>,
    gate: &Gate,
    prefixes: &[String],
    take: &mut (dyn FnMut(&[Entry]) + Send),
) -> Result<()> {
    let mut sweep = Sweep { ranges: Vec::new(), open: 0, keys: 0, page: 1, cuts: 0, ordered: true };
    let mut tasks = JoinSet::new();
    let list = |tasks: &mut JoinSet<_>, at: usize, mut pages: Pages<Arc<dyn Store>>| {
        let gate = gate.clone();
        // A task of its own: making sense of a page takes as long as a fast server takes to send it.
        tasks.spawn(async move {
            let _permit = gate.pass().await;
            let page = pages.next().await;
            (at, pages, page)
        });
    };
    for prefix in prefixes {
        let at = sweep.push(Range::new(prefix.clone(), None, None));
        list(&mut tasks, at, sweep.pages(store, at));
    }
    while let Some(done) = tasks.join_next().await {
        let (at, mut pages, page) = done.map_err(|_| err!(Kind::Internal, "a listing's task panicked"))?;
        let Some(page) = page? else {
            sweep.open -= 1;
            continue;
        };
        let (len, more) = sweep.arrived(at, &page).map_err(|e| {
            let prefix = sweep.ranges.get(at).map_or("", |range| &range.prefix);
            e.about(&format!("{}{prefix}", store.describe()))
        })?;
        take(page.objects.get(..len).unwrap_or_default());
        drop(page);
        if !more {
            sweep.open -= 1;
            continue;
        }
        for new in sweep.split(at) {
            list(&mut tasks, new, sweep.pages(store, new));
        }
        pages.stop_at(sweep.ranges.get(at).and_then(|range| range.stop.clone()));
        list(&mut tasks, at, pages);
    }
    Ok(())
}

impl Range {
    fn new(prefix: String, after: Option<String>, stop: Option<String>) -> Range {
        Range { prefix, after, stop, seen: Seen::default(), expected: 0.0 }
    }
}

impl Sweep {
    fn push(&mut self, range: Range) -> usize {
        self.open += 1;
        self.ranges.push(range);
        self.ranges.len() - 1
    }

    fn pages(&self, store: &Arc<dyn Store>, at: usize) -> Pages<Arc<dyn Store>> {
        let range = &self.ranges[at];
        let (start_after, stop) = (range.after.clone(), range.stop.clone());
        let request = ListRequest { start_after, stop, ..ListRequest::below(&range.prefix) };
        Pages::new(Arc::clone(store), request)
    }

    /// How many of the page's objects are in the range, and whether there may be more.
    fn arrived(&mut self, at: usize, page: &Page) -> Result<(usize, bool)> {
        let range = &mut self.ranges[at];
        let keys = || page.objects.iter().map(|entry| entry.key.as_slice());
        self.ordered &= keys().is_sorted();
        let bounded = range.after.is_some() || range.stop.is_some();
        if bounded && !self.ordered {
            return Err(err!(Kind::Storage, "the listing is not in order"));
        }
        let below = |key: &[u8]| key.starts_with(range.prefix.as_bytes());
        let behind = |key: &[u8]| range.after.as_ref().is_none_or(|after| key > after.as_bytes());
        if !keys().all(below) || !keys().next().is_none_or(behind) {
            return Err(err!(Kind::Storage, "the listing shows keys that were not asked for"));
        }
        let stop = range.stop.as_ref().map(String::as_bytes);
        let len = stop.map_or(page.objects.len(), |stop| page.objects.partition_point(|e| e.key.as_slice() <= stop));
        let reached = len < page.objects.len() || stop.is_some() && keys().next_back() == stop;
        self.keys += len;
        self.page = self.page.max(page.objects.len());
        range.seen.page(page.objects[..len].iter().filter_map(|e| std::str::from_utf8(&e.key).ok()));
        range.expected = match range.seen.left(range.stop.as_deref()) {
            Some(keys) => keys / self.page as f64,
            None => (range.expected - 1.0).max(0.0),
        };
        let more = page.next.is_some() && !reached;
        if !more {
            range.expected = 0.0;
        }
        Ok((len, more))
    }

    /// Cuts what is left of a range whose page has just come, if that is worth it: the new ranges.
    fn split(&mut self, at: usize) -> Vec<usize> {
        let pages = self.keys as f64 / self.page as f64;
        let expected: f64 = self.ranges.iter().map(|range| range.expected).sum();
        let allowed = CUTS * (pages.floor() + 1.0).max(pages + TRUST * expected);
        let range = &self.ranges[at];
        let known = range.seen.left(range.stop.as_deref()).is_some() || range.expected > 0.0;
        let worth = if known { (range.expected / WORTH) as usize } else { 1 };
        let most = (allowed as usize).saturating_sub(self.cuts).min(MOST_RANGES.saturating_sub(self.open)).min(worth);
        if most == 0 || !self.ordered {
            return Vec::new();
        }
        let cuts = range.seen.cuts(&range.prefix, range.stop.as_deref(), most, pages, self.open <= 2);
        let share = range.expected / (cuts.len() as f64 + 1.0);
        let mut new = Vec::new();
        let (prefix, mut stop) = (range.prefix.clone(), range.stop.clone());
        for cut in cuts.into_iter().rev() {
            let place = self.push(Range::new(prefix.clone(), Some(cut.clone()), stop.replace(cut)));
            self.ranges[place].expected = share;
            new.push(place);
        }
        self.cuts += new.len();
        self.ranges[at].stop = stop;
        self.ranges[at].expected = share;
        new
    }
}
