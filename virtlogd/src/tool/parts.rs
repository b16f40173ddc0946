//! The parts of a log, as they are on disk: PATH, and its older ones PATH.0, PATH.1 and so on.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use common::sys::file_id::FileId;
use nix::fcntl::OFlag;

/// Attempts to open all parts without a rotation in between.
const ATTEMPTS_MAX: usize = 100;

/// Parts that a log can have: libvirt's limit is far below.
const PARTS_MAX: usize = 1000;

/// Bytes that are read at a time to look for lines.
const BLOCK_BYTES: usize = 65_536;

/// Open parts of a log, the oldest first.
#[derive(Debug)]
pub(crate) struct Parts {
    parts: Vec<Part>,
}

/// A part of a log.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    id: FileId,
    len: u64,
}

impl Parts {
    /// Opens all parts of the log at `path`. They are those of one moment: it is begun anew if the log was
    /// rotated meanwhile.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS_MAX {
            let parts = Self::open_once(path)?;
            if parts.parts.last().is_some_and(|newest| newest.id.is_at(path)) {
                return Ok(parts);
            }
        }
        Err(io::Error::other("the log is rotated faster than it can be opened"))
    }

    fn open_once(path: &Path) -> io::Result<Self> {
        let mut parts = vec![Part::open(path)?];
        for number in 0..PARTS_MAX {
            match Part::open(&backup(path, number)) {
                Ok(part) => parts.push(part),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        parts.reverse();
        Ok(Self { parts })
    }

    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the number of bytes of all parts.
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// Shows each part with the offset from which on it is behind `start` to `see`, which returns the
    /// offset that it has come to. Returns the newest part, with that.
    pub(crate) fn split<E: From<io::Error>>(
        self,
        start: u64,
        mut see: impl FnMut(&mut Part, u64) -> Result<u64, E>,
    ) -> Result<(Part, u64), E> {
        let (mut skipped, mut newest) = (start, None);
        for mut part in self.parts {
            let from = skipped.min(part.len);
            skipped -= from;
            let end = see(&mut part, from)?;
            newest = Some((part, end));
        }
        newest.ok_or_else(|| E::from(io::ErrorKind::NotFound.into()))
    }

    /// Returns the parts that are newer than a part, or all of them if that is none of these, and
    /// whether it is.
    pub(crate) fn behind(self, known: &Part) -> (Self, bool) {
        let place = self.parts.iter().position(|part| part.id == known.id);
        let newer = self.parts.into_iter().skip(place.map_or(0, |place| place + 1));
        (Self { parts: newer.collect() }, place.is_some())
    }

    /// Returns the start of the last `count` lines.
    pub(crate) fn start_of_lines(&self, count: u64) -> io::Result<u64> {
        let (mut end, mut left) = (self.len(), count);
        if count == 0 {
            return Ok(end);
        }
        let mut is_last_byte = true;
        for part in self.parts.iter().rev() {
            let mut part_end = part.len;
            while part_end > 0 {
                let block = part.block_before(part_end)?;
                for byte in block.iter().rev() {
                    // The newline at the very end ends the last line.
                    if *byte == b'\n' && !is_last_byte {
                        left -= 1;
                        if left == 0 {
                            return Ok(end);
                        }
                    }
                    is_last_byte = false;
                    end -= 1;
                }
                part_end -= block.len() as u64;
            }
        }
        Ok(0)
    }
}

impl Part {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self { file, id: FileId::of(&metadata), len: metadata.len() })
    }

    /// Returns whether `path` leads to it.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.id.is_at(path)
    }

    /// Returns its size now.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Copies its bytes from an offset to the end that it had when it was opened. Returns that.
    pub(crate) fn copy_opened(&mut self, from: u64, out: &mut impl Write) -> io::Result<u64> {
        self.copy_to(from, self.len, out)
    }

    /// Copies its bytes from an offset to its end. Returns that.
    pub(crate) fn copy(&mut self, from: u64, out: &mut impl Write) -> io::Result<u64> {
        self.copy_to(from, u64::MAX, out)
    }

    fn copy_to(&mut self, from: u64, to: u64, out: &mut impl Write) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(from))?;
        let mut file = (&self.file).take(to.saturating_sub(from));
        Ok(from + io::copy(&mut file, out)?)
    }

    /// Returns the bytes before `end`, as many as a block has.
    fn block_before(&self, end: u64) -> io::Result<Vec<u8>> {
        let len = usize::try_from(end).map_or(BLOCK_BYTES, |end| end.min(BLOCK_BYTES));
        let mut block = vec![0; len];
        self.file.read_exact_at(&mut block, end - len as u64)?;
        Ok(block)
    }
}

