//! From an envelope and a master key to the content key.
//!
//! Invariants:
//! * An [`Envelope`] is one complete profile of one format, checked by `metadata` except for what only the master key
//!   can tell.
//! * The associated data of a key wrap is a constant of ours, never the metadata's text.
//! * The key commitment of V3 is compared, in constant time, before the content key exists.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha512;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::cipher::{Aes, BLOCK, padding};
use super::content::ContentKey;
use super::keyring::MasterKey;
use crate::err;
use crate::error::{Error, Kind, Result};

pub(super) const CEK_GCM: &str = "AES/GCM/NoPadding";
/// The algorithm suite 0x0073 as V3 metadata spells it; these characters are also the wrap's associated data.
pub(super) const SUITE: &str = "115";
/// The same suite as two bytes, in the key derivation and as associated data of the content.
pub(super) const SUITE_ID: [u8; 2] = [0x00, 0x73];
/// V3 draws a content key for one object only, so the IV is fixed.
pub(super) const V3_IV: [u8; 12] = [1; 12];
pub(super) const V3_ID_LEN: usize = 28;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// AES-CBC without authentication.
    V1,
    /// AES-GCM: what Aptible's archiver writes.
    V2,
    /// AES-GCM with key commitment.
    V3,
}

impl Version {
    /// `v1`, `v2` or `v3`.
    pub fn name(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
            Version::V3 => "v3",
        }
    }
}

/// How one object is encrypted. Holds the wrapped key only: no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(pub(super) Form);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Form {
    V1 { wrapped: Vec<u8>, iv: [u8; BLOCK] },
    V2 { wrap: Wrap, wrapped: Vec<u8>, iv: [u8; 12] },
    V3 { wrapped: Vec<u8>, message_id: [u8; V3_ID_LEN], commitment: [u8; V3_ID_LEN] },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrap {
    Gcm,
    /// RFC 3394, from old Java clients.
    Rfc3394,
}

impl Envelope {
    pub fn version(&self) -> Version {
        match self.0 {
            Form::V1 { .. } => Version::V1,
            Form::V2 { .. } => Version::V2,
            Form::V3 { .. } => Version::V3,
        }
    }

    /// False for V1: nothing can tell whether such an object was changed.
    pub fn is_authenticated(&self) -> bool {
        self.version() != Version::V1
    }

    /// The data key as it is stored. Drawn afresh for each object: two objects that share it are one under two names.
    pub fn wrapped(&self) -> &[u8] {
        match &self.0 {
            Form::V1 { wrapped, .. } | Form::V2 { wrapped, .. } | Form::V3 { wrapped, .. } => wrapped,
        }
    }

    /// Unwraps the data key (FORMAT 3). [`Kind::KeyUnwrap`]: a wrong master key or a damaged wrap;
    /// [`Kind::Commitment`]: V3 only; [`Kind::BadEnvelope`]: the unwrapped key has an impossible length.
    pub fn open(&self, master: &MasterKey) -> Result<ContentKey> {
        let master = master.aes()?;
        match &self.0 {
            Form::V1 { wrapped, iv } => {
                let key = unwrap_ecb(&master, wrapped).ok_or_else(unwrap_failed)?;
                ContentKey::cbc(&key, *iv).ok_or_else(unwrap_failed)
            }
            Form::V2 { wrap, wrapped, iv } => {
                let key = match wrap {
                    Wrap::Gcm => master.gcm_open(wrapped, CEK_GCM.as_bytes()),
                    Wrap::Rfc3394 => master.unwrap(wrapped),
                };
                let key = key.ok_or_else(unwrap_failed)?;
                ContentKey::gcm(&key, *iv, b"").ok_or_else(|| bad_length(key.len()))
            }
            Form::V3 { wrapped, message_id, commitment } => {
                let key = master.gcm_open(wrapped, SUITE.as_bytes()).ok_or_else(unwrap_failed)?;
                let key = <&[u8; 32]>::try_from(key.as_slice()).map_err(|_| bad_length(key.len()))?;
                let derived = Derived::new(key, message_id)?;
                if !bool::from(derived.commitment.ct_eq(commitment)) {
                    return Err(err!(Kind::Commitment, "the key commitment does not match (x-amz-d)"));
                }
                ContentKey::gcm(&*derived.content_key, V3_IV, &SUITE_ID).ok_or_else(|| bad_length(key.len()))
            }
        }
    }
}

/// What V3 derives from a data key (FORMAT 3).
pub(super) struct Derived {
    pub(super) commitment: [u8; V3_ID_LEN],
    pub(super) content_key: Zeroizing<[u8; 32]>,
}

impl Derived {
    pub(super) fn new(data_key: &[u8; 32], message_id: &[u8; V3_ID_LEN]) -> Result<Derived> {
        let hkdf = Hkdf::<Sha512>::new(Some(message_id), data_key);
        let mut out = Derived { commitment: [0; V3_ID_LEN], content_key: Zeroizing::new([0; 32]) };
        hkdf.expand_multi_info(&[&SUITE_ID, b"COMMITKEY"], &mut out.commitment)
            .and_then(|()| hkdf.expand_multi_info(&[&SUITE_ID, b"DERIVEKEY"], out.content_key.as_mut_slice()))
            .map_err(|_| err!(Kind::Internal, "key derivation"))?;
        Ok(out)
    }
}

/// ECB and PKCS#7, as V1 wraps. A wrong master key passes the padding once in 256, but not the length of the key.
fn unwrap_ecb(master: &Aes, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if wrapped.is_empty() || !wrapped.len().is_multiple_of(BLOCK) {
        return None;
    }
    let mut key = Zeroizing::new(wrapped.to_vec());
    master.ecb_decrypt(&mut key);
    let len = key.len() - padding(key.last_chunk()?)?;
    key.truncate(len);
    Some(key)
}

fn unwrap_failed() -> Error {
    err!(Kind::KeyUnwrap, "the data key does not unwrap: a wrong master key, or damaged metadata")
}

fn bad_length(len: usize) -> Error {
    err!(Kind::BadEnvelope, "the data key has {len} bytes: not an AES key of this envelope")
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({})", self.version().name())
    }
}
