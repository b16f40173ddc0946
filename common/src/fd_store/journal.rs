//! Journal of the fd store, for recovery after a crash.
//!
//! It consists of two memfds that stay in the store and are used in turn, so that it can be
//! rewritten although the store is full. A memfd begins with a header line that holds a document. A
//! line follows for each change of an item; an item's latest line counts. Each line has a checksum,
//! so that a line cut off by a kill is recognized, and all lines before it are valid.
//!
//! The header is written last and makes the memfd complete; only then is the other one emptied. So
//! at every instant at least one is complete. If both are, they have the same content, and readers
//! take the one with the higher number.
//!
//! A rewrite copies the lines that count, so it loses no record, whatever the daemon has in memory
//! at that moment.
//!
//! Fds have names in the store, made of a letter and the item's key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use crate::handover::BYTES_MAX;
use crate::handover::document::{self, Change, Document, Ending, Lockspace};
use crate::sys::file::{nameless, write_all_at};

/// Minimum of obsolete bytes before a rewrite is worth it, however short the rest is.
const STALE_BYTES_MIN: u64 = 65_536;

/// Bytes copied at once.
const PIECE_BYTES: usize = 65_536;

/// Hexadecimal digits of a checksum.
const SUM_DIGITS: usize = 16;

/// A journal open for writing.
#[derive(Debug)]
pub struct Journal {
    /// The complete memfd, once there is one, and the next one.
    current: Sheet,
    next: Sheet,
    /// The next memfd, while it is being filled.
    draft: Option<Draft>,
    lines: Lines,
}

/// A memfd of the pair.
#[derive(Debug)]
struct Sheet {
    /// Its number in the store.
    number: u64,
    file: File,
}

/// Header of the next memfd, and the lines behind it.
#[derive(Debug)]
struct Draft {
    header: String,
    lines: Lines,
}

/// Lines of a memfd, without the header.
#[derive(Debug, Default)]
struct Lines {
    /// The latest line of each key.
    items: BTreeMap<u64, Line>,
    /// Offset of the next line.
    end: u64,
    /// Total bytes of the lines that count.
    live_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    offset: u64,
    len: u64,
}

/// Content of a journal.
#[derive(Debug, Default)]
pub struct JournalContents {
    /// The header.
    pub document: Document<'static>,
    /// The latest change of each key since.
    pub changes: BTreeMap<u64, Change>,
    /// Lockspaces that were added.
    pub spaces: Vec<Lockspace<'static>>,
    /// Progress of guests that were asked to end, in the order of time.
    pub endings: Vec<Ending>,
}

