//! The other order in which programs go through folders: by inode number, which here is a hash.
//!
//! `find`, `du`, `grep -r` and all else that uses gnulib's fts read a folder, 100,000 entries at a time, and sort what they
//! got by inode number if it is more than 10,000. To them that is the order on the disk.

use std::ops::Range;
use std::sync::Arc;

use super::node::{Dir, Ino, Node, Nodes};
use crate::catalog::ResourceTree;

/// Folders with more entries are gone through by inode number.
const MANY: usize = 10_000;
/// As many of them at a time.
const BATCH: usize = 100_000;

/// A resource's files in that order. 8 bytes a file, while somebody goes by it.
pub struct Order {
    /// By rank.
    places: Vec<u32>,
    /// By place.
    ranks: Vec<u32>,
}

impl Order {
    /// None if no folder has so many entries.
    pub fn by_inode(nodes: &Nodes, tree: &ResourceTree, stack: &Arc<str>, resource: &Arc<str>) -> Option<Order> {
        let mut sorted = tree.containers().count() > MANY;
        let mut within: Vec<u32> = (0..tree.len() as u32).collect();
        // Containers, each with what it is sorted by and its files.
        let mut containers: Vec<((usize, Ino), Range<usize>)> = Vec::new();
        let mut end = 0;
        for (index, id) in tree.containers().enumerate() {
            let start = end;
            for day in tree.container(id).map(|container| container.days()).unwrap_or_default() {
                let files = day.file_count();
                let many = files + day.link_count() > MANY;
                sorted |= many;
                if many {
                    let files = tree.day_entries(day).enumerate().filter(|(_, (_, is_link))| !is_link);
                    let mut keys: Vec<((usize, Ino), u32)> = files
                        .zip(end as u32..)
                        .map(|((at, (item, _)), place)| ((at / BATCH, Ino(item.number())), place))
                        .collect();
                    keys.sort_unstable();
                    within[end..].iter_mut().zip(&keys).for_each(|(slot, (_, place))| *slot = *place);
                }
                end += files;
            }
            containers.push(((index, Ino::ROOT), start..end));
        }
        if !sorted || end != tree.len() {
            return None;
        }
        if containers.len() > MANY {
            for (id, (key, _)) in tree.containers().zip(&mut containers) {
                let dir = Dir::Container(Arc::clone(stack), Arc::clone(resource), id.into());
                *key = (key.0 / BATCH, nodes.number(&Node::Dir(dir)));
            }
            containers.sort_unstable_by_key(|(key, _)| *key);
        }
        Some(Order::new(containers.into_iter().flat_map(|(_, files)| within[files].to_vec()).collect()))
    }

    /// Of `places` each is there once.
    pub fn new(places: Vec<u32>) -> Order {
        let mut ranks = vec![0; places.len()];
        for (rank, place) in places.iter().enumerate() {
            ranks[*place as usize] = rank as u32;
        }
        Order { places, ranks }
    }

    pub fn rank(&self, place: usize) -> Option<usize> {
        self.ranks.get(place).map(|rank| *rank as usize)
    }

    pub fn place(&self, rank: usize) -> Option<usize> {
        self.places.get(rank).map(|place| *place as usize)
    }
}
