//! A proof: what a pass has found out about an object version, written down.
//!
//! ```text
//! MAGIC (16) │ salt (32) │ length of the index (4) │ index, sealed │ window of point 1, sealed │ window of point 2, sealed …
//! index: size (8) │ key of the digests (32) │ number of points (4) │ a digest (16) for each chunk │ the points
//! point: offset in the text (8) │ in the gzip stream (8) │ bits to skip (1) │ window as held (2) │ its text if packed (2)
//! ```
//!
//! Integers are little-endian. Sealed is AES-256-GCM under a key that follows from the object's data key, its envelope, the
//! object version and the salt, which is drawn for each proof; the nonce is the number of the piece, 0 for the index.
//!
//! Invariants:
//! * Who does not have the data key can neither read a proof nor make one that opens.
//! * [`Proof::decode`] takes any bytes, and what it returns keeps the rules of a pass: every segment is bounded.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

use super::digest::{Digest, DigestKey};
use super::scan::CHUNK;
use crate::envelope::ContentKey;
use crate::gunzip::{LONGEST_SEGMENT, SeekPoint};

const MAGIC: &[u8; 16] = b"lafs proof v1\r\n\0";
const SALT: usize = 32;
/// What is not sealed.
pub const PREFIX: usize = MAGIC.len() + SALT + 4;
pub const TAG: usize = 16;
/// 16 MiB are the digests of the longest object there can be.
const LONGEST_INDEX: usize = 64 << 20;

const POINT: usize = 21;
const WINDOW: u16 = 32 << 10;
/// In the place of a packed window's length: it is not packed.
const PLAIN: u16 = u16::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Bytes of text.
    pub size: u64,
    pub key: DigestKey,
    pub digests: Vec<Digest>,
    /// Those behind the beginning, in order.
    pub points: Vec<Kept>,
}

/// A seek point whose window is in the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub out: u64,
    pub input: u64,
    pub skip: u8,
    /// Bytes of the window as it is held, and of its text if that is packed.
    pub held: u16,
    pub packed: Option<u16>,
    /// Its piece of the proof: number and place.
    pub piece: u32,
    pub at: u64,
}

impl Proof {
    /// The index. Where windows are is not in it: they follow one another.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let len = 44 + self.digests.len() * size_of::<Digest>() + self.points.len() * POINT;
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&*self.key);
        out.extend_from_slice(&(self.points.len() as u32).to_le_bytes());
        self.digests.iter().for_each(|digest| out.extend_from_slice(digest));
        for point in &self.points {
            out.extend_from_slice(&point.out.to_le_bytes());
            out.extend_from_slice(&point.input.to_le_bytes());
            out.push(point.skip);
            out.extend_from_slice(&point.held.to_le_bytes());
            out.extend_from_slice(&point.packed.unwrap_or(PLAIN).to_le_bytes());
        }
        out
    }

    /// Of an object of `total` bytes that decrypts to `gzip_len`; None if no pass ends with that.
    pub fn decode(index: &[u8], total: u64, gzip_len: u64) -> Option<Proof> {
        let (size, rest) = index.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let (points, rest) = rest.split_first_chunk()?;
        let digests = usize::try_from(total.div_ceil(CHUNK)).ok()?.checked_mul(size_of::<Digest>())?;
        let (digests, rest) = rest.split_at_checked(digests)?;
        let (table, rest) = rest.as_chunks::<POINT>();
        let size = u64::from_le_bytes(*size);
        if !rest.is_empty() || table.len() != u32::from_le_bytes(*points) as usize {
            return None;
        }
        let mut at = (PREFIX + index.len() + TAG) as u64;
        let (mut out, mut input) = (0, 0);
        let mut points = Vec::with_capacity(table.len());
        for (bytes, piece) in table.iter().zip(1..) {
            let point = Kept::decode(bytes, piece, at)?;
            if point.out <= out || point.out - out > LONGEST_SEGMENT || point.input < input || point.input >= gzip_len {
                return None;
            }
            (out, input) = (point.out, point.input);
            at += u64::from(point.held) + TAG as u64;
            points.push(point);
        }
        // The text behind the last point; without a point there may be none at all.
        let last = size.checked_sub(out)?;
        if last > LONGEST_SEGMENT || (last == 0 && out > 0) {
            return None;
        }
        let digests = digests.as_chunks().0.to_vec();
        Some(Proof { size, key: Zeroizing::new(*key), digests, points })
    }
}

