//! Sources of bytes for a log file.

use std::io;
use std::os::fd::BorrowedFd;

use common::sys::file::write_at;

/// Offset in a file at which bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    /// At this offset in bytes.
    At(u64),
    /// At its end, wherever that is by then: the file is opened with `O_APPEND`, which `splice`
    /// refuses. It was at this offset.
    End(u64),
}

/// Bytes that wait to be stored. Those that are not stored stay where they are.
pub trait Source {
    /// Returns the number of bytes that wait; there may be more by the next call, never fewer.
    ///
    /// # Errors
    ///
    /// As the system reports.
    fn available(&self) -> io::Result<u64>;

    /// Returns the first `len_max` bytes, which is never more than wait, without consuming them.
    /// Fewer are allowed; the rest is then looked at in a later
    /// [`append`](super::RotatingFile::append).
    ///
    /// # Errors
    ///
    /// As the system reports.
    fn peek(&mut self, len_max: usize) -> io::Result<&[u8]>;

    /// Prepares up to `len` bytes, so that only storing them is left to do. Returns how many are at
    /// hand; none only if none wait.
    ///
    /// # Errors
    ///
    /// As the system reports; nothing is consumed then.
    fn prepare(&mut self, len: u64) -> io::Result<u64>;

    /// Stores up to `len` of the bytes at hand at `offset` of `file`, and consumes exactly those
    /// stored. Returns how many that were; none only if none are at hand.
    ///
    /// # Errors
    ///
    /// As the system reports; nothing is stored or consumed then.
    fn write_to(&mut self, file: BorrowedFd<'_>, offset: Offset, len: u64) -> io::Result<u64>;

    /// Notes that a step was done that makes way for the bytes.
    fn note_progress(&self) {}
}

impl Offset {
    /// Returns the offset in bytes, as far as is known.
    pub fn bytes(self) -> u64 {
        match self {
            Self::At(offset) | Self::End(offset) => offset,
        }
    }
}

/// Bytes in memory, as a [`Source`].
#[derive(Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Source for Bytes<'_> {
    fn available(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.0.len()).unwrap_or(u64::MAX))
    }

    fn peek(&mut self, len_max: usize) -> io::Result<&[u8]> {
        Ok(self.0.get(..len_max).unwrap_or(self.0))
    }

    fn prepare(&mut self, len: u64) -> io::Result<u64> {
        Ok(self.available()?.min(len))
    }

    fn write_to(&mut self, file: BorrowedFd<'_>, offset: Offset, len: u64) -> io::Result<u64> {
        let piece = usize::try_from(len).ok().and_then(|len| self.0.get(..len)).unwrap_or(self.0);
        if piece.is_empty() {
            return Ok(0);
        }
        // Linux appends with `O_APPEND` whatever the offset.
        let stored = write_at(file, piece, offset.bytes())?;
        self.0 = self.0.get(stored..).unwrap_or_default();
        Ok(u64::try_from(stored).unwrap_or(u64::MAX))
    }
}
