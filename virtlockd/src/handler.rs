//! Calls, connections and owners: what happens when, in libvirt's order.
//!
//! Whatever concerns one resource goes through its [lane](crate::lockspace::queue), and what becomes of owners
//! is in [`crate::owner::lifecycle`].

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use common::handover::document::{Change, Document};
use common::handover::stored::Kind;
use common::handover::{Passing, Reader};
use common::rpc::{self, Call, Reply};
use common::server::{Answer, Caller, ClientId, Core, Daemon, Progress};
use common::sys::pidfd;

use crate::error::file::Failure;
use crate::error::lock::Refusal;
use crate::lease::directory;
use crate::lease::job::{Done, Files};
use crate::lockspace::lease_break::{self, PutOff};
use crate::lockspace::lock_check;
use crate::lockspace::queue::{Lane, Task};
use crate::lockspace::resource::{Action, Claim, path_of};
use crate::lockspace::table::{Lockspaces, ResourceId};
use crate::owner::owners::{Owner, OwnerId, Owners};
use crate::owner::signals;
use crate::owner::termination;
use crate::owner::watch_retry;
use crate::persist::fd_store::Unstored;
use crate::protocol::{Guest, Operation, Request};
use crate::session::{Gone, Session};

/// The number of jobs for no resource; resources are numbered behind it.
pub(crate) const DIRECTORY: u64 = 0;

/// virtlockd's state.
#[derive(Debug)]
pub struct Handler {
    pub(crate) lockspaces: Lockspaces,
    pub(crate) owners: Owners,
    pub(crate) lanes: HashMap<ResourceId, Lane>,
    pub(crate) files: Files,
    pub(crate) sessions: HashMap<ClientId, Session>,
    /// In how many pid namespaces we have a number.
    pub(crate) depth: usize,
    pub(crate) unstored: BTreeSet<Unstored>,
    pub(crate) stopping: bool,
    /// Owners are to be looked for again later.
    pub(crate) watches_later: bool,
    /// Their locks lack something.
    pub(crate) lacking: BTreeSet<ResourceId>,
    /// That is to be looked for again later.
    pub(crate) settles_later: bool,
    pub(crate) put_off: PutOff,
}

/// What a job brings back.
#[derive(Debug)]
pub struct Outcome(pub(crate) Ended);

#[derive(Debug)]
pub(crate) enum Ended {
    /// Nobody waits for it.
    Nothing,
    /// The current action of this resource's lane.
    Action(ResourceId, Done),
    /// These owners were waited for to end.
    Waited(Vec<OwnerId>),
    /// A lockspace's directory was looked for, and made if need be.
    Directory { client: ClientId, space: Box<[u8]>, is_new: bool, result: Result<(), Failure> },
}

/// When a call that was not refused has its result.
enum Started {
    Ended,
    Later,
}

impl Handler {
    /// Without any lease.
    pub(crate) fn new() -> Self {
        Self {
            lockspaces: Lockspaces::new(),
            owners: Owners::default(),
            lanes: HashMap::new(),
            files: Files::new(),
            sessions: HashMap::new(),
            depth: pidfd::own_depth().unwrap_or(1),
            unstored: BTreeSet::new(),
            stopping: false,
            watches_later: false,
            lacking: BTreeSet::new(),
            settles_later: false,
            put_off: PutOff::default(),
        }
    }

    fn start(
        &mut self,
        core: &mut Core<Outcome>,
        from: Caller,
        request: Request,
    ) -> Result<Started, Refusal> {
        let session = self.sessions.entry(from.client).or_insert_with(|| Session::new(from));
        session.check(&request)?;
        match request {
            Request::Restrict { .. } => {
                session.is_restricted = true;
                self.keep_session(core, from.client);
            }
            Request::Register { guest, .. } => self.register(core, from, guest),
            Request::New { space, .. } => return self.add_lockspace(core, from, space, true),
            Request::CreateLockspace { space } => {
                return self.add_lockspace(core, from, space, false);
            }
            Request::Resource { operation, space, name, .. } => {
                let mut claim = session.claim.clone().ok_or(Refusal::Unregistered)?;
                if matches!(operation, Operation::Acquire(_)) && self.lockspaces.has_space(&space) {
                    let too_many = || Refusal::File(Failure::too_many(&path_of(&space, &name)));
                    claim = self.watch_after_all(core, from, claim).ok_or_else(too_many)?;
                }
                let resource = self.lockspaces.resource(&space, &name)?;
                self.call_is_in_flight(from.client);
                let action = Action::new(operation, claim);
                self.perform(core, resource, Task::of_client(action, from.client));
                return Ok(Started::Later);
            }
        }
        Ok(Started::Ended)
    }

