//! The 28 bytes in front of every message, and the limits of the framing.

use crate::xdr::{Error, Reader, Writer};

/// Bytes of the length word and the six words behind it.
pub const HEADER_BYTES: usize = 28;

/// Largest number a length word may say: libvirt's 32 MiB and the length word itself.
pub const MESSAGE_BYTES_MAX: usize = 33_554_432 + 4;

/// Fds that may come with one message, libvirt's value.
pub const MESSAGE_FDS_MAX: usize = 32;

/// The `type` word.
pub mod kind {
    /// A call without fds.
    pub const CALL: i32 = 0;
    /// An answer without fds.
    pub const REPLY: i32 = 1;
    /// Neither call nor answer; keepalive uses it.
    pub const MESSAGE: i32 = 2;
    /// A call whose payload starts with a count of fds that follow the message.
    pub const CALL_WITH_FDS: i32 = 4;
    /// An answer whose payload starts with a count of fds that follow the message.
    pub const REPLY_WITH_FDS: i32 = 5;
}

/// The `status` word.
pub mod status {
    /// A call, or an answer that carries a result.
    pub const OK: u32 = 0;
    /// An answer that carries an error object.
    pub const ERROR: u32 = 1;
}

/// The words of a header behind its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// Procedure number; signed on the wire.
    pub procedure: i32,
    /// One of [`kind`]; any other number is dropped.
    pub kind: i32,
    /// Chosen by the caller and repeated in the answer.
    pub serial: u32,
    /// One of [`status`].
    pub status: u32,
}

impl Header {
    /// Reads the six words.
    ///
    /// # Errors
    /// [`Error::Truncated`] when there are fewer.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            program: reader.u32()?,
            version: reader.u32()?,
            procedure: reader.i32()?,
            kind: reader.i32()?,
            serial: reader.u32()?,
            status: reader.u32()?,
        })
    }

    /// A whole message: length, header, `payload`.
    #[must_use]
    pub fn message(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.announcing(payload.len());
        bytes.extend(payload);
        bytes
    }

    /// Length and header in front of a payload of `len` bytes, with room for it.
    #[must_use]
    pub(super) fn announcing(&self, len: usize) -> Vec<u8> {
        let total = u32::try_from(HEADER_BYTES + len).unwrap_or(u32::MAX);
        let mut writer = Writer::with_capacity(HEADER_BYTES + len);
        writer
            .u32(total)
            .u32(self.program)
            .u32(self.version)
            .i32(self.procedure)
            .i32(self.kind)
            .u32(self.serial)
            .u32(self.status);
        writer.into_bytes()
    }
}
