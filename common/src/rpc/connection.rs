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

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use thiserror::Error;

pub use buffered::{Buffered, Side};

use super::header::{Front, HEADER_BYTES, Header, MESSAGE_BYTES_MAX, MESSAGE_FDS_MAX, kind};
use crate::xdr::Reader;

/// Bytes of a read that may cross messages; ours, several times a common call.
pub const READ_BYTES_MAX: usize = 1024;

/// Bytes by which the buffer for a message runs ahead of those that have arrived. A length word
/// alone costs no more memory than this.
const AHEAD_BYTES_MAX: usize = 65_536;

/// A framing error of the peer; the connection can only be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// A length word below the header's size or above the limit.
    #[error("message of {0} bytes, expected {HEADER_BYTES} to {MESSAGE_BYTES_MAX}")]
    Length(u32),
    /// A call with fds without a valid count of them.
    #[error("call with fds has no count, or one above {MESSAGE_FDS_MAX}")]
    FdCount,
    /// A byte that should carry one fd has none, or several.
    #[error("an expected fd did not come alone with its byte")]
    Fd,
    /// The handed-over beginning of a message is a whole one.
    #[error("more was handed over than the beginning of a message")]
    HandedOver,
}

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

/// A complete message with its fds.
#[derive(Debug)]
pub struct Message {
    /// The header.
    pub header: Header,
    /// The payload, without the count of fds.
    pub payload: Vec<u8>,
    /// The fds that followed it.
    pub fds: Vec<OwnedFd>,
}

/// An outgoing message, with the fds that follow it one by one.
#[derive(Debug)]
pub struct Outgoing {
    front: Front,
    payload: Vec<u8>,
    /// Bytes of both parts that were sent.
    sent: usize,
    fds: VecDeque<OwnedFd>,
}

/// Data to be written next.
#[derive(Debug)]
pub enum Unsent<'a> {
    /// Two slices, one behind the other; at most one is empty.
    Bytes([&'a [u8]; 2]),
    /// A zero byte that carries this fd.
    Fd(BorrowedFd<'a>),
}

/// A stream in both directions.
#[derive(Debug)]
pub struct Connection {
    input: Input,
    ahead: Piece,
    output: Option<Outgoing>,
    in_flight: bool,
}

#[derive(Debug)]
enum Input {
    Head { bytes: [u8; HEADER_BYTES], have: usize },
    Body { header: Header, bytes: Vec<u8>, have: usize, len: usize },
    Fds { message: Message, missing: usize },
}

/// Bytes that were read together, and the fds that came with one of them.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    pub(super) fn new(header: &Header, payload: Vec<u8>, fds: Vec<OwnedFd>) -> Self {
        Self { front: header.front(payload.len(), fds.len()), payload, sent: 0, fds: fds.into() }
    }

    /// Returns the bytes that are still to be sent, in two parts.
    #[must_use]
    pub fn unsent_bytes(&self) -> [&[u8]; 2] {
        let front = self.front.bytes();
        let sent_of_payload = self.sent.saturating_sub(front.len());
        [
            front.get(self.sent..).unwrap_or_default(),
            self.payload.get(sent_of_payload..).unwrap_or_default(),
        ]
    }

    fn is_sent_but_for_fds(&self) -> bool {
        self.sent >= self.front.bytes().len() + self.payload.len()
    }
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

enum Progress {
    Message(Message),
    Unfinished(Input),
}

impl Input {
    fn start() -> Self {
        Self::Head { bytes: [0; HEADER_BYTES], have: 0 }
    }

    /// Takes what it lacks from the front of `bytes`, at least one, and returns the rest.
    fn take<'a>(&mut self, bytes: &'a [u8], fds: &mut Vec<OwnedFd>) -> Result<&'a [u8], Violation> {
        match self {
            Self::Head { bytes: head, have } => {
                let space = head.get_mut(*have..).unwrap_or_default();
                let (taken, rest) = bytes.split_at(space.len().min(bytes.len()));
                space.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
                *have += taken.len();
                if let Some(input) = Self::after_head(head.get(..*have).unwrap_or_default())? {
                    *self = input;
                }
                Ok(rest)
            }
            Self::Body { bytes: body, have, len, .. } => {
                let (taken, rest) = bytes.split_at((*len - *have).min(bytes.len()));
                body.truncate(*have);
                body.extend_from_slice(taken);
                *have += taken.len();
                Ok(rest)
            }
            Self::Fds { message, missing } => {
                let (Some(fd), true) = (fds.pop(), fds.is_empty()) else {
                    return Err(Violation::Fd);
                };
                message.fds.push(fd);
                *missing -= 1;
                Ok(bytes.get(1..).unwrap_or_default())
            }
        }
    }

    /// Returns the state behind the header, or `None` while it is not complete. A wrong length is
    /// found as soon as its four bytes are there.
    fn after_head(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let mut reader = Reader::new(bytes);
        let Ok(len) = reader.u32() else { return Ok(None) };
        let total = usize::try_from(len).map_err(|_| Violation::Length(len))?;
        if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&total) {
            return Err(Violation::Length(len));
        }
        let Ok(header) = Header::read(&mut reader) else { return Ok(None) };
        let len = total - HEADER_BYTES;
        Ok(Some(Self::Body { header, bytes: Vec::new(), have: 0, len }))
    }

    fn complete(self) -> Result<Progress, Violation> {
        match self {
            Self::Body { header, bytes: payload, have, len } if have == len => {
                let message = Message { header, payload, fds: Vec::new() };
                if header.kind == kind::CALL_WITH_FDS {
                    Self::awaiting_fds(message)
                } else {
                    Ok(Progress::Message(message))
                }
            }
            Self::Fds { message, missing: 0 } => Ok(Progress::Message(message)),
            unfinished => Ok(Progress::Unfinished(unfinished)),
        }
    }

    fn awaiting_fds(mut message: Message) -> Result<Progress, Violation> {
        let count = Reader::new(&message.payload).u32().map_err(|_| Violation::FdCount)?;
        let missing = usize::try_from(count).map_err(|_| Violation::FdCount)?;
        if missing > MESSAGE_FDS_MAX {
            return Err(Violation::FdCount);
        }
        message.payload.drain(..size_of::<u32>());
        Self::Fds { message, missing }.complete()
    }
}

#[cfg(test)]
mod tests;
