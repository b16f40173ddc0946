//! Reading a log from a remembered position through its rotated parts, without having it open.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{Error, FileId, backup, check_backups, open};

/// One part of a log that exists.
struct Part {
    path: PathBuf,
    file: File,
    inode: u64,
}

/// Reads up to `len_max` bytes from `offset` of the part with this inode on, and on through all
/// newer parts; the caller limits `len_max`, which is not reserved ahead. As in libvirt the answer
/// ends at the first NUL, and an offset behind a part's end goes on with the next part's start.
///
/// Where no part has the inode, what the position referred to is gone. libvirt then applies the
/// offset to the oldest part that there can be, and so does this; where that does not exist, which
/// libvirt reports as EBADF, this gives all there is, as nothing of it can have been seen before.
///
/// # Errors
///
/// EBADF where there is no part at all; EINVAL for an offset over `i64::MAX`, and for a FIFO, a
/// socket or a device, none of which is opened; EISDIR for a directory.
pub fn read(
    path: &Path,
    backups_max: u64,
    inode: u64,
    offset: u64,
    len_max: u64,
) -> Result<Vec<u8>, Error> {
    let (mut parts, oldest_exists) = open_parts(path, backups_max)?;
    let seek_error = |source| Error::Seek { inode, offset, source };
    let (start, start_offset) = match parts.iter().position(|part| part.inode == inode) {
        Some(start) => (start, offset),
        None if oldest_exists => (0, offset),
        None => (0, 0),
    };
    let parts = parts.get_mut(start..).unwrap_or_default();
    let first = parts.first_mut().ok_or_else(|| seek_error(Errno::EBADF.into()))?;
    i64::try_from(offset).map_err(|_| seek_error(Errno::EINVAL.into()))?;
    first.file.seek(SeekFrom::Start(start_offset)).map_err(seek_error)?;
    read_parts(parts, len_max)
}

/// The parts that exist, the oldest first, and whether the last of the possible ones does.
fn open_parts(path: &Path, backups_max: u64) -> Result<(Vec<Part>, bool), Error> {
    check_backups(backups_max)?;
    let mut parts = Vec::new();
    let mut oldest_exists = false;
    let backups = (0..backups_max).map(|index| backup(path, index));
    for path in std::iter::once(path.to_owned()).chain(backups) {
        let part = open_part(path)?;
        oldest_exists = part.is_some();
        parts.extend(part);
    }
    parts.reverse();
    Ok((parts, oldest_exists))
}

fn open_part(path: PathBuf) -> Result<Option<Part>, Error> {
    match open(&path, OpenOptions::new().read(true)) {
        Ok((file, metadata)) => Ok(Some(Part { path, file, inode: FileId::of(&metadata).inode })),
        Err(Error::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_parts(parts: &mut [Part], len_max: u64) -> Result<Vec<u8>, Error> {
    let mut data = Vec::new();
    for Part { path, file, .. } in parts {
        let left = len_max.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
        // By the file's own size, so that the buffer grows once, and only for what is there.
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        data.reserve_exact(usize::try_from(left.min(size)).unwrap_or(0));
        file.take(left)
            .read_to_end(&mut data)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        // `contains` is the fast one of the two.
        if data.contains(&0)
            && let Some(nul) = data.iter().position(|&byte| byte == 0)
        {
            data.truncate(nul);
            break;
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

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
        FileId::of(&fs::metadata(path).unwrap()).inode
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
        for inode in [inode(&path), 0] {
            let error = read(&path, 3, inode, u64::MAX, 100).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::EINVAL as i32));
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
