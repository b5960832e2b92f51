//! AES with a key of any of its three lengths, in the five ways that envelopes use it.
//!
//! Invariant: a length that a mode cannot take is a `false` or `None`, never a panic. The crates' key schedules wipe
//! themselves when dropped.

use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit,
    StreamCipher, StreamCipherCoreWrapper, StreamCipherSeek, common::InnerInit, consts::U12,
};
use aes_gcm::{AesGcm, aead::AeadInOut};
use zeroize::Zeroizing;

pub(super) const BLOCK: usize = 16;
pub(super) type Block = [u8; BLOCK];

pub(super) enum Aes {
    A128(aes::Aes128),
    A192(aes::Aes192),
    A256(aes::Aes256),
}

/// A key that is not expanded yet. Wiped when dropped.
pub(super) enum Key {
    K128(Zeroizing<[u8; 16]>),
    K192(Zeroizing<[u8; 24]>),
    K256(Zeroizing<[u8; 32]>),
}

impl Key {
    /// `None` unless it has 16, 24 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<Key> {
        match key.len() {
            16 => key.try_into().ok().map(|key| Key::K128(Zeroizing::new(key))),
            24 => key.try_into().ok().map(|key| Key::K192(Zeroizing::new(key))),
            _ => key.try_into().ok().map(|key| Key::K256(Zeroizing::new(key))),
        }
    }

    pub(super) fn bits(&self) -> u32 {
        match self {
            Key::K128(_) => 128,
            Key::K192(_) => 192,
            Key::K256(_) => 256,
        }
    }

    pub(super) fn aes(&self) -> Aes {
        match self {
            Key::K128(key) => Aes::A128(aes::Aes128::new((&**key).into())),
            Key::K192(key) => Aes::A192(aes::Aes192::new((&**key).into())),
            Key::K256(key) => Aes::A256(aes::Aes256::new((&**key).into())),
        }
    }
}

/// The same expression for each key length.
macro_rules! each {
    ($aes:expr, $c:ident => $do:expr) => {
        match $aes {
            Aes::A128($c) => $do,
            Aes::A192($c) => $do,
            Aes::A256($c) => $do,
        }
    };
}

impl Aes {
    /// `None` unless the key has 16, 24 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<Aes> {
        Key::new(key).map(|key| key.aes())
    }

    pub(super) fn encrypt_block(&self, block: Block) -> Block {
        let mut block = Array(block);
        each!(self, c => c.encrypt_block(&mut block));
        block.0
    }

    /// ECB over whole blocks; a partial block at the end is left alone.
    pub(super) fn ecb_encrypt(&self, buf: &mut [u8]) {
        let (blocks, _) = Array::slice_as_chunks_mut(buf);
        each!(self, c => c.encrypt_blocks(blocks));
    }

    /// See [`Aes::ecb_encrypt`].
    pub(super) fn ecb_decrypt(&self, buf: &mut [u8]) {
        let (blocks, _) = Array::slice_as_chunks_mut(buf);
        each!(self, c => c.decrypt_blocks(blocks));
    }

    /// CTR from the counter block `first`, whose low 32 bits count, passing over the first `skip` (below 16) bytes of
    /// its keystream. False if the counter would come round again.
    #[must_use]
    pub(super) fn ctr(&self, first: Block, skip: u32, buf: &mut [u8]) -> bool {
        each!(self, c => {
            let core = ctr::CtrCore::<_, ctr::flavors::Ctr32BE>::inner_iv_init(c, &Array(first));
            let mut stream = StreamCipherCoreWrapper::from_core(core);
            stream.try_seek(skip).is_ok() && stream.try_apply_keystream(buf).is_ok()
        })
    }

    /// CBC over whole blocks, `before` being the ciphertext block (or the IV) ahead of them.
    pub(super) fn cbc_decrypt(&self, before: Block, buf: &mut [u8]) {
        let (blocks, _) = Array::slice_as_chunks_mut(buf);
        each!(self, c => cbc::Decryptor::inner_iv_init(c, &Array(before)).decrypt_blocks(blocks));
    }

    /// See [`Aes::cbc_decrypt`].
    pub(super) fn cbc_encrypt(&self, iv: Block, buf: &mut [u8]) {
        let (blocks, _) = Array::slice_as_chunks_mut(buf);
        each!(self, c => cbc::Encryptor::inner_iv_init(c, &Array(iv)).encrypt_blocks(blocks));
    }

    /// Encrypts in place and appends the 16-byte tag; false if GCM cannot take that much.
    #[must_use]
    pub(super) fn gcm_seal(&self, iv: [u8; 12], aad: &[u8], buf: &mut Vec<u8>) -> bool {
        let tag = each!(self, c => {
            AesGcm::<_, U12>::from(c.clone()).encrypt_inout_detached(&Array(iv), aad, buf.as_mut_slice().into())
        });
        tag.map(|tag| buf.extend_from_slice(&tag)).is_ok()
    }

    /// The plaintext of `iv || ciphertext || tag`, or `None` if it is too short or does not authenticate.
    pub(super) fn gcm_open(&self, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (iv, rest) = sealed.split_first_chunk::<12>()?;
        let (text, tag) = rest.split_last_chunk::<16>()?;
        let mut out = Zeroizing::new(text.to_vec());
        let opened = each!(self, c => {
            let gcm = AesGcm::<_, U12>::from(c.clone());
            gcm.decrypt_inout_detached(&Array(*iv), aad, out.as_mut_slice().into(), &Array(*tag))
        });
        opened.ok().map(|()| out)
    }

    /// RFC 3394; `None` unless the key is whole 8-byte units.
    pub(super) fn wrap(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; key.len() + aes_kw::IV_LEN];
        each!(self, c => aes_kw::AesKw::inner_init(c).wrap_key(key, &mut out).is_ok()).then_some(out)
    }

    /// RFC 3394; `None` if the length is impossible (a key has two units at least) or the integrity check fails.
    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let len = wrapped.len().checked_sub(aes_kw::IV_LEN).filter(|len| *len >= BLOCK)?;
        let mut out = Zeroizing::new(vec![0; len]);
        each!(self, c => aes_kw::AesKw::inner_init(c).unwrap_key(wrapped, &mut out).is_ok()).then_some(out)
    }
}

