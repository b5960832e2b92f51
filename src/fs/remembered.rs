//! What was found out about files, for the life of the mount: so that a second `ls -l` asks the store nothing, however many
//! files there are and whatever became of their heads since. Some 17 bytes each.
//!
//! Invariants: what is remembered belongs to a key and an entity tag, so a new version of an object has nothing here; a hint
//! never takes the place of an exact size; a failure of the storage is never here; that an object is archived is believed
//! for as long as the listing lasts that was there then, since somebody may restore it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::envelope::Version as Envelope;
use crate::error::{Error, Kind};
use crate::object::{Auth, Listed, LogFile, Size};

/// What is known of a file without asking for anything.
#[derive(Clone, Debug)]
pub struct State {
    /// None: that would take a scan.
    pub size: Option<Size>,
    pub auth: Auth,
    pub envelope: Option<Envelope>,
    /// The bucket keeps versions.
    pub versioned: bool,
}

/// Which version of which object. The hashes are keyed anew in each mount, so that nobody can choose two that are the same;
/// by chance that happens once in 10^10 mounts of a million objects.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    shard: usize,
    rest: u64,
}

pub struct Remembered {
    keys: [RandomState; 2],
    shards: Mutex<Vec<Shard>>,
    reasons: Mutex<Reasons>,
}

/// In the order of [`Version::rest`], each with its [`mark`]: a hash table would take up to four times as much.
type Shard = Vec<(u64, u64)>;

const SHARDS: usize = 1024;

/// Why files cannot be read: the same few texts for many.
#[derive(Default)]
struct Reasons {
    texts: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u16>,
}

/// Texts kept. An answer of S3 may be in them, and so make each another.
const MOST_REASONS: usize = 1000;
const NO_TEXT: u16 = u16::MAX;

/// The fields of a mark: the size, or why there is none; and what else there is.
mod mark {
    pub const SIZE_BITS: u32 = 56;
    pub const HINT: u64 = 1 << 56;
    pub const UNREADABLE: u64 = 1 << 57;
    pub const VERSIONED: u64 = 1 << 58;
    /// Two bits; 0 is none.
    pub const ENVELOPE: u32 = 59;
    /// Two bits.
    pub const AUTH: u32 = 61;
    /// Of what cannot be read: eight bits for the kind, then 16 for the text, then 32 for the listing.
    pub const TEXT: u32 = 8;
    pub const LISTING: u32 = 24;
}

const ENVELOPES: [Envelope; 3] = [Envelope::V1, Envelope::V2, Envelope::V3];

impl State {
    /// What this file knows by itself, if it knows anything.
    pub fn of(file: &LogFile) -> Option<State> {
        let verdict = file.verdict();
        if verdict.is_none() && file.known_head().is_none() {
            return None;
        }
        Some(State::with(file, verdict.map(Size::Unreadable).or_else(|| file.proven_size().map(Size::Exact))))
    }

    /// The same, with a size that it has told.
    pub fn with(file: &LogFile, size: Option<Size>) -> State {
        let head = file.known_head().and_then(Result::ok);
        State {
            size,
            auth: file.auth(),
            envelope: head.as_ref().map(|head| head.version),
            versioned: head.is_some_and(|head| head.version_id.is_some()),
        }
    }

    /// Nothing that is found out later changes it.
    pub fn is_final(&self) -> bool {
        matches!(self.size, Some(Size::Exact(_) | Size::Unreadable(_)))
    }

    pub fn reason(&self) -> Option<&Error> {
        match &self.size {
            Some(Size::Unreadable(e)) => Some(e),
            _ => None,
        }
    }
}

impl Default for Remembered {
    fn default() -> Self {
        Remembered {
            keys: [RandomState::new(), RandomState::new()],
            shards: Mutex::new(vec![Shard::new(); SHARDS]),
            reasons: Mutex::default(),
        }
    }
}

impl Remembered {
    fn version(&self, object: &Listed) -> Version {
        let of = (&*object.key, &*object.etag);
        let [shard, rest] = [0, 1].map(|n| self.keys[n].hash_one(of));
        Version { shard: shard as usize % SHARDS, rest }
    }

