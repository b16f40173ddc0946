//! Clients that call back to back and get exactly one answer to each call.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::Daemon;
use crate::wire::{Answer, Connection, LockClient, LogClient, Owner};

/// What may not come does not come within this time.
const SILENCE: Duration = Duration::from_millis(100);

/// One side of a conversation. Panics when the daemon says anything but what is due.
pub trait Client: Debug + Send + 'static {
    /// Calls, and takes the answer.
    fn exchange(&mut self);

    /// The connection that stays open between two exchanges.
    fn connection(&mut self) -> Option<&mut Connection>;
}

/// Keeps callers quiet while a daemon that loses answers is replaced.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<RwLock<()>>);

impl Gate {
    /// Waits until every call has been answered; no other is made until the result is dropped.
    pub fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().expect("no caller has failed")
    }
}

/// A thread that drives a client.
#[derive(Debug)]
pub struct Caller {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Caller {
    /// Starts calling, whenever the gate is open.
    pub fn start(gate: &Gate, mut client: impl Client) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let (told, gate) = (Arc::clone(&ending), gate.clone());
        let thread = std::thread::spawn(move || {
            let mut answers = 0;
            while !told.load(Ordering::Relaxed) {
                let _open = gate.0.read().expect("nobody fails while holding it closed");
                client.exchange();
                answers += 1;
            }
            if let Some(connection) = client.connection() {
                let more = connection.answer_within(SILENCE);
                assert!(matches!(more, Answer::Silence), "nobody asked for {more:?}");
            }
            answers
        });
        Self { ending, thread }
    }

    /// Ends the thread and says how many answers there were.
    ///
    /// # Panics
    /// When one was missing, wrong or too many.
    pub fn finish(self) -> u64 {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.join().expect("every call has one answer, and the right one")
    }
}

/// Asks how far a log has been written, which never goes back.
#[derive(Debug)]
pub struct PositionAsker {
    client: LogClient,
    path: PathBuf,
}

impl PositionAsker {
    /// One for the log at `path`, which is open.
    pub fn new(daemon: &Daemon, path: &Path) -> Self {
        Self { client: daemon.log_client(), path: path.to_path_buf() }
    }
}

impl Client for PositionAsker {
    fn exchange(&mut self) {
        self.client.position(&self.path).expect("the log is open");
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        Some(self.client.connection())
    }
}

/// Takes a lease and gives it back.
#[derive(Debug)]
pub struct LeaseHolder {
    client: LockClient,
    image: String,
}

impl LeaseHolder {
    /// One for an image that nobody else wants.
    pub fn new(daemon: &Daemon, owner: &Owner, image: &str) -> Self {
        let mut client = daemon.lock_client();
        client.register(owner, 0).expect("registering");
        Self { client, image: image.to_owned() }
    }
}

impl Client for LeaseHolder {
    fn exchange(&mut self) {
        self.client.acquire("", &self.image, 0).expect("it is free");
        self.client.release("", &self.image, 0).expect("it is ours");
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        Some(self.client.connection())
    }
}

/// Connects anew for each call, one that no program has.
#[derive(Debug)]
pub struct Newcomer {
    socket: PathBuf,
    program: u32,
}

impl Newcomer {
    /// One for the main socket.
    pub fn new(daemon: &Daemon) -> Self {
        Self { socket: daemon.main_socket(), program: daemon.subject().program.number() }
    }
}

impl Client for Newcomer {
    fn exchange(&mut self) {
        let mut connection = Connection::open(&self.socket).expect("connecting");
        let error = connection.call(self.program, 99, &[]).expect_err("there is no procedure 99");
        assert_eq!(error.code, 39);
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        None
    }
}
