//! The commands beside `mount`: what `find` chooses, and what is made from the definitions of the command line.

mod common;

#[path = "commands/choice.rs"]
mod choice;
#[path = "commands/listing.rs"]
mod listing;
#[path = "commands/manual.rs"]
mod manual;
#[path = "commands/process.rs"]
mod process;
#[path = "commands/progress.rs"]
mod progress;
#[path = "commands/reference.rs"]
mod reference;
