//! What is in the bucket: listings, fetched lazily level by level, and the folders they make.
//!
//! ```text
//! stacks()              LIST ""  by delimiter
//! resources(stack)      LIST stack/shareable/, …/v3/, …/v3/<key sum>/  by delimiter
//! tree(stack, resource) LIST each …/<resource>/ whole, over both schemas and all key sums
//! ```
//!
//! Invariants: a listing is whole or it is an error, never a short folder; what the grammar does not accept is counted
//! and named in the log, never dropped in silence; names come from listings only.

mod fresh;
pub mod names;
pub mod select;
mod tree;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fresh::Fresh;
use select::Selection;
pub use tree::{Container, DayEntry, DayFolder, Item, LeftOut, ResourceTree};
pub use walk::Selected;

use crate::error::Result;
use crate::key::{Resource, is_safe_component};
use crate::store::{Entry, ListRequest, Store, list_all};

/// The stacks of a bucket.
#[derive(Debug, Default)]
pub struct Root {
    pub stacks: Vec<Arc<str>>,
    left_out: LeftOut,
}

/// The resources of a stack, each with the key prefixes that hold its objects.
#[derive(Debug, Default)]
pub struct Stack {
    pub resources: BTreeMap<Arc<str>, Vec<String>>,
    left_out: LeftOut,
}

pub struct Catalog {
    inner: Arc<Inner>,
    ttl: Duration,
    root: Arc<Fresh<Root>>,
    stacks: Mutex<HashMap<Arc<str>, Arc<Fresh<Stack>>>>,
    trees: Mutex<HashMap<TreeId, Tree>>,
}

/// Stack and resource.
type TreeId = (Arc<str>, Arc<str>);
type Tree = Arc<Fresh<ResourceTree>>;

struct Inner {
    store: Arc<dyn Store>,
    selection: Selection,
    /// What each listing left out, by its prefix: a refresh that finds the same is not logged again.
    left_out: Mutex<HashMap<String, LeftOut>>,
}

impl Catalog {
    pub fn new(store: Arc<dyn Store>, selection: Selection, ttl: Duration) -> Self {
        Catalog {
            inner: Arc::new(Inner { store, selection, left_out: Mutex::default() }),
            ttl,
            root: Arc::default(),
            stacks: Mutex::default(),
            trees: Mutex::default(),
        }
    }

    pub fn bucket(&self) -> &str {
        self.inner.store.bucket()
    }

    pub async fn root(&self) -> Result<Arc<Root>> {
        let inner = Arc::clone(&self.inner);
        self.root.get(self.ttl, move || async move { inner.list_root().await }).await
    }

    pub async fn stack(&self, stack: &Arc<str>) -> Result<Arc<Stack>> {
        let cell = Arc::clone(lock(&self.stacks).entry(Arc::clone(stack)).or_default());
        let (inner, stack) = (Arc::clone(&self.inner), Arc::clone(stack));
        cell.get(self.ttl, move || async move { inner.list_stack(&stack).await }).await
    }

    pub async fn tree(&self, stack: &Arc<str>, resource: &Arc<str>) -> Result<Arc<ResourceTree>> {
        let prefixes = self.stack(stack).await?.resources.get(resource).cloned().unwrap_or_default();
        let place = (Arc::clone(stack), Arc::clone(resource));
        let cell = Arc::clone(lock(&self.trees).entry(place).or_default());
        let inner = Arc::clone(&self.inner);
        cell.get(self.ttl, move || async move { inner.list_resource(&prefixes).await }).await
    }

    /// Something in this resource's listing is known to be out of date: the next look lists it again.
    pub fn expire(&self, stack: &Arc<str>, resource: &Arc<str>) {
        if let Some(cell) = lock(&self.trees).get(&(Arc::clone(stack), Arc::clone(resource))) {
            cell.expire();
        }
    }

    /// Every listing is fetched again when it is next looked at (SIGHUP).
    pub fn expire_all(&self) {
        self.root.expire();
        lock(&self.stacks).values().for_each(|cell| cell.expire());
        lock(&self.trees).values().for_each(|cell| cell.expire());
    }

    /// Objects in the listings seen so far, for `statfs`: files, and bytes in the store.
    pub fn totals(&self) -> (u64, u64) {
        let trees: Vec<_> = lock(&self.trees).values().filter_map(|cell| cell.peek()).collect();
        let items = trees.iter().flat_map(|tree| tree.items());
        items.fold((0, 0), |(files, bytes), item| (files + 1, bytes + item.size))
    }

