//! A page of a listing, read here and not by the SDK: its parser takes ten times as long, takes the beginning of a
//! listing as happily as a listing, and gives versions and delete markers apart, so that their order is lost.
//!
//! The request, its signature, deadlines, and every answer with an error status stay the SDK's; of an answer with
//! success it reads the body (which `limit` bounds) and hands it over ([`Answer`]).
//!
//! Invariants: a page is whole or an error: the text ends as a listing does, every element is closed, and what a
//! [`Document`] asks for is there; a document type, and so any entity but XML's own, is an error; what is not known is
//! passed over. Memory is bounded by the body's length.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
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

use super::super::{Timestamp, bare_etag};
use crate::err;
use crate::error::{Error, Kind, Result};

/// One kind of listing: how it begins, what its entries are called, and what becomes of them.
pub(super) trait Document: Default {
    const ROOT: &'static str;
    type Page;
    /// Whether an element of this name is an entry, and then whether that is a delete marker.
    fn entry(name: &[u8]) -> Option<bool>;
    /// The next entry; of what the element had, which may be nothing.
    fn add(&mut self, entry: Open, is_marker: bool) -> Result<()>;
    fn add_prefix(&mut self, name: Vec<u8>);
    /// The page, its keys without `below`.
    fn page(self, end: End, below: &[u8]) -> Result<Self::Page>;
    /// What the SDK wants of the call, and nobody looks at.
    fn nothing() -> Output;
}

/// Takes a listing out of one call: its interceptor, and the SDK's parser for it.
pub(super) struct Answer<D: Document> {
    /// What every key begins with; cut off.
    below: Arc<str>,
    page: Arc<Mutex<Option<Result<D::Page>>>>,
}

impl<D: Document> Clone for Answer<D> {
    fn clone(&self) -> Self {
        Answer { below: Arc::clone(&self.below), page: Arc::clone(&self.page) }
    }
}

impl<D: Document> fmt::Debug for Answer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(D::ROOT)
    }
}

impl<D: Document> Answer<D> {
    pub fn new(below: &str) -> Self {
        Answer { below: below.into(), page: Arc::default() }
    }

    /// The page, once the call has succeeded.
    pub fn page(&self) -> Result<D::Page> {
        let taken = self.page.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| Err(err!(Kind::Internal, "the SDK did not hand over a listing")))
    }
}

#[dyn_dispatch_hint]
impl<D: Document<Page: Send> + 'static> Intercept for Answer<D> {
    fn name(&self) -> &'static str {
        D::ROOT
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

impl<D: Document<Page: Send> + 'static> DeserializeResponse for Answer<D> {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        _: &ConfigBag,
    ) -> Result<Output, OrchestratorError<AnyError>> {
        let page = parse::<D>(response.body().bytes().unwrap_or_default(), &self.below);
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
        Ok(D::nothing())
    }
}

pub(super) fn bad(what: impl fmt::Display) -> Error {
    err!(Kind::Storage, "damaged listing: {what}")
}

fn foreign(why: &str) -> Error {
    bad(format!("not as S3 writes it: {why}"))
}

