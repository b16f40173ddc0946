//! A client's stream, and what a daemon has to make of it: a reference that knows nothing of
//! buffers.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use common::rpc::connection::{Connection, Message, READ_BYTES_MAX, Side, Want};
use common::rpc::header::{HEADER_BYTES, MESSAGE_BYTES_MAX, MESSAGE_FDS_MAX, kind};

use super::input::Input;

/// Bytes that a client passes to the kernel at once, with fds on the first of them.
pub(crate) struct Piece {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A client's stream, as the kernel gives it.
#[derive(Default)]
pub(crate) struct Stream {
    pieces: std::collections::VecDeque<Piece>,
}

/// A message, with its fds as the inodes behind them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) words: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<u64>,
}

impl Stream {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Sends a message, mostly a sound one.
    pub(crate) fn send(&mut self, input: &mut Input<'_>) {
        let shape = input.byte();
        let fd_count = if shape & 1 == 1 { usize::from(input.byte() % 40) } else { 0 };
        let kind = if shape & 1 == 1 { kind::CALL_WITH_FDS } else { (shape >> 1 & 7).into() };
        let mut payload = input.bytes().to_vec();
        if shape & 0x10 != 0 {
            payload.resize(payload.len() + usize::from(input.u16()) % 5000, shape);
        }
        let count = u32::try_from(fd_count).unwrap_or(0).to_be_bytes();
        let count: &[u8] = if kind == kind::CALL_WITH_FDS { &count } else { &[] };
        let len = u32::try_from(HEADER_BYTES + count.len() + payload.len()).unwrap_or(0);
        let len = if shape & 0x20 != 0 { len ^ u32::from(input.byte()) } else { len };
        let words = [len, input.u32(), 1, u32::from(input.byte()), kind.cast_unsigned(), 7, 0];
        let words: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        let early = if shape & 0x40 != 0 { usize::from(input.byte() % 3) } else { 0 };
        self.push([&words, count, &payload].concat(), early);
        for _ in 0..fd_count {
            let odd = if shape & 0x80 != 0 { input.byte() } else { 0 };
            match odd & 3 {
                0 | 1 => self.push(vec![0], 1),
                2 => self.push(vec![0; usize::from(odd >> 4)], usize::from(odd >> 2 & 3)),
                _ => self.push(vec![0; 2], 1),
            }
        }
    }

    /// Sends bytes, of whatever meaning.
    pub(crate) fn push(&mut self, bytes: Vec<u8>, fd_count: usize) {
        if !bytes.is_empty() {
            let fds = (0..fd_count).map(|_| an_fd()).collect();
            self.pieces.push_back(Piece { bytes, fds });
        }
    }

    /// Reads as `recvmsg(2)` does: over pieces without fds, and never beyond one with fds.
    fn receive(&mut self, len_max: usize) -> (Vec<u8>, Vec<OwnedFd>) {
        let (mut bytes, mut fds) = (Vec::new(), Vec::new());
        while bytes.len() < len_max && fds.is_empty() {
            let Some(piece) = self.pieces.front_mut() else { break };
            let count = piece.bytes.len().min(len_max - bytes.len());
            bytes.extend(piece.bytes.drain(..count));
            fds.append(&mut piece.fds);
            if piece.bytes.is_empty() {
                self.pieces.pop_front();
            }
        }
        (bytes, fds)
    }
}

/// The reference: it looks at each byte alone.
#[derive(Default)]
pub(crate) struct Reference {
    bytes: Vec<u8>,
    fds: Vec<u64>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) is_violated: bool,
}

impl Reference {
    fn read(&mut self, bytes: &[u8], fds: &[OwnedFd]) {
        let mut pending: Vec<_> = fds.iter().map(inode).collect();
        for &byte in bytes {
            if !self.is_violated {
                self.take(byte, &mut pending);
            }
        }
    }

