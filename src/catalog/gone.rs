//! Objects that a listing shows and the store says are gone: their names vanish at once, and nobody else waits for the new
//! listing.
//!
//! Invariant: a name is left out only while no listing is there that was begun after the object was found gone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::list::Hurry;
use super::tree::next_serial;
use super::{Catalog, ItemRef, ResourceTree, Tree, TreeId, lock};
use crate::error::{Kind, Result};

/// What was found gone of one resource.
#[derive(Default)]
pub(super) struct Gone {
    objects: Mutex<(Vec<Arc<Object>>, u64)>,
}

struct Object {
    key: String,
    etag: String,
    how: Kind,
    /// Listings that know less do not know of it.
    since: u64,
}

/// More than these are shown until the new listing is there.
const MOST: usize = 1000;

/// So long a look at a name that is gone waits for the listing that may have a newer object of that name.
const PATIENCE: Duration = Duration::from_secs(2);

/// A listing, less what was found gone since it was begun.
pub struct Current {
    pub tree: Arc<ResourceTree>,
    gone: Vec<Arc<Object>>,
    serial: u64,
}

impl Current {
    /// Another number whenever something else is shown.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// How this object was found gone, if it was.
    pub fn lacks(&self, item: &ItemRef<'_>) -> Option<Kind> {
        if self.gone.is_empty() {
            return None;
        }
        let etag = item.etag();
        let found = self.gone.iter().find(|gone| gone.etag == etag && gone.key == item.key());
        found.map(|gone| gone.how)
    }
}

impl Gone {
    /// `age` is called unless it was known.
    fn insert(&self, key: &str, etag: &str, how: Kind, knows: u64, age: impl FnOnce() -> u64) {
        let mut objects = lock(&self.objects);
        objects.0.retain(|object| object.since > knows);
        if objects.0.iter().any(|object| object.etag == etag && object.key == key) {
            return;
        }
        let since = age();
        if objects.0.len() < MOST {
            objects.0.push(Arc::new(Object { key: key.into(), etag: etag.into(), how, since }));
            objects.1 = next_serial();
        }
    }
}

impl Tree {
    fn current(&self) -> Option<Current> {
        let (tree, knows) = self.cell.current()?;
        let objects = lock(&self.gone.objects);
        let gone: Vec<_> = objects.0.iter().filter(|object| object.since > knows).cloned().collect();
        let serial = if gone.is_empty() { tree.serial() } else { objects.1.max(tree.serial()) };
        Some(Current { tree, gone, serial })
    }
}

impl Catalog {
    /// An object of this resource is not there any more as it was listed. The next look at the resource has it listed again;
    /// until then the old listing serves, without this object.
    pub fn gone(&self, stack: &Arc<str>, resource: &Arc<str>, key: &str, etag: &str, how: Kind) {
        if let Some(tree) = self.known(stack, resource) {
            let knows = tree.cell.current().map_or(0, |(_, knows)| knows);
            tree.gone.insert(key, etag, how, knows, || tree.cell.age());
        }
    }

    /// [`Catalog::tree`], less what is gone.
    pub async fn current(&self, stack: &Arc<str>, resource: &Arc<str>) -> Result<Current> {
        let tree = self.tree(stack, resource).await?;
        let current = self.known(stack, resource).and_then(|tree| tree.current());
        Ok(current.unwrap_or_else(|| Current { serial: tree.serial(), tree, gone: Vec::new() }))
    }

    /// The same from a listing that was begun after all that was found gone, if there soon is one.
    pub async fn renewed(&self, stack: &Arc<str>, resource: &Arc<str>) -> Option<Current> {
        let Tree { cell, prefixes, .. } = self.known(stack, resource)?;
        let lister = Arc::clone(&self.0.lister);
        let new = cell.renewed(move || async move { lister.resource(&prefixes, Hurry::Wanted).await });
        // Why there is none is told by who asks for the listing.
        tokio::time::timeout(PATIENCE, new).await.ok()?.ok()?;
        self.known(stack, resource)?.current()
    }

    /// The listing as it is, if there is one.
    pub fn known_tree(&self, stack: &Arc<str>, resource: &Arc<str>) -> Option<Arc<ResourceTree>> {
        self.known(stack, resource)?.cell.peek()
    }

    /// Its number; 0 if there is none.
    pub fn listing(&self, stack: &Arc<str>, resource: &Arc<str>) -> u64 {
        self.known_tree(stack, resource).map_or(0, |tree| tree.serial())
    }

    fn known(&self, stack: &Arc<str>, resource: &Arc<str>) -> Option<Tree> {
        let id: TreeId = (Arc::clone(stack), Arc::clone(resource));
        lock(&self.0.trees).get(&id).cloned()
    }
}
