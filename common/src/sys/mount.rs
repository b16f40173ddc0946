//! Questions to the server of a mounted file system.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

/// Asks the server of a file system for the attributes of a file, past all caches, and returns the
/// device number. This waits for the server, on some file systems in a way that no signal ends.
///
/// # Errors
/// As `statx(2)`.
pub fn ask_server(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_STATX_FORCE_SYNC | libc::AT_NO_AUTOMOUNT;
    let wanted = libc::STATX_BASIC_STATS;
    // SAFETY: the path is a string, and the answer has room for what the kernel writes; both outlive
    // the call.
    let result =
        unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, wanted, answer.as_mut_ptr()) };
    Errno::result(result)?;
    // SAFETY: all bytes are zero or the kernel's, and any are valid numbers.
    let answer = unsafe { answer.assume_init() };
    Ok(nix::sys::stat::makedev(answer.stx_dev_major.into(), answer.stx_dev_minor.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_device_number_is_that_of_stat() {
        let path = Path::new("/proc");
        assert_eq!(ask_server(path).unwrap(), std::fs::metadata(path).unwrap().dev());
        assert_eq!(ask_server(Path::new("/absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
