//! A resource's tree in the making: listed objects in any order, page by page; then names, order, folders.
//!
//! Invariants: names are given before the selection leaves objects out, so they never depend on it; the only pruning
//! before that is of whole containers, in which no other container's names can be. An object that is listed twice is one
//! file. What a page held is packed when it is added, so that no listing is ever in memory as it came.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::item::ItemRef;
use super::names::{self, Day};
use super::number;
use super::row::{Odd, Row};
use super::select::Selection;
use super::tree::{LeftOut, ResourceTree};
use crate::key::{FileName, LogKey, NotALog, Schema};
use crate::store::Entry;

pub struct Builder {
    selection: Arc<Selection>,
    everything: bool,
    bucket: Arc<str>,
    rows: Vec<Row>,
    odd: Vec<Arc<Odd>>,
    folders: Vec<Arc<str>>,
    classes: Vec<Arc<str>>,
    containers: HashMap<Box<str>, u32>,
    /// Container and folder of the last object: keys come in order, so mostly the next one's too.
    last: (String, u32),
    last_folder: Option<(u32, Schema)>,
    left_out: LeftOut,
    scratch: String,
}

impl Builder {
    pub fn new(selection: Arc<Selection>, bucket: &str) -> Self {
        let (rows, odd, folders, classes, containers, left_out, scratch) = Default::default();
        let (last, last_folder) = Default::default();
        let (everything, bucket) = (*selection == Selection::default(), bucket.into());
        Builder {
            selection,
            everything,
            bucket,
            rows,
            odd,
            folders,
            classes,
            containers,
            last,
            last_folder,
            left_out,
            scratch,
        }
    }

    /// How many objects were added.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds a page. Instruction files are passed over in silence; other keys that are no logs are counted.
    pub fn add(&mut self, entries: &[Entry]) {
        for entry in entries {
            match self.parse(&entry.key) {
                Ok((key, name)) => self.add_log(entry, key, &name),
                Err(NotALog::Instruction) => {}
                Err(why) => self.left_out.add(&entry.key, why),
            }
        }
    }

