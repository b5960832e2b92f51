//! What is in a folder: one entry by its name, or all of them.

use std::sync::Arc;

use super::node::{Dir, Node};
use super::{DirEntry, Fs, NodeKind, not_found};
use crate::catalog::DayEntry;
use crate::catalog::names::Day;
use crate::error::Result;

impl Fs {
    pub(super) async fn child(&self, dir: &Dir, name: &str) -> Result<Node> {
        let found = match dir {
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
                let tree = self.catalog.tree(stack, resource).await?;
                let folder = tree.container(container).and_then(|c| c.day(*day));
                folder.and_then(|folder| tree.day_entry(folder, name)).map(|entry| node_of(dir, stack, resource, entry))
            }
        };
        found.ok_or_else(not_found)
    }

    pub(super) async fn children(&self, dir: &Dir, entries: &mut Vec<DirEntry>) -> Result<()> {
        let mut push = |name: &str, node: Node| {
            let kind = match &node {
                Node::Dir(_) => NodeKind::Dir,
                Node::File(..) => NodeKind::File,
                Node::Link(..) => NodeKind::Link,
            };
            entries.push(DirEntry { ino: self.nodes.number(&node), kind, name: name.into() });
        };
        match dir {
            Dir::Root => {
                for stack in &self.catalog.root().await?.stacks {
                    push(stack, Node::Dir(Dir::Stack(Arc::clone(stack))));
                }
            }
            Dir::Stack(stack) => {
                for name in self.catalog.stack(stack).await?.resources.keys() {
                    push(name, Node::Dir(Dir::Resource(Arc::clone(stack), Arc::clone(name))));
                }
            }
            Dir::Resource(stack, resource) => {
                for id in self.catalog.tree(stack, resource).await?.containers() {
                    push(id, Node::Dir(Dir::Container(Arc::clone(stack), Arc::clone(resource), id.into())));
                }
            }
            Dir::Container(stack, resource, container) => {
                let tree = self.catalog.tree(stack, resource).await?;
                for folder in tree.container(container).ok_or_else(not_found)?.days() {
                    let day = Dir::Day(Arc::clone(stack), Arc::clone(resource), Arc::clone(container), folder.day);
                    push(&folder.day.to_string(), Node::Dir(day));
                }
            }
            Dir::Day(stack, resource, container, day) => {
                let tree = self.catalog.tree(stack, resource).await?;
                let folder = tree.container(container).and_then(|c| c.day(*day)).ok_or_else(not_found)?;
                // Most entries of a tree are files: no node for each, nor a new buffer.
                let mut scratch = String::new();
                entries.extend(tree.day_entries(folder).map(|(item, is_link)| {
                    let name = item.name().into_boxed_str();
                    let (ino, kind) = match is_link {
                        true => (self.nodes.link_number(dir, &name), NodeKind::Link),
                        false => (self.nodes.file_number(&item, &mut scratch), NodeKind::File),
                    };
                    DirEntry { ino, kind, name }
                }));
            }
        }
        Ok(())
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