/// Returns the path of an older part.
pub(crate) fn backup(path: &Path, number: usize) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(parts: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest.log");
        for (number, text) in parts.iter().rev().enumerate() {
            let part = number.checked_sub(1).map_or(path.clone(), |older| backup(&path, older));
            std::fs::write(part, text).unwrap();
        }
        (directory, path)
    }

    fn text_from(parts: Parts, start: u64) -> String {
        let mut text = Vec::new();
        parts.split(start, |part, from| part.copy_opened(from, &mut text)).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn last_lines(parts: &[&str], count: u64) -> String {
        let (_directory, path) = log(parts);
        let parts = Parts::open(&path).unwrap();
        let start = parts.start_of_lines(count).unwrap();
        text_from(parts, start)
    }

    #[test]
    fn all_parts_are_read_from_the_oldest_on() {
        let (_directory, path) = log(&["one\ntw", "o\n", "", "three\n"]);
        let parts = Parts::open(&path).unwrap();
        assert_eq!(parts.len(), 14);
        assert_eq!(text_from(parts, 2), "e\ntwo\nthree\n");
    }

    #[test]
    fn parts_behind_a_known_one_are_found() {
        let (_directory, path) = log(&["one\n", "two\n", "three\n"]);
        for (number, text) in [(1, "two\nthree\n"), (0, "three\n")] {
            let known = Part::open(&backup(&path, number)).unwrap();
            let (parts, is_known) = Parts::open(&path).unwrap().behind(&known);
            assert!(is_known);
            assert_eq!(text_from(parts, 0), text);
        }
        let (_other, other) = log(&["other\n"]);
        let (parts, is_known) = Parts::open(&path).unwrap().behind(&Part::open(&other).unwrap());
        assert!(!is_known);
        assert_eq!(text_from(parts, 0), "one\ntwo\nthree\n");
    }

    #[test]
    fn lines_are_counted_across_parts() {
        let parts = ["one\ntw", "o\n", "", "three\n"];
        let expected = ["", "three\n", "two\nthree\n", "one\ntwo\nthree\n", "one\ntwo\nthree\n"];
        for (count, expected) in expected.into_iter().enumerate() {
            assert_eq!(last_lines(&parts, count as u64), expected);
        }
        assert_eq!(last_lines(&["one\ntwo"], 1), "two");
        assert_eq!(last_lines(&["\n\n"], 1), "\n");
        assert_eq!(last_lines(&["", ""], 1), "");
        let long = "x".repeat(BLOCK_BYTES) + "\n";
        assert_eq!(last_lines(&[&long, &long], 1), long);
    }

    #[test]
    fn what_is_added_meanwhile_comes_only_to_who_follows() {
        let (_directory, path) = log(&["one\n"]);
        let opened = || Parts::open(&path).unwrap();
        let (parts, followed) = (opened(), opened());
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(text_from(parts, 0), "one\n");
        let mut text = Vec::new();
        let (_, end) = followed.split(0, |part, from| part.copy(from, &mut text)).unwrap();
        assert_eq!((&*text, end), (&b"one\ntwo\n"[..], 8));
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Parts::open(directory.path()).is_err());
        assert!(Parts::open(Path::new("/dev/null")).is_err());
    }
}
