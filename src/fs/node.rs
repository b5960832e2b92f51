//! Nodes and their inode numbers.
//!
//! Invariants: a number is derived from the bucket and what the node is (for a file: key and ETag), so it is the same
//! in every mount; a node is kept while the kernel knows it and freed on its last forget; two nodes never share a
//! number, whatever keys a hostile bucket was filled with (the second takes the next free one).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::control;
use super::folder::Shown;
use crate::catalog::Item;
use crate::catalog::names::Day;
use crate::catalog::number;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    pub const ROOT: Ino = Ino(1);
    /// The control folder; its files have the numbers behind it.
    pub const CONTROL: Ino = Ino(2);
    const FIRST: u64 = number::FIRST;
}

/// Which folder of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dir {
    Root,
    /// See [`control`].
    Control,
    Stack(Arc<str>),
    Resource(Arc<str>, Arc<str>),
    Container(Arc<str>, Arc<str>, Arc<str>),
    Day(Arc<str>, Arc<str>, Arc<str>, Day),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Dir(Dir),
    /// A log file and its resource (stack, name).
    File(Item, Arc<str>, Arc<str>),
    /// A symbolic link: its folder, its name, its target, and the file it stands for.
    Link(Dir, Box<str>, Box<str>, Option<Item>),
    /// A file of the control folder.
    Control(control::File),
}

impl Node {
    fn listed_size(&self) -> Option<u64> {
        match self {
            Node::File(item, ..) => Some(item.size()),
            _ => None,
        }
    }

    /// Who watches the mount does not use it; nor is the root any use, without what is in it.
    pub fn is_to_watch(&self) -> bool {
        matches!(self, Node::Dir(Dir::Root | Dir::Control) | Node::Control(_))
    }

    /// The number this node has in every mount of `bucket`, if no other node has it already.
    pub fn number(&self, bucket: &str) -> Ino {
        match self {
            Node::Dir(Dir::Root) => Ino::ROOT,
            Node::Dir(Dir::Control) => Ino::CONTROL,
            Node::Control(file) => file.ino(),
            Node::File(item, ..) => Ino(item.number()),
            Node::Link(dir, name, ..) => link_number(bucket, dir, name),
            Node::Dir(dir) => {
                let (mut parts, day) = (vec![bucket, "dir"], dir.day_name());
                dir.parts(&mut parts);
                parts.extend(day.as_deref());
                number(&parts)
            }
        }
    }
}

fn link_number(bucket: &str, dir: &Dir, name: &str) -> Ino {
    let (mut parts, day) = (vec![bucket, "link"], dir.day_name());
    dir.parts(&mut parts);
    parts.extend(day.as_deref());
    parts.push(name);
    number(&parts)
}

fn number(parts: &[&str]) -> Ino {
    Ino(number::number(parts))
}

impl Dir {
    /// Its path but for the day.
    fn parts<'a>(&'a self, parts: &mut Vec<&'a str>) {
        match self {
            Dir::Root | Dir::Control => {}
            Dir::Stack(stack) => parts.push(stack),
            Dir::Resource(stack, resource) => parts.extend([&**stack, &**resource]),
            Dir::Container(stack, resource, container) | Dir::Day(stack, resource, container, _) => {
                parts.extend([&**stack, &**resource, &**container]);
            }
        }
    }

    fn day_name(&self) -> Option<String> {
        match self {
            Dir::Day(.., day) => Some(day.to_string()),
            _ => None,
        }
    }

    /// From the top of the mount.
    pub fn path(&self) -> String {
        let (mut parts, day) = (vec![""], self.day_name());
        self.parts(&mut parts);
        parts.extend(day.as_deref());
        if parts.len() == 1 { "/".into() } else { parts.join("/") }
    }

    pub fn parent(&self) -> Dir {
        match self.clone() {
            Dir::Root | Dir::Control | Dir::Stack(_) => Dir::Root,
            Dir::Resource(stack, _) => Dir::Stack(stack),
            Dir::Container(stack, resource, _) => Dir::Resource(stack, resource),
            Dir::Day(stack, resource, container, _) => Dir::Container(stack, resource, container),
        }
    }
}

/// The nodes that the kernel knows.
pub struct Nodes {
    bucket: String,
    /// By number, in parts: a table of a million takes a tenth of a second to grow, while whoever wants a node waits.
    tables: Vec<Mutex<Table>>,
}

type Table = HashMap<Ino, Known>;

const TABLES: usize = 256;

struct Known {
    node: Arc<Node>,
    lookups: u64,
    /// Of a folder.
    shown: Shown,
}

impl Known {
    fn new(node: Node) -> Self {
        Known { node: Arc::new(node), lookups: 1, shown: Shown::default() }
    }
}

