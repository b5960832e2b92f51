//! The key of one object's content: any range of it, in any order.
//!
//! Positions: *plain* ones count bytes of the decrypted stream (a gzip file), *object* ones count bytes as stored. They
//! are the same for GCM, whose object is `ciphertext || tag(16)`, and for CBC up to the padding of its last block.
//!
//! Invariants:
//! * Decryption is in place and needs no state: the same range gives the same bytes, from any thread.
//! * Nothing here is evidence: without a [`Verifier`] over the whole object a changed ciphertext decrypts to changed text.
//! * No length, offset or byte of a bucket leads to a panic or a wrapped counter.

use std::fmt;
use std::ops::Range;

use ghash::GHash;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::cipher::{BLOCK, Block, Key, padding};
use super::verify::Verifier;
use crate::err;
use crate::error::{Error, Kind, Result};

/// Bytes of the tag at the end of a GCM object.
pub const TAG_LEN: usize = 16;
/// The longest GCM object in bytes (NIST SP 800-38D), its tag included. No counter wraps below it.
pub const MAX_GCM_OBJECT: u64 = (1 << 36) - 32 + TAG_LEN as u64;

const BLOCK64: u64 = BLOCK as u64;

/// Opens one object. Wiped when dropped; share it by `Arc`.
pub struct ContentKey {
    /// Not expanded: there is one for each file that is open or remembered, and what it expands to takes thirty times as much.
    key: Key,
    mode: Mode,
}

enum Mode {
    /// `secret`: what [`ContentKey::derive`] starts from.
    Gcm {
        iv: [u8; 12],
        aad: &'static [u8],
        secret: Zeroizing<[u8; 32]>,
    },
    Cbc {
        iv: Block,
    },
}

/// What the end of an object tells about its whole. Not proven until the object is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The length in bytes of the decrypted stream: exact if the object is sound.
    pub plain_len: u64,
    /// Its last 8 bytes (gzip: CRC-32 and ISIZE, little-endian), if there are 8.
    pub trailer: Option<[u8; 8]>,
}

impl ContentKey {
    /// `None` if no AES key has that length.
    pub(super) fn gcm(key: &[u8], iv: [u8; 12], aad: &'static [u8]) -> Option<ContentKey> {
        let salt = [b"logarchivefs derived keys 1", &iv[..], aad].concat();
        let secret = Zeroizing::new(Hkdf::<Sha256>::extract(Some(&salt), key).0.into());
        Some(ContentKey { key: Key::new(key)?, mode: Mode::Gcm { iv, aad, secret } })
    }

    pub(super) fn cbc(key: &[u8], iv: Block) -> Option<ContentKey> {
        Some(ContentKey { key: Key::new(key)?, mode: Mode::Cbc { iv } })
    }

    /// False for CBC: its [`Verifier`] only counts.
    pub fn authenticated(&self) -> bool {
        matches!(self.mode, Mode::Gcm { .. })
    }

    /// A key for another purpose (HKDF-SHA256): one for each content key, IV, associated data, `purpose` (a constant) and
    /// `context`. None for CBC: what nothing authenticates vouches for nothing.
    pub fn derive(&self, purpose: &'static str, context: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let Mode::Gcm { secret, .. } = &self.mode else { return None };
        let mut key = Zeroizing::new([0; 32]);
        let info = [purpose.as_bytes(), &[0], context];
        Hkdf::<Sha256>::from_prk(&**secret).ok()?.expand_multi_info(&info, &mut *key).ok()?;
        Some(key)
    }

    /// [`Kind::Truncated`] if no object of this cipher has that many bytes.
    pub fn check_len(&self, object_len: u64) -> Result<()> {
        match self.mode {
            Mode::Gcm { .. } if object_len < TAG_LEN as u64 => {
                Err(err!(Kind::Truncated, "{object_len} bytes are less than the {TAG_LEN} of the tag"))
            }
            Mode::Gcm { .. } if object_len > MAX_GCM_OBJECT => {
                Err(err!(Kind::Truncated, "{object_len} bytes are more than AES-GCM can encrypt"))
            }
            Mode::Cbc { .. } if object_len == 0 || !object_len.is_multiple_of(BLOCK64) => {
                Err(err!(Kind::Truncated, "{object_len} bytes are not whole blocks of {BLOCK}"))
            }
            _ => Ok(()),
        }
    }

