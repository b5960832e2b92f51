//! The answer to a LIST, read here and not by the SDK: its parser takes ten times as long, and takes the beginning of a
//! listing as happily as a listing.
//!
//! The request, its signature, deadlines, and every answer with an error status stay the SDK's; of an answer with
//! success it reads the body (which `limit` bounds) and hands it over ([`Listing`]).
//!
//! Invariants: a page is whole or an error: the text ends as a listing does, every element is closed, the counts agree,
//! and there is a token if there is more; a document type, and so any entity but XML's own, is an error; what is not known is
//! passed over. Memory is bounded by the body's length.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, Error as AnyError, Output,
};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};

use super::super::{Entry, Page, Timestamp, bare_etag};
use crate::err;
use crate::error::{Error, Kind, Result};

/// Takes the listing out of one call: its interceptor, and the SDK's parser for it.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// What every key begins with; cut off.
    below: Arc<str>,
    page: Arc<Mutex<Option<Result<Page>>>>,
}

impl Listing {
    pub fn new(below: &str) -> Listing {
        Listing { below: below.into(), page: Arc::default() }
    }

    /// The page, once the call has succeeded.
    pub fn page(&self) -> Result<Page> {
        let taken = self.page.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| Err(err!(Kind::Internal, "the SDK did not hand over a listing")))
    }
}

#[dyn_dispatch_hint]
impl Intercept for Listing {
    fn name(&self) -> &'static str {
        "Listing"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().status().is_success() {
            config.interceptor_state().store_put(SharedResponseDeserializer::new(self.clone()));
        }
        Ok(())
    }
}

impl DeserializeResponse for Listing {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        _: &ConfigBag,
    ) -> Result<Output, OrchestratorError<AnyError>> {
        let page = parse(response.body().bytes().unwrap_or_default(), &self.below);
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
        // Nobody looks at it.
        Ok(Output::erase(ListObjectsV2Output::builder().build()))
    }
}

fn bad(what: impl std::fmt::Display) -> Error {
    err!(Kind::Storage, "damaged listing: {what}")
}

fn foreign(why: &str) -> Error {
    bad(format!("not as S3 writes it: {why}"))
}

