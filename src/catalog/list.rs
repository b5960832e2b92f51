//! The requests: one level of folders, or one resource whole.
//!
//! Invariants: at most [`MOST_AT_ONCE`] LISTs of a mount are on their way at once; the selection prunes only where the
//! order of the keys allows it and no name depends on it. So ids and stacks choose folders, a container's prefix narrows the
//! LIST of a resource; dates and services do not: the container stands before the time in a key, and logs of two
//! services may want one name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::future::{join_all, try_join_all};

use super::build::Builder;
use super::gate::Gate;
use super::select::Selection;
use super::sweep::sweep;
use super::{LeftOut, ResourceTree, Root, Stack, lock};
use crate::err;
use crate::error::{Kind, Result};
use crate::key::{NotALog, Resource, is_safe_component, is_stack};
use crate::store::{Entry, ListRequest, Pages, Store};

const MOST_AT_ONCE: usize = 32;
/// Of these, for listings that nobody waits for.
const MOST_AHEAD: usize = 16;
/// More narrow LISTs than this are not made in place of one wide one.
pub(super) const MOST_NARROW: usize = 32;

/// A tree of so many objects is made in no time.
const SOON: usize = 20_000;

/// Whether somebody waits for a listing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hurry {
    Wanted,
    Ahead,
}

pub(super) struct Lister {
    pub store: Arc<dyn Store>,
    pub selection: Arc<Selection>,
    pub gate: Gate,
    /// The same, with no more than a share of it.
    side_gate: Gate,
    /// What each listing left out, by its prefix: a refresh that finds the same is not logged again.
    left_out: Mutex<HashMap<String, LeftOut>>,
}

impl Lister {
    pub fn new(store: Arc<dyn Store>, selection: Selection) -> Self {
        let gate = Gate::new(MOST_AT_ONCE);
        let side_gate = gate.share(MOST_AHEAD);
        Lister { store, selection: Arc::new(selection), gate, side_gate, left_out: Mutex::default() }
    }

    /// Keys left out of the listings seen so far.
    pub fn left_out(&self) -> u64 {
        lock(&self.left_out).values().map(|l| l.count).sum()
    }

    /// Where stacks were asked for by name, the root itself is never listed: who may see one stack need not see all.
    pub async fn root(&self) -> Result<Root> {
        let mut root = Root::default();
        let asked = self.selection.stacks();
        let found = try_join_all(asked.iter().map(|stack| async move {
            let request = ListRequest { max_keys: Some(1), ..ListRequest::below(format!("{stack}/shareable/")) };
            let _permit = self.gate.pass().await;
            let mut pages = Pages::new(&*self.store, request);
            let mut found = false;
            while !found && let Some(page) = pages.next().await? {
                found = !page.objects.is_empty();
            }
            Ok(found.then(|| Arc::from(stack.as_str())))
        }));
        root.stacks.extend(found.await?.into_iter().flatten());
        if asked.is_empty() {
            let (prefixes, mut left_out) = self.folder("", "not below a stack").await?;
            for prefix in prefixes {
                match component(&prefix, "") {
                    Some(stack) if is_stack(stack) => root.stacks.push(stack.into()),
                    Some(_) => left_out.add(&prefix, NotALog::Reserved),
                    None => left_out.add(&prefix, "no safe stack name"),
                }
            }
            self.report("", left_out);
        }
        root.stacks.sort_unstable();
        root.stacks.dedup();
        Ok(root)
    }

    pub async fn stack(&self, stack: &str) -> Result<Stack> {
        let mut found = Stack::default();
        let mut left_out = LeftOut::default();
        let top = format!("{stack}/");
        let shareable = format!("{top}shareable/");
        let [v2, v3] = ["v2", "v3"].map(|schema| format!("{shareable}{schema}/"));
        // All at once; two of them are only asked for what does not belong there.
        const ELSEWHERE: &str = "not where archives are";
        let above = [&top, &shareable].map(|folder| self.folder(folder, ELSEWHERE));
        let schemas = [&v2, &v3].map(|folder| self.folder(folder, "not below a key sum"));
        let mut folders = join_all(above.into_iter().chain(schemas)).await.into_iter();
        for (base, wanted) in [(&top, &["shareable"][..]), (&shareable, &["v2", "v3"][..])] {
            let (prefixes, foreign) = folders.next().transpose()?.unwrap_or_default();
            left_out.extend(foreign);
            for prefix in prefixes {
                if !component(&prefix, base).is_some_and(|name| wanted.contains(&name)) {
                    left_out.add(&prefix, ELSEWHERE);
                }
            }
        }
        let mut bases = Vec::new();
        for (base, folder) in [&v2, &v3].into_iter().zip(folders) {
            let (sums, foreign) = folder?;
            left_out.extend(foreign);
            for sum in sums {
                match component(&sum, base) {
                    Some(name) => bases.push(format!("{base}{name}/")),
                    None => left_out.add(&sum, "no safe key sum"),
                }
            }
        }
        let folders = try_join_all(bases.iter().map(|base| self.folder(base, "not below a resource"))).await?;
        for (base, (resources, foreign)) in bases.iter().zip(folders) {
            left_out.extend(foreign);
            for prefix in resources {
                let named = component(&prefix, base).and_then(|name| Some((name, Resource::parse(name)?)));
                match named {
                    Some((name, resource)) if self.selection.resource(&resource) => {
                        found.resources.entry(name.into()).or_default().push(format!("{base}{name}/"));
                    }
                    Some(_) => {}
                    None => left_out.add(&prefix, "no resource such as apps-321"),
                }
            }
        }
        self.report(&top, left_out);
        Ok(found)
    }

