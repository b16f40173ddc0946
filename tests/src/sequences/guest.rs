//! Guests that hold leases: processes whose connections the player uses, so that they are the peers.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wire::{receive_now, send_fds};

/// A guest's process.
#[derive(Debug)]
pub(super) struct Guest {
    pid: u32,
    orders: UnixStream,
    has_ended: Arc<AtomicBool>,
    is_touched: bool,
}

impl Guest {
    /// Starts one, which is not connected yet.
    pub(super) fn start(socket: &Path) -> Self {
        let (orders, theirs) = UnixStream::pair().expect("a pair of sockets");
        let process = Command::new(std::env::current_exe().expect("our own path"))
            .arg("connecting")
            .arg(socket)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .expect("starting a guest");
        let pid = process.id();
        Self { pid, orders, has_ended: reaped(process), is_touched: false }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn is_running(&self) -> bool {
        !self.has_ended.load(Ordering::Acquire)
    }

    /// Whether it is as it was when it started: one that was killed may not have ended yet, and a daemon may
    /// be about to kill one that has connected.
    pub(super) fn is_untouched(&self) -> bool {
        self.is_running() && !self.is_touched
    }

    /// Has it connect; `None` when it has ended.
    pub(super) fn connect(&mut self) -> Option<UnixStream> {
        self.is_touched = true;
        self.orders.write_all(&[0]).ok()?;
        let mut byte = [0];
        loop {
            match receive_now(&self.orders, &mut byte) {
                Ok(None) => std::thread::yield_now(),
                Ok(Some((_, fds))) => return fds.into_iter().next().map(UnixStream::from),
                Err(_) => return None,
            }
        }
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        self.is_touched = true;
        if self.is_running() {
            // Between the question and the answer it may have ended.
            kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL).ok();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reaps a process as soon as it has ended: libvirt's daemon waits 3 s for a zombie to go away.
fn reaped(mut process: Child) -> Arc<AtomicBool> {
    let has_ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&has_ended);
    std::thread::spawn(move || {
        process.wait().expect("reaping a guest");
        told.store(true, Ordering::Release);
    });
    has_ended
}

/// The life of a guest: it connects as often as it is told, and hands the connection over.
///
/// # Panics
/// When it cannot.
pub(crate) fn live(socket: &Path) {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().expect("a copy of stdin");
    let mut orders = UnixStream::from(stdin);
    while orders.read_exact(&mut [0]).is_ok() {
        let connection = UnixStream::connect(socket).expect("connecting");
        send_fds(&orders, &[0], &[connection.as_fd()]).expect("handing a connection over");
    }
}
