//! Object keys: what a key says about the log file that it names (FORMAT.md section 1). Pure.
//!
//! ```text
//! v3 apps   <stack>/shareable/v3/<key sum>/apps-<id>/service-<id>/<file>
//! v3 other  <stack>/shareable/v3/<key sum>/<type>-<id>/<file>
//! v2        <stack>/shareable/v2/<key sum>/<type>-<id>/<file>
//! ```
//!
//! Invariant: [`LogKey::parse`] is total. Any bytes give either a [`LogKey`], whose every text is safe as a file name
//! and on a terminal, or the reason why they are [`NotALog`]. Parsing forgets (leading zeros of a service or rotation,
//! where the rotation stood, impossible dates), so two keys can parse alike: whoever asks for the object again must keep the
//! key itself, and [`LogKey::to_key`] is for those who write.

mod grammar;
mod time;

pub use grammar::{FileName, MAX_NAME, RESERVED, is_safe_component, is_stack};
pub use time::{Date, Time};

use std::fmt;

/// The most that S3 allows, bytes.
const MAX_KEY: usize = 1024;

/// What a key belongs to: `apps-321`, `databases-7`, `proxy-55` (an endpoint).
///
/// [`Resource::parse`] splits at the last `-`; the type is `[A-Za-z][A-Za-z0-9_-]*`, the id a decimal `u64`. Leading zeros are
/// kept for the name: `apps-007` has the id 7 and is another resource, with another folder, than `apps-7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// The type, as written.
    pub kind: String,
    pub id: u64,
    /// How many zeros stand before the id.
    zeros: u8,
}

impl Resource {
    pub fn new(kind: impl Into<String>, id: u64) -> Resource {
        Resource { kind: kind.into(), id, zeros: 0 }
    }

    /// `None` for anything that is not `<type>-<id>`, or longer than a file name.
    pub fn parse(text: &str) -> Option<Resource> {
        let (kind, digits) = text.rsplit_once('-')?;
        if text.len() > MAX_NAME || !grammar::is_kind(kind) {
            return None;
        }
        let id = grammar::number(digits)?;
        let zeros = u8::try_from(digits.len().checked_sub(id.to_string().len())?).ok()?;
        Some(Resource { kind: kind.to_owned(), id, zeros })
    }
}

/// The component as the key has it: `apps-321`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{}", self.kind, "0".repeat(usize::from(self.zeros)), self.id)
    }
}

/// The naming schema, component 3 of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Schema {
    V2,
    V3,
}

impl Schema {
    pub fn as_str(self) -> &'static str {
        match self {
            Schema::V2 => "v2",
            Schema::V3 => "v3",
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a key says about time. `None` is the word `unknown` or an impossible date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// v3: first and last record, both inclusive. Nothing says that the end is not before the start.
    Range { start: Option<Time>, end: Option<Time> },
    /// v2: when it was uploaded.
    Uploaded(Option<Time>),
}

impl Span {
    /// The last instant that the key tells: the modification time of its file.
    pub fn last(&self) -> Option<Time> {
        match *self {
            Span::Range { start, end } => end.or(start),
            Span::Uploaded(uploaded) => uploaded,
        }
    }
}

/// A parsed key. Every text in it is safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    pub stack: String,
    /// The SHA-256 of the master key, 64 hex digits *as written*. Keys are chosen by exact comparison with lower-case hex, so an
    /// upper-case sum parses and matches no key.
    pub key_sum: String,
    pub resource: Resource,
    /// In v3 keys of the type `apps`, and only there.
    pub service: Option<u64>,
    /// 64 hex digits in practice.
    pub container: String,
    /// Docker's rotation number at upload: none is the live file, higher is older.
    pub rotation: Option<u64>,
    /// Also tells the schema.
    pub span: Span,
}

/// Why a key does not name a log. The order is that of the checks: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotALog {
    /// It ends in `.instruction`: the envelope of another object.
    Instruction,
    /// Over 1,024 bytes, or a component over 255.
    TooLong,
    NotUtf8,
    /// A component is empty (not counting one `/` at the end), `.`, `..`, or holds control or bidirectional characters.
    HostileComponent,
    /// Not `<stack>/shareable/<schema>/<key sum>/<type>-<id>/[service-<id>/]<file>`: another file, a folder marker.
    Shape,
    /// The stack has the name of the mount's own folder, [`RESERVED`].
    Reserved,
    Schema,
    KeySum,
    Resource,
    /// A v3 `apps` key without `service-<id>`.
    Service,
    FileName,
}

