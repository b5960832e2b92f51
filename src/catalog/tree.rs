//! One resource's objects as folders: container, day, file.
//!
//! Invariants: the order is that of the names (bytewise), so a lookup is a binary search; every object that the grammar
//! accepts and the selection wants is exactly one file; a file's span makes links on later days only.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::names::{self, Day};
use super::select::Selection;
use crate::key::{LogKey, NotALog, Time};
use crate::store::Entry;

/// A log object as a file of the tree.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it is among its resource's items, in the order of the folders.
    pub place: usize,
    pub key: Box<str>,
    pub name: Box<str>,
    pub size: u64,
    pub etag: Box<str>,
    /// When it was uploaded.
    pub modified: Time,
    pub storage_class: Option<Arc<str>>,
}

impl PartialEq for Item {
    /// The same version of the same object under the same name, wherever the listing has it.
    fn eq(&self, other: &Item) -> bool {
        self.key == other.key && self.etag == other.etag && self.name == other.name
    }
}

impl Eq for Item {}

impl Item {
    /// The parsed key. `None` cannot be: only keys that parse become items.
    pub fn log_key(&self) -> Option<LogKey> {
        LogKey::parse(self.key.as_bytes()).ok()
    }
}

/// One entry of a day folder.
#[derive(Clone, Debug)]
pub enum DayEntry {
    File(Arc<Item>),
    /// A file of an earlier day whose span touches this one.
    Link(Arc<Item>, Day),
}

impl DayEntry {
    pub fn item(&self) -> &Arc<Item> {
        match self {
            DayEntry::File(item) | DayEntry::Link(item, _) => item,
        }
    }

    pub fn name(&self) -> &str {
        &self.item().name
    }

    /// Where a link points, relative to its own folder.
    pub fn target(&self) -> Option<String> {
        match self {
            DayEntry::File(_) => None,
            DayEntry::Link(item, day) => Some(format!("../{day}/{}", item.name)),
        }
    }
}

/// A container's folder: its days in order.
#[derive(Debug)]
pub struct Container {
    pub id: Box<str>,
    days: Vec<DayFolder>,
}

#[derive(Debug)]
pub struct DayFolder {
    pub day: Day,
    /// Files of this day in [`ResourceTree::items`].
    files: Range<usize>,
    /// Files of earlier days, by their place in `items`, in order of their names.
    links: Box<[(usize, Day)]>,
}

/// The folders of one resource, as one listing showed it. Immutable: a refresh makes a new one.
#[derive(Debug, Default)]
pub struct ResourceTree {
    items: Vec<Arc<Item>>,
    containers: Vec<Container>,
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

