//! Recovery from the fd store: builds a document from the fds that the supervisor has returned.

mod line;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use super::journal::{self, JournalContents};
pub use super::names::Kind;
use super::pending_reply::PendingReply;
use super::slots::{self, AtRisk, SlotFile};
use crate::handover::InheritedFds;
use crate::handover::document::{
    Change, Client, Daemon, Document, Items, Lockspace, Log, LogHandler, PrivateClient,
    PrivateDaemon, Server, Socket,
};
use crate::sys::{fd, pipe};

/// Fds of a staging pipe.
const PIPE_ENDS: usize = 2;

/// Everything that was recovered.
#[derive(Debug, Default)]
pub struct Returned {
    /// The document; `None` without a readable journal.
    pub document: Option<Document<'static>>,
    /// The names, one for each fd.
    pub names: Vec<String>,
    /// Descriptions of items that the journal has and the store lacks.
    pub missing: Vec<String>,
}

/// Builds a document from the fds that the supervisor has returned, if any. The fds are then with
/// `inherited`, under the numbers that the document has.
#[must_use]
pub fn from_fd_store(
    stored: Vec<(String, OwnedFd)>,
    main_server: &str,
    inherited: &mut InheritedFds,
) -> Option<Returned> {
    if stored.is_empty() {
        return None;
    }
    let names: Vec<String> = stored.iter().map(|(name, _)| name.clone()).collect();
    let contents = newest_journal(&stored);
    let by_name = Numbers::new(stored, inherited);
    let mut missing = Vec::new();
    let document =
        contents.map(|contents| build_document(contents, main_server, &by_name, &mut missing));
    Some(Returned { document, names, missing })
}

/// Returns the names of everything that a document says is stored.
#[must_use]
pub fn keys_of(document: &Document<'_>, main_server: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut add = |kind: Kind, key: Option<u64>| names.extend(key.map(|key| kind.name(key)));
    if let Some(logs) = document.handler.as_ref().and_then(|handler| handler.files.as_ref()) {
        logs.for_each(|log| {
            let private = log.private.as_ref();
            add(Kind::Log, private.and_then(|private| private.key));
            let staged = private.iter().flat_map(|private| private.staged_keys.iter().flatten());
            staged.for_each(|&key| add(Kind::Pipe, Some(key)));
        });
    }
    let spaces = document.lockspaces.iter().flatten().chain(&document.default_lockspace);
    for resources in spaces.filter_map(|space| space.resources.as_ref()) {
        resources.for_each(|resource| {
            add(Kind::Lease, resource.private.as_ref().and_then(|private| private.key));
        });
    }
    if let Some(Daemon::Named { servers }) = &document.daemon {
        let clients = servers.get(main_server).and_then(|server| server.clients.as_ref());
        for client in clients.into_iter().flatten() {
            add(Kind::Client, client.private.as_ref().and_then(|private| private.key));
        }
    }
    names
}

/// Numbers of returned fds, by name.
struct Numbers(HashMap<String, Vec<RawFd>>);

impl Numbers {
    fn new(stored: Vec<(String, OwnedFd)>, inherited: &mut InheritedFds) -> Self {
        let mut numbers: HashMap<String, Vec<RawFd>> = HashMap::new();
        for (name, fd) in stored {
            let number = fd.into_raw_fd();
            inherited.add(number);
            numbers.entry(name).or_default().push(number);
        }
        Self(numbers)
    }

    fn of(&self, kind: Kind, key: u64) -> &[RawFd] {
        self.0.get(&kind.name(key)).map(Vec::as_slice).unwrap_or_default()
    }

    fn one(&self, kind: Kind, key: u64) -> Option<RawFd> {
        self.of(kind, key).first().copied()
    }

    /// Returns the slot files of a kind with their names, the newest last. There are two when an
    /// earlier version's start was cut off.
    fn slot_files(&self, kind: Kind) -> Vec<(String, RawFd, SlotFile)> {
        let open = |number| fd::with_number(number, |fd| fd.try_clone_to_owned()).ok();
        let open = |key| {
            let number = self.one(kind, key)?;
            Some((kind.name(key), number, SlotFile::from(open(number)?)))
        };
        let mut all: Vec<_> = self.keys(kind).filter_map(open).collect();
        all.sort_by_cached_key(|(name, _, slots)| (slots.stamp(), name.clone()));
        all
    }

