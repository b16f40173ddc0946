//! Places of the document during an exec: libvirt's state file, for any successor, and a sealed
//! memfd, which a successor of ours prefers, as the file may not be writable.
//!
//! A stale document is never adopted. A document names its process. Of two that name ours the one
//! of the higher generation counts. libvirt's daemons write no generation and never get the memfd,
//! so their file is newer than the memfd, unless the memfd says that this very file could not be
//! removed.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use thiserror::Error;

use super::document::{self, Document};
use super::fds::{FdSet, InheritedFds};
use super::memfd::BYTES_MAX;
use super::memfd::Memfd;
use crate::sys::errno::io_text;
use crate::sys::{calls, process};

/// Environment variable with the number of the memfd.
pub const VARIABLE: &str = "VIRT_RS_STATE";

/// Bytes of a document that libvirt's daemons read.
const LIBVIRT_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Bytes compared at once.
const PIECE_BYTES: usize = 65_536;

/// Permission bits of the state file. libvirt's has 0700.
const FILE_MODE: u32 = 0o600;

/// Reader of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// A daemon of ours.
    Ours,
    /// A daemon of libvirt's.
    Libvirt,
}

/// Reason why a document cannot be handed over.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum WriteError {
    #[error("unable to make the state document: {}", io_text(.0))]
    Serialize(#[from] io::Error),
    #[error("the state document has {0} bytes, libvirt reads at most {LIBVIRT_BYTES_MAX}")]
    TooLarge(u64),
    #[error("unable to write the state file {}: {}", path.display(), io_text(error))]
    File { path: PathBuf, error: io::Error },
}

/// A document that was found.
#[derive(Debug)]
pub struct Found {
    /// The document.
    pub document: Document<'static>,
    /// It is this process's: adopt it. Otherwise it is another process's, or stale.
    pub is_ours: bool,
    /// Reason why it is empty.
    pub broken: Option<String>,
}

impl Found {
    /// Returns an empty document for a memfd that cannot be read, without a state file.
    #[must_use]
    pub fn unreadable() -> Self {
        let broken = format!("there is none, and the memfd of {VARIABLE} cannot be read");
        Self { document: Document::default(), is_ours: false, broken: Some(broken) }
    }
}

/// A written document. Its file is removed on drop.
#[derive(Debug)]
pub(super) struct Written {
    file: Option<PathBuf>,
    /// Value of [`VARIABLE`].
    pub(super) memfd: Option<i32>,
}

/// Writes a document for its successor. For our own successor the file is optional.
pub(super) fn write(
    mut document: Document<'_>,
    successor: Successor,
    path: &Path,
    fd_set: &FdSet,
) -> Result<Written, WriteError> {
    let text = match successor {
        Successor::Ours => Memfd::of(&document)?,
        Successor::Libvirt => for_libvirt(&mut document)?,
    };
    let written = write_file(path, &text);
    let (file, text) = match (written, successor) {
        (Ok(()), _) => (Some(path.to_owned()), text),
        (Err(error), Successor::Libvirt) => {
            return Err(WriteError::File { path: path.to_owned(), error });
        }
        (Err(error), Successor::Ours) => {
            let private = document.private.get_or_insert_default();
            private.stale_file = identity(path);
            private.state_file_error = Some(error.to_string());
            (None, Memfd::of(&document)?)
        }
    };
    let memfd = match successor {
        Successor::Ours => Some(fd_set.memory(text)),
        Successor::Libvirt => None,
    };
    Ok(Written { file, memfd })
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            remove(path);
        }
    }
}