    /// The length in bytes of the decrypted stream (FORMAT 5). `suffix`: the last bytes of the object, 64 of them or all
    /// there are; only CBC looks at them. [`Kind::Truncated`]; [`Kind::Padding`] (CBC only).
    pub fn plain_len(&self, object_len: u64, suffix: &[u8]) -> Result<u64> {
        self.check_len(object_len)?;
        let Mode::Cbc { iv } = &self.mode else {
            return Ok(object_len - TAG_LEN as u64);
        };
        let Some((front, last)) = suffix.split_last_chunk::<BLOCK>() else {
            return Err(short_suffix());
        };
        let before = match front.last_chunk::<BLOCK>() {
            _ if object_len == BLOCK64 => iv,
            Some(before) => before,
            None => return Err(short_suffix()),
        };
        let mut last = Zeroizing::new(*last);
        self.key.aes().cbc_decrypt(*before, last.as_mut_slice());
        Ok(object_len - padding(&last).ok_or_else(bad_padding)? as u64)
    }

    /// [`ContentKey::plain_len`] with the last bytes of the stream, from the same 64-byte suffix of the object.
    pub fn tail(&self, object_len: u64, suffix: &[u8]) -> Result<Tail> {
        let plain_len = self.plain_len(object_len, suffix)?;
        let Some(start) = plain_len.checked_sub(8) else {
            return Ok(Tail { plain_len, trailer: None });
        };
        let cover = self.cover(start..plain_len, object_len);
        let from_end = |at: u64| usize::try_from(object_len - at).ok().and_then(|n| suffix.len().checked_sub(n));
        let range = from_end(cover.start).zip(from_end(cover.end)).ok_or_else(short_suffix)?;
        let mut buf = suffix.get(range.0..range.1).ok_or_else(short_suffix)?.to_vec();
        let plain = self.decrypt(start..plain_len, object_len, &mut buf)?;
        Ok(Tail { plain_len, trailer: buf.get(plain).and_then(|b| b.try_into().ok()) })
    }

    /// The object bytes that [`ContentKey::decrypt`] needs for a range of the stream: for GCM the range itself, for CBC
    /// whole blocks and the one before them. Cut off at the end of the object; empty if the range is.
    pub fn cover(&self, plain: Range<u64>, object_len: u64) -> Range<u64> {
        match self.mode {
            Mode::Gcm { .. } => {
                let end = plain.end.min(object_len.saturating_sub(TAG_LEN as u64));
                plain.start.min(end)..end
            }
            Mode::Cbc { .. } => {
                let whole = object_len - object_len % BLOCK64;
                let end = plain.end.min(whole).next_multiple_of(BLOCK64);
                if plain.is_empty() || plain.start >= end {
                    return end..end;
                }
                let first = plain.start - plain.start % BLOCK64;
                first.saturating_sub(BLOCK64)..end
            }
        }
    }

    /// Decrypts a range of the stream in place. `buf` holds exactly the object bytes [`ContentKey::cover`] names; the
    /// answer is where in `buf` the plain bytes now are. They are fewer than asked for only at the end of the stream.
    ///
    /// [`Kind::Truncated`]: an impossible object length; [`Kind::Padding`]: CBC, when the last block is in the range.
    pub fn decrypt(&self, plain: Range<u64>, object_len: u64, buf: &mut [u8]) -> Result<Range<usize>> {
        self.check_len(object_len)?;
        let cover = self.cover(plain.clone(), object_len);
        if buf.len() as u64 != cover.end - cover.start {
            return Err(err!(Kind::Internal, "{} bytes given to decrypt {cover:?}", buf.len()));
        }
        if cover.is_empty() {
            return Ok(0..0);
        }
        let Mode::Cbc { iv } = self.mode else {
            self.decrypt_at(cover.start, &[0; BLOCK], buf)?;
            return Ok(0..buf.len());
        };
        let lead = (plain.start - cover.start) as usize;
        // Block 0 has the IV before it, any other range brings the block before it along.
        let (before, blocks) = match buf.split_first_chunk_mut::<BLOCK>() {
            Some((before, blocks)) if plain.start >= BLOCK64 => (*before, blocks),
            _ => (iv, &mut *buf),
        };
        self.key.aes().cbc_decrypt(before, blocks);
        let mut end = buf.len();
        if cover.end == object_len {
            end -= buf.last_chunk().and_then(padding).ok_or_else(bad_padding)?;
        }
        let wanted = usize::try_from(plain.end - cover.start).unwrap_or(end);
        let end = end.min(wanted);
        Ok(lead.min(end)..end)
    }

