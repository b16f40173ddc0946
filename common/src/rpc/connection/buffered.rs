//! Buffered data of a connection, which a successor of this process continues with.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::header::Front;
use super::{Connection, Input, Outgoing, Piece, Violation};

/// Partial messages.
#[derive(Debug, Default)]
pub struct Buffered<'a> {
    /// Beginning of a message.
    pub input: Side<BorrowedFd<'a>>,
    /// Input behind a message that is not answered yet.
    pub ahead: Side<BorrowedFd<'a>>,
    /// Rest of an answer.
    pub output: Side<BorrowedFd<'a>>,
}

/// Bytes, and the fds that go with them.
#[derive(Debug)]
pub struct Side<F> {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The fds.
    pub fds: Vec<F>,
}

impl<F> Default for Side<F> {
    fn default() -> Self {
        Self { bytes: Vec::new(), fds: Vec::new() }
    }
}

impl Connection {
    /// Returns the partial messages.
    #[must_use]
    pub fn buffered(&self) -> Buffered<'_> {
        let mut buffered = Buffered {
            ahead: Side { bytes: self.ahead.bytes.clone(), fds: borrow(&self.ahead.fds) },
            ..Buffered::default()
        };
        match &self.input {
            Input::Head { bytes, have } => {
                buffered.input.bytes = bytes.get(..*have).unwrap_or_default().to_vec();
            }
            Input::Body { header, bytes, have, len } => {
                let front = header.front(*len, 0);
                let body = bytes.get(..*have).unwrap_or_default();
                buffered.input.bytes = [front.bytes(), body].concat();
            }
            Input::Fds { message, missing } => {
                let front =
                    message.header.front(message.payload.len(), message.fds.len() + missing);
                buffered.input.bytes = [front.bytes(), &message.payload].concat();
                buffered.input.fds = borrow(&message.fds);
            }
        }
        if let Some(output) = &self.output {
            buffered.output.bytes = output.unsent_bytes().concat();
            buffered.output.fds = output.fds.iter().map(AsFd::as_fd).collect();
        }
        buffered
    }

    /// Continues with a predecessor's partial messages.
    ///
    /// # Errors
    /// A [`Violation`]: the input is no beginning of one message. All fds are closed.
    pub fn restore(
        input: Side<OwnedFd>,
        ahead: Side<OwnedFd>,
        output: Side<OwnedFd>,
    ) -> Result<Self, Violation> {
        let mut connection = Self::new();
        let mut pieces = vec![(input.bytes, Vec::new())];
        // Each fd has come with a byte of its own.
        pieces.extend(input.fds.into_iter().map(|fd| (vec![0], vec![fd])));
        for (bytes, fds) in pieces {
            if connection.received(&bytes, fds)?.is_some() {
                return Err(Violation::HandedOver);
            }
        }
        connection.ahead = Piece { bytes: ahead.bytes, fds: ahead.fds };
        if !output.bytes.is_empty() || !output.fds.is_empty() {
            connection.output = Some(Outgoing {
                front: Front::none(),
                payload: output.bytes,
                sent: 0,
                fds: output.fds.into(),
            });
        }
        Ok(connection)
    }
}

fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests;