impl Journal {
    /// Makes an empty journal in two new memfds, numbered `number` and the next.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn new(number: u64) -> io::Result<Self> {
        Ok(Self::of(Sheet::new(number)?, Sheet::new(number + 1)?))
    }

    /// Adopts a predecessor's memfds, by number. Their content stays until the first
    /// [`Self::complete`]. Memfds beyond two are closed.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn adopt(mut sheets: Vec<(u64, OwnedFd)>) -> io::Result<Self> {
        sheets.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let sheets = sheets.into_iter().map(|(number, fd)| Sheet { number, file: fd.into() });
        let mut sheets: Vec<_> = sheets.collect();
        let highest = sheets.first().map_or(0, |sheet| sheet.number);
        let complete = sheets.iter().position(|sheet| matches!(read(&sheet.file), Ok(Some(_))));
        let current = complete.map(|index| sheets.remove(index));
        let next = if sheets.is_empty() { None } else { Some(sheets.remove(0)) };
        let (current, next) = match (current, next) {
            (Some(current), Some(next)) => (current, next),
            (Some(current), None) => (current, Sheet::new(highest + 1)?),
            (None, Some(next)) => (Sheet::new(highest + 1)?, next),
            (None, None) => (Sheet::new(1)?, Sheet::new(2)?),
        };
        Ok(Self::of(current, next))
    }

    fn of(current: Sheet, next: Sheet) -> Self {
        Self { current, next, draft: None, lines: Lines::default() }
    }

    /// Begins to fill the next memfd. Changes recorded from now on go there, and count after
    /// [`Self::complete`].
    ///
    /// # Errors
    /// As `ftruncate(2)`; the journal is unchanged.
    pub fn begin(&mut self, header: &Document<'_>) -> io::Result<()> {
        self.next.file.set_len(0)?;
        let header = line(&serde_json::to_string(header)?);
        let lines = Lines { end: header.len() as u64, ..Lines::default() };
        self.draft = Some(Draft { header, lines });
        Ok(())
    }

    /// Completes the next memfd and empties the other one.
    ///
    /// # Errors
    /// As `write(2)`; the previous memfd still counts.
    pub fn complete(&mut self) -> io::Result<()> {
        let Some(Draft { header, lines }) = self.draft.take() else { return Ok(()) };
        if let Err(error) = write_all_at(&self.next.file, header.as_bytes(), 0) {
            self.next.file.set_len(0)?;
            return Err(error);
        }
        std::mem::swap(&mut self.current, &mut self.next);
        self.lines = lines;
        self.next.file.set_len(0)
    }

    /// Records a change. Returns whether the journal should be rewritten.
    ///
    /// # Errors
    /// As `write(2)`, or a record too long for readers; the change is not recorded.
    pub fn note(&mut self, change: &Change) -> io::Result<bool> {
        let text = line(&serde_json::to_string(change)?);
        let (sheet, lines) = match &mut self.draft {
            Some(draft) => (&self.next, &mut draft.lines),
            None if self.lines.end == 0 => return Err(io::ErrorKind::NotFound.into()),
            None => (&self.current, &mut self.lines),
        };
        if lines.end + text.len() as u64 > BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        write_all_at(&sheet.file, text.as_bytes(), lines.end)?;
        lines.add(change, text.len() as u64);
        Ok(lines.is_stale())
    }

    /// Rewrites the journal with this header, which has everything that has no key, and the lines
    /// that count.
    ///
    /// # Errors
    /// As `read(2)` and `write(2)`; the journal is unchanged.
    pub fn renew(&mut self, header: &Document<'_>) -> io::Result<()> {
        if self.draft.is_some() {
            return Ok(());
        }
        self.begin(header)?;
        let copied = self.copy_lines();
        copied.and_then(|()| self.complete()).inspect_err(|_| self.draft = None)
    }

    fn copy_lines(&mut self) -> io::Result<()> {
        let Some(draft) = &mut self.draft else { return Ok(()) };
        let mut bytes = Vec::with_capacity(PIECE_BYTES);
        let mut start = draft.lines.end;
        for (&key, &Line { offset, len }) in &self.lines.items {
            let from = bytes.len();
            bytes.resize(from + usize::try_from(len).map_err(io::Error::other)?, 0);
            self.current.file.read_exact_at(bytes.get_mut(from..).unwrap_or_default(), offset)?;
            draft.lines.add_live(key, len);
            if bytes.len() >= PIECE_BYTES {
                write_all_at(&self.next.file, &bytes, start)?;
                start = draft.lines.end;
                bytes.clear();
            }
        }
        write_all_at(&self.next.file, &bytes, start)
    }

    /// Returns both memfds with their numbers in the store.
    pub fn fds(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        [&self.current, &self.next].into_iter().map(|sheet| (sheet.number, sheet.file.as_fd()))
    }

    /// Returns whether an item is recorded.
    #[must_use]
    pub fn has(&self, key: u64) -> bool {
        let lines = self.draft.as_ref().map_or(&self.lines, |draft| &draft.lines);
        lines.items.contains_key(&key)
    }
}

impl Sheet {
    fn new(number: u64) -> io::Result<Self> {
        Ok(Self { number, file: nameless("virt-rs-journal")? })
    }
}

impl Lines {
    fn add(&mut self, change: &Change, len: u64) {
        match change.key {
            Some(key) if !is_end(change) => self.add_live(key, len),
            key => {
                self.end += len;
                let gone = key.and_then(|key| self.items.remove(&key));
                self.live_bytes -= gone.map_or(0, |line| line.len);
            }
        }
    }

    fn add_live(&mut self, key: u64, len: u64) {
        let line = Line { offset: self.end, len };
        self.end += len;
        self.live_bytes += len;
        let last = self.items.insert(key, line);
        self.live_bytes -= last.map_or(0, |line| line.len);
    }

    /// Returns whether obsolete lines take more than those that count.
    fn is_stale(&self) -> bool {
        self.end - self.live_bytes > self.live_bytes.max(STALE_BYTES_MIN)
    }
}

/// Returns whether the change is an item's removal.
fn is_end(change: &Change) -> bool {
    matches!(change, Change { log: None, lease: None, client: None, .. })
}

/// Reads a journal; `None` when it is not complete.
///
/// # Errors
/// As `read(2)`.
pub fn read(file: &File) -> io::Result<Option<JournalContents>> {
    let bytes_max = file.metadata()?.len().min(BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(bytes_max).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').map_while(content);
    let Some(document) = lines.next().and_then(|text| document::read(text).ok()) else {
        return Ok(None);
    };
    let mut contents = JournalContents { document, ..JournalContents::default() };
    // An intact line that cannot be parsed is of another version; only that line is skipped.
    for change in lines.filter_map(|text| document::read::<Change>(text).ok()) {
        contents.endings.extend(change.ending.clone());
        match change.key {
            Some(key) => drop(contents.changes.insert(key, change)),
            None => contents.spaces.extend(change.space()),
        }
    }
    Ok(Some(contents))
}

/// Formats a line with its checksum.
fn line(text: &str) -> String {
    format!("{:016x} {text}\n", sum(text.as_bytes()))
}

/// Returns the text of an intact line.
fn content(line: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = line.split_at_checked(SUM_DIGITS)?;
    let text = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let expected = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    (sum(text) == expected).then_some(text)
}

/// FNV-1a, 64 bits: detects truncation, not malice.
fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, &byte: &u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests;