impl Nodes {
    pub fn new(bucket: &str) -> Self {
        let nodes = Nodes { bucket: bucket.into(), tables: (0..TABLES).map(|_| Mutex::default()).collect() };
        nodes.remember(Node::Dir(Dir::Root));
        nodes
    }

    pub fn len(&self) -> usize {
        self.tables.iter().map(|table| lock(table).len()).sum()
    }

    pub fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        self.table(ino).get(&ino).map(|known| Arc::clone(&known.node))
    }

    /// Counts one lookup of `node` and returns its number.
    pub fn remember(&self, node: Node) -> Ino {
        let mut ino = node.number(&self.bucket);
        loop {
            match self.table(ino).entry(ino) {
                Entry::Vacant(slot) => {
                    slot.insert(Known::new(node));
                    return ino;
                }
                Entry::Occupied(mut slot) if *slot.get().node == node => {
                    let known = slot.get_mut();
                    known.lookups += 1;
                    // A listing that told another size was wrong, or this one is: the later one counts.
                    if known.node.listed_size() != node.listed_size() {
                        known.node = Arc::new(node);
                    }
                    return ino;
                }
                Entry::Occupied(_) => ino = Ino((ino.0 + 1).max(Ino::FIRST)),
            }
        }
    }

    /// Looks at, or changes, what the kernel has been shown of a folder. None if it does not know the folder any more.
    pub fn shown<T>(&self, ino: Ino, look: impl FnOnce(&mut Shown) -> T) -> Option<T> {
        self.table(ino).get_mut(&ino).map(|known| look(&mut known.shown))
    }

    /// The kernel forgets `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {
        if ino == Ino::ROOT {
            return;
        }
        let mut table = self.table(ino);
        if let Entry::Occupied(mut slot) = table.entry(ino) {
            let left = slot.get().lookups.saturating_sub(count);
            if left == 0 {
                slot.remove();
            } else {
                slot.get_mut().lookups = left;
            }
        }
    }

    /// The number as a folder's listing shows it.
    pub fn number(&self, node: &Node) -> Ino {
        node.number(&self.bucket)
    }

    pub fn link_number(&self, dir: &Dir, name: &str) -> Ino {
        link_number(&self.bucket, dir, name)
    }

    /// That which has this number, or would have.
    fn table(&self, ino: Ino) -> MutexGuard<'_, Table> {
        lock(&self.tables[(ino.0 % TABLES as u64) as usize])
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> Node {
        Node::Dir(Dir::Stack(name.into()))
    }

    #[test]
    fn a_node_is_kept_until_its_last_forget() {
        let nodes = Nodes::new("b");
        let ino = nodes.remember(dir("a"));
        assert_eq!(nodes.remember(dir("a")), ino);
        nodes.forget(ino, 1);
        assert!(nodes.get(ino).is_some());
        nodes.forget(ino, 1);
        assert!(nodes.get(ino).is_none());
        nodes.forget(Ino::ROOT, 9);
        assert!(nodes.get(Ino::ROOT).is_some());
    }

    #[test]
    fn numbers_are_the_same_everywhere_and_depend_on_the_bucket_and_the_place() {
        assert_eq!(dir("a").number("b"), dir("a").number("b"));
        assert_ne!(dir("a").number("b"), dir("a").number("c"));
        let one = Node::Dir(Dir::Resource("a".into(), "bc".into()));
        let two = Node::Dir(Dir::Resource("ab".into(), "c".into()));
        assert_ne!(one.number("b"), two.number("b"));
    }

    #[test]
    fn the_control_folder_has_numbers_that_no_name_can_have() {
        let files = control::File::ALL.map(|file| Node::Control(file).number("b").0);
        assert_eq!((Node::Dir(Dir::Control).number("b"), files), (Ino::CONTROL, [3, 4, 5]));
        assert!(files.iter().all(|n| *n < Ino::FIRST));
    }

    #[test]
    fn no_table_becomes_large_while_others_are_small() {
        let nodes = Nodes::new("b");
        (0..100 * TABLES).for_each(|n| _ = nodes.remember(dir(&n.to_string())));
        assert_eq!(nodes.len(), 100 * TABLES + 1);
        assert!(nodes.tables.iter().all(|table| lock(table).len() < 200));
    }

    #[test]
    fn two_nodes_never_share_a_number() {
        let nodes = Nodes::new("b");
        let ino = dir("a").number("b");
        let squatter = Known::new(dir("other"));
        nodes.table(ino).insert(ino, squatter);
        let other = nodes.remember(dir("a"));
        assert_ne!(other, ino);
        assert_eq!(nodes.remember(dir("a")), other);
    }
}
