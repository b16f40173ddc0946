//! File that is replaced at one stroke, so that nobody reads a part of it.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::tool::failure::Failure;
use crate::tool::format::escaped;

/// Mode of the file: others read it.
const MODE: u32 = 0o644;

/// Replaces the content of the file at `path` by `bytes`.
///
/// # Errors
/// [`Failure::Other`]. The file is as it was.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::Other(format!("unable to write {}: {error}", escaped(&path.to_string_lossy())))
    };
    let Some(name) = path.file_name() else {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    };
    let new = new_path(path, name);
    let replaced = write_new(&new, bytes).and_then(|()| fs::rename(&new, path));
    replaced.map_err(|error| {
        // It may be another's, or not there.
        if error.kind() != io::ErrorKind::AlreadyExists {
            fs::remove_file(&new).ok();
        }
        failed(error)
    })
}

/// Returns a path in the same directory, with a name that node_exporter passes over.
fn new_path(path: &Path, name: &std::ffi::OsStr) -> PathBuf {
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{}", std::process::id()));
    path.with_file_name(new)
}

/// Writes a new file; in its place there may be none, nor a link.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.prom");
        for text in [&b"longer than the next"[..], b"short"] {
            replace(&path, text).unwrap();
            assert_eq!(fs::read(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        }
        // Nobody has something else replaced.
        let new = new_path(&path, path.file_name().unwrap());
        std::os::unix::fs::symlink("other", &new).unwrap();
        replace(&path, b"other").unwrap_err();
        assert!(fs::symlink_metadata(&new).unwrap().is_symlink());
        fs::remove_file(&new).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // A directory cannot be replaced, and nothing is left.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        replace(&path, b"other").unwrap_err();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        replace(Path::new("/"), b"other").unwrap_err();
    }
}
