//! The program that takes over: the file now at the path that this process was started from.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use thiserror::Error;

use crate::sys::errno::io_text;
use crate::sys::process;

/// Search path without `PATH`, as in `execvp(3)`.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// Bytes at the beginning of a program that tell its machine.
const HEAD_BYTES: usize = 20;

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// All arguments, the name first: those of this process.
    pub arguments: Vec<OsString>,
    identity: Identity,
}

/// Identity of the file, so that no other is executed than was checked.
type Identity = (u64, u64, i64, i64);

/// Reason why there is nothing to execute.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the program is unknown: this process has no argv[0], and its file was not found")]
    Nameless,
    #[error("there is no program '{0}' in PATH")]
    NotInPath(String),
    #[error("{}: {}", path.display(), io_text(error))]
    Unusable { path: PathBuf, error: io::Error },
    #[error("{} is not a program for this machine", .0.display())]
    WrongMachine(PathBuf),
    #[error("{} was replaced while it was being checked; try again", .0.display())]
    Replaced(PathBuf),
}

impl Target {
    /// Finds the program like `execvp(3)`: by path if the name has a slash, else in `PATH`. A
    /// relative name that is not found is replaced by the path that was [`executed`] at the start.
    ///
    /// # Errors
    /// [`enum@Error`]: it is missing, cannot be executed, or is for another machine.
    pub fn find(
        arguments: Vec<OsString>,
        search: Option<&OsStr>,
        executed: Option<&Path>,
    ) -> Result<Self, Error> {
        let name = arguments.first().map(OsString::as_os_str).unwrap_or_default();
        let path =
            look_up(name, search).or_else(|error| executed.map(Path::to_owned).ok_or(error))?;
        let identity = inspect(&path)?;
        Ok(Self { path, arguments, identity })
    }

    /// Checks that the file is still the one that was found.
    ///
    /// # Errors
    /// As [`Target::find`]; [`Error::Replaced`].
    pub fn check_unchanged(&self) -> Result<(), Error> {
        if inspect(&self.path)? == self.identity {
            Ok(())
        } else {
            Err(Error::Replaced(self.path.clone()))
        }
    }
}

/// Returns the path by which the kernel executed this process's program, for [`Target::find`]. An
/// update replaces the file, so the path counts. To be called at the start: the path may be
/// relative to the working directory, and must still lead to this program.
///
/// `None` if it does not, as after `fexecve(3)` of an unlinked file.
#[must_use]
pub fn executed() -> Option<PathBuf> {
    const OWN: &str = "/proc/self/exe";
    let own = fs::metadata(OWN).ok()?;
    let is_own = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino()))
    };
    // The path as given comes first: an update may change a symbolic link in it.
    let given = process::executed_path().and_then(|path| std::path::absolute(path).ok());
    given.filter(is_own).or_else(|| fs::read_link(OWN).ok().filter(is_own))
}

fn look_up(name: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, Error> {
    let path = PathBuf::from(name);
    if name.is_empty() {
        return Err(Error::Nameless);
    }
    if path.is_absolute() {
        return Ok(path);
    }
    if name.as_bytes().contains(&b'/') {
        return match path.try_exists() {
            Ok(false) => Err(Error::Unusable { path, error: Errno::ENOENT.into() }),
            _ => Ok(path),
        };
    }
    let mut found =
        std::env::split_paths(search.unwrap_or(OsStr::new(PATH_DEFAULT))).map(|dir| dir.join(name));
    found
        .find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok())
        .ok_or_else(|| Error::NotInPath(name.to_string_lossy().into_owned()))
}

fn inspect(path: &Path) -> Result<Identity, Error> {
    let unusable = |error: io::Error| Error::Unusable { path: path.to_owned(), error };
    let metadata = fs::metadata(path).map_err(unusable)?;
    if !metadata.is_file() {
        return Err(unusable(io::Error::other("not a regular file")));
    }
    access(path, AccessFlags::X_OK).map_err(|errno| unusable(errno.into()))?;
    let theirs = head(path).map_err(unusable)?;
    let ours = head(Path::new("/proc/self/exe")).map_err(unusable)?;
    if !theirs.starts_with(b"#!") && machine(&theirs) != machine(&ours) {
        return Err(Error::WrongMachine(path.to_owned()));
    }
    Ok((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns ELF's magic, class and byte order, and the machine's number.
fn machine(head: &[u8]) -> Option<(&[u8], &[u8])> {
    Some((head.get(..6)?, head.get(18..20)?))
}

#[cfg(test)]
mod tests;
