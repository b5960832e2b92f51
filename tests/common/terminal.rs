//! A terminal, and what a program writes to it.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A program whose standard output and standard error are a terminal of 24 lines and 120 columns.
pub struct OnTerminal {
    child: Child,
    text: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl OnTerminal {
    pub fn start(command: &mut Command) -> OnTerminal {
        let (mut master, mut slave) = (0, 0);
        let null = std::ptr::null_mut();
        let size = libc::winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: three valid pointers, and null where the defaults are wanted.
        assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), &raw const size as *mut _) }, 0);
        // SAFETY: no pointer. Else a child of another test would have them as well, and reading would end with that only.
        let alone = |fd| unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        assert_eq!([alone(master), alone(slave)], [0, 0]);
        // SAFETY: both descriptors are ours, open, and owned by nobody else.
        let (mut master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
        command.stdin(Stdio::null()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.env("TERM", "xterm").spawn().unwrap();
        // The last copies of the terminal's other side, so that reading ends with the program.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let text = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&text);
        let reading = std::thread::spawn(move || {
            let mut buf = [0; 4096];
            // At its end a terminal is an error.
            while let Ok(n @ 1..) = master.read(&mut buf) {
                to.lock().unwrap().extend_from_slice(&buf[..n]);
            }
        });
        OnTerminal { child, text, reading }
    }

    /// What was written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// How it ended, and all that was written.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = super::watch::eventually("the program on the terminal ends", || self.child.try_wait().unwrap());
        self.reading.join().unwrap();
        let text = self.text.lock().unwrap().clone();
        (status, String::from_utf8(text).unwrap())
    }
}
