//! Notes of a few bytes in a memfd, one at the place of each key: what changes too often for the
//! journal.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use crate::sys::fd;

/// Bytes of one mark.
pub const MARK_BYTES: usize = 16;

/// What a mark says; all zeros where none was made.
pub type Mark = [u8; MARK_BYTES];

/// The place of no key, which says when the memfd was made.
const STAMP: u64 = 0;

/// The memfd.
#[derive(Debug)]
pub struct Marks(File);

impl Marks {
    /// Without any mark. The name is for those who look at open files.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn new(name: &str) -> io::Result<Self> {
        let marks = Self(fd::memory(name)?.into());
        let mut stamp = Mark::default();
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        stamp.copy_from_slice(&since_epoch.unwrap_or_default().as_nanos().to_be_bytes());
        marks.set(STAMP, stamp)?;
        Ok(marks)
    }

    /// Orders memfds by when they were made; those of earlier versions, which do not say, come
    /// first.
    #[must_use]
    pub fn stamp(&self) -> Mark {
        self.get(STAMP).unwrap_or_default()
    }

    /// Makes a mark; a kill at any moment leaves it or the one before.
    ///
    /// # Errors
    /// As `pwrite(2)`.
    pub fn set(&self, key: u64, mark: Mark) -> io::Result<()> {
        self.0.write_all_at(&mark, place(key)?)
    }

    /// The mark of a key.
    ///
    /// # Errors
    /// As `pread(2)`.
    pub fn get(&self, key: u64) -> io::Result<Mark> {
        let mut mark = Mark::default();
        match self.0.read_exact_at(&mut mark, place(key)?) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Mark::default()),
            result => result.map(|()| mark),
        }
    }
}

impl AsFd for Marks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Marks {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

fn place(key: u64) -> io::Result<u64> {
    key.checked_mul(MARK_BYTES as u64).ok_or(io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_mark_of_its_own() {
        let marks = Marks::new("marks").unwrap();
        marks.set(7, [7; MARK_BYTES]).unwrap();
        marks.set(9, [9; MARK_BYTES]).unwrap();
        assert_eq!(marks.get(7).unwrap(), [7; MARK_BYTES]);
        for absent in [8, 10] {
            assert_eq!(marks.get(absent).unwrap(), Mark::default());
        }
        assert!(marks.stamp() < Marks::new("marks").unwrap().stamp());
        marks.set(u64::MAX, [1; MARK_BYTES]).unwrap_err();
    }
}
