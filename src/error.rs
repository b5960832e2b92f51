//! The one error type, with the one table of errno values and the one table of exit codes.
//!
//! Rules:
//! * An error names the object it is about and what the reader of the message can do. Text that came
//!   from the bucket (keys, metadata, server messages) goes through [`escape`] before it gets here.
//! * An error never holds key material or log text.
//! * Errors are cheap to clone: one failed scan answers every reader that waited for it.
//! * An error is logged once, at the edge (the FUSE adapter or `main`), never where it is made.

use std::fmt;
use std::sync::Arc;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it. [`Kind::row`] holds the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No supplied key has the SHA-256 that the object's path names.
    NoKey,
    /// Neither the metadata nor an (allowed) instruction file holds an envelope.
    NoEnvelope,
    BadEnvelope,
    UnsupportedWrap,
    UnsupportedContent,
    /// The data key did not unwrap: a wrong master key or a damaged wrap.
    KeyUnwrap,
    /// V3 key commitment does not match.
    Commitment,
    /// GCM tag mismatch over the whole object.
    Tag,
    /// A chunk fetched again is not the chunk that was authenticated.
    Digest,
    /// Impossible ciphertext length.
    Truncated,
    /// CBC padding; also every other damage of an unauthenticated object (no padding oracle).
    Padding,
    BadGzip,
    /// CRC-32 or ISIZE of a gzip member.
    GzipChecksum,
    TruncatedGzip,
    /// A CBC object without `--allow-unauthenticated`.
    Unauthenticated,
    /// The envelope is in an instruction file, without `--allow-instruction-files`.
    InstructionFile,
    /// More text than `--max-ratio` allows.
    TooLarge,
    AccessDenied,
    /// The storage class needs a restore first.
    Archived,
    NotFound,
    /// The object was replaced, or vanished under an open handle.
    Stale,
    /// The storage failed after retries: 5xx, resets, short bodies, nonsense.
    Storage,
    /// The deadline of one request passed.
    Timeout,
    ReadOnly,
    NotADirectory,
    IsADirectory,
    NoAttribute,
    Invalid,
    /// The byte budget cannot hold what was asked.
    NoMemory,
    /// What was typed.
    Usage,
    /// Credentials, bucket, region, keys, mountpoint.
    Config,
    /// The selection matched nothing.
    NoMatch,
    /// A bug or an unexpected local failure.
    Internal,
}

/// One row of the table: a stable name, the errno a reader gets, the exit code of a command that ends with it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub errno: i32,
    pub exit: u8,
}

pub mod exit {
    pub const OK: u8 = 0;
    pub const SOME_FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const CONFIG: u8 = 3;
    pub const NO_MATCH: u8 = 4;
    pub const INTEGRITY: u8 = 5;
    pub const STORAGE: u8 = 6;
}

impl Kind {
    pub const ALL: [Kind; 33] = [
        Kind::NoKey,
        Kind::NoEnvelope,
        Kind::BadEnvelope,
        Kind::UnsupportedWrap,
        Kind::UnsupportedContent,
        Kind::KeyUnwrap,
        Kind::Commitment,
        Kind::Tag,
        Kind::Digest,
        Kind::Truncated,
        Kind::Padding,
        Kind::BadGzip,
        Kind::GzipChecksum,
        Kind::TruncatedGzip,
        Kind::Unauthenticated,
        Kind::InstructionFile,
        Kind::TooLarge,
        Kind::AccessDenied,
        Kind::Archived,
        Kind::NotFound,
        Kind::Stale,
        Kind::Storage,
        Kind::Timeout,
        Kind::ReadOnly,
        Kind::NotADirectory,
        Kind::IsADirectory,
        Kind::NoAttribute,
        Kind::Invalid,
        Kind::NoMemory,
        Kind::Usage,
        Kind::Config,
        Kind::NoMatch,
        Kind::Internal,
    ];

