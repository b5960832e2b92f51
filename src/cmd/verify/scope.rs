//! Which objects of a manifest this run would have looked at: only those can be missing.

use crate::catalog::names::link_days;
use crate::catalog::select::Selection;
use crate::cmd::verify::report::Report;
use crate::key::{LogKey, Time};

pub struct Scope {
    pub selection: Selection,
    /// As typed; none is everything.
    pub paths: Vec<String>,
}

impl Scope {
    pub fn covers(&self, old: &Report) -> bool {
        // What is no log any more is not passed over: that is for a person to look at.
        let Ok(log) = LogKey::parse(old.key.as_bytes()) else { return true };
        let modified = Time::parse_rfc3339(&old.last_modified).unwrap_or(Time::EPOCH);
        self.selection.matches(&old.key, &log, modified) && self.covers_path(&old.path, &log)
    }

    /// Whether a log with this path in the mount is among those that were named.
    pub fn covers_path(&self, there: &str, log: &LogKey) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|path| below(path, there, log))
    }
}

/// Whether a mount would show the object at or below `path`.
fn below(path: &str, there: &str, log: &LogKey) -> bool {
    const CONTAINER: usize = 2;
    const DAY: usize = 3;
    let asked = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let mut there = there.split('/');
    asked.enumerate().all(|(level, asked)| {
        let Some(there) = there.next() else { return false };
        asked == there
            || level == CONTAINER && asked.len() >= 12 && there.starts_with(asked)
            || level == DAY && link_days(&log.span).any(|day| day.to_string() == asked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_a_mount() {
        let sum = "97a7dcf8c1e7cae47e7ae797fd83d2a85e5ee343510523dd9459f10628add24b";
        let container = "07d42537ae78b2f14d947f058936681029730674af5204be1b6cc370706d779a";
        let file = format!("{container}-json.log.2022-08-24T21:12:33.2022-08-25T00:00:01.archived.gz");
        let name = "20220824T211233Z_20220825T000001Z.json";
        let old = Report {
            key: format!("acme/shareable/v3/{sum}/apps-604/service-18/{file}"),
            path: format!("acme/apps-604/{container}/2022-08-24/{name}"),
            ..Report::default()
        };
        let covers = |path: &str| Scope { selection: Selection::default(), paths: vec![path.into()] }.covers(&old);
        let link = format!("acme/apps-604/07d42537ae78/2022-08-25/{name}");
        for path in ["", ".", "acme", "acme/apps-604/", "/acme//apps-604/07d42537ae78", &old.path, &link] {
            assert!(covers(path), "{path}");
        }
        let file = format!("{}/x", old.path);
        for path in ["acm", "acme/apps-60", "acme/apps-604/07d42", "acme/apps-604/07d42537ae78/2022-08-26", &file] {
            assert!(!covers(path), "{path}");
        }
        assert!(Scope { selection: Selection::default(), paths: Vec::new() }.covers(&old));
    }
}
