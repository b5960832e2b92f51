//! Standard output of a command: buffered, and a reader that has gone away ends the command quietly.

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};

use crate::err;
use crate::error::{Kind, Result};

/// What a pipe holds.
const BUFFER: usize = 64 << 10;

pub struct Out(BufWriter<Stdout>);

/// Whether anybody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reader {
    There,
    /// The pipe is closed: stop, with success.
    Gone,
}

impl Out {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Out {
        Out(BufWriter::with_capacity(BUFFER, io::stdout()))
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<Reader> {
        reader(self.0.write_all(bytes))
    }

    /// To be called at the end: what is written later than that is an error nobody sees.
    pub fn flush(&mut self) -> Result<Reader> {
        reader(self.0.flush())
    }
}

fn reader(result: io::Result<()>) -> Result<Reader> {
    match result {
        Ok(()) => Ok(Reader::There),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(e) => Err(err!(Kind::Internal, "writing to standard output: {e}")),
    }
}
