//! Which logs a command is about: the shared selection flags (DESIGN.md section 4). Pure.
//!
//! Invariant: a selection is checked when it is made ([`Selection::new`] is where usage errors come from); after that it
//! is total. The coarse predicates ([`Selection::stack`], [`Selection::resource`], [`Selection::container`]) are the
//! very conditions that [`Selection::matches`] puts together, so pruning a tree by them loses nothing.
//!
//! * The values of one flag are alternatives (`--app-id 1 --app-id 2`); different flags must all hold. So `--app-id 1
//!   --database-id 2` matches nothing: no log belongs to both.
//! * Names and ids are compared whole, container ids by prefix, case counts. v2 keys and all but apps name no service, so
//!   `--service-id` leaves them out.
//! * Dates are inclusive: `--start-date D` from the first instant of the UTC day D, `--end-date D` through its last; either
//!   may be missing, and RFC 3339 instants are taken as such, inclusive too.
//! * A log matches if it *may* hold a record between the two: leaving evidence out is worse than one file too many.
//!   See [`Selection::dates`].

use regex::Regex;

use super::moment::{bound, usage};
use crate::error::Result;
use crate::key::{Date, LogKey, Resource, Span, Time, is_stack};

/// The fewest characters of a container id, those that `docker ps` shows.
pub const MIN_CONTAINER: usize = 12;

/// The flags as typed; an empty list or `None` means that the flag was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectionArgs {
    /// `--stack`, the whole name.
    pub stacks: Vec<String>,
    /// `--app-id`: type `apps`.
    pub app_ids: Vec<u64>,
    /// `--database-id`: type `databases`.
    pub database_ids: Vec<u64>,
    /// `--endpoint-id`: type `proxy`.
    pub endpoint_ids: Vec<u64>,
    /// `--container-id`: the id or at least its first 12 characters.
    pub containers: Vec<String>,
    /// `--service-id`.
    pub service_ids: Vec<u64>,
    /// `--string-matches`: regular expressions, anywhere in the object's key; all must match.
    pub patterns: Vec<String>,
    /// `--start-date`: `YYYY-MM-DD` or RFC 3339.
    pub start_date: Option<String>,
    /// `--end-date`: `YYYY-MM-DD` or RFC 3339.
    pub end_date: Option<String>,
}

/// Checked flags. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    stacks: Vec<String>,
    /// (type, ids) of each id flag that was given.
    resources: Vec<(&'static str, Vec<u64>)>,
    pub(super) containers: Vec<String>,
    services: Vec<u64>,
    pub(super) patterns: Vec<Pattern>,
    /// Inclusive.
    from: Option<Time>,
    /// Inclusive.
    until: Option<Time>,
}

#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// How a log stands to the dates of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DateMatch {
    Outside,
    Inside,
    /// Inside, but the key does not tell the whole span and the upload stood in for it: to be flagged to the user.
    ByUpload,
}

impl Selection {
    /// Errors, all `Kind::Usage` and naming the flag: a stack that cannot be one, a container id that is too short, a date
    /// that does not exist or is in another form, an end before the start.
    pub fn new(args: SelectionArgs) -> Result<Selection> {
        if let Some(stack) = args.stacks.iter().find(|s| !is_stack(s)) {
            return Err(usage("--stack", stack, "not the name of a stack"));
        }
        if let Some(id) = args.containers.iter().find(|c| c.chars().count() < MIN_CONTAINER) {
            let text = "You must specify at least the first 12 characters of the container ID";
            return Err(usage("--container-id", id, text));
        }
        let patterns = args.patterns.iter().map(|text| match Regex::new(text) {
            Ok(regex) => Ok(Pattern(regex)),
            Err(e) => Err(usage("--string-matches", text, &format!("no regular expression: {}", last_line(&e)))),
        });
        let patterns = patterns.collect::<Result<_>>()?;
        let from = args.start_date.as_deref().map(|d| bound("--start-date", d, Date::start)).transpose()?;
        let until = args.end_date.as_deref().map(|d| bound("--end-date", d, Date::end)).transpose()?;
        if let (Some(from), Some(until)) = (from, until)
            && until < from
        {
            return Err(usage("--end-date", &args.end_date.unwrap_or_default(), "End date must be after start date."));
        }
        let resources = [("apps", args.app_ids), ("databases", args.database_ids), ("proxy", args.endpoint_ids)];
        Ok(Selection {
            stacks: args.stacks,
            resources: resources.into_iter().filter(|(_, ids)| !ids.is_empty()).collect(),
            containers: args.containers,
            services: args.service_ids,
            patterns,
            from,
            until,
        })
    }

