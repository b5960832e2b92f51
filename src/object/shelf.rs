//! What the cache folder holds of one object version: its ciphertext chunks as they are in the store, and its proof.
//!
//! Invariants:
//! * Only what GCM authenticates is kept, and only after the tag has held does its proof exist.
//! * A chunk is used only if it has the digest that a pass took of it; without a proof (or a pass) it is never read.
//! * Whatever is wrong with a file of the folder, it is as if it were not there. At worst an object is scanned again.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::disk::Disk;
use super::head::{Head, SMALL};
use super::proof::{Kept, PREFIX, Proof, Seal, TAG};
use super::scan::{CHUNK, Scan};
use super::{Listed, Shared};
use crate::cachedir::{Folder, Hold, Id, Name, Part};
use crate::envelope::ContentKey;
use crate::err;
use crate::error::{Kind, Result};
use crate::gunzip::SeekPoint;

pub struct Shelf {
    disk: Arc<Disk>,
    content: Arc<ContentKey>,
    /// Which object version this is.
    identity: Vec<u8>,
    id: Id,
    total: u64,
    gzip_len: u64,
}

impl Shelf {
    /// None without a folder, for small objects (their head brings them along) and for unauthenticated ones.
    pub fn of(shared: &Shared, object: &Listed, head: &Head) -> Option<Arc<Shelf>> {
        let disk = shared.disk.as_ref().filter(|_| head.total > SMALL)?;
        let mut identity = head.total.to_le_bytes().to_vec();
        let place = shared.store.describe();
        for field in [&place, &object.key, head.pin.version_id().unwrap_or(""), head.pin.etag().unwrap_or("")] {
            identity.extend_from_slice(&(field.len() as u64).to_le_bytes());
            identity.extend_from_slice(field.as_bytes());
        }
        let id = *head.content.derive("name", &identity)?.first_chunk()?;
        Some(Arc::new(Shelf {
            disk: Arc::clone(disk),
            content: Arc::clone(&head.content),
            identity,
            id,
            total: head.total,
            gzip_len: head.gzip_len,
        }))
    }

    fn proof(&self) -> Name {
        Name { id: self.id, part: Part::Proof }
    }

    fn chunk(&self, n: u64) -> Name {
        Name { id: self.id, part: Part::Chunk(n as u32) }
    }

    /// What an earlier pass has found out.
    pub async fn recall(self: &Arc<Self>) -> Option<(Proof, Seal)> {
        let shelf = Arc::clone(self);
        self.disk.read(move |folder| shelf.read_proof(folder)).await
    }

    fn read_proof(&self, folder: &Folder) -> Option<(Proof, Seal)> {
        let prefix = folder.read(self.proof(), 0, PREFIX)?;
        let proof = Seal::parse(&prefix, &self.content, &self.identity).and_then(|(seal, len)| {
            let index = seal.open(0, &folder.read(self.proof(), PREFIX as u64, len)?)?;
            Some((Proof::decode(&index, self.total, self.gzip_len)?, seal))
        });
        if proof.is_none() {
            folder.remove(self.proof());
        }
        proof
    }

    /// Keeps whole chunks, the first of them being chunk number `first`, if the disk keeps up.
    pub fn keep(self: &Arc<Self>, first: u64, bytes: Bytes) {
        let shelf = Arc::clone(self);
        self.disk.write(Some(bytes.len()), move |hold| {
            for (chunk, n) in bytes.chunks(CHUNK as usize).zip(first..) {
                let name = shelf.chunk(n);
                if hold.folder().read(name, 0, chunk.len()).as_deref() != Some(chunk) {
                    hold.put(name, chunk.len() as u64, |file| file.write_all(chunk))?;
                }
            }
            Ok(())
        });
    }

    fn write_proof(&self, scan: &Scan, size: u64, hold: &mut Hold<'_>) -> io::Result<()> {
        // Somebody reads by the proof that another mount has written meanwhile.
        if self.read_proof(hold.folder()).is_some() {
            return Ok(());
        }
        scan.pack_points();
        let Some(points) = scan.read_segments(|s| s.points()) else { return Ok(()) };
        let Some(kept) = points.iter().map(|p| Kept::of(p)).collect() else { return Ok(()) };
        let digests = scan.digests.read().unwrap_or_else(PoisonError::into_inner).clone();
        let proof = Proof { size, key: scan.digester.key().clone(), digests, points: kept };
        let index = proof.encode();
        // What could not be read again is not written.
        let Some(seal) = Seal::new(&self.content, &self.identity) else { return Ok(()) };
        let sealed = Proof::decode(&index, self.total, self.gzip_len).and_then(|_| seal.seal(0, &index));
        let Some(sealed) = sealed else { return Ok(()) };
        let Some(prefix) = seal.prefix(sealed.len()) else { return Ok(()) };
        let windows: u64 = proof.points.iter().map(|p| u64::from(p.held) + TAG as u64).sum();
        hold.put(self.proof(), (prefix.len() + sealed.len()) as u64 + windows, |file| {
            file.write_all(&prefix)?;
            file.write_all(&sealed)?;
            for (point, piece) in points.iter().zip(1..) {
                let sealed = point.block().and_then(|(_, window, _)| seal.seal(piece, window));
                file.write_all(&sealed.ok_or_else(|| io::Error::other("a window cannot be sealed"))?)?;
            }
            Ok(())
        })
    }
}

impl Scan {
    /// Writes down what the pass has found out. Points inside of a block cannot be: such a file is scanned again.
    pub(super) fn remember(self: &Arc<Self>, size: u64) {
        let Some(shelf) = self.shelf.clone() else { return };
        let scan = Arc::clone(self);
        shelf.clone().disk.write(None, move |hold| shelf.write_proof(&scan, size, hold));
    }

    /// The chunks of `range`, which is made of whole ones, if all of them are in the folder as verify has seen them.
    pub(super) async fn kept_chunks(self: &Arc<Self>, range: Range<u64>) -> Option<Bytes> {
        let (scan, shelf) = (Arc::clone(self), self.shelf.clone()?);
        let look = move |folder: &Folder| {
            let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
            for n in range.start / CHUNK..range.end.div_ceil(CHUNK) {
                let len = CHUNK.min(range.end - n * CHUNK) as usize;
                let chunk = folder.read(shelf.chunk(n), 0, len)?;
                if scan.check(n, &chunk).is_err() {
                    folder.remove(shelf.chunk(n));
                    return None;
                }
                bytes.extend_from_slice(&chunk);
            }
            Some(bytes.into())
        };
        self.shelf.as_ref()?.disk.read(look).await
    }

    /// The seek point whose window is in the proof. Without it this scan is of no more use.
    pub(super) async fn kept_point(self: &Arc<Self>, kept: Kept) -> Result<Arc<SeekPoint>> {
        let found = match &self.shelf {
            Some(shelf) => {
                let (scan, name) = (Arc::clone(self), shelf.proof());
                let look = move |folder: &Folder| {
                    let sealed = folder.read(name, kept.at, usize::from(kept.held) + TAG);
                    let window = sealed.and_then(|s| scan.seal.as_ref()?.open(kept.piece, &s));
                    if window.is_none() {
                        folder.remove(name);
                    }
                    window
                };
                shelf.disk.read(look).await
            }
            None => None,
        };
        let Some(window) = found else {
            self.lost.store(true, Ordering::Relaxed);
            return Err(err!(Kind::Internal, "the proof in the cache folder is gone").about(&self.object.key));
        };
        SeekPoint::from_block(kept.out, kept.input, kept.skip, &window, kept.packed).map(Arc::new)
    }
}
