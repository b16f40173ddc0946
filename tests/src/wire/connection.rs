//! One connection to a daemon's socket: whole messages, single bytes, descriptors, silence.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{HEADER_BYTES, RpcError, Writer, fd, kind, status};

/// How long an answer may take before the test fails; generous, as machines are slow at times.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// The six words behind the length word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub struct Header {
    pub prog: u32,
    pub vers: u32,
    pub procedure: i32,
    pub kind: u32,
    pub serial: u32,
    pub status: u32,
}

impl Header {
    /// A CALL of version 1 with serial 1.
    pub fn call(prog: u32, procedure: i32) -> Self {
        Self { prog, vers: 1, procedure, kind: kind::CALL, serial: 1, status: status::OK }
    }

    /// The whole message with this header.
    pub fn message(&self, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + payload.len()).expect("a message fits 32 bits");
        let mut bytes = Writer::new()
            .u32(length)
            .u32(self.prog)
            .u32(self.vers)
            .u32(self.procedure.cast_unsigned())
            .u32(self.kind)
            .u32(self.serial)
            .u32(self.status)
            .into_bytes();
        bytes.extend(payload);
        bytes
    }
}

/// One message from the daemon.
#[derive(Debug)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// What follows the header, without the count of descriptors.
    pub payload: Vec<u8>,
    /// Descriptors that followed the message.
    pub fds: Vec<OwnedFd>,
    /// The message as it was on the wire, length word included.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The payload, or the error object when the status is ERROR.
    pub fn into_result(self) -> Reply {
        match self.header.status {
            status::OK => Ok((self.payload, self.fds)),
            status::ERROR => Err(RpcError::decode(&self.payload)),
            other => panic!("a reply with status {other}"),
        }
    }
}

/// The payload and descriptors of an answer, or the error object in their place.
pub type Reply = Result<(Vec<u8>, Vec<OwnedFd>), RpcError>;

/// What came back on a connection.
#[derive(Debug)]
pub enum Answer {
    /// A whole message.
    Message(Frame),
    /// The daemon has closed the connection (end of file or reset).
    Closed,
    /// Nothing came within the time allowed.
    Silence,
}

impl Answer {
    /// The message, or a failed test.
    pub fn message(self) -> Frame {
        match self {
            Self::Message(frame) => frame,
            other => panic!("a message was expected, not {other:?}"),
        }
    }
}

/// A client's end of the socket.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    serial: u32,
}

impl Connection {
    /// Connects to the socket at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::from(UnixStream::connect(path)?))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends as many of the bytes as the socket takes at once; 0 when it takes none.
    pub fn send_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let sent = self.stream.write(bytes);
        self.stream.set_nonblocking(false)?;
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        }
    }

    /// Sends each descriptor as libvirt does: one zero byte with one control message each.
    pub fn send_fds(&mut self, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        fds.iter().try_for_each(|&fd| self.send_beside(&[0], &[fd]))
    }

    /// Sends bytes with any number of descriptors in one control message.
    pub fn send_beside(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let sent = fd::send(&self.stream, bytes, fds)?;
        assert_eq!(sent, bytes.len(), "a short send");
        Ok(())
    }

    /// Ends our sending direction.
    pub fn half_close(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Hangs up, and waits until the daemon has closed its end.
    pub fn hang_up(mut self) -> io::Result<()> {
        self.half_close()?;
        match self.answer() {
            Answer::Closed => Ok(()),
            other => panic!("the end was expected, not {other:?}"),
        }
    }

    /// Sends a CALL and waits for its answer, which must repeat the call's serial.
    pub fn call(&mut self, prog: u32, procedure: i32, payload: &[u8]) -> Reply {
        self.try_call(prog, procedure, payload).expect("every call is answered")
    }

    /// [`Self::call`] of a daemon that may be killed before it has answered, or in between.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn try_call(&mut self, prog: u32, procedure: i32, payload: &[u8]) -> io::Result<Reply> {
        self.serial += 1;
        let header = Header { serial: self.serial, ..Header::call(prog, procedure) };
        self.send(&header.message(payload))?;
        let frame = match self.try_answer_within(ANSWER_DEADLINE)? {
            Answer::Closed => return Err(ErrorKind::UnexpectedEof.into()),
            answer => answer.message(),
        };
        let fd_reply = Header { kind: kind::REPLY_WITH_FDS, ..frame.header };
        let plain_reply = Header { kind: kind::REPLY, ..frame.header };
        assert!([fd_reply, plain_reply].contains(&frame.header), "no reply: {:?}", frame.header);
        assert_eq!(
            Header { kind: kind::CALL, status: status::OK, ..frame.header },
            header,
            "a reply repeats its call's header"
        );
        Ok(frame.into_result())
    }

    /// Waits for whatever comes next.
    pub fn answer(&mut self) -> Answer {
        self.answer_within(ANSWER_DEADLINE)
    }

    /// Waits at most `patience` for the first byte of whatever comes next.
    pub fn answer_within(&mut self, patience: Duration) -> Answer {
        self.try_answer_within(patience).expect("a whole message")
    }

    fn try_answer_within(&mut self, patience: Duration) -> io::Result<Answer> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut word = [0; 4];
        let first = loop {
            match self.stream.read(&mut word[..1]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                first => break first,
            }
        };
        match first {
            Ok(0) => return Ok(Answer::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Answer::Closed),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Answer::Silence),
            Err(error) => return Err(error),
        }
        self.stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        self.stream.read_exact(&mut word[1..])?;
        Ok(Answer::Message(self.rest_of_message(word)?))
    }

    /// Receives one byte and the descriptors beside it; `None` when the daemon has closed.
    pub fn byte_with_fds(&mut self) -> Option<(u8, Vec<OwnedFd>)> {
        fd::receive(&self.stream).expect("receiving a byte with descriptors")
    }

    fn rest_of_message(&mut self, word: [u8; 4]) -> io::Result<Frame> {
        let length = usize::try_from(u32::from_be_bytes(word)).expect("a length fits usize");
        assert!(length >= HEADER_BYTES, "a message of {length} bytes");
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(&word);
        self.stream.read_exact(&mut bytes[4..])?;
        let header = parse_header(&bytes);
        let mut payload = bytes[HEADER_BYTES..].to_vec();
        let fds = match header.kind {
            kind::REPLY_WITH_FDS => self.fds_behind(&mut payload)?,
            _ => Vec::new(),
        };
        Ok(Frame { header, payload, fds, bytes })
    }

    fn fds_behind(&mut self, payload: &mut Vec<u8>) -> io::Result<Vec<OwnedFd>> {
        let count = super::Reader::new(&payload[..4]).u32();
        payload.drain(..4);
        (0..count)
            .map(|_| {
                let received = fd::receive(&self.stream)?;
                let (byte, mut fds) = received.ok_or(ErrorKind::UnexpectedEof)?;
                assert_eq!((byte, fds.len()), (0, 1), "one zero byte with one descriptor");
                Ok(fds.remove(0))
            })
            .collect()
    }
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Self { stream, serial: 0 }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn parse_header(bytes: &[u8]) -> Header {
    let mut reader = super::Reader::new(&bytes[4..HEADER_BYTES]);
    Header {
        prog: reader.u32(),
        vers: reader.u32(),
        procedure: reader.i32(),
        kind: reader.u32(),
        serial: reader.u32(),
        status: reader.u32(),
    }
}
