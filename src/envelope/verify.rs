//! The authenticity of a whole object, from its ciphertext in one pass.
//!
//! Invariants:
//! * [`Verifier::finish`] is `Ok` only if every byte of the object, tag included, was given once and in order, and, for
//!   GCM, the tag is right. How the bytes were cut into pieces does not matter.
//! * Nothing is decrypted here, and memory is constant.

use std::fmt;

use ghash::{GHash, universal_hash::UniversalHash};
use subtle::ConstantTimeEq;

use super::cipher::{BLOCK, Block};
use super::content::TAG_LEN;
use crate::err;
use crate::error::{Kind, Result};

/// See the module. Made by [`ContentKey::verifier`](super::ContentKey::verifier).
pub struct Verifier {
    /// `None` for CBC, which has nothing to check but its length.
    gcm: Option<Gcm>,
    object_len: u64,
    seen: u64,
}

struct Gcm {
    ghash: GHash,
    /// The keystream block that masks the tag.
    mask: Block,
    aad_len: u64,
    /// The last `text_len % 16` bytes of ciphertext so far.
    pending: Block,
    tag: [u8; TAG_LEN],
    text_len: u64,
}

impl Verifier {
    pub(super) fn gcm(mut ghash: GHash, mask: Block, aad: &[u8], object_len: u64) -> Verifier {
        ghash.update_padded(aad);
        let gcm = Gcm {
            ghash,
            mask,
            aad_len: aad.len() as u64,
            pending: [0; BLOCK],
            tag: [0; TAG_LEN],
            text_len: object_len.saturating_sub(TAG_LEN as u64),
        };
        Verifier { gcm: Some(gcm), object_len, seen: 0 }
    }

    pub(super) fn counting(object_len: u64) -> Verifier {
        Verifier { gcm: None, object_len, seen: 0 }
    }

    /// The next bytes of the object as it is stored, the 16 bytes of the tag at its end included.
    pub fn update(&mut self, ciphertext: &[u8]) {
        if let Some(gcm) = &mut self.gcm {
            gcm.update(self.seen, ciphertext);
        }
        self.seen = self.seen.saturating_add(ciphertext.len() as u64);
    }

    /// The number of bytes given so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// [`Kind::Truncated`]: more or fewer bytes than the object has; [`Kind::Tag`]: they are not what the writer wrote.
    pub fn finish(self) -> Result<()> {
        if self.seen != self.object_len {
            return Err(err!(Kind::Truncated, "{} bytes of an object of {}", self.seen, self.object_len));
        }
        if self.gcm.is_none_or(Gcm::holds) {
            return Ok(());
        }
        Err(err!(Kind::Tag, "the authentication tag does not match: the object or its metadata was changed or damaged"))
    }
}

impl Gcm {
    fn update(&mut self, seen: u64, bytes: &[u8]) {
        let text_left = self.text_len.saturating_sub(seen);
        let (mut text, tag) = bytes.split_at(clamp(text_left, bytes.len()));
        let held = (seen.min(self.text_len) % BLOCK as u64) as usize;
        if held > 0 && !text.is_empty() {
            let (now, later) = text.split_at((BLOCK - held).min(text.len()));
            if let Some(space) = self.pending.get_mut(held..held + now.len()) {
                space.copy_from_slice(now);
            }
            if held + now.len() == BLOCK {
                self.ghash.update(&[self.pending.into()]);
            }
            text = later;
        }
        let (whole, rest) = text.split_at(text.len() - text.len() % BLOCK);
        self.ghash.update_padded(whole);
        if let Some(space) = self.pending.get_mut(..rest.len()) {
            space.copy_from_slice(rest);
        }
        let at = clamp(seen.saturating_sub(self.text_len), TAG_LEN);
        for (to, from) in self.tag.iter_mut().skip(at).zip(tag) {
            *to = *from;
        }
    }

    fn holds(mut self) -> bool {
        let held = (self.text_len % BLOCK as u64) as usize;
        self.ghash.update_padded(self.pending.get(..held).unwrap_or_default());
        let lengths = (u128::from(self.aad_len * 8) << 64) | u128::from(self.text_len * 8);
        self.ghash.update(&[lengths.to_be_bytes().into()]);
        let mut tag = self.ghash.finalize();
        for (t, m) in tag.iter_mut().zip(self.mask) {
            *t ^= m;
        }
        tag.as_slice().ct_eq(&self.tag).into()
    }
}

/// The smaller of the two.
fn clamp(n: u64, most: usize) -> usize {
    usize::try_from(n).unwrap_or(most).min(most)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({} of {} bytes)", self.seen, self.object_len)
    }
}
