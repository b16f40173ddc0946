//! Assembly of incoming messages.

use std::os::fd::OwnedFd;

use thiserror::Error;

use crate::rpc::header::{HEADER_BYTES, Header, MESSAGE_BYTES_MAX, MESSAGE_FDS_MAX, kind};
use crate::xdr::Reader;

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

#[derive(Debug)]
pub(super) enum Input {
    Head { bytes: [u8; HEADER_BYTES], have: usize },
    Body { header: Header, bytes: Vec<u8>, have: usize, len: usize },
    Fds { message: Message, missing: usize },
}

pub(super) enum Progress {
    Message(Message),
    Unfinished(Input),
}

impl Input {
    pub(super) fn start() -> Self {
        Self::Head { bytes: [0; HEADER_BYTES], have: 0 }
    }

    /// Takes what it lacks from the front of `bytes`, at least one, and returns the rest.
    pub(super) fn take<'a>(
        &mut self,
        bytes: &'a [u8],
        fds: &mut Vec<OwnedFd>,
    ) -> Result<&'a [u8], Violation> {
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

    pub(super) fn complete(self) -> Result<Progress, Violation> {
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
