//! Fds at the numbers that an executed program expects them at.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::inherited::set_cloexec_of;

/// Moves fds to the numbers from `first` on, in order, to be inherited by a program that is executed
/// next. Nothing owns them any more.
///
/// # Errors
/// As `fcntl(2)` and `dup3(2)`. Some may be in place already then; the others are closed.
///
/// # Safety
/// Nothing in this process owns an fd with any of these numbers, except among `fds`.
pub unsafe fn place(first: RawFd, fds: Vec<OwnedFd>) -> io::Result<()> {
    let mut waiting: Vec<_> = fds.into_iter().map(Some).collect();
    for index in 0..waiting.len() {
        let place = RawFd::try_from(index).map_err(|_| Errno::EMFILE)? + first;
        let Some(fd) = waiting.get_mut(index).and_then(Option::take) else { continue };
        if fd.as_raw_fd() != place {
            make_way(&mut waiting, place)?;
            // SAFETY: the caller guarantees that nothing else owns this number.
            Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), place) })?;
            continue;
        }
        set_cloexec_of(fd.into_raw_fd(), false)?;
    }
    Ok(())
}

/// Gives another number to the one that is in the way, if any.
fn make_way(waiting: &mut [Option<OwnedFd>], place: RawFd) -> io::Result<()> {
    let is_there =
        |fd: &&mut Option<OwnedFd>| fd.as_ref().is_some_and(|fd| fd.as_raw_fd() == place);
    let Some(fd) = waiting.iter_mut().find(is_there) else { return Ok(()) };
    let behind = fcntl(fd.as_ref().ok_or(Errno::EBADF)?, FcntlArg::F_DUPFD_CLOEXEC(place + 1))?;
    // SAFETY: it has just been made, and nothing else knows its number.
    *fd = Some(unsafe { OwnedFd::from_raw_fd(behind) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn each_gets_its_place_whatever_order_they_come_in() {
        // Too high for any other test.
        const FIRST: RawFd = 700;
        let file = File::open("/dev/null").unwrap();
        let at = |number| {
            let number = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(number)).unwrap();
            // SAFETY: it has just been made, and nothing else knows its number.
            unsafe { OwnedFd::from_raw_fd(number) }
        };
        // The second is where the first belongs, and the third where it belongs itself.
        let (one, two, three) = (at(FIRST + 1), at(FIRST), at(FIRST + 2));
        let marked = tempfile::tempfile().unwrap();
        // SAFETY: `two` owns that number, and is about to be dropped.
        Errno::result(unsafe { libc::dup2(marked.as_raw_fd(), two.as_raw_fd()) }).unwrap();
        // SAFETY: nothing else has these numbers.
        unsafe { place(FIRST, vec![one, two, three]) }.unwrap();
        let inode = |number: RawFd| {
            let link = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
            link.to_string_lossy().into_owned()
        };
        assert_eq!(inode(FIRST), "/dev/null");
        assert_eq!(inode(FIRST + 1), inode(marked.as_raw_fd()));
        assert_eq!(inode(FIRST + 2), "/dev/null");
        for number in FIRST..FIRST + 3 {
            // SAFETY: placed just now, and owned by nothing.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            assert_eq!(fcntl(&fd, FcntlArg::F_GETFD).unwrap(), 0);
        }
    }
}
