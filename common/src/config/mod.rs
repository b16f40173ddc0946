//! Configuration files: libvirt's, in its `key = value` grammar, and [ours](Toml) beside it.
//!
//! A file is parsed into a [`Document`], whose typed getters return a daemon's keys. Files that the
//! C daemons accept or refuse are accepted or refused likewise, with one exception: a number that
//! does not fit is a range error here, where C's arithmetic silently wraps at 64 bits.

mod common;
mod glob;
mod parser;
mod toml;
mod value;

pub use self::common::{Common, ServerSockets};
pub use self::glob::Glob;
pub use self::toml::{Scalar, TOML_BYTES_MAX, Toml, TomlSpanned, TomlValue, beside};
pub use self::value::{Entry, Value};

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sys::errno::io_text;

/// Bytes of a configuration file, libvirt's value.
pub const FILE_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Reason why a configuration cannot be used. The text is libvirt's between `Can't load config
/// file: ` and `: PATH`.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum Error {
    /// The file is missing or may not be opened.
    #[error("Failed to open file '{}': {}", path.display(), io_text(source))]
    Open { path: PathBuf, source: io::Error },
    /// The file is a directory, exceeds [`FILE_BYTES_MAX`], or the disk fails.
    #[error("Failed to read file '{}': {}", path.display(), io_text(source))]
    Read { path: PathBuf, source: io::Error },
    /// The grammar is violated.
    #[error("configuration file syntax error: {}:{line}: {what}", path.display())]
    Syntax { path: PathBuf, line: usize, what: &'static str },
    /// A value is of another type than its key needs.
    #[error("internal error: {}: expected {expected} for '{key}' parameter", path.display())]
    Type { path: PathBuf, key: &'static str, expected: &'static str },
    /// A number does not fit.
    #[error(
        "internal error: {}: value for '{key}' parameter must be in range 0:{max}",
        path.display()
    )]
    Range { path: PathBuf, key: &'static str, max: u64 },
    /// A value of the right type is invalid. No case of libvirt's.
    #[error("{}:{line}: invalid value '{value}' for '{key}' parameter: {what}", path.display())]
    Value { path: PathBuf, line: usize, key: &'static str, value: String, what: &'static str },
    /// A file of our own is not what it has to be.
    #[error("{}:{line}:{column}: {what}", path.display())]
    Toml { path: PathBuf, line: usize, column: usize, what: String },
}

/// Contents of a daemon's configuration files. One that is absent counts as empty.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// libvirt's file.
    pub conf: Vec<u8>,
    /// The file of our own settings.
    pub toml: Vec<u8>,
}

/// A parsed file. The first of several equal keys counts.
#[derive(Debug, Clone, Default)]
pub struct Document {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Document {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    /// As `open(2)` and `read(2)`, and as [`Document::parse`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &read_file(path)?)
    }

    /// Parses the content of a file; `path` is for the error texts.
    ///
    /// # Errors
    /// [`Error::Syntax`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        match parser::parse(bytes) {
            Ok(entries) => Ok(Self { path: path.to_owned(), entries }),
            Err((line, what)) => Err(Error::Syntax { path: path.to_owned(), line, what }),
        }
    }

    /// Returns the path of the file; empty without one.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the first entry of `key`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Returns a text. Bytes that are not UTF-8 become U+FFFD; use [`Document::os_string`] for
    /// paths.
    ///
    /// # Errors
    /// [`Error::Type`] when it is no string.
    pub fn string(&self, key: &'static str) -> Result<Option<Cow<'_, str>>, Error> {
        Ok(self.os_string(key)?.map(OsStr::to_string_lossy))
    }

    /// Returns a string with exactly the bytes of the file.
    ///
    /// # Errors
    /// [`Error::Type`] when it is no string.
    pub fn os_string(&self, key: &'static str) -> Result<Option<&OsStr>, Error> {
        match self.entry(key).map(|entry| &entry.value) {
            None => Ok(None),
            Some(Value::String(bytes)) => Ok(Some(OsStr::from_bytes(bytes))),
            Some(Value::Unsigned(_) | Value::Negative | Value::List(_)) => {
                Err(self.wrong_type(key, "a string"))
            }
        }
    }

    /// Returns an unsigned number of 64 bits.
    ///
    /// # Errors
    /// [`Error::Type`] when it is none, [`Error::Range`] when it does not fit (C wraps).
    pub fn u64(&self, key: &'static str) -> Result<Option<u64>, Error> {
        self.number(key, u64::MAX)
    }

    /// Returns an unsigned number of 32 bits.
    ///
    /// # Errors
    /// As [`Document::u64`].
    pub fn u32(&self, key: &'static str) -> Result<Option<u32>, Error> {
        let number = self.number(key, u32::MAX.into())?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    /// Returns the entries whose keys are not among `known`, for a warning. The C daemons silently
    /// ignore them.
    pub fn unknown<'a>(&'a self, known: &'a [&'a str]) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str()))
    }

    fn number(&self, key: &'static str, max: u64) -> Result<Option<u64>, Error> {
        match self.entry(key).map(|entry| &entry.value) {
            None => Ok(None),
            Some(Value::Unsigned(Some(number))) if *number <= max => Ok(Some(*number)),
            Some(Value::Unsigned(_)) => Err(Error::Range { path: self.path.clone(), key, max }),
            Some(Value::Negative | Value::String(_) | Value::List(_)) => {
                Err(self.wrong_type(key, "an unsigned integer"))
            }
        }
    }

    fn wrong_type(&self, key: &'static str, expected: &'static str) -> Error {
        Error::Type { path: self.path.clone(), key, expected }
    }
}

/// Reads the bytes of a configuration file.
///
/// # Errors
/// As `open(2)` and `read(2)`; a file of over [`FILE_BYTES_MAX`] is an error.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    read_at_most(path, FILE_BYTES_MAX)
}

fn read_at_most(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    read_limited(file, bytes_max).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn read_limited(file: File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(nix::errno::Errno::EOVERFLOW.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
