//! A command to be, on the bucket of the test server.

use std::process::{Command, Stdio};

use super::mounted::PROGRAM;
use super::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};

pub fn client(server: &Server, command: &str) -> Command {
    let mut all = Command::new(PROGRAM);
    all.args([command, BUCKET, "--endpoint-url", &server.endpoint(), "--region", REGION]);
    all.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent");
    all.env("AWS_EC2_METADATA_DISABLED", "true");
    all.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    all.current_dir("/").stdin(Stdio::null());
    all
}
