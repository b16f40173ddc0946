//! Records of a few bytes in a memfd, one slot per key, for state that changes too often for the
//! journal.

mod line;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

pub use line::Line;

use crate::handover::document::Target;
use crate::sys::{fd, file};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 16;

/// Content of a slot; all zeros where nothing was written.
pub type Slot = [u8; SLOT_BYTES];

/// Offset of the time when the memfd was made, in bytes: in the slot of key 0, which is never
/// given out.
const STAMP: u64 = 0;

/// Highest key accepted: as many fds as Linux lets a process have open (`fs.nr_open`).
pub const KEY_MAX: u64 = 1 << 20;

/// Offset of the second array of slots, in bytes.
const AT_RISK: u64 = (KEY_MAX + 1) * SLOT_BYTES as u64;

/// The memfd with the slots.
#[derive(Debug)]
pub struct SlotFile {
    file: File,
    /// Serializes writers of all threads.
    turn: Mutex<()>,
}

/// Bytes of each slot of the second array.
const AT_RISK_BYTES: usize = 32;

/// Bytes of a log in a staging pipe that the store may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtRisk {
    /// Round of the process that says so, counted from the first. A later process's journal counts
    /// them as lost.
    pub round: u32,
    /// The log's key.
    pub owner: u32,
    /// Number of bytes.
    pub bytes: u64,
    /// File that they are being written to at this moment.
    pub target: Option<Target>,
}

impl SlotFile {
    /// Makes an empty slot file. The name is shown in lists of open files.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn new(name: &str) -> io::Result<Self> {
        let slots = Self::of(file::nameless(name)?);
        let mut stamp = Slot::default();
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        stamp.copy_from_slice(&since_epoch.unwrap_or_default().as_nanos().to_be_bytes());
        slots.write_at(&stamp, STAMP)?;
        Ok(slots)
    }

    /// Returns a stamp that orders memfds by age. Those of earlier versions have none and come
    /// first.
    #[must_use]
    pub fn stamp(&self) -> Slot {
        self.read_at(STAMP).unwrap_or_default()
    }

    /// Writes a slot. A kill at any moment leaves the new or the old content.
    ///
    /// # Errors
    /// As `pwrite(2)`, or key 0, or one beyond [`KEY_MAX`].
    pub fn set(&self, key: u64, slot: Slot) -> io::Result<()> {
        self.write_at(&slot, place(key)?)
    }

    /// Reads a slot.
    ///
    /// # Errors
    /// As `pread(2)`, or key 0, or one beyond [`KEY_MAX`].
    pub fn get(&self, key: u64) -> io::Result<Slot> {
        self.read_at(place(key)?)
    }
}

impl SlotFile {
    /// Records how many bytes of a log would be lost with this process, in the key's slot of the
    /// second array. A kill at any moment leaves the new or the old content.
    ///
    /// # Errors
    /// As `pwrite(2)`, or a key beyond [`KEY_MAX`].
    pub fn set_at_risk(&self, key: u64, at_risk: AtRisk) -> io::Result<()> {
        if key > KEY_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.write_at(&at_risk.to_bytes(), AT_RISK + key * AT_RISK_BYTES as u64)
    }

    /// Returns everything ever recorded as at risk, by key; with 0 bytes where it is no more.
    ///
    /// # Errors
    /// As `lseek(2)` and `pread(2)`.
    pub fn at_risk(&self) -> io::Result<Vec<(u64, AtRisk)>> {
        let end = AT_RISK + (KEY_MAX + 1) * AT_RISK_BYTES as u64;
        let mut all = Vec::new();
        let mut from = AT_RISK;
        // The file is sparse.
        while let Some(data) = fd::next_data(&self.file, from)?.filter(|data| data.start < end) {
            let first = (data.start.max(AT_RISK) - AT_RISK) / AT_RISK_BYTES as u64;
            let start = AT_RISK + first * AT_RISK_BYTES as u64;
            let len = data.end.min(end).saturating_sub(start);
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            self.file.read_exact_at(&mut bytes, start)?;
            let (noted, _) = bytes.as_chunks::<AT_RISK_BYTES>();
            let noted = noted.iter().map(|bytes| AtRisk::from_bytes(*bytes));
            all.extend((first..).zip(noted).filter(|(_, at_risk)| at_risk.round > 0));
            from = data.end;
        }
        Ok(all)
    }
}

impl SlotFile {
    fn of(file: File) -> Self {
        Self { file, turn: Mutex::default() }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        file::write_all_at(&self.file, bytes, offset)
    }

    fn read_at(&self, offset: u64) -> io::Result<Slot> {
        let mut slot = Slot::default();
        match self.file.read_exact_at(&mut slot, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Slot::default()),
            result => result.map(|()| slot),
        }
    }
}

impl AtRisk {
    fn to_bytes(self) -> [u8; AT_RISK_BYTES] {
        let Target { inode, size_bytes } =
            self.target.unwrap_or(Target { inode: 0, size_bytes: 0 });
        let who = u64::from(self.round) << u32::BITS | u64::from(self.owner);
        let mut bytes = [0; AT_RISK_BYTES];
        let (words, _) = bytes.as_chunks_mut();
        for (to, word) in words.iter_mut().zip([who, self.bytes, inode, size_bytes]) {
            *to = word.to_ne_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: [u8; AT_RISK_BYTES]) -> Self {
        let (words, _) = bytes.as_chunks();
        let word = |index: usize| words.get(index).map_or(0, |word| u64::from_ne_bytes(*word));
        let half = |shift: u32| u32::try_from(word(0) >> shift & u64::from(u32::MAX)).unwrap_or(0);
        let target = Target { inode: word(2), size_bytes: word(3) };
        Self {
            round: half(u32::BITS),
            owner: half(0),
            bytes: word(1),
            target: (target.inode != 0).then_some(target),
        }
    }
}

impl AsFd for SlotFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<OwnedFd> for SlotFile {
    fn from(fd: OwnedFd) -> Self {
        Self::of(fd.into())
    }
}

fn place(key: u64) -> io::Result<u64> {
    match key {
        1..=KEY_MAX => Ok(key * SLOT_BYTES as u64),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests;
