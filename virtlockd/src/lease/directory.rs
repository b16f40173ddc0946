//! Directory of a lockspace.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;

use crate::error::file::{FileError, FileOperation, file_error};

/// Permission bits of a new directory; libvirt's value.
const DIRECTORY_MODE: u32 = 0o700;

/// Creates a lockspace's directory unless it exists.
pub(crate) fn make(path: &Path) -> Result<(), FileError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(file_error(FileOperation::UseAsDirectory, path)(Errno::ENOTDIR.into())),
        Err(_) => make_directories(path).map_err(file_error(FileOperation::MakeDirectory, path)),
    }
}

/// Creates a directory and its parents. As in libvirt, a dangling symbolic link is an error.
fn make_directories(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(DIRECTORY_MODE).create(path);
    let Err(error) = &made else { return made };
    if error.kind() != io::ErrorKind::AlreadyExists {
        return made;
    }
    match builder.recursive(false).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !path.is_dir() => {
            Err(Errno::ENOTDIR.into())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_libvirts() {
        let dir = tempfile::tempdir().unwrap();
        let (shown, file) = (dir.path().display(), dir.path().join("file"));
        fs::write(&file, "").unwrap();
        assert_eq!(
            make(&file).unwrap_err().to_rpc().message(),
            format!(
                "internal error: Lockspace location {shown}/file exists, but is not a directory"
            )
        );
        assert_eq!(
            make(&file.join("sub")).unwrap_err().to_rpc().message(),
            format!("Unable to create lockspace {shown}/file/sub: Not a directory")
        );
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let message = |path| make(path).unwrap_err().to_rpc().message();
        assert_eq!(
            message(&link),
            format!("Unable to create lockspace {shown}/link: Not a directory")
        );
        assert_eq!(
            message(&link.join("sub")),
            format!("Unable to create lockspace {shown}/link/sub: No such file or directory")
        );
    }
}
