//! Properties of envelopes and ciphers: what is sealed opens, every changed bit is noticed, no input panics, nothing
//! secret prints.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use logarchivefs::envelope::{
    ContentKey, Envelope, Found, Keyring, MAX_GCM_OBJECT, MasterKey, SealAs, TAG_LEN, Version, seal,
};
use logarchivefs::error::{Kind, Result};
use proptest::prelude::*;

type Metadata = BTreeMap<String, String>;

/// Random enough for a test, and the same every time.
fn rng(mut seed: u64) -> impl FnMut(&mut [u8]) {
    move |out| {
        for b in out {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *b = (seed >> 56) as u8;
        }
    }
}

fn master() -> MasterKey {
    MasterKey::new(&[0xa5; 32]).unwrap()
}

fn sealed(kind: SealAs, gzip: &[u8]) -> (Metadata, Vec<u8>) {
    seal(kind, &master(), gzip, &mut rng(7)).unwrap()
}

fn envelope(metadata: &Metadata) -> Result<Envelope> {
    match Found::from_metadata(metadata)? {
        Found::Complete(envelope) => Ok(envelope),
        Found::NeedsInstruction(partial) => partial.complete(None),
    }
}

fn open(metadata: &Metadata) -> Result<ContentKey> {
    envelope(metadata)?.open(&master())
}

fn verify(key: &ContentKey, body: &[u8]) -> Result<()> {
    let mut verifier = key.verifier(body.len() as u64)?;
    verifier.update(body);
    verifier.finish()
}

fn read(key: &ContentKey, body: &[u8], start: u64, end: u64) -> Result<Vec<u8>> {
    let len = body.len() as u64;
    let cover = key.cover(start..end, len);
    let mut buf = body[cover.start as usize..cover.end as usize].to_vec();
    let plain = key.decrypt(start..end, len, &mut buf)?;
    Ok(buf[plain].to_vec())
}