    /// Returns the memfds that the next process continues to use.
    fn essentials(&self) -> Vec<(String, RawFd)> {
        let journals = self.keys(Kind::Journal).filter_map(|number| {
            Some((Kind::Journal.name(number), self.one(Kind::Journal, number)?))
        });
        let sentinels = self.keys(Kind::Sentinel).filter_map(|number| {
            Some((Kind::Sentinel.name(number), self.one(Kind::Sentinel, number)?))
        });
        let newest = |kind| self.slot_files(kind).pop().map(|(name, number, _)| (name, number));
        let slots = newest(Kind::StagingOwners).into_iter().chain(newest(Kind::PendingReplies));
        journals.chain(slots).chain(sentinels).collect()
    }

    fn keys(&self, kind: Kind) -> impl Iterator<Item = u64> {
        self.0.keys().filter_map(move |name| kind.key(name))
    }
}

/// Returns the newest complete journal.
fn newest_journal(stored: &[(String, OwnedFd)]) -> Option<JournalContents> {
    let journal = |(name, fd): &(String, OwnedFd)| {
        Some((Kind::Journal.key(name)?, File::from(fd.try_clone().ok()?)))
    };
    let mut journals: Vec<_> = stored.iter().filter_map(journal).collect();
    journals.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    journals.iter().find_map(|(_, file)| journal::read(file).ok()?)
}

fn build_document(
    mut contents: JournalContents,
    main_server: &str,
    numbers: &Numbers,
    missing: &mut Vec<String>,
) -> Document<'static> {
    let owners =
        contents.document.default_lockspace.as_mut().and_then(|space| space.private.take());
    let owners = owners.unwrap_or_default().with_later(std::mem::take(&mut contents.endings));
    let next_client_id = spread_out(&mut contents, main_server);
    let private = contents.document.private.take().unwrap_or_default();
    let staged = Staged::read(numbers, private.at_risk_round.unwrap_or(0));
    let calls = numbers.slot_files(Kind::PendingReplies).pop().map(|(_, _, calls)| calls);
    let (mut logs, mut leases, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    for (key, change) in contents.changes {
        if let Some(words) = is_missing(&change, key, numbers) {
            missing.push(words);
        }
        logs.extend(change.log.and_then(|log| found_log(log, key, numbers, &staged)));
        leases.extend(change.lease.and_then(|lease| found_lease(lease, key, numbers)));
        let client = change.client;
        clients
            .extend(client.and_then(|client| found_client(client, key, numbers, calls.as_ref())));
    }
    clients.sort_by_key(|client| client.id);
    let main = Server { clients: Some(clients), next_client_id, ..Server::default() };
    leases.extend(contents.spaces);
    Document {
        daemon: Some(Daemon::Named { servers: BTreeMap::from([(main_server.to_owned(), main)]) }),
        handler: Some(LogHandler { files: Some(Items::Read(logs)) }),
        default_lockspace: Some(Lockspace { private: Some(owners), ..Lockspace::default() }),
        lockspaces: Some(leases),
        private: Some(PrivateDaemon {
            essentials: Some(numbers.essentials()),
            configuration_hex: private.configuration_hex.clone(),
            ..private.settings()
        }),
        ..Document::default()
    }
}

/// Describes the item of a record whose fd is missing.
fn is_missing(change: &Change, key: u64, numbers: &Numbers) -> Option<String> {
    if let Some(log) = change.log.as_ref().filter(|_| numbers.one(Kind::Log, key).is_none()) {
        let [path, name] = [&log.path, &log.domname].map(|text| text.as_deref().unwrap_or("?"));
        return Some(format!("the log {path} of {name}"));
    }
    let lease = change.lease.as_ref().filter(|_| numbers.one(Kind::Lease, key).is_none())?;
    let mut words = None;
    lease.resources.iter().for_each(|resources| {
        resources.for_each(|resource| {
            let path = resource.path.as_deref().unwrap_or("?");
            let holders =
                resource.private.iter().flat_map(|private| private.holders.iter().flatten());
            let names: Vec<_> = holders.filter_map(|holder| holder.name.as_deref()).collect();
            words = Some(format!("the lease on {path} of {}", names.join(", ")));
        });
    });
    words
}

