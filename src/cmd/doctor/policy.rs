//! The policies that `doctor` prints, and the one table of IAM actions: what is printed is what is called and probed.

use serde::Serialize;

use crate::err;
use crate::error::{Kind, Result};

/// An action that this program calls.
pub struct Permission {
    pub action: &'static str,
    /// The check that probes it.
    pub check: &'static str,
    pub on: On,
    pub by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Bucket,
    Objects,
}

/// Who calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Every command that reads.
    Readers,
    /// For what it notes beside its verdicts, and every command with `--at`.
    Verify,
    Doctor,
}

const fn permission(action: &'static str, check: &'static str, on: On, by: By) -> Permission {
    Permission { action, check, on, by }
}

pub const LIST: Permission = permission("s3:ListBucket", "iam-list-bucket", On::Bucket, By::Readers);
pub const GET: Permission = permission("s3:GetObject", "iam-get-object", On::Objects, By::Readers);
pub const GET_VERSION: Permission =
    permission("s3:GetObjectVersion", "iam-get-object-version", On::Objects, By::Readers);
pub const LOCATION: Permission = permission("s3:GetBucketLocation", "iam-get-bucket-location", On::Bucket, By::Doctor);
pub const VERSIONING: Permission =
    permission("s3:GetBucketVersioning", "iam-get-bucket-versioning", On::Bucket, By::Verify);
pub const LIST_VERSIONS: Permission =
    permission("s3:ListBucketVersions", "iam-list-bucket-versions", On::Bucket, By::Verify);
pub const POLICY: Permission = permission("s3:GetBucketPolicy", "iam-get-bucket-policy", On::Bucket, By::Doctor);

pub const ALL: [&Permission; 7] = [&LIST, &GET, &GET_VERSION, &LIST_VERSIONS, &LOCATION, &VERSIONING, &POLICY];

/// For policies of no particular bucket.
pub const PLACEHOLDER: &str = "YOUR_BUCKET_NAME";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    action: Vec<&'static str>,
    resource: String,
}

/// For the reader's user or role: no more than this program calls. `prefix`: as of a bucket argument.
pub fn iam(bucket: &str, prefix: &str, region: Option<&str>) -> Result<String> {
    let arn = format!("arn:{}:s3:::{bucket}", partition(region.unwrap_or_default()));
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    let statement = |sid, on, by, resource| {
        let action = ALL.iter().filter(|p| p.on == on && p.by == by).map(|p| p.action).collect();
        Statement { sid, effect: "Allow", action, resource }
    };
    let statement = vec![
        statement("ListLogArchive", On::Bucket, By::Readers, arn.clone()),
        statement("ReadLogArchive", On::Objects, By::Readers, format!("{arn}/{prefix}{slash}*")),
        statement("VerifyLooksAtVersions", On::Bucket, By::Verify, arn.clone()),
        statement("DoctorLooksAtBucket", On::Bucket, By::Doctor, arn),
    ];
    serde_json::to_string_pretty(&Policy { version: "2012-10-17", statement })
        .map_err(|e| err!(Kind::Internal, "cannot write the policy: {e}"))
}

/// The first part of an ARN depends on which of the separate clouds a region is in.
fn partition(region: &str) -> &'static str {
    let partitions = [("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("eusc-", "aws-eusc")];
    partitions.iter().find(|(start, _)| region.starts_with(start)).map_or("aws", |(_, partition)| partition)
}

/// For the bucket: Aptible's own document, word for word.
pub fn bucket(name: &str) -> String {
    include_str!("bucket-policy.json").replace(PLACEHOLDER, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_iam_policy_is_the_table() {
        let policy: Value = serde_json::from_str(&iam("b", "", Some("eu-west-1")).unwrap()).unwrap();
        let mut printed: Vec<(String, String)> = Vec::new();
        for statement in policy["Statement"].as_array().unwrap() {
            assert_eq!(statement["Effect"], "Allow");
            for action in statement["Action"].as_array().unwrap() {
                printed.push((action.as_str().unwrap().into(), statement["Resource"].as_str().unwrap().into()));
            }
        }
        printed.sort();
        let arn = |on| if on == On::Bucket { "arn:aws:s3:::b" } else { "arn:aws:s3:::b/*" };
        let mut table: Vec<(String, String)> = ALL.iter().map(|p| (p.action.into(), arn(p.on).into())).collect();
        table.sort();
        assert_eq!(printed, table);
        assert_eq!(policy["Version"], json!("2012-10-17"));
    }

    #[test]
    fn separate_clouds_and_prefixes_have_their_own_names() {
        assert!(iam("b", "", Some("cn-north-1")).unwrap().contains("\"arn:aws-cn:s3:::b/*\""));
        assert!(iam("b", "", Some("us-gov-west-1")).unwrap().contains("\"arn:aws-us-gov:s3:::b\""));
        assert!(iam("b", "", None).unwrap().contains("\"arn:aws:s3:::b\""));
        for prefix in ["p/q", "p/q/"] {
            assert!(iam("b", prefix, None).unwrap().contains("\"arn:aws:s3:::b/p/q/*\""));
        }
    }
}