    /// Whether a log is selected: its key as listed, and what that parses to. `last_modified` is the object's, and counts
    /// only where the key does not tell.
    pub fn matches(&self, listed: &str, key: &LogKey, last_modified: Time) -> bool {
        self.stack(&key.stack)
            && self.resource(&key.resource)
            && self.container(&key.container)
            && self.service(key.service)
            && self.patterns.iter().all(|p| p.0.is_match(listed))
            && self.dates(key, last_modified) != DateMatch::Outside
    }

    /// Whether logs of this stack may match.
    pub fn stack(&self, stack: &str) -> bool {
        self.stacks.is_empty() || self.stacks.iter().any(|s| s == stack)
    }

    /// The stacks that were asked for, to list no others; empty for all.
    pub fn stacks(&self) -> &[String] {
        &self.stacks
    }

    /// Whether logs of this resource may match. Ids are numbers here: `--app-id 7` matches `apps-007` as well as `apps-7`.
    pub fn resource(&self, resource: &Resource) -> bool {
        self.resources.iter().all(|(kind, ids)| resource.kind == *kind && ids.contains(&resource.id))
    }

    /// Whether logs of this container may match.
    pub fn container(&self, container: &str) -> bool {
        self.containers.is_empty() || self.containers.iter().any(|prefix| container.starts_with(prefix.as_str()))
    }

    fn service(&self, service: Option<u64>) -> bool {
        self.services.is_empty() || service.is_some_and(|id| self.services.contains(&id))
    }

    /// Where a log lies. It is inside if the dates touch
    /// * both times known: its span, whichever of the two is earlier;
    /// * end unknown: the time from its start to the upload (`last_modified`), flagged;
    /// * start unknown: the day of the upload or the end, flagged;
    /// * v2: the day of the upload, from the key if that tells, flagged.
    pub fn dates(&self, key: &LogKey, last_modified: Time) -> DateMatch {
        if self.from.is_none() && self.until.is_none() {
            return DateMatch::Inside;
        }
        let day = |t: Time| self.touches(t.date().start(), t.date().end());
        let by_upload = match key.span {
            Span::Range { start: Some(start), end: Some(end) } => {
                let inside = self.touches(start.min(end), start.max(end));
                return if inside { DateMatch::Inside } else { DateMatch::Outside };
            }
            Span::Range { start: Some(start), end: None } => self.touches(start, start.max(last_modified)),
            Span::Range { start: None, end } => day(last_modified) || end.is_some_and(|end| self.touches(end, end)),
            Span::Uploaded(at) => day(at.unwrap_or(last_modified)),
        };
        if by_upload { DateMatch::ByUpload } else { DateMatch::Outside }
    }

    /// Whether the closed interval `first..=last` meets the selected one.
    fn touches(&self, first: Time, last: Time) -> bool {
        self.from.is_none_or(|from| from <= last) && self.until.is_none_or(|until| first <= until)
    }
}

