//! One log, as text or gzipped: decrypted into a part, which is handed on only if tag and CRC have held.

use std::sync::{Arc, Mutex, PoisonError};

use super::root::Part;
use super::{Download, Got};
use crate::cmd::progress::Meter;
use crate::err;
use crate::error::{Kind, Result};
use crate::object::{Listed, Stored, Text};

/// Takes one of the streams of a sweep into a part; as `Stored`, reports what has arrived.
struct Sink {
    part: Option<Part>,
    meter: Arc<Meter>,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.part.as_mut().map_or(Ok(()), |part| part.write(bytes))
    }
}

impl Stored for Sink {
    fn ciphertext(&mut self, bytes: &[u8]) -> Result<()> {
        self.meter.bytes(bytes.len() as u64);
        Ok(())
    }

    fn gzip(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)
    }
}

impl Text for Sink {
    fn text(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)
    }
}

pub async fn fetch(download: &Download, object: &Listed, gzip: bool, meter: &Arc<Meter>) -> Result<Got> {
    let part = download.root.part()?;
    let (packed, text) = if gzip { (Some(part), None) } else { (None, Some(part)) };
    let sink = |part| Arc::new(Mutex::new(Sink { part, meter: Arc::clone(meter) }));
    let (packed, text) = (sink(packed), sink(text));
    let swept = download.archive.objects.sweep(object, &packed, &text).await?;
    if let Some(n) = swept.garbage {
        log::warn!("{}: {n} bytes behind the gzip stream are no gzip", crate::error::escape(object.key.as_bytes()));
    }
    let take = |sink: &Mutex<Sink>| sink.lock().unwrap_or_else(PoisonError::into_inner).part.take();
    let part = take(&packed).or_else(|| take(&text)).ok_or_else(|| err!(Kind::Internal, "a part went missing"))?;
    Ok(Got { part, more: Vec::new(), version_id: swept.head.version_id.clone(), modified: None })
}