/// Finds the document of a predecessor, in the memfd that `variable` names and in the file at
/// `path`. Removes nothing.
#[must_use]
pub fn find(path: &Path, variable: Option<&OsStr>, inherited: &mut InheritedFds) -> Option<Found> {
    let magic = std::process::id().to_string();
    let is_ours = |document: &Document<'_>| document.magic.as_ref() == Some(&magic);
    let number = variable.and_then(OsStr::to_str).and_then(|number| number.parse().ok());
    let text = number.and_then(|number| inherited.take_content(Some(number)).ok());
    let passed = text.as_ref().and_then(|text| document::read(text).ok());
    let passed = passed.filter(is_ours);
    let known = text.as_deref().filter(|_| passed.is_some());
    let in_file = read_file(path, known).map(|bytes| document::read(&bytes));
    let (in_file, broken) = match in_file {
        Some(Err(error)) => (Some(Document::default()), Some(error.to_string())),
        Some(Ok(document)) => (Some(document), None),
        None => (None, None),
    };
    let document = match (passed, in_file) {
        (None, None) => return None,
        (None, Some(document)) => {
            return Some(Found { is_ours: is_ours(&document), document, broken });
        }
        (Some(passed), Some(in_file)) if is_newer(&in_file, &passed, path, is_ours) => in_file,
        (Some(passed), _) => passed,
    };
    Some(Found { document, is_ours: true, broken: None })
}

/// Removes the state file, which was adopted or is of no use.
pub fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(
            target: "daemon", "Unable to remove the state file {}: {error}", path.display()
        );
    }
}

/// Returns whether the document in the file is newer than the one in the memfd.
fn is_newer(
    in_file: &Document<'_>,
    passed: &Document<'_>,
    path: &Path,
    is_ours: impl Fn(&Document<'_>) -> bool,
) -> bool {
    let generation =
        |document: &Document<'_>| document.private.as_ref().and_then(|own| own.generation);
    let known_stale = passed.private.as_ref().and_then(|own| own.stale_file);
    is_ours(in_file)
        && match generation(in_file) {
            Some(generation_in_file) => Some(generation_in_file) > generation(passed),
            None => known_stale.is_none() || known_stale != identity(path),
        }
}

/// Writes the document for libvirt, without private keys where it would be too large with them.
fn for_libvirt(document: &mut Document<'_>) -> Result<Memfd, WriteError> {
    let text = Memfd::of(document)?;
    if text.len <= LIBVIRT_BYTES_MAX {
        return Ok(text);
    }
    document.strip_private();
    let text = Memfd::of(document)?;
    if text.len > LIBVIRT_BYTES_MAX {
        return Err(WriteError::TooLarge(text.len));
    }
    Ok(text)
}

/// Writes the file atomically, by way of another name.
fn write_file(path: &Path, text: &Memfd) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    fs::remove_file(&new).ok();
    let written = write_new_file(&new, text);
    let renamed = written.and_then(|()| fs::rename(&new, path));
    let renamed = renamed.inspect_err(|_| {
        fs::remove_file(&new).ok();
    });
    // Written in place, as libvirt's daemons do; the successor is executed only when it is
    // complete.
    calls::or_else(renamed, || {
        fs::remove_file(path).ok();
        write_new_file(path, text).inspect_err(|_| {
            fs::remove_file(path).ok();
        })
    })
}

fn write_new_file(path: &Path, text: &Memfd) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    text.copy_to(&mut options.open(path)?)
}

/// Reads the state file. A file of another owner, or no regular file, counts as none. So does one
/// equal to `known`: both are equal as a rule, and long.
fn read_file(path: &Path, known: Option<&[u8]>) -> Option<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut file = File::options().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.uid() != process::effective_uid() {
        return None;
    }
    if known.is_some_and(|known| is_same(&mut file, known).unwrap_or(false)) {
        return None;
    }
    file.rewind().ok()?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn is_same(file: &mut File, mut known: &[u8]) -> io::Result<bool> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece)?;
        let (Some(read), Some((same, rest))) = (piece.get(..count), known.split_at_checked(count))
        else {
            return Ok(false);
        };
        if read != same {
            return Ok(false);
        }
        if read.is_empty() {
            return Ok(rest.is_empty());
        }
        known = rest;
    }
}

/// Returns device, inode and time of change in nanoseconds.
fn identity(path: &Path) -> Option<(u64, u64, i64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let changed_ns =
        metadata.ctime().wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec());
    Some((metadata.dev(), metadata.ino(), changed_ns))
}

#[cfg(test)]
mod tests;
