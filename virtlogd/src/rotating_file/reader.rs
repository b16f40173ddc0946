//! Reads of a log from a remembered position on through its rotated parts, without having it open.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use common::handover::document::LogDirectory;
use common::sys::fd::read_behind;
use common::sys::file_id::FileId;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::location::{Location, Trust};
use super::parts::{check_backups, is_too_long};

use super::Error;

/// Bytes read from a file at a time: looked through for a NUL while they are in the processor's
/// cache.
const PIECE_BYTES: u64 = 131_072;

/// Spare bytes for the encoder's padding.
const BEHIND_BYTES: usize = 4;

/// One part of a log that exists.
struct OpenPart {
    path: PathBuf,
    file: File,
    id: FileId,
    size_bytes: u64,
}

/// Appends to `data` up to `len_max` bytes from `offset` of the part with this inode on, and on
/// through all newer parts; the caller limits `len_max`, which is not reserved ahead. As in libvirt
/// the answer ends at the first NUL, and an offset behind a part's end goes on with the next part's
/// start.
///
/// If no part has the inode, the part of the position is gone. libvirt then applies the offset
/// to the oldest part that there can be, and so does this. Where that does not exist, which libvirt
/// reports as EBADF, this returns everything there is, as nothing of it can have been seen before.
///
/// # Errors
///
/// EBADF where there is no part at all; EINVAL for an offset over `i64::MAX`, but EBADF where no part
/// has the inode; EINVAL for a FIFO, a socket or a device, none of which is opened; EISDIR for a
/// directory; [`Error::Refused`] for what others have put there. `known` is where the log was opened, if
/// it is.
pub fn read(
    path: &Path,
    known: Option<LogDirectory>,
    backups_max: u64,
    inode: u64,
    offset: u64,
    len_max: u64,
    data: &mut Vec<u8>,
) -> Result<(), Error> {
    let Found { parts, is_position_known } = find(path, known, backups_max, inode)?;
    let seek_error = |errno: Errno| Error::Seek { inode, offset, source: errno.into() };
    if parts.is_empty() {
        return Err(seek_error(Errno::EBADF));
    }
    // libvirt seeks in a file that it has not found.
    let errno = if is_position_known { Errno::EINVAL } else { Errno::EBADF };
    i64::try_from(offset).map_err(|_| seek_error(errno))?;
    let mut offset = if is_position_known { offset } else { 0 };
    let mut left = len_max;
    // Once, so that nothing is copied when the buffer grows, and only for what is there.
    let sizes = parts.iter().map(|part| part.size_bytes);
    let expected = sizes.fold(0, u64::saturating_add).min(len_max);
    data.reserve_exact(usize::try_from(expected).unwrap_or(0) + BEHIND_BYTES);
    for part in parts.iter().rev() {
        let before = data.len();
        if part.read(std::mem::take(&mut offset), left, data)? == ReadEnd::Nul {
            break;
        }
        left = left.saturating_sub((data.len() - before) as u64);
    }
    Ok(())
}

/// Opens the log at `path`, or an older part of it, for reading, as for [`read`] of a log that is not open:
/// what others have put in its place is neither followed nor opened. The fd is close-on-exec, and opening
/// it does not block.
///
/// # Errors
/// As `open(2)`; EINVAL for a FIFO, a socket or a device; [`Error::Refused`] for what others have put
/// there.
pub fn open_part(path: &Path, part: Option<u64>) -> Result<(File, Metadata), Error> {
    Location::at(path, Trust::Careful)?.open(part, OFlag::O_RDONLY, 0)
}

/// Part of a position.
struct Found {
    /// Parts to be read, the newest first; the position is in the last.
    parts: Vec<OpenPart>,
    /// The offset is one in that part.
    is_position_known: bool,
}

/// Reason why reading a part has ended.
#[derive(PartialEq, Eq)]
enum ReadEnd {
    /// The part's end, or as much was read as was wanted.
    Enough,
    /// A NUL.
    Nul,
}

/// Finds the part of a position, from the newest on, as most readers' positions are there.
fn find(
    path: &Path,
    known: Option<LogDirectory>,
    backups_max: u64,
    inode: u64,
) -> Result<Found, Error> {
    check_backups(backups_max)?;
    let Some(location) =
        absent_is_none(Location::at(path, Trust::in_known(known, Trust::Careful)))?
    else {
        return Ok(Found { parts: Vec::new(), is_position_known: false });
    };
    let mut parts = Vec::new();
    let mut oldest_exists = false;
    for index in std::iter::once(None).chain((0..backups_max).map(Some)) {
        let part = match OpenPart::open(&location, index) {
            Err(Error::Open { source, .. }) if index.is_some() && is_too_long(&source) => None,
            result => result?,
        };
        oldest_exists = part.is_some();
        parts.extend(part);
        if parts.last().is_some_and(|part| part.id.number == inode) {
            return Ok(Found { parts, is_position_known: true });
        }
    }
    Ok(Found { parts, is_position_known: oldest_exists })
}

impl OpenPart {
    fn open(location: &Location<'_>, index: Option<u64>) -> Result<Option<Self>, Error> {
        let opened = absent_is_none(location.open(index, OFlag::O_RDONLY, 0))?;
        Ok(opened.map(|(file, metadata)| {
            let (id, size_bytes) = (FileId::of(&metadata), metadata.len());
            Self { path: location.path(index), file, id, size_bytes }
        }))
    }

