//! `--summary`: objects, bytes and span of each resource, and of all.

use std::collections::BTreeMap;

use serde::Serialize;

use super::show::{Table, cell, json, times};
use crate::catalog::Selected;
use crate::error::Result;
use crate::key::{Resource, Time};

pub struct Summary {
    json: bool,
    /// By stack and resource.
    sums: BTreeMap<(String, Resource), Sum>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    objects: u64,
    bytes: u64,
    first_start: Option<Time>,
    last_end: Option<Time>,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.objects += other.objects;
        // The sizes are what a server says.
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.first_start = self.first_start.into_iter().chain(other.first_start).min();
        self.last_end = self.last_end.max(other.last_end);
    }
}

/// Documented in docs/COMMANDS.md. `None` in the line of the total.
#[derive(Serialize)]
struct Line<'a> {
    stack: Option<&'a str>,
    resource: Option<String>,
    objects: u64,
    bytes: u64,
    first_start: Option<String>,
    last_end: Option<String>,
}

impl Summary {
    pub fn new(json: bool) -> Summary {
        Summary { json, sums: BTreeMap::new() }
    }

    pub fn add(&mut self, logs: &[Selected]) {
        for Selected { item, log, .. } in logs {
            let (first_start, end, uploaded) = times(log.span);
            let sum = Sum { objects: 1, bytes: item.size(), first_start, last_end: end.or(uploaded) };
            self.sums.entry((log.stack.clone(), log.resource.clone())).or_default().add(sum);
        }
    }

    pub fn text(&self) -> Result<Vec<u8>> {
        let mut total = Sum::default();
        self.sums.values().for_each(|sum| total.add(*sum));
        let lines = self.sums.iter().map(|((stack, resource), sum)| (Some((stack, resource)), sum));
        let lines = lines.chain([(None, &total)]);
        if self.json {
            let mut text = Vec::new();
            for (of, sum) in lines {
                let time = |t: Option<Time>| t.map(|t| t.to_string());
                text.extend(json(&Line {
                    stack: of.map(|(stack, _)| stack.as_str()),
                    resource: of.map(|(_, resource)| resource.to_string()),
                    objects: sum.objects,
                    bytes: sum.bytes,
                    first_start: time(sum.first_start),
                    last_end: time(sum.last_end),
                })?);
                text.push(b'\n');
            }
            return Ok(text);
        }
        let row = |(of, sum): (Option<(&String, &Resource)>, &Sum)| {
            let name = of.map_or_else(|| "total".to_owned(), |(stack, resource)| format!("{stack}/{resource}"));
            vec![sum.objects.to_string(), sum.bytes.to_string(), cell(sum.first_start), cell(sum.last_end), name]
        };
        let rows: Vec<Vec<String>> = lines.map(row).collect();
        let mut table = Table::new(&["OBJECTS", "BYTES", "FIRST START", "LAST END", "RESOURCE"], 2);
        Ok(table.rows(&rows).into_bytes())
    }
}