/// Appends PKCS#7 padding: 1 to 16 bytes, each holding their number.
pub(super) fn pad(buf: &mut Vec<u8>) {
    let n = BLOCK - buf.len() % BLOCK;
    buf.resize(buf.len() + n, n as u8);
}

/// The number of PKCS#7 padding bytes at the end of `last`, without a branch on their values; `None` if malformed.
pub(super) fn padding(last: &Block) -> Option<usize> {
    use subtle::{Choice, ConstantTimeEq, ConstantTimeGreater};
    let n = last[BLOCK - 1];
    let mut bad = n.ct_eq(&0) | n.ct_gt(&(BLOCK as u8));
    for (i, b) in last.iter().rev().enumerate() {
        let inside: Choice = n.ct_gt(&(i as u8));
        bad |= inside & !b.ct_eq(&n);
    }
    (!bool::from(bad)).then_some(usize::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_all_or_nothing() {
        for n in 1..=16u8 {
            let mut last = [0xee; 16];
            last[16 - usize::from(n)..].fill(n);
            assert_eq!(padding(&last), Some(usize::from(n)));
            if n > 1 {
                last[16 - usize::from(n)] ^= 0x80;
                assert_eq!(padding(&last), None, "{n}");
            }
        }
        for n in [0, 17, 0xff] {
            assert_eq!(padding(&[n; 16]), None);
        }
        for len in 0..40 {
            let mut buf = vec![7; len];
            pad(&mut buf);
            assert!(buf.len() % 16 == 0 && buf.len() > len);
            assert_eq!(padding(buf.last_chunk().unwrap()), Some(buf.len() - len));
        }
    }

    /// Holds only with the `zeroize` feature of the crates.
    #[test]
    fn key_schedules_wipe_themselves() {
        fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        wiped::<aes::Aes128>();
        wiped::<aes::Aes192>();
        wiped::<aes::Aes256>();
        wiped::<AesGcm<aes::Aes256, U12>>();
    }

    #[test]
    fn lengths_that_fit_no_mode_are_refused() {
        for len in 0..40 {
            assert_eq!(Aes::new(&vec![1; len]).is_some(), matches!(len, 16 | 24 | 32));
        }
        let aes = Aes::new(&[1; 32]).unwrap();
        for len in 0..70 {
            assert!(aes.gcm_open(&vec![0; len], b"").is_none());
            assert!(aes.unwrap(&vec![0; len]).is_none());
        }
        for len in [16, 24, 32] {
            let key = vec![9; len];
            assert_eq!(**aes.unwrap(&aes.wrap(&key).unwrap()).unwrap(), key);
        }
        assert!(aes.wrap(&[0; 15]).is_none());
        // The last counter value is usable once.
        let mut last = [0; 16];
        last[12..].fill(0xff);
        assert!(aes.ctr(last, 0, &mut [0; 16]));
    }
}
