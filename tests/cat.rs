//! `cat`: the real program on sealed copies and on an S3 server, against models that read whole files first.

mod common;

#[path = "cat/at.rs"]
mod at;
#[path = "cat/damage.rs"]
mod damage;
#[path = "cat/memory.rs"]
mod memory;
#[path = "cat/model.rs"]
mod model;
#[path = "cat/pipes.rs"]
mod pipes;
#[path = "cat/records.rs"]
mod records;
#[path = "cat/seeking.rs"]
mod seeking;
#[path = "cat/setup.rs"]
mod setup;
#[path = "cat/whole.rs"]
mod whole;
