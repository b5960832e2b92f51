//! Every selected log of a bucket, in order, as a stream; and the logs that a path names. For commands: a mount asks
//! folder by folder.
//!
//! Invariants: the order is that of the tree (stack, resource, container, day, name), whatever arrives first; a listing
//! that fails ends the stream with its error, so that nothing is silently missing; what was handed on is not kept. Of
//! whole stacks and buckets, memory holds the packed listings of [`AHEAD`] resources and of the one that is handed on.

use std::sync::Arc;

use futures::TryFutureExt;
use futures::future::ready;
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};

use super::list::{Hurry, Lister};
use super::names::{self, Day};
use super::select::DateMatch;
use super::{Catalog, Item, ResourceTree, lock};
use crate::err;
use crate::error::{Error, Kind, Result, escape};
use crate::key::LogKey;

/// Resources that are listed at a time.
const AHEAD: usize = 8;

/// Objects in trees that are kept for paths to come, which may name logs of the same resources.
const KEPT: usize = 500_000;

/// A selected log.
#[derive(Clone, Debug)]
pub struct Selected {
    pub item: Item,
    pub log: LogKey,
    /// The dates of the selection were compared with its upload, as the key does not tell.
    pub by_upload: bool,
}

impl Selected {
    /// Below the mountpoint: `stack/type-id/container/day/name`.
    pub fn path(&self) -> String {
        let LogKey { stack, resource, container, .. } = &self.log;
        format!("{stack}/{resource}/{container}/{}/{}", names::day(&self.log.span), self.item.name())
    }
}

/// Logs of one listing, in the order of the tree; never none. Packed: a log is made when it is asked for, as it then takes
/// ten times the memory.
#[derive(Clone)]
pub struct Batch {
    lister: Arc<Lister>,
    tree: Arc<ResourceTree>,
    places: Vec<u32>,
}

impl Batch {
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// In the store.
    pub fn bytes(&self) -> u64 {
        let sizes = self.places.iter().filter_map(|at| self.tree.get(*at as usize)).map(|item| item.size());
        // The sizes are what a server says.
        sizes.fold(0, u64::saturating_add)
    }

    pub fn iter(&self) -> impl Iterator<Item = Selected> {
        self.places.iter().filter_map(|at| select(&self.lister, &self.tree, *at))
    }

    /// Those that `wanted` wants; `None` if it wants none.
    pub fn keep(mut self, mut wanted: impl FnMut(&Item) -> bool) -> Option<Batch> {
        let tree = &self.tree;
        self.places.retain(|at| tree.item(*at as usize).is_some_and(|item| wanted(&item)));
        (!self.places.is_empty()).then_some(self)
    }
}

impl IntoIterator for Batch {
    type Item = Selected;
    type IntoIter = Logs;

    fn into_iter(self) -> Logs {
        Logs { lister: self.lister, tree: self.tree, places: self.places.into_iter() }
    }
}

/// See [`Batch`].
pub struct Logs {
    lister: Arc<Lister>,
    tree: Arc<ResourceTree>,
    places: std::vec::IntoIter<u32>,
}

impl Iterator for Logs {
    type Item = Selected;

    fn next(&mut self) -> Option<Selected> {
        self.places.by_ref().find_map(|at| select(&self.lister, &self.tree, at))
    }
}

/// `None` cannot be: only keys that parse are in a tree.
fn select(lister: &Lister, tree: &ResourceTree, at: u32) -> Option<Selected> {
    let item = tree.item(at as usize)?;
    let log = item.log_key()?;
    let by_upload = lister.selection.dates(&log, item.modified()) == DateMatch::ByUpload;
    Some(Selected { item, log, by_upload })
}

impl Catalog {
    /// The selected logs, resource by resource.
    pub fn walk(&self) -> impl Stream<Item = Result<Batch>> {
        self.walk_stacks(None)
    }

