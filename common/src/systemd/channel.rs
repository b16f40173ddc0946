//! Channel to the supervisor: one socket, and a queue of messages that it could not take yet.
//!
//! Nothing here waits, except [`Channel::drain`]. A busy supervisor's queue (512 messages at most)
//! fills up soon: what does not fit is queued here, in order, until [`Channel::flush`]. Messages
//! caused by clients are queued too if they exceed a [`Pace`], as the supervisor serves other units
//! as well.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::pace::Pace;
use crate::sys::shortage::is_shortage;
use crate::sys::{process, socket};

/// Messages in the queue; further ones are lost. Ours: every log and lease at its busiest.
const QUEUED_MAX: usize = 131_072;

/// A message that no supervisor knows.
const NOTHING: &str = "X_VIRT_RS=1";

/// Items that clients may store in a row, as when a host starts its guests, and the time for each
/// further one. Ours.
const ITEMS_IN_A_ROW_MAX: u32 = 512;
const ITEM_PERIOD: Duration = Duration::from_micros(2_500);

/// Class of a message, which decides when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Service state: unpaced, and ahead of paced messages.
    State,
    /// Content of the store: in order.
    Store,
    /// Content of the store: in order, and paced.
    PacedStore,
}

#[derive(Debug)]
pub(super) struct Channel {
    address: SocketAddr,
    /// `None` until it can be made.
    socket: Option<UnixDatagram>,
    /// Queued messages about the service state.
    states: VecDeque<Message>,
    /// Queued messages about the store.
    stores: VecDeque<Message>,
    last_number: u64,
    pace: Pace,
    is_paced: bool,
    /// The supervisor had no room for the last message.
    is_blocked: bool,
    /// Number of losses: the supervisor had a new socket, so the old one's content is gone, or
    /// queued messages were dropped.
    losses: u64,
    /// The last message was lost, and that was logged.
    is_lossy: bool,
    /// End of the time during which no descriptor is copied.
    copies_nothing_until: Option<Instant>,
}

#[derive(Debug)]
struct Message {
    /// Place in the order of all messages, from 1.
    number: u64,
    class: Class,
    text: String,
    fds: Vec<OwnedFd>,
}

