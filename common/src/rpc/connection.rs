//! State of one client's stream.
//!
//! A small call costs one read, which may reach a little into the next message. That part, at most
//! [`READ_BYTES_MAX`], is kept until the answer before it is written. While a call is with its
//! handler or an answer is not yet written, nothing is read: that is the flow control, one request
//! in flight per client.
//!
//! An fd rides on the first byte of what its sender passed to the kernel in one piece, and a read
//! never continues behind that piece. So fds that come with a read belong to one byte of it, and
//! are given to the first byte in it that should carry an fd. libvirt sends that byte alone.

mod buffered;
mod input;
mod outgoing;

use std::os::fd::{AsFd, OwnedFd};

pub use buffered::{Buffered, Side};
use input::{Input, Progress};
pub use input::{Message, Violation};
pub use outgoing::{Outgoing, Unsent};

use super::header::HEADER_BYTES;

/// Bytes of a read that may cross messages; ours, several times a common call.
pub const READ_BYTES_MAX: usize = 1024;

/// Bytes by which the buffer for a message runs ahead of those that have arrived. A length word
/// alone costs no more memory than this.
const AHEAD_BYTES_MAX: usize = 65_536;

/// Data that the connection needs next from its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Up to [`READ_BYTES_MAX`] bytes with their fds, for [`Connection::received`].
    Anything,
    /// More of a long body, into [`Connection::space`].
    Body,
    /// No data until the answer is written.
    Nothing,
}

/// A stream in both directions.
#[derive(Debug)]
pub struct Connection {
    input: Input,
    ahead: Piece,
    output: Option<Outgoing>,
    in_flight: bool,
}

/// Bytes that were read together, and the fds that came with one of them.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Makes the state of a new stream.
    #[must_use]
    pub fn new() -> Self {
        Self { input: Input::start(), ahead: Piece::default(), output: None, in_flight: false }
    }

    /// Returns what to read, if anything, once [`Connection::resume`] has returned no message.
    #[must_use]
    pub fn wants(&self) -> Want {
        match &self.input {
            _ if self.is_busy() => Want::Nothing,
            Input::Body { have, len, .. } if len - have > READ_BYTES_MAX => Want::Body,
            Input::Head { .. } | Input::Body { .. } | Input::Fds { .. } => Want::Anything,
        }
    }

    /// Returns whether a message has begun to arrive and is not complete.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        !matches!(self.input, Input::Head { have: 0, .. })
    }

    /// Returns whether input was read behind the last message.
    #[must_use]
    pub fn has_read_on(&self) -> bool {
        self.is_mid_message() || !self.ahead.bytes.is_empty()
    }

    /// Returns whether all data of this connection is in the kernel: no input is unanswered, no
    /// output unsent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.is_busy() && !self.has_read_on()
    }

    /// Returns the minimum number of bytes that the begun message lacks: reading no more leaves
    /// nothing behind it.
    #[must_use]
    pub fn missing_bytes(&self) -> usize {
        match &self.input {
            Input::Head { have, .. } => HEADER_BYTES - have,
            Input::Body { have, len, .. } => len - have,
            Input::Fds { .. } => 1,
        }
    }

    /// Returns the bytes of memory for a partial message, for input behind a message, and for an
    /// unsent answer.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let input = match &self.input {
            Input::Head { .. } => 0,
            Input::Body { bytes, .. } => bytes.capacity(),
            Input::Fds { message, .. } => message.payload.capacity(),
        };
        let output = self.output.as_ref().map_or(0, |output| output.payload.capacity());
        input + self.ahead.bytes.capacity() + output
    }

    /// Continues with input that was read already. Returns the next message if it is complete;
    /// nothing is wanted then until it is answered or dropped.
    ///
    /// # Errors
    /// A [`Violation`]; fds that arrived are closed with the connection.
    pub fn resume(&mut self) -> Result<Option<Message>, Violation> {
        if self.is_busy() || self.ahead.bytes.is_empty() {
            return Ok(None);
        }
        let Piece { bytes, fds } = std::mem::take(&mut self.ahead);
        self.received(&bytes, fds)
    }

    /// Takes bytes that were read, and fds that came with one of them. Returns a message like
    /// [`Connection::resume`]; input behind it is kept.
    ///
    /// # Errors
    /// As [`Connection::resume`].
    pub fn received(
        &mut self,
        mut bytes: &[u8],
        mut fds: Vec<OwnedFd>,
    ) -> Result<Option<Message>, Violation> {
        while !bytes.is_empty() {
            bytes = self.input.take(bytes, &mut fds)?;
            if let Some(message) = self.advance()? {
                if !bytes.is_empty() {
                    self.ahead = Piece { bytes: bytes.to_vec(), fds };
                }
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Returns the buffer for the next bytes of a body. It is never longer than what the message
    /// lacks.
    pub fn space(&mut self) -> &mut [u8] {
        match &mut self.input {
            Input::Body { bytes, have, len, .. } => {
                bytes.resize((*len).min(*have + AHEAD_BYTES_MAX), 0);
                bytes.get_mut(*have..).unwrap_or_default()
            }
            Input::Head { .. } | Input::Fds { .. } => &mut [],
        }
    }

    /// Takes the first `count` bytes of [`Connection::space`] as read. Returns a message like
    /// [`Connection::resume`].
    ///
    /// # Errors
    /// As [`Connection::resume`].
    pub fn filled(&mut self, count: usize) -> Result<Option<Message>, Violation> {
        if let Input::Body { have, .. } = &mut self.input {
            *have += count;
        }
        self.advance()
    }

    /// Continues reading without an answer, after a message was dropped.
    pub fn dropped(&mut self) {
        self.in_flight = false;
    }

    /// Queues the answer; reading continues once it is written.
    pub fn answer(&mut self, answer: Outgoing) {
        self.in_flight = false;
        self.output = Some(answer);
    }

    /// Returns what to write, if anything.
    #[must_use]
    pub fn unsent(&self) -> Option<Unsent<'_>> {
        let output = self.output.as_ref()?;
        match output.fds.front() {
            _ if !output.is_sent_but_for_fds() => Some(Unsent::Bytes(output.unsent_bytes())),
            Some(fd) => Some(Unsent::Fd(fd.as_fd())),
            None => None,
        }
    }

    /// Marks the first `count` bytes of [`Connection::unsent`] as written. The byte of an fd counts
    /// as one; our copy of the fd is closed.
    pub fn sent(&mut self, count: usize) {
        let Some(output) = &mut self.output else { return };
        if output.is_sent_but_for_fds() {
            output.fds.pop_front();
        } else {
            output.sent += count;
        }
        if output.is_sent_but_for_fds() && output.fds.is_empty() {
            self.output = None;
        }
    }

    fn is_busy(&self) -> bool {
        self.in_flight || self.output.is_some()
    }

    fn advance(&mut self) -> Result<Option<Message>, Violation> {
        match std::mem::replace(&mut self.input, Input::start()).complete()? {
            Progress::Message(message) => {
                self.in_flight = true;
                Ok(Some(message))
            }
            Progress::Unfinished(input) => {
                self.input = input;
                Ok(None)
            }
        }
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