    /// The selected logs that a path names, as in the mount: a file, a link to one, or a folder with all that is in it.
    /// [`Kind::NoMatch`] if there is nothing: not to be taken for a 404 of the store.
    pub fn named<'a>(&'a self, path: &'a str) -> BoxStream<'a, Result<Batch>> {
        let found = self.find_named(path).try_flatten_stream().map(Some);
        let mut nothing = true;
        let found = found.chain(stream::iter([None])).filter_map(move |next| {
            nothing &= next.is_none();
            ready(next.or_else(|| nothing.then(|| Err(self.not_there(path)))))
        });
        found.boxed()
    }

    fn not_there(&self, path: &str) -> Error {
        let shown = escape(path.as_bytes());
        if !self.0.lister.selection.patterns.is_empty() {
            // The reference CLI's option takes several, which are paths to us.
            return err!(
                Kind::NoMatch,
                "{shown}: no such file or folder in the archive (or it is not selected); if it is a second pattern, write \
                 --string-matches before it too"
            );
        }
        err!(Kind::NoMatch, "{shown}: no such file or folder in the archive (or it is not selected)")
    }

    async fn find_named<'a>(&'a self, path: &'a str) -> Result<BoxStream<'a, Result<Batch>>> {
        let nothing = || Ok(stream::empty().boxed());
        let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        let [stack, resource, container, day, name] = std::array::from_fn(|_| parts.next());
        if parts.next().is_some() {
            return nothing();
        }
        let (Some(stack), Some(resource)) = (stack, resource) else { return Ok(self.walk_stacks(stack).boxed()) };
        let Some(stack) = self.root().await?.stacks.iter().find(|s| ***s == *stack).cloned() else { return nothing() };
        let listed = self.stack(&stack).await?;
        let Some((resource, _)) = listed.resources.get_key_value(resource) else { return nothing() };
        self.make_room(&stack, resource);
        let tree = self.tree(&stack, resource).await?;
        let batch = |places: Vec<u32>| {
            let batch = Batch { lister: Arc::clone(&self.0.lister), tree: Arc::clone(&tree), places };
            Ok(stream::iter((batch.len() > 0).then_some(Ok(batch))).boxed())
        };
        let Some(container) = container else { return batch((0..tree.len() as u32).collect()) };
        let Some(found) = tree.container(container).or_else(|| tree.container_by_prefix(container)) else {
            return nothing();
        };
        let Some(day) = day else { return batch(found.files().collect()) };
        let Some(folder) = Day::parse(day).and_then(|day| found.day(day)) else { return nothing() };
        let entries = tree.day_entries(folder).map(|(item, _)| item);
        batch(entries.filter(|item| name.is_none_or(|name| item.name() == name)).map(|item| item.place()).collect())
    }

    /// Resource by resource, of one stack or of all.
    fn walk_stacks<'a>(&'a self, only: Option<&'a str>) -> impl Stream<Item = Result<Batch>> + 'a {
        let stacks = async move {
            let mut stacks = self.root().await?.stacks.clone();
            stacks.retain(|stack| only.is_none_or(|only| **stack == *only));
            Ok(stream::iter(stacks).map(Ok))
        };
        let resources = stacks.try_flatten_stream().and_then(move |stack| async move {
            let listed = self.stack(&stack).await?;
            let prefixes: Vec<_> = listed.resources.values().cloned().collect();
            Ok::<_, Error>(stream::iter(prefixes).map(Ok))
        });
        // Not through the cache of trees: a walk has no use for a tree that it has passed.
        let list = move |prefixes: Vec<String>| async move { self.0.lister.resource(&prefixes, Hurry::Wanted).await };
        resources.try_flatten().map_ok(list).try_buffered(AHEAD).try_filter_map(move |tree| {
            let (lister, places) = (Arc::clone(&self.0.lister), (0..tree.len() as u32).collect());
            ready(Ok((!tree.is_empty()).then(|| Batch { lister, tree: Arc::new(tree), places })))
        })
    }

    /// Drops the trees of other resources, if they are large together.
    fn make_room(&self, stack: &Arc<str>, resource: &Arc<str>) {
        let mut trees = lock(&self.0.trees);
        let kept: usize = trees.values().filter_map(|tree| tree.cell.peek()).map(|tree| tree.len()).sum();
        if kept > KEPT {
            trees.retain(|id, _| (&id.0, &id.1) == (stack, resource));
        }
    }
}
