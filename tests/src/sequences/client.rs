//! A client of a daemon: sends whatever it is told, and takes apart whatever comes back.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::message::Sendable;
use crate::wire::{Frame, HEADER_BYTES, Header, Reader, kind, receive_now, send_fds};

/// Fds that go with one byte, at the most.
const FDS_MAX: usize = 4;

/// Bytes that are received at once, at the most.
const RECEIVED_BYTES_MAX: usize = 8_192;

/// The largest length word that a daemon could mean.
const LENGTH_MAX: usize = 33_554_436;

/// Answer of a daemon.
#[derive(Debug)]
pub(super) enum Received {
    /// A whole message.
    Message(Frame),
    /// Bytes that are none.
    Garbage(Vec<u8>),
    /// The daemon has closed the connection.
    Closed,
}

/// A connection and what is under way on it.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    /// Begin of a message that is not whole yet.
    bytes: Vec<u8>,
    /// Fds by the place of their byte among those.
    fds: VecDeque<(usize, OwnedFd)>,
    /// Rest of a message that has not been sent.
    rest: Sendable,
    is_closed: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        let bytes = Vec::new();
        let fds = VecDeque::new();
        Self { stream, bytes, fds, rest: Sendable::default(), is_closed: false }
    }

    /// Whether the daemon has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether something comes in this time.
    pub(super) fn is_readable_within(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).expect("a short time");
        poll(&mut fds, timeout).expect("polling a socket") > 0
    }

    /// Bytes and fds that are no whole message yet.
    pub(super) fn leftover(&self) -> (usize, usize) {
        (self.bytes.len(), self.fds.len())
    }

    /// Sends a message, or so many bytes of it.
    pub(super) fn send(&mut self, mut sendable: Sendable, bytes: Option<usize>) {
        let at_once = bytes.unwrap_or(usize::MAX).min(sendable.bytes.len());
        let rest = sendable.bytes.split_off(at_once);
        self.send_bytes(&sendable.bytes);
        self.rest = Sendable { bytes: rest, fds: sendable.fds };
        if bytes.is_none() {
            self.send_rest();
        }
    }

    /// Sends what is left of a message.
    pub(super) fn send_rest(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        self.send_bytes(&rest.bytes);
        let null = File::open("/dev/null").expect("opening /dev/null");
        for count in rest.fds {
            let fds: [BorrowedFd<'_>; FDS_MAX] = [null.as_fd(); FDS_MAX];
            // A daemon may have closed the connection.
            send_fds(&self.stream, &[0], &fds[..count]).ok();
        }
    }

    /// Ends the sending direction.
    pub(super) fn half_close(&self) {
        // A daemon may have closed the connection.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Takes what has come until now.
    pub(super) fn receive(&mut self) -> Vec<Received> {
        let mut buffer = [0; RECEIVED_BYTES_MAX];
        let mut received = Vec::new();
        while !self.is_closed {
            match receive_now(&self.stream, &mut buffer) {
                Ok(None) => break,
                Ok(Some((0, _))) | Err(_) => self.is_closed = true,
                Ok(Some((count, fds))) => {
                    let place = self.bytes.len();
                    self.bytes.extend(&buffer[..count]);
                    self.fds.extend(fds.into_iter().map(|fd| (place, fd)));
                }
            }
        }
        while let Some(one) = self.next() {
            received.push(one);
        }
        if self.is_closed {
            received.push(Received::Closed);
        }
        received
    }

    /// What a daemon does not take, because it has closed the connection, is lost.
    fn send_bytes(&mut self, bytes: &[u8]) {
        let written: io::Result<()> = self.stream.write_all(bytes);
        written.ok();
    }

    fn next(&mut self) -> Option<Received> {
        let word = self.bytes.get(..4)?;
        let length = usize::try_from(Reader::new(word).u32()).expect("a length fits usize");
        if !(HEADER_BYTES..=LENGTH_MAX).contains(&length) {
            return Some(self.garbage());
        }
        let mut reader = Reader::new(self.bytes.get(4..length)?);
        let header = Header {
            prog: reader.u32(),
            vers: reader.u32(),
            procedure: reader.i32(),
            kind: reader.u32(),
            serial: reader.u32(),
            status: reader.u32(),
        };
        let has_fds = header.kind == kind::REPLY_WITH_FDS && length >= HEADER_BYTES + 4;
        let count = if has_fds { usize::try_from(reader.u32()).unwrap_or(0) } else { 0 };
        if self.bytes.len() < length + count {
            return None;
        }
        let bytes: Vec<u8> = self.bytes.drain(..length + count).collect();
        let payload = bytes[HEADER_BYTES + if has_fds { 4 } else { 0 }..length].to_vec();
        let fds = self.fds_before(length + count);
        Some(Received::Message(Frame { header, payload, fds, bytes }))
    }

    /// Those whose bytes have been taken.
    fn fds_before(&mut self, end: usize) -> Vec<OwnedFd> {
        let mut fds = Vec::new();
        while self.fds.front().is_some_and(|(place, _)| *place < end) {
            fds.extend(self.fds.pop_front().map(|(_, fd)| fd));
        }
        self.fds.iter_mut().for_each(|(place, _)| *place -= end);
        fds
    }

    fn garbage(&mut self) -> Received {
        self.fds.clear();
        Received::Garbage(std::mem::take(&mut self.bytes))
    }
}