impl Channel {
    /// Opens a channel to the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub(super) fn open(target: &OsStr) -> io::Result<Self> {
        let address = match target.as_bytes().split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(target)?,
        };
        // A supervisor that cannot be reached now is connected to on the next message.
        let socket = match connect(&address) {
            Err(error) if must_wait(&error) => None,
            result => Some(result?),
        };
        Ok(Self {
            address,
            socket,
            states: VecDeque::new(),
            stores: VecDeque::new(),
            last_number: 0,
            pace: Pace::new(ITEMS_IN_A_ROW_MAX, ITEM_PERIOD),
            is_paced: true,
            is_blocked: false,
            losses: 0,
            is_lossy: false,
            copies_nothing_until: None,
        })
    }

    /// Sends a message in the order of its class, or queues it. The caller keeps its fds.
    pub(super) fn send(
        &mut self,
        text: String,
        fds: &[BorrowedFd<'_>],
        class: Class,
    ) -> io::Result<()> {
        self.flush();
        self.last_number += 1;
        let sent = match self.may_send(class) {
            true => self.try_send(&text, fds, class),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        let result = match sent {
            Err(error) if must_wait(&error) => self.enqueue(text, fds, class),
            other => other,
        };
        self.note(result.as_ref().err());
        result
    }

    /// Removes a message about the store from the queue. It is rarely there.
    pub(super) fn withdraw(&mut self, text: &str) {
        if let Some(index) = self.stores.iter().rposition(|message| message.text == text) {
            self.stores.remove(index);
        }
    }

    /// Frees the descriptors of queued messages, which are lost, and queues none for `period`.
    pub(super) fn free_descriptors(&mut self, period: Duration) {
        let before = self.stores.len();
        self.stores.retain(|message| message.fds.is_empty());
        self.losses += u64::from(self.stores.len() < before);
        self.copies_nothing_until = Some(Instant::now() + period);
    }

    /// Returns the number of queued messages.
    pub(super) fn waiting(&self) -> usize {
        self.states.len() + self.stores.len()
    }

    /// Returns whether the supervisor had no room for the last message.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Returns the number of the last message.
    pub(super) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Returns the number up to which no message about the store is queued.
    pub(super) fn stored_up_to(&self) -> u64 {
        self.stores.front().map_or(self.last_number, |message| message.number - 1)
    }

    /// Enables or disables the pace.
    pub(super) fn set_paced(&mut self, is_paced: bool) {
        self.is_paced = is_paced;
    }

    /// Returns whether the supervisor's socket has gone, and with it the messages that it had not
    /// read. To find out, a message is sent that means nothing.
    pub(super) fn has_gone(&mut self) -> bool {
        let losses = self.losses;
        let sent = self.try_send(NOTHING, &[], Class::State);
        self.losses != losses || sent.is_err_and(|error| has_gone(&error))
    }

    /// Returns a counter that changes when sent messages may have been lost.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// Sends queued messages; `false` when some still have to wait.
    pub(super) fn flush(&mut self) -> bool {
        self.is_blocked = false;
        while let Some(message) = self.next_queued() {
            let fds: Vec<_> = message.fds.iter().map(AsFd::as_fd).collect();
            match self.try_send(&message.text, &fds, message.class) {
                Err(error) if must_wait(&error) => {
                    self.queue(message.class).push_front(message);
                    break;
                }
                result => self.note(result.as_ref().err()),
            }
        }
        self.waiting() == 0
    }

    /// Sends queued messages without a pace, and waits up to `patience`; `false` when that was too
    /// short.
    pub(super) fn drain(&mut self, patience: Duration) -> bool {
        const PAUSE: Duration = Duration::from_millis(1);
        let end = Instant::now() + patience;
        let was_paced = std::mem::replace(&mut self.is_paced, false);
        while !self.flush() && Instant::now() < end {
            process::pause(PAUSE);
        }
        self.is_paced = was_paced;
        self.waiting() == 0
    }

    /// Takes the next queued message that may be sent: the oldest, or the oldest about the service
    /// state.
    fn next_queued(&mut self) -> Option<Message> {
        let state = self.states.front().map(|message| message.number);
        let store = self.stores.front().map(|message| (message.number, message.class));
        match (state, store) {
            (Some(state), Some((store, _))) if state < store => self.states.pop_front(),
            (_, Some((_, class))) if self.is_due(class) => self.stores.pop_front(),
            _ => self.states.pop_front(),
        }
    }

    fn may_send(&self, class: Class) -> bool {
        let is_first = class == Class::State || self.stores.is_empty();
        !self.is_blocked && is_first && self.is_due(class)
    }

    fn is_due(&self, class: Class) -> bool {
        class != Class::PacedStore || !self.is_paced || self.pace.is_due(Instant::now())
    }

    fn queue(&mut self, class: Class) -> &mut VecDeque<Message> {
        match class {
            Class::State => &mut self.states,
            Class::Store | Class::PacedStore => &mut self.stores,
        }
    }

    fn enqueue(&mut self, text: String, fds: &[BorrowedFd<'_>], class: Class) -> io::Result<()> {
        if self.waiting() >= QUEUED_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if !fds.is_empty() && self.copies_nothing_until.is_some_and(|until| Instant::now() < until)
        {
            return Err(Errno::EMFILE.into());
        }
        let fds = fds.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>()?;
        let number = self.last_number;
        self.queue(class).push_back(Message { number, class, text, fds });
        Ok(())
    }

    fn try_send(&mut self, text: &str, fds: &[BorrowedFd<'_>], class: Class) -> io::Result<()> {
        let result = self.send_now(text, fds);
        self.is_blocked = result.as_ref().is_err_and(must_wait);
        if result.is_ok() && class == Class::PacedStore {
            self.pace.step(Instant::now());
        }
        result
    }

    /// Sends a message, once more over a new socket if the supervisor has a new one.
    fn send_now(&mut self, text: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match socket::send_datagram(socket, text.as_bytes(), fds) {
                Err(error) if has_gone(&error) => {}
                result => return result,
            }
        }
        let socket = self.socket.insert(connect(&self.address)?);
        self.losses += 1;
        socket::send_datagram(socket, text.as_bytes(), fds)
    }

    /// Records the result of a send. An unreachable supervisor does no harm; the first lost message
    /// is logged.
    fn note(&mut self, error: Option<&io::Error>) {
        if let Some(error) = error
            && !self.is_lossy
        {
            tracing::warn!(target: "util.systemd", "Unable to notify the supervisor: {error}");
        }
        self.is_lossy = error.is_some();
    }
}

fn connect(address: &SocketAddr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    Ok(socket)
}

/// Returns whether to wait: the queue is full, too many fds are in flight, the supervisor is
/// absent, or the machine is short of something.
fn must_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(libc::ETOOMANYREFS)
        || is_shortage(error)
        || has_gone(error)
}

fn has_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOTCONN | libc::ENOENT))
}