    pub fn add(&mut self, key: &[u8], why: impl std::fmt::Display) {
        self.count += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push(format!("{} ({why})", crate::error::escape(key)));
        }
    }

    pub fn merge(&mut self, other: LeftOut) {
        self.count += other.count;
        let room = Self::EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

/// A listed object with its key as text and as what it means.
type Parsed = (Entry, String, LogKey);

impl ResourceTree {
    /// Builds the folders from a listing. Instruction files are passed over in silence; other keys that are no logs
    /// are counted in `left_out`.
    pub fn build(entries: Vec<Entry>, selection: &Selection, left_out: &mut LeftOut) -> ResourceTree {
        let mut days: BTreeMap<(String, Day), Vec<Parsed>> = BTreeMap::new();
        for entry in entries {
            let parsed = LogKey::parse(&entry.key);
            let log = match parsed {
                Ok(log) => log,
                Err(NotALog::Instruction) => continue,
                Err(why) => {
                    left_out.add(&entry.key, why);
                    continue;
                }
            };
            // A key that parses is UTF-8.
            let Ok(key) = String::from_utf8(entry.key.clone()) else { continue };
            days.entry((log.container.clone(), names::day(&log))).or_default().push((entry, key, log));
        }
        let mut tree = ResourceTree::default();
        // Links by container and day: place in `items`, day of the file.
        let mut links: BTreeMap<(String, Day), Vec<(usize, Day)>> = BTreeMap::new();
        let mut folders: BTreeMap<(String, Day), Range<usize>> = BTreeMap::new();
        let mut classes: Vec<Arc<str>> = Vec::new();
        for ((container, day), group) in days {
            let keys: Vec<(&str, &LogKey)> = group.iter().map(|(_, key, log)| (key.as_str(), log)).collect();
            let names = names::assign(&keys);
            let mut named: Vec<_> = names.into_iter().zip(group).collect();
            named.sort_by(|a, b| a.0.cmp(&b.0));
            let first = tree.items.len();
            for (name, (entry, key, log)) in named {
                let modified = Time::from_unix(entry.last_modified.0, entry.last_modified.1).unwrap_or(Time::EPOCH);
                // Only now: a file's name must not depend on what else was selected.
                if !selection.matches(&key, &log, modified) {
                    continue;
                }
                for later in names::link_days(&log) {
                    links.entry((container.clone(), Day::Dated(later))).or_default().push((tree.items.len(), day));
                }
                tree.items.push(Arc::new(Item {
                    place: tree.items.len(),
                    key: key.into(),
                    name: name.into(),
                    size: entry.size,
                    etag: entry.etag.into(),
                    modified,
                    storage_class: entry.storage_class.map(|class| intern(&mut classes, &class)),
                }));
            }
            if first < tree.items.len() {
                folders.insert((container, day), first..tree.items.len());
            }
        }
        for place in links.keys() {
            folders.entry(place.clone()).or_default();
        }
        for ((container, day), files) in folders {
            let mut here = links.remove(&(container.clone(), day)).unwrap_or_default();
            here.sort_by(|a, b| tree.items[a.0].name.cmp(&tree.items[b.0].name));
            let folder = DayFolder { day, files, links: here.into() };
            match tree.containers.last_mut().filter(|last| *last.id == container) {
                Some(last) => last.days.push(folder),
                None => tree.containers.push(Container { id: container.into(), days: vec![folder] }),
            }
        }
        tree
    }

    pub fn items(&self) -> &[Arc<Item>] {
        &self.items
    }

    pub fn containers(&self) -> impl Iterator<Item = &str> {
        self.containers.iter().map(|c| &*c.id)
    }

    pub fn container(&self, id: &str) -> Option<&Container> {
        self.containers.binary_search_by(|c| (*c.id).cmp(id)).ok().map(|at| &self.containers[at])
    }

    /// The one container whose id begins with `prefix`, which has 12 characters at least.
    pub fn container_by_prefix(&self, prefix: &str) -> Option<&Container> {
        if prefix.len() < 12 {
            return None;
        }
        let at = self.containers.partition_point(|c| *c.id < *prefix);
        let mut fitting = self.containers[at..].iter().take_while(|c| c.id.starts_with(prefix));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(first)
    }

    pub fn day_entries(&self, folder: &DayFolder) -> Vec<DayEntry> {
        let files = self.items[folder.files.clone()].iter().map(|item| DayEntry::File(Arc::clone(item)));
        let links = folder.links.iter().map(|&(at, day)| DayEntry::Link(Arc::clone(&self.items[at]), day));
        let mut entries: Vec<DayEntry> = files.chain(links).collect();
        entries.sort_by(|a, b| a.name().cmp(b.name()));
        entries
    }

    pub fn day_entry(&self, folder: &DayFolder, name: &str) -> Option<DayEntry> {
        let files = &self.items[folder.files.clone()];
        if let Ok(at) = files.binary_search_by(|item| (*item.name).cmp(name)) {
            return Some(DayEntry::File(Arc::clone(&files[at])));
        }
        let at = folder.links.binary_search_by(|&(at, _)| (*self.items[at].name).cmp(name)).ok()?;
        let (item, day) = folder.links[at];
        Some(DayEntry::Link(Arc::clone(&self.items[item]), day))
    }
}

impl Container {
    pub fn days(&self) -> &[DayFolder] {
        &self.days
    }

    pub fn day(&self, day: Day) -> Option<&DayFolder> {
        self.days.binary_search_by(|f| f.day.cmp(&day)).ok().map(|at| &self.days[at])
    }
}

/// A bucket has a handful of storage classes and a million objects.
fn intern(classes: &mut Vec<Arc<str>>, class: &str) -> Arc<str> {
    if let Some(known) = classes.iter().find(|known| &***known == class) {
        return Arc::clone(known);
    }
    let new: Arc<str> = class.into();
    classes.push(Arc::clone(&new));
    new
}