impl Kept {
    /// Where the window is to be follows from the points before. None for a point that cannot be written down.
    pub fn of(point: &SeekPoint) -> Option<Kept> {
        let (skip, window, packed) = point.block()?;
        let held = u16::try_from(window.len()).ok()?;
        Some(Kept { out: point.out, input: point.input, skip, held, packed, piece: 0, at: 0 })
    }

    fn decode(bytes: &[u8; POINT], piece: u32, at: u64) -> Option<Kept> {
        let (out, rest) = bytes.split_first_chunk()?;
        let (input, rest) = rest.split_first_chunk()?;
        let &[skip, a, b, c, d] = rest else { return None };
        let (held, text) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let packed = (text != PLAIN).then_some(text);
        let fits = skip <= 7 && held <= WINDOW && packed.is_none_or(|len| len <= WINDOW);
        let (out, input) = (u64::from_le_bytes(*out), u64::from_le_bytes(*input));
        fits.then_some(Kept { out, input, skip, held, packed, piece, at })
    }
}

/// Seals and opens the pieces of one proof.
pub struct Seal {
    gcm: Aes256Gcm,
    salt: [u8; SALT],
}

impl Seal {
    /// For a new proof of the object version `identity`.
    pub fn new(content: &ContentKey, identity: &[u8]) -> Option<Seal> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).ok()?;
        Seal::with(content, identity, salt)
    }

    fn with(content: &ContentKey, identity: &[u8], salt: [u8; SALT]) -> Option<Seal> {
        let key = content.derive("proof", &[&salt, identity].concat())?;
        Some(Seal { gcm: Aes256Gcm::new((&*key).into()), salt })
    }

    /// What a proof begins with; `index`: bytes of the sealed index.
    pub fn prefix(&self, index: usize) -> Option<Vec<u8>> {
        let len = u32::try_from(index).ok().filter(|_| index <= LONGEST_INDEX)?;
        Some([&MAGIC[..], &self.salt, &len.to_le_bytes()].concat())
    }

    /// From the first [`PREFIX`] bytes of a proof: its seal, and the length of the sealed index.
    pub fn parse(prefix: &[u8], content: &ContentKey, identity: &[u8]) -> Option<(Seal, usize)> {
        let (salt, len) = prefix.strip_prefix(MAGIC)?.split_first_chunk()?;
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        let seal = Seal::with(content, identity, *salt)?;
        (len <= LONGEST_INDEX).then_some((seal, len))
    }

    /// Each number once.
    pub fn seal(&self, piece: u32, plain: &[u8]) -> Option<Vec<u8>> {
        self.gcm.encrypt(&nonce(piece), plain).ok()
    }

    pub fn open(&self, piece: u32, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.gcm.decrypt(&nonce(piece), sealed).ok().map(Zeroizing::new)
    }
}

