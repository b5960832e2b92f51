//! What the store keeps of the selected logs beside what a listing shows: older versions, and logs behind delete markers.
//!
//! Folders are looked for among the versions, too: of a resource whose logs are all deleted, no listing shows a thing.
//!
//! Invariants: the order is that of stacks, resources and keys, whatever arrives first; a listing that fails ends the stream
//! with its error; memory does not grow with what there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{ready, try_join_all};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::mpsc::{self, Sender};

use super::Catalog;
use super::list::{Lister, MOST_NARROW, component};
use super::select::MIN_CONTAINER;
use crate::error::Result;
use crate::key::{LogKey, Resource, Time, is_stack};
use crate::store::{Timestamp, Version, VersionPages, VersionsRequest};

/// Prefixes that are listed at a time, and how many logs of each may wait for those before it.
const AHEAD: usize = 8;
const WAITING: usize = 256;

/// A log of which there is more, or less, than one version.
#[derive(Clone, Debug)]
pub struct History {
    pub key: String,
    pub log: LogKey,
    /// Delete markers count.
    pub versions: u64,
    /// When its newest content was uploaded, and which version that is. Neither, if only delete markers are left.
    pub modified: Time,
    pub version_id: Option<String>,
    /// A delete marker hides it, since then.
    pub deleted: Option<Time>,
}

impl Catalog {
    /// Those of the selection, and of `paths` as far as their containers tell. Nothing where the store keeps no versions.
    pub fn histories(&self, paths: &[String]) -> BoxStream<'static, Result<History>> {
        let lister = Arc::clone(&self.0.lister);
        let places = Places::new(paths);
        let prefixes = async move {
            let prefixes = places.prefixes(&lister).await?;
            let lists = stream::iter(prefixes).map(move |prefix| {
                let (to, from) = mpsc::channel(WAITING);
                let lister = Arc::clone(&lister);
                // A task of its own, so that it goes on while those before it are told.
                tokio::spawn(async move {
                    if let Err(e) = below(&lister, prefix, &to).await {
                        // Nobody listens any more: nobody wants to know.
                        to.send(Err(e)).await.ok();
                    }
                });
                ready(from)
            });
            let next = |mut from: mpsc::Receiver<_>| async move { from.recv().await.map(|history| (history, from)) };
            Ok(lists.buffered(AHEAD).flat_map(move |from| stream::unfold(from, next)))
        };
        stream::once(prefixes).try_flatten().boxed()
    }
}

/// What paths say of stack, resource and container.
struct Places(Vec<Vec<String>>);

impl Places {
    fn new(paths: &[String]) -> Places {
        let parts = |path: &String| {
            path.split('/').filter(|part| !matches!(*part, "" | ".")).take(3).map(str::to_owned).collect::<Vec<_>>()
        };
        let all: Vec<Vec<String>> = paths.iter().map(parts).collect();
        // One that names everything leaves nothing to choose.
        Places(if all.iter().any(Vec::is_empty) { Vec::new() } else { all })
    }

    fn of<'a>(&'a self, stack: &'a str, resource: &'a str) -> impl Iterator<Item = &'a Vec<String>> {
        let covers = move |path: &&Vec<String>| {
            path.iter().zip([stack, resource]).all(|(asked, there)| there.is_empty() || *asked == there)
        };
        self.0.iter().filter(covers)
    }

    /// `resource` may be empty, for the whole stack.
    fn cover(&self, stack: &str, resource: &str) -> bool {
        self.0.is_empty() || self.of(stack, resource).next().is_some()
    }

    /// The fronts of the container ids that are wanted of this resource; none for all.
    fn containers(&self, stack: &str, resource: &str) -> Vec<String> {
        let asked = self.of(stack, resource).map(|path| path.get(2).filter(|id| id.len() >= MIN_CONTAINER).cloned());
        asked.collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    /// The prefixes below which the selected logs are, in order.
    async fn prefixes(&self, lister: &Lister) -> Result<Vec<String>> {
        let mut stacks = lister.selection.stacks().to_vec();
        if stacks.is_empty() {
            stacks = self.0.iter().filter_map(|path| path.first().cloned()).collect();
        }
        if stacks.is_empty() {
            stacks = folders(lister, "").await?;
        }
        stacks.retain(|stack| is_stack(stack) && lister.selection.stack(stack) && self.cover(stack, ""));
        stacks.sort_unstable();
        stacks.dedup();
        let mut all = Vec::new();
        for stack in &stacks {
            let mut resources: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let [v2, v3] = ["v2", "v3"].map(|schema| format!("{stack}/shareable/{schema}/"));
            for base in [v2, v3] {
                let sums = folders(lister, &base).await?.into_iter().map(|sum| format!("{base}{sum}/"));
                let sums: Vec<String> = sums.collect();
                for (sum, found) in sums.iter().zip(try_join_all(sums.iter().map(|sum| folders(lister, sum))).await?) {
                    for name in found {
                        let wanted = Resource::parse(&name).is_some_and(|r| lister.selection.resource(&r));
                        if wanted && self.cover(stack, &name) {
                            let prefix = format!("{sum}{name}/");
                            resources.entry(name).or_default().push(prefix);
                        }
                    }
                }
            }
            for (name, prefixes) in resources {
                let mut containers = lister.selection.containers.clone();
                if containers.is_empty() {
                    containers = self.containers(stack, &name);
                }
                all.extend(narrow(lister, prefixes, containers).await?);
            }
        }
        Ok(all)
    }
}