/// What is wrong, without the picture of where.
fn last_line(e: &regex::Error) -> String {
    let text = e.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    const HEX: &str = "3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c";

    fn v3(start: &str, end: &str) -> LogKey {
        let key = format!("prod/shareable/v3/{HEX}/apps-7/service-5/{HEX}-json.log.{start}.{end}.archived.gz");
        LogKey::parse(key.as_bytes()).unwrap()
    }

    fn v2(at: &str) -> LogKey {
        let key = format!("prod/shareable/v2/{HEX}/databases-9/{HEX}-json.log.{at}.bck.gz");
        LogKey::parse(key.as_bytes()).unwrap()
    }

    fn at(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    fn dated(from: &str, until: &str) -> SelectionArgs {
        let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        SelectionArgs { start_date: some(from), end_date: some(until), ..Default::default() }
    }

    fn between(from: &str, until: &str) -> Selection {
        Selection::new(dated(from, until)).unwrap()
    }

    fn one(stack: &str) -> SelectionArgs {
        SelectionArgs { stacks: vec![stack.to_owned()], ..Default::default() }
    }

    #[test]
    fn no_flags_select_everything() {
        let all = Selection::new(SelectionArgs::default()).unwrap();
        assert_eq!(all, Selection::default());
        for key in [v3("unknown", "unknown"), v3("2022-08-24T21:12:33", "unknown"), v2("unknown")] {
            assert!(all.matches("", &key, at("2022-08-24T00:00:00")));
            assert_eq!(all.dates(&key, at("2022-08-24T00:00:00")), DateMatch::Inside);
        }
    }

    #[test]
    fn flags_are_anded_and_their_values_ored() {
        let key = v3("2022-08-24T21:12:33", "2022-08-24T21:14:38");
        let now = at("2022-08-25T00:00:00");
        let matches = |args: SelectionArgs| Selection::new(args).unwrap().matches("", &key, now);
        let none = SelectionArgs::default;
        assert!(matches(one("prod")));
        assert!(!matches(one("pro")) && !matches(one("prod-2")) && !matches(one("Prod")));
        assert!(matches(SelectionArgs { app_ids: vec![1, 7], ..none() }));
        assert!(!matches(SelectionArgs { app_ids: vec![1], ..none() }));
        assert!(!matches(SelectionArgs { database_ids: vec![7], ..none() }));
        assert!(!matches(SelectionArgs { endpoint_ids: vec![7], ..none() }));
        assert!(!matches(SelectionArgs { app_ids: vec![7], database_ids: vec![9], ..none() }));
        assert!(matches(SelectionArgs { containers: vec![HEX[..12].into()], ..none() }));
        assert!(!matches(SelectionArgs { containers: vec![HEX[..12].to_uppercase()], ..none() }));
        assert!(!matches(SelectionArgs { containers: vec![HEX[1..13].into()], ..none() }));
        assert!(matches(SelectionArgs { containers: vec!["x".repeat(12), HEX.into()], ..none() }));
        assert!(matches(SelectionArgs { stacks: vec!["other".into(), "prod".into()], ..none() }));
        assert!(matches(SelectionArgs { service_ids: vec![5], ..none() }));
        assert!(!matches(SelectionArgs { service_ids: vec![6], ..none() }));
        let both = |service| SelectionArgs { app_ids: vec![7], service_ids: vec![service], ..one("prod") };
        assert!(matches(both(5)) && !matches(both(6)));
        let five = Selection::new(SelectionArgs { service_ids: vec![5], ..none() }).unwrap();
        assert!(!five.matches("", &v2("2022-08-24T00:00:00"), now));
    }

    #[test]
    fn patterns_match_anywhere_in_the_key_and_all_must() {
        let key = v3("2022-08-24T21:12:33", "2022-08-24T21:14:38");
        let matches = |patterns: &[&str]| {
            let patterns = patterns.iter().map(|p| p.to_string()).collect();
            let s = Selection::new(SelectionArgs { patterns, ..Default::default() }).unwrap();
            s.matches(&key.to_key(), &key, at("2022-08-25T00:00:00"))
        };
        assert!(matches(&["apps-7/"]) && matches(&["^prod/", r"21:14:38\.archived\.gz$"]) && matches(&["(?i)APPS"]));
        assert!(!matches(&["APPS"]) && !matches(&["^prod/", "apps-8"]) && !matches(&["^apps-7"]));
    }

    #[test]
    fn days_are_inclusive_and_either_end_may_be_open() {
        let key = v3("2022-08-24T21:12:33", "2022-08-26T00:00:00");
        let (day, late) =
            (["2022-08-23", "2022-08-24", "2022-08-25", "2022-08-26", "2022-08-27"], at("2030-01-01T00:00:00"));
        for (i, from) in day.iter().enumerate() {
            for (j, until) in day.iter().enumerate().skip(i) {
                assert_eq!(between(from, until).matches("", &key, late), i <= 3 && j >= 1, "{from} {until}");
            }
            assert_eq!(between(from, "").matches("", &key, late), i <= 3);
            assert_eq!(between("", from).matches("", &key, late), i >= 1);
        }
        assert!(between("2022-08-26T02:00:00+02:00", "").matches("", &key, late));
        assert!(!between("2022-08-26T00:00:00.000000001Z", "").matches("", &key, late));
        assert!(between("", "2022-08-24T21:12:33Z").matches("", &key, late));
        assert!(!between("", "2022-08-24T21:12:32.999Z").matches("", &key, late));
        let backwards = v3("2022-08-26T00:00:00", "2022-08-24T21:12:33");
        assert!(between("2022-08-26", "2022-08-26").matches("", &backwards, late), "found where its folder is");
    }

    #[test]
    fn unknown_times_are_matched_by_upload_and_flagged() {
        let uploaded = at("2022-08-24T21:12:33");
        let on = |d: &str, key: &LogKey| between(d, d).dates(key, uploaded);
        let (yes, no) = (DateMatch::ByUpload, DateMatch::Outside);
        for key in [v3("unknown", "unknown"), v2("unknown")] {
            assert_eq!([on("2022-08-23", &key), on("2022-08-24", &key), on("2022-08-25", &key)], [no, yes, no]);
        }
        // The day counts, not the instant: the records are older than the upload.
        assert_eq!(between("2022-08-24T23:00:00Z", "").dates(&v2("unknown"), uploaded), yes);
        let key = v2("2022-06-29T18:30:01");
        assert_eq!([on("2022-06-29", &key), on("2022-08-24", &key)], [yes, no]);
        let key = v3("2022-08-20T00:00:00", "unknown");
        assert_eq!([on("2022-08-19", &key), on("2022-08-22", &key), on("2022-08-25", &key)], [no, yes, no]);
        let key = v3("unknown", "2022-08-20T00:00:00");
        assert_eq!([on("2022-08-20", &key), on("2022-08-22", &key), on("2022-08-24", &key)], [yes, no, yes]);
        let key = v3("2022-08-24T21:12:33", "2022-08-24T21:14:38");
        assert_eq!(on("2022-08-24", &key), DateMatch::Inside);
    }

    #[test]
    fn usage_errors_name_the_flag() {
        let fails = |args: SelectionArgs, flag: &str, text: &str| {
            let e = Selection::new(args).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.message().starts_with(flag) && e.message().contains(text), "{e}");
        };
        for bad in ["2022-02-31", "2022-8-24", "yesterday", "2022-08-25x", "2022-08-24T21:00:00", " ", "2022-08-24\n"] {
            fails(dated(bad, ""), "--start-date", "YYYY-MM-DD");
            fails(dated("2022-01-01", bad), "--end-date", "YYYY-MM-DD");
        }
        fails(dated("2022-08-24", "2022-08-23"), "--end-date", "End date must be after start date.");
        fails(dated("2022-08-24T00:00:00.1Z", "2022-08-24T00:00:00Z"), "--end-date", "after start");
        assert!(Selection::new(dated("2022-08-24", "2022-08-24")).is_ok());
        assert!(Selection::new(dated("2022-08-24T12:00:00Z", "2022-08-24")).is_ok());
        let container = |id: &str| SelectionArgs { containers: vec![id.into()], ..Default::default() };
        let text = "You must specify at least the first 12 characters of the container ID";
        fails(container("3c3c3c3c3c3"), "--container-id", text);
        fails(container("éééééé"), "--container-id", text);
        assert!(Selection::new(container("3c3c3c3c3c3c")).is_ok());
        let patterns = |text: &str| SelectionArgs { patterns: vec![text.into()], ..Default::default() };
        fails(patterns("a("), "--string-matches", "unclosed group");
        for bad in ["", "..", "a/b", "prod/"] {
            fails(one(bad), "--stack", "stack");
        }
    }

    proptest! {
        // Most random flags exclude most logs: many cases, for enough that match.
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn pruning_loses_nothing(
            stacks in prop::collection::vec("[ab]", 0..3),
            ids in prop::array::uniform4(prop::collection::vec(0u64..3, 0..3)),
            containers in prop::collection::vec("[ab]c{11}", 0..3),
            dates in prop::array::uniform2(prop::option::of((1u8..5).prop_map(|d| format!("2022-08-0{d}")))),
            (stack, kind, id, service) in ("[ab]", prop_oneof![Just("apps"), Just("databases"), Just("proxy")], 0u64..3, 0u64..3),
            (container, start, end, upload) in ("[ab]c{12}", 1u8..5, prop::option::of(1u8..5), 1u8..5),
        ) {
            let [app_ids, database_ids, endpoint_ids, service_ids] = ids;
            let [start_date, end_date] = dates;
            let args = SelectionArgs {
                stacks, app_ids, database_ids, endpoint_ids, containers, service_ids, start_date, end_date,
                patterns: Vec::new(),
            };
            let day = |d: u8| Time::parse(&format!("2022-08-0{d}T12:00:00")).unwrap();
            let key = LogKey {
                stack,
                key_sum: HEX.into(),
                resource: Resource::new(kind, id),
                service: (kind == "apps").then_some(service),
                container,
                rotation: None,
                span: Span::Range { start: Some(day(start)), end: end.map(day) },
            };
            let Ok(s) = Selection::new(args.clone()) else {
                prop_assert!(args.end_date < args.start_date);
                return Ok(());
            };
            // The meaning once more, flag by flag.
            let any = |list: &[u64], id: u64| list.is_empty() || list.contains(&id);
            let of = |list: &[u64], k: &str| list.is_empty() || (kind == k && list.contains(&id));
            let last = end.unwrap_or(start.max(upload)).max(start);
            let first = end.unwrap_or(start).min(start);
            let name = |d: u8| format!("2022-08-0{d}");
            let want = (args.stacks.is_empty() || args.stacks.contains(&key.stack))
                && of(&args.app_ids, "apps") && of(&args.database_ids, "databases") && of(&args.endpoint_ids, "proxy")
                && (args.service_ids.is_empty() || (kind == "apps" && any(&args.service_ids, service)))
                && (args.containers.is_empty() || args.containers.iter().any(|c| *c == key.container[..12]))
                && args.start_date.as_ref().is_none_or(|d| *d <= name(last))
                && args.end_date.as_ref().is_none_or(|d| name(first) <= *d);
            prop_assert_eq!(s.matches("", &key, day(upload)), want);
            if want {
                prop_assert!(s.stack(&key.stack) && s.resource(&key.resource) && s.container(&key.container));
            }
        }
    }
}
