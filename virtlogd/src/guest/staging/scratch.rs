//! A pipe and a buffer to look at bytes without taking them out of the pipe that they are in.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use common::sys::fd::set_nonblocking;
use common::sys::pipe;

/// Size of the pipe for looking at bytes. Each of the 80 bytes that are looked at may lie in a page
/// of its own. The kernel rounds up to a power of two pages.
const SCRATCH_BYTES: i32 = 128 * 4096;

/// A pipe and a buffer.
#[derive(Debug)]
pub(crate) struct Scratch {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes in the pipe that were not read yet.
    unread_bytes: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Scratch {
    /// Makes an empty one.
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe::pipe()?;
        set_nonblocking(&reader)?;
        if pipe::set_capacity_bytes(&writer, SCRATCH_BYTES).is_err() {
            tracing::debug!(target: "logging.log_handler", "Unable to enlarge the pipe for looking at bytes");
        }
        Ok(Self { reader, writer, unread_bytes: 0, bytes: Vec::new() })
    }

    /// Copies up to `len` bytes that wait in `pipe`, behind those that were copied already.
    pub(crate) fn copy_from(&mut self, pipe: BorrowedFd<'_>, len: usize) -> io::Result<()> {
        let start = self.bytes.len();
        // What the read after an earlier copy has left is another log's.
        self.read_copied()?;
        self.bytes.truncate(start);
        self.unread_bytes = match pipe::tee(pipe, &self.writer, len) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            result => result?,
        };
        self.read_copied()
    }

    /// Takes `len` bytes out of `pipe`; of the last packet no more than belongs to them. Returns
    /// how many that were.
    pub(super) fn take_from(&mut self, pipe: BorrowedFd<'_>, len: usize) -> usize {
        let mut left = len;
        while left > 0
            && let Ok(count @ 1..) = pipe::splice_to_pipe(pipe, &self.writer, left)
        {
            left -= count.min(left);
            self.unread_bytes += count;
            // What cannot be read is dropped before the pipe is used again.
            self.read_copied().ok();
            self.bytes.clear();
        }
        len - left
    }

    #[cfg(test)]
    pub(crate) fn leave_unread(&mut self, bytes: &[u8]) {
        self.unread_bytes = nix::unistd::write(&self.writer, bytes).unwrap();
    }

    fn read_copied(&mut self) -> io::Result<()> {
        while self.unread_bytes > 0 {
            let start = self.bytes.len();
            self.bytes.resize(start + self.unread_bytes, 0);
            let read = pipe::read(&self.reader, self.bytes.get_mut(start..).unwrap_or_default());
            self.bytes.truncate(start + read.as_ref().map_or(0, |count| *count));
            self.unread_bytes -= read?.min(self.unread_bytes);
        }
        Ok(())
    }
}
