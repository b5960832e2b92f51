//! Project Wycheproof's vectors, valid and malicious, against the ciphers as this program uses them: the tag in a stream and
//! the text from any offset; CBC block by block with its padding; key wrap. Below the public interface, as it fixes the
//! associated data and has no bare ciphers.

use wycheproof::{TestResult, aead, cipher, keywrap};

use super::cipher::Aes;
use super::content::ContentKey;
use crate::error::Kind;

/// The text of an object if the program would release it: its length fits, its tag holds (if there is one), and every
/// piece decrypts. Pieces of `step` bytes.
fn read(key: &ContentKey, object: &[u8], step: usize) -> Result<Vec<u8>, Kind> {
    let len = object.len() as u64;
    let kind = |e: crate::error::Error| e.kind();
    let mut verifier = key.verifier(len).map_err(kind)?;
    object.chunks(step).for_each(|piece| verifier.update(piece));
    verifier.finish().map_err(kind)?;
    let plain = key.plain_len(len, &object[object.len().saturating_sub(64)..]).map_err(kind)?;
    let mut text = Vec::new();
    for start in (0..plain).step_by(step) {
        let range = start..(start + step as u64).min(plain);
        let cover = key.cover(range.clone(), len);
        let mut buf = object[cover.start as usize..cover.end as usize].to_vec();
        let at = key.decrypt(range, len, &mut buf).map_err(kind)?;
        text.extend_from_slice(&buf[at]);
    }
    Ok(text)
}

#[test]
fn aes_gcm() {
    let (mut valid, mut invalid, mut other) = (0, 0, 0);
    for group in aead::TestSet::load(aead::TestName::AesGcm).unwrap().test_groups {
        for test in group.tests {
            // What no envelope can ask for: an IV of another length than 12 bytes, a tag shorter than 16.
            let Ok(iv) = <[u8; 12]>::try_from(&test.nonce[..]) else {
                other += 1;
                continue;
            };
            assert_eq!(test.tag.len(), 16, "all of them have it");
            let aad: &'static [u8] = test.aad.to_vec().leak();
            let key = ContentKey::gcm(&test.key, iv, aad).unwrap();
            let object = [&test.ct[..], &test.tag[..]].concat();
            let sealed = [&iv[..], &object].concat();
            let opened = Aes::new(&test.key).unwrap().gcm_open(&sealed, aad);
            match test.result {
                TestResult::Invalid => {
                    invalid += 1;
                    assert!(opened.is_none(), "{}", test.tc_id);
                }
                _ => {
                    valid += 1;
                    assert_eq!(&opened.unwrap()[..], &test.pt[..], "{}", test.tc_id);
                }
            }
            for step in [1, 7, 16, 1000] {
                let got = read(&key, &object, step);
                match test.result {
                    TestResult::Invalid => assert_eq!(got, Err(Kind::Tag), "{} by {step}", test.tc_id),
                    _ => assert_eq!(got.unwrap(), &test.pt[..], "{} by {step}", test.tc_id),
                }
            }
        }
    }
    assert_eq!((valid, invalid, other), (116, 81, 119));
}

#[test]
fn aes_cbc() {
    let (mut valid, mut invalid) = (0, 0);
    for group in cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap().test_groups {
        for test in group.tests {
            let iv = <[u8; 16]>::try_from(&test.nonce[..]).unwrap();
            let key = ContentKey::cbc(&test.key, iv).unwrap();
            for step in [1, 7, 16, 1000] {
                let got = read(&key, &test.ct, step);
                match test.result {
                    TestResult::Invalid => {
                        assert!(matches!(got, Err(Kind::Padding | Kind::Truncated)), "{}: {got:?}", test.tc_id);
                    }
                    _ => assert_eq!(got.unwrap(), &test.pt[..], "{} by {step}", test.tc_id),
                }
            }
            if test.result == TestResult::Invalid { invalid += 1 } else { valid += 1 }
        }
    }
    assert_eq!((valid, invalid), (72, 144));
}

#[test]
fn aes_key_wrap() {
    let (mut valid, mut invalid, mut short) = (0, 0, 0);
    for group in keywrap::TestSet::load(keywrap::TestName::AesKeyWrap).unwrap().test_groups {
        for test in group.tests {
            let aes = Aes::new(&test.key).unwrap();
            let got = aes.unwrap(&test.ct);
            if test.result != TestResult::Invalid && test.pt.len() < 16 {
                // RFC 3394 begins at two units.
                short += 1;
                assert!(got.is_none());
            } else if test.result == TestResult::Invalid {
                invalid += 1;
                assert!(got.is_none(), "{}: {}", test.tc_id, test.comment);
            } else {
                valid += 1;
                assert_eq!(&got.unwrap()[..], &test.pt[..], "{}", test.tc_id);
                assert_eq!(aes.wrap(&test.pt).unwrap(), &test.ct[..], "{}", test.tc_id);
            }
        }
    }
    assert_eq!((valid, invalid, short), (36, 126, 3));
}
