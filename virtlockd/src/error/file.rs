//! Failed operation on a file, and its error on the wire.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use common::rpc;
use common::rpc::error::{Code, Domain};
use nix::errno::Errno;

/// Failed operation on a file.
#[derive(Debug)]
pub(crate) struct FileError {
    operation: FileOperation,
    path: Box<[u8]>,
    error: io::Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileOperation {
    Open,
    OpenOrCreate,
    Lock,
    Create,
    Delete,
    MakeDirectory,
    UseAsDirectory,
}

impl FileError {
    /// Creates the error for the limit of open files, or of resources.
    pub(crate) fn too_many(path: &Path) -> Self {
        file_error(FileOperation::Open, path)(Errno::EMFILE.into())
    }

    /// Returns whether the file may be opened soon, once another process has given up its
    /// `fcntl(2)` lease.
    pub(crate) fn is_lease_break(&self) -> bool {
        self.operation != FileOperation::Lock && is_lease_break(&self.error)
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Converts the error to that of the wire.
    pub(crate) fn to_rpc(&self) -> rpc::Error {
        let path = &self.path;
        let (domain, detail) = match self.operation {
            FileOperation::Open => (Domain::Lockspace, text(&[b"Unable to open resource ", path])),
            FileOperation::OpenOrCreate => {
                (Domain::Lockspace, text(&[b"Unable to open/create resource ", path]))
            }
            FileOperation::Lock => {
                (Domain::Lockspace, text(&[b"Unable to acquire lock on '", path, b"'"]))
            }
            FileOperation::Create => (Domain::None, text(&[b"cannot create file '", path, b"'"])),
            FileOperation::Delete => {
                (Domain::Lockspace, text(&[b"Unable to delete lockspace resource ", path]))
            }
            FileOperation::MakeDirectory => {
                (Domain::Lockspace, text(&[b"Unable to create lockspace ", path]))
            }
            FileOperation::UseAsDirectory => {
                let detail =
                    text(&[b"Lockspace location ", path, b" exists, but is not a directory"]);
                return rpc::Error::new(Code::InternalError, Domain::Lockspace, detail);
            }
        };
        let errno = self.error.raw_os_error().unwrap_or(Errno::EIO as i32);
        rpc::Error::system(domain, detail, errno)
    }
}

/// Returns whether an error is a shortage of fds or of memory, which may be over at the next
/// attempt.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

/// Returns whether another process, such as a file server, has an `fcntl(2)` lease on the file. The
/// kernel has told it to give that up, and takes it away after a time.
pub(crate) fn is_lease_break(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Returns a function that adds operation and path to an I/O error.
pub(crate) fn file_error(
    operation: FileOperation,
    path: &Path,
) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |error| FileError { operation, path: path.as_os_str().as_bytes().into(), error }
}

/// Joins the parts of a message.
pub(super) fn text(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