/// The page that a body holds, its keys without `below`.
fn parse<D: Document>(body: &[u8], below: &str) -> Result<D::Page> {
    ends_well(body, D::ROOT)?;
    let text = std::str::from_utf8(body).map_err(|_| foreign("it is not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::Document];
    let mut found = Found::<D>::default();
    loop {
        let now = open.last().copied().unwrap_or(Element::Other);
        let is_text = matches!(now, Element::Text(_));
        match reader.read_event().map_err(|_| foreign("no well-formed XML"))? {
            Event::Start(tag) => open.push(found.begin(now, tag.name().0)?),
            Event::Empty(tag) => {
                let element = found.begin(now, tag.name().0)?;
                found.close(element)?;
            }
            Event::End(_) => {
                open.pop();
                found.close(now)?;
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
    found.document.page(found.end, below.as_bytes())
}

/// What was cut short has no end, and what is something else has another one.
fn ends_well(body: &[u8], root: &str) -> Result<()> {
    let (body, root) = (body.trim_ascii(), root.as_bytes());
    if body.strip_suffix(b">").is_some_and(|body| body.ends_with(root)) {
        return Ok(());
    }
    let start = &body[..body.len().min(1024)];
    if start.windows(root.len()).any(|w| w == root) {
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
    Entry {
        is_marker: bool,
    },
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
    VersionId,
    Latest,
    Truncated,
    Token,
    NextKey,
    NextVersionId,
    Count,
    Encoding,
}

/// What an entry had: as sent, so that its key may be encoded.
#[derive(Default)]
pub(super) struct Open {
    pub key: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub tag: String,
    pub modified: Timestamp,
    pub class: Option<String>,
    pub version_id: Option<String>,
    pub latest: bool,
}

/// What a listing says of itself.
#[derive(Default)]
pub(super) struct End {
    /// Names are percent-encoded.
    pub encoded: bool,
    pub count: Option<usize>,
    truncated: Option<bool>,
    pub token: String,
    pub next_key: Vec<u8>,
    pub next_version_id: Option<String>,
}

impl End {
    pub fn is_truncated(&self) -> Result<bool> {
        self.truncated.ok_or_else(|| bad("no IsTruncated"))
    }

    /// A name, decoded and without `below`.
    pub fn cut(&self, name: &mut Vec<u8>, below: &[u8]) -> Result<()> {
        if self.encoded {
            decode(name);
        }
        if !name.starts_with(below) {
            return Err(bad("a key from elsewhere"));
        }
        name.drain(..below.len());
        Ok(())
    }
}

/// What has been read so far.
#[derive(Default)]
struct Found<D> {
    document: D,
    end: End,
    /// The text of the element that is open.
    text: Vec<u8>,
    open: Open,
    is_listing: bool,
}

impl<D: Document> Found<D> {
    fn begin(&mut self, within: Element, name: &[u8]) -> Result<Element> {
        let element = match (within, name) {
            (Element::Document, root) if root == D::ROOT.as_bytes() && !self.is_listing => {
                self.is_listing = true;
                Element::Listing
            }
            (Element::Document, _) => return Err(foreign("another document")),
            (Element::Listing, b"CommonPrefixes") => Element::Prefixes,
            (Element::Listing, b"IsTruncated") => Element::Text(Field::Truncated),
            (Element::Listing, b"NextContinuationToken") => Element::Text(Field::Token),
            (Element::Listing, b"NextKeyMarker") => Element::Text(Field::NextKey),
            (Element::Listing, b"NextVersionIdMarker") => Element::Text(Field::NextVersionId),
            (Element::Listing, b"KeyCount") => Element::Text(Field::Count),
            (Element::Listing, b"EncodingType") => Element::Text(Field::Encoding),
            (Element::Listing, name) => D::entry(name).map_or(Element::Other, |is_marker| Element::Entry { is_marker }),
            (Element::Entry { .. }, b"Key") | (Element::Prefixes, b"Prefix") => Element::Text(Field::Key),
            (Element::Entry { .. }, b"Size") => Element::Text(Field::Size),
            (Element::Entry { .. }, b"ETag") => Element::Text(Field::Tag),
            (Element::Entry { .. }, b"LastModified") => Element::Text(Field::Modified),
            (Element::Entry { .. }, b"StorageClass") => Element::Text(Field::Class),
            (Element::Entry { .. }, b"VersionId") => Element::Text(Field::VersionId),
            (Element::Entry { .. }, b"IsLatest") => Element::Text(Field::Latest),
            (Element::Text(_), _) => return Err(foreign("an element within a text")),
            _ => Element::Other,
        };
        if let Element::Text(_) = element {
            self.text.clear();
        }
        Ok(element)
    }

    fn close(&mut self, element: Element) -> Result<()> {
        match element {
            Element::Text(field) => self.read(field)?,
            Element::Entry { is_marker } => self.document.add(std::mem::take(&mut self.open), is_marker)?,
            Element::Prefixes => self.document.add_prefix(named(self.open.key.take())?),
            Element::Document | Element::Listing | Element::Other => {}
        }
        Ok(())
    }

    fn read(&mut self, field: Field) -> Result<()> {
        if field == Field::Key {
            self.open.key = Some(self.text.clone());
            return Ok(());
        }
        // The body is UTF-8, and so are its pieces.
        let text = std::str::from_utf8(&self.text).unwrap_or_default();
        match field {
            Field::Key => {}
            // S3 counts in signed numbers.
            Field::Size => self.open.size = text.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()),
            Field::Tag => self.open.tag = bare_etag(text).to_owned(),
            Field::Modified => {
                let at =
                    DateTime::from_str(text, Format::DateTimeWithOffset).map_err(|_| foreign("a time that is none"))?;
                self.open.modified = (at.secs(), at.subsec_nanos());
            }
            Field::Class => self.open.class = Some(text.to_owned()),
            Field::VersionId => self.open.version_id = Some(text.to_owned()),
            Field::Latest => {
                self.open.latest = text.parse().map_err(|_| foreign("IsLatest is neither true nor false"))?;
            }
            Field::Truncated => {
                self.end.truncated = Some(text.parse().map_err(|_| foreign("IsTruncated is neither true nor false"))?);
            }
            Field::Token => self.end.token = text.to_owned(),
            Field::NextKey => self.end.next_key = text.into(),
            Field::NextVersionId => self.end.next_version_id = Some(text.to_owned()),
            Field::Count => self.end.count = Some(text.parse().map_err(|_| foreign("KeyCount is no number"))?),
            Field::Encoding => self.end.encoded = text == "url",
        }
        Ok(())
    }
}

/// The name of an entry, which must have one.
pub(super) fn named(key: Option<Vec<u8>>) -> Result<Vec<u8>> {
    key.ok_or_else(|| bad("an entry without a name"))
}

/// `encoding-type=url`: percent-encoded, and a plus is a space. In place, as nothing gets longer.
pub(super) fn decode(key: &mut Vec<u8>) {
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
