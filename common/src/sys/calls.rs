//! System calls that may be unavailable: older kernels lack some, and filters (seccomp) of
//! containers and services refuse some. Each caller has a fallback, or the start of the daemon logs
//! the cost. They are listed in `common/SYSTEM_CALLS.md`.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::pipe2;

/// A call whose lack is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they have the kernel's names")]
pub enum Call {
    Clone3,
    DuplicateCloexec,
    EpollCreate,
    EpollCtl,
    EpollWait,
    MemfdCreate,
    OfdLock,
    PidfdOpen,
    PidfdSendSignal,
    Splice,
    Tee,
}

impl Call {
    /// Returns the kernel's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clone3 => "clone3",
            Self::DuplicateCloexec => "fcntl:F_DUPFD_CLOEXEC",
            Self::EpollCreate => "epoll_create1",
            Self::EpollCtl => "epoll_ctl",
            Self::EpollWait => "epoll_wait",
            Self::MemfdCreate => "memfd_create",
            Self::OfdLock => "fcntl:F_OFD_SETLK",
            Self::PidfdOpen => "pidfd_open",
            Self::PidfdSendSignal => "pidfd_send_signal",
            Self::Splice => "splice",
            Self::Tee => "tee",
        }
    }

    /// Returns the kernel's error if the call is unavailable here. It is tried in a way that has no
    /// effect.
    #[must_use]
    pub fn refusal(self) -> Option<io::Error> {
        let errno = self.try_with_nonsense().err()?;
        let is_lacking = match (self, errno) {
            // The C library has a fallback for an unknown call, but not for a refused one.
            (Self::Clone3, errno) => errno == Errno::EPERM,
            // A kernel that knows the command looks for the lock first, and finds none.
            (Self::OfdLock, Errno::EINVAL) => true,
            (_, errno) => is_refused(&errno.into()),
        };
        is_lacking.then(|| errno.into())
    }

    /// Makes the call with invalid arguments: a size or a process of 0, an invalid fd, or no
    /// memory.
    fn try_with_nonsense(self) -> Result<(), Errno> {
        let pipe = pipe2(OFlag::O_CLOEXEC)?;
        let open = libc::c_long::from(pipe.0.as_raw_fd());
        let (number, arguments) = match self {
            Self::Clone3 => (libc::SYS_clone3, [0; 6]),
            Self::DuplicateCloexec => fcntl(-1, libc::F_DUPFD_CLOEXEC),
            Self::EpollCreate => (libc::SYS_epoll_create1, [-1, 0, 0, 0, 0, 0]),
            Self::EpollCtl => (libc::SYS_epoll_ctl, [-1; 6]),
            Self::EpollWait => (EPOLL_WAIT, [-1, 0, 1, 0, 0, 0]),
            Self::MemfdCreate => (libc::SYS_memfd_create, [0; 6]),
            Self::OfdLock => fcntl(open, libc::F_OFD_SETLK),
            Self::PidfdOpen => (libc::SYS_pidfd_open, [0; 6]),
            Self::PidfdSendSignal => (libc::SYS_pidfd_send_signal, [-1, 0, 0, 0, 0, 0]),
            Self::Splice => (libc::SYS_splice, [-1, 0, -1, 0, 1, 0]),
            Self::Tee => (libc::SYS_tee, [-1, -1, 1, 0, 0, 0]),
        };
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: none of these has memory of ours to touch, or an fd to change.
        Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) }).map(drop)
    }
}

/// System call behind the C library's `epoll_wait`.
#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_wait;
#[cfg(not(target_arch = "x86_64"))]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_pwait;

/// Returns whether an error means that a call is unavailable here, whatever its arguments.
#[must_use]
pub fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS))
}

/// Returns whether an error means that a command of one call, such as `fcntl(2)`, is unknown to the
/// kernel.
#[must_use]
pub fn is_unknown(error: &io::Error) -> bool {
    is_refused(error) || error.raw_os_error() == Some(libc::EINVAL)
}

/// Falls back to another way if a call is unavailable here.
///
/// # Errors
/// As the call that was made.
pub fn or_else<T>(
    result: io::Result<T>,
    another_way: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    match result {
        Err(error) if is_refused(&error) => another_way(),
        result => result,
    }
}

fn fcntl(fd: libc::c_long, command: libc::c_int) -> (libc::c_long, [libc::c_long; 6]) {
    (libc::SYS_fcntl, [fd, command.into(), 0, 0, 0, 0])
}

#[cfg(test)]
mod tests;
