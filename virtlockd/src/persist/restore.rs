//! Leases and their owners out of a state document.
//!
//! A lease is never let go because something is wrong with its entry: whatever fd is there stays
//! open, under the name that is known, for the holders that are known. No file system is asked for
//! anything, as one that hangs would keep everybody waiting.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::handover::Inherited;
use common::handover::document::{
    self, Document, Holder, Items, Lack, Lock, Lockspace, Pid, PrivateSession,
};
use common::handover::text::{bytes_of, parse_uuid, unhex};
use common::server::Caller;
use common::sys::fd;
use common::sys::lock::{Hold, Kind, Mode};
use common::sys::pidfd;
use nix::errno::Errno;

use crate::connections::set_registration;
use crate::ids::{OwnerId, ResourceId};
use crate::lease::inode::Inode;
use crate::lease::job::Lease;
use crate::lockspace::execution::perform;
use crate::lockspace::holders::{Holding, Holdings};
use crate::lockspace::lock_check;
use crate::lockspace::queue::Task;
use crate::lockspace::resource::Action;
use crate::outcome::Core;
use crate::owner::identity::{Identity, Key, Known, Way};
use crate::owner::lifecycle::{find_living, owner_of_process};
use crate::owner::lookup::{self, Found, Registrant};
use crate::owner::registration::Registration;
use crate::owner::termination;
use crate::owner::watch_retry::{self, spare_last_fds};
use crate::persist::save::flag;
use crate::protocol::{Guest, Terms};
use crate::session::Session;
use crate::state::State;

/// Restores clients' registrations and leases.
pub(crate) fn restore(
    state: &mut State,
    core: &mut Core,
    document: Document<'static>,
    clients: Vec<(Caller, document::Session)>,
    inherited: &mut Inherited,
) {
    let mut adopted = Adopted::default();
    // A guest's own connection says most about who the guest is.
    let sessions =
        clients.into_iter().map(|(caller, from)| read_session(state, core, caller, from));
    let (own, others): (Vec<_>, Vec<_>) =
        sessions.collect::<Vec<_>>().into_iter().partition(|session| session.is_own);
    for session in own.into_iter().chain(others) {
        adopt_session(state, core, session, &mut adopted);
    }
    let mut default = document.default_lockspace.unwrap_or_default();
    default.directory = None;
    let listed = default.private.take().unwrap_or_default();
    let mut adoption = Adoption {
        state,
        core,
        inherited,
        adopted,
        listed: HashMap::new(),
        of_the_dead: Vec::new(),
    };
    adoption.list(listed.owners.unwrap_or_default());
    for space in document.lockspaces.into_iter().flatten().chain([default]) {
        adoption.adopt_space(space);
    }
    for ending in listed.endings.into_iter().flatten() {
        if let (Some(guest), Some(deadline_ms)) = (ending.guest, ending.deadline_boot_ms) {
            adoption.adopt_ending(&guest, deadline_ms);
        }
    }
    adoption.release_what_the_dead_have();
    lock_check::check_all(state, core);
    watch_retry::schedule(state, core);
}

/// Protects inherited files of which nothing is known: they may have POSIX locks, so they are never
/// opened. A leased file's fd belongs to its lease, and one that was left open on purpose is marked.
pub(crate) fn protect_unknown(state: &State, inherited: &Inherited) {
    inherited.for_each(|fd| {
        let is_known = |inode| state.files.posix.has(inode) || state.lockspaces.has_lease_of(inode);
        if fd::may_have_lock(fd) && !fd::is_marked(fd) && !Inode::of_open(fd).is_ok_and(is_known) {
            protect(state, fd);
        }
    });
}

/// Protects a file as one that has a POSIX lock until this process ends.
fn protect(state: &State, fd: BorrowedFd<'_>) {
    if let Ok(inode) = Inode::of_open(fd) {
        state.files.posix.add(inode, Mode::Exclusive, Hold::Whole(Kind::Posix));
    }
}

