//! `mount.logarchivefs`: how mount(8) calls us, as what would have been typed.
//!
//! ```text
//! mount.logarchivefs my-bucket /mnt/logs -o rw,_netdev,key_file=/etc/logarchivefs/keys,allow_other
//!     = logarchivefs mount my-bucket /mnt/logs --daemon --key-file=/etc/logarchivefs/keys --allow-other
//! ```
//!
//! Each option `a_b[=value]` is the flag `--a-b[=value]` of `mount`; a value with commas stands in double quotes. Those
//! that every file system has are left out: a mount is `ro,nosuid,nodev,noexec` in any case.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The name that mount(8) looks for in /sbin.
const NAME: &str = "mount.logarchivefs";

/// Options of mount(8) and of systemd that say nothing to us.
const NOT_OURS: [&[u8]; 29] = [
    b"rw",
    b"ro",
    b"defaults",
    b"auto",
    b"noauto",
    b"user",
    b"users",
    b"nouser",
    b"owner",
    b"group",
    b"nofail",
    b"_netdev",
    b"suid",
    b"nosuid",
    b"dev",
    b"nodev",
    b"exec",
    b"noexec",
    b"atime",
    b"noatime",
    b"relatime",
    b"norelatime",
    b"strictatime",
    b"nodiratime",
    b"sync",
    b"async",
    b"lazytime",
    b"silent",
    b"loud",
];

/// What a call of mount(8) asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// We were not called by that name.
    NotMount,
    /// `mount -f`: everything but the mounting.
    Fake,
    /// The command line that means the same.
    Mount(Vec<OsString>),
}

pub fn translate(argv: &[OsString]) -> Call {
    let called = argv.first().map(Path::new).and_then(Path::file_name);
    if called != Some(OsStr::new(NAME)) {
        return Call::NotMount;
    }
    let mut out: Vec<OsString> = ["logarchivefs", "mount"].map(Into::into).into();
    let mut args = argv.iter().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"-o" => {
                if let Some(options) = args.next() {
                    out.extend(split(options.as_bytes()).filter_map(|option| flag(&option)));
                }
            }
            // Namespace and type: mount(8) has acted on the first, and the second is why we are here.
            b"-N" | b"-t" => drop(args.next()),
            b"-n" | b"-s" => {}
            b"-f" => return Call::Fake,
            _ => out.push(arg.clone()),
        }
    }
    out.push("--daemon".into());
    Call::Mount(out)
}

/// The options between commas that are not inside double quotes, without the quotes.
fn split(options: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let (mut all, mut quoted) = (vec![Vec::new()], false);
    for &byte in options {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => all.push(Vec::new()),
            _ => all.iter_mut().last().into_iter().for_each(|option| option.push(byte)),
        }
    }
    all.into_iter()
}

fn flag(option: &[u8]) -> Option<OsString> {
    let name = option.split(|b| *b == b'=').next().unwrap_or_default();
    let systemd = name.starts_with(b"x-") || name.starts_with(b"X-") || name == b"comment";
    if name.is_empty() || systemd || NOT_OURS.contains(&name) {
        return None;
    }
    let mut flag = b"--".to_vec();
    flag.extend(name.iter().map(|b| if *b == b'_' { b'-' } else { *b }));
    flag.extend_from_slice(&option[name.len()..]);
    Some(OsString::from_vec(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Call {
        translate(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    fn mount(line: &str) -> Call {
        Call::Mount(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn a_call_of_mount_is_a_command() {
        assert_eq!(
            call("/sbin/mount.logarchivefs b /mnt -o rw,_netdev,x-systemd.automount,key_file=/k=1,allow_other"),
            mount("logarchivefs mount b /mnt --key-file=/k=1 --allow-other --daemon")
        );
        assert_eq!(
            call("mount.logarchivefs s3://b/p/ /mnt -v -n -s -t logarchivefs -o defaults"),
            mount("logarchivefs mount s3://b/p/ /mnt -v --daemon")
        );
        assert_eq!(
            call(r#"mount.logarchivefs b /mnt -o key_command="a,b",at=2022-09-01T00:00:00+02:00"#),
            mount("logarchivefs mount b /mnt --key-command=a,b --at=2022-09-01T00:00:00+02:00 --daemon")
        );
        assert_eq!(call("mount.logarchivefs b /mnt -f"), Call::Fake);
        assert_eq!(call("logarchivefs mount b /mnt -o x"), Call::NotMount);
    }
}
