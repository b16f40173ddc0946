//! One of the two daemons, and all who have to do with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::client::{Client, Received};
use super::files::{self, Tree};
use super::guest::Guest;
use super::message::{Twist, World};
use super::operation::{
    ADMIN_CLIENT, CLIENTS, Change, GUEST_CLIENTS, GUESTS, MAIN_CLIENTS, Operation, Scene,
};
use crate::harness::{Daemon, Descriptors, Host, Program, Subject, eventually_within};
use crate::wire::{
    ADMIN_PROGRAM, Answer, Connection, Frame, Header, KEEPALIVE_PROGRAM, bytes_in_pipe, kind,
};

/// How long a daemon may take for an answer before it hangs. libvirt's does, and nothing comes of it.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_WITH_THEIRS: Duration = Duration::from_secs(4);

/// How long it may take until what a guest has written is taken from its pipe. What cannot be stored stays.
const DRAIN_PERIOD: Duration = Duration::from_millis(300);

/// How long an answer is waited for before the daemon is asked whether it has done all.
const ANSWER_PERIOD: Duration = Duration::from_millis(20);

/// Questions that are answered, one after the other, before a daemon has done all that came before them:
/// it looks at everything between two of them.
const QUESTIONS: usize = 3;

/// Directory beside those of the sequences that is the daemons' own.
const KEPT: &str = "libvirt";

/// A daemon that does not answer, or runs no more.
#[derive(Debug, Clone)]
pub(super) struct Gone(pub(super) String);

/// A daemon with its clients, its guests and its files.
#[derive(Debug)]
pub(super) struct Side {
    daemon: Daemon,
    host: std::sync::Arc<Host>,
    /// The first clients of both servers.
    control: Connection,
    admin_control: Connection,
    clients: [Option<Client>; CLIENTS],
    guests: Vec<Guest>,
    /// Pipes by the number of the step that they were opened in.
    pub(super) pipes: BTreeMap<usize, File>,
    /// Locks of strangers.
    locks: Vec<File>,
    /// The inode number of a pipe that a guest has just closed.
    hung_up: Option<u64>,
    /// The client that has just sent a message which is answered.
    asked: Option<usize>,
    /// Connections to the main and the admin server that have been made.
    connections: [u64; 2],
    directory: PathBuf,
    /// The names of the inodes that were found last.
    inodes: BTreeMap<u64, String>,
    /// Files that the daemon has had open in the beginning.
    files: Descriptors,
}

impl Side {
    /// Starts a daemon that can write to nothing but its scratch directory.
    pub(super) fn start(subject: Subject, configuration: &str) -> Self {
        let setup = subject.setup().config(configuration).confined();
        let daemon = setup.start();
        let host = daemon.host();
        let control = Connection::open(&daemon.main_socket()).expect("connecting");
        let admin_control = Connection::open(&daemon.admin_socket()).expect("connecting");
        let guests = match subject.program {
            Program::Virtlogd => Vec::new(),
            Program::Virtlockd => {
                (0..GUESTS).map(|_| Guest::start(&daemon.main_socket())).collect()
            }
        };
        Self {
            files: files_of(&daemon),
            daemon,
            directory: host.path("log"),
            host,
            control,
            admin_control,
            hung_up: None,
            asked: None,
            connections: [1, 1],
            clients: [const { None }; CLIENTS],
            guests,
            pipes: BTreeMap::new(),
            locks: Vec::new(),
            inodes: BTreeMap::new(),
        }
    }

    /// Makes the files of a sequence.
    pub(super) fn begin(&mut self, scene: &Scene) {
        self.directory = self.host.outside(Path::new(&scene.directory));
        files::furnish(&self.directory, scene.program).expect("making the files of a sequence");
        self.look();
    }

    /// Does what a step says; gives what came of it where that is no answer.
    pub(super) fn act(&mut self, operation: &Operation) -> Option<String> {
        match operation {
            Operation::Send { client, message, bytes } => {
                let sendable = message.assemble(self);
                let is_whole = bytes.is_none() && message.twist == Twist::None;
                self.asked = is_whole.then_some(*client);
                match self.client(*client) {
                    Some(client) => client.send(sendable, *bytes),
                    None => return Some("cannot connect".to_owned()),
                }
            }
            Operation::Rest { client } => {
                self.clients[*client].iter_mut().for_each(Client::send_rest);
            }
            Operation::Close { client } => self.clients[*client] = None,
            Operation::HalfClose { client } => {
                self.clients[*client].iter().for_each(Client::half_close);
            }
            Operation::Write { pipe, bytes } => return self.write(*pipe, bytes),
            Operation::HangUp { pipe } => self.hung_up = self.hang_up(*pipe),
            Operation::Outside { file, change } => self.change(file, change),
            Operation::Die { guest } => self.guests[*guest].kill(),
        }
        None
    }

