//! The state of one client's stream.
//!
//! A small call costs one read, as what is read may reach a little into the next message. That
//! part, [`READ_BYTES_MAX`] at the most, is kept until the answer before it has been written out.
//! While a call is with its handler or an answer is not yet written out, nothing is wanted: that is
//! the flow control, one request in flight per client.
//!
//! An fd rides on the first byte of what its sender passed to the kernel in one piece, and a read
//! never goes on behind that piece. So fds that come with a read belong to one byte of it, and the
//! first byte in it that should carry an fd gets them. libvirt sends that byte alone.

mod buffered;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use thiserror::Error;

pub use buffered::{Buffered, Side};

use super::header::{Front, HEADER_BYTES, Header, MESSAGE_BYTES_MAX, MESSAGE_FDS_MAX, kind};
use crate::xdr::Reader;

/// Bytes read at a time where it is not known to whom they belong; ours, a common call several
/// times over.
pub const READ_BYTES_MAX: usize = 1024;

/// How far the buffer for a message runs ahead of the bytes that have arrived. A length word alone
/// costs no more memory than this.
const AHEAD_BYTES_MAX: usize = 65_536;

/// A peer broke the framing; the connection can only be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// A length word below the header's size or above the limit.
    #[error("message of {0} bytes, expected {HEADER_BYTES} to {MESSAGE_BYTES_MAX}")]
    Length(u32),
    /// A call with fds that does not say how many, or says too many.
    #[error("call with fds has no count, or one above {MESSAGE_FDS_MAX}")]
    FdCount,
    /// A byte that should carry one fd carries none, or several.
    #[error("an expected fd did not come alone with its byte")]
    Fd,
    /// What was handed over as the beginning of a message is a whole one.
    #[error("more was handed over than the beginning of a message")]
    HandedOver,
}

/// What the connection needs next from its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Whatever is there, up to [`READ_BYTES_MAX`], with its fds, for [`Connection::received`].
    Anything,
    /// More of a long body, into [`Connection::space`].
    Body,
    /// Nothing, until the answer has been written out.
    Nothing,
}

/// A complete message with its fds.
#[derive(Debug)]
pub struct Message {
    /// Its six words.
    pub header: Header,
    /// What follows the header, without the count of fds.
    pub payload: Vec<u8>,
    /// The fds that followed it.
    pub fds: Vec<OwnedFd>,
}

/// A message on its way out, with the fds that follow it one by one.
#[derive(Debug)]
pub struct Outgoing {
    front: Front,
    payload: Vec<u8>,
    /// Of both.
    sent: usize,
    fds: VecDeque<OwnedFd>,
}

/// What has to be written next.
#[derive(Debug)]
pub enum Unsent<'a> {
    /// These bytes, the one behind the other; not both are empty.
    Bytes([&'a [u8]; 2]),
    /// One zero byte that carries this fd.
    Fd(BorrowedFd<'a>),
}

/// One stream, both ways.
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

    /// The bytes that are still to be sent, in two parts.
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
    /// A stream that nothing has been read from.
    #[must_use]
    pub fn new() -> Self {
        Self { input: Input::start(), ahead: Piece::default(), output: None, in_flight: false }
    }

    /// What to read, if anything, once [`Connection::resume`] has given nothing.
    #[must_use]
    pub fn wants(&self) -> Want {
        match &self.input {
            _ if self.is_busy() => Want::Nothing,
            Input::Body { have, len, .. } if len - have > READ_BYTES_MAX => Want::Body,
            Input::Head { .. } | Input::Body { .. } | Input::Fds { .. } => Want::Anything,
        }
    }

    /// Whether a message has begun to arrive and is not complete.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        !matches!(self.input, Input::Head { have: 0, .. })
    }

    /// Whether anything was read behind the message that was given last.
    #[must_use]
    pub fn has_read_on(&self) -> bool {
        self.is_mid_message() || !self.ahead.bytes.is_empty()
    }

    /// Whether everything about this connection is in the kernel: nothing was read but not
    /// answered, nothing is unsent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.is_busy() && !self.has_read_on()
    }

    /// How many bytes the message that has begun lacks at least: reading no more leaves nothing
    /// behind it.
    #[must_use]
    pub fn missing_bytes(&self) -> usize {
        match &self.input {
            Input::Head { have, .. } => HEADER_BYTES - have,
            Input::Body { have, len, .. } => len - have,
            Input::Fds { .. } => 1,
        }
    }

    /// Bytes of memory that are taken by a message that has begun to arrive, by what was read behind
    /// one, and by an answer that is not written out.
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

    /// Goes on with what was read already. Gives the next message if it is complete; from then on
    /// nothing is wanted until it is answered or dropped.
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

    /// These bytes were read, and these fds came with one of them. Gives a message as
    /// [`Connection::resume`] does; what follows it is kept.
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

    /// Where the next bytes of a body go. Never longer than what the message still lacks.
    pub fn space(&mut self) -> &mut [u8] {
        match &mut self.input {
            Input::Body { bytes, have, len, .. } => {
                bytes.resize((*len).min(*have + AHEAD_BYTES_MAX), 0);
                bytes.get_mut(*have..).unwrap_or_default()
            }
            Input::Head { .. } | Input::Fds { .. } => &mut [],
        }
    }

    /// The first `count` bytes of [`Connection::space`] have been filled. Gives a message as
    /// [`Connection::resume`] does.
    ///
    /// # Errors
    /// As [`Connection::resume`].
    pub fn filled(&mut self, count: usize) -> Result<Option<Message>, Violation> {
        if let Input::Body { have, .. } = &mut self.input {
            *have += count;
        }
        self.advance()
    }

    /// The message was dropped: go on reading without an answer.
    pub fn dropped(&mut self) {
        self.in_flight = false;
    }

    /// Puts the answer on its way; reading goes on once it is written out.
    pub fn answer(&mut self, answer: Outgoing) {
        self.in_flight = false;
        self.output = Some(answer);
    }

    /// What to write, if anything.
    #[must_use]
    pub fn unsent(&self) -> Option<Unsent<'_>> {
        let output = self.output.as_ref()?;
        match output.fds.front() {
            _ if !output.is_sent_but_for_fds() => Some(Unsent::Bytes(output.unsent_bytes())),
            Some(fd) => Some(Unsent::Fd(fd.as_fd())),
            None => None,
        }
    }

    /// The first `count` bytes of what [`Connection::unsent`] gave were written. The byte of an
    /// fd counts as one, and closes our copy of it.
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

    /// Takes what it lacks from the front of `bytes`, at least one, and gives the rest.
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

    /// The state behind the header, or `None` while it is not complete. A wrong length is found
    /// as soon as its four bytes are there.
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