    fn take(&mut self, byte: u8, pending: &mut Vec<u64>) {
        let word = |at: usize| {
            self.bytes.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().unwrap()))
        };
        let len = word(0).map(|len| len as usize);
        if len.is_some_and(|len| self.bytes.len() == len) {
            // The message is complete but for its fds.
            if pending.len() != 1 {
                self.is_violated = true;
                return;
            }
            self.fds.append(pending);
        } else {
            self.bytes.push(byte);
        }
        self.look();
    }

    fn look(&mut self) {
        let word = |at: usize| {
            self.bytes.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().unwrap()))
        };
        let Some(len) = word(0) else { return };
        let len = len as usize;
        if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&len) {
            self.is_violated = true;
            return;
        }
        if self.bytes.len() < len {
            return;
        }
        let has_fds = word(16) == Some(kind::CALL_WITH_FDS.cast_unsigned());
        let behind = if has_fds { HEADER_BYTES + 4 } else { HEADER_BYTES };
        let count = if has_fds { word(HEADER_BYTES).filter(|_| len >= behind) } else { Some(0) };
        let Some(count) = count.filter(|&count| count as usize <= MESSAGE_FDS_MAX) else {
            self.is_violated = true;
            return;
        };
        if self.fds.len() == count as usize {
            let words = self.bytes[4..HEADER_BYTES].to_vec();
            let payload = self.bytes[behind..].to_vec();
            self.seen.push(Seen { words, payload, fds: std::mem::take(&mut self.fds) });
            self.bytes.clear();
        }
    }
}

/// Reads what the connection wants, into it and into the reference. Returns a message, or whether
/// the connection has to be closed.
pub(crate) fn read(
    connection: &mut Connection,
    stream: &mut Stream,
    reference: &mut Reference,
    len_max: usize,
    only_rest: bool,
) -> Result<Option<Message>, ()> {
    match connection.wants() {
        Want::Nothing => Ok(None),
        Want::Body => {
            let space = connection.space();
            assert!(!space.is_empty(), "no room for what is wanted");
            let (bytes, _) = stream.receive(space.len().min(len_max));
            space[..bytes.len()].copy_from_slice(&bytes);
            // `read(2)` drops the fds.
            reference.read(&bytes, &[]);
            connection.filled(bytes.len()).map_err(drop)
        }
        Want::Anything => {
            let missing = if only_rest { connection.missing_bytes() } else { READ_BYTES_MAX };
            assert!(missing > 0, "a message that lacks nothing is complete");
            let (bytes, fds) = stream.receive(missing.min(READ_BYTES_MAX).min(len_max));
            reference.read(&bytes, &fds);
            let received = connection.received(&bytes, fds).map_err(drop);
            assert!(!only_rest || !matches!(received, Ok(Some(_))) || !connection.has_read_on());
            received
        }
    }
}

/// Passes a connection on to a successor, by what is in its buffers.
pub(crate) fn hand_over(connection: Connection) -> Connection {
    let buffered = connection.buffered();
    let side = |side: &Side<std::os::fd::BorrowedFd<'_>>| Side {
        bytes: side.bytes.clone(),
        fds: side.fds.iter().map(|fd| fd.try_clone_to_owned().expect("an fd")).collect(),
    };
    let sides = [&buffered.input, &buffered.ahead, &buffered.output].map(side);
    let is_mid_message = connection.is_mid_message();
    let missing_bytes = connection.missing_bytes();
    drop(buffered);
    drop(connection);
    let [input, ahead, output] = sides;
    let restored = Connection::restore(input, ahead, output).expect("what was saved is restored");
    assert_eq!(restored.is_mid_message(), is_mid_message);
    assert_eq!(restored.missing_bytes(), missing_bytes);
    restored
}

pub(crate) fn seen(message: &Message) -> Seen {
    let header = message.header;
    let words = [
        header.program,
        header.version,
        header.procedure.cast_unsigned(),
        header.kind.cast_unsigned(),
        header.serial,
        header.status,
    ];
    Seen {
        words: words.into_iter().flat_map(u32::to_be_bytes).collect(),
        payload: message.payload.clone(),
        fds: message.fds.iter().map(inode).collect(),
    }
}

pub(crate) fn inode(fd: impl AsFd) -> u64 {
    let file = File::from(fd.as_fd().try_clone_to_owned().expect("an fd"));
    file.metadata().expect("an open file").ino()
}

/// Returns an fd that differs from those before it by its inode.
pub(crate) fn an_fd() -> OwnedFd {
    nix::unistd::pipe().expect("a pipe").0
}