/// Moves the items of the journal's document to its changes, unless a change replaces them. Returns
/// the number for the next client.
fn spread_out(contents: &mut JournalContents, main_server: &str) -> Option<u64> {
    let JournalContents { document, changes, spaces, .. } = contents;
    let mut add = |key: Option<u64>, change: Change| {
        if let Some(key) = key {
            changes.entry(key).or_insert(change);
        }
    };
    let logs = document.handler.take().and_then(|handler| handler.files);
    for log in logs.into_iter().flat_map(Items::into_vec) {
        let key = log.private.as_ref().and_then(|private| private.key);
        add(key, Change { log: Some(log), ..Change::default() });
    }
    let default = document.default_lockspace.take();
    for space in document.lockspaces.take().into_iter().flatten().chain(default) {
        let Lockspace { directory, resources, private } = space;
        if directory.is_some() {
            let directory = directory.clone();
            spaces.push(Lockspace { directory, resources: None, private: private.clone() });
        }
        for resource in resources.into_iter().flat_map(Items::into_vec) {
            let key = resource.private.as_ref().and_then(|private| private.key);
            let resources = Some(Items::Read(vec![resource]));
            let (directory, private) = (directory.clone(), private.clone());
            let lease = Lockspace { directory, resources, private };
            add(key, Change { lease: Some(lease), ..Change::default() });
        }
    }
    let main = document.daemon.take()?.into_servers(main_server).0?;
    for client in main.clients.into_iter().flatten() {
        let key = client.private.as_ref().and_then(|private| private.key);
        add(key, Change { client: Some(client), ..Change::default() });
    }
    main.next_client_id
}

/// Completes a log's record; `None` if its pipe is missing, as it was removed or never stored.
fn found_log(mut log: Log, key: u64, numbers: &Numbers, staged: &Staged) -> Option<Log> {
    log.pipefd = Some(numbers.one(Kind::Log, key)?);
    let pipes = staged.pipes.get(&key).map(Vec::as_slice).unwrap_or_default();
    let private = log.private.get_or_insert_default();
    private.key = Some(key);
    private.file = None;
    private.rotation_steps_left = None;
    private.staged_keys = Some(pipes.iter().map(|pipe| pipe.key).collect());
    private.staged = Some(pipes.iter().map(|pipe| pipe.ends).collect());
    private.after_crash = Some(true);
    // Bytes at risk were recorded after the line.
    if let Some(line) = staged.line(key, numbers) {
        line::resume(private, &line);
    }
    let is_lost = |&(key, _): &(u64, u64)| numbers.of(Kind::Pipe, key).len() < PIPE_ENDS;
    let mut lost: Vec<_> = private.staged_bytes.take().into_iter().flatten().collect();
    for (pipe_key, AtRisk { bytes, target, .. }) in staged.at_risk.get(&key).into_iter().flatten() {
        match target {
            Some(target) if is_lost(&(*pipe_key, *bytes)) && private.in_writing.is_none() => {
                private.in_writing = Some((*bytes, *target));
            }
            _ => lost.push((*pipe_key, *bytes)),
        }
    }
    line::add_loss(private, lost.into_iter().filter(is_lost).map(|(_, bytes)| bytes).sum());
    Some(log)
}

/// Completes a client's record; `None`, which closes the connection, also if its pending reply is
/// unknown.
fn found_client(
    mut client: Client,
    key: u64,
    numbers: &Numbers,
    calls: Option<&SlotFile>,
) -> Option<Client> {
    let fd = Some(numbers.one(Kind::Client, key)?);
    let slot = calls.and_then(|calls| calls.get(key).ok()).unwrap_or_default();
    let pending = match PendingReply::from_mark(slot) {
        PendingReply::Nothing => None,
        PendingReply::Answer(reply_to) => Some(reply_to.to_words()),
        PendingReply::Unknown => return None,
    };
    client.sock = Some(Socket { fd, ..Socket::default() });
    client.private =
        Some(PrivateClient { key: Some(key), pending_reply: pending, ..Default::default() });
    Some(client)
}

