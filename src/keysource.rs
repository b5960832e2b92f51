//! Where master keys come from: files, a command, the environment. Never the command line, which `ps` shows.
//!
//! Invariants:
//! * A key file that others could have read is refused. What is checked is the file that was opened, not its name.
//! * Key text is read without a buffer that outlives it, into one allocation that is wiped.
//! * No message holds key text or the command; it names the file and the line.

#[allow(unsafe_code)]
mod process;

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::envelope::Keyring;
use crate::err;
use crate::error::{Kind, Result, escape};

pub use process::{EnvKeys, KEYS_VARIABLE, take_env_keys};

/// The most that one source may hold, in bytes.
const LIMIT: usize = 1 << 20;

/// What was asked for. All sources add up.
#[derive(Default)]
pub struct KeySources {
    /// One base64 key a line; `#` starts a comment. `-` is standard input.
    pub files: Vec<PathBuf>,
    /// For `sh -c`; its output is read like a file. It keeps our standard input and error, so that it can ask.
    pub command: Option<String>,
    /// Take key files whatever their owner and permissions are.
    pub insecure_key_file: bool,
    /// From [`take_env_keys`].
    pub env: Option<EnvKeys>,
}

impl KeySources {
    /// Reads every source; waits for the command and for pipes. No source at all is an empty ring; a source without a key
    /// in it is [`Kind::Config`], as is everything else that can fail here.
    pub fn load(self) -> Result<Keyring> {
        let mut ring = Keyring::default();
        for path in &self.files {
            let name = if is_stdin(path) { "standard input".into() } else { escape(path.as_os_str().as_bytes()) };
            let text = read_file(path, self.insecure_key_file, &name)?;
            add(&mut ring, text.split(is_newline), &name, "line")?;
        }
        if let Some(command) = &self.command {
            add(&mut ring, run(command)?.split(is_newline), "the output of the key command", "line")?;
        }
        if let Some(EnvKeys(text)) = &self.env {
            add(&mut ring, text.split(|b| *b == b',' || b.is_ascii_whitespace()), KEYS_VARIABLE, "part")?;
        }
        Ok(ring)
    }
}

impl fmt::Debug for KeySources {
    /// Without the command, which may hold a secret of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySources")
            .field("files", &self.files)
            .field("command", &self.command.is_some())
            .field("insecure_key_file", &self.insecure_key_file)
            .field("env", &self.env.is_some())
            .finish()
    }
}

fn is_newline(b: &u8) -> bool {
    *b == b'\n'
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Adds the key in each part of a source's text; `unit` is what a part is called.
fn add<'a>(ring: &mut Keyring, parts: impl Iterator<Item = &'a [u8]>, source: &str, unit: &str) -> Result<()> {
    let mut found = false;
    for (n, part) in parts.enumerate() {
        let at = |why: &str| err!(Kind::Config, "{source}, {unit} {}: {why}", n + 1);
        let key = part.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
        if key.is_empty() {
            continue;
        }
        let key = std::str::from_utf8(key).map_err(|_| at("not text"))?;
        ring.insert_b64(key).map_err(|e| at(e.message()))?;
        found = true;
    }
    if found { Ok(()) } else { Err(err!(Kind::Config, "no key in {source}")) }
}

fn read_file(path: &Path, insecure: bool, name: &str) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |e: io::Error| err!(Kind::Config, "cannot read keys from {name}: {e}");
    if is_stdin(path) {
        // Not through `io::stdin()`, whose buffer would keep the keys.
        let fd = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        return read_all(File::from(fd)).map_err(failed);
    }
    let file = File::open(path).map_err(failed)?;
    check(&file.metadata().map_err(failed)?, process::effective_uid(), insecure, name)?;
    read_all(file).map_err(failed)
}

/// `euid`: the user we run as.
fn check(meta: &Metadata, euid: u32, insecure: bool, name: &str) -> Result<()> {
    let kind = meta.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(err!(Kind::Config, "key file {name} is neither a regular file nor a pipe"));
    }
    if insecure {
        return Ok(());
    }
    if meta.mode() & 0o077 != 0 {
        return Err(err!(
            Kind::Config,
            "key file {name} is open to other users (mode {:04o}): `chmod 600 {name}`, or give --insecure-key-file",
            meta.mode() & 0o7777
        ));
    }
    if meta.uid() != euid && meta.uid() != 0 {
        return Err(err!(
            Kind::Config,
            "key file {name} belongs to user {}, neither to you nor to root: --insecure-key-file takes it all the same",
            meta.uid()
        ));
    }
    Ok(())
}

