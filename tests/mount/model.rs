//! The archive as a plain folder: which names, links and texts DESIGN section 3 wants; and what a mount really shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

use crate::common::archive::{Log, sha256};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Dir,
    /// The number of the log.
    File(usize),
    Link(String),
}

pub type Tree = BTreeMap<String, Entry>;

/// The tree of these logs, all selected. Their keys are distinct.
pub fn tree(logs: &[Log]) -> Tree {
    let mut rivals: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
    let place = |log: &Log| (log.folder(), log.day(), log.stem());
    for log in logs {
        assert!(rivals.entry(place(log)).or_default().insert(log.key()), "twice: {}", log.key());
    }
    let mut tree = Tree::new();
    let mut add = |path: String, entry: Entry| {
        for (at, _) in path.match_indices('/') {
            tree.insert(path[..at].to_owned(), Entry::Dir);
        }
        assert_eq!(tree.insert(path.clone(), entry), None, "{path} twice");
    };
    for (n, log) in logs.iter().enumerate() {
        let hash = if rivals[&place(log)].len() > 1 {
            format!("~{}", &sha256(log.key().as_bytes())[..8])
        } else {
            String::new()
        };
        let name = format!("{}{hash}.json", log.stem());
        for later in log.later_days() {
            add(format!("{}/{later}/{name}", log.folder()), Entry::Link(format!("../{}/{name}", log.day())));
        }
        add(format!("{}/{}/{name}", log.folder(), log.day()), Entry::File(n));
    }
    tree
}

/// What is below `root`, with the type as `readdir` and as `lstat` tell it, and the inode number by both. Files get the
/// number that `model` gives their path, if any.
pub fn walk(root: &Path, model: &Tree) -> (Tree, BTreeMap<String, u64>) {
    let (mut tree, mut inodes) = (Tree::new(), BTreeMap::new());
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            assert_eq!(entry.file_type().unwrap(), meta.file_type(), "{name}");
            assert_eq!(entry.ino(), meta.ino(), "{name}");
            let what = if meta.is_dir() {
                folders.push(path);
                Entry::Dir
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap().to_str().unwrap().to_owned();
                assert_eq!(meta.len(), target.len() as u64);
                Entry::Link(target)
            } else {
                assert!(meta.is_file());
                match model.get(&name) {
                    Some(Entry::File(n)) => Entry::File(*n),
                    _ => Entry::File(usize::MAX),
                }
            };
            inodes.insert(name.clone(), meta.ino());
            assert_eq!(tree.insert(name.clone(), what), None, "{name} is listed twice");
        }
    }
    let distinct: BTreeSet<u64> = inodes.values().copied().collect();
    assert_eq!(distinct.len(), inodes.len(), "two names share an inode number");
    (tree, inodes)
}

/// Fails with the differences only: whole trees are long.
pub fn same(got: &Tree, want: &Tree) {
    let missing: Vec<_> = want.iter().filter(|(k, v)| got.get(*k) != Some(v)).collect();
    let extra: Vec<_> = got.iter().filter(|(k, v)| want.get(*k) != Some(v)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing or other: {missing:#?}\nunexpected: {extra:#?}");
}