fn found_lease(
    mut lease: Lockspace<'static>,
    key: u64,
    numbers: &Numbers,
) -> Option<Lockspace<'static>> {
    let fd = Some(numbers.one(Kind::Lease, key)?);
    if let Some(resources) = &mut lease.resources {
        resources.change(move |resource| {
            resource.fd = fd;
            resource.private.get_or_insert_default().key = Some(key);
        });
    }
    Some(lease)
}

/// Staged bytes, by the log's key.
struct Staged {
    /// Slot file with lines about losses.
    slots: Option<SlotFile>,
    /// Non-empty staging pipes, in each log's order.
    pipes: HashMap<u64, Vec<StagedPipe>>,
    /// Bytes in pipes that the store may lack, by the pipe's key.
    at_risk: HashMap<u64, Vec<(u64, AtRisk)>>,
}

#[derive(Clone)]
struct StagedPipe {
    key: u64,
    order: u64,
    ends: (RawFd, RawFd),
}

impl Staged {
    /// Reads the slot files. Bytes at risk count only from this round on.
    fn read(numbers: &Numbers, round: u32) -> Self {
        let mut pipes: HashMap<u64, Vec<StagedPipe>> = HashMap::new();
        let slots = numbers.slot_files(Kind::StagingOwners);
        for key in numbers.keys(Kind::Pipe) {
            let owner = |slots: &SlotFile| slots.get(key).ok().and_then(Mark::parse);
            let latest = slots.iter().filter_map(|(.., slots)| owner(slots));
            let latest = latest.max_by_key(|owner| owner.order);
            if let (Some(Mark { owner, order }), Some(ends)) =
                (latest, ends(numbers.of(Kind::Pipe, key)))
            {
                pipes.entry(owner).or_default().push(StagedPipe { key, order, ends });
            }
        }
        pipes.values_mut().for_each(|pipes| pipes.sort_by_key(|pipe| pipe.order));
        let mut at_risk: HashMap<u64, Vec<(u64, AtRisk)>> = HashMap::new();
        let noted = slots.last().and_then(|(.., slots)| slots.at_risk().ok());
        for (key, noted) in noted.into_iter().flatten().filter(|(_, noted)| noted.round >= round) {
            at_risk.entry(noted.owner.into()).or_default().push((key, noted));
        }
        Self { pipes, at_risk, slots: slots.into_iter().next_back().map(|(.., slots)| slots) }
    }

    /// Returns the latest line about a loss of this log.
    fn line(&self, key: u64, numbers: &Numbers) -> Option<slots::Line> {
        let line = self.slots.as_ref()?.line(key).ok()??;
        let pipe = numbers.one(Kind::Log, key)?;
        let inode = |fd: BorrowedFd<'_>| fd::device_and_inode(fd).map(|(_, inode)| inode);
        fd::with_number(pipe, inode).is_ok_and(|inode| inode == line.pipe_inode).then_some(line)
    }
}

/// Owner of a staging pipe's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The log's key.
    pub owner: u64,
    /// Grows with each record, also across processes.
    pub order: u64,
}

impl Mark {
    /// Encodes it as a slot.
    #[must_use]
    pub fn to_bytes(self) -> slots::Mark {
        let mut bytes = slots::Mark::default();
        let (owner, order) = bytes.split_at_mut(size_of::<u64>());
        owner.copy_from_slice(&self.owner.to_ne_bytes());
        order.copy_from_slice(&self.order.to_ne_bytes());
        bytes
    }

    fn parse(bytes: slots::Mark) -> Option<Self> {
        let (owner, order) = bytes.split_at_checked(size_of::<u64>())?;
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
        let owner = Self { owner: word(owner)?, order: word(order)? };
        (owner.owner != 0).then_some(owner)
    }
}

/// Returns the read end and the write end of a non-empty pipe.
fn ends(numbers: &[RawFd]) -> Option<(RawFd, RawFd)> {
    let is_reader = |number: RawFd| fd::is(number, |fd| fd::is_readable(fd));
    let reader = numbers.iter().copied().find(|&number| is_reader(number))?;
    let writer = numbers.iter().copied().find(|&number| !is_reader(number))?;
    let is_filled = fd::is(reader, |fd| pipe::readable_bytes(fd).is_ok_and(|bytes| bytes > 0));
    is_filled.then_some((reader, writer))
}