    /// A registration may be replaced; leases stay with the owner for whom they were acquired.
    pub(crate) fn register(&mut self, core: &mut Core<Outcome>, from: Caller, guest: Guest) {
        let guest = Arc::new(guest);
        let (owner, is_own) = self.owner_of(core, from, &guest);
        self.speaks_for(from.client, Claim { owner, guest }, is_own);
        self.keep_session(core, from.client);
    }

    /// From now on a connection is registered for this guest.
    pub(crate) fn speaks_for(&mut self, client: ClientId, claim: Claim, is_own: bool) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        self.owners.connect(claim.owner, &claim.guest, is_own);
        let was_own = std::mem::replace(&mut session.is_own, is_own);
        if let Some(last) = session.claim.replace(claim) {
            self.owners.disconnect(last.owner, was_own);
        }
    }

    fn add_lockspace(
        &mut self,
        core: &mut Core<Outcome>,
        from: Caller,
        space: Box<[u8]>,
        is_new: bool,
    ) -> Result<Started, Refusal> {
        if is_new && space.is_empty() {
            return Err(Refusal::DefaultLockspace);
        }
        if self.lockspaces.has_space(&space) {
            return if is_new { Err(Refusal::LockspaceExists(space)) } else { Ok(Started::Ended) };
        }
        self.call_is_in_flight(from.client);
        let path = Path::new(OsStr::from_bytes(&space)).to_owned();
        core.submit_at_path(&path, DIRECTORY, Progress::default(), move || {
            let result = directory::make(Path::new(OsStr::from_bytes(&space)));
            Outcome(Ended::Directory { client: from.client, space, is_new, result })
        });
        Ok(Started::Later)
    }

    fn directory_is_there(
        &mut self,
        core: &mut Core<Outcome>,
        space: Box<[u8]>,
        is_new: bool,
    ) -> Result<(), Refusal> {
        if is_new && self.lockspaces.has_space(&space) {
            return Err(Refusal::LockspaceExists(space));
        }
        self.lockspaces.add_space(&space)?;
        core.note(&Change::added_space(&space));
        Ok(())
    }

    fn call_is_in_flight(&mut self, client: ClientId) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.has_call_in_flight = true;
        }
    }

    pub(crate) fn answer(
        &mut self,
        core: &mut Core<Outcome>,
        client: ClientId,
        result: Result<(), Refusal>,
    ) {
        core.answer(client, self.reply(client, result));
        if let Some(session) = self.sessions.get_mut(&client) {
            session.has_call_in_flight = false;
            if let Some(gone) = session.gone {
                self.session_ended(core, client, gone);
            }
        }
    }

    /// The reply to a result, after a refusal has been logged.
    fn reply(&self, client: ClientId, result: Result<(), Refusal>) -> Result<Reply, rpc::Error> {
        let Err(refusal) = result else {
            return Ok(Reply::default());
        };
        let error = rpc::Error::from(&refusal);
        let requester = self.sessions.get(&client).map(Session::requester).unwrap_or_default();
        let message = error.message();
        match refusal.holders() {
            Some(holders) => tracing::warn!(
                target: "locking.lock_daemon", "Refused to {requester}: {message}: {holders}"
            ),
            None => tracing::info!(
                target: "locking.lock_daemon", "Refused to {requester}: {message}"
            ),
        }
        Err(error)
    }

    /// Releases what an owner has, all of it if it has ended, else what the fd store has not.
    fn disown_unstored(&mut self, core: &mut Core<Outcome>, id: OwnerId) {
        if self.owners.get(id).is_none_or(Owner::has_ended) {
            self.disown_all(core, id);
            return;
        }
        let mut leases = self.owners.leases(id);
        leases.retain(|&lease| !self.is_lease_stored(core, lease));
        for lease in leases {
            self.perform(core, lease, Task::of_our_own(Action::Disown(id)));
        }
    }

    fn gone(&mut self, core: &mut Core<Outcome>, client: ClientId, gone: Gone) {
        match self.sessions.get_mut(&client) {
            Some(session) if session.has_call_in_flight => session.gone = Some(gone),
            _ => self.session_ended(core, client, gone),
        }
    }

    /// When a guest closes its own connection, it is taken for gone: if it lives and has leases,
    /// whoever acquired them, it is ended, and they are free when it has ended. Of one that cannot
    /// be signalled for sure they are free at once.
    fn session_ended(&mut self, core: &mut Core<Outcome>, client: ClientId, gone: Gone) {
        let Some(session) = self.sessions.remove(&client) else {
            return;
        };
        let Some(Claim { owner, guest }) = &session.claim else {
            return;
        };
        if session.is_own && self.has_leases(*owner) {
            self.owner_is_not_connected(core, *owner, guest, &session, gone);
        }
        self.owners.disconnect(*owner, session.is_own);
    }

    fn owner_is_not_connected(
        &mut self,
        core: &mut Core<Outcome>,
        owner: OwnerId,
        guest: &Guest,
        session: &Session,
        gone: Gone,
    ) {
        if self.owners.get(owner).is_none_or(Owner::has_ended) {
            return self.owner_has_ended(core, owner);
        }
        if gone == Gone::Dropped || (session.was_closed && self.is_watched(owner)) {
            return tracing::warn!(
                target: "locking.lock_daemon",
                "{guest} is not connected any more, and has its leases until it ends"
            );
        }
        self.end(core, owner);
        if !self.is_being_ended(owner) {
            self.disown_all(core, owner);
        }
    }
}

