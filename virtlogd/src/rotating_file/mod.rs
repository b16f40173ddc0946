//! Log files of limited size: PATH, and its older parts PATH.0 (the newest) to PATH.(n-1).
//!
//! Rotation is rename and create, and the numbers have no gaps: those who read a guest's console
//! rely on both. Nothing else is ever put beside the log.

mod cut;
mod directory;
mod error;
mod open_files;
mod place;
mod reader;
mod rotation;
mod source;
mod writer;

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::startup::is_pid_file;
use common::sys::process;
use nix::errno::Errno;
use nix::libc;

pub use directory::Directory;
pub use error::{Error, Refusal};
pub use open_files::{Deletion, is_open};
pub use reader::read;
pub use rotation::steps_left;
pub use source::{Bytes, Offset, Source};
pub use writer::{Limits, RotatingFile};

/// Older parts that one log can have; libvirt's value.
pub const BACKUPS_MAX: u64 = 32;

/// How long another process may take to give up its lease on a file; ours. Other logs wait meanwhile,
/// so it is less than what counts as a hang.
const LEASE_PERIOD: Duration = Duration::from_millis(30);

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// Device number, as `stat` gives it.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
}

impl FileId {
    /// The identity in the answer of a `stat`.
    pub fn of(metadata: &Metadata) -> Self {
        Self { dev: metadata.dev(), inode: metadata.ino() }
    }
}

fn backup(path: &Path, index: u64) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{index}"));
    name.into()
}

fn check_backups(backups_max: u64) -> Result<(), Error> {
    if backups_max > BACKUPS_MAX {
        return Err(Error::TooManyBackups { backups_max });
    }
    Ok(())
}

/// Waits a little for a process that has an `fcntl(2)` lease on the file, as a file server has for its
/// clients, and was told by the kernel to give it up.
fn open_soon(open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    const PAUSE: Duration = Duration::from_millis(2);
    let end = Instant::now() + LEASE_PERIOD;
    loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                process::pause(PAUSE);
            }
            result => return result,
        }
    }
}

fn is_special(mode: u32, id: FileId) -> bool {
    let kind = mode & libc::S_IFMT;
    kind != libc::S_IFREG && kind != libc::S_IFDIR || is_pid_file(id.dev, id.inode)
}

fn special(path: &Path) -> Error {
    Error::Open { path: path.into(), source: Errno::EINVAL.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_could_block_is_refused_at_once_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let limits = Limits { size_bytes_max: 100, backups_max: 1 };
        for path in [fifo.as_path(), Path::new("/dev/null")] {
            for truncate in [false, true] {
                let error = RotatingFile::open(path, limits, truncate).unwrap_err();
                assert_eq!(error.errno(), Some(Errno::EINVAL as i32));
                assert_eq!(error.to_string(), format!("Unable to open file: {}", path.display()));
            }
            read(path, None, 0, 0, 0, 10, &mut Vec::new()).unwrap_err();
            assert!(path.exists());
        }
    }

    #[test]
    fn a_directory_is_not_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { size_bytes_max: 100, backups_max: 1 };
        let path = dir.path().display();
        let text = |truncate| {
            let error = RotatingFile::open(dir.path(), limits, truncate).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::EISDIR as i32));
            error.to_string()
        };
        assert_eq!(text(false), format!("Unable to open file: {path}"));
        assert_eq!(text(true), format!("Unable to delete file {path}"));
    }

    #[test]
    fn too_many_backups_are_a_matter_of_configuration() {
        let error = check_backups(33).unwrap_err();
        assert_eq!(error.to_string(), "Max backup 33 must be less than or equal to 32");
        assert_eq!(error.errno(), None);
        check_backups(32).unwrap();
    }

    #[test]
    fn names_need_not_be_text() {
        let name = Path::new(std::ffi::OsStr::from_bytes(b"/x\xff"));
        assert_eq!(backup(name, 7).as_os_str().as_bytes(), b"/x\xff.7");
        assert_eq!(special(name).detail(), b"Unable to open file: /x\xff");
    }
}
