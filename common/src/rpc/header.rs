//! Message header of 28 bytes, and the limits of the framing.

use crate::xdr::{Error, Reader};

/// Bytes of the length word and the six words behind it.
pub const HEADER_BYTES: usize = 28;

/// Bytes of [`Front`]: the header and a count of fds.
const FRONT_BYTES_MAX: usize = HEADER_BYTES + size_of::<u32>();

/// Largest value of a length word: libvirt's 32 MiB and the length word itself.
pub const MESSAGE_BYTES_MAX: usize = 33_554_432 + 4;

/// Fds that may come with one message, libvirt's value.
pub const MESSAGE_FDS_MAX: usize = 32;

/// Values of the `type` word.
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

/// Values of the `status` word.
pub mod status {
    /// A call, or an answer that carries a result.
    pub const OK: u32 = 0;
    /// An answer that carries an error object.
    pub const ERROR: u32 = 1;
}

/// Words of a header behind its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// Procedure number; signed on the wire.
    pub procedure: i32,
    /// A value of [`kind`]; any other number is dropped.
    pub kind: i32,
    /// Chosen by the caller and repeated in the answer.
    pub serial: u32,
    /// A value of [`status`].
    pub status: u32,
}

/// Bytes in front of a payload: length, header, and the count of fds if there are any.
#[derive(Debug, Clone, Copy)]
pub struct Front {
    bytes: [u8; FRONT_BYTES_MAX],
    len: usize,
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

    /// Encodes what precedes a payload of `payload_bytes` that `fds` fds follow.
    #[must_use]
    pub fn front(&self, payload_bytes: usize, fds: usize) -> Front {
        let word = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let len = if fds == 0 { HEADER_BYTES } else { FRONT_BYTES_MAX };
        let words = [
            word(len + payload_bytes),
            self.program,
            self.version,
            self.procedure.cast_unsigned(),
            self.kind.cast_unsigned(),
            self.serial,
            self.status,
            word(fds),
        ];
        let mut bytes = [0; FRONT_BYTES_MAX];
        for (place, word) in bytes.chunks_exact_mut(size_of::<u32>()).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        Front { bytes, len }
    }

    /// Encodes a whole message without fds: length, header, `payload`.
    #[must_use]
    pub fn message(&self, payload: &[u8]) -> Vec<u8> {
        [self.front(payload.len(), 0).bytes(), payload].concat()
    }
}

impl Front {
    /// Makes an empty front.
    pub(super) fn none() -> Self {
        Self { bytes: [0; FRONT_BYTES_MAX], len: 0 }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}
