//! The time that an answer to the kernel may take.
//!
//! Invariant: whoever waits has an answer by then, whatever it waits for; what was begun for it goes on, so that trying again
//! finds more of it done.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Fs;
use super::node::{Ino, Node};
use crate::err;
use crate::error::{Error, Kind};

/// What a question of the kernel is about.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    Node(Ino),
    /// An open file.
    Handle(u64),
}

/// So long after a read that was late, the next one is hardly waited for.
const AGAIN: Duration = Duration::from_secs(1);

impl Fs {
    /// The answer to who has waited for `deadline`. What it waits for goes on.
    pub fn late(&self, asked: Asked, deadline: Duration) -> Error {
        let late = err!(
            Kind::Timeout,
            "nothing to answer after {deadline:?}, twice --request-deadline: what was asked of S3 goes on, so try again"
        );
        let about = match asked {
            Asked::Handle(handle) => self.files.get(handle).ok().map(|open| {
                let mut late = open.late.lock().unwrap_or_else(PoisonError::into_inner);
                // Who was not waited for does not make it later.
                if late.is_none_or(|at| at.elapsed() >= AGAIN) {
                    *late = Some(Instant::now());
                }
                open.file.object().key.clone()
            }),
            Asked::Node(ino) => match self.nodes.get(ino).as_deref() {
                Some(Node::File(item, ..)) => Some(item.key()),
                Some(Node::Dir(dir)) => Some(dir.path()),
                _ => None,
            },
        };
        about.map_or(late.clone(), |about| late.about(&about))
    }

    /// How long an answer may take that has until `deadline`. The kernel asks once more for a page whose read-ahead failed:
    /// who was late with the one is not waited for as long with the other.
    pub fn patience(&self, asked: Asked, deadline: Duration) -> Duration {
        let Asked::Handle(handle) = asked else { return deadline };
        let late = self.files.get(handle).ok().and_then(|o| *o.late.lock().unwrap_or_else(PoisonError::into_inner));
        if late.is_some_and(|at| at.elapsed() < AGAIN) { deadline.min(AGAIN / 100) } else { deadline }
    }
}
