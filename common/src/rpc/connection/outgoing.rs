//! Outgoing messages.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::rpc::header::{Front, Header};

/// An outgoing message, with the fds that follow it one by one.
#[derive(Debug)]
pub struct Outgoing {
    pub(super) front: Front,
    pub(super) payload: Vec<u8>,
    /// Bytes of both parts that were sent.
    pub(super) sent: usize,
    pub(super) fds: VecDeque<OwnedFd>,
}

impl Outgoing {
    pub(in crate::rpc) fn new(header: &Header, payload: Vec<u8>, fds: Vec<OwnedFd>) -> Self {
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

    pub(super) fn is_sent_but_for_fds(&self) -> bool {
        self.sent >= self.front.bytes().len() + self.payload.len()
    }
}

/// Data to be written next.
#[derive(Debug)]
pub enum Unsent<'a> {
    /// Two slices, one behind the other; at most one is empty.
    Bytes([&'a [u8]; 2]),
    /// A zero byte that carries this fd.
    Fd(BorrowedFd<'a>),
}
