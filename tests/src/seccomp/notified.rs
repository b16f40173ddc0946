//! The other end of a filter that asks: whoever decides on each call of a program.
#![expect(unsafe_code, reason = "nix knows no seccomp")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc::{self, seccomp_data, seccomp_notif, seccomp_notif_resp};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::name;

nix::ioctl_readwrite!(receive, b'!', 0, seccomp_notif);
nix::ioctl_readwrite!(send, b'!', 1, seccomp_notif_resp);

const BRK: &str = "brk";

/// A call that waits for a decision.
#[derive(Debug)]
pub struct Notified {
    /// The call's name, as in [`super::named`].
    pub name: String,
    /// The thread that calls.
    pub thread: u32,
    arguments: [u64; 6],
    id: u64,
}

impl Notified {
    /// The object behind the first argument if it is an fd: a path, or a name such as `pipe:[7]`.
    pub fn object(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/fd/{}", self.thread, self.arguments[0])).ok()
    }

    /// Whether the call looks for something at a path, if it may.
    pub fn has_path(&self) -> bool {
        let flags = match &*self.name {
            "statx" => self.arguments[2],
            "newfstatat" => self.arguments[3],
            _ => 0,
        };
        flags & u64::from(libc::AT_EMPTY_PATH.unsigned_abs()) == 0
    }

    /// Whether the call only asks how things are.
    pub fn is_question(&self) -> bool {
        self.name == BRK && self.arguments[0] == 0
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The kernel does it.
    Allow,
    /// It is not done, and fails.
    Fail(Errno),
}

/// What [`super::ask`] has given.
#[derive(Debug)]
pub struct Notifier(OwnedFd);

impl Notifier {
    /// Who decides now.
    pub fn new(listener: OwnedFd) -> Self {
        Self(listener)
    }

    /// Waits for the next call; `None` when all that could call have ended.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn next(&self) -> io::Result<Option<Notified>> {
        loop {
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                polled => polled?,
            };
            let is_waiting = fds[0].revents().is_some_and(|it| it.contains(PollFlags::POLLIN));
            if !is_waiting {
                return Ok(None);
            }
            match self.receive() {
                // Killed in between.
                Err(Errno::ENOENT | Errno::EINTR) => {}
                received => return Ok(Some(received?)),
            }
        }
    }

    /// Decides on a call.
    ///
    /// # Errors
    /// The kernel does not take the decision.
    pub fn decide(&self, call: &Notified, decision: Decision) -> io::Result<()> {
        let (error, flags) = match decision {
            Decision::Allow => (0, continued()),
            // It says where the end of the memory is, and no errors.
            Decision::Fail(_) if call.name == BRK => (0, 0),
            Decision::Fail(errno) => (-(errno as i32), 0),
        };
        let mut response = seccomp_notif_resp { id: call.id, val: 0, error, flags };
        // SAFETY: the kernel reads a response from where it is one.
        match unsafe { send(self.0.as_raw_fd(), &raw mut response) } {
            // Killed meanwhile.
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&self) -> nix::Result<Notified> {
        let data = seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
        let mut notification = seccomp_notif { id: 0, pid: 0, flags: 0, data };
        // SAFETY: the kernel writes a notification to where there is room for one, which has to be 0.
        unsafe { receive(self.0.as_raw_fd(), &raw mut notification) }?;
        let seccomp_notif { id, pid, data, .. } = notification;
        let name = name(data.nr.cast_unsigned(), &data.args);
        Ok(Notified { name, thread: pid, arguments: data.args, id })
    }
}

fn continued() -> u32 {
    u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).expect("a bit of 32")
}
