//! One resource's objects as folders: container, day, file.
//!
//! Invariants: the order is that of the names (bytewise), so a lookup is a binary search; every object that the grammar
//! accepts and the selection wants is exactly one file; a file's span makes links on later days only. Nothing here is
//! allocated object by object: 80 bytes each, a container's id once, 20 bytes a day folder, 4 a link.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::item::{Item, ItemRef};
use super::names::Day;
use super::row::{Odd, Row};

/// One entry of a day folder.
#[derive(Clone, Debug)]
pub enum DayEntry {
    File(Item),
    /// A file of an earlier day whose span touches this one.
    Link(Item),
}

impl DayEntry {
    pub fn item(&self) -> &Item {
        match self {
            DayEntry::File(item) | DayEntry::Link(item) => item,
        }
    }

    pub fn into_item(self) -> Item {
        match self {
            DayEntry::File(item) | DayEntry::Link(item) => item,
        }
    }

    /// Where a link points, relative to its own folder.
    pub fn target(&self) -> Option<String> {
        match self {
            DayEntry::File(_) => None,
            DayEntry::Link(item) => Some(format!("../{}/{}", item.day(), item.name())),
        }
    }
}

/// A container's folder.
#[derive(Clone, Copy)]
pub struct Container<'a> {
    tree: &'a ResourceTree,
    at: usize,
}

#[derive(Clone, Debug)]
pub struct DayFolder {
    pub day: Day,
    /// Files of this day, by their place.
    files: Range<u32>,
    /// Files of earlier days, in [`ResourceTree::links`].
    links: Range<u32>,
}

impl DayFolder {
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    pub fn link_count(&self) -> usize {
        self.links.len()
    }
}

/// The folders of one resource, as one listing showed it. Immutable: a refresh makes a new one.
#[derive(Default)]
pub struct ResourceTree {
    rows: Vec<Row>,
    odd: Vec<Arc<Odd>>,
    folders: Vec<Arc<str>>,
    classes: Vec<Arc<str>>,
    /// The ids of all containers, one behind the other.
    ids: String,
    /// For each container where its id and its days end.
    containers: Vec<(usize, u32)>,
    days: Vec<DayFolder>,
    /// Places of files in the order of their names, folder by folder.
    links: Vec<u32>,
    bytes: u64,
    serial: u64,
}

/// The number of the last tree that was made.
static SERIAL: AtomicU64 = AtomicU64::new(0);

pub(super) fn next_serial() -> u64 {
    SERIAL.fetch_add(1, Relaxed) + 1
}

/// Keys that a listing showed and the tree leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    pub count: u64,
    /// The first few, escaped, with the reason.
    pub examples: Vec<String>,
}

impl LeftOut {
    const EXAMPLES: usize = 5;

    pub fn extend(&mut self, other: LeftOut) {
        self.count += other.count;
        self.examples.extend(other.examples);
        self.examples.truncate(Self::EXAMPLES);
    }

    pub fn add(&mut self, key: &[u8], why: impl std::fmt::Display) {
        self.count += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push(format!("{} ({why})", crate::error::escape(key)));
        }
    }
}

impl ResourceTree {
    /// A container behind those before; its files must be behind theirs too.
    pub(super) fn push_container(&mut self, id: &str, days: impl Iterator<Item = (Day, Range<usize>, Vec<u32>)>) {
        self.ids.push_str(id);
        for (day, files, links) in days {
            let first = self.links.len() as u32;
            self.links.extend(links);
            let links = first..self.links.len() as u32;
            self.days.push(DayFolder { day, files: files.start as u32..files.end as u32, links });
        }
        self.containers.push((self.ids.len(), self.days.len() as u32));
    }

    pub(super) fn set_rows(
        &mut self,
        rows: Vec<Row>,
        odd: Vec<Arc<Odd>>,
        folders: Vec<Arc<str>>,
        classes: Vec<Arc<str>>,
    ) {
        self.serial = next_serial();
        self.bytes = rows.iter().map(|row| row.size).sum();
        (self.rows, self.odd, self.folders, self.classes) = (rows, odd, folders, classes);
        self.ids.shrink_to_fit();
        self.containers.shrink_to_fit();
        self.days.shrink_to_fit();
        self.links.shrink_to_fit();
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Another number than that of every other tree of this process; never 0.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Of all files, in the store.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file at a place, in the order of the folders.
    pub fn get(&self, place: usize) -> Option<ItemRef<'_>> {
        let row = self.rows.get(place)?;
        Some(ItemRef::new(row, self.id(row.container as usize), place, &self.odd, &self.folders, &self.classes))
    }

