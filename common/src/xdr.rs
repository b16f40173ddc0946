//! XDR, the encoding of everything on the wire: a cursor to read with, a buffer to write to.
//!
//! No I/O. Limits are arguments of the reading functions, so that a length word is checked before
//! it is used, and nothing is allocated for bytes that did not arrive.

mod writer;

use thiserror::Error;

pub use writer::Writer;

/// Reason why bytes from a peer cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// The bytes end before the value does.
    #[error("{0} is cut off")]
    Truncated(&'static str),
    /// A count or length is above the protocol's limit.
    #[error("{what} has {len} elements, at most {max} are allowed")]
    TooLong {
        /// Name of the value.
        what: &'static str,
        /// The peer's number.
        len: u32,
        /// The protocol's limit.
        max: u32,
    },
    /// A union's discriminant that the protocol does not define.
    #[error("{what} has the unknown discriminant {value}")]
    Discriminant {
        /// Name of the value.
        what: &'static str,
        /// The peer's number.
        value: i32,
    },
}

/// A cursor over received bytes.
///
/// Like libvirt's decoder it ignores pad bytes and left-over bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads an unsigned 32-bit integer.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer than 4 bytes are left.
    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array("u32").map(u32::from_be_bytes)
    }

    /// Reads a signed 32-bit integer, which is also the encoding of an enum.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer than 4 bytes are left.
    pub fn i32(&mut self) -> Result<i32, Error> {
        self.array("i32").map(i32::from_be_bytes)
    }

    /// Reads an unsigned 64-bit integer ("unsigned hyper").
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer than 8 bytes are left.
    pub fn u64(&mut self) -> Result<u64, Error> {
        self.array("u64").map(u64::from_be_bytes)
    }

    /// Reads a signed 64-bit integer ("hyper").
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer than 8 bytes are left.
    pub fn i64(&mut self) -> Result<i64, Error> {
        self.array("i64").map(i64::from_be_bytes)
    }

    /// Reads a double.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer than 8 bytes are left.
    pub fn f64(&mut self) -> Result<f64, Error> {
        self.array("f64").map(f64::from_be_bytes)
    }

    /// Reads bytes of a fixed length, without a length word (a UUID).
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer than `N` bytes are left.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let bytes = self.array("fixed opaque")?;
        self.skip(padding(N), "padding")?;
        Ok(bytes)
    }

    /// Reads bytes behind a length word, at most `max` of them, padded to a multiple of four.
    ///
    /// # Errors
    /// [`Error::TooLong`] or [`Error::Truncated`].
    pub fn opaque(&mut self, max: u32) -> Result<&'a [u8], Error> {
        let len = self.count("string", max)?;
        let bytes = self.take(len, "string")?;
        self.skip(padding(len), "padding")?;
        Ok(bytes)
    }

    /// Reads a C string, like [`Reader::opaque`] up to the first NUL, as in libvirt. The bytes need
    /// not be UTF-8.
    ///
    /// # Errors
    /// [`Error::TooLong`] or [`Error::Truncated`].
    pub fn string(&mut self, max: u32) -> Result<&'a [u8], Error> {
        let bytes = self.opaque(max)?;
        Ok(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
    }

    /// Reads the flag in front of an optional value. Any number but 0 means that the value follows.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer than 4 bytes are left.
    pub fn present(&mut self) -> Result<bool, Error> {
        self.u32().map(|flag| flag != 0)
    }

    /// Reads the number of elements of an array, at most `max`.
    ///
    /// # Errors
    /// [`Error::TooLong`] or [`Error::Truncated`].
    pub fn count(&mut self, what: &'static str, max: u32) -> Result<usize, Error> {
        let len = self.u32()?;
        if len > max {
            return Err(Error::TooLong { what, len, max });
        }
        usize::try_from(len).map_err(|_| Error::TooLong { what, len, max })
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated(what))?;
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated(what))?;
        self.rest = rest;
        Ok(head)
    }

    fn skip(&mut self, len: usize, what: &'static str) -> Result<(), Error> {
        self.take(len, what).map(drop)
    }
}

/// Returns the number of zero bytes that follow `len` bytes on the wire.
fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

#[cfg(test)]
mod tests;
