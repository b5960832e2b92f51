//! What is in the bucket: listings, fetched lazily level by level, and the folders they make.
//!
//! ```text
//! root()                LIST ""  by delimiter
//! stack(stack)          LIST stack/, …shareable/, …/v2/, …/v3/, …/<key sum>/  by delimiter, at once
//! tree(stack, resource) LIST each …/<resource>/ whole, over both schemas and all key sums, in parallel ranges
//!
//! list ─► sweep ─► split      which requests, and where a long listing is cut
//!      └► build ─► row ─► tree ─► item      what came, packed, and the folders of it
//! histories()           VERSIONS of each resource, for `verify`: what a listing does not show
//! ```
//!
//! Invariants: a listing is whole or it is an error, never a short folder; while a newer one is fetched, the old one
//! serves; what the grammar does not accept is counted and named in the log, never dropped in silence; names come from
//! listings only.

mod build;
mod fresh;
mod gate;
mod gone;
mod history;
mod item;
mod list;
mod moment;
pub mod names;
pub mod number;
mod row;
pub mod select;
mod split;
mod sweep;
mod tree;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;

use fresh::Fresh;
pub use gone::Current;
pub use history::History;
pub use item::{Item, ItemRef};
use list::{Hurry, Lister};
pub use moment::Moment;
use select::Selection;
pub use tree::{Container, DayEntry, DayFolder, LeftOut, ResourceTree};
pub use walk::{Batch, Selected};

use crate::error::Result;
use crate::store::Store;

/// The stacks of a bucket.
#[derive(Debug, Default)]
pub struct Root {
    pub stacks: Vec<Arc<str>>,
}

/// The resources of a stack, each with the key prefixes that hold its objects.
#[derive(Debug, Default)]
pub struct Stack {
    pub resources: BTreeMap<Arc<str>, Vec<String>>,
}

/// Sums over listings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub resources: u64,
    pub files: u64,
    /// In the store.
    pub bytes: u64,
    /// Keys that are no logs.
    pub left_out: u64,
}

#[derive(Clone)]
pub struct Catalog(Arc<Inner>);

struct Inner {
    lister: Arc<Lister>,
    ttl: Duration,
    root: Arc<Fresh<Root>>,
    stacks: Mutex<HashMap<Arc<str>, Arc<Fresh<Stack>>>>,
    trees: Mutex<HashMap<TreeId, Tree>>,
    /// How each stack's resources are being entered.
    walks: Mutex<HashMap<Arc<str>, Entered>>,
}

/// Stack and resource.
type TreeId = (Arc<str>, Arc<str>);

/// A tree and what it is listed from.
#[derive(Clone, Default)]
struct Tree {
    cell: Arc<Fresh<ResourceTree>>,
    prefixes: Arc<Vec<String>>,
    gone: Arc<gone::Gone>,
}

/// The resource of a stack that was entered last, and how many behind it are listed ahead.
struct Entered {
    resource: Arc<str>,
    window: usize,
}

/// Trees that are refreshed at once.
const REFRESHED: usize = 4;
/// Trees that are listed ahead of who walks through a stack, at most, and about how many objects.
const AHEAD: usize = 8;
const OBJECTS_AHEAD: usize = 50_000;

impl Catalog {
    pub fn new(store: Arc<dyn Store>, selection: Selection, ttl: Duration) -> Self {
        let (root, stacks, trees, walks) = Default::default();
        let lister = Arc::new(Lister::new(store, selection));
        Catalog(Arc::new(Inner { lister, ttl, root, stacks, trees, walks }))
    }

    pub fn bucket(&self) -> &str {
        self.0.lister.store.bucket()
    }

    pub async fn root(&self) -> Result<Arc<Root>> {
        let lister = Arc::clone(&self.0.lister);
        self.0.root.get(self.0.ttl, move || async move { lister.root().await }).await
    }

    pub async fn stack(&self, stack: &Arc<str>) -> Result<Arc<Stack>> {
        let cell = Arc::clone(lock(&self.0.stacks).entry(Arc::clone(stack)).or_default());
        let (lister, stack) = (Arc::clone(&self.0.lister), Arc::clone(stack));
        cell.get(self.0.ttl, move || async move { lister.stack(&stack).await }).await
    }

    pub async fn tree(&self, stack: &Arc<str>, resource: &Arc<str>) -> Result<Arc<ResourceTree>> {
        self.listed(stack, resource, Hurry::Wanted).await
    }

    async fn listed(&self, stack: &Arc<str>, resource: &Arc<str>, hurry: Hurry) -> Result<Arc<ResourceTree>> {
        let listed = self.stack(stack).await?;
        let Tree { cell, prefixes, .. } = self.0.place(stack, resource, &listed);
        let lister = Arc::clone(&self.0.lister);
        cell.get(self.0.ttl, move || async move { lister.resource(&prefixes, hurry).await }).await
    }

