//! Records of lines about losses, made before the lines are written. From the file's content the
//! next process sees how much of a line is left to write.

use std::io;
use std::os::unix::fs::FileExt;

use super::{KEY_MAX, SlotFile};
use crate::handover::document::Target;

/// Offset of the records in the memfd, in bytes: behind all other slots, and aligned so that none
/// crosses a page.
const LINES: u64 = 1 << 26;

/// Bytes of a record with its text.
const LINE_BYTES: usize = 1024;

/// Bytes before the text.
const HEAD_BYTES: usize = 48;

/// A line that is about to be written to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Grows with each recorded line, also across processes; not 0.
    pub order: u64,
    /// Inode of the guest's pipe: the next log with the same key has another one.
    pub pipe_inode: u64,
    /// Position of its first byte, unless the file is full.
    pub target: Target,
    /// Bytes that are lost behind those which the line reports.
    pub left_bytes: u64,
    /// The whole text.
    pub text: Vec<u8>,
}

impl SlotFile {
    /// Records a line at its log's key. A kill at any moment leaves the new or the old record.
    ///
    /// # Errors
    /// As `pwrite(2)`, or a text that is too long, or a key beyond [`KEY_MAX`].
    pub fn set_line(&self, key: u64, line: &Line) -> io::Result<()> {
        let Line { order, pipe_inode, target, left_bytes, text } = line;
        if key > KEY_MAX || text.len() > LINE_BYTES - HEAD_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let Target { inode, size_bytes } = *target;
        let words = [*order, *pipe_inode, inode, size_bytes, *left_bytes, text.len() as u64];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        bytes.extend(text);
        self.write_at(&bytes, place(key))
    }

    /// Returns the latest line at a key.
    ///
    /// # Errors
    /// As `pread(2)`.
    pub fn line(&self, key: u64) -> io::Result<Option<Line>> {
        let mut bytes = [0; LINE_BYTES];
        // The last record does not fill its place.
        let count = if key > KEY_MAX { 0 } else { self.file.read_at(&mut bytes, place(key))? };
        Ok(bytes.get(..count).and_then(parse))
    }
}

fn place(key: u64) -> u64 {
    LINES + key * LINE_BYTES as u64
}

fn parse(bytes: &[u8]) -> Option<Line> {
    let (head, text) = bytes.split_at_checked(HEAD_BYTES)?;
    let (words, _) = head.as_chunks();
    let word = |index: usize| words.get(index).map(|word| u64::from_ne_bytes(*word));
    let len = usize::try_from(word(5)?).ok()?;
    let target = Target { inode: word(2)?, size_bytes: word(3)? };
    let (order, text) = (word(0)?, text.get(..len)?.to_vec());
    let line = Line { order, pipe_inode: word(1)?, target, left_bytes: word(4)?, text };
    (order != 0).then_some(line)
}

#[cfg(test)]
mod tests;