fn nonce(piece: u32) -> Nonce<<Aes256Gcm as aes_gcm::AeadCore>::NonceSize> {
    let mut nonce = [0; 12];
    nonce[8..].copy_from_slice(&piece.to_be_bytes());
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOTAL: u64 = 3 * CHUNK - 5;
    const GZIP: u64 = TOTAL - 16;

    fn proof() -> Proof {
        let kept = |(n, held): (u64, u16)| Kept {
            out: n * 600_000,
            input: n * 50_000,
            skip: n as u8,
            held,
            packed: (n != 2).then_some(WINDOW),
            piece: n as u32,
            at: 0,
        };
        let mut proof = Proof {
            size: 2_100_000,
            key: Zeroizing::new([7; 32]),
            digests: vec![[1; 16], [2; 16], [3; 16]],
            points: [(1, 700), (2, WINDOW), (3, 0)].map(kept).into(),
        };
        let index = proof.encode().len();
        let first = (PREFIX + index + TAG) as u64;
        for (point, before) in proof.points.iter_mut().zip([0, 700 + 16, 700 + 16 + 32_768 + 16]) {
            point.at = first + before;
        }
        proof
    }

    fn content(n: u8) -> ContentKey {
        use crate::envelope::{Found, MasterKey, SealAs, seal};
        let master = MasterKey::new(&[n; 32]).unwrap();
        let (metadata, _) = seal(SealAs::V2, &master, b"", &mut |out| out.fill(n)).unwrap();
        let Ok(Found::Complete(envelope)) = Found::from_metadata(&metadata) else { panic!("no envelope") };
        envelope.open(&master).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Proof::decode(&proof().encode(), TOTAL, GZIP), Some(proof()));
        let empty = Proof { size: 0, points: vec![], ..proof() };
        assert_eq!(Proof::decode(&empty.encode(), TOTAL, GZIP), Some(empty));
    }

    #[test]
    fn what_no_pass_ends_with_is_refused() {
        type Change = fn(&mut Proof);
        let changes: [(&str, Change); 10] = [
            ("shorter than its points", |p| p.size = 1_700_000),
            ("nothing behind the last point", |p| p.size = 1_800_000),
            ("a last segment without bound", |p| p.size = 1_800_001 + LONGEST_SEGMENT),
            ("a first segment without bound", |p| p.points[0].out = LONGEST_SEGMENT + 1),
            ("points out of order", |p| p.points.swap(0, 1)),
            ("a point twice", |p| p.points[1].out = p.points[0].out),
            ("input that goes back", |p| p.points[2].input = 0),
            ("input behind the end", |p| p.points[2].input = GZIP),
            ("nine bits", |p| p.points[0].skip = 9),
            ("a window too large", |p| p.points[0].held = WINDOW + 1),
        ];
        for (what, change) in changes {
            let mut proof = proof();
            change(&mut proof);
            assert_eq!(Proof::decode(&proof.encode(), TOTAL, GZIP), None, "{what}");
        }
        let index = proof().encode();
        assert_eq!(Proof::decode(&index, TOTAL + CHUNK, GZIP), None, "of another object");
        assert_eq!(Proof::decode(&[&index[..], &[0]].concat(), TOTAL, GZIP), None, "longer");
    }

    proptest! {
        /// Whatever the bytes: no panic, and every segment is bounded.
        #[test]
        fn any_index_is_refused_or_bounded(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            len in prop::option::of(any::<prop::sample::Index>()),
            total in prop_oneof![Just(TOTAL), any::<u64>()],
        ) {
            let mut index = proof().encode().to_vec();
            for (at, byte) in changes {
                *at.get_mut(&mut index) = byte;
            }
            if let Some(len) = len {
                index.truncate(len.index(index.len()));
            }
            if let Some(read) = Proof::decode(&index, total, GZIP) {
                let starts: Vec<u64> = [0].into_iter().chain(read.points.iter().map(|p| p.out)).chain([read.size]).collect();
                prop_assert!(starts.is_sorted() && starts.windows(2).all(|w| w[1] - w[0] <= LONGEST_SEGMENT));
                prop_assert_eq!(read.digests.len() as u64, total.div_ceil(CHUNK));
                prop_assert_eq!(read.encode().to_vec(), index);
            }
        }

        #[test]
        fn any_prefix_is_refused_or_bounded(bytes in prop::collection::vec(any::<u8>(), 0..80), ours in any::<bool>()) {
            let content = content(1);
            let bytes = if ours { [&MAGIC[..], &bytes].concat() } else { bytes };
            if let Some((_, len)) = Seal::parse(&bytes, &content, b"id") {
                prop_assert!(bytes.len() == PREFIX && len <= LONGEST_INDEX);
            }
        }
    }

    #[test]
    fn a_piece_opens_in_its_place_with_its_key_only() {
        let seal = Seal::new(&content(1), b"id").unwrap();
        let sealed = seal.seal(3, b"window").unwrap();
        assert_eq!(sealed.len(), 6 + TAG);
        let prefix = seal.prefix(1000).unwrap();
        let parse = |content: &ContentKey, identity: &[u8]| Seal::parse(&prefix, content, identity).unwrap();
        let (again, len) = parse(&content(1), b"id");
        assert_eq!((again.open(3, &sealed).unwrap().as_slice(), len), (&b"window"[..], 1000));
        assert!(again.open(2, &sealed).is_none(), "another place");
        assert!(parse(&content(2), b"id").0.open(3, &sealed).is_none(), "another key");
        assert!(parse(&content(1), b"di").0.open(3, &sealed).is_none(), "another object");
        assert!(Seal::new(&content(1), b"id").unwrap().open(3, &sealed).is_none(), "another salt");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(again.open(3, &changed).is_none());
        }
        assert!((0..sealed.len()).all(|len| again.open(3, &sealed[..len]).is_none()));
        assert!(seal.prefix(LONGEST_INDEX + 1).is_none());
    }
}
