//! Every selected log of a bucket, in order, as a stream; and the logs that a path names. For commands: a mount asks
//! folder by folder.
//!
//! Invariants: the order is that of the tree (stack, resource, container, day, name), whatever arrives first; a listing
//! that fails ends the stream with its error, so that nothing is silently missing; what was handed on is not kept.

use std::sync::Arc;

use futures::TryFutureExt;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};

use super::list::Hurry;
use super::names::{self, Day};
use super::select::DateMatch;
use super::{Catalog, Item, ResourceTree};
use crate::err;
use crate::error::{Error, Kind, Result, escape};
use crate::key::LogKey;

/// Resources that are listed at a time.
const AHEAD: usize = 8;

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

impl Catalog {
    /// The selected logs, resource by resource.
    pub fn walk(&self) -> impl Stream<Item = Result<Vec<Selected>>> {
        let stacks = async move { Ok(stream::iter(self.root().await?.stacks.clone()).map(Ok)) };
        let resources = stacks.try_flatten_stream().and_then(move |stack| async move {
            let listed = self.stack(&stack).await?;
            let prefixes: Vec<_> = listed.resources.values().cloned().collect();
            Ok::<_, Error>(stream::iter(prefixes).map(Ok))
        });
        // Not through the cache of trees: a walk has no use for a tree that it has passed.
        let list = move |prefixes: Vec<String>| async move { self.0.lister.resource(&prefixes, Hurry::Wanted).await };
        resources.try_flatten().map_ok(list).try_buffered(AHEAD).map_ok(|tree| self.selected(&tree, |_| true))
    }

    /// The selected logs that a path names, as in the mount: a file, a link to one, or a folder with all that is in it.
    /// [`Kind::NoMatch`] if there is nothing: not to be taken for a 404 of the store.
    pub async fn named(&self, path: &str) -> Result<Vec<Selected>> {
        let found = self.find_named(path).await?;
        if found.is_empty() {
            let path = escape(path.as_bytes());
            return Err(err!(Kind::NoMatch, "{path}: no such file or folder in the archive (or it is not selected)"));
        }
        Ok(found)
    }

    async fn find_named(&self, path: &str) -> Result<Vec<Selected>> {
        let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        let [stack, resource, container, day, name] = std::array::from_fn(|_| parts.next());
        if parts.next().is_some() {
            return Ok(Vec::new());
        }
        let Some(stack) = stack else { return self.walk().try_concat().await };
        let Some(stack) = self.root().await?.stacks.iter().find(|s| ***s == *stack).cloned() else {
            return Ok(Vec::new());
        };
        let listed = self.stack(&stack).await?;
        let Some(resource) = resource else {
            let trees = stream::iter(listed.resources.keys().cloned()).map(|name| self.tree_of(stack.clone(), name));
            return trees.buffered(AHEAD).map_ok(|tree| self.selected(&tree, |_| true)).try_concat().await;
        };
        let Some((resource, _)) = listed.resources.get_key_value(resource) else { return Ok(Vec::new()) };
        let tree = self.tree(&stack, resource).await?;
        let Some(container) = container else { return Ok(self.selected(&tree, |_| true)) };
        let Some(found) = tree.container(container).or_else(|| tree.container_by_prefix(container)) else {
            return Ok(Vec::new());
        };
        let Some(day) = day else { return Ok(self.selected(&tree, |log| *log.container == *found.id())) };
        let Some(folder) = Day::parse(day).and_then(|day| found.day(day)) else { return Ok(Vec::new()) };
        let entries = tree.day_entries(folder).map(|(item, _)| item.to_item());
        let named = entries.filter(|item| name.is_none_or(|name| item.name() == name));
        Ok(named.filter_map(|item| self.select(item, |_| true)).collect())
    }

    async fn tree_of(&self, stack: Arc<str>, resource: Arc<str>) -> Result<Arc<ResourceTree>> {
        self.tree(&stack, &resource).await
    }

    fn selected(&self, tree: &ResourceTree, wanted: impl Fn(&LogKey) -> bool) -> Vec<Selected> {
        tree.items().filter_map(|item| self.select(item, &wanted)).collect()
    }

    fn select(&self, item: Item, wanted: impl Fn(&LogKey) -> bool) -> Option<Selected> {
        let log = item.log_key().filter(wanted)?;
        let by_upload = self.0.lister.selection.dates(&log, item.modified()) == DateMatch::ByUpload;
        Some(Selected { item, log, by_upload })
    }
}
