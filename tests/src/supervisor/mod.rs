//! A stand-in for the service manager, as far as a daemon can see: `NOTIFY_SOCKET`, an fd store by
//! systemd's rules, and what is passed at a start.
//!
//! Beyond that it has the faults of one: it may be [slow](Supervisor::pause), be
//! [gone](Supervisor::leave) for a while, keep [less](Supervisor::set_limit) than it has said, or
//! [lose](Supervisor::clear) everything.

mod journal;
mod message;
mod service;
mod store;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::PassCred;

use crate::wire::receive_now;
pub use journal::{Claims, claims};
use message::Message;
pub use service::{Origin, Service, Upgraded};
pub(crate) use service::{PATIENCE_VARIABLE, patience};
use store::Store;
pub use store::Stored;

/// Bytes of a message, as systemd reads them.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What nobody here has asked for.
const OTHERS_MESSAGE: &[u8] = b"X_OTHER=1";

/// Statuses that are kept, to be shown when a test fails.
const STATUSES_MAX: usize = 50;

/// A service manager for one service.
#[derive(Debug)]
pub struct Supervisor {
    path: PathBuf,
    shared: Arc<Mutex<State>>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    socket: Option<Arc<UnixDatagram>>,
    is_paused: bool,
    has_ended: bool,
    store: Store,
    /// Something was stored, and no barrier has come since.
    is_storing: bool,
    ready_count: usize,
    message_count: usize,
    statuses: Vec<String>,
}

