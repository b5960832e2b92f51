//! The writer: objects such as AWS's own clients write, for the demo, tests and benches. The program never uploads.
//!
//! Invariant: what is sealed here is byte for byte what the Ruby client (V1 to V3) or the old Java client (AESWrap) would
//! have written with the same random numbers; the worked example of FORMAT 4 is a test.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::cipher::{Aes, BLOCK, pad};
use super::keyring::MasterKey;
use super::open::{CEK_GCM, Derived, SUITE, SUITE_ID, V3_ID_LEN, V3_IV};
use crate::err;
use crate::error::{Kind, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealAs {
    /// AES-CBC, key wrapped by AES-ECB.
    V1,
    /// AES-GCM, key wrapped by AES-GCM.
    V2,
    /// AES-GCM with key commitment.
    V3,
    /// V2 with its key wrapped by RFC 3394.
    AesWrap,
}

impl SealAs {
    pub const ALL: [SealAs; 4] = [SealAs::V1, SealAs::V2, SealAs::V3, SealAs::AesWrap];
}

/// User metadata (names without `x-amz-meta-`) and body of an object that holds `gzip`.
///
/// `rng` fills its argument with random bytes: data key (32), then wrap IV (12, if the wrap has one), then content IV (16
/// or 12) or, for V3, message id (28). [`Kind::Invalid`] if `gzip` is longer than the cipher can take.
pub fn seal(
    kind: SealAs,
    master: &MasterKey,
    gzip: &[u8],
    rng: &mut dyn FnMut(&mut [u8]),
) -> Result<(BTreeMap<String, String>, Vec<u8>)> {
    let too_long = || err!(Kind::Invalid, "{} bytes are more than AES-GCM can encrypt", gzip.len());
    let master = master.aes()?;
    let mut data_key = Zeroizing::new([0; 32]);
    rng(data_key.as_mut_slice());
    let wrap_gcm = |iv: [u8; 12], aad: &str| {
        let mut wrapped = data_key.to_vec();
        let done = master.gcm_seal(iv, aad.as_bytes(), &mut wrapped);
        done.then(|| [iv.as_slice(), &wrapped].concat()).ok_or_else(too_long)
    };
    let aes = |key: &[u8]| Aes::new(key).ok_or_else(|| err!(Kind::Internal, "a content key of {} bytes", key.len()));
    // Room for the tag or the padding, so that nothing is copied again.
    let mut body = Vec::with_capacity(gzip.len() + BLOCK);
    body.extend_from_slice(gzip);

    let mut metadata = BTreeMap::new();
    let mut put = |name: &str, value: &str| {
        metadata.insert(name.to_owned(), value.to_owned());
    };
    if kind == SealAs::V3 {
        let wrapped = wrap_gcm(random(rng), SUITE)?;
        let message_id = random::<V3_ID_LEN>(rng);
        let derived = Derived::new(&data_key, &message_id)?;
        put("x-amz-3", &STANDARD.encode(wrapped));
        put("x-amz-c", SUITE);
        put("x-amz-d", &STANDARD.encode(derived.commitment));
        put("x-amz-i", &STANDARD.encode(message_id));
        put("x-amz-m", "{}");
        put("x-amz-w", "02");
        let done = aes(derived.content_key.as_slice())?.gcm_seal(V3_IV, &SUITE_ID, &mut body);
        return done.then_some((metadata, body)).ok_or_else(too_long);
    }
    put("x-amz-matdesc", "{}");
    put("x-amz-unencrypted-content-length", &gzip.len().to_string());
    if kind == SealAs::V1 {
        let mut wrapped = Vec::with_capacity(data_key.len() + BLOCK);
        wrapped.extend_from_slice(data_key.as_slice());
        pad(&mut wrapped);
        master.ecb_encrypt(&mut wrapped);
        let iv = random::<BLOCK>(rng);
        put("x-amz-key", &STANDARD.encode(wrapped));
        put("x-amz-iv", &STANDARD.encode(iv));
        pad(&mut body);
        aes(data_key.as_slice())?.cbc_encrypt(iv, &mut body);
        return Ok((metadata, body));
    }
    let (name, wrapped) = match kind {
        SealAs::AesWrap => ("AESWrap", master.wrap(data_key.as_slice()).ok_or_else(too_long)?),
        _ => ("AES/GCM", wrap_gcm(random(rng), CEK_GCM)?),
    };
    let iv = random::<12>(rng);
    put("x-amz-key-v2", &STANDARD.encode(wrapped));
    put("x-amz-iv", &STANDARD.encode(iv));
    put("x-amz-cek-alg", CEK_GCM);
    put("x-amz-tag-len", "128");
    put("x-amz-wrap-alg", name);
    let done = aes(data_key.as_slice())?.gcm_seal(iv, b"", &mut body);
    done.then_some((metadata, body)).ok_or_else(too_long)
}

fn random<const N: usize>(rng: &mut dyn FnMut(&mut [u8])) -> [u8; N] {
    let mut bytes = [0; N];
    rng(&mut bytes);
    bytes
}