    /// Keys left out of the listings seen so far.
    pub fn left_out(&self) -> u64 {
        lock(&self.inner.left_out).values().map(|l| l.count).sum()
    }
}

impl Inner {
    async fn list_root(&self) -> Result<Root> {
        let mut root = Root::default();
        let (entries, prefixes) = self.folder("").await?;
        for entry in entries {
            root.left_out.add(&entry.key, "not below a stack");
        }
        for prefix in prefixes {
            match component(&prefix, "") {
                Some(stack) if self.selection.stack(stack) => root.stacks.push(stack.into()),
                Some(_) => {}
                None => root.left_out.add(&prefix, "no safe stack name"),
            }
        }
        root.stacks.sort_unstable();
        self.report("", &root.left_out);
        Ok(root)
    }

    async fn list_stack(&self, stack: &str) -> Result<Stack> {
        let mut found = Stack::default();
        let top = format!("{stack}/");
        let shareable = format!("{top}shareable/");
        for (base, wanted) in [(&top, &["shareable"][..]), (&shareable, &["v2", "v3"][..])] {
            let (entries, prefixes) = self.folder(base).await?;
            for entry in entries {
                found.left_out.add(&entry.key, "not where archives are");
            }
            for prefix in prefixes {
                if !component(&prefix, base).is_some_and(|name| wanted.contains(&name)) {
                    found.left_out.add(&prefix, "not where archives are");
                }
            }
        }
        for schema in ["v2", "v3"] {
            let base = format!("{shareable}{schema}/");
            let (entries, sums) = self.folder(&base).await?;
            for entry in entries {
                found.left_out.add(&entry.key, "not below a key sum");
            }
            for sum in sums {
                let Some(sum_name) = component(&sum, &base) else {
                    found.left_out.add(&sum, "no safe key sum");
                    continue;
                };
                let base = format!("{base}{sum_name}/");
                let (entries, resources) = self.folder(&base).await?;
                for entry in entries {
                    found.left_out.add(&entry.key, "not below a resource");
                }
                for prefix in resources {
                    let named = component(&prefix, &base).and_then(|name| Some((name, Resource::parse(name)?)));
                    match named {
                        Some((name, resource)) if self.selection.resource(&resource) => {
                            found.resources.entry(name.into()).or_default().push(format!("{base}{name}/"));
                        }
                        Some(_) => {}
                        None => found.left_out.add(&prefix, "no resource such as apps-321"),
                    }
                }
            }
        }
        self.report(&top, &found.left_out);
        Ok(found)
    }

    async fn list_resource(&self, prefixes: &[String]) -> Result<ResourceTree> {
        let mut entries = Vec::new();
        for prefix in prefixes {
            entries.extend(list_all(&*self.store, &ListRequest::below(prefix)).await?.objects);
        }
        let mut left_out = LeftOut::default();
        let tree = ResourceTree::build(entries, &self.selection, &mut left_out);
        self.report(prefixes.first().map_or("", |p| p), &left_out);
        Ok(tree)
    }

    /// One level: the objects and the prefixes right below `prefix`.
    async fn folder(&self, prefix: &str) -> Result<(Vec<Entry>, Vec<Vec<u8>>)> {
        let request = ListRequest { delimiter: true, ..ListRequest::below(prefix) };
        let listing = list_all(&*self.store, &request).await?;
        Ok((listing.objects, listing.prefixes))
    }

    fn report(&self, place: &str, left_out: &LeftOut) {
        let mut all = lock(&self.left_out);
        let known = all.insert(place.into(), left_out.clone());
        if left_out.count > 0 && known.as_ref() != Some(left_out) {
            log::warn!(
                "{} keys below {:?} are no log archives and are left out: {}{}; `logarchivefs doctor` names them all",
                left_out.count,
                crate::error::escape(place.as_bytes()),
                left_out.examples.join(", "),
                if left_out.count as usize > left_out.examples.len() { ", ..." } else { "" }
            );
        }
    }
}

/// The one path component that `prefix` (as a delimiter listing gives it) adds to `base`.
fn component<'a>(prefix: &'a [u8], base: &str) -> Option<&'a str> {
    let name = std::str::from_utf8(prefix).ok()?.strip_prefix(base)?.strip_suffix('/')?;
    is_safe_component(name).then_some(name)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
