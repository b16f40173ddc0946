//! The program that is to take over: whatever stands now where this one was started from.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use thiserror::Error;

use crate::rpc::error::io_text;
use crate::sys::process;

/// Where programs are looked for without `PATH`, as `execvp(3)` does.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// Bytes at the beginning of a program that say for what machine it is.
const HEAD_BYTES: usize = 20;

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// All arguments, the name first: those this process was started with.
    pub arguments: Vec<OsString>,
    identity: Identity,
}

/// Which file it is, so that no other is executed than was checked.
type Identity = (u64, u64, i64, i64);

/// Why there is nothing to execute.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("this process was started without a name, and what was executed is not known")]
    Nameless,
    #[error("there is no program '{0}' in PATH")]
    NotInPath(String),
    #[error("{}: {}", path.display(), io_text(error))]
    Unusable { path: PathBuf, error: io::Error },
    #[error("{} is no program for this machine", .0.display())]
    WrongMachine(PathBuf),
    #[error("{} was replaced while it was being checked; try again", .0.display())]
    Replaced(PathBuf),
}

impl Target {
    /// Finds it as `execvp(3)` does: by path if the name has a slash, else in `PATH`. For a relative
    /// name that leads nowhere it is what was [`executed`] at the start.
    ///
    /// # Errors
    /// [`enum@Error`]: nothing is there, it cannot be executed, or it is for another machine.
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

/// The path by which the kernel executed this process's program, for [`Target::find`]. It is the path
/// that counts and not the file, which an update replaces, so ask at the start: the path may be
/// relative to the working directory, and must lead to this very program still.
///
/// `None` if it does not, as after `fexecve(3)` of a file that is nowhere.
#[must_use]
pub fn executed() -> Option<PathBuf> {
    const OWN: &str = "/proc/self/exe";
    let own = fs::metadata(OWN).ok()?;
    let is_own = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino()))
    };
    // First the path as it was given: a symbolic link in it may be what an update changes.
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
        return Err(unusable(io::Error::other("it is no file")));
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

/// ELF's magic, class and byte order, and the machine's number.
fn machine(head: &[u8]) -> Option<(&[u8], &[u8])> {
    Some((head.get(..6)?, head.get(18..20)?))
}

#[cfg(test)]
mod tests;
