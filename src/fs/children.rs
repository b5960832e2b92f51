//! What is in a folder: one entry by its name, or all of them.

use std::sync::Arc;

use super::folder::LONG;
use super::node::{Dir, Ino, Node};
use super::{DirEntry, Fs, NodeKind, control, not_found};
use crate::catalog::names::Day;
use crate::catalog::{Current, DayEntry};
use crate::error::{Error, Kind, Result};

impl Fs {
    pub(super) async fn child(&self, dir: &Dir, name: &str) -> Result<Node> {
        let found = match dir {
            Dir::Root if name == control::NAME => Some(Node::Dir(Dir::Control)),
            Dir::Control => {
                let found = control::File::ALL.into_iter().find(|file| file.name() == name);
                found.inspect(|file| self.control_lookup(*file)).map(Node::Control)
            }
            Dir::Root => {
                let root = self.catalog.root().await?;
                let stack = root.stacks.iter().find(|s| &***s == name);
                stack.map(|stack| Node::Dir(Dir::Stack(Arc::clone(stack))))
            }
            Dir::Stack(stack) => {
                let listed = self.catalog.stack(stack).await?;
                let resource = listed.resources.get_key_value(name).map(|(name, _)| Arc::clone(name));
                resource.map(|resource| Node::Dir(Dir::Resource(Arc::clone(stack), resource)))
            }
            Dir::Resource(stack, resource) => {
                let tree = self.catalog.tree(stack, resource).await?;
                match tree.container(name) {
                    Some(found) => {
                        Some(Node::Dir(Dir::Container(Arc::clone(stack), Arc::clone(resource), Arc::from(found.id()))))
                    }
                    None => tree
                        .container_by_prefix(name)
                        .map(|found| Node::Link(dir.clone(), name.into(), found.id().into(), None)),
                }
            }
            Dir::Container(stack, resource, container) => {
                let tree = self.catalog.tree(stack, resource).await?;
                let day =
                    Day::parse(name).filter(|day| tree.container(container).is_some_and(|c| c.day(*day).is_some()));
                day.map(|day| Node::Dir(Dir::Day(Arc::clone(stack), Arc::clone(resource), Arc::clone(container), day)))
            }
            Dir::Day(stack, resource, container, day) => {
                let find = |current: &Current| {
                    let folder = current.tree.container(container).and_then(|c| c.day(*day));
                    let entry = folder.and_then(|folder| current.tree.day_entry(folder, name))?;
                    let gone = current.lacks(&entry.item().view());
                    Some((entry, gone))
                };
                let mut found = find(&self.catalog.current(stack, resource).await?);
                if let Some((_, Some(_))) = found
                    && let Some(newer) = self.catalog.renewed(stack, resource).await
                {
                    found = find(&newer);
                }
                match found {
                    Some((entry, None)) => Some(node_of(dir, stack, resource, entry)),
                    Some((entry, Some(Kind::Stale))) => {
                        // What took its place was not listed so far.
                        return Err(Error::new(Kind::Stale, "the object was replaced").about(&entry.item().key()));
                    }
                    _ => None,
                }
            }
        };
        found.ok_or_else(not_found)
    }

    /// What the root or a stack shows.
    pub(super) async fn upper_entries(&self, ino: Ino, dir: &Dir) -> Result<Vec<DirEntry>> {
        let mut entries = self.own_entries(ino, dir);
        let mut push = |name: &str, dir: Dir| {
            entries.push(DirEntry { ino: self.nodes.number(&Node::Dir(dir)), kind: NodeKind::Dir, name: name.into() });
        };
        match dir {
            Dir::Stack(stack) => {
                let listed = self.catalog.stack(stack).await?;
                if listed.resources.len() > LONG {
                    // The thread that asks hands on what waits: see `fuse::adapter`.
                    tokio::task::yield_now().await;
                }
                for name in listed.resources.keys() {
                    push(name, Dir::Resource(Arc::clone(stack), Arc::clone(name)));
                }
            }
            Dir::Control => entries.extend(control::File::ALL.map(|file| {
                let (ino, kind) = (file.ino(), NodeKind::File);
                DirEntry { ino, kind, name: file.name().into() }
            })),
            _ => {
                if self.control.shown() {
                    push(control::NAME, Dir::Control);
                }
                for stack in &self.catalog.root().await?.stacks {
                    push(stack, Dir::Stack(Arc::clone(stack)));
                }
            }
        }
        Ok(entries)
    }

    /// What a folder within a resource shows.
    pub(super) fn entries(&self, ino: Ino, dir: &Dir, current: &Current) -> Vec<DirEntry> {
        let tree = &current.tree;
        let mut entries = self.own_entries(ino, dir);
        let folder = |name: &str, dir: Dir| {
            let ino = self.nodes.number(&Node::Dir(dir));
            DirEntry { ino, kind: NodeKind::Dir, name: name.into() }
        };
        match dir {
            Dir::Root | Dir::Control | Dir::Stack(_) => {}
            Dir::Resource(stack, resource) => entries.extend(
                tree.containers()
                    .map(|id| folder(id, Dir::Container(Arc::clone(stack), Arc::clone(resource), id.into()))),
            ),
            Dir::Container(stack, resource, id) => {
                let days = tree.container(id).map(|c| c.days()).unwrap_or_default();
                entries.extend(days.iter().map(|day| {
                    let dir = Dir::Day(Arc::clone(stack), Arc::clone(resource), Arc::clone(id), day.day);
                    folder(&day.day.to_string(), dir)
                }));
            }
            Dir::Day(_, _, id, day) => {
                let Some(folder) = tree.container(id).and_then(|c| c.day(*day)) else { return entries };
                // Most entries of a tree are files: no node for each, nor a new buffer.
                let mut scratch = String::new();
                let there = tree.day_entries(folder).filter(|(item, _)| current.lacks(item).is_none());
                entries.extend(there.map(|(item, is_link)| {
                    scratch.clear();
                    item.write_name(&mut scratch);
                    let name: Box<str> = scratch.as_str().into();
                    let (ino, kind) = match is_link {
                        true => (self.nodes.link_number(dir, &name), NodeKind::Link),
                        false => (Ino(item.number()), NodeKind::File),
                    };
                    DirEntry { ino, kind, name }
                }));
            }
        }
        entries
    }

    fn own_entries(&self, ino: Ino, dir: &Dir) -> Vec<DirEntry> {
        let parent = self.nodes.number(&Node::Dir(dir.parent()));
        vec![
            DirEntry { ino, kind: NodeKind::Dir, name: ".".into() },
            DirEntry { ino: parent, kind: NodeKind::Dir, name: "..".into() },
        ]
    }
}

fn node_of(dir: &Dir, stack: &Arc<str>, resource: &Arc<str>, entry: DayEntry) -> Node {
    match entry.target() {
        Some(target) => {
            let item = entry.into_item();
            Node::Link(dir.clone(), item.name().into(), target.into(), Some(item))
        }
        None => Node::File(entry.into_item(), Arc::clone(stack), Arc::clone(resource)),
    }
}
