//! Settings of our own, for which libvirt's grammar has no words: a TOML file beside libvirt's, with
//! the ending `.toml` in place of its own.
//!
//! serde reads the file's tables and refuses unknown keys. The values of keys are checked here, so
//! that every error names its key, what is allowed, and its place in the file.

use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Error, read_at_most};

/// Bytes of a file of our own. Its content is a part of the state that outlives the process.
pub const TOML_BYTES_MAX: usize = 65_536;

/// Units of sizes, with their bytes.
const UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A file, to be read into the tables of a daemon.
#[derive(Debug, Clone, Copy)]
pub struct Toml<'a> {
    path: &'a Path,
    text: &'a str,
}

/// A value, and its place in the file.
pub use toml::Spanned as TomlSpanned;

/// A value of any type, and its place in the file.
pub type TomlValue = TomlSpanned<Scalar>;

/// A value, as far as settings have such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// An integer that is not negative.
    Number(u64),
    /// A string.
    Text(String),
    /// Anything else.
    Other,
}

/// Returns the path of the file of our own beside libvirt's; `None` if that has its ending.
#[must_use]
pub fn beside(conf: &Path) -> Option<PathBuf> {
    Some(conf.with_extension("toml")).filter(|path| path != conf)
}

impl<'a> Toml<'a> {
    /// Reads the bytes of the file at `path`. One that is absent counts as empty.
    ///
    /// # Errors
    /// As [`super::read_file`]; a file of over [`TOML_BYTES_MAX`] is an error.
    pub fn load(path: &Path) -> Result<Vec<u8>, Error> {
        match read_at_most(path, TOML_BYTES_MAX) {
            Err(Error::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            result => result,
        }
    }

    /// Makes one of the content of a file; `path` is for the error texts.
    ///
    /// # Errors
    /// [`Error::Toml`] if it is no UTF-8.
    pub fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Error> {
        str::from_utf8(bytes).map(|text| Self { path, text }).map_err(|error| {
            let valid =
                bytes.get(..error.valid_up_to()).and_then(|bytes| str::from_utf8(bytes).ok());
            let before = Self { path, text: valid.unwrap_or_default() };
            before.error(before.text.len()..before.text.len(), "expected UTF-8")
        })
    }

    /// Reads the tables of the file.
    ///
    /// # Errors
    /// [`Error::Toml`].
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(self.text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            self.error(error.span().unwrap_or_default(), &message)
        })
    }

    /// Makes an error at a place in the file.
    #[must_use]
    pub fn error(&self, at: Range<usize>, what: &str) -> Error {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Error::Toml {
            path: self.path.to_owned(),
            line: 1 + before.matches('\n').count(),
            column: 1 + before.get(line_start..).map_or(0, |line| line.chars().count()),
            what: what.to_owned(),
        }
    }

    /// Returns a string of 1 to `bytes_max` bytes.
    ///
    /// # Errors
    /// [`Error::Toml`].
    pub fn string<'v>(
        &self,
        key: &str,
        value: Option<&'v TomlValue>,
        bytes_max: usize,
    ) -> Result<Option<&'v str>, Error> {
        self.convert(value, |value| match value {
            Scalar::Text(text) if (1..=bytes_max).contains(&text.len()) => Ok(text.as_str()),
            _ => Err(format!("'{key}' has to be a string of 1 to {bytes_max} bytes")),
        })
    }

    /// Returns a number of this range.
    ///
    /// # Errors
    /// [`Error::Toml`].
    pub fn number(
        &self,
        key: &str,
        value: Option<&TomlValue>,
        range: &RangeInclusive<u64>,
    ) -> Result<Option<u64>, Error> {
        self.convert(value, |value| match value {
            Scalar::Number(number) if range.contains(number) => Ok(*number),
            _ => Err(format!(
                "'{key}' has to be an integer in range {}:{}",
                range.start(),
                range.end()
            )),
        })
    }

    /// Returns a number of bytes of this range. It is an integer, or a string with a unit.
    ///
    /// # Errors
    /// [`Error::Toml`].
    pub fn size_bytes(
        &self,
        key: &str,
        value: Option<&TomlValue>,
        range: &RangeInclusive<u64>,
    ) -> Result<Option<u64>, Error> {
        let found = self.convert(value, |value| {
            let bytes = match value {
                Scalar::Number(number) => Some(*number),
                Scalar::Text(text) => size_bytes(text),
                Scalar::Other => None,
            };
            bytes.ok_or_else(|| {
                format!(
                    "'{key}' has to be a number of bytes, or a string such as \"10 MiB\" with one \
                     of the units B, KiB, MiB, GiB and TiB"
                )
            })
        })?;
        self.convert(value, |_| match found {
            Some(bytes) if range.contains(&bytes) => Ok(bytes),
            _ => Err(format!("'{key}' has to be in range {}:{} bytes", range.start(), range.end())),
        })
    }

    fn convert<'v, T>(
        &self,
        value: Option<&'v TomlValue>,
        to: impl FnOnce(&'v Scalar) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = value else { return Ok(None) };
        to(value.get_ref()).map(Some).map_err(|what| self.error(value.span(), &what))
    }
}

/// Parses a number with a unit.
fn size_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, unit_bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*unit_bytes)
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(u64::try_from(number).map_or(Scalar::Other, Scalar::Number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

#[cfg(test)]
mod tests;
