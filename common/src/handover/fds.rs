//! Fds and bytes that go from one image of the process to the next, under their numbers.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::memfd::{BYTES_MAX, Memfd};
use crate::sys::fd;
use crate::sys::memory::Content;

/// What a successor gets: fds that somebody else owns and keeps open for as long as this is there,
/// and bytes.
#[derive(Debug, Default)]
pub struct FdSet {
    numbers: RefCell<Vec<RawFd>>,
    bytes: RefCell<Vec<OwnedFd>>,
}

/// What a predecessor has left open. Each can be had once.
#[derive(Debug, Default)]
pub struct InheritedFds {
    numbers: BTreeSet<RawFd>,
}

impl FdSet {
    /// Takes `fd` along and gives its number.
    pub fn fd(&self, fd: impl AsFd) -> RawFd {
        let number = fd.as_fd().as_raw_fd();
        self.numbers.borrow_mut().push(number);
        number
    }

    /// Takes bytes along in a sealed memfd and gives its number.
    ///
    /// # Errors
    /// As `memfd_create(2)` and `write(2)`.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<RawFd> {
        Ok(self.memory(Memfd::of_bytes(bytes)?))
    }

    /// Takes a memfd along, sealed, and gives its number.
    pub(super) fn memory(&self, memfd: Memfd) -> RawFd {
        let file = memfd.seal();
        let number = file.as_raw_fd();
        self.bytes.borrow_mut().push(file);
        number
    }

    /// Lets all of them stay open across an exec. Gives what undoes that.
    ///
    /// # Errors
    /// As `fcntl(2)`; all are closed by an exec again.
    pub(super) fn keep_open(&self) -> io::Result<KeptOpen<'_>> {
        let kept = KeptOpen(self);
        self.try_for_each(|number| fd::set_cloexec_of(number, false))?;
        Ok(kept)
    }

    fn try_for_each(&self, action: impl FnMut(RawFd) -> io::Result<()>) -> io::Result<()> {
        let (numbers, bytes) = (self.numbers.borrow(), self.bytes.borrow());
        numbers.iter().copied().chain(bytes.iter().map(AsRawFd::as_raw_fd)).try_for_each(action)
    }
}

/// Ends with its drop.
pub(super) struct KeptOpen<'a>(&'a FdSet);

impl Drop for KeptOpen<'_> {
    fn drop(&mut self) {
        // They were open a moment ago, and still are.
        drop(self.0.try_for_each(|number| fd::set_cloexec_of(number, true)));
    }
}

impl InheritedFds {
    /// Everything that is open now but the standard streams, close-on-exec from here. To be called
    /// before this process opens anything itself.
    ///
    /// # Errors
    /// As `read(2)` of `/proc/self/status`.
    pub fn at_start() -> io::Result<Self> {
        let numbers = fd::open_numbers()?;
        if fd::set_cloexec_of_all().is_err() {
            // They are open, so it cannot fail.
            numbers.iter().for_each(|&number| drop(fd::set_cloexec_of(number, true)));
        }
        Ok(Self { numbers: numbers.into_iter().collect() })
    }

    #[cfg(test)]
    pub(super) fn of(numbers: impl IntoIterator<Item = RawFd>) -> Self {
        Self { numbers: numbers.into_iter().collect() }
    }

    /// Whether nothing was inherited, or everything taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// An fd that was taken over under this number, and is whoever takes it from here.
    pub(crate) fn add(&mut self, number: RawFd) {
        self.numbers.insert(number);
    }

    /// These are somebody else's, as those that systemd has passed.
    pub fn leave(&mut self, numbers: impl IntoIterator<Item = RawFd>) {
        for number in numbers {
            self.numbers.remove(&number);
        }
    }

    /// The fd with this number.
    ///
    /// # Errors
    /// `EBADF` where there is no number, it was not inherited, or was taken already.
    pub fn take(&mut self, number: Option<RawFd>) -> io::Result<OwnedFd> {
        match number {
            Some(number) if self.numbers.remove(&number) => adopt(number),
            _ => Err(Errno::EBADF.into()),
        }
    }

    /// The same, if it is a socket. What a document takes for one may be a file, with a lock that goes
    /// when it is closed.
    ///
    /// # Errors
    /// As [`Self::take`]; of anything else `ENOTSOCK`.
    pub fn take_socket(&mut self, number: Option<RawFd>) -> io::Result<OwnedFd> {
        self.take_as(number, Errno::ENOTSOCK, |fd| fd::is_socket(fd))
    }

    /// The same, if it is what the document takes it for: what is something else may be a listener,
    /// or hold a lock, and stays for whoever knows it.
    ///
    /// # Errors
    /// As [`Self::take`]; of anything else `otherwise`.
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

    /// Whether there is an fd that `is_wanted`.
    pub fn has(&self, is_wanted: impl Fn(BorrowedFd<'_>) -> bool) -> bool {
        self.numbers.iter().any(|&number| fd::is(number, &is_wanted))
    }

    /// Shows the fd with this number, if there is one, to `looks`.
    pub fn show(&self, number: RawFd, looks: impl FnOnce(BorrowedFd<'_>)) {
        if self.numbers.contains(&number) {
            fd::is(number, |fd| {
                looks(fd);
                true
            });
        }
    }

    /// Shows each fd to `looks`.
    pub fn for_each(&self, mut looks: impl FnMut(BorrowedFd<'_>)) {
        for &number in &self.numbers {
            fd::is(number, |fd| {
                looks(fd);
                true
            });
        }
    }

    /// The first fd that `is_wanted`.
    pub fn take_if(&mut self, is_wanted: impl Fn(BorrowedFd<'_>) -> bool) -> Option<OwnedFd> {
        let number = self.numbers.iter().copied().find(|&number| fd::is(number, &is_wanted))?;
        self.take(Some(number)).ok()
    }

    /// The bytes that were passed under this number.
    ///
    /// # Errors
    /// As [`Self::take_as`] and `read(2)`; `EINVAL` for what is no memfd, `EFBIG` above [`BYTES_MAX`].
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

    /// The same, where they are if nobody can change them.
    ///
    /// # Errors
    /// As [`Self::take_as`] and [`Content::of`]; `EINVAL` for what has a name.
    pub(super) fn take_content(&mut self, number: Option<RawFd>) -> io::Result<Content> {
        let file = self.take_as(number, Errno::EINVAL, fd::is_nameless_file)?;
        Content::of(file, BYTES_MAX)
    }

    /// Everything that nobody has taken.
    pub fn take_rest(&mut self) -> Vec<OwnedFd> {
        let numbers = std::mem::take(&mut self.numbers);
        numbers.into_iter().filter_map(|number| adopt(number).ok()).collect()
    }
}

#[expect(unsafe_code, reason = "a number has to get an owner somewhere")]
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `InheritedFds` was made when the process began, of what was open then, and gives each number
    // once. Whoever else adopts some has them left out.
    unsafe { fd::adopt_listed(number) }
}

#[cfg(test)]
mod tests;
