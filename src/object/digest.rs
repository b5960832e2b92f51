//! Digests of ciphertext chunks: what a range that is fetched again is compared with.
//!
//! GMAC (AES-256-GCM over associated data alone, NIST SP 800-38D) under a key that each scan draws for itself, with the
//! chunk's number as the nonce. Key and digests leave the process only sealed, in a proof (see `proof`): whoever can write
//! to the store knows neither, so all that is left is to guess 128 bits; and it costs a thirtieth of SHA-256, which is what a
//! random read waits for. By aws-lc, which rustls brings along: four times as fast as aes-gcm, and a scan takes digests on
//! the core that it shares with the network.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::scan::CHUNK;
use crate::err;
use crate::error::{Kind, Result};

pub type Digest = [u8; 16];

pub type DigestKey = Zeroizing<[u8; 32]>;

/// The key alone: what it is expanded to takes more, for each file that is open or remembered, than to expand it anew does.
pub struct Digests {
    key: DigestKey,
}

impl Digests {
    /// With a key of its own.
    pub fn new() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(|e| err!(Kind::Internal, "no random numbers: {e}"))?;
        Ok(Digests::with(key))
    }

    pub fn with(key: DigestKey) -> Self {
        Digests { key }
    }

    pub fn key(&self) -> &DigestKey {
        &self.key
    }

    /// The digest of each chunk of `bytes`, the first of them being chunk number `first` of the object.
    pub fn of(&self, first: u64, bytes: &[u8]) -> Result<Vec<Digest>> {
        let gmac = UnboundKey::new(&AES_256_GCM, &*self.key).map_err(|_| err!(Kind::Internal, "no key for digests"))?;
        let gmac = LessSafeKey::new(gmac);
        bytes.chunks(CHUNK as usize).zip(first..).map(|(bytes, n)| chunk(&gmac, n, bytes)).collect()
    }
}

fn chunk(gmac: &LessSafeKey, n: u64, bytes: &[u8]) -> Result<Digest> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&n.to_be_bytes());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = gmac.seal_in_place_separate_tag(nonce, Aad::from(bytes), &mut []);
    let tag = tag.ok().and_then(|tag| tag.as_ref().try_into().ok());
    tag.ok_or_else(|| err!(Kind::Internal, "a chunk of {} bytes has no digest", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_a_gmac() {
        use aes_gcm::aead::{Aead, KeyInit, Payload};
        let digests = Digests::new().unwrap();
        let other = aes_gcm::Aes256Gcm::new((&**digests.key()).into());
        for len in [1, 15, 16, 17, 1000, CHUNK as usize] {
            let bytes = vec![len as u8; len];
            let tag = other.encrypt(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2].into(), Payload { msg: &[], aad: &bytes });
            assert_eq!(digests.of(0x102, &bytes).unwrap()[0][..], tag.unwrap(), "{len}");
        }
    }

    #[test]
    fn a_digest_stands_for_its_bytes_and_its_place() {
        let digests = Digests::new().unwrap();
        let mut bytes = vec![5; 2 * CHUNK as usize + 3];
        let known = digests.of(0, &bytes).unwrap();
        assert_eq!(known.len(), 3);
        assert_ne!(known[0], known[1], "the same bytes in another place");
        assert_eq!(digests.of(1, &bytes[CHUNK as usize..]).unwrap(), known[1..]);
        for bit in [0, 8 * CHUNK as usize - 1] {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = digests.of(0, &bytes).unwrap();
            assert_ne!(changed[0], known[0]);
            assert_eq!(changed[1..], known[1..]);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_ne!(Digests::new().unwrap().of(0, &bytes).unwrap()[0], known[0], "another scan");
        assert_eq!(Digests::with(digests.key().clone()).of(0, &bytes).unwrap(), known);
    }
}