    /// What a key says. Its folder is looked at once for all keys that follow each other there.
    fn parse<'k>(&mut self, key: &'k [u8]) -> Result<(&'k str, FileName<'k>), NotALog> {
        let Ok(text) = std::str::from_utf8(key) else {
            return Err(LogKey::parse(key).err().unwrap_or(NotALog::NotUtf8));
        };
        let folder = folder_of(text);
        if let Some((at, schema)) = self.last_folder
            && self.folders.get(at as usize).is_some_and(|last| **last == *folder)
            && let Some(name) = FileName::beside(schema, text)
        {
            return Ok((text, name));
        }
        let schema = LogKey::parse(key)?.schema();
        self.last_folder = Some((intern(&mut self.folders, folder), schema));
        Ok((text, FileName::beside(schema, text).ok_or(NotALog::FileName)?))
    }

    fn add_log(&mut self, entry: &Entry, key: &str, name: &FileName<'_>) {
        if !self.selection.container(name.container) {
            return;
        }
        let tail = key.get(folder_of(key).len() + name.container.len()..).unwrap_or_default();
        let mut row = Row::new(entry, key, name, tail, &mut self.odd, &mut self.scratch);
        row.number = number::of_file(&self.bucket, key, &entry.etag);
        row.folder = self.last_folder.map_or(0, |(at, _)| at);
        row.container = self.container(name.container);
        // A bucket has a handful of storage classes. What is beyond 254 of them is shown as none.
        row.class = entry.storage_class.as_deref().map_or(0, |class| {
            let at = intern(&mut self.classes, class);
            u8::try_from(at).ok().and_then(|at| at.checked_add(1)).unwrap_or(0)
        });
        self.rows.push(row);
    }

    fn container(&mut self, id: &str) -> u32 {
        if self.last.0 != id || self.containers.is_empty() {
            let next = self.containers.len() as u32;
            let place = match self.containers.get(id) {
                Some(known) => *known,
                None => *self.containers.entry(id.into()).or_insert(next),
            };
            self.last.0.clear();
            self.last.0.push_str(id);
            self.last.1 = place;
        }
        self.last.1
    }

    /// The tree, and what was left out of it.
    pub fn finish(mut self) -> (ResourceTree, LeftOut) {
        let mut ids: Vec<(Box<str>, u32)> = self.containers.drain().collect();
        ids.sort_unstable();
        let mut rank = vec![0u32; ids.len()];
        for (n, (_, place)) in ids.iter().enumerate() {
            rank[*place as usize] = n as u32;
        }
        self.rows.iter_mut().for_each(|row| row.container = rank[row.container as usize]);
        let mut rows = std::mem::take(&mut self.rows);
        let day_of = |row: &Row| self.view(row, "").day_number();
        rows.sort_unstable_by_key(|row| (row.container, day_of(row)));

        let mut tree = ResourceTree::default();
        let mut kept = 0;
        let mut at = 0;
        for (n, (id, _)) in ids.iter().enumerate() {
            let mut days: BTreeMap<Day, (Range<usize>, Vec<u32>)> = BTreeMap::new();
            // A container of which nothing is selected has no place in the tree.
            let place = tree.container_count() as u32;
            while rows.get(at).is_some_and(|row| row.container as usize == n) {
                let day = day_of(&rows[at]);
                let same = |row: &&Row| row.container as usize == n && day_of(row) == day;
                let end = at + rows[at..].iter().take_while(same).count();
                self.name(&mut rows[at..end], id);
                let (home, first) = (self.view(&rows[at], id).day(), kept);
                for from in at..end {
                    let row = rows[from];
                    let item = self.view(&row, id);
                    // Only now: a file's name must not depend on what else was selected.
                    if self.is_double(&rows[at..from], &item) || !self.is_selected(&item) {
                        continue;
                    }
                    for later in names::link_days(&item.span().0) {
                        days.entry(Day::Dated(later)).or_default().1.push(kept as u32);
                    }
                    // `kept` never overtakes `from`; what lies between is done with.
                    rows[kept] = row;
                    rows[kept].container = place;
                    kept += 1;
                }
                if first < kept {
                    days.entry(home).or_default().0 = first..kept;
                }
                at = end;
            }
            if !days.is_empty() {
                self.push_container(&mut tree, &rows[..kept], id, days);
            }
        }
        rows.truncate(kept);
        rows.shrink_to_fit();
        tree.set_rows(rows, self.odd, self.folders, self.classes);
        (tree, self.left_out)
    }

    /// Gives the objects of one day of one container their names, and the order of these.
    fn name(&self, day: &mut [Row], id: &str) {
        let order = |a: &Row, b: &Row| self.view(a, id).cmp_name(&self.view(b, id));
        day.sort_by(order);
        let mut at = 0;
        let mut rivalry = false;
        while at < day.len() {
            let len = 1 + day[at + 1..].iter().take_while(|row| order(&day[at], row).is_eq()).count();
            if len > 1 {
                let mut keys: Vec<String> = day[at..at + len].iter().map(|row| self.view(row, id).key()).collect();
                keys.sort_unstable();
                keys.dedup();
                if keys.len() > 1 {
                    let digits = names::hash_digits(&keys) as u8;
                    day[at..at + len].iter_mut().for_each(|row| row.digits = digits);
                    rivalry = true;
                }
            }
            at += len;
        }
        if rivalry {
            day.sort_by(order);
        }
    }

    /// Whether the same key stands right before.
    fn is_double(&self, before: &[Row], item: &ItemRef<'_>) -> bool {
        before.last().is_some_and(|row| {
            let last = self.view(row, item.container);
            last.cmp_name(item).is_eq() && last.key() == item.key()
        })
    }

    fn is_selected(&self, item: &ItemRef<'_>) -> bool {
        self.everything || {
            let key = item.key();
            LogKey::parse(key.as_bytes()).is_ok_and(|log| self.selection.matches(&key, &log, item.modified()))
        }
    }

    fn push_container(
        &self,
        tree: &mut ResourceTree,
        rows: &[Row],
        id: &str,
        days: BTreeMap<Day, (Range<usize>, Vec<u32>)>,
    ) {
        let days = days.into_iter().map(|(day, (files, mut links))| {
            let item = |at: &u32| self.view(&rows[*at as usize], id);
            links.sort_by(|a, b| item(a).cmp_name(&item(b)));
            (day, files, links)
        });
        tree.push_container(id, days);
    }

    fn view<'v>(&'v self, row: &'v Row, container: &'v str) -> ItemRef<'v> {
        ItemRef::new(row, container, 0, &self.odd, &self.folders, &self.classes)
    }
}

/// With its slash.
fn folder_of(key: &str) -> &str {
    key.split_at(memchr::memrchr(b'/', key.as_bytes()).map_or(0, |slash| slash + 1)).0
}

/// The place of `text` in a table of few.
fn intern(table: &mut Vec<Arc<str>>, text: &str) -> u32 {
    let known = table.iter().position(|known| &**known == text);
    known.unwrap_or_else(|| {
        table.push(text.into());
        table.len() - 1
    }) as u32
}
