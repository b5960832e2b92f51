//! One object as it is stored, for a sealed copy: no key is needed, and damage is copied as it is, since it is evidence.
//!
//! What can be said without a key is checked: every request is pinned to the version that was listed, and the lengths
//! agree. Where there is a key, the *copy* is then opened and swept: tag, gzip and CRC, from the disk.

use std::sync::{Arc, Mutex};

use futures::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use super::root::Part;
use super::{Download, Got};
use crate::cmd::progress::Meter;
use crate::envelope::Found;
use crate::err;
use crate::error::{Error, Kind, Result, escape};
use crate::key::Time;
use crate::object::Listed;
use crate::object::head::SMALL;
use crate::store::{ByteRange, GetRequest, NewObject, Object, Pin, object_paths};

/// Unit of the ranged GETs.
const RUN: u64 = 2 << 20;
/// At a time.
const PARALLEL: usize = 8;
/// A larger instruction file is no envelope.
const INSTRUCTION_MAX: u64 = 64 << 10;

/// Names below the folder: body, metadata.
pub fn paths(key: &str) -> Result<(String, String)> {
    let (body, meta) = object_paths(key)?;
    // Encoded: ASCII.
    Ok((body.to_string_lossy().into_owned(), meta.to_string_lossy().into_owned()))
}

/// A body on its way to the disk.
struct Body {
    part: Part,
    hash: Sha256,
    size: u64,
}

impl Body {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.part.write(bytes)
    }
}

pub async fn fetch(download: &Download, object: &Listed, meter: &Meter) -> Result<Got> {
    copy(download, object, meter).await.map_err(|e| e.about(&object.key))
}

async fn copy(download: &Download, object: &Listed, meter: &Meter) -> Result<Got> {
    let body = Body { part: download.root.part()?, hash: Sha256::new(), size: 0 };
    let first = if object.size <= SMALL { ByteRange::Whole } else { ByteRange::Span(0..RUN.min(object.size)) };
    let pin = Pin::new(None, &object.etag);
    let mut head = download.archive.store.get(&GetRequest { key: object.key.clone(), pin, range: first }).await?;
    if head.total != object.size {
        return Err(err!(Kind::Stale, "has {} bytes, {} were listed: replaced meanwhile", head.total, object.size));
    }
    if head.missing_meta > 0 {
        log::warn!("{}: the store cannot show all of its metadata", escape(object.key.as_bytes()));
    }
    let bytes = std::mem::take(&mut head.bytes);
    let done = bytes.len() as u64;
    meter.bytes(done);
    let mut body = write(download, body, bytes).await?;
    let cache = &download.archive.objects.shared().cache;
    let lane = cache.lane();
    let rest = stream::iter((done..head.total).step_by(RUN as usize)).map(|from| {
        let range = from..(from + RUN).min(head.total);
        let request = GetRequest { key: object.key.clone(), pin: head.pin(), range: ByteRange::Span(range.clone()) };
        let lane = Arc::clone(&lane);
        async move {
            let permit = cache.flight(&lane, range.end - range.start).await;
            let got = download.archive.store.get(&request).await?;
            Ok::<_, Error>((permit, got.bytes))
        }
    });
    let mut rest = rest.buffered(PARALLEL);
    while let Some(run) = rest.next().await {
        let (_permit, bytes) = run?;
        meter.bytes(bytes.len() as u64);
        body = write(download, body, bytes).await?;
    }
    drop(rest);
    let mut more = vec![describe(download, &object.key, &head, &body)?];
    if let Some((twin, meta)) = instruction(download, object, &head).await? {
        more.splice(0..0, [twin, meta]);
    }
    let version_id = head.version_id.clone();
    Ok(Got { part: body.part, more, version_id, modified: Some(head.last_modified) })
}

async fn write(download: &Download, mut body: Body, bytes: bytes::Bytes) -> Result<Body> {
    download.archive.objects.shared().cpu.run(move || body.write(&bytes).map(|()| body)).await?
}

/// The metadata file.
fn describe(download: &Download, key: &str, head: &Object, body: &Body) -> Result<(Part, String)> {
    let object = NewObject {
        key,
        metadata: &head.metadata,
        etag: Some(&head.etag),
        version_id: head.version_id.as_deref(),
        last_modified: head.last_modified,
    };
    let sum: String = body.hash.clone().finalize().iter().map(|b| format!("{b:02x}")).collect();
    let mut part = download.root.part()?;
    part.write(&object.describe(body.size, &sum)?)?;
    let (secs, nanos) = head.last_modified;
    part.finish(Time::from_unix(secs, nanos).unwrap_or(Time::EPOCH))?;
    Ok((part, paths(key)?.1))
}

/// The instruction file of an object that needs one, if it is allowed and there.
async fn instruction(
    download: &Download,
    object: &Listed,
    head: &Object,
) -> Result<Option<((Part, String), (Part, String))>> {
    let wanted = download.allow_instruction_files
        && matches!(Found::from_metadata(&head.metadata), Ok(Found::NeedsInstruction(_)));
    if !wanted {
        return Ok(None);
    }
    let key = format!("{}.instruction", object.key);
    let range = ByteRange::Suffix(INSTRUCTION_MAX);
    let got = match download.archive.store.get(&GetRequest { key: key.clone(), pin: Pin::None, range }).await {
        Ok(got) if got.total <= INSTRUCTION_MAX => got,
        Ok(_) => return Ok(None),
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::AccessDenied) => return Ok(None),
        Err(e) => return Err(e),
    };
    let body = Body { part: download.root.part()?, hash: Sha256::new(), size: 0 };
    let body = write(download, body, got.bytes.clone()).await?;
    let meta = describe(download, &key, &got, &body)?;
    let (secs, nanos) = got.last_modified;
    body.part.finish(Time::from_unix(secs, nanos).unwrap_or(Time::EPOCH))?;
    Ok(Some(((body.part, paths(&key)?.0), meta)))
}

/// What is known of a copied object.
pub enum Checked {
    Proven,
    /// There is no key for it, or it is of a kind that is not opened.
    Not,
}

/// Opens the copy with its key. An error is a verdict on the object.
pub async fn check(download: &Download, object: &Listed) -> Result<Checked> {
    let Some(copy) = &download.copy else { return Ok(Checked::Not) };
    // One for each: both streams go on at once.
    let nowhere = || Arc::new(Mutex::new(()));
    match copy.sweep(object, &nowhere(), &nowhere()).await {
        Ok(swept) if swept.head.authenticated => Ok(Checked::Proven),
        Ok(_) => Ok(Checked::Not),
        Err(e) => match e.kind() {
            Kind::NoKey
            | Kind::Unauthenticated
            | Kind::InstructionFile
            | Kind::UnsupportedWrap
            | Kind::UnsupportedContent => {
                log::info!("copied, but not checked: {e}");
                Ok(Checked::Not)
            }
            kind => Err(err!(kind, "{} (the copy is kept as it is)", e.message()).about(&object.key)),
        },
    }
}
