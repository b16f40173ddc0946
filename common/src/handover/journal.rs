//! What is in the fd store, for a process that comes after a crash: a memfd to which each change is
//! appended.
//!
//! It begins with a whole document; changes to single items follow, the latest of an item counts.
//! Each entry has a checksum, so that one that was cut off by a kill is recognised, and everything
//! before it holds. When the changes outweigh the document a new journal is begun, which counts as
//! soon as its document is complete.
//!
//! Fds have names in the store, made of a letter and the item's key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use super::document::{self, Change, Document, Ending};
use super::fds::BYTES_MAX;
use crate::sys::fd;

/// Bytes of changes from which on a new journal may be begun, even if the document is small.
const CHANGES_BYTES_MIN: u64 = 65_536;

/// Hexadecimal digits of a checksum.
const SUM_DIGITS: usize = 16;

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    file: File,
    document_bytes: u64,
    changes_bytes: u64,
}

/// What a journal says.
#[derive(Debug, Default)]
pub struct Told {
    /// How it began.
    pub document: Document<'static>,
    /// What has come since, the latest of each key.
    pub changes: BTreeMap<u64, Change>,
    /// Lockspaces that were added.
    pub spaces: Vec<String>,
    /// What came of guests that were asked to end, in the order of time.
    pub endings: Vec<Ending>,
}

impl Journal {
    /// Begins one.
    ///
    /// # Errors
    /// As `memfd_create(2)` and `write(2)`.
    pub fn begin(document: &Document<'_>) -> io::Result<Self> {
        let file = File::from(fd::memory("virt-rs-journal")?);
        let mut journal = Self { file, document_bytes: 0, changes_bytes: 0 };
        journal.document_bytes = journal.append(&serde_json::to_string(document)?)?;
        Ok(journal)
    }

    /// Appends a change. Gives whether it is time for a new journal.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn note(&mut self, change: &Change) -> io::Result<bool> {
        self.changes_bytes += self.append(&serde_json::to_string(change)?)?;
        Ok(self.changes_bytes > self.document_bytes.max(CHANGES_BYTES_MIN))
    }

    /// The memfd, to be stored.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn append(&mut self, text: &str) -> io::Result<u64> {
        let line = format!("{:016x} {text}\n", sum(text.as_bytes()));
        // Over what is there of a line that could not be written whole.
        self.file.write_all_at(line.as_bytes(), self.document_bytes + self.changes_bytes)?;
        Ok(line.len() as u64)
    }
}

/// Reads a journal; `None` when not even its document is complete.
///
/// # Errors
/// As `read(2)`.
pub fn read(file: &File) -> io::Result<Option<Told>> {
    let bytes_max = file.metadata()?.len().min(BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(bytes_max).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').map_while(content);
    let Some(document) = lines.next().and_then(|text| document::read(text).ok()) else {
        return Ok(None);
    };
    let mut told = Told { document, ..Told::default() };
    // A line that is whole and not understood is of another version, and costs only itself.
    for change in lines.filter_map(|text| document::read::<Change>(text).ok()) {
        told.endings.extend(change.ending.clone());
        match (change.key, change.space.clone()) {
            (Some(key), _) => drop(told.changes.insert(key, change)),
            (None, Some(space)) => told.spaces.push(space),
            (None, None) => {}
        }
    }
    Ok(Some(told))
}

/// The text of a line that is whole.
fn content(line: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = line.split_at_checked(SUM_DIGITS)?;
    let text = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let expected = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    (sum(text) == expected).then_some(text)
}

/// FNV-1a of 64 bits: against what was cut off, not against malice.
fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, &byte: &u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::document::Log;

    fn change(key: u64, path: Option<&str>) -> Change {
        let log = path.map(|path| Log { path: Some(path.into()), ..Log::default() });
        Change { key: Some(key), log, ..Change::default() }
    }

    fn paths(journal: &Journal) -> Vec<(u64, Option<String>)> {
        let told = read(&journal.file).unwrap().unwrap();
        let path = |change: Change| change.log.and_then(|log| log.path);
        told.changes.into_iter().map(|(key, change)| (key, path(change))).collect()
    }

    #[test]
    fn the_latest_change_of_an_item_counts() {
        let mut journal = Journal::begin(&Document::default()).unwrap();
        for (key, path) in [(1, Some("/a")), (2, Some("/b")), (1, Some("/c")), (2, None)] {
            assert!(!journal.note(&change(key, path)).unwrap());
        }
        assert_eq!(paths(&journal), [(1, Some("/c".into())), (2, None)]);
    }

    #[test]
    fn what_was_cut_off_is_not_there() {
        let mut journal = Journal::begin(&Document::default()).unwrap();
        let begun = journal.document_bytes;
        journal.note(&change(1, Some("/a"))).unwrap();
        let whole = journal.document_bytes + journal.changes_bytes;
        journal.note(&change(1, Some("/b"))).unwrap();
        let end = journal.document_bytes + journal.changes_bytes;
        for len in whole..end {
            journal.file.set_len(len).unwrap();
            assert_eq!(paths(&journal), [(1, Some("/a".into()))], "{len}");
        }
        journal.file.set_len(begun - 1).unwrap();
        assert!(read(&journal.file).unwrap().is_none());
    }

    #[test]
    fn a_new_journal_is_due_when_changes_outweigh_the_document() {
        let mut journal = Journal::begin(&Document::default()).unwrap();
        let notes = (1..).find(|_| journal.note(&change(1, Some("/a"))).unwrap());
        assert!(notes.is_some() && journal.changes_bytes > CHANGES_BYTES_MIN);
    }
}
