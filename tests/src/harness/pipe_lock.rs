//! A pipe whose lock in the kernel somebody keeps, as anybody can who has an end of it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::fcntl::{SpliceFFlags, splice};
use nix::libc;
use nix::unistd::gettid;

use super::eventually;

/// A thread that keeps a pipe locked: it moves what comes from a socket into the pipe, and nothing comes.
#[derive(Debug)]
pub struct PipeLock {
    bait: UnixStream,
    thread: JoinHandle<()>,
}

impl PipeLock {
    /// Locks the pipe that `writer` is an end of.
    pub fn begin(writer: &File) -> Self {
        let (bait, hook) = UnixStream::pair().expect("a pair of sockets");
        let writer = writer.try_clone().expect("a copy");
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            sender.send(gettid()).expect("it waits for that");
            // However much it gets.
            splice(&hook, None, &writer, None, 65_536, SpliceFFlags::empty()).ok();
        });
        let call = format!("/proc/self/task/{}/syscall", receiver.recv().expect("a thread"));
        let number = libc::SYS_splice.to_string();
        eventually("the pipe is locked", || {
            let call = fs::read_to_string(&call).unwrap_or_default();
            call.split(' ').next() == Some(&number)
        });
        Self { bait, thread }
    }

    /// Lets go of it, with these bytes.
    pub fn let_go(self, bytes: &str) {
        let Self { mut bait, thread } = self;
        bait.write_all(bytes.as_bytes()).expect("it is read");
        drop(bait);
        thread.join().expect("the thread ends");
    }
}
