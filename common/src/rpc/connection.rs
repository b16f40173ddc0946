//! The state of one client's stream.
//!
//! What is read may reach a little into the next messages: a call that is small then costs one
//! read, and the next one is not missed. It is kept ([`READ_BYTES_MAX`] at the most) until the
//! answer before it has been written out. While a call is with its handler or an answer is not yet
//! written out, nothing is read: that is the flow control, one request in flight per client.
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

    /// Whether everything about this connection is in the kernel: nothing was read but not
    /// answered, nothing is unsent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.is_busy() && !self.is_mid_message() && self.ahead.bytes.is_empty()
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
mod tests {
    use super::*;
    use std::fs::File;

    const CALL: Header =
        Header { program: 7, version: 1, procedure: 2, kind: kind::CALL, serial: 3, status: 0 };
    const CALL_WITH_FDS: Header = Header { kind: kind::CALL_WITH_FDS, ..CALL };

    /// Lets `bytes` be read in pieces of `step`, until a message is complete.
    fn feed(
        connection: &mut Connection,
        mut bytes: &[u8],
        step: usize,
    ) -> Result<Option<Message>, Violation> {
        while !bytes.is_empty() {
            let message = match connection.wants() {
                Want::Nothing => return Ok(None),
                Want::Anything => {
                    let (piece, rest) = bytes.split_at(step.min(READ_BYTES_MAX).min(bytes.len()));
                    bytes = rest;
                    connection.received(piece, Vec::new())?
                }
                Want::Body => {
                    let space = connection.space();
                    let count = space.len().min(step).min(bytes.len());
                    space[..count].copy_from_slice(&bytes[..count]);
                    bytes = &bytes[count..];
                    connection.filled(count)?
                }
            };
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    fn null_fd() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    fn empty_answer(fds: Vec<OwnedFd>) -> Outgoing {
        Outgoing::new(&CALL, Vec::new(), fds)
    }

    #[test]
    fn a_message_is_the_same_in_any_pieces() {
        let long: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        for payload in [&b""[..], b"12345678", &long[..READ_BYTES_MAX], &long] {
            for step in [1, 3, 28, 100, 5000, 300_000] {
                let message =
                    feed(&mut Connection::new(), &CALL.message(payload), step).unwrap().unwrap();
                assert_eq!((message.header, &message.payload[..]), (CALL, payload));
            }
        }
    }

    #[test]
    fn what_follows_a_message_waits_until_it_is_answered() {
        let mut connection = Connection::new();
        let calls = [CALL.message(b"1234"), CALL.message(b"5678"), vec![0; 3]].concat();
        let first = connection.received(&calls, Vec::new()).unwrap().unwrap();
        assert_eq!((connection.wants(), connection.is_idle()), (Want::Nothing, false));
        assert!(connection.resume().unwrap().is_none());
        connection.answer(Outgoing::new(&CALL, b"answer".to_vec(), Vec::new()));
        connection.sent(HEADER_BYTES + 2);
        assert!(matches!(connection.unsent(), Some(Unsent::Bytes([b"", b"swer"]))));
        assert!(connection.resume().unwrap().is_none());
        connection.sent(4);
        assert!(!connection.is_idle() && !connection.is_mid_message());
        let second = connection.resume().unwrap().unwrap();
        assert_eq!((&first.payload[..], &second.payload[..]), (&b"1234"[..], &b"5678"[..]));
        connection.dropped();
        assert!(connection.resume().unwrap().is_none());
        assert!(connection.is_mid_message());
    }

    #[test]
    fn a_connection_is_idle_between_calls() {
        let mut connection = Connection::new();
        assert!(connection.is_idle());
        connection.received(&CALL.message(b""), Vec::new()).unwrap().unwrap();
        assert!(!connection.is_idle());
        connection.answer(empty_answer(Vec::new()));
        assert!(!connection.is_idle());
        connection.sent(HEADER_BYTES);
        assert!(connection.is_idle());
    }

    #[test]
    fn a_wrong_length_is_found_at_its_fourth_byte() {
        for len in [0_u32, 3, 4, 27, 33_554_437, u32::MAX] {
            let result = feed(&mut Connection::new(), &len.to_be_bytes(), 1);
            assert_eq!(result.unwrap_err(), Violation::Length(len));
        }
        let largest = 33_554_436_u32.to_be_bytes();
        assert!(feed(&mut Connection::new(), &largest, 4).unwrap().is_none());
    }

    #[test]
    fn an_announced_body_costs_no_memory_before_it_arrives() {
        let mut bytes = CALL.message(&[]);
        bytes[..4].copy_from_slice(&33_554_436_u32.to_be_bytes());
        let mut connection = Connection::new();
        feed(&mut connection, &bytes, 100).unwrap();
        assert_eq!(connection.space().len(), AHEAD_BYTES_MAX);
    }

    #[test]
    fn fds_are_awaited_one_by_one() {
        let mut connection = Connection::new();
        let call = CALL_WITH_FDS.message(&[0, 0, 0, 2, 9]);
        assert!(connection.received(&call, Vec::new()).unwrap().is_none());
        assert!(connection.received(&[0], vec![null_fd()]).unwrap().is_none());
        let message = connection.received(b"X", vec![null_fd()]).unwrap().unwrap();
        assert_eq!((message.fds.len(), &message.payload[..]), (2, &[9][..]));
    }

    #[test]
    fn an_fd_finds_its_byte_among_others_that_were_read_with_it() {
        let call = CALL_WITH_FDS.message(&[0, 0, 0, 1]);
        for next in [&b""[..], &CALL.message(b"next")] {
            let mut connection = Connection::new();
            let piece = [&call[..], &[0], next].concat();
            let message = connection.received(&piece, vec![null_fd()]).unwrap().unwrap();
            assert_eq!(message.fds.len(), 1);
        }
        let mut connection = Connection::new();
        let piece = [&CALL.message(b"first"), &call[..], &[0]].concat();
        connection.received(&piece, vec![null_fd()]).unwrap().unwrap();
        connection.answer(empty_answer(Vec::new()));
        connection.sent(HEADER_BYTES);
        assert_eq!(connection.resume().unwrap().unwrap().fds.len(), 1);
    }

    #[test]
    fn an_fd_that_came_with_a_message_does_not_count() {
        let mut connection = Connection::new();
        let call = CALL_WITH_FDS.message(&[0, 0, 0, 1]);
        assert!(connection.received(&call, vec![null_fd()]).unwrap().is_none());
        assert_eq!(connection.received(&[0], Vec::new()).unwrap_err(), Violation::Fd);
    }

    #[test]
    fn a_bad_count_of_fds_or_a_byte_without_one_ends_the_connection() {
        for payload in [&[][..], &[0, 0, 0][..], &[0, 0, 0, 33][..]] {
            let result = feed(&mut Connection::new(), &CALL_WITH_FDS.message(payload), 99);
            assert_eq!(result.unwrap_err(), Violation::FdCount);
        }
        for fds in [Vec::new(), vec![null_fd(), null_fd()]] {
            let mut connection = Connection::new();
            feed(&mut connection, &CALL_WITH_FDS.message(&[0, 0, 0, 1]), 99).unwrap();
            assert_eq!(connection.received(&[0], fds).unwrap_err(), Violation::Fd);
        }
        let two = [CALL_WITH_FDS.message(&[0, 0, 0, 2]), vec![0, 0]].concat();
        let result = Connection::new().received(&two, vec![null_fd()]);
        assert_eq!(result.unwrap_err(), Violation::Fd, "one fd is not enough for two bytes");
    }

    #[test]
    fn an_answers_fds_follow_its_bytes() {
        let mut connection = Connection::new();
        connection.answer(empty_answer(vec![null_fd()]));
        let Some(Unsent::Bytes([front, b""])) = connection.unsent() else { panic!("no bytes") };
        assert_eq!(front[HEADER_BYTES..], [0, 0, 0, 1]);
        connection.sent(HEADER_BYTES + 4);
        assert!(matches!(connection.unsent(), Some(Unsent::Fd(_))));
        connection.sent(1);
        assert!(connection.unsent().is_none());
        assert_eq!(connection.wants(), Want::Anything);
    }
}
