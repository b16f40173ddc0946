//! The state of one client's stream.
//!
//! It reads exactly one message, never a byte further: what follows may be the byte that carries
//! an fd, which a plain read would destroy, and what was not read needs no carrying over when the
//! daemon re-executes itself. While a call is with its handler or an answer is not yet written
//! out, it wants nothing: that is the flow control, one request in flight per client.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use thiserror::Error;

use super::header::{HEADER_BYTES, Header, MESSAGE_BYTES_MAX, MESSAGE_FDS_MAX, kind};
use crate::xdr::Reader;

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
    Resumed,
}

/// What the connection needs next from its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Bytes, into [`Connection::space`].
    Bytes,
    /// One byte that carries one fd, for [`Connection::received_fd`].
    Fd,
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
    bytes: Vec<u8>,
    sent: usize,
    fds: VecDeque<OwnedFd>,
}

/// What has to be written next.
#[derive(Debug)]
pub enum Unsent<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// One zero byte that carries this fd.
    Fd(BorrowedFd<'a>),
}

/// One stream, both ways.
#[derive(Debug)]
pub struct Connection {
    input: Input,
    output: Option<Outgoing>,
    in_flight: bool,
}

/// What a connection holds between two events, for a successor of this process.
#[derive(Debug, Default)]
pub struct Buffered<'a> {
    /// Bytes of a message that is not complete.
    pub input: Vec<u8>,
    /// The fds of it that have arrived.
    pub input_fds: Vec<BorrowedFd<'a>>,
    /// Bytes of an answer that are not sent.
    pub output: Vec<u8>,
    /// Fds that follow those.
    pub output_fds: Vec<BorrowedFd<'a>>,
}

impl Buffered<'_> {
    /// Nothing is half done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.input.is_empty() && self.output.is_empty() && self.output_fds.is_empty()
    }
}

#[derive(Debug)]
enum Input {
    Head { bytes: [u8; HEADER_BYTES], have: usize },
    Body { header: Header, bytes: Vec<u8>, have: usize, len: usize },
    Fds { message: Message, missing: usize },
}

impl Outgoing {
    pub(super) fn new(bytes: Vec<u8>, fds: Vec<OwnedFd>) -> Self {
        Self { bytes, sent: 0, fds: fds.into() }
    }

    /// The bytes that are still to be sent.
    #[must_use]
    pub fn unsent_bytes(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }
}

impl Connection {
    /// A stream that nothing has been read from.
    #[must_use]
    pub fn new() -> Self {
        Self { input: Input::start(), output: None, in_flight: false }
    }

    /// What to read, if anything.
    #[must_use]
    pub fn wants(&self) -> Want {
        match &self.input {
            _ if self.in_flight || self.output.is_some() => Want::Nothing,
            Input::Fds { .. } => Want::Fd,
            Input::Head { .. } | Input::Body { .. } => Want::Bytes,
        }
    }

