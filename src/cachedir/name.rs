//! Names of the files: 32 hex digits that stand for an object version, a dot, and which part of it the file is.

use std::fmt;

/// What an object version is called here. It is derived from a secret, so that a name tells nothing.
pub type Id = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Proof,
    /// The ciphertext chunk of this number.
    Chunk(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub id: Id,
    pub part: Part,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        match self.part {
            Part::Proof => f.write_str(".proof"),
            Part::Chunk(n) => write!(f, ".{n:x}"),
        }
    }
}

impl Name {
    /// None for every text that no name is written as.
    pub fn parse(text: &[u8]) -> Option<Name> {
        let (hex, part) = std::str::from_utf8(text).ok()?.split_at_checked(32)?;
        let id = u128::from_str_radix(hex, 16).ok()?.to_be_bytes();
        let part = match part {
            ".proof" => Part::Proof,
            chunk => Part::Chunk(u32::from_str_radix(chunk.strip_prefix('.')?, 16).ok()?),
        };
        let name = Name { id, part };
        (name.to_string().as_bytes() == text).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        for part in [Part::Proof, Part::Chunk(0), Part::Chunk(0xabc), Part::Chunk(u32::MAX)] {
            let name = Name { id: [0x5e; 16], part };
            assert_eq!(Name::parse(name.to_string().as_bytes()), Some(name));
        }
        let id = "5e".repeat(16);
        for tail in ["", ".", ".0a", ".A", ".+1", ".proofs", ".100000000", "a.1", ".1 ", "\u{e9}"] {
            assert_eq!(Name::parse(format!("{id}{tail}").as_bytes()), None, "{tail:?}");
        }
        for bad in ["", "new", &id[2..], &format!("+{}.1", &id[1..]), &format!("{}.1", id.to_uppercase())] {
            assert_eq!(Name::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Name::parse(&[0xff; 40]), None);
    }
}
