//! A pipe, and bytes that were read out of it and go before those that are in it.
//!
//! Bytes go through memory where the kernel does not move them: it cannot (`EINVAL` from a file
//! system, or for a file that is appended to), or must not (a filter). Bytes that are in memory
//! alone are lost with the process, so there is never more than a piece of them. Bytes that were
//! read and could not be passed on stay in front of the pipe.
//!
//! A guest can have each of its writes be a packet (`O_DIRECT`), also in the pipes that they are
//! moved to. `read` takes one of them, and drops the rest of it if the buffer is too small. So a
//! buffer is never smaller than the largest packet, and more may be read than was asked for.

use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use common::sys::file::write_at;
use common::sys::pipe;

/// Bytes that are in memory alone at a time: as many as the largest packet has.
pub(super) const PIECE_BYTES: usize = pipe::ATOMIC_BYTES;

/// A pipe with bytes in front of it.
#[derive(Debug)]
pub(super) struct PushbackPipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes that go before those in the pipe. As a rule there are none.
    front: Mutex<Vec<u8>>,
}

impl PushbackPipe {
    /// Makes one of a pipe's ends, the one to read from first.
    pub(super) fn new((reader, writer): (OwnedFd, OwnedFd)) -> Self {
        Self { reader, writer, front: Mutex::default() }
    }

    /// Returns the end to read from.
    pub(super) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Returns the end to write to.
    pub(super) fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Returns the bytes in front.
    pub(super) fn front(&self) -> MutexGuard<'_, Vec<u8>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves `len` bytes from a guest's pipe into this one, piece by piece, as
    /// [`pipe::splice_to_pipe`] does; up to a piece more.
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
            self.add_behind(&mut self.front(), piece);
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

    /// Reads the first bytes, which stay in front.
    pub(super) fn first(&self, len_max: usize) -> io::Result<Vec<u8>> {
        let mut front = self.front();
        let missing = len_max.saturating_sub(front.len());
        self.read_out(&mut front, missing)?;
        Ok(front.iter().copied().take(len_max).collect())
    }

    /// Stores up to `len` bytes at `offset` of `file`: those in front, or else a piece of those in
    /// the pipe. The lock is not held meanwhile.
    pub(super) fn write_front(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
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

    /// Puts the bytes in front back into the pipe.
    pub(super) fn put_back(&self, front: &mut Vec<u8>) {
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
                return self.add_behind(front, &rest.collect::<Vec<_>>());
            }
        }
    }

    /// Adds bytes behind all that are inside, in front of the pipe.
    fn add_behind(&self, front: &mut Vec<u8>, bytes: &[u8]) {
        // What cannot be read is behind them then: late, but there.
        self.read_out(front, usize::MAX).ok();
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

    /// Drops the first `len` bytes. Of the last packet the rest stays in front.
    pub(super) fn read_away(&self, len: usize) -> io::Result<()> {
        let mut front = self.front();
        self.read_out(&mut front, len)?;
        let len = len.min(front.len());
        front.drain(..len);
        Ok(())
    }
}
