//! One log as a line: path, key, JSON object, or row of a table.

use serde::Serialize;

use crate::catalog::Selected;
use crate::cli::FindFormat;
use crate::err;
use crate::error::{Kind, Result};
use crate::key::{Span, Time};

pub struct Lines {
    format: FindFormat,
    /// Ends each entry.
    end: u8,
    table: Table,
}

impl Lines {
    pub fn new(format: FindFormat, end: u8) -> Lines {
        Lines { format, end, table: Table::new(&["SIZE", "START", "END", "NOTE", "RESOURCE", "PATH"], 1) }
    }

    pub fn of(&mut self, logs: &[Selected]) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        match self.format {
            FindFormat::Paths => logs.iter().for_each(|log| self.entry(&mut text, log.path().as_bytes())),
            FindFormat::Keys => logs.iter().for_each(|log| self.entry(&mut text, log.item.key().as_bytes())),
            FindFormat::Json => {
                for log in logs {
                    self.entry(&mut text, &json(&Record::of(log))?);
                }
            }
            FindFormat::Table => {
                let rows: Vec<Vec<String>> = logs.iter().map(row).collect();
                text = self.table.rows(&rows).into_bytes();
            }
        }
        Ok(text)
    }

    fn entry(&self, text: &mut Vec<u8>, entry: &[u8]) {
        text.extend_from_slice(entry);
        text.push(self.end);
    }
}

pub fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| err!(Kind::Internal, "writing JSON: {e}"))
}

/// Documented in docs/COMMANDS.md: fields are added, never renamed.
#[derive(Serialize)]
struct Record<'a> {
    path: String,
    key: String,
    stack: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    id: u64,
    service_id: Option<u64>,
    container: &'a str,
    rotation: Option<u64>,
    start: Option<String>,
    end: Option<String>,
    uploaded: Option<String>,
    size: u64,
    etag: String,
    last_modified: String,
    storage_class: Option<&'a str>,
    key_sha256: &'a str,
    by_upload: bool,
}

impl Record<'_> {
    fn of(selected: &Selected) -> Record<'_> {
        let Selected { item, log, by_upload } = selected;
        let (start, end, uploaded) = times(log.span);
        let text = |t: Option<Time>| t.map(|t| t.to_string());
        Record {
            path: selected.path(),
            key: item.key(),
            stack: &log.stack,
            kind: &log.resource.kind,
            id: log.resource.id,
            service_id: log.service,
            container: &log.container,
            rotation: log.rotation,
            start: text(start),
            end: text(end),
            uploaded: text(uploaded),
            size: item.size(),
            etag: item.etag(),
            last_modified: item.modified().to_string(),
            storage_class: item.storage_class(),
            key_sha256: &log.key_sum,
            by_upload: *by_upload,
        }
    }
}

/// Start, end, and upload as the key tells them.
pub fn times(span: Span) -> (Option<Time>, Option<Time>, Option<Time>) {
    match span {
        Span::Range { start, end } => (start, end, None),
        Span::Uploaded(at) => (None, None, at),
    }
}

pub fn cell(time: Option<Time>) -> String {
    time.map_or_else(|| "-".to_owned(), |t| t.to_string())
}

fn row(log: &Selected) -> Vec<String> {
    let (start, end, _) = times(log.log.span);
    let note = if log.by_upload { "by-upload" } else { "-" };
    let (size, resource) = (log.item.size().to_string(), log.log.resource.to_string());
    vec![size, cell(start), cell(end), note.into(), resource, log.path()]
}

/// Columns two spaces apart; the first ones, numbers, to the right; the last one as wide as it comes.
///
/// Rows come in batches, and what is printed stays: a column only ever gets wider.
pub struct Table {
    /// `None` when it has been printed.
    head: Option<Vec<String>>,
    numbers: usize,
    widths: Vec<usize>,
}

/// `2022-08-24T21:12:33Z`, and `by-upload`: so that a later batch does not shift the columns.
const USUAL: [(&str, usize); 5] = [("SIZE", 10), ("START", 20), ("END", 20), ("NOTE", 9), ("RESOURCE", 12)];

impl Table {
    pub fn new(head: &[&str], numbers: usize) -> Table {
        let usual = |name: &str| USUAL.iter().find(|(n, _)| *n == name).map_or(0, |(_, width)| *width);
        let widths = head.iter().map(|name| usual(name)).collect();
        Table { head: Some(head.iter().map(|name| (*name).to_owned()).collect()), numbers, widths }
    }

    pub fn rows(&mut self, rows: &[Vec<String>]) -> String {
        if rows.is_empty() {
            return String::new();
        }
        let head = self.head.take();
        let all: Vec<&Vec<String>> = head.iter().chain(rows).collect();
        for row in &all {
            for (width, cell) in self.widths.iter_mut().zip(*row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in all {
            for (column, (cell, &width)) in row.iter().zip(&self.widths).enumerate() {
                let last = column + 1 == row.len();
                match (column < self.numbers, last) {
                    (true, _) => text.push_str(&format!("{cell:>width$}")),
                    (false, false) => text.push_str(&format!("{cell:<width$}")),
                    (false, true) => text.push_str(cell),
                }
                text.push_str(if last { "\n" } else { "  " });
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_only_widen() {
        let mut table = Table::new(&["N", "NAME", "PATH"], 1);
        assert_eq!(table.rows(&[]), "", "no head without rows");
        assert_eq!(table.rows(&[row(&["1", "long name", "p"])]), "N  NAME       PATH\n1  long name  p\n");
        assert_eq!(table.rows(&[row(&["22", "é", "q"])]), "22  é          q\n", "characters, not bytes");
        assert_eq!(table.rows(&[row(&["3", "x", "r"])]), " 3  x          r\n");
    }
}
