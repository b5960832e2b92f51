//! Envelopes and ciphers of the Amazon S3 Encryption Client, and the master keys that open them.
//!
//! ```text
//! user metadata ──► Found ──► Envelope ──open(&MasterKey)──► ContentKey ──┬─► Verifier   whole object, in order: is it authentic?
//!                     │           ▲                                      └─► cover + decrypt   any range, in any order
//!                     └─ Partial ─┘ (+ the instruction file)
//! ```
//!
//! Invariants:
//! * Pure: no I/O, no clock, no randomness of its own. Nothing that comes from a bucket makes it panic.
//! * The fingerprint in the object's path chooses the key; no key is ever tried out.
//! * Metadata chooses among a few fixed profiles and nothing else: every algorithm name is compared with a constant,
//!   and the constant, not the metadata, is what goes into the cipher (CVE-2020-8912).
//! * [`ContentKey::decrypt`] proves nothing. Bytes are authentic once [`Verifier::finish`] has accepted the whole object,
//!   and CBC objects ([`ContentKey::authenticated`] is false) never are.
//! * Keys are wiped when dropped, have no readable `Debug`, and appear in no error.
//!
//! The wire format, with a worked example, is `FORMAT.md` sections 2 to 5.

mod cipher;
mod content;
mod keyring;
mod metadata;
mod open;
mod seal;
mod verify;
#[cfg(test)]
mod worked_example;
#[cfg(test)]
mod wycheproof;

pub use content::{ContentKey, MAX_GCM_OBJECT, TAG_LEN, Tail};
pub use keyring::{Keyring, MasterKey};
pub use metadata::{Found, Partial};
pub use open::{Envelope, Version};
pub use seal::{SealAs, seal};
pub use verify::Verifier;
