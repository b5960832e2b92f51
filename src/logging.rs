//! The log: to standard error, or to a file that only its owner can read.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use env_logger::{Env, Target};

use crate::err;
use crate::error::{Kind, Result};

/// `verbose`: how often `-v` was given. `RUST_LOG` overrides it. The SDK's own lines are errors only, unless asked for:
/// at its lower levels it would log request headers.
pub fn start(verbose: u8, file: Option<&Path>) -> Result<()> {
    let default = match verbose {
        0 => "warn,aws=error,fuser=error",
        1 => "info,aws=warn,fuser=warn,tracing=warn",
        _ => "debug,aws=info,hyper=info,rustls=info,h2=info",
    };
    let mut builder = env_logger::Builder::from_env(Env::default().default_filter_or(default));
    builder.format_target(false);
    if let Some(path) = file {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let log = log.map_err(|e| err!(Kind::Config, "cannot write the log file {}: {e}", path.display()))?;
        builder.target(Target::Pipe(Box::new(log)));
    }
    builder.try_init().map_err(|e| err!(Kind::Internal, "cannot start the log: {e}"))
}
