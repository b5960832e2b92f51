//! What a bucket policy means for the archiver. Pure: the policy's text and the bucket's name in, a [`Verdict`] out.
//!
//! IAM's rules, as far as they matter here: what no statement allows is denied; a matching Deny beats every Allow;
//! elements are one or many; names of actions are matched without case, resources with it, `*` and `?` in both. Each thing
//! the archiver needs must be allowed as a whole by one statement. What depends on a Condition is neither allowed nor
//! denied here but told; a Deny that only asks for encrypted transport does not concern the archiver.

use std::collections::BTreeSet;

use serde_json::Value;

const ROLE: &str = "arn:aws:iam::916150859591:role/s3-stack-log-replication";
/// A grant to the account is one that its roles can have.
const ACCOUNT: [&str; 2] = ["916150859591", "arn:aws:iam::916150859591:root"];

/// What the archiver calls; the last three are what `s3:List*` means for a bucket. `true`: on the objects.
const NEEDS: [(&str, bool); 8] = [
    ("s3:ReplicateObject", true),
    ("s3:ReplicateDelete", true),
    ("s3:ObjectOwnerOverrideToBucketOwner", true),
    ("s3:GetBucketVersioning", false),
    ("s3:PutBucketVersioning", false),
    ("s3:ListBucket", false),
    ("s3:ListBucketVersions", false),
    ("s3:ListBucketMultipartUploads", false),
];
/// Some of what it has no need of: signs of a grant that is too wide.
const EXCESS: [(&str, bool); 4] =
    [("s3:GetObject", true), ("s3:DeleteObject", true), ("s3:PutBucketPolicy", false), ("s3:DeleteBucket", false)];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Needed, and allowed by nothing.
    pub missing: BTreeSet<&'static str>,
    /// Needed, and denied.
    pub denied: BTreeSet<&'static str>,
    /// Needed, and allowed or denied only under a condition or for a part of the objects.
    pub conditional: BTreeSet<&'static str>,
    /// What the archiver may do beyond that.
    pub excess: BTreeSet<&'static str>,
    /// Everybody is allowed something.
    pub public: bool,
}

/// An error if this is no policy.
pub fn judge(policy: &str, bucket: &str) -> Result<Verdict, String> {
    let policy: Value = serde_json::from_str(policy).map_err(|e| format!("no JSON: {e}"))?;
    let statements = match policy.get("Statement") {
        Some(Value::Array(all)) => all.iter().map(Statement::parse).collect::<Result<Vec<_>, _>>()?,
        Some(one @ Value::Object(_)) => vec![Statement::parse(one)?],
        _ => return Err("no Statement in it".into()),
    };
    let arn = format!("arn:aws:s3:::{bucket}");
    let objects = format!("{arn}/*");
    let on = |objects_too: bool| if objects_too { &objects } else { &arn };
    let mut verdict = Verdict::default();
    for (action, of_objects) in NEEDS {
        let mut grants = statements.iter().filter_map(|s| s.grants(action, on(of_objects))).peekable();
        match (grants.peek().is_some(), grants.any(|g| g == Extent::Whole)) {
            (false, _) => drop(verdict.missing.insert(action)),
            (true, false) => drop(verdict.conditional.insert(action)),
            (true, true) => {}
        }
        for extent in statements.iter().filter_map(|s| s.denies(action, on(of_objects))) {
            match extent {
                Extent::Whole => verdict.denied.insert(action),
                Extent::Part => verdict.conditional.insert(action),
            };
        }
    }
    for (action, of_objects) in EXCESS {
        if statements.iter().any(|s| !s.is_public() && s.grants(action, on(of_objects)).is_some()) {
            verdict.excess.insert(action);
        }
    }
    verdict.public = statements.iter().any(|s| s.allow && s.is_public() && s.condition.is_none());
    Ok(verdict)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    /// Under a condition, or on some of the objects.
    Part,
}

/// `Action` or `NotAction`, and so on.
#[derive(Default)]
struct Words<'a> {
    words: Vec<&'a str>,
    inverted: bool,
}

impl<'a> Words<'a> {
    fn of(statement: &'a Value, name: &str) -> Result<Words<'a>, String> {
        match (statement.get(name), statement.get(format!("Not{name}"))) {
            (Some(value), None) => Ok(Words { words: one_or_many(value, name)?, inverted: false }),
            (None, Some(value)) => Ok(Words { words: one_or_many(value, name)?, inverted: true }),
            _ => Err(format!("a statement needs either {name} or Not{name}")),
        }
    }
}

fn one_or_many<'a>(value: &'a Value, name: &str) -> Result<Vec<&'a str>, String> {
    let bad = || format!("{name} is neither a string nor a list of strings");
    match value {
        Value::String(one) => Ok(vec![one]),
        Value::Array(many) => many.iter().map(|v| v.as_str().ok_or_else(bad)).collect(),
        // A principal by kind; only those of AWS are accounts, users and roles.
        Value::Object(kinds) if name == "Principal" => {
            kinds.get("AWS").map_or_else(|| Ok(Vec::new()), |v| one_or_many(v, "Principal.AWS"))
        }
        _ => Err(bad()),
    }
}