impl NotALog {
    pub fn as_str(self) -> &'static str {
        match self {
            NotALog::Instruction => "an instruction file",
            NotALog::TooLong => "too long for a file name",
            NotALog::NotUtf8 => "not UTF-8",
            NotALog::HostileComponent => "a component is empty, `.`, `..` or holds control characters",
            NotALog::Shape => "not the path of a log archive",
            NotALog::Reserved => "the stack's name is that of the mount's control folder",
            NotALog::Schema => "unknown schema (neither v2 nor v3)",
            NotALog::KeySum => "the key sum is not 64 hex digits",
            NotALog::Resource => "the resource is not <type>-<id>",
            NotALog::Service => "the service is not service-<id>",
            NotALog::FileName => "the file name is not that of a log",
        }
    }
}

impl fmt::Display for NotALog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for NotALog {}

impl LogKey {
    /// Any bytes; the grammar and what it accepts beyond the canonical form are in FORMAT.md section 1.
    pub fn parse(key: &[u8]) -> Result<LogKey, NotALog> {
        if key.ends_with(b".instruction") {
            return Err(NotALog::Instruction);
        }
        if key.len() > MAX_KEY || key.split(|b| *b == b'/').any(|c| c.len() > MAX_NAME) {
            return Err(NotALog::TooLong);
        }
        let key = std::str::from_utf8(key).map_err(|_| NotALog::NotUtf8)?;
        if !key.strip_suffix('/').unwrap_or(key).split('/').all(is_safe_component) {
            return Err(NotALog::HostileComponent);
        }
        let mut parts = key.split('/');
        let mut part = || parts.next().filter(|p| !p.is_empty()).ok_or(NotALog::Shape);
        let (stack, shareable, schema, key_sum, resource, sixth) =
            (part()?, part()?, part()?, part()?, part()?, part()?);
        let (seventh, eighth) = (parts.next(), parts.next());
        if shareable != "shareable" || seventh == Some("") || eighth.is_some() {
            return Err(NotALog::Shape);
        }
        if !is_stack(stack) {
            return Err(NotALog::Reserved);
        }
        let schema = match schema {
            "v2" => Schema::V2,
            "v3" => Schema::V3,
            _ => return Err(NotALog::Schema),
        };
        if !grammar::is_key_sum(key_sum) {
            return Err(NotALog::KeySum);
        }
        let resource = Resource::parse(resource).ok_or(NotALog::Resource)?;
        let (service, file) = match (schema == Schema::V3 && resource.kind == "apps", seventh) {
            (true, Some(file)) => (Some(service(sixth).ok_or(NotALog::Service)?), file),
            (true, None) => return Err(NotALog::Service),
            (false, None) => (None, sixth),
            (false, Some(_)) => return Err(NotALog::Shape),
        };
        let file = grammar::file_name(schema, file).ok_or(NotALog::FileName)?;
        Ok(LogKey {
            stack: stack.to_owned(),
            key_sum: key_sum.to_owned(),
            resource,
            service,
            container: file.container.to_owned(),
            rotation: file.rotation,
            span: file.span,
        })
    }

    pub fn schema(&self) -> Schema {
        match self.span {
            Span::Range { .. } => Schema::V3,
            Span::Uploaded(_) => Schema::V2,
        }
    }

    /// The canonical key: what the archiver would have written. `parse(to_key(k)) == k` for every `k` that `parse` gave; the other
    /// way round only for canonical keys.
    pub fn to_key(&self) -> String {
        let LogKey { stack, key_sum, resource, container, .. } = self;
        let time = |t: Option<Time>| t.map_or_else(|| "unknown".to_owned(), Time::in_key);
        let rotation = self.rotation.map(|n| format!(".{n}")).unwrap_or_default();
        let service = self.service.map(|n| format!("service-{n}/")).unwrap_or_default();
        let file = match self.span {
            Span::Range { start, end } => {
                format!("{container}-json.log{rotation}.{}.{}.archived.gz", time(start), time(end))
            }
            Span::Uploaded(at) => format!("{container}-json{rotation}.log.{}.bck.gz", time(at)),
        };
        format!("{stack}/shareable/{}/{key_sum}/{resource}/{service}{file}", self.schema())
    }
}

impl<'k> FileName<'k> {
    /// The file name of a key whose folder is that of another one of this schema that parsed: there is one exactly if the
    /// key parses. For long listings, as the folder need not be looked at again.
    pub fn beside(schema: Schema, key: &'k str) -> Option<FileName<'k>> {
        let (_, file) = key.rsplit_once('/')?;
        if key.len() > MAX_KEY || file.len() > MAX_NAME { None } else { grammar::file_name(schema, file) }
    }
}

fn service(text: &str) -> Option<u64> {
    text.strip_prefix("service-").and_then(grammar::number)
}