    fn read(&self, mut offset: u64, mut left: u64, data: &mut Vec<u8>) -> Result<ReadEnd, Error> {
        // What has been written since it was opened is left for the next READ. Even an empty file
        // is read from, as only that tells that it is a directory.
        left = left.min(self.size_bytes.saturating_sub(offset).max(1));
        while left > 0 {
            let start = data.len();
            let count = self.read_piece(offset, left.min(PIECE_BYTES), data)?;
            if count == 0 {
                break;
            }
            if let Some(nul) = find_nul(data.get(start..).unwrap_or_default()) {
                data.truncate(start + nul);
                return Ok(ReadEnd::Nul);
            }
            (offset, left) = (offset.saturating_add(count), left.saturating_sub(count));
        }
        Ok(ReadEnd::Enough)
    }

    fn read_piece(&self, offset: u64, len_max: u64, data: &mut Vec<u8>) -> Result<u64, Error> {
        let len_max = usize::try_from(len_max).unwrap_or(usize::MAX);
        loop {
            match read_behind(&self.file, offset, data, len_max) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { path: self.path.clone(), source }),
                Ok(count) => return Ok(count as u64),
            }
        }
    }
}

fn absent_is_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Err(Error::Open { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Returns the offset of the first NUL. `contains` is faster than `position`.
fn find_nul(bytes: &[u8]) -> Option<usize> {
    if bytes.contains(&0) { bytes.iter().position(|&byte| byte == 0) } else { None }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::parts::backup;
    use super::*;

    fn read(
        path: &Path,
        backups_max: u64,
        inode: u64,
        offset: u64,
        len_max: u64,
    ) -> Result<Vec<u8>, Error> {
        let mut data = Vec::new();
        super::read(path, None, backups_max, inode, offset, len_max, &mut data).map(|()| data)
    }

    /// A log of the parts `old`, `middle` and `new`, as PATH.1, PATH.0 and PATH.
    fn log() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(backup(&path, 1), "old").unwrap();
        fs::write(backup(&path, 0), "middle").unwrap();
        fs::write(&path, "new").unwrap();
        (dir, path)
    }

    fn inode(path: &Path) -> u64 {
        FileId::of(&fs::metadata(path).unwrap()).number
    }

    #[test]
    fn reads_on_through_newer_parts() {
        let (_dir, path) = log();
        let old = inode(&backup(&path, 1));
        let middle = inode(&backup(&path, 0));
        assert_eq!(read(&path, 2, old, 1, 100).unwrap(), b"ldmiddlenew");
        assert_eq!(read(&path, 2, middle, 4, 3).unwrap(), b"len");
        assert_eq!(read(&path, 2, middle, 99, 100).unwrap(), b"new");
        assert_eq!(read(&path, 2, inode(&path), 0, 0).unwrap(), b"");
        assert_eq!(read(&path, 2, inode(&path), 99, 100).unwrap(), b"");
    }

    #[test]
    fn a_missing_part_in_the_middle_is_skipped() {
        let (_dir, path) = log();
        let old = inode(&backup(&path, 1));
        fs::remove_file(backup(&path, 0)).unwrap();
        assert_eq!(read(&path, 2, old, 0, 100).unwrap(), b"oldnew");
    }

    #[test]
    fn an_unknown_inode_means_the_oldest_part() {
        let (_dir, path) = log();
        assert_eq!(read(&path, 2, 0, 2, 100).unwrap(), b"dmiddlenew");
        assert_eq!(read(&path, 0, 0, 2, 100).unwrap(), b"w");
        assert_eq!(read(&path, 3, 0, 2, 100).unwrap(), b"oldmiddlenew");
    }

    #[test]
    fn no_part_at_all_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(&dir.path().join("log"), 3, 17, 4, 100).unwrap_err();
        assert_eq!(error.to_string(), "Unable to seek to inode 17 offset 4");
        assert_eq!(error.errno(), Some(Errno::EBADF as i32));
    }

    #[test]
    fn a_negative_offset_is_an_error() {
        let (_dir, path) = log();
        for (inode, errno) in [(inode(&path), Errno::EINVAL), (0, Errno::EBADF)] {
            let error = read(&path, 9, inode, u64::MAX, 100).unwrap_err();
            assert_eq!(error.errno(), Some(errno as i32));
        }
    }

    #[test]
    fn a_directory_is_an_error_when_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(dir.path(), 0, inode(dir.path()), 0, 100).unwrap_err();
        let text = format!("Unable to read from file {}", dir.path().display());
        assert_eq!((error.to_string(), error.errno()), (text, Some(Errno::EISDIR as i32)));
    }

    #[test]
    fn a_nul_ends_the_answer() {
        let (_dir, path) = log();
        fs::write(backup(&path, 0), b"mid\xff\0dle").unwrap();
        assert_eq!(read(&path, 2, inode(&backup(&path, 1)), 0, 100).unwrap(), b"oldmid\xff");
    }

    /// The owner of a directory may have made them so, where the file system lets them.
    #[test]
    fn parts_of_any_size_can_be_read() {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
        let path = dir.path().join("log");
        let parts = [path.clone(), backup(&path, 0), backup(&path, 1)];
        for part in &parts {
            let file = File::create(part).unwrap();
            file.write_all_at(b"text", 0).unwrap();
            if file.set_len(i64::MAX.unsigned_abs()).is_err() {
                return;
            }
        }
        assert_eq!(read(&path, 2, inode(&parts[2]), 0, 100).unwrap(), b"text");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_position_gives_the_rest(offset in 0usize..12, len_max in 0usize..14) {
            let (_dir, path) = log();
            let text = b"oldmiddlenew";
            let (part, offset_in_part) = match offset {
                0..3 => (backup(&path, 1), offset),
                3..9 => (backup(&path, 0), offset - 3),
                _ => (path.clone(), offset - 9),
            };
            let data =
                read(&path, 2, inode(&part), offset_in_part as u64, len_max as u64).unwrap();
            prop_assert_eq!(&data[..], &text[offset..(offset + len_max).min(text.len())]);
        }
    }
}