fn read_session(
    state: &State,
    core: &mut Core,
    caller: Caller,
    from: document::Session,
) -> ReadSession {
    let document::Session { owner_pid: pid, owner_id: id, owner_name, owner_uuid, .. } = from;
    let is_registered = matches!((id, pid), (Some(1..), Some(_)));
    let PrivateSession { is_own, process } = from.private.unwrap_or_default();
    let holder = Holder { pid, id, name: owner_name, uuid: owner_uuid, ..Holder::default() };
    let guest = is_registered.then(|| Arc::new(guest_of(&holder)));
    let registrant = guest.as_ref().filter(|_| is_own.is_none());
    let registrant =
        registrant.map(|guest| Registrant::of(core, caller, guest.pid, state.pid_namespace_depth));
    let is_own = is_own.unwrap_or(registrant.as_ref().is_some_and(|found| found.is_guest));
    let is_restricted = from.restricted.unwrap_or(true);
    ReadSession { caller, is_restricted, guest, is_own, process, registrant }
}

fn adopt_session(state: &mut State, core: &mut Core, from: ReadSession, adopted: &mut Adopted) {
    let ReadSession { caller, is_restricted, guest, is_own, process, registrant } = from;
    let mut session = Session::new(caller);
    session.is_restricted = is_restricted;
    session.was_closed = core.has_hung_up(caller.client);
    state.sessions.insert(session);
    let Some(guest) = guest else { return };
    let known = registrant.as_ref().map_or_else(|| known_of(process.as_ref()), |r| r.known);
    let may_be_known = !is_own && !is_dead(process.as_ref());
    let found = adopted.find(&guest, &known).filter(|_| may_be_known);
    let owner = found.unwrap_or_else(|| {
        let found = match registrant {
            Some(registrant) => registrant.find(guest.pid),
            None => find_again(core, caller, &guest, process.as_ref(), is_own),
        };
        adopt_owner(state, core, &guest, known, found, adopted)
    });
    set_registration(state, caller.client, Registration { owner, guest }, is_own);
}

/// Returns the owner that a process is, a dead one if it has ended.
fn adopt_owner(
    state: &mut State,
    core: &mut Core,
    guest: &Arc<Guest>,
    known: Known,
    found: Found,
    adopted: &mut Adopted,
) -> OwnerId {
    let found = match found {
        Found::Process(pidfd) if pidfd::has_ended(&pidfd) => Found::Dead,
        found => spare_last_fds(found),
    };
    let is_dead = matches!(found, Found::Dead);
    let living = find_living(state, core, guest, &known);
    let owner = owner_of_process(state, core, guest, known, found, living);
    adopted.add(guest, &known, owner, is_dead);
    owner
}

/// A client's session in a document, and what is seen of the client.
struct ReadSession {
    caller: Caller,
    is_restricted: bool,
    guest: Option<Arc<Guest>>,
    is_own: bool,
    process: Option<document::Process>,
    /// Of one that a build or a daemon has put down that did not look who it is.
    registrant: Option<Registrant>,
}

/// Owners that were found, and those that had ended.
#[derive(Default)]
struct Adopted(HashMap<Key, (OwnerId, Option<Identity>, bool)>);

impl Adopted {
    /// Who lives comes before who has ended and had the same number.
    fn add(&mut self, guest: &Guest, known: &Known, owner: OwnerId, is_dead: bool) {
        let Some(key) = known.keys(guest)[0] else { return };
        let is_better = self.0.get(&key).is_none_or(|&(.., was_dead)| was_dead);
        if is_better {
            self.0.insert(key, (owner, known.identity, is_dead));
        }
    }

    /// Of whom more is known than the number is not one that had ended, of whom it is not.
    fn find(&self, guest: &Guest, known: &Known) -> Option<OwnerId> {
        let &(owner, identity, was_dead) = self.0.get(&known.keys(guest)[0]?)?;
        let is_another = was_dead && identity.is_none() && known.identity.is_some();
        (!is_another && known.may_be(&Known { identity, ..*known })).then_some(owner)
    }
}

/// Leases on their way from a document to the handler.
struct Adoption<'a> {
    state: &'a mut State,
    core: &'a mut Core,
    inherited: &'a mut Inherited,
    adopted: Adopted,
    /// Owners by pid, dead ones too.
    listed: HashMap<u32, OwnerId>,
    /// Leases of owners that have ended. They are released in the end, as who has none is forgotten.
    of_the_dead: Vec<(OwnerId, ResourceId)>,
}

