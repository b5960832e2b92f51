//! The answer to a LIST of objects.
//!
//! Invariants: those of a [`Document`]; the counts agree, and there is a token if there is more.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_smithy_runtime_api::client::interceptors::context::Output;

use super::super::{Entry, Page};
use super::document::{self, Document, End, Open, bad, named};
use crate::error::Result;

pub(super) type Listing = document::Answer<Objects>;

#[derive(Default)]
pub(super) struct Objects(Page);

impl Document for Objects {
    const ROOT: &'static str = "ListBucketResult";
    type Page = Page;

    fn entry(name: &[u8]) -> Option<bool> {
        (name == b"Contents").then_some(false)
    }

    fn add(&mut self, open: Open, _: bool) -> Result<()> {
        self.0.objects.push(Entry {
            key: named(open.key)?,
            size: open.size.ok_or_else(|| bad("an object without size"))?,
            etag: open.tag,
            last_modified: open.modified,
            storage_class: open.class,
        });
        Ok(())
    }

    fn add_prefix(&mut self, name: Vec<u8>) {
        self.0.prefixes.push(name);
    }

    fn page(self, end: End, below: &[u8]) -> Result<Page> {
        let mut page = self.0;
        let keys = page.objects.iter_mut().map(|entry| &mut entry.key);
        for name in keys.chain(&mut page.prefixes) {
            end.cut(name, below)?;
        }
        let entries = page.objects.len() + page.prefixes.len();
        if let Some(count) = end.count.filter(|count| *count != entries) {
            return Err(bad(format!("KeyCount is {count}, with {entries} entries")));
        }
        page.next = match end.is_truncated()? {
            false => None,
            true if end.token.is_empty() => return Err(bad("truncated, without a continuation token")),
            true => Some(end.token),
        };
        Ok(page)
    }

    fn nothing() -> Output {
        Output::erase(ListObjectsV2Output::builder().build())
    }
}
