//! The tools that people use, on a mount over the S3 wire, give what they give on the plain text.

use std::fs;
use std::path::PathBuf;

use logarchivefs::envelope::SealAs;
use tempfile::TempDir;

use crate::common::archive::{self, DAY, Log};
use crate::common::mounted::{Mount, Setup};
use crate::common::s3::Server;

/// A mount, and the same files (and links) as a plain folder.
struct Both {
    mount: Mount,
    plain: TempDir,
    logs: Vec<Log>,
    _server: Server,
}

impl Both {
    fn new(args: &[&str]) -> Both {
        let server = Server::start();
        let plain = tempfile::tempdir().unwrap();
        let mut logs: Vec<Log> = (0..6).map(|n| Log::at(n * 3600)).collect();
        logs[1].container = "ab".repeat(32);
        logs[2].resource = "databases-7".into();
        logs[3].stack = "staging".into();
        // Over midnight.
        logs.push(Log::at(DAY - 10));
        for (n, log) in logs.iter().enumerate() {
            let lines = [1, 40, 700, 90, 3000, 12_000, 250][n];
            let text = archive::text(n as u64, lines);
            let cut = text.len() / 3;
            let gzip = match n {
                4 => [archive::gzip(&text[..cut]), archive::gzip(&text[cut..])].concat(),
                _ => archive::gzip(&text),
            };
            archive::put(&server, log, SealAs::ALL[1 + n % 3], &gzip);
            let path = plain.path().join(log.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
            for later in log.later_days() {
                let folder = plain.path().join(log.folder()).join(&later);
                fs::create_dir_all(&folder).unwrap();
                let target = PathBuf::from(format!("../{}/{}.json", log.day(), log.stem()));
                std::os::unix::fs::symlink(target, folder.join(format!("{}.json", log.stem()))).unwrap();
            }
        }
        // The last one is large (more than half a megabyte of ciphertext): its size is a hint before it is opened.
        let mut large = Log::at(20 * 3600);
        large.rotation = Some(1);
        let text = archive::noise(9, 3_000_000);
        archive::put(&server, &large, SealAs::V2, &archive::gzip(&text));
        fs::write(plain.path().join(large.path()), &text).unwrap();
        logs.push(large);
        let mount = Setup::s3(&server).args(args).mount();
        Both { mount, plain, logs, _server: server }
    }

    /// The command prints the same in both folders; returned is what it prints.
    fn same(&self, command: &str) -> String {
        let got = self.mount.out(command);
        let want = std::process::Command::new("bash")
            .args(["-c", command])
            .current_dir(self.plain.path())
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert!(want.status.success(), "{command}: {}", String::from_utf8_lossy(&want.stderr));
        let want = String::from_utf8(want.stdout).unwrap();
        assert!(got == want.trim_end(), "{command}:\n{got}\nbut plain:\n{want}");
        assert!(!got.is_empty(), "{command} prints nothing, which proves nothing");
        got
    }
}

#[test]
fn searching() {
    let both = Both::new(&[]);
    both.same("grep -rc ERROR . | sort");
    both.same("grep -rh 'status.*:500' . | sort | md5sum");
    both.same("rg -c --sort path ERROR");
    both.same("rg --no-filename --sort path 'status.{2}:500' | md5sum");
    both.same("rg --mmap -c 'GET' --sort path");
    // The link makes it appear on the later day; `grep -r` counts it once.
    let once: usize = both.same("grep -rh . prod/apps-321/38* | wc -l").parse().unwrap();
    let texts = [0, 4, 5, 6].map(|n| archive::text(n, [1, 40, 700, 90, 3000, 12_000, 250][n as usize]));
    let lines = |t: &Vec<u8>| t.iter().filter(|b| **b == b'\n').count();
    assert_eq!(once, texts.iter().map(lines).sum::<usize>() + lines(&archive::noise(9, 3_000_000)) + 1);
    let later = both.same("grep -c time prod/apps-321/*/2022-08-25/*");
    assert_eq!(later.parse::<usize>().unwrap(), lines(&texts[3]));
    both.same("grep -Rc ERROR . | sort");
}

#[test]
fn counting_and_sampling() {
    let both = Both::new(&[]);
    both.same("find . -type f -print0 | sort -z | xargs -0 wc -c");
    both.same("find . -type f -print0 | sort -z | xargs -0 wc -l");
    both.same("find -L . -type f -print0 | sort -z | xargs -0 md5sum");
    both.same("find . | sort");
    both.same("find . -type l -printf '%p %l\\n' | sort");
    both.same("find . -type f -size +100k | sort");
    for log in &both.logs {
        let path = log.path();
        both.same(&format!("head -n 3 '{path}' | md5sum"));
        both.same(&format!("tail -n 2 '{path}' | md5sum"));
        both.same(&format!("tail -c 1000 '{path}' | md5sum"));
        both.same(&format!("tail -c +900 '{path}' | md5sum"));
    }
    // With exact sizes by now.
    both.same("find . -type f -printf '%p %s\\n' | sort");
    both.same("ls -lR --time-style=+ . | awk '$1 ~ /^-/ {print $5, $6}'");
    both.same("du -ab --apparent-size prod/apps-321/38*/2022-08-24/*");
}

#[test]
fn parsing() {
    let both = Both::new(&[]);
    for log in &both.logs[..both.logs.len() - 1] {
        both.same(&format!("jq -r '.log | length' '{}' | md5sum", log.path()));
    }
    both.same(&format!("jq -s 'map(select(.stream==\"stderr\")) | length' '{}'", both.logs[5].path()));
}

#[test]
fn copying() {
    let both = Both::new(&[]);
    let into = tempfile::tempdir().unwrap();
    let (to, plain) = (into.path().display(), both.plain.path().display());
    assert_eq!(
        both.mount.out(&format!("cp -r . {to}/cp && diff -r --no-dereference {to}/cp {plain} && echo same")),
        "same"
    );
    for log in &both.logs {
        let path = log.path();
        assert_eq!(both.mount.out(&format!("cmp '{path}' '{plain}/{path}' && echo same")), "same");
        for block in ["bs=1", "bs=4097", "bs=100003", "bs=1M", "bs=65536 skip=7", "bs=333 skip=11 count=5"] {
            if block != "bs=1" || path == both.logs[0].path() {
                both.same(&format!("dd if='{path}' {block} status=none | md5sum"));
            }
        }
    }
}

#[test]
fn mapping() {
    let both = Both::new(&[]);
    let script = "import mmap, hashlib, sys\n\
        for name in sys.argv[1:]:\n\
        \x20   with open(name, 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:\n\
        \x20       print(len(m), hashlib.md5(m).hexdigest(), hashlib.md5(m[len(m) // 2:]).hexdigest(), m[-20:])\n";
    let script_file = both.plain.path().join("map.py");
    fs::write(&script_file, script).unwrap();
    // Backwards first: the last page of a file that was never read.
    let names: Vec<String> = both.logs.iter().map(|l| format!("'{}'", l.path())).collect();
    both.same(&format!("python3 '{}' {}", script_file.display(), names.join(" ")));
}

/// tar trusts the size of an `lstat` made before the open.
#[test]
fn archiving_with_exact_sizes() {
    let both = Both::new(&["--sizes", "exact"]);
    let into = tempfile::tempdir().unwrap();
    let to = into.path().display();
    let plain = both.plain.path().display();
    let command = format!(
        "tar cf {to}/t.tar . && mkdir {to}/x && tar xf {to}/t.tar -C {to}/x && diff -r --no-dereference {to}/x {plain} && echo same"
    );
    assert_eq!(both.mount.out(&command), "same");
}