    pub fn item(&self, place: usize) -> Option<Item> {
        self.get(place).map(|item| item.to_item())
    }

    /// All files, in the order of the folders.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        (0..self.len()).filter_map(|place| self.item(place))
    }

    fn id(&self, at: usize) -> &str {
        let start = at.checked_sub(1).and_then(|before| self.containers.get(before)).map_or(0, |c| c.0);
        let end = self.containers.get(at).map_or(start, |c| c.0);
        self.ids.get(start..end).unwrap_or_default()
    }

    pub fn container_count(&self) -> usize {
        self.containers.len()
    }

    pub fn containers(&self) -> impl Iterator<Item = &str> {
        (0..self.containers.len()).map(|at| self.id(at))
    }

    /// The first container that is not before `id`.
    fn seek(&self, id: &str) -> usize {
        partition(self.containers.len(), |at| self.id(at) < id)
    }

    pub fn container(&self, id: &str) -> Option<Container<'_>> {
        let at = self.seek(id);
        (at < self.containers.len() && self.id(at) == id).then_some(Container { tree: self, at })
    }

    /// The one container whose id begins with `prefix`, which has 12 characters at least.
    pub fn container_by_prefix(&self, prefix: &str) -> Option<Container<'_>> {
        if prefix.len() < 12 {
            return None;
        }
        let at = self.seek(prefix);
        let fits = |at: usize| at < self.containers.len() && self.id(at).starts_with(prefix);
        (fits(at) && !fits(at + 1)).then_some(Container { tree: self, at })
    }

    /// The entries of a day folder in the order of their names; true for links.
    pub fn day_entries(&self, folder: &DayFolder) -> impl Iterator<Item = (ItemRef<'_>, bool)> {
        let mut files = folder.files.clone().filter_map(|at| self.get(at as usize)).peekable();
        let mut links = self.links_of(folder).iter().filter_map(|at| self.get(*at as usize)).peekable();
        std::iter::from_fn(move || match (files.peek(), links.peek()) {
            (Some(file), Some(link)) if link.cmp_name(file).is_lt() => links.next().map(|link| (link, true)),
            (None, _) => links.next().map(|link| (link, true)),
            _ => files.next().map(|file| (file, false)),
        })
    }

    pub fn day_entry(&self, folder: &DayFolder, name: &str) -> Option<DayEntry> {
        let named = |at: u32| self.get(at as usize).map(|item| item.name());
        let files = folder.files.clone();
        let at = files.start + partition(files.len(), |n| named(files.start + n as u32).as_deref() < Some(name)) as u32;
        if files.contains(&at) && named(at).as_deref() == Some(name) {
            return self.item(at as usize).map(DayEntry::File);
        }
        let links = self.links_of(folder);
        let at = *links.get(links.partition_point(|at| named(*at).as_deref() < Some(name)))?;
        (named(at).as_deref() == Some(name)).then(|| self.item(at as usize).map(DayEntry::Link)).flatten()
    }

    fn links_of(&self, folder: &DayFolder) -> &[u32] {
        self.links.get(folder.links.start as usize..folder.links.end as usize).unwrap_or_default()
    }
}

impl<'a> Container<'a> {
    pub fn id(&self) -> &'a str {
        self.tree.id(self.at)
    }

    /// The places of its files, day by day.
    pub fn files(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.days().iter().flat_map(|day| day.files.clone())
    }

    /// Its days in order.
    pub fn days(&self) -> &'a [DayFolder] {
        let end = |at: usize| self.tree.containers.get(at).map_or(0, |c| c.1 as usize);
        let start = self.at.checked_sub(1).map_or(0, end);
        self.tree.days.get(start..end(self.at)).unwrap_or_default()
    }

    pub fn day(&self, day: Day) -> Option<&'a DayFolder> {
        let days = self.days();
        days.binary_search_by(|f| f.day.cmp(&day)).ok().map(|at| &days[at])
    }
}

/// How many of `0..len` come first for which `before` holds.
fn partition(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
