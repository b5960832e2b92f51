//! Finding the envelope in user metadata, or in an instruction file (FORMAT 2).
//!
//! Invariants:
//! * An object is described by exactly one format. Names of two formats together, a name given twice and a value that is
//!   not what its format says are [`Kind::BadEnvelope`]: there is no second guess, and so no downgrade.
//! * Names that are not part of an envelope are ignored. `x-amz-unencrypted-content-length` and the descriptions
//!   (`x-amz-matdesc`, `x-amz-m`, `x-amz-t`) decide nothing.
//! * Base64 is standard, padded and canonical; only ASCII white space in it is passed over.

use std::collections::BTreeMap;
use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::open::{CEK_GCM, Envelope, Form, SUITE, Wrap};
use crate::err;
use crate::error::{Error, Kind, Result, escape};

/// S3 takes 2 KB of user metadata; other stores a little more.
const MAX_VALUE: usize = 8 << 10;
const MAX_INSTRUCTION: usize = 64 << 10;

const KEY: &str = "x-amz-key";
const KEY_V2: &str = "x-amz-key-v2";
const IV: &str = "x-amz-iv";
const CEK: &str = "x-amz-cek-alg";
const WRAP: &str = "x-amz-wrap-alg";
const TAG_LEN: &str = "x-amz-tag-len";
const LENGTH_HINT: &str = "x-amz-unencrypted-content-length";
const V3_KEY: &str = "x-amz-3";
const V3_WRAP: &str = "x-amz-w";
const V3_SUITE: &str = "x-amz-c";
const V3_COMMITMENT: &str = "x-amz-d";
const V3_MESSAGE_ID: &str = "x-amz-i";

/// Every name that decides something, and the length hint.
const NAMES: [&str; 12] =
    [KEY, KEY_V2, IV, CEK, WRAP, TAG_LEN, LENGTH_HINT, V3_KEY, V3_WRAP, V3_SUITE, V3_COMMITMENT, V3_MESSAGE_ID];
/// What V3 keeps on the object even when the rest is in an instruction file.
const V3_CONTENT: [&str; 3] = [V3_SUITE, V3_COMMITMENT, V3_MESSAGE_ID];
/// What V3 never has beside it.
const V1_V2: [&str; 6] = [KEY, KEY_V2, IV, CEK, WRAP, TAG_LEN];

/// What an object's user metadata says about its envelope.
#[derive(Debug)]
pub enum Found {
    Complete(Envelope),
    /// The rest, or all of it, can only be in the object `<key>.instruction`.
    NeedsInstruction(Partial),
}

impl Found {
    /// `metadata`: the names without their `x-amz-meta-` prefix, in any case.
    ///
    /// [`Kind::BadEnvelope`], [`Kind::UnsupportedWrap`] and [`Kind::UnsupportedContent`] are verdicts on the object.
    pub fn from_metadata<N, V>(metadata: impl IntoIterator<Item = (N, V)>) -> Result<Found>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut fields = Fields::default();
        for (name, value) in metadata {
            fields.insert(name.as_ref(), value.as_ref())?;
        }
        let v3 = fields.any(&V3_CONTENT);
        if v3 {
            for name in V3_CONTENT {
                fields.need(name)?;
            }
            fields.none_of(&V1_V2)?;
        }
        let complete = if v3 { fields.any(&[V3_KEY]) } else { fields.any(&[KEY, KEY_V2]) };
        if complete { fields.envelope().map(Found::Complete) } else { Ok(Found::NeedsInstruction(Partial(fields))) }
    }
}

/// An object whose metadata holds no wrapped key.
#[derive(Debug)]
pub struct Partial(Fields);

impl Partial {
    /// Completes the envelope from the body of `<key>.instruction`; `None` if there is no such object.
    ///
    /// [`Kind::NoEnvelope`]: absent, no JSON object, or without a wrapped key; else as [`Found::from_metadata`]. Nothing
    /// binds an instruction file to the object that it claims to describe: call this only where the user allowed it.
    pub fn complete(self, instruction: Option<&[u8]>) -> Result<Envelope> {
        let body = instruction.ok_or_else(|| no_envelope("neither the metadata nor an instruction file has one"))?;
        if body.len() > MAX_INSTRUCTION {
            return Err(err!(Kind::BadEnvelope, "an instruction file of {} bytes", body.len()));
        }
        let Ok(Members(members)) = serde_json::from_slice(body) else {
            return Err(no_envelope("the instruction file is not a JSON object"));
        };
        let mut file = Fields::default();
        for (name, value) in &members {
            match value {
                Value::String(s) => file.insert(name, s)?,
                Value::Number(n) => file.insert(name, &n.to_string())?,
                _ if NAMES.contains(&name.as_str()) => {
                    return Err(err!(Kind::BadEnvelope, "{name} in the instruction file is neither text nor a number"));
                }
                _ => {}
            }
        }
        if !self.0.any(&V3_CONTENT) {
            // V1 and V2 put the whole envelope into the file.
            return if file.any(&[KEY, KEY_V2]) {
                file.envelope()
            } else {
                Err(no_envelope("neither the metadata nor the instruction file holds a wrapped key"))
            };
        }
        file.none_of(&V1_V2)?;
        file.none_of(&V3_CONTENT)?;
        let mut fields = self.0;
        for name in [V3_KEY, V3_WRAP] {
            fields.insert(name, file.need(name)?)?;
        }
        fields.envelope()
    }