    /// Whether a message has begun to arrive and is not complete.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        !matches!(self.input, Input::Head { have: 0, .. })
    }

    /// Where the next bytes go. Never longer than what the message still lacks.
    pub fn space(&mut self) -> &mut [u8] {
        match &mut self.input {
            Input::Head { bytes, have } => bytes.get_mut(*have..).unwrap_or_default(),
            Input::Body { bytes, have, len, .. } => {
                bytes.resize((*len).min(*have + AHEAD_BYTES_MAX), 0);
                bytes.get_mut(*have..).unwrap_or_default()
            }
            Input::Fds { .. } => &mut [],
        }
    }

    /// The first `count` bytes of [`Connection::space`] have been filled. Gives the message if
    /// that completes it; from then on nothing is wanted until it is answered or dropped.
    ///
    /// # Errors
    /// A [`Violation`]; fds that arrived with the message are closed with the connection.
    pub fn filled(&mut self, count: usize) -> Result<Option<Message>, Violation> {
        match &mut self.input {
            Input::Head { bytes, have } => {
                *have = HEADER_BYTES.min(*have + count);
                let bytes = bytes.get(..*have).unwrap_or_default();
                let Some(input) = Input::after_head(bytes)? else { return Ok(None) };
                self.input = input;
            }
            Input::Body { have, .. } => *have += count,
            Input::Fds { .. } => {}
        }
        self.advance()
    }

    /// The byte that should carry an fd has been read; `fds` is what came with it.
    ///
    /// # Errors
    /// [`Violation::Fd`] when that was not exactly one.
    pub fn received_fd(&mut self, mut fds: Vec<OwnedFd>) -> Result<Option<Message>, Violation> {
        let Input::Fds { message, missing } = &mut self.input else { return Ok(None) };
        let (Some(fd), true) = (fds.pop(), fds.is_empty()) else { return Err(Violation::Fd) };
        message.fds.push(fd);
        *missing -= 1;
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
        match (output.unsent_bytes(), output.fds.front()) {
            ([], Some(fd)) => Some(Unsent::Fd(fd.as_fd())),
            ([], None) => None,
            (bytes, _) => Some(Unsent::Bytes(bytes)),
        }
    }

    /// The first `count` bytes of what [`Connection::unsent`] gave were written. The byte of an
    /// fd counts as one, and closes our copy of it.
    pub fn sent(&mut self, count: usize) {
        let Some(output) = &mut self.output else { return };
        if output.unsent_bytes().is_empty() {
            output.fds.pop_front();
        } else {
            output.sent += count;
        }
        if output.unsent_bytes().is_empty() && output.fds.is_empty() {
            self.output = None;
        }
    }

    /// What is half done.
    #[must_use]
    pub fn buffered(&self) -> Buffered<'_> {
        let mut buffered = Buffered::default();
        match &self.input {
            Input::Head { bytes, have } => {
                buffered.input = bytes.get(..*have).unwrap_or_default().to_vec();
            }
            Input::Body { header, bytes, have, len } => {
                buffered.input = header.announcing(*len);
                buffered.input.extend(bytes.get(..*have).unwrap_or_default());
            }
            Input::Fds { message, missing } => {
                let count = u32::try_from(message.fds.len() + missing).unwrap_or(u32::MAX);
                buffered.input =
                    message.header.announcing(message.payload.len() + size_of::<u32>());
                buffered.input.extend(count.to_be_bytes());
                buffered.input.extend(&message.payload);
                buffered.input_fds = message.fds.iter().map(AsFd::as_fd).collect();
            }
        }
        if let Some(output) = &self.output {
            buffered.output = output.unsent_bytes().to_vec();
            buffered.output_fds = output.fds.iter().map(AsFd::as_fd).collect();
        }
        buffered
    }

    /// Takes up what a predecessor of this process held.
    ///
    /// # Errors
    /// A [`Violation`]: it is no beginning of one message. The fds are closed.
    pub fn resume(
        (mut input, input_fds): (Vec<u8>, Vec<OwnedFd>),
        (output, output_fds): (Vec<u8>, Vec<OwnedFd>),
    ) -> Result<Self, Violation> {
        let mut connection = Self::new();
        while !input.is_empty() && connection.wants() == Want::Bytes {
            let space = connection.space();
            let count = space.len().min(input.len());
            for (to, from) in space.iter_mut().zip(input.drain(..count)) {
                *to = from;
            }
            if connection.filled(count)?.is_some() {
                return Err(Violation::Resumed);
            }
        }
        for fd in input_fds {
            if connection.received_fd(vec![fd])?.is_some() {
                return Err(Violation::Resumed);
            }
        }
        if !output.is_empty() || !output_fds.is_empty() {
            connection.output = Some(Outgoing::new(output, output_fds));
        }
        Ok(connection)
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

    /// Feeds bytes in pieces of `step`; gives the messages and how many bytes were taken.
    fn feed(
        connection: &mut Connection,
        mut bytes: &[u8],
        step: usize,
    ) -> Result<Option<Message>, Violation> {
        while !bytes.is_empty() && connection.wants() == Want::Bytes {
            let space = connection.space();
            let count = space.len().min(step).min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if let Some(message) = connection.filled(count)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn null_fd() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_message_is_the_same_in_any_pieces() {
        let bytes = CALL.message(b"12345678");
        for step in [1, 3, 28, 100] {
            let message = feed(&mut Connection::new(), &bytes, step).unwrap().unwrap();
            assert_eq!((message.header, &message.payload[..]), (CALL, &b"12345678"[..]));
        }
    }

    #[test]
    fn nothing_is_read_past_a_message_nor_while_it_is_in_flight() {
        let mut connection = Connection::new();
        let two = [CALL.message(b"1234"), CALL.message(b"5678")].concat();
        feed(&mut connection, &two, 1000).unwrap().unwrap();
        assert_eq!(connection.wants(), Want::Nothing);
        connection.answer(Outgoing::new(b"answer".to_vec(), Vec::new()));
        assert_eq!(connection.wants(), Want::Nothing);
        connection.sent(2);
        assert!(matches!(connection.unsent(), Some(Unsent::Bytes(b"swer"))));
        connection.sent(4);
        assert_eq!(connection.wants(), Want::Bytes);
        assert!(!connection.is_mid_message());
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
        let header = Header { kind: kind::CALL_WITH_FDS, ..CALL };
        let mut connection = Connection::new();
        assert!(feed(&mut connection, &header.message(&[0, 0, 0, 2, 9]), 9).unwrap().is_none());
        assert_eq!(connection.wants(), Want::Fd);
        assert!(connection.received_fd(vec![null_fd()]).unwrap().is_none());
        let message = connection.received_fd(vec![null_fd()]).unwrap().unwrap();
        assert_eq!((message.fds.len(), &message.payload[..]), (2, &[9][..]));
    }

    #[test]
    fn a_bad_count_of_fds_or_a_byte_without_one_ends_the_connection() {
        let header = Header { kind: kind::CALL_WITH_FDS, ..CALL };
        for payload in [&[][..], &[0, 0, 0][..], &[0, 0, 0, 33][..]] {
            let result = feed(&mut Connection::new(), &header.message(payload), 99);
            assert_eq!(result.unwrap_err(), Violation::FdCount);
        }
        for fds in [Vec::new(), vec![null_fd(), null_fd()]] {
            let mut connection = Connection::new();
            feed(&mut connection, &header.message(&[0, 0, 0, 1]), 99).unwrap();
            assert_eq!(connection.received_fd(fds).unwrap_err(), Violation::Fd);
        }
    }

    #[test]
    fn a_message_is_resumed_at_every_byte_and_fd() {
        let header = Header { kind: kind::CALL_WITH_FDS, ..CALL };
        let bytes = header.message(&[0, 0, 0, 2, 9, 8, 7]);
        for split in 0..=bytes.len() {
            for fds in 0..=usize::from(split == bytes.len()) {
                let mut first = Connection::new();
                feed(&mut first, &bytes[..split], 1).unwrap();
                for _ in 0..fds {
                    first.received_fd(vec![null_fd()]).unwrap();
                }
                let buffered = first.buffered();
                assert_eq!(buffered.is_empty(), split == 0);
                let input_fds = buffered.input_fds.iter().map(|_| null_fd()).collect();
                let mut second =
                    Connection::resume((buffered.input, input_fds), Default::default()).unwrap();
                feed(&mut second, &bytes[split..], 99).unwrap();
                let last = (fds..2).map(|_| second.received_fd(vec![null_fd()]).unwrap()).last();
                let message = last.unwrap().unwrap();
                assert_eq!((&message.payload[..], message.fds.len()), (&[9, 8, 7][..], 2));
            }
        }
    }

    #[test]
    fn an_answer_is_resumed() {
        let mut first = Connection::new();
        first.answer(Outgoing::new(b"abcd".to_vec(), vec![null_fd()]));
        first.sent(3);
        let Buffered { output, output_fds, .. } = first.buffered();
        assert_eq!((&output[..], output_fds.len()), (&b"d"[..], 1));
        let mut second = Connection::resume(Default::default(), (output, vec![null_fd()])).unwrap();
        assert_eq!(second.wants(), Want::Nothing);
        second.sent(1);
        assert!(matches!(second.unsent(), Some(Unsent::Fd(_))));
    }

    #[test]
    fn an_answers_fds_follow_its_bytes() {
        let mut connection = Connection::new();
        connection.answer(Outgoing::new(b"abcd".to_vec(), vec![null_fd()]));
        connection.sent(4);
        assert!(matches!(connection.unsent(), Some(Unsent::Fd(_))));
        connection.sent(1);
        assert!(connection.unsent().is_none());
        assert_eq!(connection.wants(), Want::Bytes);
    }
}