    /// What is known of this object in this listing.
    pub fn get(&self, object: &Listed, listing: u64) -> Option<State> {
        let Version { shard, rest } = self.version(object);
        let known = {
            let shards = self.shards();
            let shard = &shards[shard];
            shard.binary_search_by_key(&rest, |(rest, _)| *rest).ok().map(|at| shard[at].1)?
        };
        let size = if known & mark::UNREADABLE != 0 {
            let kind = *Kind::ALL.get((known & 0xff) as usize)?;
            // As much of the number as there is room for.
            if kind == Kind::Archived && (known >> mark::LISTING) as u32 != listing as u32 {
                return None;
            }
            let text = self.reason(kind, (known >> mark::TEXT) as u16);
            Some(Size::Unreadable(Error::new(kind, text).about(&object.key)))
        } else {
            let size = known & ((1 << mark::SIZE_BITS) - 1);
            let hint = known & mark::HINT != 0;
            Some(if hint { Size::Hint(size) } else { Size::Exact(size) })
        };
        let field = |at: u32| (known >> at & 3) as usize;
        Some(State {
            size,
            auth: Auth::ALL[field(mark::AUTH)],
            envelope: field(mark::ENVELOPE).checked_sub(1).and_then(|n| ENVELOPES.get(n)).copied(),
            versioned: known & mark::VERSIONED != 0,
        })
    }

    /// Remembers what the store has told of this object while this listing was there.
    pub fn learn(&self, object: &Listed, listing: u64, state: &State) {
        let known = match &state.size {
            Some(Size::Exact(size) | Size::Hint(size)) if size >> mark::SIZE_BITS != 0 => return,
            Some(Size::Exact(size)) => *size,
            Some(Size::Hint(size)) => size | mark::HINT,
            Some(Size::Unreadable(e)) if e.kind().is_verdict() || e.kind() == Kind::Archived => {
                let kind = Kind::ALL.iter().position(|kind| *kind == e.kind()).unwrap_or_default() as u64;
                let text = u64::from(self.reasons().place(e.message()));
                let listing = u64::from(listing as u32);
                mark::UNREADABLE | kind | text << mark::TEXT | listing << mark::LISTING
            }
            Some(Size::Unreadable(_)) | None => return,
        };
        let auth = Auth::ALL.iter().position(|auth| *auth == state.auth).unwrap_or_default() as u64;
        let envelope = state.envelope.and_then(|v| ENVELOPES.iter().position(|known| *known == v)).map_or(0, |n| n + 1);
        let versioned = if state.versioned { mark::VERSIONED } else { 0 };
        let known = known | auth << mark::AUTH | (envelope as u64) << mark::ENVELOPE | versioned;
        let Version { shard, rest } = self.version(object);
        let mut shards = self.shards();
        let shard = &mut shards[shard];
        match shard.binary_search_by_key(&rest, |(rest, _)| *rest) {
            Ok(at) => {
                let exact = |known: u64| known & (mark::HINT | mark::UNREADABLE) == 0;
                if !exact(shard[at].1) || known & mark::HINT == 0 {
                    shard[at].1 = known;
                }
            }
            Err(at) => {
                if shard.len() == shard.capacity() {
                    // Not twice as much, as a vector would by itself.
                    shard.reserve_exact(shard.len() / 8 + 2);
                }
                shard.insert(at, (rest, known));
            }
        }
    }

    /// What was known is not true any more.
    pub fn forget(&self, object: &Listed) {
        self.forget_if(object, |_| true);
    }

    /// The object was opened: if it could not be read before (it was archived), that is over.
    pub fn opened(&self, object: &Listed) {
        self.forget_if(object, |known| known & mark::UNREADABLE != 0);
    }

    /// So are all verdicts.
    pub fn forget_failed(&self) {
        self.shards().iter_mut().for_each(|shard| shard.retain(|(_, known)| known & mark::UNREADABLE == 0));
    }

    fn forget_if(&self, object: &Listed, wrong: impl FnOnce(u64) -> bool) {
        let Version { shard, rest } = self.version(object);
        let mut shards = self.shards();
        let shard = &mut shards[shard];
        if let Ok(at) = shard.binary_search_by_key(&rest, |(rest, _)| *rest)
            && wrong(shard[at].1)
        {
            shard.remove(at);
        }
    }

    fn reason(&self, kind: Kind, place: u16) -> String {
        let reasons = self.reasons();
        let text = reasons.texts.get(usize::from(place)).map(|text| text.to_string());
        text.unwrap_or_else(|| format!("{}: whoever opens it is told more", kind.row().name))
    }