    /// The answer where instruction files are not allowed: [`Kind::InstructionFile`] if the metadata has the marks of an
    /// object that has one, else [`Kind::NoEnvelope`].
    pub fn refused(&self) -> Error {
        if self.0.any(&V3_CONTENT) || self.0.any(&[LENGTH_HINT]) {
            err!(
                Kind::InstructionFile,
                "the envelope is in an instruction file, which nothing binds to the object; \
                 --allow-instruction-files reads it"
            )
        } else {
            no_envelope("the metadata holds none: was the object copied without its metadata?")
        }
    }
}

/// The envelope's names that are present. Each occurs once and is at most [`MAX_VALUE`] long.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Fields {
    fn insert(&mut self, name: &str, value: &str) -> Result<()> {
        let Some(name) = NAMES.into_iter().find(|n| n.eq_ignore_ascii_case(name)) else {
            return Ok(());
        };
        if value.len() > MAX_VALUE {
            return Err(err!(Kind::BadEnvelope, "{name} has {} bytes, more than an envelope needs", value.len()));
        }
        match self.0.insert(name, value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(err!(Kind::BadEnvelope, "{name} is given twice")),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|n| self.0.contains_key(n))
    }

    fn none_of(&self, names: &[&str]) -> Result<()> {
        match names.iter().find(|n| self.0.contains_key(*n)) {
            None => Ok(()),
            Some(name) => Err(err!(Kind::BadEnvelope, "{name} belongs to another format than the rest")),
        }
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| err!(Kind::BadEnvelope, "{name} is missing"))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let text: String = self.need(name)?.split_ascii_whitespace().collect();
        STANDARD.decode(text).map_err(|_| err!(Kind::BadEnvelope, "{name} is not base64"))
    }

    fn array<const N: usize>(&self, name: &str) -> Result<[u8; N]> {
        let bytes = self.bytes(name)?;
        let n = bytes.len();
        bytes.try_into().map_err(|_| err!(Kind::BadEnvelope, "{name} has {n} bytes, not {N}"))
    }

    /// The envelope, once a wrapped key is among the fields.
    fn envelope(&self) -> Result<Envelope> {
        if self.any(&V3_CONTENT) {
            self.v3()
        } else if self.any(&[KEY]) {
            self.v1()
        } else {
            self.v2()
        }
        .map(Envelope)
    }

    fn v1(&self) -> Result<Form> {
        /// A 32-byte key with its padding. Longer is an RSA wrap, which looks the same otherwise.
        const LONGEST: usize = 48;
        self.none_of(&[KEY_V2, WRAP, TAG_LEN, V3_KEY, V3_WRAP])?;
        if !matches!(self.get(CEK), None | Some("AES/CBC/PKCS5Padding" | "AES/CBC/PKCS7Padding")) {
            return Err(err!(Kind::BadEnvelope, "{CEK} belongs to another format than the rest"));
        }
        self.need(IV)?;
        let wrapped = self.bytes(KEY)?;
        if wrapped.len() > LONGEST {
            return Err(err!(Kind::UnsupportedWrap, "{KEY} has {} bytes: wrapped with an RSA key?", wrapped.len()));
        }
        Ok(Form::V1 { wrapped, iv: self.array(IV)? })
    }

    fn v2(&self) -> Result<Form> {
        self.none_of(&[KEY, V3_KEY, V3_WRAP])?;
        self.need(IV)?;
        let (cek, wrap) = (self.need(CEK)?, self.need(WRAP)?);
        let wrap = match wrap {
            "AES/GCM" => Wrap::Gcm,
            "AESWrap" => Wrap::Rfc3394,
            other => return Err(unsupported_wrap(WRAP, other)),
        };
        if cek != CEK_GCM {
            return Err(unsupported_content(CEK, cek));
        }
        if self.need(TAG_LEN)? != "128" {
            return Err(err!(Kind::BadEnvelope, "{TAG_LEN} is not 128"));
        }
        Ok(Form::V2 { wrap, wrapped: self.bytes(KEY_V2)?, iv: self.array(IV)? })
    }

    fn v3(&self) -> Result<Form> {
        self.none_of(&V1_V2)?;
        self.need(V3_KEY)?;
        let (suite, wrap) = (self.need(V3_SUITE)?, self.need(V3_WRAP)?);
        if suite != SUITE {
            return Err(unsupported_content(V3_SUITE, suite));
        }
        if wrap != "02" {
            return Err(unsupported_wrap(V3_WRAP, wrap));
        }
        Ok(Form::V3 {
            message_id: self.array(V3_MESSAGE_ID)?,
            commitment: self.array(V3_COMMITMENT)?,
            wrapped: self.bytes(V3_KEY)?,
        })
    }
}

impl fmt::Debug for Fields {
    /// The names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A JSON object with its members as they are written, repeated names included.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn no_envelope(why: &str) -> Error {
    err!(Kind::NoEnvelope, "no encryption envelope: {why}")
}

fn unsupported_wrap(name: &str, value: &str) -> Error {
    err!(Kind::UnsupportedWrap, "the data key is wrapped by {} ({name}), not by AES/GCM", escape(value.as_bytes()))
}

fn unsupported_content(name: &str, value: &str) -> Error {
    err!(Kind::UnsupportedContent, "the content is encrypted by {} ({name})", escape(value.as_bytes()))
}