/// The page that a body holds, its keys without `below`.
fn parse(body: &[u8], below: &str) -> Result<Page> {
    ends_well(body)?;
    let text = std::str::from_utf8(body).map_err(|_| foreign("it is not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::Document];
    let mut found = Found::default();
    loop {
        let now = open.last().copied().unwrap_or(Element::Other);
        let is_text = matches!(now, Element::Text(_));
        match reader.read_event().map_err(|_| foreign("no well-formed XML"))? {
            Event::Start(tag) => open.push(found.begin(now, tag.name().0)?),
            Event::Empty(tag) => {
                let element = found.begin(now, tag.name().0)?;
                found.end(element)?;
            }
            Event::End(_) => {
                open.pop();
                found.end(now)?;
            }
            Event::Text(text) if is_text => found.text.extend_from_slice(&text),
            Event::CData(text) if is_text => found.text.extend_from_slice(&text),
            Event::GeneralRef(entity) if is_text => {
                let of = resolve(&entity).ok_or_else(|| foreign("an unknown entity"))?;
                found.text.extend_from_slice(of.as_bytes());
            }
            Event::DocType(_) => return Err(foreign("a document type")),
            Event::Eof => break,
            _ => {}
        }
    }
    // More than one: something is still open.
    if open != [Element::Document] {
        return Err(foreign("an element is not closed"));
    }
    found.page(below.as_bytes())
}

/// What was cut short has no end, and what is something else has another one.
fn ends_well(body: &[u8]) -> Result<()> {
    let body = body.trim_ascii();
    if body.ends_with(b"ListBucketResult>") {
        return Ok(());
    }
    let start = &body[..body.len().min(1024)];
    if start.windows(16).any(|w| w == b"ListBucketResult") {
        return Err(err!(Kind::Storage, "damaged listing: cut short after {} bytes", body.len()));
    }
    Err(err!(Kind::Storage, "the answer to a listing is no listing. Not S3: a proxy or a sign-in page?"))
}

fn resolve(entity: &BytesRef<'_>) -> Option<String> {
    if let Some(char) = entity.resolve_char_ref().ok()? {
        return Some(char.into());
    }
    resolve_xml_entity(std::str::from_utf8(entity).ok()?).map(str::to_owned)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Document,
    Listing,
    Object,
    Prefixes,
    Text(Field),
    /// Passed over, with what is in it.
    Other,
}

/// What a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Key,
    Size,
    Tag,
    Modified,
    Class,
    Truncated,
    Token,
    Count,
    Encoding,
}

/// What has been read so far.
#[derive(Default)]
struct Found {
    page: Page,
    /// The text of the element that is open.
    text: Vec<u8>,
    /// Of the object or prefix that is open.
    key: Option<Vec<u8>>,
    size: Option<u64>,
    tag: String,
    modified: Timestamp,
    class: Option<String>,
    is_listing: bool,
    encoded: bool,
    count: Option<usize>,
    truncated: Option<bool>,
    token: String,
}

impl Found {
    fn begin(&mut self, within: Element, name: &[u8]) -> Result<Element> {
        let element = match (within, name) {
            (Element::Document, b"ListBucketResult") if !self.is_listing => {
                self.is_listing = true;
                Element::Listing
            }
            (Element::Document, _) => return Err(foreign("another document")),
            (Element::Listing, b"Contents") => Element::Object,
            (Element::Listing, b"CommonPrefixes") => Element::Prefixes,
            (Element::Listing, b"IsTruncated") => Element::Text(Field::Truncated),
            (Element::Listing, b"NextContinuationToken") => Element::Text(Field::Token),
            (Element::Listing, b"KeyCount") => Element::Text(Field::Count),
            (Element::Listing, b"EncodingType") => Element::Text(Field::Encoding),
            (Element::Object, b"Key") | (Element::Prefixes, b"Prefix") => Element::Text(Field::Key),
            (Element::Object, b"Size") => Element::Text(Field::Size),
            (Element::Object, b"ETag") => Element::Text(Field::Tag),
            (Element::Object, b"LastModified") => Element::Text(Field::Modified),
            (Element::Object, b"StorageClass") => Element::Text(Field::Class),
            (Element::Text(_), _) => return Err(foreign("an element within a text")),
            _ => Element::Other,
        };
        if let Element::Text(_) = element {
            self.text.clear();
        }
        Ok(element)
    }

    fn end(&mut self, element: Element) -> Result<()> {
        match element {
            Element::Text(field) => self.read(field)?,
            Element::Object => {
                let entry = Entry {
                    key: self.key.take().ok_or_else(|| bad("an entry without a name"))?,
                    size: self.size.take().ok_or_else(|| bad("an object without size"))?,
                    etag: std::mem::take(&mut self.tag),
                    last_modified: std::mem::take(&mut self.modified),
                    storage_class: self.class.take(),
                };
                self.page.objects.push(entry);
            }
            Element::Prefixes => {
                let prefix = self.key.take().ok_or_else(|| bad("an entry without a name"))?;
                self.page.prefixes.push(prefix);
            }
            Element::Document | Element::Listing | Element::Other => {}
        }
        Ok(())
    }

    fn read(&mut self, field: Field) -> Result<()> {
        if field == Field::Key {
            self.key = Some(self.text.clone());
            return Ok(());
        }
        // The body is UTF-8, and so are its pieces.
        let text = std::str::from_utf8(&self.text).unwrap_or_default();
        match field {
            Field::Key => {}
            // S3 counts in signed numbers.
            Field::Size => self.size = text.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()),
            Field::Tag => self.tag = bare_etag(text).to_owned(),
            Field::Modified => {
                let at =
                    DateTime::from_str(text, Format::DateTimeWithOffset).map_err(|_| foreign("a time that is none"))?;
                self.modified = (at.secs(), at.subsec_nanos());
            }
            Field::Class => self.class = Some(text.to_owned()),
            Field::Truncated => {
                self.truncated = Some(text.parse().map_err(|_| foreign("IsTruncated is neither true nor false"))?);
            }
            Field::Token => self.token = text.to_owned(),
            Field::Count => self.count = Some(text.parse().map_err(|_| foreign("KeyCount is no number"))?),
            Field::Encoding => self.encoded = text == "url",
        }
        Ok(())
    }

    fn page(mut self, below: &[u8]) -> Result<Page> {
        let keys = self.page.objects.iter_mut().map(|entry| &mut entry.key);
        for key in keys.chain(&mut self.page.prefixes) {
            if self.encoded {
                decode(key);
            }
            if !key.starts_with(below) {
                return Err(bad("a key from elsewhere"));
            }
            key.drain(..below.len());
        }
        let entries = self.page.objects.len() + self.page.prefixes.len();
        if let Some(count) = self.count.filter(|count| *count != entries) {
            return Err(bad(format!("KeyCount is {count}, with {entries} entries")));
        }
        self.page.next = match self.truncated {
            None => return Err(bad("no IsTruncated")),
            Some(false) => None,
            Some(true) if self.token.is_empty() => return Err(bad("truncated, without a continuation token")),
            Some(true) => Some(self.token),
        };
        Ok(self.page)
    }
}

/// `encoding-type=url`: percent-encoded, and a plus is a space. In place, as nothing gets longer.
fn decode(key: &mut Vec<u8>) {
    let digit = |at: Option<&u8>| at.and_then(|b| char::from(*b).to_digit(16));
    let (mut from, mut to) = (0, 0);
    while let Some(byte) = key.get(from).copied() {
        let (byte, len) = match (byte, digit(key.get(from + 1)), digit(key.get(from + 2))) {
            (b'+', ..) => (b' ', 1),
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
            (other, ..) => (other, 1),
        };
        key[to] = byte;
        (from, to) = (from + len, to + 1);
    }
    key.truncate(to);
}