    /// Like [`Catalog::tree`], for whoever goes into the resource's folder. Who goes through a stack in order (`find`,
    /// `grep -r`) does not wait for each listing: the next ones are fetched meanwhile, the more the longer it goes on.
    pub async fn enter(&self, stack: &Arc<str>, resource: &Arc<str>) -> Result<Arc<ResourceTree>> {
        let listed = self.stack(stack).await?;
        let before = listed.resources.range(..Arc::clone(resource)).next_back().map(|(name, _)| name);
        let ahead = before.map_or(0, |before| self.0.ahead(stack, before));
        lock(&self.0.walks).insert(Arc::clone(stack), Entered { resource: Arc::clone(resource), window: ahead });
        for (next, _) in listed.resources.range(Arc::clone(resource)..).skip(1).take(ahead) {
            let (catalog, stack, next) = (Catalog(Arc::clone(&self.0)), Arc::clone(stack), Arc::clone(next));
            // A failure is found again, and told, by whoever asks for it.
            tokio::spawn(async move { catalog.listed(&stack, &next, Hurry::Ahead).await.map(drop) });
        }
        self.tree(stack, resource).await
    }

    /// Everything that has been listed is listed again, from now on (SIGHUP); meanwhile the old listings serve.
    pub fn refresh_all(&self) {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.refresh_all().await });
    }

    /// What is in the listings seen so far. Nothing is asked for.
    pub fn totals(&self) -> Totals {
        let trees: Vec<_> = lock(&self.0.trees).values().filter_map(|tree| tree.cell.peek()).collect();
        Totals {
            resources: trees.len() as u64,
            files: trees.iter().map(|tree| tree.len() as u64).sum(),
            bytes: trees.iter().map(|tree| tree.bytes()).sum(),
            left_out: self.0.lister.left_out(),
        }
    }
}

impl Inner {
    /// The place of a tree. One that was made from other prefixes (a new key sum came) is due.
    fn place(&self, stack: &Arc<str>, resource: &Arc<str>, listed: &Stack) -> Tree {
        let prefixes = listed.resources.get(resource).map(Vec::as_slice).unwrap_or_default();
        let mut trees = lock(&self.trees);
        let tree = trees.entry((Arc::clone(stack), Arc::clone(resource))).or_default();
        if *tree.prefixes != prefixes {
            tree.prefixes = Arc::new(prefixes.to_vec());
            tree.cell.age();
        }
        tree.clone()
    }

    /// How many resources to list ahead of who goes on from `before` in order: doubled with each step, but about
    /// [`OBJECTS_AHEAD`] objects, as the next ones will have as many as this one has.
    fn ahead(&self, stack: &Arc<str>, before: &Arc<str>) -> usize {
        let window = match lock(&self.walks).get(stack) {
            Some(last) if last.resource == *before => (last.window * 2).clamp(1, AHEAD),
            _ => return 0,
        };
        let tree = lock(&self.trees).get(&(Arc::clone(stack), Arc::clone(before))).and_then(|tree| tree.cell.peek());
        window.min(OBJECTS_AHEAD / tree.map_or(1, |tree| tree.len().max(1))).max(1)
    }

    /// Level by level, as the lower ones are listed from what the upper ones show.
    async fn refresh_all(&self) {
        let failed =
            |e: crate::error::Error| log::warn!("a listing could not be refreshed, the old one serves on: {e}");
        if self.root.peek().is_some() {
            self.root.refresh(|| self.lister.root()).await.unwrap_or_else(failed);
        }
        let stacks: Vec<_> =
            lock(&self.stacks).iter().map(|(name, cell)| (Arc::clone(name), Arc::clone(cell))).collect();
        stream::iter(stacks)
            .for_each_concurrent(REFRESHED, |(name, cell)| async move {
                cell.refresh(|| self.lister.stack(&name)).await.unwrap_or_else(failed);
            })
            .await;
        let trees: Vec<TreeId> = lock(&self.trees).keys().cloned().collect();
        stream::iter(trees)
            .for_each_concurrent(REFRESHED, |(stack, resource)| async move {
                let listed = lock(&self.stacks).get(&stack).and_then(|cell| cell.peek());
                let Some(listed) = listed else { return };
                let Tree { cell, prefixes, .. } = self.place(&stack, &resource, &listed);
                cell.refresh(|| async { self.lister.resource(&prefixes, Hurry::Ahead).await })
                    .await
                    .unwrap_or_else(failed);
            })
            .await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
