//! The bucket: objects in memory, and what a test has set.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::super::gate::Gate;
use super::{Hook, Seen, UPLOADS};

/// A version of an object; without `body`, a delete marker.
#[derive(Clone)]
pub(crate) struct Version {
    pub id: String,
    pub body: Option<Bytes>,
    pub etag: String,
    pub metadata: BTreeMap<String, String>,
    pub modified: SystemTime,
    pub storage_class: String,
}

/// What the bucket keeps of what is replaced and deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    #[default]
    Everything,
    /// What there was when versioning was suspended. Later versions are called null, and of these there is one only.
    Older,
    /// Versioning was never enabled.
    Never,
}

#[derive(Default)]
pub(crate) struct State {
    /// The last version is the current one.
    pub objects: Mutex<BTreeMap<String, Vec<Version>>>,
    pub seen: Mutex<Vec<Seen>>,
    pub hook: Mutex<Option<Hook>>,
    pub latency: Mutex<Duration>,
    pub gate: Mutex<Option<Arc<Gate>>>,
    pub counter: Mutex<u64>,
    pub kept: Mutex<Kept>,
    /// The bucket policy.
    pub policy: Mutex<Option<String>>,
    /// Names in a page of a listing at most; 0 for 1,000.
    pub page: Mutex<usize>,
}

impl State {
    pub(crate) fn put(&self, key: &str, metadata: BTreeMap<String, String>, body: Bytes, class: &str) -> Version {
        let version = Version {
            id: String::new(),
            etag: Sha256::digest(&body)[..16].iter().map(|b| format!("{b:02x}")).collect(),
            body: Some(body),
            metadata: metadata.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect(),
            modified: UNIX_EPOCH,
            storage_class: class.into(),
        };
        self.add(key, version, |n, _| format!("v{n:06}"))
    }

    pub(crate) fn delete(&self, key: &str) {
        if *self.kept.lock().unwrap() == Kept::Never {
            *self.counter.lock().unwrap() += 1;
            self.objects.lock().unwrap().remove(key);
            return;
        }
        let last = self.objects.lock().unwrap().get(key).and_then(|versions| versions.last().cloned());
        if let Some(last) = last {
            self.add(key, Version { body: None, ..last }, |_, others| format!("d{others:06}"));
        }
    }

    pub(crate) fn delete_version(&self, key: &str, id: &str) {
        let mut objects = self.objects.lock().unwrap();
        let versions = objects.get_mut(key).unwrap();
        versions.retain(|version| version.id != id);
        if versions.is_empty() {
            objects.remove(key);
        }
    }

    /// `id`: from the number of the upload, and of the key's other versions.
    fn add(&self, key: &str, version: Version, id: impl Fn(u64, usize) -> String) -> Version {
        let mut counter = self.counter.lock().unwrap();
        *counter += 1;
        let kept = *self.kept.lock().unwrap();
        let mut objects = self.objects.lock().unwrap();
        let versions = objects.entry(key.to_owned()).or_default();
        let id = if kept == Kept::Everything { id(*counter, versions.len()) } else { "null".into() };
        versions.retain(|version| kept != Kept::Never && version.id != id);
        let version = Version { id, modified: UNIX_EPOCH + Duration::from_secs(UPLOADS + *counter), ..version };
        versions.push(version.clone());
        version
    }
}
