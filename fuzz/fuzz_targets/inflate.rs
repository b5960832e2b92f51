#![no_main]

#[path = "../../tests/gunzip_support/mod.rs"]
mod gunzip_support;
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::inflate(data));
