//! A buffer to write XDR to.

use super::padding;

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
