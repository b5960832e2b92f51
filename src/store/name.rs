//! Object keys as paths in a sealed copy. Pure.
//!
//! A key is bytes; a path has rules. So every byte outside `A-Z a-z 0-9 _ -` becomes `%XX` (upper-case hex; the dot and
//! the slash too), and the result is cut into pieces of 200 characters, each but the last the name of a folder, marked
//! with a `+` at its end. A short key is thus one plain file name, and the longest (1,024 bytes, all escaped) is 16 deep.
//!
//! Why it is injective and safe: percent-encoding is, given that decoding accepts only what encoding makes; pieces are
//! joined back without doubt, as only the last is shorter than 200; `+` and `.` occur in no encoded key, so a folder's
//! name is never a file's, and `NAME.meta.json` and temporary names (`.tmp-…`) are never a key's. No piece is empty, `.`
//! or `..` or holds a slash, so that no key leaves the folder. Names have at most 210 bytes (255 are allowed).

use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::err;
use crate::error::{Kind, Result};

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');
const PIECE: usize = 200;
/// S3's own limit.
pub(super) const LONGEST_KEY: usize = 1024;
/// Added to the name of a body to make that of its metadata.
pub(super) const META: &str = ".meta.json";

pub(super) fn encode(key: &[u8]) -> String {
    percent_encode(key, ESCAPED).to_string()
}

/// Only what [`encode`] makes.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let key: Vec<u8> = percent_decode_str(text).collect();
    (encode(&key) == text).then_some(key)
}

/// The body's path below `objects`.
pub(super) fn path(key: &[u8]) -> Result<PathBuf> {
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(err!(Kind::Invalid, "an object key has 1 to {LONGEST_KEY} bytes, not {}", key.len()));
    }
    let text = encode(key);
    let mut rest = text.as_str();
    let mut path = PathBuf::new();
    // The encoding is ASCII, so any place is good for a cut.
    while rest.len() > PIECE {
        let (piece, tail) = rest.split_at(PIECE);
        path.push(format!("{piece}+"));
        rest = tail;
    }
    path.push(rest);
    Ok(path)
}

/// What a folder's name adds to the encoded key; `None` if it is no folder of ours.
pub(super) fn folder(name: &str) -> Option<&str> {
    name.strip_suffix('+').filter(|piece| piece.len() == PIECE && piece.is_ascii())
}

/// The key of the body `name` in the folders that add up to `above`.
pub(super) fn body(above: &str, name: &str) -> Option<Vec<u8>> {
    if name.len() > PIECE || above.len() + name.len() > 3 * LONGEST_KEY {
        return None;
    }
    decode(&format!("{above}{name}")).filter(|key| (1..=LONGEST_KEY).contains(&key.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn back(path: &std::path::Path) -> Option<Vec<u8>> {
        let mut pieces: Vec<_> = path.iter().map(|p| p.to_str().unwrap()).collect();
        let name = pieces.pop()?;
        let above = pieces.iter().map(|p| folder(p)).collect::<Option<String>>()?;
        body(&above, name)
    }

    #[test]
    fn examples() {
        let name = |key: &str| path(key.as_bytes()).unwrap().to_str().unwrap().to_owned();
        assert_eq!(name("a-b_c/D.json"), "a-b_c%2FD%2Ejson");
        assert_eq!(name(".."), "%2E%2E");
        assert_eq!(name("x.meta.json"), "x%2Emeta%2Ejson");
        assert_eq!(name(&"k".repeat(200)), "k".repeat(200));
        assert_eq!(name(&"k".repeat(201)), format!("{}+/k", "k".repeat(200)));
        assert_eq!(path(&[0xff; 1024]).unwrap().iter().count(), 16);
        for bad in [&b""[..], &[b'k'; 1025]] {
            assert_eq!(path(bad).unwrap_err().kind(), Kind::Invalid);
        }
    }

    #[test]
    fn only_the_one_spelling_is_a_key() {
        for text in ["%2e", "%41", "a%2", "a%", "a+", "a.b", "a/b", "ä", "%2E.meta.json", ""] {
            assert_eq!(body("", text), None, "{text}");
        }
        assert_eq!(body("", &"k".repeat(201)), None);
        for name in ["short+", "", "+"] {
            assert_eq!(folder(name), None);
        }
    }

    proptest! {
        #[test]
        fn a_path_is_one_key_and_stays_inside(key in vec(any::<u8>(), 1..=1024)) {
            let path = path(&key).unwrap();
            for piece in path.iter() {
                let piece = piece.to_str().unwrap();
                prop_assert!(piece.len() + META.len() <= 255);
                prop_assert!(piece.bytes().all(|b| b.is_ascii_alphanumeric() || b"%_-+".contains(&b)));
            }
            prop_assert_eq!(back(&path), Some(key));
        }

        #[test]
        fn a_name_is_one_path(name in "[a-zA-F0-9%_.+-]{1,240}") {
            if let Some(key) = body("", &name) {
                let path = path(&key).unwrap();
                prop_assert_eq!(path.to_str(), Some(name.as_str()));
            }
        }
    }
}