impl Daemon for Handler {
    type Outcome = Outcome;

    fn call(&mut self, core: &mut Core<Outcome>, from: Caller, call: Call) -> Answer {
        let request = Request::decode(call.procedure, &call.arguments)
            .and_then(|request| request.check_flags().map(|()| request));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Answer::Now(Err(error)),
        };
        match self.start(core, from, request) {
            Ok(Started::Later) => Answer::Later,
            Ok(Started::Ended) => Answer::Now(Ok(Reply::default())),
            Err(refusal) => Answer::Now(self.reply(from.client, Err(refusal))),
        }
    }

    fn disconnected(&mut self, core: &mut Core<Outcome>, caller: Caller) {
        self.gone(core, caller.client, Gone::Closed);
    }

    fn dropped(&mut self, core: &mut Core<Outcome>, caller: Caller) {
        self.gone(core, caller.client, Gone::Dropped);
    }

    /// An owner's pidfd.
    fn ready(&mut self, core: &mut Core<Outcome>, source: u64) {
        let id = OwnerId(source);
        if self.owners.get(id).is_some_and(Owner::has_ended) {
            self.owner_has_ended(core, id);
        }
    }

    /// An owner that was asked to end has not, or it is time to look for those nobody watches.
    fn timer(&mut self, core: &mut Core<Outcome>, source: u64) {
        match source {
            watch_retry::RETRY => self.watch_again(core),
            lock_check::RETRY => self.settle_again(core),
            lease_break::RETRY => self.try_again(core),
            owner => self.ending_is_due(OwnerId(owner)),
        }
    }

    fn job_ended(&mut self, core: &mut Core<Outcome>, outcome: Outcome) {
        match outcome.0 {
            Ended::Nothing => {}
            Ended::Action(resource, done) => self.job_of_action_ended(core, resource, done),
            Ended::Waited(owners) => self.endings_are_finished(core, owners),
            Ended::Directory { client, space, is_new, result } => {
                let result = match result {
                    Ok(()) => self.directory_is_there(core, space, is_new),
                    Err(failure) => Err(Refusal::File(failure)),
                };
                self.answer(core, client, result);
            }
        }
    }

    /// Only its client waits for it, and others for the same resource.
    fn job_is_late(&mut self, _: &mut Core<Outcome>, source: u64) {
        tracing::debug!(target: "locking.lock_daemon", "Slow: {}", self.describe_job(source));
    }

    fn describe_job(&self, source: u64) -> String {
        if source == termination::WAITING {
            return "waiting for guests to end".to_owned();
        }
        let resource = ResourceId(source);
        let path = self.lockspaces.path(resource);
        let path = path.as_deref().unwrap_or(Path::new("a lockspace's directory"));
        let client = self.lanes.get(&resource).and_then(Lane::client);
        let requester = client.and_then(|client| self.sessions.get(&client));
        match requester.map(Session::requester) {
            Some(requester) => format!("what {requester} asked for {}", path.display()),
            None => format!("what was to be done with {}", path.display()),
        }
    }

    /// Nobody waits for the descriptors of a lease.
    fn job_given_up(&mut self, _: &mut Core<Outcome>, _: u64) {}

    fn is_in_use(&self) -> bool {
        !self.lockspaces.are_unused()
    }

    fn save<'a>(&'a self, document: &mut Document<'a>, passing: &'a Passing, reader: Reader) {
        self.save_into(document, passing, reader);
    }

    fn save_header(&self, document: &mut Document<'_>) {
        self.save_without_leases(document);
    }

    /// Leases need nothing but to be left alone.
    fn settle(&mut self, core: &mut Core<Outcome>, reader: Reader) {
        self.put_off.hurry();
        self.finish_endings(core, reader);
    }

    fn keep_all(&mut self, core: &mut Core<Outcome>) {
        self.keep_everything(core);
    }

    fn keep_more(&mut self, core: &mut Core<Outcome>) {
        self.keep_unstored(core);
    }

    fn is_not_stored(&mut self, kind: Kind, key: u64) {
        self.forget_key(kind, key);
    }

    fn client_is_not_stored(&mut self, client: ClientId) {
        self.unstored.insert(Unstored::Session(client));
    }

    fn keep_no_more(&mut self) {
        self.forget_keys();
    }

    fn resume(&mut self, _: &mut Core<Outcome>) {
        self.put_off.take_time();
    }

    fn status(&self) -> String {
        format!("{} leases held", self.owners.leases_count())
    }

    fn at_stake(&self) -> Option<String> {
        let leases = self.owners.leases_count();
        let cost = "a restart or a stop ends the guests that hold them";
        (leases > 0).then(|| format!("a crash frees {leases} leases, {cost}"))
    }

    /// Leases in the fd store stay there. Guests that depend on others are ended before these go.
    /// This is the one place that waits, as nothing comes after it.
    fn stop(&mut self, core: &mut Core<Outcome>) {
        self.stopping = true;
        let all = self.owners.iter().filter(|(id, _)| !self.are_leases_stored(core, *id));
        let unstored: Vec<OwnerId> = all.map(|(id, _)| id).collect();
        let owners = unstored.iter().filter_map(|&id| self.owners.get(id));
        let (dependent, others): (Vec<_>, Vec<_>) = owners.partition(|owner| owner.depends_on_us());
        if core.has_store() {
            signals::finish(self.owners.iter().map(|(_, owner)| owner));
            tracing::info!(
                target: "locking.lock_daemon",
                "Leases in the fd store stay there for whoever comes next; of {} owners some are not there",
                unstored.len()
            );
        }
        signals::end_all(&dependent);
        for owner in others.iter().filter(|owner| owner.has_leases()) {
            tracing::warn!(
                target: "locking.lock_daemon",
                "This daemon stops: {} has no connection of its own and loses its leases",
                owner.guest
            );
        }
        for id in unstored {
            self.disown_unstored(core, id);
        }
    }
}