fn run(command: &str) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |e: io::Error| err!(Kind::Config, "the key command failed: {e}");
    let mut child = Command::new("sh").arg("-c").arg(command).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let text = match child.stdout.take() {
        Some(pipe) => read_all(pipe),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    if text.is_err() {
        // It may be writing without end. If it has ended already, there is nothing to stop.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    let text = text.map_err(failed)?;
    if !status.success() {
        return Err(err!(Kind::Config, "the key command failed: {status}"));
    }
    Ok(text)
}

/// Up to [`LIMIT`] bytes, without a reallocation that would leave a copy behind.
fn read_all(mut from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut buf = Zeroizing::new(vec![0; LIMIT + 1]);
    let mut len = 0;
    while let Some(space) = buf.get_mut(len..).filter(|s| !s.is_empty()) {
        match from.read(space) {
            Ok(0) => {
                buf.truncate(len);
                return Ok(buf);
            }
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {LIMIT} bytes: not a list of keys")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OTHER: &str = "qonAyl/TNUxvGrDMqBXCpQ==";

    fn key_file(mode: u32, text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ke\ny");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn load_file(path: &Path, insecure_key_file: bool) -> Result<Keyring> {
        KeySources { files: vec![path.into()], insecure_key_file, ..Default::default() }.load()
    }

    fn config_error(result: Result<Keyring>) -> String {
        let e = result.unwrap_err();
        assert_eq!(e.kind(), Kind::Config);
        e.to_string()
    }

    #[test]
    fn a_key_file_has_comments_blank_lines_and_any_line_end() {
        let text = format!("# keys\r\n\r\n  {KEY}  # prod\r\n\n{OTHER}\n{KEY}");
        let (_dir, path) = key_file(0o600, text.as_bytes());
        assert_eq!(load_file(&path, false).unwrap().len(), 2);
    }

    #[test]
    fn a_key_file_open_to_others_is_refused_with_the_cure() {
        for mode in [0o640, 0o604, 0o620, 0o610, 0o601] {
            let (_dir, path) = key_file(mode, KEY.as_bytes());
            let message = config_error(load_file(&path, false));
            assert!(message.contains("chmod 600 /") && message.contains("--insecure-key-file"), "{message}");
            assert!(message.contains("ke\\x0ay"), "{message}");
            assert_eq!(load_file(&path, true).unwrap().len(), 1);
        }
        for mode in [0o400, 0o600, 0o700] {
            let (_dir, path) = key_file(mode, KEY.as_bytes());
            assert_eq!(load_file(&path, false).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_key_file_belongs_to_us_or_to_root() {
        let (_dir, path) = key_file(0o600, KEY.as_bytes());
        let mine = process::effective_uid();
        let owner = fs::metadata(&path).unwrap().uid();
        assert_eq!(owner, mine);
        check(&fs::metadata(&path).unwrap(), mine, false, "f").unwrap();
        if chown(&path, Some(4242), None).is_ok() {
            let meta = fs::metadata(&path).unwrap();
            assert!(check(&meta, mine, false, "f").unwrap_err().message().contains("user 4242"));
            check(&meta, 4242, false, "f").unwrap();
            check(&meta, mine, true, "f").unwrap();
        }
    }

    #[test]
    fn only_files_and_pipes_are_read_and_only_so_much() {
        assert!(config_error(load_file(Path::new("/dev/null"), true)).contains("neither"));
        assert!(config_error(load_file(Path::new("/"), true)).contains("neither"));
        assert!(config_error(load_file(Path::new("/nonexistent/k"), false)).contains("/nonexistent/k"));
        let (_dir, path) = key_file(0o600, &vec![b'\n'; LIMIT + 1]);
        assert!(config_error(load_file(&path, false)).contains("more than"));
        let (_dir, path) = key_file(0o600, &vec![b'\n'; LIMIT]);
        assert!(config_error(load_file(&path, false)).contains("no key in"));
        let (reader, writer) = io::pipe().unwrap();
        let thread = std::thread::spawn(move || io::Write::write_all(&mut { writer }, KEY.as_bytes()));
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        assert_eq!(load_file(Path::new(&format!("/proc/self/fd/{fd}")), false).unwrap().len(), 1);
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn messages_name_the_line_and_never_the_key() {
        let text = format!("{KEY}\n\n{}\n", KEY.replace('=', "-"));
        let (_dir, path) = key_file(0o600, text.as_bytes());
        let message = config_error(load_file(&path, false));
        assert!(message.contains(", line 3: ") && !message.contains("AAEC"), "{message}");
        let (_dir, path) = key_file(0o600, b"\xff\xfe");
        assert!(config_error(load_file(&path, false)).contains("line 1: not text"));
    }

    #[test]
    fn a_command_gives_keys_or_fails_without_showing_them() {
        let run = |c: &str| KeySources { command: Some(c.into()), ..Default::default() }.load();
        assert_eq!(run(&format!("echo {KEY}; echo '# x'")).unwrap().len(), 1);
        for bad in [format!("echo {KEY}; exit 3"), "exit 0".into(), "kill -9 $$".into(), "exec cat /dev/zero".into()] {
            let message = config_error(run(&bad));
            assert!(!message.contains("AAEC") && !message.contains("/dev/zero"), "{message}");
        }
    }

    #[test]
    fn the_environment_holds_keys_by_comma_or_space() {
        let load = |t: String| KeySources { env: Some(EnvKeys(Zeroizing::new(t.into()))), ..Default::default() }.load();
        assert_eq!(load(format!("{KEY},{OTHER}")).unwrap().len(), 2);
        assert_eq!(load(format!(" {KEY}\n{OTHER} , ")).unwrap().len(), 2);
        assert!(config_error(load(" , ".into())).contains(KEYS_VARIABLE));
        assert!(config_error(load(format!("{KEY},AAEC"))).contains("part 2"));
        assert!(KeySources::default().load().unwrap().is_empty());
    }

    #[test]
    fn debug_shows_no_key_and_no_command() {
        let env = Some(EnvKeys(Zeroizing::new(KEY.into())));
        let sources = KeySources { command: Some(format!("echo {KEY}")), env, ..Default::default() };
        assert!(!format!("{sources:?} {:?}", sources.env).contains("AAEC"));
    }
}
