//! One connected client: its socket, its stream's state, its call in flight.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use nix::errno::Errno;
use thiserror::Error;

use super::caller::{Caller, ClientId};
use crate::event::{Interest, Registered};
use crate::fd_store::pending_reply::PendingReply;
use crate::fd_store::reply_record::ReplyRecord;
use crate::rpc::connection::{Message, Outgoing, READ_BYTES_MAX, Unsent, Violation, Want};
use crate::rpc::program::ReplyTo;
use crate::rpc::{self, Connection, Reply};
use crate::sys::socket::{self, Peer, Received};
use crate::sys::{pidfd, process};

/// Why a client is let go.
#[derive(Debug, Error)]
pub(super) enum Closed {
    #[error("end of the stream")]
    End,
    #[error("end of the stream in the middle of a message")]
    EndMidMessage,
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error(transparent)]
    Io(io::Error),
    #[error("as it asked")]
    Asked,
    #[error("it cannot be handed over to libvirt's daemon")]
    Upgrade,
    #[error("of all that clients make this daemon hold, its {0} bytes are the most")]
    Memory(usize),
}

#[derive(Debug)]
pub(super) struct Client {
    id: ClientId,
    peer: Peer,
    connected_at: SystemTime,
    socket: Registered<UnixStream>,
    connection: Connection,
    /// Its key in the fd store, and where is noted what it is owed.
    kept: Option<(u64, Option<ReplyRecord>)>,
    in_flight: Option<ReplyTo>,
    /// The call in flight, or one whose answer is not sent.
    unanswered: Option<ReplyTo>,
    close_when_sent: bool,
    waits_for_space: bool,
    /// It is not known that there is nothing to read.
    may_have_input: bool,
    /// Its input has an end, of which nothing will tell but reading it.
    is_ending: bool,
    /// Bytes that its messages took when they were counted last.
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
            kept: None,
            in_flight: None,
            unanswered: None,
            close_when_sent: false,
            waits_for_space: false,
            may_have_input: true,
            is_ending: false,
            counted_bytes: 0,
        }
    }

    /// A client that a predecessor of this process has served, with what was half done.
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

    /// The key of what is kept of it in the fd store.
    pub(super) fn key(&self) -> Option<u64> {
        self.kept.as_ref().map(|(key, _)| *key)
    }

    /// It is kept under this key.
    pub(super) fn set_key(&mut self, key: u64, record: Option<ReplyRecord>) {
        self.kept = Some((key, record));
        self.note(self.pending_reply());
    }

    /// Nothing is kept of it.
    pub(super) fn clear_key(&mut self) {
        self.kept = None;
    }

    /// Whether a call of it waits for its answer.
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

    /// Whether the process that connected has ended; a zombie may be no more in a moment.
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

    /// The socket has something to read, or space.
    pub(super) fn ready(&mut self) {
        self.may_have_input = true;
    }

    /// Nothing will come behind what can be read now.
    pub(super) fn ending(&mut self) {
        self.is_ending = true;
    }

    /// Notes where the answer to the call that has just been read belongs.
    pub(super) fn begin(&mut self, reply_to: ReplyTo) {
        self.in_flight = Some(reply_to);
        self.unanswered = Some(reply_to);
        self.note(self.pending_reply());
    }

    /// Answers the call in flight, if there is one.
    pub(super) fn answer(&mut self, result: Result<Reply, rpc::Error>) {
        if let Some(reply_to) = self.in_flight.take() {
            if let Err(error) = &result {
                tracing::debug!(target: "rpc.netserverclient", "{}: {}", self.id, error.message());
            }
            self.connection.answer(reply_to.answer(result));
        }
    }

    /// Sends a message that needed no handler.
    pub(super) fn send(&mut self, message: Outgoing) {
        self.connection.answer(message);
    }

    /// The message was dropped.
    pub(super) fn dropped(&mut self) {
        self.connection.dropped();
    }

    /// The connection ends once everything is sent; nothing more is read from it.
    pub(super) fn close_when_sent(&mut self) {
        self.close_when_sent = true;
    }

    /// Ends the connection for whoever has it open as well.
    pub(super) fn shut_down(&self) {
        // It fails when the other end has gone only.
        drop(self.socket.shutdown(std::net::Shutdown::Both));
    }

    /// Writes what there is to write. Gives whether all of it is out.
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

    /// Reads until a message is complete; `None` when there is nothing more to read now. A read
    /// that came back short saves the one that would find nothing: what comes later makes an event.
    /// With `only_rest` nothing is read behind the message.
    pub(super) fn read_message(&mut self, only_rest: bool) -> Result<Option<Message>, Closed> {
        let mut message = self.connection.resume()?;
        while message.is_none() && self.may_have_input {
            let wanted = self.connection.wants();
            if wanted == Want::Nothing || !self.prepare_to_read()? {
                break;
            }
            message = match wanted {
                Want::Body => self.read_body()?,
                Want::Anything | Want::Nothing => self.read_anything(only_rest)?,
            };
        }
        if message.is_none() {
            self.note(self.pending_reply());
        }
        Ok(message)
    }

    /// Of one that is kept, notes before it is read that nobody could tell what it is pending; gives
    /// whether there is anything to read. A look comes first: most often there is nothing, and a
    /// kill right then must not cost the connection.
    fn prepare_to_read(&mut self) -> Result<bool, Closed> {
        if let Some((_, Some(record))) = &mut self.kept {
            match attempt(|| socket::peek(&self.socket))? {
                None => self.may_have_input = false,
                Some(0) => {}
                Some(_) => record.note(PendingReply::Unknown),
            }
        }
        Ok(self.may_have_input)
    }

    fn read_anything(&mut self, only_rest: bool) -> Result<Option<Message>, Closed> {
        let mut bytes = [0; READ_BYTES_MAX];
        let missing = if only_rest { self.connection.missing_bytes() } else { READ_BYTES_MAX };
        let bytes = bytes.get_mut(..missing.min(READ_BYTES_MAX)).unwrap_or_default();
        match attempt(|| socket::receive(&self.socket, bytes))? {
            None => self.may_have_input = false,
            Some(Received { count: 0, .. }) => return Err(self.ended()),
            Some(Received { count, fds, may_have_more }) => {
                self.may_have_input = may_have_more || self.is_ending;
                let bytes = bytes.get(..count).unwrap_or_default();
                return Ok(self.connection.received(bytes, fds)?);
            }
        }
        Ok(None)
    }

    fn read_body(&mut self) -> Result<Option<Message>, Closed> {
        let space = self.connection.space();
        match attempt(|| Ok(nix::unistd::read(&*self.socket, space)?))? {
            None => self.may_have_input = false,
            Some(0) => return Err(self.ended()),
            Some(count) => return Ok(self.connection.filled(count)?),
        }
        Ok(None)
    }

    fn pending_reply(&self) -> PendingReply {
        match self.unanswered {
            _ if self.connection.has_read_on() => PendingReply::Unknown,
            Some(reply_to) => PendingReply::Answer(reply_to),
            None => PendingReply::Nothing,
        }
    }

    /// For one that is kept.
    fn note(&mut self, pending: PendingReply) {
        if let Some((_, Some(record))) = &mut self.kept {
            record.note(pending);
        }
    }

    fn ended(&self) -> Closed {
        if self.connection.is_mid_message() { Closed::EndMidMessage } else { Closed::End }
    }

    /// Being told of space on every answer would double the wake-ups, so only when it lacks.
    fn wait_for_space(&mut self, wait: bool) -> Result<(), Closed> {
        if wait != self.waits_for_space {
            let interest = if wait { Interest::ReadWrite } else { Interest::Read };
            self.socket.set_interest(interest).map_err(Closed::Io)?;
            self.waits_for_space = wait;
        }
        Ok(())
    }
}

/// Tells "not now" (`None`) from a result and from an end of the connection.
fn attempt<T>(mut operation: impl FnMut() -> io::Result<T>) -> Result<Option<T>, Closed> {
    loop {
        return match operation() {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Closed::Io(error)),
        };
    }
}
