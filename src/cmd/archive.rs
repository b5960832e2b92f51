//! The archive that a command reads, and what it is to read of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::ready;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::catalog::select::Selection;
use crate::catalog::{Batch, Catalog, Moment, Selected};
use crate::cli::{ReadArgs, SizesArg, StoreArgs};
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
        at: Option<Moment>,
        keyring: Keyring,
        selection: Selection,
        read: &ReadArgs,
    ) -> Result<Archive> {
        let store = config::store(bucket, args, at, &selection).await?;
        let (catalog, objects) = config::archive(Arc::clone(&store), keyring, selection, TTL, read, SizesArg::Hint)?;
        Ok(Archive { store, catalog, objects })
    }

    /// See [`selected`].
    pub fn selected<'a>(&'a self, paths: &'a [String]) -> BoxStream<'a, Result<Batch>> {
        selected(&self.catalog, paths)
    }
}

/// The selected logs below these paths, one path after the other and each log once; without paths, all. No batch has logs
/// of two paths.
pub fn selected<'a>(catalog: &'a Catalog, paths: &'a [String]) -> BoxStream<'a, Result<Batch>> {
    match paths {
        [] => catalog.walk().boxed(),
        [path] => catalog.named(path),
        _ => {
            // Several paths may name one log: as a link, by a short container id, in a folder.
            let mut seen = HashSet::new();
            let mut first = move |key: String| seen.insert(sum(&key));
            let found = stream::iter(paths).flat_map(|path| catalog.named(path));
            found.try_filter_map(move |batch| ready(Ok(batch.keep(|item| first(item.key()))))).boxed()
        }
    }
}

/// What tells keys apart, in less memory than they take: half of a SHA-256.
fn sum(key: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(key)[..16]);
    half
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
