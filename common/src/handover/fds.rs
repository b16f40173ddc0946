//! Fds and bytes that pass from a process to its successor, under their numbers.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::memfd::{BYTES_MAX, Memfd};
use crate::sys::memory::Content;
use crate::sys::{fd, pipe};

/// Fds and bytes for a successor. Their owners keep the fds open while this exists.
#[derive(Debug, Default)]
pub struct FdSet {
    numbers: RefCell<Vec<RawFd>>,
    bytes: RefCell<Vec<OwnedFd>>,
}

/// Fds that a predecessor has left open. Each can be taken once.
#[derive(Debug, Default)]
pub struct InheritedFds {
    numbers: BTreeSet<RawFd>,
}

impl FdSet {
    /// Adds `fd` and returns its number.
    pub fn fd(&self, fd: impl AsFd) -> RawFd {
        let number = fd.as_fd().as_raw_fd();
        self.numbers.borrow_mut().push(number);
        number
    }

    /// Adds bytes in a sealed memfd and returns its number.
    ///
    /// # Errors
    /// As `memfd_create(2)` and `write(2)`.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<RawFd> {
        Ok(self.memory(Memfd::of_bytes(bytes)?))
    }

    /// Adds a memfd, sealed, and returns its number.
    pub(super) fn memory(&self, memfd: Memfd) -> RawFd {
        let file = memfd.seal();
        let number = file.as_raw_fd();
        self.bytes.borrow_mut().push(file);
        number
    }

    /// Returns the numbers of all of them.
    #[cfg(feature = "fuzzing")]
    pub fn numbers(&self) -> Vec<RawFd> {
        let (numbers, bytes) = (self.numbers.borrow(), self.bytes.borrow());
        numbers.iter().copied().chain(bytes.iter().map(AsRawFd::as_raw_fd)).collect()
    }

    /// Lets all of them stay open across an exec. Returns the guard that reverts it.
    ///
    /// # Errors
    /// As `fcntl(2)`; all are closed by an exec again.
    pub(super) fn keep_open(&self) -> io::Result<KeptOpen<'_>> {
        let guard = KeptOpen(self);
        self.try_for_each(|number| fd::set_cloexec_of(number, false))?;
        Ok(guard)
    }

    fn try_for_each(&self, action: impl FnMut(RawFd) -> io::Result<()>) -> io::Result<()> {
        let (numbers, bytes) = (self.numbers.borrow(), self.bytes.borrow());
        numbers.iter().copied().chain(bytes.iter().map(AsRawFd::as_raw_fd)).try_for_each(action)
    }
}

/// Reverts on drop.
pub(super) struct KeptOpen<'a>(&'a FdSet);

impl Drop for KeptOpen<'_> {
    fn drop(&mut self) {
        // They are open, so this cannot fail.
        self.0.try_for_each(|number| fd::set_cloexec_of(number, true)).ok();
    }
}

impl InheritedFds {
    /// Collects all open fds except the standard streams and makes them close-on-exec. To be called
    /// before this process opens anything itself.
    #[must_use]
    pub fn at_start() -> Self {
        let numbers = fd::open_numbers();
        if fd::set_cloexec_of_all().is_err() {
            // They are open, so this cannot fail.
            for &number in &numbers {
                fd::set_cloexec_of(number, true).ok();
            }
        }
        Self { numbers: numbers.into_iter().collect() }
    }

