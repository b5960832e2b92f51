//! The reference client: a Ruby process that runs AWS's own encryption clients (`client.rb`).

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::common::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY};

pub mod mount;

/// For one answer; the longest, a first start on a busy machine, takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

const NEEDED: &str = "the interop tests need Ruby and its AWS SDK: `apt-get install ruby ruby-aws-sdk-s3` (Debian), \
                      which scripts/test does";

pub struct Ruby {
    child: Child,
    requests: Option<Sender<String>>,
    answers: Receiver<String>,
    errors: Arc<Mutex<String>>,
    /// Of `aws-sdk-s3`.
    pub version: String,
}

/// What the mount and Ruby get to see: nothing of the machine's own AWS configuration.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "TMPDIR", "GEM_PATH", "GEM_HOME", "RUBYLIB"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LC_ALL", "C.UTF-8").env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

impl Ruby {
    /// Panics, naming the package, where there is no Ruby or no SDK.
    pub fn start(endpoint: &str) -> Ruby {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ruby/client.rb");
        let mut child = clean("ruby")
            .arg(script)
            .env("AWS_REGION", REGION)
            .env("INTEROP_BUCKET", BUCKET)
            .env("INTEROP_ENDPOINT", endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run ruby ({e}): {NEEDED}"));
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        // Threads, so that no pipe can hold up a test: they end when the child does.
        let (requests, to_write) = mpsc::channel::<String>();
        std::thread::spawn(move || {
            for request in to_write {
                if stdin.write_all(request.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let (read, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if read.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = collect(stderr);
        let mut ruby = Ruby { child, requests: Some(requests), answers, errors, version: String::new() };
        let hello = ruby.next();
        let version = hello["ready"]["aws_sdk_s3"].as_str();
        ruby.version = version.unwrap_or_else(|| panic!("{}: {NEEDED}", hello["error"])).to_owned();
        ruby
    }

    fn next(&self) -> Value {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(line) => serde_json::from_str(&line).unwrap_or_else(|e| panic!("ruby said {line:?}: {e}")),
            Err(e) => panic!("no answer from ruby ({e}); it wrote:\n{}", self.errors.lock().unwrap()),
        }
    }

    /// `Err` is the Ruby exception, as `Class: message`.
    pub fn ask(&self, request: &Value) -> Result<Value, String> {
        self.requests.as_ref().unwrap().send(format!("{request}\n")).expect("ruby has ended");
        let answer = self.next();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    /// Writes `gzip` as `client` ("v1" or "v2") does; the envelope goes to "metadata" or an "instruction_file".
    pub fn put(&self, client: &str, location: &str, key: &str, master: &[u8], gzip: &[u8]) {
        let (master, body) = (STANDARD.encode(master), STANDARD.encode(gzip));
        let request =
            json!({"op": "put", "client": client, "location": location, "key": key, "master": master, "body": body});
        self.ask(&request).unwrap_or_else(|e| panic!("{client} cannot write {key}: {e}"));
    }

    /// Reads as the reference CLI does, with its security profile or another one.
    pub fn get(&self, profile: &str, key: &str, master: &[u8]) -> Result<Vec<u8>, String> {
        let request = json!({"op": "get", "profile": profile, "key": key, "master": STANDARD.encode(master)});
        Ok(decode(&self.ask(&request)?["body"]))
    }
}

pub fn decode(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().expect("base64")).unwrap()
}

/// What a child writes, as it comes.
pub fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    text
}

impl Drop for Ruby {
    fn drop(&mut self) {
        self.requests = None;
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
