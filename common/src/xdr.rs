//! XDR, the encoding of everything on the wire: a cursor to read with, a buffer to write to.
//!
//! No I/O. Limits are arguments of the reading functions, so that a length word is checked before
//! it is used, and nothing is allocated for bytes that did not arrive.

use thiserror::Error;

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

/// A buffer that values are appended to.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Makes an empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty buffer with room for `len` bytes.
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        Self { bytes: Vec::with_capacity(len) }
    }

    /// Appends an unsigned 32-bit integer.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a signed 32-bit integer; also an enum.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends an unsigned 64-bit integer.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a signed 64-bit integer.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a double.
    pub fn f64(&mut self, value: f64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends bytes behind their length, padded. Bytes beyond the 4 GiB of a length word are left
    /// out; no message is ever that large.
    pub fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let bytes = bytes.get(..len as usize).unwrap_or(bytes);
        self.u32(len).raw(bytes);
        self.bytes.resize(self.bytes.len() + padding(bytes.len()), 0);
        self
    }

    /// Appends the bytes that `append` puts behind those that are there, like [`Writer::opaque`]
    /// but without a copy of a large value.
    ///
    /// # Errors
    /// That of `append`; what was written is of no use then.
    pub fn opaque_by<E>(
        &mut self,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<&mut Self, E> {
        let place = self.bytes.len();
        self.u32(0);
        let start = self.bytes.len();
        append(&mut self.bytes)?;
        let count = self.bytes.len().saturating_sub(start);
        let len = u32::try_from(count).unwrap_or(u32::MAX);
        self.bytes.truncate(start + len as usize);
        if let Some(word) = self.bytes.get_mut(place..start) {
            word.copy_from_slice(&len.to_be_bytes());
        }
        self.bytes.resize(self.bytes.len() + padding(len as usize), 0);
        Ok(self)
    }

    /// Appends an optional string.
    pub fn optional(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.u32(1).opaque(bytes),
            None => self.u32(0),
        }
    }

    /// Appends bytes without length or padding.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Returns what was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Returns the number of zero bytes that follow `len` bytes on the wire.
fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

#[cfg(test)]
mod tests;