    /// A resource's objects, below all its prefixes.
    pub async fn resource(&self, prefixes: &[String], hurry: Hurry) -> Result<ResourceTree> {
        let gate = if hurry == Hurry::Wanted { &self.gate } else { &self.side_gate };
        let narrow = match self.selection.containers.is_empty() {
            true => None,
            false => self.narrow(prefixes).await?,
        };
        let mut builder = Builder::new(Arc::clone(&self.selection), self.store.bucket());
        let mut take = |entries: &[Entry]| builder.add(entries);
        sweep(&self.store, gate, narrow.as_deref().unwrap_or(prefixes), &mut take).await?;
        let (tree, left_out) = match builder.len() {
            ..SOON => builder.finish(),
            // Other listings, and reads, go on meanwhile.
            _ => tokio::task::spawn_blocking(|| builder.finish())
                .await
                .map_err(|_| err!(Kind::Internal, "a listing's task panicked"))?,
        };
        self.report(prefixes.first().map_or("", |p| p), left_out);
        Ok(tree)
    }

    /// The prefixes of the containers that were asked for, if these are few: in each folder of a resource.
    async fn narrow(&self, prefixes: &[String]) -> Result<Option<Vec<String>>> {
        let mut folders = Vec::new();
        for prefix in prefixes {
            let is_app = prefix.contains("/shareable/v3/") && prefix.contains("/apps-");
            if is_app {
                // What else is there is looked at where nobody asked for containers.
                let (services, _) = self.folder(prefix, "").await?;
                folders.extend(services.into_iter().filter_map(|s| String::from_utf8(s).ok()));
            } else {
                folders.push(prefix.clone());
            }
        }
        let mut containers = self.selection.containers.clone();
        containers.sort_unstable();
        // One that begins with another is found with it.
        containers.dedup_by(|next, kept| next.starts_with(kept.as_str()));
        let all = folders.iter().flat_map(|folder| containers.iter().map(move |id| format!("{folder}{id}")));
        let all: Vec<String> = all.collect();
        Ok((all.len() <= MOST_NARROW).then_some(all))
    }

    /// One level above the logs: the prefixes right below `prefix`, and the objects there, which are foreign for the reason
    /// `why`. There may be a million of those: they are only counted.
    async fn folder(&self, prefix: &str, why: &str) -> Result<(Vec<Vec<u8>>, LeftOut)> {
        let _permit = self.gate.pass().await;
        let request = ListRequest { delimiter: true, ..ListRequest::below(prefix) };
        let mut pages = Pages::new(&*self.store, request);
        let (mut prefixes, mut foreign) = (Vec::new(), LeftOut::default());
        while let Some(page) = pages.next().await? {
            page.objects.iter().for_each(|entry| foreign.add(&entry.key, why));
            prefixes.extend(page.prefixes);
        }
        Ok((prefixes, foreign))
    }

    fn report(&self, place: &str, left_out: LeftOut) {
        let known = lock(&self.left_out).insert(place.into(), left_out.clone());
        if left_out.count > 0 && known.as_ref() != Some(&left_out) {
            log::warn!(
                "{} keys below {:?} are no log archives and are left out: {}{}; `logarchivefs doctor BUCKET --left-out` names them all",
                left_out.count,
                crate::error::escape(place.as_bytes()),
                left_out.examples.join(", "),
                if left_out.count as usize > left_out.examples.len() { ", ..." } else { "" }
            );
        }
    }
}

/// The one path component that `prefix` (as a delimiter listing gives it) adds to `base`.
pub(super) fn component<'a>(prefix: &'a [u8], base: &str) -> Option<&'a str> {
    let name = std::str::from_utf8(prefix).ok()?.strip_prefix(base)?.strip_suffix('/')?;
    is_safe_component(name).then_some(name)
}
