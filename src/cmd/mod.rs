//! One command a file. Each takes what was typed and returns an exit code, or the error that ends the program.

mod archive;
pub mod demo;
pub mod mount;
mod out;
mod progress;
mod serve;
mod tally;
pub mod verify;
