//! A connected client: its socket, its stream's state and its call in flight.

mod closed;
mod input;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use nix::errno::Errno;

use super::caller::{Caller, ClientId};
use crate::event::{Interest, Registered};
use crate::fd_store::pending_reply::PendingReply;
use crate::fd_store::reply_record::ReplyRecord;
use crate::rpc::connection::{Outgoing, Unsent};
use crate::rpc::program::ReplyTo;
use crate::rpc::{self, Connection, Reply};
use crate::sys::socket::{self, Peer};
use crate::sys::{pidfd, process};
pub(super) use closed::Closed;
use closed::attempt;

#[derive(Debug)]
pub(super) struct Client {
    id: ClientId,
    peer: Peer,
    connected_at: SystemTime,
    socket: Registered<UnixStream>,
    connection: Connection,
    /// Key in the fd store, and the record of a pending reply.
    stored: Option<(u64, Option<ReplyRecord>)>,
    in_flight: Option<ReplyTo>,
    /// The call in flight, until its answer is sent.
    unanswered: Option<ReplyTo>,
    close_when_sent: bool,
    waits_for_space: bool,
    /// There may be unread input.
    may_have_input: bool,
    /// End of input was reported; only reading finds it.
    is_ending: bool,
    /// Bytes of its messages at the last count.
    pub(super) counted_bytes: usize,
}

impl Client {
    pub(super) fn new(id: ClientId, peer: Peer, socket: Registered<UnixStream>) -> Self {
        Self {
            id,
            peer,
            connected_at: SystemTime::now(),
            socket,
            connection: Connection::new(),
            stored: None,
            in_flight: None,
            unanswered: None,
            close_when_sent: false,
            waits_for_space: false,
            may_have_input: true,
            is_ending: false,
            counted_bytes: 0,
        }
    }

    /// Adopts a client of a predecessor, with its half-read and half-sent messages.
    pub(super) fn adopted(
        id: ClientId,
        peer: Peer,
        socket: Registered<UnixStream>,
        connected_at: SystemTime,
        connection: Connection,
    ) -> Self {
        Self { connected_at, connection, ..Self::new(id, peer, socket) }
    }

    pub(super) fn id(&self) -> ClientId {
        self.id
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the client's key in the fd store.
    pub(super) fn key(&self) -> Option<u64> {
        self.stored.as_ref().map(|(key, _)| *key)
    }

    /// Sets the client's key in the fd store.
    pub(super) fn set_key(&mut self, key: u64, record: Option<ReplyRecord>) {
        self.stored = Some((key, record));
        self.note(self.pending_reply());
    }

    /// Clears the key: the client is not in the fd store any more.
    pub(super) fn clear_key(&mut self) {
        self.stored = None;
    }

    /// Returns whether a call waits for its answer.
    pub(super) fn has_call_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn caller(&self) -> Caller {
        Caller { client: self.id, peer: self.peer }
    }

    pub(super) fn connected_at_s(&self) -> i64 {
        let since_epoch = self.connected_at.duration_since(SystemTime::UNIX_EPOCH);
        since_epoch.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
    }

    pub(super) fn label(&self) -> Option<String> {
        socket::peer_label(&self.socket)
    }

    pub(super) fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        socket::peer_pidfd(&self.socket)
    }

    /// Returns whether the client's process has ended. Where there are no pidfds, a zombie counts
    /// as alive until it is reaped.
    pub(super) fn peer_has_ended(&self) -> bool {
        match self.peer_pidfd() {
            Ok(pidfd) => pidfd::has_ended(pidfd),
            Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => true,
            Err(_) => self.peer.pid > 0 && !process::exists(self.peer.pid),
        }
    }

    pub(super) fn has_hung_up(&self) -> bool {
        socket::has_hung_up(&self.socket)
    }

    /// Marks the socket as readable or writable.
    pub(super) fn ready(&mut self) {
        self.may_have_input = true;
    }

    /// Marks the input as ending behind what can be read now.
    pub(super) fn ending(&mut self) {
        self.is_ending = true;
    }

    /// Records which call the next answer belongs to.
    pub(super) fn begin(&mut self, reply_to: ReplyTo) {
        self.in_flight = Some(reply_to);
        self.unanswered = Some(reply_to);
        self.note(self.pending_reply());
    }

    /// Answers the call in flight, if any.
    pub(super) fn answer(&mut self, result: Result<Reply, rpc::Error>) {
        if let Some(reply_to) = self.in_flight.take() {
            if let Err(error) = &result {
                tracing::debug!(target: "rpc.netserverclient", "{}: {}", self.id, error.message());
            }
            self.connection.answer(reply_to.answer(result));
        }
    }

    /// Queues a message that needs no handler.
    pub(super) fn send(&mut self, message: Outgoing) {
        self.connection.answer(message);
    }

    /// Finishes a message that was dropped.
    pub(super) fn dropped(&mut self) {
        self.connection.dropped();
    }

    /// Closes the connection once everything is sent; reads nothing more from it.
    pub(super) fn close_when_sent(&mut self) {
        self.close_when_sent = true;
    }

    /// Shuts the connection down in all processes that have it open.
    pub(super) fn shut_down(&self) {
        // Fails only when the other end has gone.
        self.socket.shutdown(std::net::Shutdown::Both).ok();
    }

    /// Writes what is queued. Returns whether all of it is sent.
    pub(super) fn flush(&mut self) -> Result<bool, Closed> {
        while let Some(unsent) = self.connection.unsent() {
            let sent = attempt(|| match unsent {
                Unsent::Bytes(parts) => socket::send(&self.socket, parts),
                Unsent::Fd(fd) => socket::send_fd(&self.socket, fd).map(|()| 1),
            })?;
            match sent {
                Some(count) => self.connection.sent(count),
                None => return self.wait_for_space(true).map(|()| false),
            }
        }
        if self.close_when_sent && self.in_flight.is_none() {
            return Err(Closed::Asked);
        }
        if self.in_flight.is_none() && self.unanswered.take().is_some() {
            self.note(self.pending_reply());
        }
        self.wait_for_space(false)?;
        Ok(true)
    }

    fn pending_reply(&self) -> PendingReply {
        match self.unanswered {
            _ if self.connection.has_read_on() => PendingReply::Unknown,
            Some(reply_to) => PendingReply::Answer(reply_to),
            None => PendingReply::Nothing,
        }
    }

    /// Records a pending reply, if the client is in the fd store.
    fn note(&mut self, pending: PendingReply) {
        if let Some((_, Some(record))) = &mut self.stored {
            record.note(pending);
        }
    }

    /// Asks for writable events only while output is queued; otherwise each answer would cause two
    /// wake-ups.
    fn wait_for_space(&mut self, wait: bool) -> Result<(), Closed> {
        if wait != self.waits_for_space {
            let interest = if wait { Interest::ReadWrite } else { Interest::Read };
            self.socket.set_interest(interest).map_err(Closed::Io)?;
            self.waits_for_space = wait;
        }
        Ok(())
    }
}