    /// The table (DESIGN sections 4 and 5).
    #[rustfmt::skip]
    pub const fn row(self) -> Row {
        let (name, errno, exit) = match self {
            Kind::NoKey              => ("no-key",              libc::ENOKEY,     exit::CONFIG),
            Kind::NoEnvelope         => ("no-envelope",         libc::EBADMSG,    exit::INTEGRITY),
            Kind::BadEnvelope        => ("bad-envelope",        libc::EBADMSG,    exit::INTEGRITY),
            Kind::UnsupportedWrap    => ("unsupported-wrap",    libc::EOPNOTSUPP, exit::SOME_FAILED),
            Kind::UnsupportedContent => ("unsupported-cek",     libc::EOPNOTSUPP, exit::SOME_FAILED),
            Kind::KeyUnwrap          => ("key-unwrap-failed",   libc::EBADMSG,    exit::INTEGRITY),
            Kind::Commitment         => ("commitment-mismatch", libc::EBADMSG,    exit::INTEGRITY),
            Kind::Tag                => ("tag-mismatch",        libc::EBADMSG,    exit::INTEGRITY),
            Kind::Digest             => ("digest-mismatch",     libc::EBADMSG,    exit::INTEGRITY),
            Kind::Truncated          => ("truncated",           libc::EBADMSG,    exit::INTEGRITY),
            Kind::Padding            => ("bad-padding",         libc::EBADMSG,    exit::INTEGRITY),
            Kind::BadGzip            => ("bad-gzip",            libc::EBADMSG,    exit::INTEGRITY),
            Kind::GzipChecksum       => ("bad-gzip-crc",        libc::EBADMSG,    exit::INTEGRITY),
            Kind::TruncatedGzip      => ("truncated-gzip",      libc::EBADMSG,    exit::INTEGRITY),
            Kind::Unauthenticated    => ("unauthenticated",     libc::EOPNOTSUPP, exit::SOME_FAILED),
            Kind::InstructionFile    => ("instruction-file",    libc::EOPNOTSUPP, exit::SOME_FAILED),
            Kind::TooLarge           => ("too-large",           libc::EFBIG,      exit::SOME_FAILED),
            Kind::AccessDenied       => ("access-denied",       libc::EACCES,     exit::STORAGE),
            Kind::Archived           => ("archived",            libc::EREMOTE,    exit::STORAGE),
            Kind::NotFound           => ("not-found",           libc::ENOENT,     exit::STORAGE),
            Kind::Stale              => ("stale",               libc::ESTALE,     exit::STORAGE),
            Kind::Storage            => ("storage",             libc::EIO,        exit::STORAGE),
            Kind::Timeout            => ("timeout",             libc::EIO,        exit::STORAGE),
            Kind::ReadOnly           => ("read-only",           libc::EROFS,      exit::SOME_FAILED),
            Kind::NotADirectory      => ("not-a-directory",     libc::ENOTDIR,    exit::SOME_FAILED),
            Kind::IsADirectory       => ("is-a-directory",      libc::EISDIR,     exit::SOME_FAILED),
            Kind::NoAttribute        => ("no-attribute",        libc::ENODATA,    exit::SOME_FAILED),
            Kind::Invalid            => ("invalid",             libc::EINVAL,     exit::SOME_FAILED),
            Kind::NoMemory           => ("no-memory",           libc::ENOMEM,     exit::SOME_FAILED),
            Kind::Usage              => ("usage",               libc::EINVAL,     exit::USAGE),
            Kind::Config             => ("config",              libc::EIO,        exit::CONFIG),
            Kind::NoMatch            => ("no-match",            libc::ENOENT,     exit::NO_MATCH),
            Kind::Internal           => ("internal",            libc::EIO,        exit::SOME_FAILED),
        };
        Row { name, errno, exit }
    }

    /// A verdict on the object as it is stored: asking again gives the same answer. Only these may be remembered.
    pub const fn is_verdict(self) -> bool {
        matches!(
            self,
            Kind::NoKey
                | Kind::NoEnvelope
                | Kind::BadEnvelope
                | Kind::UnsupportedWrap
                | Kind::UnsupportedContent
                | Kind::KeyUnwrap
                | Kind::Commitment
                | Kind::Tag
                | Kind::Truncated
                | Kind::Padding
                | Kind::BadGzip
                | Kind::GzipChecksum
                | Kind::TruncatedGzip
                | Kind::Unauthenticated
                | Kind::InstructionFile
                | Kind::TooLarge
        )
    }

    /// Worth trying again: the fault lies with the network or the service, not the object.
    pub const fn is_transient(self) -> bool {
        matches!(self, Kind::Storage | Kind::Timeout)
    }
}

#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    /// What it is about: an object key, a path, a bucket. Already escaped.
    subject: Option<String>,
    message: String,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Arc::new(Inner { kind, subject: None, message: message.into() }))
    }

    /// Says what the error is about; `subject` may come from the bucket and is escaped here. The first name stays.
    pub fn about(self, subject: &str) -> Self {
        if self.0.subject.is_some() {
            return self;
        }
        Error(Arc::new(Inner {
            kind: self.0.kind,
            subject: Some(escape(subject.as_bytes())),
            message: self.0.message.clone(),
        }))
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    pub fn errno(&self) -> i32 {
        self.0.kind.row().errno
    }

    pub fn exit_code(&self) -> u8 {
        self.0.kind.row().exit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.subject {
            Some(s) => write!(f, "{s}: {}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {self})", self.0.kind.row().name)
    }
}

impl std::error::Error for Error {}

/// Shorthand for the usual construction: `err!(Kind::Tag, "…{}", x)`.
#[macro_export]
macro_rules! err {
    ($kind:expr, $($arg:tt)+) => { $crate::error::Error::new($kind, format!($($arg)+)) };
}

/// Text from outside made fit for one line of a log or a terminal: printable ASCII stays, everything else becomes
/// `\xNN`, and the backslash doubles, so that the escaping can be undone. Long text is cut at 1,200 characters.
pub fn escape(bytes: &[u8]) -> String {
    escape_up_to(1200, bytes)
}

/// The same, however long it gets: two different texts never look alike.
pub fn escape_whole(bytes: &[u8]) -> String {
    escape_up_to(usize::MAX, bytes)
}

fn escape_up_to(most: usize, bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().min(most) + 8);
    for &b in bytes {
        if out.len() >= most {
            out.push_str("...");
            break;
        }
        match b {
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e => out.push(b as char),
            _ => {
                out.push_str("\\x");
                for nibble in [b >> 4, b & 15] {
                    out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('?'));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_has_one_name_for_each_kind_and_no_success() {
        let names: HashSet<_> = Kind::ALL.iter().map(|k| k.row().name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|k| k.row().errno > 0 && k.row().exit > 0));
        assert!(Kind::ALL.iter().all(|k| !(k.is_verdict() && k.is_transient())));
    }

    #[test]
    fn text_from_outside_cannot_reach_a_terminal_raw() {
        assert_eq!(escape(b"a\x1b[31m\n\\\xff"), "a\\x1b[31m\\x0a\\\\\\xff");
        assert!(escape(&[7; 10_000]).len() < 1300);
        assert_eq!(escape_whole(&[7; 10_000]), "\\x07".repeat(10_000));
        let e = Error::new(Kind::Tag, "no").about("k\r").about("other");
        assert_eq!(e.to_string(), "k\\x0d: no");
    }
}
