//! `cat`: logs on standard output, byte for byte or record by record.
//!
//! ```text
//! files ─► queue (opened ahead) ─┬─► sequence ──────────────────────────────► page ─► out    no flags: bytes
//!                                ├─► reader: lines ─► lens ─────────────────► page ─► out    --since --text …
//!                                └─► reader: lines ─► lens ─► one of many, merge ─► page     --merge
//! ```
//!
//! Invariants: nothing is printed that `object` has not released; a file that fails is named, what was printed of it
//! stays, and the others go on; a line feed is added only between two lines that would become one.

mod files;
mod lens;
mod lines;
mod merge;
mod page;
mod queue;
mod reader;
mod room;
mod seek;
mod window;

use std::sync::Arc;

use super::archive::Archive;
use super::out::{self, Out};
use super::serve::runtime;
use super::tally::Tally;
use crate::cli::{CatArgs, StreamArg, VerifyArg};
use crate::config;
use crate::err;
use crate::error::{Error, Kind, Result, exit};
use crate::keysource::EnvKeys;
use crate::object::Sequence;
use crate::record::Stream;
use files::File;
use lens::View;
use page::Page;
use queue::{Open, Queue};
use reader::Reader;
use room::Room;
use window::Window;

/// Returns the exit code.
pub fn run(mut args: CatArgs, env_keys: Option<EnvKeys>) -> Result<u8> {
    let view = View {
        window: Window::parse(args.since.as_deref(), args.until.as_deref())?,
        text: args.text,
        stream: args.stream.map(|stream| match stream {
            StreamArg::Stdout => Stream::Stdout,
            StreamArg::Stderr => Stream::Stderr,
        }),
    };
    let selection = config::selection(std::mem::take(&mut args.select))?;
    let at = config::moment(&args.at)?;
    config::Place::parse(&args.bucket)?;
    let keyring = config::keyring(std::mem::take(&mut args.keys), env_keys)?;
    let runtime = runtime()?;
    // On this thread, as writing to standard output blocks.
    let result = runtime.block_on(async {
        let archive = Archive::open(&args.bucket, &args.store, at, keyring, selection, &args.read).await?;
        if args.read.allow_unauthenticated {
            log::warn!("--allow-unauthenticated: AES-CBC objects are read, and nothing authenticates their text");
        }
        let archive = Arc::new(archive);
        let code = Cat::new(view, &args, &archive).run(Arc::clone(&archive), args).await;
        // What was proven is worth keeping, even if the reader has gone.
        archive.objects.settle().await;
        code
    });
    // What was read ahead for nobody is not waited for.
    runtime.shutdown_background();
    result
}

struct Cat {
    view: View,
    /// `--verify full`.
    proven_first: bool,
    page: Page,
    out: Out,
    tally: Arc<Tally>,
    notes: Notes,
    room: Arc<Room>,
}

/// For the user, at the end: numbers of lines and files.
#[derive(Debug, Default)]
struct Notes {
    odd: u64,
    untold: u64,
    unsure: u64,
    unproven: u64,
}

/// Why printing a file ended early.
enum End {
    /// The file failed.
    File(Error),
    /// Standard output did.
    Out(Error),
    /// Nobody reads any more.
    Gone,
}

impl Cat {
    fn new(view: View, args: &CatArgs, archive: &Archive) -> Cat {
        let proven_first = args.read.verify == VerifyArg::Full;
        let (page, tally, notes) = Default::default();
        let room = Room::new(Arc::clone(&archive.objects.shared().cache), archive.objects.memory());
        Cat { view, proven_first, page, out: Out::new(), tally, notes, room }
    }

    async fn run(mut self, archive: Arc<Archive>, args: CatArgs) -> Result<u8> {
        let listing = files::list(Arc::clone(&archive), args.paths, self.view.window);
        let memory = archive.objects.memory();
        let mut queue = Queue::new(archive, Arc::clone(&self.tally), listing, memory);
        let printed = if args.merge { self.merge(&mut queue).await } else { self.each(&mut queue).await };
        let printed = printed.and_then(|()| self.flush());
        self.say_notes();
        match printed {
            Ok(()) if self.tally.counts().is_empty() => {
                Err(err!(Kind::NoMatch, "nothing matched: no log is selected that reaches into that time"))
            }
            Ok(()) => Ok(self.tally.exit_code()),
            Err(End::File(e) | End::Out(e)) => Err(e),
            Err(End::Gone) if self.tally.counts().failed == 0 => Ok(exit::OK),
            Err(End::Gone) => Ok(self.tally.exit_code()),
        }
    }

    /// One file after the other.
    async fn each(&mut self, queue: &mut Queue) -> Result<(), End> {
        while let Some((file, open)) = queue.next().await {
            match self.file(&file, open).await {
                Ok(()) => {}
                Err(End::File(e)) => self.tally.failed(&e),
                Err(end) => return Err(end),
            }
            // The next one may take a while.
            self.flush()?;
        }
        Ok(())
    }

    async fn file(&mut self, file: &File, open: Result<Open>) -> Result<(), End> {
        let open = open.map_err(End::File)?;
        if self.view.is_everything() {
            let sequence = open.sequence(0).await.map_err(End::File)?;
            self.bytes(sequence).await?;
            self.tally.ok();
            return Ok(());
        }
        let reader = Reader::new(open, file, self.view, self.proven_first, false, Arc::clone(&self.room)).await;
        let mut reader = reader.map_err(End::File)?;
        loop {
            let more = reader.page(&mut self.page).await;
            self.print()?;
            if !more.map_err(End::File)? {
                break;
            }
        }
        self.ended(&reader);
        Ok(())
    }

    /// Byte for byte.
    async fn bytes(&mut self, mut sequence: Sequence) -> Result<(), End> {
        let mut first = true;
        loop {
            let text = sequence.next().await.map_err(End::File)?;
            if text.is_empty() {
                return Ok(());
            }
            if std::mem::take(&mut first) {
                self.page.begin_line();
                self.print()?;
            }
            there(self.out.write(&text))?;
            self.page.note(&text);
        }
    }

    /// A file was read to where it had to be.
    fn ended(&mut self, reader: &Reader) {
        let notes = reader.notes();
        self.notes.odd += notes.odd;
        self.notes.untold += u64::from(notes.untold && !self.view.window.is_everything());
        self.notes.unsure += u64::from(notes.unsure && !self.view.window.is_everything());
        self.notes.unproven += u64::from(notes.unproven);
        self.tally.ok();
    }

    fn print(&mut self) -> Result<(), End> {
        there(self.out.write(self.page.bytes()))?;
        self.page.turn();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        there(self.out.flush())
    }

    fn say_notes(&self) {
        let Notes { odd, untold, unsure, unproven } = self.notes;
        let say = |count: u64, text: &str| {
            if count > 0 {
                eprintln!("logarchivefs: note: {count} {text}");
            }
        };
        match (self.view.stream, self.view.text) {
            (Some(_), _) => say(odd, "lines are no records of a known stream and were left out"),
            (None, true) => say(odd, "lines are no records and were printed as they are"),
            (None, false) => {}
        }
        say(untold, "files were read because their keys do not tell from when to when they are");
        say(
            unsure,
            "files have times that go back by more than 5 minutes: records may be missing; without --since and \
             --until all are printed",
        );
        say(unproven, "files were not read to their end, so what was printed of them is not authenticated");
    }
}

fn there(written: Result<out::Reader>) -> Result<(), End> {
    match written {
        Ok(out::Reader::There) => Ok(()),
        Ok(out::Reader::Gone) => Err(End::Gone),
        Err(e) => Err(End::Out(e)),
    }
}
