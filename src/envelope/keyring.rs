//! Master keys by fingerprint.
//!
//! Invariants:
//! * A key is 16, 24 or 32 bytes, lives in one heap allocation that is wiped when dropped, and cannot be cloned or printed.
//! * A key is found by exactly the text that the object's path carries: the 64 lower-case hex digits of the SHA-256 of
//!   its raw bytes. Upper case finds nothing (the reference CLI compares the same way).

use std::collections::BTreeMap;
use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::cipher::Aes;
use crate::err;
use crate::error::{Error, Kind, Result, escape};

/// One raw AES key, as Aptible hands them out (in base64).
pub struct MasterKey(Zeroizing<Box<[u8]>>);

impl MasterKey {
    /// 16, 24 or 32 bytes; another length is [`Kind::Config`].
    pub fn new(raw: &[u8]) -> Result<MasterKey> {
        match raw.len() {
            16 | 24 | 32 => Ok(MasterKey(Zeroizing::new(raw.into()))),
            n => Err(err!(Kind::Config, "an AES key has 16, 24 or 32 bytes, not {n}")),
        }
    }

    /// One key in standard, padded base64, ASCII white space around it allowed. [`Kind::Config`] for anything else; the
    /// message never quotes the text.
    pub fn from_b64(text: &str) -> Result<MasterKey> {
        /// 32 bytes in base64.
        const LONGEST: usize = 44;
        let text = text.trim_ascii();
        if text.len() > LONGEST {
            return Err(err!(Kind::Config, "too long: an AES key has at most {LONGEST} characters of base64"));
        }
        let mut raw = Zeroizing::new([0; 48]);
        // The decoder's own message quotes the offending character of the key: not passed on.
        let n = STANDARD
            .decode_slice(text, raw.as_mut_slice())
            .map_err(|_| err!(Kind::Config, "not base64 (standard alphabet, with its `=` padding)"))?;
        MasterKey::new(raw.get(..n).unwrap_or_default())
    }

    /// 64 lower-case hex digits: the path component that names this key. Not a secret.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&*self.0).iter().map(|b| format!("{b:02x}")).collect()
    }

    pub(super) fn aes(&self) -> Result<Aes> {
        Aes::new(&self.0).ok_or_else(|| err!(Kind::Internal, "a master key of {} bytes", self.0.len()))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({} bits)", self.0.len() * 8)
    }
}

/// All keys of a run.
#[derive(Default)]
pub struct Keyring(BTreeMap<String, MasterKey>);

impl Keyring {
    /// The same key twice is one key.
    pub fn insert(&mut self, key: MasterKey) {
        self.0.insert(key.fingerprint(), key);
    }

    /// [`MasterKey::from_b64`], kept. The caller adds where the text came from (file and line) to the error.
    pub fn insert_b64(&mut self, text: &str) -> Result<()> {
        self.insert(MasterKey::from_b64(text)?);
        Ok(())
    }

    /// `key_sum`: the fourth component of the object's path, as written there.
    pub fn get(&self, key_sum: &str) -> Option<&MasterKey> {
        self.0.get(key_sum)
    }

    /// [`Keyring::get`], or [`Kind::NoKey`] with the fingerprint that is wanted.
    pub fn require(&self, key_sum: &str) -> Result<&MasterKey> {
        self.get(key_sum).ok_or_else(|| no_key(key_sum, self.len()))
    }

    /// Of every key, in order.
    pub fn fingerprints(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The memory of each key, to have it locked.
    pub fn each_secret(&self, mut see: impl FnMut(&[u8])) {
        self.0.values().for_each(|key| see(&key.0));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn no_key(key_sum: &str, supplied: usize) -> Error {
    let sum = escape(key_sum.as_bytes());
    err!(Kind::NoKey, "none of the {supplied} supplied keys has the fingerprint (SHA-256) {sum}")
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fingerprints().map(|s| s.get(..8).unwrap_or(s))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: [u8; 32] = *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
    const SUM: &str = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd";

    #[test]
    fn a_key_is_found_by_exactly_its_fingerprint() {
        let mut ring = Keyring::default();
        assert!(ring.is_empty());
        ring.insert_b64(&format!(" \t{}\r\n", STANDARD.encode(RAW))).unwrap();
        ring.insert(MasterKey::new(&RAW).unwrap());
        ring.insert(MasterKey::new(&RAW[..16]).unwrap());
        assert_eq!(ring.len(), 2);
        assert_eq!(ring.fingerprints().count(), 2);
        assert_eq!(ring.get(SUM).unwrap().fingerprint(), SUM);
        let e = ring.require(&SUM.to_uppercase()).unwrap_err();
        assert_eq!(e.kind(), Kind::NoKey);
        assert!(e.message().contains("630DCD29"), "{e}");
        assert!(ring.get(&SUM[..63]).is_none() && ring.get("").is_none());
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_quoting_it() {
        let url_safe = STANDARD.encode([0xff; 32]).replace('/', "_");
        let unpadded = STANDARD.encode(RAW).replace('=', "");
        let split = STANDARD.encode(RAW).replacen("AAEC", "AA EC", 1);
        let hex = "00".repeat(32);
        let short = STANDARD.encode([7; 20]);
        for bad in ["", "=", "\u{e9}", &url_safe, &unpadded, &split, &hex, &short, &"A".repeat(1 << 20)] {
            let e = Keyring::default().insert_b64(bad).unwrap_err();
            assert_eq!(e.kind(), Kind::Config);
            assert!(bad.is_empty() || bad == "=" || !e.to_string().contains(bad));
            assert!(e.to_string().len() < 100);
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let mut ring = Keyring::default();
        ring.insert(MasterKey::new(&RAW).unwrap());
        assert_eq!(format!("{ring:?}"), "[\"630dcd29\"]");
        assert_eq!(format!("{:?}", ring.get(SUM)), "Some(MasterKey(256 bits))");
    }
}