impl Supervisor {
    /// One that listens at `path` and keeps at most `limit` fds.
    ///
    /// # Panics
    /// When there can be no socket.
    pub fn new(path: &Path, limit: usize) -> Self {
        let (waker, wakened) = UnixStream::pair().expect("a pair of sockets");
        let state = State {
            socket: Some(listen(path)),
            is_paused: false,
            has_ended: false,
            store: Store::new(limit),
            is_storing: false,
            ready_count: 0,
            message_count: 0,
            statuses: Vec::new(),
        };
        let shared = Arc::new(Mutex::new(state));
        let served = Arc::clone(&shared);
        let thread = Some(std::thread::spawn(move || serve(&served, wakened)));
        Self { path: path.to_path_buf(), shared, waker, thread }
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept, the newest first, as systemd passes it on.
    pub fn stored(&self) -> Vec<Stored> {
        self.state().store.all()
    }

    /// The names of all that is kept.
    pub fn names(&self) -> BTreeSet<String> {
        self.stored().into_iter().map(|stored| stored.name).collect()
    }

    /// How many fds it has closed as there was no room for them.
    pub fn refused(&self) -> usize {
        self.state().store.refused()
    }

    /// How often the service has said that it is ready.
    pub fn ready_count(&self) -> usize {
        self.state().ready_count
    }

    /// How many messages it has taken.
    pub fn message_count(&self) -> usize {
        self.state().message_count
    }

    /// What the service has said of itself, the latest last.
    pub fn statuses(&self) -> Vec<String> {
        self.state().statuses.clone()
    }

    /// From now on it takes no message, and its queue is full of those of other services.
    ///
    /// # Panics
    /// When there is no socket to fill it with.
    pub fn pause(&self) {
        self.change(|state| state.is_paused = true);
        let other = UnixDatagram::unbound().expect("a socket");
        other.set_nonblocking(true).expect("a socket that does not wait");
        while other.send_to(OTHERS_MESSAGE, &self.path).is_ok() {}
    }

    /// It takes messages again.
    pub fn go_on(&self) {
        self.change(|state| state.is_paused = false);
    }

    /// It is not there: nothing can be sent to it, and what it had not read is lost.
    ///
    /// # Panics
    /// When its socket cannot be removed.
    pub fn leave(&self) {
        self.change(|state| state.socket = None);
        fs::remove_file(&self.path).expect("removing the socket");
    }

    /// It is there again, at the same path, with what it had kept.
    pub fn come_back(&self) {
        self.change(|state| state.socket = Some(listen(&self.path)));
    }

    /// Takes everything out of the store, as `systemctl clean --what=fdstore` does.
    pub fn clear(&self) {
        self.change(|state| state.store.clear());
    }

    /// Keeps no more than so many fds from now on, and takes out the oldest of those beyond, as
    /// systemd does when it reads its units again.
    pub fn shrink(&self, limit: usize) {
        self.change(|state| state.store.shrink(limit));
    }

    /// Takes out what has this name, as somebody else may.
    pub fn remove(&self, name: &str) {
        self.change(|state| state.store.remove(name));
    }

    /// Keeps an fd that the service has not sent.
    pub fn keep(&self, name: &str, fd: OwnedFd) {
        self.change(|state| state.store.add(Some(name), fd, false));
    }

    /// Keeps no more than so many fds from now on. Not while a service stores something that it has
    /// not asked about with a barrier: that would find room where there was none a moment before.
    pub fn set_limit(&self, limit: usize) {
        const QUIET: Duration = Duration::from_millis(20);
        const TRIES: usize = 50;
        for _ in 0..TRIES {
            let mut state = self.state();
            while !state.is_paused && state.take_message() {}
            if state.is_paused || !state.is_storing {
                break;
            }
            drop(state);
            std::thread::sleep(QUIET);
        }
        self.change(|state| state.store.set_limit(limit));
    }

    /// Sees to everything that was sent until now; systemd does so before it starts a service whose
    /// process has ended. Nothing when it is paused.
    pub fn catch_up(&self) {
        let mut state = self.state();
        if !state.is_paused {
            while state.take_message() {}
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.wake();
    }

    fn wake(&self) {
        (&self.waker).write_all(&[0]).expect("waking the supervisor");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("the supervisor's thread has not failed")
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // The thread may have failed, which is told when it is joined.
        if let Ok(mut state) = self.shared.lock() {
            state.has_ended = true;
        }
        // It may have ended already.
        (&self.waker).write_all(&[0]).ok();
        if let Some(Err(failure)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(failure);
        }
    }
}

impl State {
    /// Takes one message, if there is one.
    fn take_message(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let received = receive_now(socket, &mut buffer).expect("receiving a message");
        let Some((len, fds)) = received else { return false };
        self.see_to(Message::parse(&buffer[..len]), fds);
        true
    }

    fn see_to(&mut self, message: Message, fds: Vec<OwnedFd>) {
        if message.removes {
            message.name.iter().for_each(|name| self.store.remove(name));
        } else if message.stores {
            self.is_storing = true;
            for fd in fds {
                self.store.add(message.name.as_deref(), fd, !message.is_left_unwatched);
            }
        } else if message.is_barrier {
            self.is_storing = false;
            drop(fds);
        }
        self.message_count += 1;
        self.ready_count += usize::from(message.is_ready);
        self.statuses.extend(message.status);
        let surplus = self.statuses.len().saturating_sub(STATUSES_MAX);
        self.statuses.drain(..surplus);
    }
}

fn listen(path: &Path) -> Arc<UnixDatagram> {
    let socket = UnixDatagram::bind(path).expect("a socket for notifications");
    setsockopt(&socket, PassCred, &true).expect("asking for credentials");
    Arc::new(socket)
}

/// The life of its thread.
fn serve(shared: &Mutex<State>, mut wakened: UnixStream) {
    let lock = || shared.lock().expect("nobody has failed");
    loop {
        let (socket, watched) = {
            let state = lock();
            if state.has_ended {
                return;
            }
            let socket = state.socket.clone().filter(|_| !state.is_paused);
            let watched = state.store.all().into_iter().filter(|stored| stored.is_watched);
            (socket, watched.collect::<Vec<_>>())
        };
        let mut fds = vec![PollFd::new(wakened.as_fd(), PollFlags::POLLIN)];
        fds.extend(watched.iter().map(|stored| PollFd::new(stored.fd.as_fd(), PollFlags::empty())));
        if let Some(socket) = &socket {
            fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        }
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        let is_set = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let is_wakened = is_set(&fds[0]);
        let gone: Vec<_> =
            fds[1..].iter().zip(&watched).filter(|(fd, _)| is_set(fd)).map(|(_, it)| it).collect();
        let mut state = lock();
        gone.iter().for_each(|stored| state.store.drop_fd(&stored.fd));
        if !state.is_paused {
            state.take_message();
        }
        drop(state);
        if is_wakened {
            // One at a time will do: it is looked at again at once.
            wakened.read_exact(&mut [0]).expect("being wakened");
        }
    }
}

#[cfg(test)]
mod tests;