    /// Makes the set of these fds, which have no other owner.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn of(numbers: impl IntoIterator<Item = RawFd>) -> Self {
        Self { numbers: numbers.into_iter().collect() }
    }

    /// Returns whether nothing was inherited, or everything is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Adds an fd that was adopted under this number; it belongs to the code that takes it from
    /// here.
    pub(crate) fn add(&mut self, number: RawFd) {
        self.numbers.insert(number);
    }

    /// Excludes fds of other owners, such as those that systemd has passed.
    pub fn leave(&mut self, numbers: impl IntoIterator<Item = RawFd>) {
        for number in numbers {
            self.numbers.remove(&number);
        }
    }

    /// Takes the fd with this number.
    ///
    /// # Errors
    /// `EBADF` without a number, or for one that was not inherited or is taken already.
    pub fn take(&mut self, number: Option<RawFd>) -> io::Result<OwnedFd> {
        match number {
            Some(number) if self.numbers.remove(&number) => adopt(number),
            _ => Err(Errno::EBADF.into()),
        }
    }

    /// Takes the fd with this number if it is a socket. A wrong number in a document may be a file,
    /// whose lock would be dropped on close.
    ///
    /// # Errors
    /// As [`Self::take`]; `ENOTSOCK` for anything else.
    pub fn take_socket(&mut self, number: Option<RawFd>) -> io::Result<OwnedFd> {
        self.take_as(number, Errno::ENOTSOCK, |fd| fd::is_socket(fd))
    }

    /// Takes the fd with this number if it is of the expected kind. Any other may be a listener or
    /// hold a lock, and stays for its rightful owner.
    ///
    /// # Errors
    /// As [`Self::take`]; `otherwise` for anything else.
    pub fn take_as(
        &mut self,
        number: Option<RawFd>,
        otherwise: Errno,
        is_it: impl Fn(BorrowedFd<'_>) -> bool,
    ) -> io::Result<OwnedFd> {
        let is_other = |number: &RawFd| self.numbers.contains(number) && !fd::is(*number, &is_it);
        if number.as_ref().is_some_and(is_other) {
            return Err(otherwise.into());
        }
        self.take(number)
    }

    /// Takes the read end and the write end of one pipe. Anything else stays for its rightful owner.
    ///
    /// # Errors
    /// As [`Self::take`]; `EINVAL` for anything else.
    pub fn take_pipe(
        &mut self,
        (reader, writer): (RawFd, RawFd),
    ) -> io::Result<(OwnedFd, OwnedFd)> {
        if reader == writer || ![reader, writer].iter().all(|end| self.numbers.contains(end)) {
            return Err(Errno::EBADF.into());
        }
        if !fd::is(reader, |reader| fd::is(writer, |writer| pipe::are_ends(reader, writer))) {
            return Err(Errno::EINVAL.into());
        }
        Ok((self.take(Some(reader))?, self.take(Some(writer))?))
    }

    /// Returns whether there is an fd that `is_wanted`.
    pub fn has(&self, is_wanted: impl Fn(BorrowedFd<'_>) -> bool) -> bool {
        self.numbers.iter().any(|&number| fd::is(number, &is_wanted))
    }

    /// Passes the fd with this number, if there is one, to `looks`.
    pub fn show(&self, number: RawFd, looks: impl FnOnce(BorrowedFd<'_>)) {
        if self.numbers.contains(&number) {
            fd::is(number, |fd| {
                looks(fd);
                true
            });
        }
    }

    /// Passes each fd to `looks`.
    pub fn for_each(&self, mut looks: impl FnMut(BorrowedFd<'_>)) {
        for &number in &self.numbers {
            fd::is(number, |fd| {
                looks(fd);
                true
            });
        }
    }

    /// Takes the first fd that `is_wanted`.
    pub fn take_if(&mut self, is_wanted: impl Fn(BorrowedFd<'_>) -> bool) -> Option<OwnedFd> {
        let number = self.numbers.iter().copied().find(|&number| fd::is(number, &is_wanted))?;
        self.take(Some(number)).ok()
    }

    /// Reads the bytes that were passed under this number.
    ///
    /// # Errors
    /// As [`Self::take_as`] and `read(2)`; `EINVAL` for anything but a memfd, `EFBIG` above
    /// [`BYTES_MAX`].
    pub fn take_bytes(&mut self, number: Option<RawFd>) -> io::Result<Vec<u8>> {
        let mut file = File::from(self.take_as(number, Errno::EINVAL, fd::is_nameless_file)?);
        if file.metadata()?.len() > BYTES_MAX {
            return Err(Errno::EFBIG.into());
        }
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns the same bytes without a copy if they are sealed.
    ///
    /// # Errors
    /// As [`Self::take_as`] and [`Content::of`]; `EINVAL` for a file with a name.
    pub(super) fn take_content(&mut self, number: Option<RawFd>) -> io::Result<Content> {
        let file = self.take_as(number, Errno::EINVAL, fd::is_nameless_file)?;
        Content::of(file, BYTES_MAX)
    }

    /// Takes all remaining fds.
    pub fn take_rest(&mut self) -> Vec<OwnedFd> {
        let numbers = std::mem::take(&mut self.numbers);
        numbers.into_iter().filter_map(|number| adopt(number).ok()).collect()
    }
}

#[expect(unsafe_code, reason = "a number has to get an owner somewhere")]
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `InheritedFds` was made at the start from all open fds, and yields each number once.
    // Numbers with other owners are excluded.
    unsafe { fd::adopt_listed(number) }
}

#[cfg(test)]
mod tests;
