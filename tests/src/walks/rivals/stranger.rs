//! A process that is no client of the daemon and locks files, as on another host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::kernel::Mode;

/// It, as the walk sees it.
#[derive(Debug)]
pub(super) struct Stranger {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// How it locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Posix,
    Ofd,
}

impl Stranger {
    pub(super) fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().expect("our own path"))
            .arg("stranger")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting a stranger");
        let orders = process.stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        Self { process, orders, answers }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Tries to lock a file; gives whether it has.
    pub(super) fn lock(&mut self, path: &Path, kind: Kind, mode: Mode) -> bool {
        self.tell(&format!("{kind:?} {mode:?} {}", path.display())) == "true"
    }

    /// Gives a lock up, if it has one.
    pub(super) fn unlock(&mut self, path: &Path) {
        self.tell(&format!("None None {}", path.display()));
    }

    fn tell(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("telling a stranger");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a stranger's answer");
        line.trim_end().to_owned()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // It may have ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The life of a stranger.
///
/// # Panics
/// When it is told what it cannot do.
pub(crate) fn live() {
    let mut files = BTreeMap::new();
    for order in std::io::stdin().lines() {
        let order = order.expect("an order");
        let [kind, mode, path] = order.split(' ').collect::<Vec<_>>()[..] else {
            panic!("what is {order}?")
        };
        // Closing it gives a lock of either kind up.
        drop(files.remove(path));
        let file = File::options().read(true).write(true).open(path).expect("opening a file");
        let has_lock = kind != "None" && lock(&file, kind, mode);
        if has_lock {
            files.insert(path.to_owned(), file);
        }
        println!("{has_lock}");
    }
}

fn lock(file: &File, kind: &str, mode: &str) -> bool {
    let l_type = if mode == "Shared" { libc::F_RDLCK } else { libc::F_WRLCK };
    let range = libc::flock {
        l_type: l_type.try_into().expect("a lock type is small"),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    let command = match kind {
        "Posix" => FcntlArg::F_SETLK(&range),
        _ => FcntlArg::F_OFD_SETLK(&range),
    };
    match fcntl(file, command) {
        Ok(_) => true,
        Err(Errno::EAGAIN | Errno::EACCES) => false,
        Err(error) => panic!("locking: {error}"),
    }
}