fn kinds() -> impl Strategy<Value = SealAs> {
    prop::sample::select(SealAs::ALL.to_vec())
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        kind in kinds(), gzip in bytes(3000), seed: u64,
        key_len in prop::sample::select(vec![16, 24, 32]), cuts in prop::collection::vec(0..3100u64, 2..8),
    ) {
        let master = MasterKey::new(&vec![seed as u8; key_len]).unwrap();
        let (metadata, body) = seal(kind, &master, &gzip, &mut rng(seed)).unwrap();
        let envelope = envelope(&metadata).unwrap();
        prop_assert_eq!(envelope.is_authenticated(), kind != SealAs::V1);
        prop_assert_eq!(envelope.version() == Version::V3, kind == SealAs::V3);
        let key = envelope.open(&master).unwrap();
        prop_assert_eq!(key.authenticated(), envelope.is_authenticated());
        verify(&key, &body).unwrap();

        let (len, suffix) = (body.len() as u64, &body[body.len().saturating_sub(64)..]);
        let tail = key.tail(len, suffix).unwrap();
        prop_assert_eq!(tail.plain_len, gzip.len() as u64);
        prop_assert_eq!(tail.trailer.as_ref(), gzip.last_chunk());
        prop_assert_eq!(&read(&key, &body, 0, u64::MAX).unwrap(), &gzip);
        for pair in cuts.windows(2) {
            let end = (pair[1] as usize).min(gzip.len());
            let want = gzip.get(pair[0] as usize..end).unwrap_or_default();
            prop_assert_eq!(read(&key, &body, pair[0], pair[1]).unwrap(), want);
        }

        // In order, as a scan does: whole blocks, the 16 bytes before each piece at hand.
        let mut text = body.clone();
        let text_len = if key.authenticated() { body.len() - TAG_LEN } else { body.len() };
        let mut at = 0;
        for piece in text[..text_len].chunks_mut(16 * (1 + seed as usize % 9)) {
            let before = body[..at].last_chunk().copied().unwrap_or_default();
            key.decrypt_at(at as u64, &before, piece).unwrap();
            at += piece.len();
        }
        prop_assert_eq!(&text[..gzip.len()], &gzip);
    }

    /// `seal` takes its tag from the aes-gcm crate, in one shot.
    #[test]
    fn how_an_object_is_cut_does_not_matter(
        kind in kinds(), gzip in bytes(2000), cuts in prop::collection::vec(0..70usize, 1..200), wrong in 0..3,
    ) {
        let (metadata, mut body) = sealed(kind, &gzip);
        let len = body.len() as u64;
        let key = open(&metadata).unwrap();
        let middle = body.len() / 2;
        body[middle] ^= u8::from(wrong == 1);
        let mut verifier = key.verifier(len).unwrap();
        let mut rest = &body[usize::from(wrong == 2)..];
        // Empty pieces too; the 1 makes a list of nothing but zeros end.
        for cut in cuts.iter().chain(&[1]).cycle() {
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            verifier.update(piece);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(verifier.seen(), len - u64::from(wrong == 2));
        let got = verifier.finish().map_err(|e| e.kind());
        let want = match wrong {
            1 if key.authenticated() => Err(Kind::Tag),
            2 => Err(Kind::Truncated),
            _ => Ok(()),
        };
        prop_assert_eq!(got, want);
    }

    #[test]
    fn no_metadata_panics(
        entries in prop::collection::vec((name(), value()), 0..12), body in bytes(40), instruction in bytes(200),
    ) {
        let found = Found::from_metadata(entries);
        let envelope = found.and_then(|f| match f {
            Found::Complete(envelope) => Ok(envelope),
            Found::NeedsInstruction(partial) => {
                let _ = partial.refused();
                partial.complete(Some(&instruction))
            }
        });
        if let Ok(key) = envelope.and_then(|e| e.open(&master())) {
            let _ = key.tail(body.len() as u64, &body);
        }
    }

    #[test]
    fn no_length_or_offset_panics(
        kind in kinds(), object_len: u64, start: u64, end: u64, suffix in bytes(80), piece in 0..70usize,
    ) {
        let key = open(&sealed(kind, b"x").0).unwrap();
        for object_len in [object_len, object_len % 100, MAX_GCM_OBJECT, MAX_GCM_OBJECT + 1, u64::MAX] {
            let _ = key.tail(object_len, &suffix);
            let cover = key.cover(start..end, object_len);
            prop_assert!(cover.start <= cover.end && cover.end <= object_len);
            let _ = key.decrypt(start..end, object_len, &mut vec![0; piece]);
            let _ = key.decrypt_at(start, &[0; 16], &mut vec![0; piece]);
            if let Ok(mut verifier) = key.verifier(object_len) {
                verifier.update(&suffix);
                let _ = verifier.finish();
            }
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    let known = "x-amz-(key|key-v2|iv|cek-alg|wrap-alg|tag-len|matdesc|unencrypted-content-length|3|w|c|d|i|m|t)";
    prop_oneof![9 => known, 1 => "[A-Za-z-]{0,20}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("AES/GCM".to_owned()),
        Just("AES/GCM/NoPadding".to_owned()),
        Just("128".to_owned()),
        Just("115".to_owned()),
        Just("02".to_owned()),
        prop::sample::select(vec![0, 11, 12, 16, 28, 32, 40, 48, 60, 64]).prop_map(|n| STANDARD.encode(vec![0x5a; n])),
        ".{0,30}",
    ]
}

#[test]
fn every_range_of_a_short_stream_is_read() {
    for kind in SealAs::ALL {
        for len in (0..50).chain([63, 64, 65]) {
            let gzip: Vec<u8> = (0..len).collect();
            let (metadata, body) = sealed(kind, &gzip);
            let key = open(&metadata).unwrap();
            let suffix = &body[body.len().saturating_sub(64)..];
            assert_eq!(key.plain_len(body.len() as u64, suffix).unwrap(), u64::from(len));
            for start in 0..70 {
                for end in 0..70 {
                    let want = gzip.get(start..end.min(gzip.len())).unwrap_or_default();
                    let got = read(&key, &body, start as u64, end as u64).unwrap();
                    assert_eq!(got, want, "{kind:?} {len} {start}..{end}");
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_an_authenticated_object_is_noticed() {
    let gzip: Vec<u8> = (0..77).collect();
    for kind in SealAs::ALL {
        let (metadata, body) = sealed(kind, &gzip);
        let key = open(&metadata).unwrap();
        for bit in 0..body.len() * 8 {
            let mut changed = body.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let got = verify(&key, &changed).map_err(|e| e.kind());
            assert_eq!(got, if key.authenticated() { Err(Kind::Tag) } else { Ok(()) }, "{kind:?} bit {bit}");
        }
        for (len, change) in [(body.len() - 1, 0), (body.len() + 1, 0), (body.len() + 16, 1)] {
            let mut other = body.clone();
            other.resize(len, change);
            let want = if key.authenticated() { Kind::Tag } else { Kind::Truncated };
            let got = verify(&key, &other).map_err(|e| e.kind());
            assert!(got == Err(want) || (!key.authenticated() && len % 16 == 0), "{kind:?} {len} {got:?}");
        }
    }
}

#[test]
fn every_flipped_bit_of_the_metadata_is_noticed() {
    for kind in [SealAs::V2, SealAs::V3, SealAs::AesWrap] {
        let (metadata, body) = sealed(kind, b"some gzip");
        for name in metadata.keys() {
            for bit in 0..metadata[name].len() * 8 {
                let mut text = metadata[name].clone().into_bytes();
                text[bit / 8] ^= 1 << (bit % 8);
                let Ok(text) = String::from_utf8(text) else { continue };
                let mut changed = metadata.clone();
                changed.insert(name.clone(), text.clone());
                let result = open(&changed).and_then(|key| verify(&key, &body));
                // The two that decide nothing.
                let idle = matches!(name.as_str(), "x-amz-matdesc" | "x-amz-m" | "x-amz-unencrypted-content-length");
                assert_eq!(result.is_ok(), idle, "{kind:?} {name} {text}");
            }
        }
    }
}

#[test]
fn an_envelope_is_of_one_format_and_complete() {
    let gcm = sealed(SealAs::V2, b"x").0;
    let cbc = sealed(SealAs::V1, b"x").0;
    let v3 = sealed(SealAs::V3, b"x").0;
    type Change<'a> = (&'a str, Option<&'a str>);
    let outcome = |base: &Metadata, changes: &[Change]| {
        let mut m = base.clone();
        for (name, value) in changes {
            match value {
                Some(v) => m.insert(name.to_string(), v.to_string()),
                None => m.remove(*name),
            };
        }
        open(&m).map_or_else(|e| e.kind().row().name, |_| "ok")
    };
    let b64_13 = STANDARD.encode([0; 13]);
    let doubled = format!("{0},{0}", gcm["x-amz-iv"]);
    let spaced = format!(" {}\r\n{} ", &gcm["x-amz-iv"][..4], &gcm["x-amz-iv"][4..]);
    let huge = "A".repeat(9000);
    let padded = format!("{}{}", gcm["x-amz-iv"], " ".repeat(8193));
    let cases: &[(&Metadata, &[Change], &str)] = &[
        // Mixed formats.
        (&gcm, &[("x-amz-key", Some(&cbc["x-amz-key"]))], "bad-envelope"),
        (&cbc, &[("x-amz-key-v2", Some("AAAA"))], "bad-envelope"),
        (&cbc, &[("x-amz-wrap-alg", Some("AES/GCM"))], "bad-envelope"),
        (&cbc, &[("x-amz-tag-len", Some("128"))], "bad-envelope"),
        (&cbc, &[("x-amz-cek-alg", Some("AES/GCM/NoPadding"))], "bad-envelope"),
        (&cbc, &[("x-amz-cek-alg", Some("AES/CBC/PKCS5Padding"))], "ok"),
        (&gcm, &[("x-amz-3", Some("AAAA"))], "bad-envelope"),
        (&v3, &[("x-amz-iv", Some(&gcm["x-amz-iv"]))], "bad-envelope"),
        (&v3, &[("x-amz-key-v2", Some("AAAA"))], "bad-envelope"),
        (&v3, &[("x-amz-tag-len", Some("128"))], "bad-envelope"),
        // Names in another case, and twice.
        (&gcm, &[("X-Amz-Iv", Some(&gcm["x-amz-iv"])), ("x-amz-iv", None)], "ok"),
        (&gcm, &[("X-Amz-Iv", Some(&gcm["x-amz-iv"]))], "bad-envelope"),
        // Missing.
        (&gcm, &[("x-amz-key-v2", None)], "no-envelope"),
        (&gcm, &[("x-amz-cek-alg", None)], "bad-envelope"),
        (&gcm, &[("x-amz-wrap-alg", None)], "bad-envelope"),
        (&gcm, &[("x-amz-tag-len", None)], "bad-envelope"),
        (&cbc, &[("x-amz-iv", None)], "bad-envelope"),
        (&v3, &[("x-amz-i", None)], "bad-envelope"),
        (&v3, &[("x-amz-d", None)], "bad-envelope"),
        (&v3, &[("x-amz-c", None)], "bad-envelope"),
        (&v3, &[("x-amz-w", None)], "bad-envelope"),
        (&v3, &[("x-amz-3", None)], "no-envelope"),
        (&v3, &[("x-amz-m", None)], "ok"),
        // Not exactly what it should be.
        (&gcm, &[("x-amz-tag-len", Some("128; DROP"))], "bad-envelope"),
        (&gcm, &[("x-amz-tag-len", Some("0128"))], "bad-envelope"),
        (&gcm, &[("x-amz-cek-alg", Some("aes/gcm/nopadding"))], "unsupported-cek"),
        (&gcm, &[("x-amz-cek-alg", Some("AES/CBC/PKCS5Padding"))], "unsupported-cek"),
        (&gcm, &[("x-amz-wrap-alg", Some("AES/GCM "))], "unsupported-wrap"),
        (&gcm, &[("x-amz-wrap-alg", Some("AESWrap"))], "key-unwrap-failed"),
        (&gcm, &[("x-amz-iv", Some(&b64_13))], "bad-envelope"),
        (&gcm, &[("x-amz-iv", Some(&doubled))], "bad-envelope"),
        (&gcm, &[("x-amz-iv", Some(&spaced))], "ok"),
        (&gcm, &[("x-amz-iv", Some(&padded))], "bad-envelope"),
        (&gcm, &[("x-amz-key-v2", Some("AAAA"))], "key-unwrap-failed"),
        (&gcm, &[("x-amz-key-v2", Some(""))], "key-unwrap-failed"),
        (&cbc, &[("x-amz-key", Some(&huge[..88]))], "unsupported-wrap"),
        (&cbc, &[("x-amz-key", Some("AAAA"))], "key-unwrap-failed"),
        (&v3, &[("x-amz-c", Some("114"))], "unsupported-cek"),
        (&v3, &[("x-amz-w", Some("22"))], "unsupported-wrap"),
        (&v3, &[("x-amz-i", Some("AAAA"))], "bad-envelope"),
        // Decides nothing.
        (&gcm, &[("x-amz-unencrypted-content-length", Some("-1")), ("anything", Some(&huge))], "ok"),
    ];
    for (n, (base, changes, want)) in cases.iter().enumerate() {
        assert_eq!(outcome(base, changes), *want, "case {n}: {changes:?}");
    }
}

/// Whatever is done to any field that decides something, the object is refused, and never in favour of a weaker format.
#[test]
fn each_field_is_needed_once_and_as_it_is() {
    for kind in SealAs::ALL {
        let whole = sealed(kind, b"x").0;
        let decides =
            whole.iter().filter(|(name, _)| !["x-amz-matdesc", "x-amz-m", "x-amz-t"].contains(&name.as_str()));
        let decides: Vec<_> = decides.filter(|(name, _)| !name.ends_with("content-length")).collect();
        assert!(decides.len() >= 2, "{kind:?}: {whole:?}");
        for (name, value) in decides {
            // A CBC object need not name its cipher: no other could be meant.
            let may_lack = kind == SealAs::V1 && name == "x-amz-cek-alg";
            let with = |name: &str, value: &str| {
                let mut metadata = whole.clone();
                metadata.insert(name.to_owned(), value.to_owned());
                metadata
            };
            let mut without = whole.clone();
            without.remove(name);
            let harmed = [
                ("missing", without, may_lack),
                ("empty", with(name, ""), false),
                ("twice", with(&name.to_ascii_uppercase(), value), false),
                ("too long", with(name, &value.repeat(9000)), false),
                ("longer", with(name, &format!("{value}{value}")), false),
                ("a list", with(name, &format!("{value},{value}")), false),
                ("with a tail", with(name, &format!("{value}; DROP")), false),
            ];
            for (what, metadata, fine) in harmed {
                let opened = open(&metadata);
                assert_eq!(opened.is_ok(), fine, "{kind:?}, {name} {what}");
                let kind_of = opened.err().map(|e| e.kind());
                assert!(kind_of.is_none_or(|k| k.is_verdict()), "{kind:?}, {name} {what}: {kind_of:?}");
            }
        }
    }
}

#[test]
fn an_instruction_file_is_one_json_object_with_each_name_once() {
    let complete = |metadata: &Metadata, file: &str| {
        let Ok(Found::NeedsInstruction(partial)) = Found::from_metadata(metadata) else { panic!() };
        let opened = partial.complete(Some(file.as_bytes())).and_then(|e| e.open(&master()));
        opened.map_or_else(|e| e.kind().row().name, |_| "ok")
    };
    let none = Metadata::new();
    let gcm = sealed(SealAs::V2, b"x").0;
    let file = serde_json::to_string(&gcm).unwrap();
    assert_eq!(complete(&none, &file), "ok");
    assert_eq!(complete(&none, &file.replace("\"128\"", "128")), "ok");
    assert_eq!(complete(&none, &file.replace("{\"", "{ \"more\": [null, {}],\n\"")), "ok");
    assert_eq!(complete(&none, &file.replace("\"128\"", "[128]")), "bad-envelope");
    assert_eq!(complete(&none, &file.replacen('{', "{\"x-amz-iv\":\"AAAA\",", 1)), "bad-envelope");
    assert_eq!(complete(&none, &(file.clone() + &" ".repeat(70_000))), "bad-envelope");
    for bad in ["", "{", "[]", "null", "{}", "\u{0}", "{\"a\":1}", &(file.clone() + "x"), &"[".repeat(60_000)] {
        assert_eq!(complete(&none, bad), "no-envelope", "{bad:.20}");
    }

    let mut object = sealed(SealAs::V3, b"x").0;
    let mut whole = object.clone();
    assert_eq!(complete(&none, &serde_json::to_string(&whole).unwrap()), "no-envelope");
    whole.insert("x-amz-key-v2".into(), "AAAA".into());
    assert_eq!(complete(&none, &serde_json::to_string(&whole).unwrap()), "bad-envelope");
    let file: Metadata = ["x-amz-3", "x-amz-w"].map(|n| object.remove_entry(n).unwrap()).into();
    let with = |name: &str, value: &str| {
        let mut file = file.clone();
        file.insert(name.to_owned(), value.to_owned());
        serde_json::to_string(&file).unwrap()
    };
    assert_eq!(complete(&object, &with("x-amz-m", "{}")), "ok");
    for name in ["x-amz-c", "x-amz-d", "x-amz-i", "x-amz-iv", "x-amz-key"] {
        assert_eq!(complete(&object, &with(name, "AAAA")), "bad-envelope", "{name}");
    }
    assert_eq!(complete(&object, "{}"), "bad-envelope");
    object.insert("x-amz-w".into(), "02".into());
    assert_eq!(complete(&object, &with("x-amz-m", "{}")), "bad-envelope");
}

#[test]
fn lengths_that_no_writer_makes_are_truncated() {
    let gcm = open(&sealed(SealAs::V2, b"x").0).unwrap();
    let cbc = open(&sealed(SealAs::V1, b"x").0).unwrap();
    let len = |key: &ContentKey, n: u64| key.plain_len(n, &[0; 64]).map_err(|e| e.kind());
    assert_eq!(len(&gcm, 15), Err(Kind::Truncated));
    assert_eq!(len(&gcm, 16), Ok(0));
    assert_eq!(len(&gcm, MAX_GCM_OBJECT), Ok((1 << 36) - 32));
    assert_eq!(len(&gcm, MAX_GCM_OBJECT + 1), Err(Kind::Truncated));
    for n in [0, 1, 15, 17, u64::MAX] {
        assert_eq!(len(&cbc, n), Err(Kind::Truncated));
    }
    assert_eq!(len(&cbc, 64), Err(Kind::Padding));
    // The last byte that GCM can have: the counter is all ones there, and does not wrap.
    let mut last = [0; 16];
    gcm.decrypt_at((1 << 36) - 48, &[0; 16], &mut last).unwrap();
    assert_eq!(gcm.decrypt_at((1 << 36) - 47, &[0; 16], &mut last).unwrap_err().kind(), Kind::Internal);
}

#[test]
fn debug_shows_nothing_secret() {
    let raw: Vec<u8> = (101..133).collect();
    let master = MasterKey::new(&raw).unwrap();
    let mut ring = Keyring::default();
    ring.insert(MasterKey::new(&raw).unwrap());
    let mut drawn = Vec::new();
    let mut inner = rng(3);
    let mut spy = |out: &mut [u8]| {
        inner(out);
        drawn.push(out.to_vec());
    };
    let mut shown = format!("{master:?} {master:#?} {ring:?} {ring:#?}");
    for kind in SealAs::ALL {
        let (metadata, body) = seal(kind, &master, b"gzip", &mut spy).unwrap();
        let found = Found::from_metadata(&metadata);
        let key = envelope(&metadata).unwrap().open(&master).unwrap();
        let verifier = key.verifier(body.len() as u64).unwrap();
        shown += &format!("{found:?} {found:#?} {key:?} {key:#?} {verifier:?} {verifier:#?}");
    }
    assert!(shown.contains("MasterKey(256 bits)") && shown.contains("ContentKey(AES-256-GCM)"), "{shown}");
    // No three bytes of a key (or of anything else that was drawn) in a row, in any spelling.
    assert_eq!(drawn.len(), 2 + 3 + 3 + 2);
    for window in raw.windows(3).chain(drawn.iter().flat_map(|d| d.windows(3))) {
        let hex: String = window.iter().map(|b| format!("{b:02x}")).collect();
        let list = format!("{}, {}, {}", window[0], window[1], window[2]);
        for spelling in [hex, list, STANDARD.encode(window)] {
            assert!(!shown.contains(&spelling), "{spelling} in {shown}");
        }
    }
}

#[test]
fn keys_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<ContentKey>();
    shared::<Keyring>();
    shared::<Envelope>();
    shared::<logarchivefs::envelope::Verifier>();
}
