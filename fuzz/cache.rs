//! The files of `--cache-dir`, which another process or a crash may have left in any state.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use logarchivefs::cachedir::Folder;
use logarchivefs::envelope::{Keyring, MasterKey, SealAs, seal};
use logarchivefs::object::{Listed, Objects, Policy};
use logarchivefs::store::{Count, DirStore, NewObject, Store, write_object};

use super::{MASTER, wait};
use crate::gunzip_support::{Rng, gzip};

/// An archive of one log, and a cache that a first reader has filled.
struct Archive {
    dir: tempfile::TempDir,
    listed: Listed,
    text: Vec<u8>,
    /// The cache's files that hold something: the proof is the last.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

thread_local!(static ARCHIVE: Archive = Archive::new());

impl Archive {
    fn new() -> Archive {
        let dir = tempfile::tempdir().unwrap();
        // Text that hardly compresses, of two segments: objects up to 512 KiB are not kept.
        let mut rng = Rng(7);
        let text: Vec<u8> =
            (0..800_000).map(|n| if n % 90 == 89 { b'\n' } else { b'!' + rng.below(90) as u8 }).collect();
        let mut fill = |buf: &mut [u8]| buf.fill_with(|| rng.next() as u8);
        let (metadata, body) = seal(SealAs::V2, &MasterKey::new(&MASTER).unwrap(), &gzip(&text, 6), &mut fill).unwrap();
        let key_sum = MasterKey::new(&MASTER).unwrap().fingerprint();
        let (etag, size) = ("e".to_owned(), body.len() as u64);
        let object =
            NewObject { key: "k", metadata: &metadata, etag: Some(&etag), version_id: None, last_modified: (0, 0) };
        write_object(dir.path(), &object, &mut &body[..]).unwrap();
        let listed = Listed { key: "k".into(), key_sum, size, etag, storage_class: None };
        let mut archive = Archive { dir, listed, text, files: BTreeMap::new() };
        archive.read();
        let named =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().get(32) == Some(&b'.'));
        let paths = fs::read_dir(archive.cache()).unwrap().map(|entry| entry.unwrap().path()).filter(named);
        archive.files = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        assert!(archive.files.len() > 8, "{} files", archive.files.len());
        archive
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// Reads the log, from its middle first, as a mount would that has just started: it is right, whatever the cache holds.
    /// Bytes that the store was asked for.
    fn read(&self) -> u64 {
        let store = Arc::new(Count::new(DirStore::open(self.dir.path(), "").unwrap()));
        let mut ring = Keyring::default();
        ring.insert(MasterKey::new(&MASTER).unwrap());
        let folder = Folder::open(&self.cache(), 64 << 20).unwrap();
        let objects = Objects::with_cache_dir(Arc::clone(&store) as _, ring, Policy::default(), 64 << 20, Some(folder));
        wait(async {
            let file = objects.get(&self.listed);
            let middle = self.text.len() - 100_000;
            for from in [middle, 0] {
                let mut at = from;
                while at < self.text.len() {
                    let got = file.read_at(at as u64, 200_000).await.expect("a miss is no error");
                    assert!(!got.is_empty() && self.text[at..].starts_with(&got), "another text at {at}");
                    at += got.len();
                }
            }
            objects.settle().await;
        });
        store.counts().bytes
    }
}

/// The first byte says which file of the cache is changed, the second how: it is the rest, or that is put over it at a place
/// that two more bytes name, and perhaps it ends there.
pub fn cache(data: &[u8]) {
    let Some((&[which, how], rest)) = data.split_first_chunk() else { return };
    ARCHIVE.with(|archive| {
        for (path, bytes) in &archive.files {
            // The reader before may have replaced it, or removed it.
            if fs::read(path).ok().as_ref() != Some(bytes) {
                fs::write(path, bytes).unwrap();
            }
        }
        let at = usize::from(which) % archive.files.len();
        let (path, bytes) = archive.files.iter().nth(at).unwrap();
        let mut changed = bytes.clone();
        match (how % 3, rest) {
            (0, rest) => changed = rest.to_vec(),
            (how, &[high, low, ref over @ ..]) => {
                let place = usize::from(u16::from_be_bytes([high, low])) % bytes.len();
                let end = changed.len().min(place + over.len());
                changed[place..end].copy_from_slice(&over[..end - place]);
                if how == 2 {
                    changed.truncate(end);
                }
            }
            _ => {}
        }
        fs::write(path, &changed).unwrap();
        let fetched = archive.read();
        // Left as it was, it spares the log's download.
        assert!(changed != *bytes || fetched < 1000, "{fetched} bytes of an object that is in the cache");
    });
}

/// Each file as it is, and with something put over it.
pub fn cache_seeds() -> Vec<Vec<u8>> {
    ARCHIVE.with(|archive| {
        let files = archive.files.values().enumerate();
        let whole = files.map(|(n, bytes)| [&[n as u8, 0], &bytes[..bytes.len().min(60_000)]].concat());
        let over = [[0, 1], [20, 1], [48, 1], [60, 2], [200, 1], [255, 2]];
        let proof = archive.files.len() as u8 - 1;
        whole.chain(over.iter().map(|[at, how]| vec![proof, *how, *at / 100, *at, 0x55, 0xaa])).collect()
    })
}
