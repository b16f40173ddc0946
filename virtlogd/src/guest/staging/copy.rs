//! Bytes that are looked at, or go through memory where the kernel does not move them: it cannot
//! (`EINVAL` from a file system, or for a file that is appended to), or must not (a filter).
//!
//! What is in memory alone is lost with the process, so that is no more than a piece. Whatever was
//! read and could not be passed on stays in [front](Pipe::front) of the pipe.
//!
//! A guest can have each of its writes be a packet (`O_DIRECT`), also in the pipes that they are moved
//! to. `read` takes one of them, and drops what of it does not fit into the buffer: so that is never
//! smaller than the largest packet, and more may be read than was asked for.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{MutexGuard, Once, PoisonError};

use common::sys::calls::{self, is_refused, is_unknown};
use common::sys::fd::set_nonblocking;
use common::sys::file::write_at;
use common::sys::pipe;
use nix::errno::Errno;

use super::{Pipe, Staging};
use crate::rotating_file::Offset;

/// Bytes that are in memory alone at a time: what the largest packet has.
pub(super) const PIECE_BYTES: usize = pipe::ATOMIC_BYTES;

/// Slots of the pipe for looking at bytes. Each byte looked at may lie in a page of its own, and
/// 80 are looked at; the kernel rounds up to a power of two pages.
const SCRATCH_BYTES: i32 = 128 * 4096;

/// Two more ends and a buffer, for looking at bytes without taking them.
#[derive(Debug)]
pub(crate) struct Scratch {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes in the pipe.
    unread_bytes: usize,
    pub(super) bytes: Vec<u8>,
}

