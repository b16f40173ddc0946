//! Files that would block whoever opens them.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use common::startup::is_pid_file;
use common::sys::file_id::FileId;
use common::sys::process;
use nix::errno::Errno;
use nix::libc;

use super::Error;

/// Time that another process has to give up its lease on a file; ours. Other logs wait meanwhile, so
/// it is less than what counts as a hang.
const LEASE_PERIOD: Duration = Duration::from_millis(30);

/// Opens a file, and waits a little for a process that has an `fcntl(2)` lease on it. A file server has
/// one for its clients, and the kernel has told it to give that up.
pub(super) fn open_soon(open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    const PAUSE: Duration = Duration::from_millis(2);
    let end = Instant::now() + LEASE_PERIOD;
    loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                process::pause(PAUSE);
            }
            result => return result,
        }
    }
}

/// Returns whether a file of this mode and identity is no log: a FIFO, a socket, a device, or the
/// daemon's pid file.
pub(super) fn is_special(mode: u32, id: FileId) -> bool {
    let kind = mode & libc::S_IFMT;
    kind != libc::S_IFREG && kind != libc::S_IFDIR || is_pid_file(id.device, id.number)
}

/// Returns the error about a special file.
pub(super) fn special(path: &Path) -> Error {
    Error::Open { path: path.into(), source: Errno::EINVAL.into() }
}
