//! A whole listing, page by page, that ends or fails: a server that gives the same token twice, or pages that do not
//! advance, is an error and not an endless loop or, worse, a listing that looks complete.

use std::collections::HashSet;
use std::ops::Deref;

use super::{Entry, ListRequest, Page, Store};
use crate::err;
use crate::error::{Kind, Result};

/// Everything that a listing showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub objects: Vec<Entry>,
    pub prefixes: Vec<Vec<u8>>,
}

/// Walks a listing of the store that `P` leads to. After an error it must not be used further: start again.
pub struct Pages<P> {
    store: P,
    req: ListRequest,
    seen: HashSet<String>,
    /// The last key or prefix in byte order so far.
    last: Option<Vec<u8>>,
    done: bool,
}

/// A longer token is nonsense; S3's have about 100 bytes.
const LONGEST_TOKEN: usize = 16 * 1024;

impl<P: Deref<Target: Store>> Pages<P> {
    pub fn new(store: P, req: ListRequest) -> Self {
        Pages { store, req, seen: HashSet::new(), last: None, done: false }
    }

    /// From now on keys after this one are not wanted ([`ListRequest::stop`]).
    pub fn stop_at(&mut self, stop: Option<String>) {
        self.req.stop = stop;
    }

    /// The next page; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Page>> {
        if self.done {
            return Ok(None);
        }
        let page = self.store.list(&self.req).await?;
        let about = format!("{}{}", self.store.describe(), self.req.prefix);
        self.advance(page).map(Some).map_err(|e| e.about(&about))
    }

    fn advance(&mut self, page: Page) -> Result<Page> {
        let keys = page.objects.iter().map(|o| &o.key);
        if let Some(last) = keys.chain(&page.prefixes).max() {
            if self.last.as_ref().is_some_and(|before| before >= last) {
                return Err(err!(Kind::Storage, "the listing does not advance from page to page"));
            }
            self.last = Some(last.clone());
        }
        match &page.next {
            None => self.done = true,
            Some(token) if token.len() > LONGEST_TOKEN => {
                return Err(err!(Kind::Storage, "the listing's continuation token has {} bytes", token.len()));
            }
            Some(token) => {
                if !self.seen.insert(token.clone()) {
                    return Err(err!(Kind::Storage, "the listing gave the same continuation token twice"));
                }
                self.req.token = Some(token.clone());
            }
        }
        Ok(page)
    }
}

/// All pages of a listing in one. For listings that are known to be small; walk [`Pages`] otherwise.
pub async fn list_all<S: Store + ?Sized>(store: &S, req: &ListRequest) -> Result<Listing> {
    let mut pages = Pages::new(store, req.clone());
    let mut all = Listing::default();
    while let Some(page) = pages.next().await? {
        all.objects.extend(page.objects);
        all.prefixes.extend(page.prefixes);
    }
    Ok(all)
}