    /// Waits until the daemon has done all that it was told.
    ///
    /// # Errors
    /// It does not come to that.
    pub(super) fn settle(&mut self) -> Result<(), Gone> {
        self.drain_pipes();
        self.see_pipe_closed();
        let has_answered = self.asked.take().is_some_and(|client| self.is_answered(client));
        for _ in 0..if has_answered { 1 } else { QUESTIONS } {
            self.ping()?;
        }
        Ok(())
    }

    /// Whether an answer comes; it does when the daemon has done what it was asked for.
    fn is_answered(&self, client: usize) -> bool {
        let client = self.clients[client].as_ref();
        client.is_some_and(|client| client.is_readable_within(ANSWER_PERIOD))
    }

    /// What clients have received since this was asked last.
    pub(super) fn receive(&mut self) -> Vec<(usize, Received)> {
        let mut all = Vec::new();
        for (number, slot) in self.clients.iter_mut().enumerate() {
            let Some(client) = slot else { continue };
            all.extend(client.receive().into_iter().map(|received| (number, received)));
            if client.is_closed() {
                *slot = None;
            }
        }
        all
    }

    /// Bytes and fds that are no whole messages, of each client that has some.
    pub(super) fn leftovers(&self) -> Vec<(usize, (usize, usize))> {
        let clients = self.clients.iter().enumerate();
        let leftover =
            clients.filter_map(|(number, slot)| Some((number, slot.as_ref()?.leftover())));
        leftover.filter(|(_, leftover)| *leftover != (0, 0)).collect()
    }

    /// The files as they are now.
    pub(super) fn look(&mut self) -> Tree {
        let (tree, inodes) = files::look(&self.directory);
        self.inodes = inodes;
        tree
    }

