//! FORMAT 4's worked example, which the Ruby SDK decrypts: every number of it, in both directions.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::open::Derived;
use super::*;
use crate::error::Kind;

const GZIP: &str = "1f8b0800000000000003013f00c0ff";
const LOG: &str = "{\"log\":\"hi\\n\",\"stream\":\"stdout\",\"time\":\"2022-08-24T21:12:33Z\"}\n";
const WRAPPED_TEXT: &str = "cafab9769f65a548543fd3005ea0ef6c1644bbbab05104ee9b98ba5740cfc937";
const WRAP_IV: &str = "606162636465666768696a6b";
const V2_BODY: &str = "61b7ac34c4d780aaa12bac85269d89ddb313ae601e8e044a66cea5dbff44dc8c6d305cd92493e109be86bc983a54b1dc\
                       023a1649d5bf925d415caa41bffed0f06c33e0bd9bed5aeb3770e97af25f06a64a56017d222e6c714fd8036b42ba3f738cf18ff3f786";
const V1_BODY: &str = "597fb32f7db7a9ba53077eef9450ee379721fc586f8cc7e6a615debf92a14d374d7d0f65d35c49febbd8355b731fbe83\
                       3ff2e8409b5999f0cc7cc90dc3d8af16c15d0c5404b14c1fb0393fd2ff0dce3f6dfd3d8103b0fb080ed548c08be6ad61";
const V1_KEY: &str = "61a6936e4e8f101c1cc1f993b542a0d4e2740e8afad4e4d15d0d661b382eca899f3b7504926f8bd36e3118e903a4cd4a";
const V3_BODY: &str = "0efec34d723c9e7b2b487dd339cbf8dd82eab71a557f10e74f0ef7ac667a3295c157796c7ccebd6d328377ac0c77cef7\
                       6be2829eb99fe1c0634da08cf6a9d07abf6f455079c5b8da4879262cc39b636b63911ef10dd15aca649648ec8fb40b90d4fe78705038";
const COMMITMENT: &str = "b8fe068b3b89d6f670f43c61fd4ef9ad71d200f1191bdfba81d37c72";
const AES_WRAP: &str = "04f8a3c3c302d3b0b7e94b14dcf85ad1da69cd74056ed7907d3cb49fb27799a4104db058f2901adb";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn gzip() -> Vec<u8> {
    [hex(GZIP), LOG.into(), hex("8fcc27fc3f000000")].concat()
}

fn sealed(kind: SealAs) -> (std::collections::BTreeMap<String, String>, Vec<u8>) {
    let starts: &[u8] = match kind {
        SealAs::V1 => &[0x20, 0xb0],
        SealAs::V2 => &[0x20, 0x60, 0xa0],
        SealAs::V3 => &[0x20, 0x60, 0xc0],
        SealAs::AesWrap => &[0x20, 0xa0],
    };
    let mut starts = starts.iter();
    let mut rng = |out: &mut [u8]| {
        let start = *starts.next().unwrap();
        out.iter_mut().zip(start..).for_each(|(b, n)| *b = n);
    };
    seal(kind, &master(), &gzip(), &mut rng).unwrap()
}

fn master() -> MasterKey {
    MasterKey::new(&(0..32).collect::<Vec<u8>>()).unwrap()
}

#[test]
fn the_writer_writes_the_example() {
    assert_eq!(gzip().len(), 86);
    let cases = [
        (SealAs::V1, "x-amz-key", V1_KEY.to_owned(), V1_BODY),
        (SealAs::V2, "x-amz-key-v2", format!("{WRAP_IV}{WRAPPED_TEXT}ba564ab89b91edcf3bb316d5bb05480d"), V2_BODY),
        (SealAs::V3, "x-amz-3", format!("{WRAP_IV}{WRAPPED_TEXT}c53adf0fb11fdbcf815060be990dac4d"), V3_BODY),
        (SealAs::AesWrap, "x-amz-key-v2", AES_WRAP.to_owned(), V2_BODY),
    ];
    for (kind, name, wrapped, body) in cases {
        let (metadata, sealed) = sealed(kind);
        assert_eq!(metadata[name], STANDARD.encode(hex(&wrapped)), "{kind:?}");
        assert_eq!(sealed, hex(body), "{kind:?}");
        assert_eq!(metadata.contains_key("x-amz-unencrypted-content-length"), kind != SealAs::V3);
    }
    assert_eq!(sealed(SealAs::V1).0["x-amz-iv"], "sLGys7S1tre4ubq7vL2+vw==");
    assert_eq!(sealed(SealAs::V2).0["x-amz-iv"], "oKGio6Slpqeoqaqr");
    let v3 = sealed(SealAs::V3).0;
    assert_eq!(v3["x-amz-i"], "wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna2w==");
    assert_eq!(v3["x-amz-d"], STANDARD.encode(hex(COMMITMENT)));
    assert_eq!((v3["x-amz-c"].as_str(), v3["x-amz-w"].as_str()), ("115", "02"));
}

#[test]
fn the_derived_keys_are_the_example_s() {
    let key: Vec<u8> = (0x20..0x40).collect();
    let id: Vec<u8> = (0xc0..0xdc).collect();
    let derived = Derived::new(&key.try_into().unwrap(), &id.try_into().unwrap()).unwrap();
    assert_eq!(derived.commitment.to_vec(), hex(COMMITMENT));
    let content_key = "3b9af6a0b01abb545719a74be63a60cf560eb0b40b7bb30234e1eddebebbad70";
    assert_eq!(derived.content_key.to_vec(), hex(content_key));
}

#[test]
fn the_reader_reads_the_example() {
    for kind in SealAs::ALL {
        let (metadata, body) = sealed(kind);
        let Found::Complete(envelope) = Found::from_metadata(&metadata).unwrap() else { panic!("{kind:?}") };
        let key = envelope.open(&master()).unwrap();
        let len = body.len() as u64;
        let tail = key.tail(len, &body[body.len() - 64..]).unwrap();
        assert_eq!(tail, Tail { plain_len: 86, trailer: Some(*hex("8fcc27fc3f000000").as_array().unwrap()) });
        let mut verifier = key.verifier(len).unwrap();
        verifier.update(&body);
        verifier.finish().unwrap();
        let mut buf = body.clone();
        buf.truncate(key.cover(0..86, len).end as usize);
        let range = key.decrypt(0..86, len, &mut buf).unwrap();
        assert_eq!(buf[range], gzip());
    }
}

#[test]
fn the_commitment_is_checked_and_other_masters_do_not_open() {
    let (mut v3, _) = sealed(SealAs::V3);
    v3.insert("x-amz-d".into(), STANDARD.encode([0; 28]));
    let Found::Complete(envelope) = Found::from_metadata(&v3).unwrap() else { panic!() };
    assert_eq!(envelope.open(&master()).unwrap_err().kind(), Kind::Commitment);
    for kind in SealAs::ALL {
        let Found::Complete(envelope) = Found::from_metadata(&sealed(kind).0).unwrap() else { panic!("{kind:?}") };
        // With V1 about one wrong key in 256 passes the padding; none may pass as a key.
        for n in 0..=255 {
            let other = MasterKey::new(&[n; 32]).unwrap();
            assert_eq!(envelope.open(&other).unwrap_err().kind(), Kind::KeyUnwrap, "{kind:?} {n}");
        }
    }
}