    fn shards(&self) -> MutexGuard<'_, Vec<Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reasons {
    fn place(&mut self, text: &str) -> u16 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        if self.texts.len() >= MOST_REASONS {
            return NO_TEXT;
        }
        let (place, text) = (self.texts.len() as u16, Arc::<str>::from(text));
        self.texts.push(Arc::clone(&text));
        self.places.insert(text, place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, etag: &str) -> Listed {
        Listed { key: key.into(), key_sum: String::new(), size: 1, etag: etag.into(), storage_class: None }
    }

    fn state(size: Size) -> State {
        State { size: Some(size), auth: Auth::Unproven, envelope: Some(Envelope::V3), versioned: true }
    }

    fn failed(kind: Kind, text: &str) -> State {
        let size = Some(Size::Unreadable(Error::new(kind, text)));
        State { size, auth: Auth::Failed, envelope: None, versioned: false }
    }

    fn shown(state: Option<State>) -> String {
        format!("{state:?}")
    }

    #[test]
    fn what_was_learned_comes_back_for_this_version_only() {
        let known = Remembered::default();
        let sizes = [Size::Exact(0), Size::Hint(7), Size::Exact((1 << 56) - 1), Size::Hint(1 << 40)];
        for (n, size) in sizes.into_iter().enumerate() {
            let object = object(&n.to_string(), "e");
            known.learn(&object, 1, &state(size.clone()));
            assert_eq!(shown(known.get(&object, 2)), shown(Some(state(size))));
        }
        for (auth, envelope) in Auth::ALL.into_iter().zip([None, Some(ENVELOPES[0]), Some(ENVELOPES[1]), None]) {
            let state = State { size: Some(Size::Exact(3)), auth, envelope, versioned: false };
            known.learn(&object("a", auth.name()), 1, &state);
            assert_eq!(shown(known.get(&object("a", auth.name()), 1)), shown(Some(state)));
        }
        assert!(known.get(&object("0", "f"), 1).is_none() && known.get(&object("0e", ""), 1).is_none());
        known.forget(&object("0", "e"));
        assert!(known.get(&object("0", "e"), 1).is_none());
        known.learn(&object("0", "e"), 1, &state(Size::Exact(1 << 56)));
        assert!(known.get(&object("0", "e"), 1).is_none(), "no room for that size");
    }

    #[test]
    fn the_truth_is_not_forgotten_for_a_hint() {
        let (known, object) = (Remembered::default(), object("k", "e"));
        known.learn(&object, 1, &state(Size::Hint(5)));
        known.learn(&object, 1, &state(Size::Exact(6)));
        known.learn(&object, 1, &state(Size::Hint(5)));
        assert!(matches!(known.get(&object, 1).unwrap().size, Some(Size::Exact(6))));
        known.opened(&object);
        known.learn(&object, 1, &failed(Kind::Tag, "no"));
        assert_eq!(known.get(&object, 1).unwrap().reason().unwrap().to_string(), "k: no");
    }

    #[test]
    fn reasons_last_but_that_of_an_archived_object() {
        let (known, object) = (Remembered::default(), object("k", "e"));
        known.learn(&object, 5, &failed(Kind::NoKey, "none"));
        assert!(known.get(&object, 6).is_some());
        known.learn(&object, 5, &failed(Kind::Archived, "restore it"));
        assert_eq!(known.get(&object, 5).unwrap().reason().unwrap().kind(), Kind::Archived);
        assert!(known.get(&object, 6).is_none(), "another listing");
        known.opened(&object);
        assert!(known.get(&object, 5).is_none(), "it was restored");
        known.learn(&object, 5, &failed(Kind::Storage, "down"));
        assert!(known.get(&object, 5).is_none(), "a failure of the storage");
    }

    #[test]
    fn memory_is_bounded_for_each_object_and_for_all_reasons() {
        const OBJECTS: usize = 200_000;
        let known = Remembered::default();
        for n in 0..OBJECTS {
            known.learn(&object(&n.to_string(), "e"), 1, &failed(Kind::BadGzip, &format!("reason {n}")));
        }
        let room: usize = known.shards().iter().map(|shard| shard.capacity() * size_of::<(u64, u64)>()).sum();
        assert!(room / OBJECTS <= 18, "{room}");
        assert_eq!(known.reasons().texts.len(), MOST_REASONS);
        let reason = |n: usize| known.get(&object(&n.to_string(), "e"), 1).unwrap().reason().unwrap().to_string();
        assert_eq!(reason(0), "0: reason 0");
        assert_eq!(reason(OBJECTS - 1), format!("{}: bad-gzip: whoever opens it is told more", OBJECTS - 1));
    }
}
