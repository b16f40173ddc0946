//! What could not be done with a file: the one place where that becomes an error of the wire.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use common::rpc::error::{Code, Domain};
use common::rpc::{self};
use nix::errno::Errno;

/// What could not be done with a file.
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
    /// There are as many open files, or resources, as there may be.
    pub(crate) fn too_many(path: &Path) -> Self {
        file_error(FileOperation::Open, path)(Errno::EMFILE.into())
    }

    /// Whether it is worth while to wait a little.
    pub(crate) fn is_lease_break(&self) -> bool {
        self.operation != FileOperation::Lock && is_lease_break(&self.error)
    }

    /// The path that it is about.
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// The error for the client.
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

/// Whether there were too few open files or too little memory: another time it may go well.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

/// Whether a process has an `fcntl(2)` lease on the file, such as a file server for its clients. The
/// kernel has told it to give that up, and takes it after a time.
pub(crate) fn is_lease_break(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// What has become of an operation.
pub(crate) fn file_error(
    operation: FileOperation,
    path: &Path,
) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |error| FileError { operation, path: path.as_os_str().as_bytes().into(), error }
}

/// Joins the parts of a text.
pub(super) fn text(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