    /// Which locks are on the files.
    pub(super) fn locks(&self, tree: &Tree) -> BTreeMap<String, &'static str> {
        let files =
            tree.iter().filter(|(_, entry)| matches!(entry.content, files::Content::File(_)));
        let lock = |name: &String| files::lock_on(&self.directory.join(name));
        files.map(|(name, _)| (name.clone(), lock(name))).collect()
    }

    /// Whether the daemon has files open that it had not in the beginning: of leases, anywhere, or of logs.
    pub(super) fn has_more_files(&self) -> bool {
        files_of(&self.daemon) != self.files
    }

    /// Which pipes nobody reads any more.
    pub(super) fn broken_pipes(&self) -> Vec<usize> {
        let broken = self.pipes.iter().filter(|(_, pipe)| is_broken(pipe));
        broken.map(|(&number, _)| number).collect()
    }

    /// Which guests run.
    pub(super) fn living(&self) -> Vec<bool> {
        self.guests.iter().map(Guest::is_running).collect()
    }

    /// A text without this side's own numbers.
    pub(super) fn neutral(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (inode, name) in &self.inodes {
            text = text.replace(&format!("inode {inode} "), &format!("inode of {name} "));
        }
        for (guest, process) in self.guests.iter().enumerate() {
            let pid = process.pid();
            text = text.replace(&format!("owner {pid} "), &format!("owner guest{guest} "));
        }
        text
    }

    /// The name of an inode.
    pub(super) fn name_of(&self, inode: u64) -> &str {
        self.inodes.get(&inode).map_or("a file that is gone", String::as_str)
    }

    /// The guest with this pid.
    pub(super) fn guest_of(&self, pid: u32) -> Option<usize> {
        self.guests.iter().position(|guest| guest.pid() == pid)
    }

    /// Ends everything that a sequence has begun, but for what the daemon holds.
    pub(super) fn end(&mut self) {
        self.clients = [const { None }; CLIENTS];
        self.pipes.clear();
        self.locks.clear();
    }

    /// Removes the files of a sequence, and starts guests anew that had to do with it.
    pub(super) fn clear(&mut self) {
        // Twisted paths lead to places beside it.
        let beside = self.directory.parent().map(fs::read_dir);
        let entries = beside.into_iter().flatten().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name() != KEPT) {
            files::remove(&entry.path()).expect("removing what a sequence has left");
        }
        let socket = self.daemon.main_socket();
        for guest in self.guests.iter_mut().filter(|guest| !guest.is_untouched()) {
            *guest = Guest::start(&socket);
        }
    }

    /// What the daemon has said.
    pub(super) fn stderr(&self) -> String {
        self.daemon.stderr()
    }

    /// How many connections have been made to the main and the admin server.
    pub(super) fn connections(&self) -> [u64; 2] {
        self.connections
    }

    /// A call on one of the player's own connections, which stay.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub(super) fn call(&mut self, header: Header, payload: &[u8]) -> Result<Frame, Gone> {
        let is_admin = header.prog == ADMIN_PROGRAM;
        let is_ours = self.daemon.subject().is_ours();
        let patience = if is_ours { PATIENCE } else { PATIENCE_WITH_THEIRS };
        let connection = if is_admin { &mut self.admin_control } else { &mut self.control };
        let sent = connection.send(&header.message(payload));
        match sent.map(|()| connection.answer_within(patience)) {
            Ok(Answer::Message(frame)) => Ok(frame),
            Ok(Answer::Silence) => Err(Gone("it hangs".to_owned())),
            Ok(Answer::Closed) | Err(_) => Err(Gone(self.end_of_daemon())),
        }
    }

    fn client(&mut self, number: usize) -> Option<&mut Client> {
        if self.clients[number].is_none() {
            let stream = self.connect(number)?;
            self.clients[number] = Some(Client::new(stream));
        }
        self.clients[number].as_mut()
    }

    fn connect(&mut self, number: usize) -> Option<UnixStream> {
        let stream = match number {
            0..MAIN_CLIENTS => UnixStream::connect(self.daemon.main_socket()).ok(),
            ADMIN_CLIENT => UnixStream::connect(self.daemon.admin_socket()).ok(),
            _ => self.guests[number - GUEST_CLIENTS[0]].connect(),
        };
        self.connections[usize::from(number == ADMIN_CLIENT)] += 1;
        stream
    }

    fn write(&mut self, pipe: usize, bytes: &[u8]) -> Option<String> {
        let pipe = self.pipes.get_mut(&pipe)?;
        pipe.write_all(bytes).err().map(|error| error.to_string())
    }

    fn change(&mut self, file: &str, change: &Change) {
        match change {
            Change::Lock(mode) => self.locks.extend(files::lock(&self.directory, file, *mode)),
            Change::Unlock => self.locks.clear(),
            // What cannot be done is done on neither side.
            _ => drop(files::change(&self.directory, file, change)),
        }
    }

    /// Closes a pipe; gives its inode number.
    fn hang_up(&mut self, pipe: usize) -> Option<u64> {
        let pipe = self.pipes.remove(&pipe)?;
        Some(pipe.metadata().expect("looking at a pipe").ino())
    }

    /// Waits until the daemon has noticed that a guest has closed its pipe.
    fn see_pipe_closed(&mut self) {
        let Some(inode) = self.hung_up.take() else { return };
        let is_open = || self.daemon.descriptors_of_pipe(inode) > 0;
        eventually_within(DRAIN_PERIOD, || !is_open());
    }

    /// Waits until all that guests have written is taken from their pipes.
    fn drain_pipes(&mut self) {
        let end = Instant::now() + DRAIN_PERIOD;
        for pipe in self.pipes.values() {
            while bytes_in_pipe(pipe.as_fd()) > 0 && !is_broken(pipe) && Instant::now() < end {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }

    fn ping(&mut self) -> Result<(), Gone> {
        let ping = Header { kind: kind::MESSAGE, serial: 0, ..Header::call(KEEPALIVE_PROGRAM, 1) };
        self.call(ping, &[]).map(drop)
    }

    /// Describes why a daemon has closed one of the player's own connections: it has ended, or an
    /// administrator's call was to close it.
    fn end_of_daemon(&mut self) -> String {
        if !eventually_within(PATIENCE_WITH_THEIRS, || !self.daemon.is_running()) {
            return "it has closed the player's own connection".to_owned();
        }
        let exit = self.daemon.wait();
        format!("it has ended: status {:?}, signal {:?}", exit.code, exit.signal)
    }
}

impl World for Side {
    fn inode(&self, name: &str) -> u64 {
        self.inodes.iter().find(|(_, known)| *known == name).map_or(0, |(&inode, _)| inode)
    }

    fn pid(&self, guest: usize) -> u32 {
        self.guests[guest].pid()
    }

    fn newest_client(&self, is_admin: bool) -> u64 {
        self.connections[usize::from(is_admin)]
    }
}

fn files_of(daemon: &Daemon) -> Descriptors {
    daemon.descriptors().without(|kind| !kind.starts_with('/'))
}

fn is_broken(pipe: &File) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).expect("polling a pipe");
    fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}