struct Statement<'a> {
    allow: bool,
    principals: Words<'a>,
    actions: Words<'a>,
    resources: Words<'a>,
    condition: Option<&'a Value>,
}

impl<'a> Statement<'a> {
    fn parse(statement: &'a Value) -> Result<Statement<'a>, String> {
        let allow = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err("a statement whose Effect is neither Allow nor Deny".into()),
        };
        let condition = statement.get("Condition").filter(|c| c.as_object().is_none_or(|c| !c.is_empty()));
        Ok(Statement {
            allow,
            principals: Words::of(statement, "Principal")?,
            actions: Words::of(statement, "Action")?,
            resources: Words::of(statement, "Resource")?,
            condition,
        })
    }

    fn is_public(&self) -> bool {
        self.principals.inverted || self.principals.words.contains(&"*")
    }

    fn grants(&self, action: &str, resource: &str) -> Option<Extent> {
        self.extent(action, resource).filter(|_| self.allow)
    }

    fn denies(&self, action: &str, resource: &str) -> Option<Extent> {
        self.extent(action, resource).filter(|_| !self.allow && !self.condition.is_some_and(is_about_transport))
    }

    /// How far this statement is about the archiver doing `action` on all of `resource`.
    fn extent(&self, action: &str, resource: &str) -> Option<Extent> {
        let principals = &self.principals;
        let role = principals.words.contains(&ROLE);
        let concerned = if principals.inverted {
            !role
        } else {
            role || principals.words.iter().any(|p| *p == "*" || ACCOUNT.contains(p))
        };
        let action = action.to_ascii_lowercase();
        let named = self.actions.words.iter().any(|p| matches(&p.to_ascii_lowercase(), &action, How::Covers));
        if !concerned || named == self.actions.inverted {
            return None;
        }
        let any = |how| self.resources.words.iter().any(|p| matches(p, resource, how));
        let (covered, touched) = match self.resources.inverted {
            false => (any(How::Covers), any(How::Meets)),
            true => (!any(How::Meets), !any(How::Covers)),
        };
        match (covered, touched, self.condition) {
            (true, _, None) => Some(Extent::Whole),
            (true, _, Some(_)) | (false, true, _) => Some(Extent::Part),
            (false, false, _) => None,
        }
    }
}

/// `{"Bool": {"aws:SecureTransport": "false"}}` or a TLS version: in a Deny, all that it forbids is plain http or old TLS.
fn is_about_transport(condition: &Value) -> bool {
    let one = |v: &Value| match v {
        Value::Array(many) if many.len() == 1 => many[0].clone(),
        other => other.clone(),
    };
    condition.as_object().is_some_and(|operators| {
        operators.iter().all(|(operator, keys)| {
            keys.as_object().is_some_and(|keys| {
                keys.iter().all(|(key, value)| match key.to_ascii_lowercase().as_str() {
                    "aws:securetransport" => {
                        operator.starts_with("Bool") && matches!(one(value).to_string().trim_matches('"'), "false")
                    }
                    "s3:tlsversion" => operator.starts_with("NumericLessThan"),
                    _ => false,
                })
            })
        })
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The pattern matches all that `what` stands for.
    Covers,
    /// Something that `what` stands for is matched.
    Meets,
}

/// `what` may hold a `*` too, which stands for any text. Work and memory grow with the product of the lengths at worst, whatever
/// the pattern is: row `i` says from which places of `what` on the pattern's rest matches.
fn matches(pattern: &str, what: &str, how: How) -> bool {
    let (pattern, what) = (pattern.as_bytes(), what.as_bytes());
    let n = what.len();
    let skips = |j: usize| how == How::Meets && what.get(j) == Some(&b'*');
    let mut below = vec![false; n + 1];
    for i in (0..=pattern.len()).rev() {
        let mut row = vec![false; n + 1];
        for j in (0..=n).rev() {
            let after = j < n && row[j + 1];
            row[j] = match (pattern.get(i), what.get(j)) {
                (None, None) => true,
                (None, Some(_)) => skips(j) && after,
                (Some(b'*'), _) => below[j] || after,
                (Some(_), Some(b'*')) => skips(j) && (after || below[j]),
                (Some(p), Some(w)) => (*p == b'?' || p == w) && below[j + 1],
                (Some(_), None) => false,
            };
        }
        below = row;
    }
    below[0]
}

#[cfg(test)]
mod tests;