impl Adoption<'_> {
    fn list(&mut self, owners: Vec<Holder>) {
        for owner in owners {
            let guest = Arc::new(guest_of(&owner));
            let id = self.owner_of_holder(&guest, owner.process.as_ref());
            self.listed.insert(guest.pid, id);
        }
    }

    fn adopt_space(&mut self, mut from: Lockspace<'static>) {
        let resources = from.resources.take().map(Items::into_vec).unwrap_or_default();
        let space = from.path();
        self.state.lockspaces.adopt_space(&space);
        self.state.lockspaces.reserve(&space, resources.len());
        for resource in resources {
            if let Err(error) = self.adopt(&space, &resource) {
                let Self { state, inherited, .. } = self;
                let number = resource.fd.into_iter();
                number.for_each(|number| inherited.show(number, |fd| protect(state, fd)));
                tracing::error!(
                    target: "locking.lock_daemon",
                    "The lease on '{}' in lockspace '{}' was not understood ({error}); \
                     its file stays locked until this daemon ends",
                    resource.path.or(resource.name).unwrap_or_default(), space.escape_ascii()
                );
            }
        }
    }

    /// On failure the fd stays with `inherited`, and open, where it is there at all.
    fn adopt(&mut self, space: &[u8], from: &document::Resource) -> io::Result<()> {
        let nothing = document::PrivateResource::default();
        let private = from.private.as_ref().unwrap_or(&nothing);
        let name = from.name.as_deref().or(from.path.as_deref()).ok_or(Errno::ENOENT)?;
        let name = bytes_of(private.name.as_deref(), name);
        // An earlier version has put the bytes of a lockspace here alone.
        let directory = private.directory.as_deref().and_then(unhex);
        let directory = directory.map_or(space.into(), Cow::Owned);
        let lockspaces = &mut self.state.lockspaces;
        lockspaces.adopt_space(&directory);
        let id = lockspaces.adopt_resource(&directory, &name);
        let id = id.map_err(|_| io::Error::other("its lockspace is not there"))?;
        if lockspaces.is_held(id) {
            return Err(Errno::EEXIST.into());
        }
        let flags = from.flags.unwrap_or(0);
        let terms =
            Terms { shared: flags & flag::SHARED != 0, autocreate: flags & flag::AUTOCREATE != 0 };
        let lease = match self.lease(from, private, terms) {
            Ok(lease) => lease,
            Err(error) => {
                self.state.lockspaces.forget_unused(id);
                return Err(error);
            }
        };
        let holdings = self.holdings(private.holders.as_deref(), from.owners.as_deref());
        let owners: Vec<OwnerId> = holdings.iter().map(|(owner, _)| owner).collect();
        self.state.lockspaces.adopt(id, private.key, lease, terms, holdings);
        for owner in owners {
            self.state.owners.gained(owner, id);
            if self.state.owners.get(owner).is_some_and(|owner| owner.is_dead) {
                self.of_the_dead.push((owner, id));
            }
        }
        Ok(())
    }

    fn release_what_the_dead_have(self) {
        for (owner, id) in self.of_the_dead {
            perform(self.state, self.core, id, Task::internal(Action::Disown(owner)));
        }
    }

    fn lease(
        &mut self,
        from: &document::Resource,
        private: &document::PrivateResource,
        terms: Terms,
    ) -> io::Result<Lease> {
        let is_file = |fd: BorrowedFd<'_>| !fd::is_socket(fd);
        let file = File::from(self.inherited.take_as(from.fd, Errno::EINVAL, is_file)?);
        let kind = private.lock.map_or(Kind::Posix, |Lock::Ofd| Kind::Ofd);
        let hold = match private.lacks {
            None => Hold::Whole(kind),
            Some(Lack::Exclusiveness) => Hold::Shared(kind),
            Some(Lack::Everything) => Hold::Nothing,
        };
        let inode = match (kind, private.file) {
            (Kind::Ofd, Some((device, number))) => Inode { device, number },
            _ => Inode::of_open(&file)?,
        };
        let files = &self.state.files;
        let lease = Lease::adopted(files, file, inode, terms.mode(), hold);
        for &number in private.parked.iter().flatten() {
            // Each lease of the file has named them.
            if let Ok(fd) = self.inherited.take(Some(number)) {
                files.posix.park(inode, fd.into());
            }
        }
        Ok(lease)
    }

    /// libvirt's daemons know no more of holders than their pids, each as often as it has the lease.
    fn holdings(&mut self, holders: Option<&[Holder]>, pids: Option<&[Pid]>) -> Holdings {
        let mut holdings = Holdings::default();
        if let Some(holders) = holders {
            holders.iter().for_each(|holder| self.add_to(&mut holdings, holder));
        } else {
            for &Pid(pid) in pids.unwrap_or_default() {
                self.add_to(&mut holdings, &Holder { pid, ..Holder::default() });
            }
        }
        holdings
    }

    fn add_to(&mut self, holdings: &mut Holdings, holder: &Holder) {
        let listed = holder.pid.filter(|_| holder.id.is_none());
        let listed = listed.and_then(|pid| self.listed.get(&pid).copied());
        let process = holder.process.as_ref();
        let owner =
            listed.unwrap_or_else(|| self.owner_of_holder(&Arc::new(guest_of(holder)), process));
        let Some(guest) = self.state.owners.get(owner).map(|owner| &owner.guest) else { return };
        let shares = holder.shares.unwrap_or(1).max(1);
        if let Some(holding) = holdings.get_mut(owner) {
            holding.shares = holding.shares.saturating_add(shares);
            return;
        }
        let since = holder.since_unix_s.map(Duration::from_secs);
        let since = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        let was_had_before = holder.had_before.unwrap_or(since.is_none());
        let (guest, since) = (Arc::clone(guest), since.unwrap_or_else(SystemTime::now));
        holdings.insert(owner, Holding { guest, since, was_had_before, shares });
    }

    /// Goes on with ending a guest; nobody is signalled who may be another.
    fn adopt_ending(&mut self, guest: &Holder, deadline_ms: u64) {
        let process = guest.process.as_ref();
        let is_sure = known_of(process).identity.is_some();
        let owner = self.owner_of_holder(&Arc::new(guest_of(guest)), process);
        if is_sure && self.state.owners.is_watched(owner) {
            termination::begin_until(self.state, self.core, owner, deadline_ms);
        }
        self.state.owners.forget_unused(owner);
    }

    fn owner_of_holder(
        &mut self,
        guest: &Arc<Guest>,
        process: Option<&document::Process>,
    ) -> OwnerId {
        let (known, is_dead) = (known_of(process), is_dead(process));
        if let Some(owner) = self.adopted.find(guest, &known).filter(|_| !is_dead) {
            return owner;
        }
        let found = if is_dead { Found::Dead } else { lookup::again(guest, &known) };
        if matches!(found, Found::Dead) {
            tracing::info!(
                target: "locking.lock_daemon", "{guest} has ended, its leases are released"
            );
        }
        adopt_owner(self.state, self.core, guest, known, found, &mut self.adopted)
    }
}

