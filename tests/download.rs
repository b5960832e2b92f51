//! `download`: the real program, objects over the S3 wire or from a sealed copy, real folders.

mod common;

#[path = "download/forms.rs"]
mod forms;
#[path = "download/memory.rs"]
mod memory;
#[path = "download/reference.rs"]
mod reference;
#[path = "download/resume.rs"]
mod resume;
#[path = "download/run.rs"]
mod run;
#[path = "download/safety.rs"]
mod safety;
