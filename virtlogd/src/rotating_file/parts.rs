//! Names and number of a log's older parts.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{BACKUPS_MAX, Error};

/// Returns the path of an older part.
pub(super) fn backup(path: &Path, index: u64) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{index}"));
    name.into()
}

/// Checks a number of older parts.
///
/// # Errors
/// [`Error::TooManyBackups`].
pub(super) fn check_backups(backups_max: u64) -> Result<(), Error> {
    if backups_max > BACKUPS_MAX {
        return Err(Error::TooManyBackups { backups_max });
    }
    Ok(())
}

/// Returns whether the error says that an older part's name is too long, so that there is no such
/// part.
pub(super) fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENAMETOOLONG as i32)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn too_many_backups_are_a_matter_of_configuration() {
        let error = check_backups(33).unwrap_err();
        assert_eq!(error.to_string(), "Max backup 33 must be less than or equal to 32");
        assert_eq!(error.errno(), None);
        check_backups(32).unwrap();
    }

    #[test]
    fn names_need_not_be_text() {
        let name = Path::new(OsStr::from_bytes(b"/x\xff"));
        assert_eq!(backup(name, 7).as_os_str().as_bytes(), b"/x\xff.7");
        let error = Error::Open { path: name.into(), source: Errno::EINVAL.into() };
        assert_eq!(error.detail(), b"Unable to open file: /x\xff");
    }
}
