//! A body as it arrives, over as many requests as it takes.
//!
//! The first answer says what the object is (size, version, metadata) and fixes the buffer's size, which is bounded by
//! the request. Later answers must be of that very version and continue at the very byte where the last one broke off.

use std::io::{self, Read};

use bytes::Bytes;

use super::{ByteRange, GetRequest, Object};
use crate::err;
use crate::error::{Kind, Result};

/// Starts empty; see [`super::Store::fetch`].
#[derive(Debug, Default)]
pub struct Part {
    /// What the first answer said; its `bytes` stay empty.
    head: Option<Object>,
    buf: Vec<u8>,
    /// Final length of `buf`.
    want: usize,
}

impl Part {
    pub fn new() -> Self {
        Part::default()
    }

    /// One that fills `buffer`, which is empty; a buffer that is large enough is not allocated again.
    pub fn into_buffer(buffer: Vec<u8>) -> Self {
        Part { buf: buffer, ..Part::default() }
    }

    /// Bytes that are here.
    pub fn have(&self) -> usize {
        self.buf.len()
    }

    /// All that was asked for is here.
    pub fn is_complete(&self) -> bool {
        self.head.is_some() && self.buf.len() == self.want
    }

    /// The request for what is missing: `req` itself at first, then the rest, pinned by the first answer. A version that was
    /// asked for stays asked for: an answer need not name it.
    pub fn rest(&self, req: &GetRequest) -> Result<GetRequest> {
        let Some(head) = &self.head else { return Ok(req.clone()) };
        if self.is_complete() {
            return Err(err!(Kind::Internal, "nothing is missing from the object"));
        }
        let pin = if req.pin.version_id().is_some() { req.pin.clone() } else { head.pin() };
        let range = ByteRange::Span(head.start + self.buf.len() as u64..head.start + self.want as u64);
        Ok(GetRequest { key: req.key.clone(), pin, range })
    }

    /// The headers of an answer to [`Part::rest`]: `head` with no bytes, and how many are to come.
    pub fn begin(&mut self, head: Object, len: u64) -> Result<()> {
        match &self.head {
            None => {
                let want = usize::try_from(len).map_err(|_| no_memory(len))?;
                self.buf.try_reserve_exact(want).map_err(|_| no_memory(len))?;
                self.want = want;
                self.head = Some(Object { bytes: Bytes::new(), ..head });
                Ok(())
            }
            Some(first) if first.etag != head.etag || first.version_id != head.version_id => {
                Err(err!(Kind::Stale, "the object was replaced while it was read"))
            }
            Some(first) => {
                let place = first.start + self.buf.len() as u64;
                if (head.start, len, head.total) != (place, (self.want - self.buf.len()) as u64, first.total) {
                    return Err(err!(Kind::Storage, "the rest of the body does not fit what came before"));
                }
                Ok(())
            }
        }
    }

    /// The next bytes of the body.
    pub fn push(&mut self, frame: &[u8]) -> Result<()> {
        if frame.len() > self.want - self.buf.len() {
            return Err(err!(Kind::Storage, "the body is longer than was asked for"));
        }
        self.buf.extend_from_slice(frame);
        Ok(())
    }

    /// All that is missing of the body, from `source`: into the buffer, whose bytes need not be zeroed for that.
    pub fn read(&mut self, source: impl Read) -> io::Result<()> {
        source.take((self.want - self.buf.len()) as u64).read_to_end(&mut self.buf)?;
        if self.buf.len() < self.want { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// A whole answer to [`Part::rest`] at once.
    pub fn put(&mut self, mut object: Object) -> Result<()> {
        let bytes = std::mem::take(&mut object.bytes);
        self.begin(object, bytes.len() as u64)?;
        self.push(&bytes)
    }

    /// The object, if it is complete.
    pub fn finish(self) -> Result<Object> {
        self.finish_with(Bytes::from)
    }

    /// The object, if it is complete; `seal` makes its bytes from the buffer.
    pub fn finish_with(self, seal: impl FnOnce(Vec<u8>) -> Bytes) -> Result<Object> {
        let (have, want) = (self.buf.len(), self.want);
        match self.head {
            Some(head) if have == want => Ok(Object { bytes: seal(self.buf), ..head }),
            _ => Err(err!(Kind::Storage, "the body broke off after {have} of {want} bytes")),
        }
    }
}

fn no_memory(len: u64) -> crate::error::Error {
    err!(Kind::NoMemory, "no memory for {len} bytes")
}