/// The process of a session. A peer is had from its connection where the kernel can do that.
fn find_again(
    core: &mut Core,
    caller: Caller,
    guest: &Guest,
    process: Option<&document::Process>,
    is_own: bool,
) -> Found {
    if is_dead(process) {
        return Found::Dead;
    }
    let known = known_of(process);
    if !is_own {
        return lookup::again(guest, &known);
    }
    match core.peer_pidfd(caller.client) {
        Err(error) if lookup::cannot_tell(&error) => lookup::again(guest, &known),
        result => result.into(),
    }
}

fn is_dead(process: Option<&document::Process>) -> bool {
    process.is_some_and(|process| process.found == Some(document::Found::Dead))
}

/// What an earlier image knew. One that kept nothing of it has looked for the number.
fn known_of(process: Option<&document::Process>) -> Known {
    let Some(process) = process else { return Known::BY_NUMBER };
    let way = match (process.found, process.number) {
        (None | Some(document::Found::Dead), _) => Way::Number,
        (Some(document::Found::Connection), Some(number)) => Way::Connection { number },
        (Some(document::Found::Connection), None) | (Some(document::Found::Never), _) => Way::Never,
    };
    let identity = process.inode.map(Identity::Inode).or(process.start.map(Identity::Start));
    Known { way, identity, namespace: process.namespace }
}

fn guest_of(Holder { pid, id, name, uuid, .. }: &Holder) -> Guest {
    Guest {
        uuid: uuid.as_deref().and_then(parse_uuid).unwrap_or_default(),
        name: name.as_deref().unwrap_or_default().as_bytes().into(),
        id: id.unwrap_or(0),
        pid: pid.unwrap_or(0),
    }
}
