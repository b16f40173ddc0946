//! Terminals.

use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

mod ioctl {
    nix::ioctl_read_bad!(tiocgwinsz, nix::libc::TIOCGWINSZ, nix::libc::winsize);
}

/// Returns the number of columns of a terminal; `None` for anything else.
#[must_use]
pub fn columns(fd: impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    let number = fd.as_fd().as_raw_fd();
    // SAFETY: TIOCGWINSZ writes one winsize, and `size` is one that outlives the call.
    let asked = unsafe { ioctl::tiocgwinsz(number, &raw mut size) };
    asked.ok().filter(|_| size.ws_col > 0).map(|_| size.ws_col.into())
}
