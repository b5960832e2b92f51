//! Digests of ciphertext chunks: what a range that is fetched again is compared with.
//!
//! GMAC (AES-256-GCM over associated data alone, NIST SP 800-38D) under a key that each scan draws for itself, with the
//! chunk's number as the nonce. Key and digests leave the process only sealed, in a proof (see `proof`): whoever can write
//! to the store knows neither, so all that is left is to guess 128 bits; and it costs an eighth of SHA-256, which is what a
//! random read waits for.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

use super::scan::CHUNK;
use crate::err;
use crate::error::{Kind, Result};

pub type Digest = [u8; 16];

pub type DigestKey = Zeroizing<[u8; 32]>;

pub struct Digests {
    gmac: Aes256Gcm,
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
        Digests { gmac: Aes256Gcm::new((&*key).into()), key }
    }

    pub fn key(&self) -> &DigestKey {
        &self.key
    }

    /// The digest of each chunk of `bytes`, the first of them being chunk number `first` of the object.
    pub fn of(&self, first: u64, bytes: &[u8]) -> Result<Vec<Digest>> {
        bytes.chunks(CHUNK as usize).zip(first..).map(|(chunk, n)| self.chunk(n, chunk)).collect()
    }

    fn chunk(&self, n: u64, chunk: &[u8]) -> Result<Digest> {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&n.to_be_bytes());
        let tag = self.gmac.encrypt(&Nonce::from(nonce), Payload { msg: &[], aad: chunk });
        let tag = tag.ok().and_then(|tag| tag.try_into().ok());
        tag.ok_or_else(|| err!(Kind::Internal, "a chunk of {} bytes has no digest", chunk.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
