//! The archive that a command reads, and what it is to read of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::catalog::select::Selection;
use crate::catalog::{Catalog, Selected};
use crate::cli::{ReadArgs, StoreArgs};
use crate::config;
use crate::envelope::Keyring;
use crate::error::Result;
use crate::object::{Listed, Objects};
use crate::store::Store;

pub struct Archive {
    pub store: Arc<dyn Store>,
    pub catalog: Catalog,
    pub objects: Objects,
}

/// A command sees one state of each listing.
const TTL: Duration = Duration::MAX;

impl Archive {
    pub async fn open(
        bucket: &str,
        args: &StoreArgs,
        keyring: Keyring,
        selection: Selection,
        read: &ReadArgs,
    ) -> Result<Archive> {
        let store = config::store(bucket, args, &selection).await?;
        let (catalog, objects) = config::archive(Arc::clone(&store), keyring, selection, TTL, read)?;
        Ok(Archive { store, catalog, objects })
    }

    /// See [`selected`].
    pub fn selected<'a>(&'a self, paths: &'a [String]) -> BoxStream<'a, Result<Vec<Selected>>> {
        selected(&self.catalog, paths)
    }
}

/// The selected logs below these paths, one path after the other and each log once; without paths, all.
pub fn selected<'a>(catalog: &'a Catalog, paths: &'a [String]) -> BoxStream<'a, Result<Vec<Selected>>> {
    if paths.is_empty() {
        return catalog.walk().boxed();
    }
    // Several paths may name one log: as a link, by a short container id, in a folder.
    let mut seen = HashSet::new();
    let mut first = move |log: &Selected| paths.len() == 1 || seen.insert(log.item.key());
    let found = stream::iter(paths).then(|path| catalog.named(path));
    found.map_ok(move |logs| logs.into_iter().filter(&mut first).collect()).boxed()
}

pub fn listed(selected: &Selected) -> Listed {
    let item = &selected.item;
    Listed {
        key: item.key(),
        key_sum: selected.log.key_sum.clone(),
        size: item.size(),
        etag: item.etag(),
        storage_class: item.storage_class().map(str::to_owned),
    }
}
