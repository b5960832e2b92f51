//! The pieces of an object key, each a total function on text (FORMAT.md section 1).
//!
//! Invariant: a piece is taken only if it has exactly the shape of the grammar; nothing is trimmed, guessed or
//! normalised. File names are read from the right with anchors, so a container id may hold anything a file name may,
//! `-json.log` included. What is accepted beyond the canonical form: in v2 the rotation after `.log`, in v3 a `.gz` element
//! before the times, leading zeros in numbers, and impossible dates, which count as `unknown`.

use super::time::{Time, read};
use super::{Schema, Span};

/// The longest name that a Linux file system takes, bytes.
pub const MAX_NAME: usize = 255;

/// Whether one component of a key can be a file name that is shown to people: not empty, `.` or `..`, at most 255 bytes,
/// no `/`, no control character (C0, DEL, C1), no line or paragraph separator and no bidirectional formatting.
pub fn is_safe_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !has_hostile(name)
}

/// Each mount has a folder of its own by this name (`fs::control`), so no stack can have it.
pub const RESERVED: &str = ".logarchivefs";

/// Whether a component can be a stack.
pub fn is_stack(name: &str) -> bool {
    is_safe_component(name) && name != RESERVED
}

/// Whether it holds a character that is hostile; ASCII, as almost everything is, is looked at byte by byte.
fn has_hostile(text: &str) -> bool {
    match text.is_ascii() {
        true => text.bytes().any(|b| b == b'/' || b.is_ascii_control()),
        false => text.contains(is_hostile),
    }
}

fn is_hostile(c: char) -> bool {
    c == '/'
        || c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// ASCII digits only, at least one, fitting `u64`.
pub(super) fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// `[A-Za-z][A-Za-z0-9_-]*`
pub(super) fn is_kind(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// 64 hex digits of either case. Writers use lower case, and only that can name a key.
pub(super) fn is_key_sum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What the last component of a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName<'a> {
    pub container: &'a str,
    pub rotation: Option<u64>,
    pub span: Span,
}

/// Reads one: `<container>-json.log[.<n>][.gz].<start>.<end>.archived.gz` (v3) or
/// `<container>-json[.<n>].log[.<n>].<uploaded>.bck.gz` (v2; if there are two numbers, the first is the rotation).
pub(super) fn file_name(schema: Schema, name: &str) -> Option<FileName<'_>> {
    let (container, rotation, span) = match schema {
        Schema::V3 => {
            let (rest, end) = split_time(name.strip_suffix(".archived.gz")?)?;
            let (rest, start) = split_time(rest)?;
            let (rest, rotation) = split_number(rest.strip_suffix(".gz").unwrap_or(rest))?;
            (rest.strip_suffix("-json.log")?, rotation, Span::Range { start, end })
        }
        Schema::V2 => {
            let (rest, uploaded) = split_time(name.strip_suffix(".bck.gz")?)?;
            let (rest, after) = split_number(rest)?;
            let (rest, before) = split_number(rest.strip_suffix(".log")?)?;
            (rest.strip_suffix("-json")?, before.or(after), Span::Uploaded(uploaded))
        }
    };
    is_safe_component(container).then_some(FileName { container, rotation, span })
}

/// Takes a time off the right: `x.2022-08-24T21:12:33` gives `x` and the time; `unknown` and impossible times are `None`.
fn split_time(text: &str) -> Option<(&str, Option<Time>)> {
    let (head, last) = text.rsplit_once('.')?;
    if last == "unknown" {
        return Some((head, None));
    }
    if let Some(time) = read(last) {
        return Some((head, time));
    }
    // The last element may be the fraction of the one before.
    let (head, _) = head.rsplit_once('.')?;
    let whole = text.strip_prefix(head)?.strip_prefix('.')?;
    Some((head, read(whole)?))
}

/// Takes an optional all-digit element off the right; `None` if it does not fit `u64`.
fn split_number(text: &str) -> Option<(&str, Option<u64>)> {
    match text.rsplit_once('.') {
        Some((head, last)) if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) => {
            Some((head, Some(number(last)?)))
        }
        _ => Some((text, None)),
    }
}
