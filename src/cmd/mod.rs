//! One command a file. Each takes what was typed and returns an exit code, or the error that ends the program.

mod archive;
pub mod cat;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod download;
pub mod find;
pub mod man;
pub mod mount;
mod notify;
mod out;
mod progress;
mod serve;
mod tally;
pub mod verify;