impl Scratch {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe::pipe()?;
        set_nonblocking(&reader)?;
        if pipe::set_capacity_bytes(&writer, SCRATCH_BYTES).is_err() {
            tracing::debug!(target: "logging.log_handler", "A small pipe has to do for looking");
        }
        Ok(Self { reader, writer, unread_bytes: 0, bytes: Vec::new() })
    }

    /// Copies up to `len` bytes that wait in `pipe` behind those that were copied already.
    pub(super) fn copy_from(&mut self, pipe: BorrowedFd<'_>, len: usize) -> io::Result<()> {
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

    /// Takes `len` bytes out of `pipe`, of the last packet no more than belongs to them. Gives how many
    /// that were.
    fn take_from(&mut self, pipe: BorrowedFd<'_>, len: usize) -> usize {
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
    pub(super) fn leave_unread(&mut self, bytes: &[u8]) {
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

impl Staging {
    /// Stores up to `len` of the first bytes at `offset` of a file and gives how many that were; they
    /// are in the pipe no longer.
    ///
    /// # Errors
    /// As `splice(2)` and `pwrite(2)`; nothing is stored then.
    pub(super) fn write_to(
        &self,
        file: BorrowedFd<'_>,
        offset: Offset,
        len: usize,
        scratch: &mut Scratch,
    ) -> io::Result<usize> {
        if !self.0.front().is_empty() {
            return self.0.write_front(file, offset.bytes(), len);
        }
        let spliced = match offset {
            Offset::At(offset) => pipe::splice_to_file(self.reader(), file, offset, len),
            Offset::End(_) => Err(Errno::EINVAL.into()),
        };
        match spliced {
            Err(error) if is_unknown(&error) => {
                if matches!(offset, Offset::At(_)) && !is_refused(&error) {
                    say_that_bytes_are_copied();
                }
                let copied = self.copy_to(file, offset.bytes(), len, scratch);
                calls::or_else(copied, || self.0.write_front(file, offset.bytes(), len))
            }
            result => result,
        }
    }

    /// Puts bytes that were read back into the pipe, where they outlive this process.
    pub(crate) fn put_back(&self) {
        self.0.put_back(&mut self.0.front());
    }

    /// Copies bytes first, and consumes them once they are stored.
    fn copy_to(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        scratch: &mut Scratch,
    ) -> io::Result<usize> {
        scratch.bytes.clear();
        scratch.copy_from(self.reader(), len)?;
        // Linux appends with `O_APPEND` whatever the offset.
        let stored = write_at(file, &scratch.bytes, offset)?;
        let left = stored - scratch.take_from(self.reader(), stored);
        if left > 0 {
            self.0.read_away(left)?;
        }
        Ok(stored)
    }
}

impl Pipe {
    /// What was read and not passed on.
    pub(super) fn front(&self) -> MutexGuard<'_, Vec<u8>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves `len` bytes from a guest's pipe into this one, piece by piece, as [`pipe::splice_to_pipe`];
    /// up to a piece more.
    pub(super) fn fill_from(&self, guest: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        let mut moved = 0;
        while moved < len {
            match self.take_piece(guest) {
                Ok(0) => break,
                Ok(count) => moved += count,
                Err(error) if moved == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(moved)
    }

    fn take_piece(&self, guest: BorrowedFd<'_>) -> io::Result<usize> {
        let state = pipe::state(guest)?;
        if state == pipe::State::AtEnd {
            return Ok(0);
        }
        if state == pipe::State::Empty || !pipe::has_room(&self.writer)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut piece = [0; PIECE_BYTES];
        let count = pipe::read(guest, &mut piece)?;
        let piece = piece.get(..count).unwrap_or_default();
        if pipe::write(&self.writer, piece).is_err() {
            self.keep(&mut self.front(), piece);
        }
        Ok(count)
    }

    /// Counts the bytes inside.
    pub(super) fn count(&self) -> io::Result<usize> {
        let mut front = self.front();
        let count = self.read_out(&mut front, usize::MAX)?;
        self.put_back(&mut front);
        Ok(count)
    }

    /// The first bytes, which are not in the pipe any more.
    pub(super) fn first(&self, len_max: usize) -> io::Result<Vec<u8>> {
        let mut front = self.front();
        let missing = len_max.saturating_sub(front.len());
        self.read_out(&mut front, missing)?;
        Ok(front.iter().copied().take(len_max).collect())
    }

    /// Stores up to `len` bytes, of those in front or else a piece of those in the pipe. While it does
    /// nobody waits for it.
    fn write_front(&self, file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
        let mut bytes = std::mem::take(&mut *self.front());
        let read = match bytes.is_empty() {
            true => self.read_out(&mut bytes, len.min(PIECE_BYTES)),
            false => Ok(0),
        };
        let written = read.and_then(|_| write_at(file, bytes.get(..len).unwrap_or(&bytes), offset));
        bytes.drain(..*written.as_ref().unwrap_or(&0));
        *self.front() = bytes;
        written
    }

    fn put_back(&self, front: &mut Vec<u8>) {
        if front.is_empty() {
            return;
        }
        // The pipe has only one end to put them in. If it cannot be read all stay in front of it.
        if self.read_out(front, usize::MAX).is_err() {
            return;
        }
        let bytes = std::mem::take(front);
        let mut pieces = bytes.chunks(PIECE_BYTES);
        while let Some(piece) = pieces.next() {
            if pipe::write(&self.writer, piece).is_err() {
                let rest = std::iter::once(piece).chain(pieces).flatten().copied();
                return self.keep(front, &rest.collect::<Vec<_>>());
            }
        }
    }

    /// Keeps bytes that come behind all that are inside.
    fn keep(&self, front: &mut Vec<u8>, bytes: &[u8]) {
        // What cannot be read is behind them then: late, but there.
        drop(self.read_out(front, usize::MAX));
        front.extend_from_slice(bytes);
    }

    /// Reads `len` bytes out of the pipe, behind those in `bytes`, and up to a piece more.
    pub(super) fn read_out(&self, bytes: &mut Vec<u8>, len: usize) -> io::Result<usize> {
        let mut read = 0;
        let mut piece = [0; PIECE_BYTES];
        while read < len && pipe::state(&self.reader)? == pipe::State::Waiting {
            let count = pipe::read(&self.reader, &mut piece)?;
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
            read += count;
        }
        Ok(read)
    }

    /// Reads the first `len` bytes away. Of the last packet the rest stays in front.
    fn read_away(&self, len: usize) -> io::Result<()> {
        let mut front = self.front();
        self.read_out(&mut front, len)?;
        let len = len.min(front.len());
        front.drain(..len);
        Ok(())
    }
}

fn say_that_bytes_are_copied() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::info!(
            target: "logging.log_handler",
            "A log is on a file system that cannot splice; its bytes are copied"
        );
    });
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    fn filled(bytes: &[u8]) -> Staging {
        let staging = Staging::make().unwrap();
        let (reader, writer) = pipe::pipe().unwrap();
        nix::unistd::write(&writer, bytes).unwrap();
        staging.take_from(reader.as_fd(), bytes.len() as u64, 0).unwrap();
        staging
    }

    #[test]
    fn pieces_are_moved_as_splice_moves_them() {
        let staging = Staging::make().unwrap();
        let (reader, writer) = pipe::pipe().unwrap();
        let fill = |len| staging.0.fill_from(reader.as_fd(), len);
        let is_blocked = |moved: io::Result<usize>| {
            moved.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        assert!(is_blocked(fill(1)), "nothing is there");
        nix::unistd::write(&writer, &[b'x'; 10_000]).unwrap();
        assert_eq!(fill(9000).unwrap(), 10_000, "up to a piece more");
        for _ in 0..13 {
            nix::unistd::write(&writer, &[b'y'; PIECE_BYTES]).unwrap();
            fill(PIECE_BYTES).unwrap();
        }
        nix::unistd::write(&writer, b"z").unwrap();
        assert!(is_blocked(fill(1)), "there is no room");
        pipe::read(&reader, &mut [0]).unwrap();
        drop(writer);
        assert_eq!(fill(1).unwrap(), 0, "the end");
    }

    #[test]
    fn what_was_read_and_not_stored_is_the_first_again() {
        let staging = filled(b"first and then the rest");
        let full = File::options().write(true).open("/dev/full").unwrap();
        staging.0.write_front(full.as_fd(), 0, 5).unwrap_err();
        assert_eq!(staging.0.first(9).unwrap(), b"first and");
        assert!(!staging.0.front().is_empty());
        staging.put_back();
        assert!(staging.0.front().is_empty());
        assert_eq!((staging.held(), staging.0.count().unwrap()), (23, 23));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(staging.0.write_front(file.as_fd(), 0, 5).unwrap(), 5);
        staging.taken(5);
        assert_eq!(staging.take(), b" and then the rest");
    }

    #[test]
    fn what_cannot_be_put_back_stays_in_front_in_order() {
        let staging = filled(&[b'x'; 65_536]);
        staging.0.front().extend(b"before");
        staging.put_back();
        let mut left = staging.0.front().clone();
        staging.0.read_out(&mut left, usize::MAX).unwrap();
        assert!(left.starts_with(b"beforexx") && left.ends_with(b"xx"));
        assert_eq!(left.len(), 65_542);
    }
}
