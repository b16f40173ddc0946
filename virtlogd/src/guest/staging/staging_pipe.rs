//! One staging pipe, with its key in the fd store and its record there.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Once, Weak};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use common::sys::calls::{self, is_refused, is_unknown};
use common::sys::file::write_at;
use common::sys::pipe;
use nix::errno::Errno;

use super::pushback_pipe::{PIECE_BYTES, PushbackPipe};
use super::scratch::Scratch;
use super::store_entry::StoreEntry;
use crate::guest::crash_records::CrashRecords;
use crate::rotating_file::Offset;

/// Bytes moved by one pair of system calls: as many as a pipe holds unless it is enlarged.
pub(crate) const MOVE_BYTES_MAX: u64 = 65_536;

/// A pipe with bytes on their way into one log. Clones are the same pipe: one is for the job that
/// moves the bytes, another for those that ask where they are. Only the job may touch the ends
/// while a file takes bytes from them, as that holds the pipe for as long as it lasts.
#[derive(Debug, Clone)]
pub(crate) struct StagingPipe(Arc<Shared>);

/// A staging pipe that may have ended.
#[derive(Debug)]
pub(crate) struct WeakStagingPipe(Weak<Shared>);

#[derive(Debug)]
struct Shared {
    /// Ends before the pipe does.
    entry: StoreEntry,
    pipe: PushbackPipe,
    held_bytes: AtomicU64,
}

impl StagingPipe {
    /// Makes an empty one that is not in the fd store.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub(super) fn make(records: Arc<CrashRecords>) -> io::Result<Self> {
        Ok(Self::with(pipe::pipe()?, None, records))
    }

    /// Adopts a pipe of the process before this one, the end to read from first, with its bytes.
    ///
    /// # Errors
    /// As `ioctl(2)`: it is no pipe. Both are closed.
    pub(super) fn adopt(
        ends: (OwnedFd, OwnedFd),
        key: Option<u64>,
        records: Arc<CrashRecords>,
    ) -> io::Result<Self> {
        let count = pipe::counted_bytes(&ends.0)?;
        let staging = Self::with(ends, key, records);
        let held_bytes = count.map_or_else(|| staging.0.pipe.count(), Ok)?;
        staging.0.held_bytes.store(held_bytes as u64, Ordering::Relaxed);
        staging.0.entry.set_bytes(held_bytes as u64);
        Ok(staging)
    }

    fn with(ends: (OwnedFd, OwnedFd), key: Option<u64>, records: Arc<CrashRecords>) -> Self {
        let (entry, pipe) = (StoreEntry::new(key, records), PushbackPipe::new(ends));
        Self(Arc::new(Shared { entry, pipe, held_bytes: AtomicU64::new(0) }))
    }

    /// Returns whether both are the same pipe.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns its key in the fd store.
    pub(crate) fn key(&self) -> Option<u64> {
        self.0.entry.key()
    }

    /// Sets its key in the fd store. With `None` its bytes count as lost with the process, even if the
    /// store has it for a while yet.
    pub(crate) fn set_key(&self, key: Option<u64>) {
        self.0.entry.set_key(key);
    }

    /// Returns whether the store has it for certain.
    pub(crate) fn is_proved(&self) -> bool {
        self.0.entry.is_proved()
    }

    /// Notes that the store has it for certain under this key.
    pub(crate) fn set_proved(&self, key: u64) {
        self.0.entry.set_proved(key);
    }

    /// Sets the log, by its key in the fd store, whose bytes are inside or will be.
    pub(crate) fn set_owner(&self, owner: Option<u64>) {
        self.0.entry.set_owner(owner);
    }

    /// Returns a reference that does not keep it from ending.
    pub(crate) fn downgrade(&self) -> WeakStagingPipe {
        WeakStagingPipe(Arc::downgrade(&self.0))
    }

    /// Returns both ends, the one to read from first.
    pub(crate) fn ends(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.0.pipe.reader(), self.0.pipe.writer())
    }

    /// Returns the end that a file takes bytes from.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.0.pipe.reader()
    }

    /// Returns the number of bytes inside, without a look at the pipe.
    pub(crate) fn held(&self) -> u64 {
        self.0.held_bytes.load(Ordering::Relaxed)
    }

    /// Returns whether more can be taken in.
    pub(crate) fn has_room(&self) -> bool {
        pipe::has_room(self.0.pipe.writer()).unwrap_or(false)
    }

    /// Returns a copy of the first bytes in front of the pipe.
    pub(crate) fn first_in_front(&self, len_max: usize) -> Vec<u8> {
        self.0.pipe.front().iter().copied().take(len_max).collect()
    }

    /// Reads the first bytes, which stay in front of the pipe.
    ///
    /// # Errors
    /// As `read(2)`.
    pub(crate) fn read_first(&self, len_max: usize) -> io::Result<Vec<u8>> {
        self.0.pipe.first(len_max)
    }

    /// Prepares it for bytes of the log `owner`, a key in the fd store. To be called under the lock of
    /// the guest's pipe, as that key may change.
    pub(crate) fn prepare(&self, owner: Option<u64>) {
        // One whose bytes were inside before needs no new record: of two pipes with bytes of one log,
        // that which was made later has the later bytes, or the only ones.
        if self.held() == 0 && self.0.entry.owner() != owner {
            self.set_owner(owner);
        }
    }

    /// Takes up to `len` bytes from a guest's pipe, as far as there is space. 0 means that the
    /// guest's pipe is at its end.
    pub(crate) fn take_from(&self, guest: BorrowedFd<'_>, len: u64) -> io::Result<u64> {
        let len = len.min(MOVE_BYTES_MAX);
        // Before they are inside: a kill in between tells of more than is lost, never of less.
        self.0.entry.set_bytes(self.held() + len);
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        let moved = pipe::splice_to_pipe(guest, self.0.pipe.writer(), bytes);
        let moved = calls::or_else(moved, || {
            self.0.entry.set_bytes(self.held() + len + PIECE_BYTES as u64);
            self.0.pipe.fill_from(guest, bytes)
        });
        let moved = moved.map(|moved| moved as u64);
        self.0.held_bytes.fetch_add(*moved.as_ref().unwrap_or(&0), Ordering::Relaxed);
        self.0.entry.set_bytes(self.held());
        moved
    }

    /// Stores up to `len` of the first bytes at `offset` of a file and returns how many that were; they
    /// are in the pipe no longer.
    ///
    /// # Errors
    /// As `splice(2)` and `pwrite(2)`; nothing is stored then.
    pub(crate) fn write_to(
        &self,
        file: BorrowedFd<'_>,
        offset: Offset,
        len: usize,
        scratch: &mut Scratch,
    ) -> io::Result<usize> {
        self.0.entry.set_target(file, offset.bytes());
        let stored = self.move_to(file, offset, len, scratch)?;
        self.count_taken(stored);
        Ok(stored)
    }

    /// Puts bytes that were read back into the pipe, where they outlive this process.
    pub(crate) fn put_back(&self) {
        self.0.pipe.put_back(&mut self.0.pipe.front());
    }

    /// Drops the bytes inside; for when there is nowhere to put them.
    pub(crate) fn discard(&self) {
        let mut front = std::mem::take(&mut *self.0.pipe.front());
        // What cannot be read goes with the pipe.
        self.0.pipe.read_out(&mut front, usize::MAX).ok();
        self.count_taken(front.len());
    }

    /// Takes out the bytes inside.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.pipe.read_out(&mut self.0.pipe.front(), usize::MAX).unwrap();
        let bytes = std::mem::take(&mut *self.0.pipe.front());
        self.count_taken(bytes.len());
        bytes
    }

    fn move_to(
        &self,
        file: BorrowedFd<'_>,
        offset: Offset,
        len: usize,
        scratch: &mut Scratch,
    ) -> io::Result<usize> {
        let Shared { pipe, .. } = &*self.0;
        if !pipe.front().is_empty() {
            return pipe.write_front(file, offset.bytes(), len);
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
                calls::or_else(copied, || pipe.write_front(file, offset.bytes(), len))
            }
            result => result,
        }
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
            self.0.pipe.read_away(left)?;
        }
        Ok(stored)
    }

    fn count_taken(&self, count: usize) {
        self.0.held_bytes.fetch_sub(self.held().min(count as u64), Ordering::Relaxed);
        self.0.entry.set_bytes(self.held());
    }
}