    /// Decrypts a piece of the object in place, where a reader goes through it in order. `before`: the 16 bytes of the
    /// object ahead of `offset`. Only CBC looks at them, and not at offset 0; its pieces are whole blocks, and the padding
    /// at the end of its last one is left to the caller (who knows [`ContentKey::plain_len`]). No piece reaches into the
    /// tag of a GCM object.
    ///
    /// [`Kind::Internal`] if the piece breaks these rules.
    pub fn decrypt_at(&self, offset: u64, before: &[u8; BLOCK], buf: &mut [u8]) -> Result<()> {
        let misuse = || err!(Kind::Internal, "{} bytes at {offset} cannot be decrypted", buf.len());
        match &self.mode {
            Mode::Gcm { iv, .. } => {
                let end = offset.checked_add(buf.len() as u64).ok_or_else(misuse)?;
                if end > MAX_GCM_OBJECT - TAG_LEN as u64 {
                    return Err(misuse());
                }
                // Counter block 1 masks the tag; the text starts at 2. The bound above keeps this within 32 bits.
                let first = counter(iv, (2 + offset / BLOCK64) as u32);
                let done = self.key.aes().ctr(first, (offset % BLOCK64) as u32, buf);
                if done { Ok(()) } else { Err(err!(Kind::Internal, "counter at {offset}")) }
            }
            Mode::Cbc { iv } => {
                if !offset.is_multiple_of(BLOCK64) || !buf.len().is_multiple_of(BLOCK) {
                    return Err(misuse());
                }
                self.key.aes().cbc_decrypt(if offset == 0 { *iv } else { *before }, buf);
                Ok(())
            }
        }
    }

    /// A check of the whole object, which has `object_len` bytes. [`Kind::Truncated`] if it cannot have that many.
    pub fn verifier(&self, object_len: u64) -> Result<Verifier> {
        self.check_len(object_len)?;
        Ok(match &self.mode {
            Mode::Cbc { .. } => Verifier::counting(object_len),
            Mode::Gcm { iv, aad, .. } => {
                let aes = self.key.aes();
                let hash_key = Zeroizing::new(aes.encrypt_block([0; BLOCK]));
                let mask = aes.encrypt_block(counter(iv, 1));
                Verifier::gcm(GHash::new(&(*hash_key).into()), mask, aad, object_len)
            }
        })
    }
}

fn counter(iv: &[u8; 12], n: u32) -> Block {
    let [a, b, c, d] = n.to_be_bytes();
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(iv.iter().chain(&[a, b, c, d])) {
        *to = *from;
    }
    block
}

fn bad_padding() -> Error {
    err!(Kind::Padding, "the object is damaged, or was changed")
}

fn short_suffix() -> Error {
    err!(Kind::Internal, "the suffix of the object is too short")
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.authenticated() { "GCM" } else { "CBC" };
        write!(f, "ContentKey(AES-{}-{mode})", self.key.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detail_of_an_envelope_gives_other_derived_keys() {
        let gcm = |key: &[u8], iv: u8, aad| ContentKey::gcm(key, [iv; 12], aad).unwrap();
        let first = gcm(&[1; 32], 2, b"");
        let derived = first.derive("a", b"b").unwrap();
        assert_eq!(gcm(&[1; 32], 2, b"").derive("a", b"b").unwrap(), derived);
        let others = [
            gcm(&[3; 32], 2, b"").derive("a", b"b"),
            gcm(&[1; 16], 2, b"").derive("a", b"b"),
            gcm(&[1; 32], 3, b"").derive("a", b"b"),
            gcm(&[1; 32], 2, b"x").derive("a", b"b"),
            first.derive("c", b"b"),
            first.derive("a", b"d"),
            first.derive("a", b""),
            first.derive("", b"ab"),
        ];
        let all: std::collections::HashSet<_> = others.into_iter().map(|key| *key.unwrap()).chain([*derived]).collect();
        assert_eq!(all.len(), 9);
        let cbc = ContentKey::cbc(&[1; 32], [2; 16]).unwrap();
        assert!(cbc.derive("a", b"b").is_none(), "nothing authenticates it");
    }
}