/// Those containers' prefixes, if they are few.
async fn narrow(lister: &Lister, prefixes: Vec<String>, mut containers: Vec<String>) -> Result<Vec<String>> {
    if containers.is_empty() {
        return Ok(prefixes);
    }
    containers.sort_unstable();
    // One that begins with another is found with it.
    containers.dedup_by(|next, kept| next.starts_with(kept.as_str()));
    let mut all = Vec::new();
    for prefix in &prefixes {
        let folders = match prefix.contains("/shareable/v3/") && prefix.contains("/apps-") {
            true => folders(lister, prefix).await?.into_iter().map(|service| format!("{prefix}{service}/")).collect(),
            false => vec![prefix.clone()],
        };
        all.extend(folders.iter().flat_map(|folder| containers.iter().map(move |id| format!("{folder}{id}"))));
    }
    Ok(if all.len() <= MOST_NARROW { all } else { prefixes })
}

/// The names right below `prefix`, of what is deleted too.
async fn folders(lister: &Lister, prefix: &str) -> Result<Vec<String>> {
    let request = VersionsRequest { prefix: prefix.into(), delimiter: true, ..VersionsRequest::default() };
    let mut pages = VersionPages::new(&*lister.store, request);
    let mut names = Vec::new();
    loop {
        let _permit = lister.gate.pass().await;
        let Some(page) = pages.next().await? else { return Ok(names) };
        names.extend(page.prefixes.iter().filter_map(|name| component(name, prefix).map(str::to_owned)));
    }
}

/// Sends what there is to tell below one prefix, until nobody listens.
async fn below(lister: &Lister, prefix: String, to: &Sender<Result<History>>) -> Result<()> {
    let mut pages = VersionPages::new(&*lister.store, VersionsRequest { prefix, ..VersionsRequest::default() });
    let mut all = Versions::default();
    loop {
        let page = {
            let _permit = lister.gate.pass().await;
            pages.next().await?
        };
        let Some(page) = page else { break };
        for version in page.versions {
            if version.key != all.key {
                tell(lister, std::mem::take(&mut all), to).await;
            }
            all.add(version);
        }
        if to.is_closed() {
            return Ok(());
        }
    }
    tell(lister, all, to).await;
    Ok(())
}

async fn tell(lister: &Lister, versions: Versions, to: &Sender<Result<History>>) {
    let told = versions.told();
    if let Some(history) = told.filter(|h| lister.selection.matches(&h.key, &h.log, h.modified)) {
        to.send(Ok(history)).await.ok();
    }
}

/// All versions of one key.
#[derive(Default)]
struct Versions {
    key: Vec<u8>,
    count: u64,
    newest: Option<(Timestamp, Option<String>)>,
    deleted: Option<Timestamp>,
}

impl Versions {
    fn add(&mut self, version: Version) {
        self.count += 1;
        match version.delete_marker {
            true if version.latest => self.deleted = Some(version.last_modified),
            true => {}
            // They come newest first.
            false if self.newest.is_none() => self.newest = Some((version.last_modified, version.version_id)),
            false => {}
        }
        self.key = version.key;
    }

    fn told(self) -> Option<History> {
        if self.count < 2 && self.deleted.is_none() {
            return None;
        }
        let log = LogKey::parse(&self.key).ok()?;
        let time = |(seconds, nanos): Timestamp| Time::from_unix(seconds, nanos).unwrap_or(Time::EPOCH);
        let (modified, version_id) = self.newest.unzip();
        Some(History {
            key: String::from_utf8(self.key).ok()?,
            log,
            versions: self.count,
            modified: modified.or(self.deleted).map_or(Time::EPOCH, time),
            version_id: version_id.flatten(),
            deleted: self.deleted.map(time),
        })
    }
}
