//! One line of the audit log: what it says, and how it hangs on the line before it.
//!
//! ```text
//! {"n":7,"time":"2022-08-24T21:12:33.123456Z","event":"open",…,"prev":"<64 hex>","hash":"<64 hex>"}
//! hash = SHA-256 of the line's bytes before `,"hash":"`     prev = hash of the line before; zeros in the first
//! ```
//!
//! Invariant: what [`parse`] lets through has the hash of its own bytes, to the last one: nothing in it was changed alone.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Of the format. A checker of another one would have to be told.
pub const VERSION: u32 = 1;

/// What the first line hangs on.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Bytes. A key has 1,024 at most, a reason 1,200 or so.
pub const LONGEST: usize = 64 << 10;

/// What the beginning of a line that was never finished is ended with: no line ends so.
pub const TORN: &[u8] = b"#torn\n";

/// What every line begins with.
pub const BEGIN: &[u8] = b"{\"n\":";

const HASH: &str = ",\"hash\":\"";

/// Who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
    /// The name of the program, escaped; empty if nobody could tell it any more.
    pub command: String,
}

/// Which version of which object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct What {
    pub key: String,
    pub etag: String,
    pub version_id: Option<String>,
}

/// The fields as docs/AUDIT.md explains them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Start {
        format: u32,
        program: String,
        source: String,
        mountpoint: String,
        uid: u32,
        pid: u32,
    },
    Open {
        #[serde(flatten)]
        who: Who,
        #[serde(flatten)]
        what: What,
        auth: &'static str,
        kept: bool,
    },
    Refused {
        #[serde(flatten)]
        who: Who,
        #[serde(flatten)]
        what: What,
        error: &'static str,
        reason: String,
    },
    Close {
        open: u64,
        #[serde(flatten)]
        who: Who,
        #[serde(flatten)]
        what: What,
        auth: &'static str,
        bytes: u64,
    },
    Torn {
        bytes: u64,
        sha256: String,
    },
    Rotated {},
    Continued {
        format: u32,
    },
    End {},
}

#[derive(Serialize)]
struct Line<'a> {
    n: u64,
    time: &'a str,
    #[serde(flatten)]
    event: &'a Event,
    prev: &'a str,
}

/// A line with its line feed, and its hash.
pub fn render(n: u64, time: &str, event: &Event, prev: &str) -> serde_json::Result<(String, String)> {
    let mut line = serde_json::to_string(&Line { n, time, event, prev })?;
    line.truncate(line.len().saturating_sub("}".len()));
    let hash = hex(&Sha256::digest(&line));
    line.push_str(&format!("{HASH}{hash}\"}}\n"));
    Ok((line, hash))
}

/// What a checker needs of a line, whatever its event.
#[derive(Debug, Deserialize)]
pub struct Fields {
    pub n: u64,
    pub time: String,
    pub event: String,
    pub prev: String,
    /// Of `torn` and of `close`.
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub sha256: String,
    #[serde(skip)]
    pub hash: String,
}

/// Takes a line, without its line feed, apart; or says what is wrong with it.
pub fn parse(line: &[u8]) -> Result<Fields, &'static str> {
    const ODD: &str = "it is no line of an audit log";
    let text = std::str::from_utf8(line).map_err(|_| ODD)?;
    let (body, hash) = text.rsplit_once(HASH).ok_or(ODD)?;
    let hash = hash.strip_suffix("\"}").ok_or(ODD)?;
    let mut fields: Fields = serde_json::from_str(text).map_err(|_| ODD)?;
    if hex(&Sha256::digest(body)) != hash {
        return Err("its hash is not the hash of what it says: it was changed");
    }
    hash.clone_into(&mut fields.hash);
    Ok(fields)
}

pub fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('?');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_its_hash_and_nothing_else() {
        let who = Who { uid: 1, gid: 2, pid: 3, command: "c\"},\"hash\":\"x".into() };
        let what = What { key: "a\u{e9}\"\n,\"hash\":\"x\"}".into(), etag: "e".into(), version_id: None };
        let open = Event::Open { who, what, auth: "proven", kept: true };
        let (line, hash) = render(7, "t", &open, GENESIS).unwrap();
        assert!(
            line.starts_with("{\"n\":7,\"time\":\"t\",\"event\":\"open\",\"uid\":1,\"gid\":2,\"pid\":3,\"command\":")
        );
        assert!(line.ends_with(&format!(",\"prev\":\"{GENESIS}\",\"hash\":\"{hash}\"}}\n")));
        let bytes = line.trim_end_matches('\n').as_bytes();
        let fields = parse(bytes).unwrap();
        assert_eq!((fields.n, &*fields.event, &*fields.prev, &*fields.hash), (7, "open", GENESIS, &*hash));
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(parse(&changed).is_err(), "byte {at}");
        }
    }
}