impl WeakStagingPipe {
    /// Returns whether the pipe has not ended.
    pub(super) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Returns the pipe unless it has ended.
    pub(crate) fn upgrade(&self) -> Option<StagingPipe> {
        self.0.upgrade().map(StagingPipe)
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

    fn filled(bytes: &[u8]) -> StagingPipe {
        let staging = StagingPipe::make(Arc::default()).unwrap();
        let (reader, writer) = pipe::pipe().unwrap();
        nix::unistd::write(&writer, bytes).unwrap();
        staging.take_from(reader.as_fd(), bytes.len() as u64).unwrap();
        staging
    }

    #[test]
    fn pieces_are_moved_as_splice_moves_them() {
        let staging = StagingPipe::make(Arc::default()).unwrap();
        let (reader, writer) = pipe::pipe().unwrap();
        let fill = |len| staging.0.pipe.fill_from(reader.as_fd(), len);
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
        staging.0.pipe.write_front(full.as_fd(), 0, 5).unwrap_err();
        assert_eq!(staging.0.pipe.first(9).unwrap(), b"first and");
        assert!(!staging.0.pipe.front().is_empty());
        staging.put_back();
        assert!(staging.0.pipe.front().is_empty());
        assert_eq!((staging.held(), staging.0.pipe.count().unwrap()), (23, 23));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(staging.0.pipe.write_front(file.as_fd(), 0, 5).unwrap(), 5);
        staging.count_taken(5);
        assert_eq!(staging.take(), b" and then the rest");
    }

    #[test]
    fn what_cannot_be_put_back_stays_in_front_in_order() {
        let staging = filled(&[b'x'; 65_536]);
        staging.0.pipe.front().extend(b"before");
        staging.put_back();
        let mut left = staging.0.pipe.front().clone();
        staging.0.pipe.read_out(&mut left, usize::MAX).unwrap();
        assert!(left.starts_with(b"beforexx") && left.ends_with(b"xx"));
        assert_eq!(left.len(), 65_542);
    }
}
