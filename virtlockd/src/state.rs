//! Leases and their owners as part of a state document, and back.
//!
//! A lease is never let go because something is wrong with its entry: whatever fd is there stays
//! open, under the name that is known, for the holders that are known.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::handover::document::{self, Document, Holder, Lockspace, Pid, PrivateResource};
use common::handover::text::{hex, parse_uuid, unhex, uuid};
use common::handover::{Inherited, Passing, Reader};
use common::server::{Caller, ClientId, Core};
use common::sys::lock::Kind;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::ending::{self, Found};
use crate::file::{Inode, Lease};
use crate::handler::{Handler, Outcome};
use crate::lane::Task;
use crate::owner::OwnerId;
use crate::protocol::{Guest, Terms};
use crate::resource::{Action, Holding, Resource};
use crate::session::Session;

/// How the document says that a lock is of our kind.
const OFD: &str = "ofd";

/// Flags of a resource, libvirt's values.
mod flag {
    pub(super) const SHARED: u32 = 1;
    pub(super) const AUTOCREATE: u32 = 2;
}

impl Handler {
    /// Puts all leases, and what is known of clients, into `document`.
    pub(crate) fn save_into(&self, document: &mut Document, passing: &mut Passing, reader: Reader) {
        for client in document.clients_mut(crate::NAME) {
            let session = client.id.map(ClientId::of_main_server);
            let session = session.and_then(|id| self.sessions.get(&id));
            client.private_data = Some(save_session(session));
        }
        let mut spaces: BTreeMap<&[u8], Vec<document::Resource>> = BTreeMap::new();
        spaces.insert(b"", Vec::new());
        spaces.extend(self.lockspaces.spaces().map(|space| (space, Vec::new())));
        for resource in self.lockspaces.resources() {
            let saved = save_resource(resource, passing, reader);
            spaces.entry(&resource.space).or_default().extend(saved);
        }
        let lockspaces = spaces.into_iter().map(|(space, resources)| Lockspace {
            directory: (!space.is_empty()).then(|| String::from_utf8_lossy(space).into_owned()),
            resources: Some(resources),
        });
        let (default, others): (Vec<_>, Vec<_>) =
            lockspaces.partition(|space| space.directory.is_none());
        document.default_lockspace = default.into_iter().next();
        document.lockspaces = Some(others);
    }

    /// Takes over clients' registrations and leases.
    pub(crate) fn adopt_from(
        &mut self,
        core: &mut Core<Outcome>,
        document: Document,
        clients: Vec<(Caller, document::Session)>,
        inherited: &mut Inherited,
    ) {
        for (caller, from) in clients {
            self.adopt_session(core, caller, from);
        }
        let default =
            document.default_lockspace.map(|space| Lockspace { directory: None, ..space });
        for Lockspace { directory, resources } in
            document.lockspaces.into_iter().flatten().chain(default)
        {
            let space = directory.unwrap_or_default();
            for resource in resources.into_iter().flatten() {
                self.adopt_resource(core, &space, resource, inherited);
            }
            self.add_space(space.as_bytes());
        }
    }

    /// Files of which nothing is known may have POSIX locks, too: they are never opened.
    pub(crate) fn protect_unknown(&self, inherited: &Inherited) {
        inherited.for_each(|fd| {
            if let Ok(stat) = fstat(fd) {
                self.posix.add(Inode { device: stat.st_dev, number: stat.st_ino });
            }
        });
    }

    fn adopt_session(&mut self, core: &mut Core<Outcome>, caller: Caller, from: document::Session) {
        let mut session = Session::new(caller);
        session.is_restricted = from.restricted.unwrap_or(false);
        self.sessions.insert(caller.client, session);
        let document::Session { owner_pid, owner_id, owner_name, owner_uuid, .. } = from;
        if let (Some(id @ 1..), Some(pid)) = (owner_id, owner_pid) {
            let guest = guest(Some(id), pid, owner_name, owner_uuid.as_deref());
            self.register(core, caller, guest);
        }
    }

    fn adopt_resource(
        &mut self,
        core: &mut Core<Outcome>,
        space: &str,
        from: document::Resource,
        inherited: &mut Inherited,
    ) {
        let shown = from.path.clone().or_else(|| from.name.clone()).unwrap_or_default();
        if let Err(error) = self.try_adopt_resource(core, space, from, inherited) {
            tracing::error!(
                target: "locking.lock_daemon",
                "The lease on '{shown}' in lockspace '{space}' was not understood ({error}); \
                 its file stays locked until this daemon ends"
            );
        }
    }

    /// On failure the fd stays with `inherited`, and open, where it is there at all.
    fn try_adopt_resource(
        &mut self,
        core: &mut Core<Outcome>,
        space: &str,
        from: document::Resource,
        inherited: &mut Inherited,
    ) -> io::Result<()> {
        let private = from.private.unwrap_or_default();
        let bytes = |hexadecimal: Option<String>, text: String| {
            hexadecimal.and_then(|text| unhex(&text)).unwrap_or_else(|| text.into_bytes())
        };
        let name = from.name.or(from.path).ok_or(Errno::ENOENT)?;
        let (space, name) = (bytes(private.directory, space.into()), bytes(private.name, name));
        self.add_space(&space);
        let id = self.lockspaces.resource(&space, &name);
        let id = id.map_err(|_| io::Error::other("its lockspace is not there"))?;
        if self.lockspaces.is_held(id) {
            return Err(Errno::EEXIST.into());
        }
        let file = File::from(inherited.take(from.fd)?);
        let inode = Inode::of(&file.metadata()?);
        let kind = if private.lock.as_deref() == Some(OFD) { Kind::Ofd } else { Kind::Posix };
        if kind == Kind::Posix {
            self.posix.add(inode);
        }
        let flags = from.flags.unwrap_or(0);
        let terms =
            Terms { shared: flags & flag::SHARED != 0, autocreate: flags & flag::AUTOCREATE != 0 };
        let holders = self.holders(core, private.holders, from.owners.unwrap_or_default());
        let owners: Vec<OwnerId> = holders.keys().copied().collect();
        self.lockspaces.adopt(id, Lease::adopted(file, inode, kind), terms, holders);
        if let Some(resource) = self.lockspaces.resource_mut(id) {
            resource.key = private.key;
        }
        for owner in owners {
            self.owners.gained(owner, id);
            if self.owners.get(owner).is_some_and(|owner| owner.is_dead) {
                self.perform(core, id, Task::of_our_own(Action::Disown(owner)));
            }
        }
        Ok(())
    }

    /// libvirt's daemons know no more of holders than their pids, each as often as it has the lease.
    fn holders(
        &mut self,
        core: &mut Core<Outcome>,
        known: Option<Vec<Holder>>,
        pids: Vec<Pid>,
    ) -> BTreeMap<OwnerId, Holding> {
        let mut holders: BTreeMap<OwnerId, Holding> = BTreeMap::new();
        let from_pids = || pids.into_iter().map(|Pid(pid)| Holder { pid, ..Holder::default() });
        for Holder { pid, id, name, uuid, shares, since_unix_s } in
            known.unwrap_or_else(|| from_pids().collect())
        {
            let guest = Arc::new(guest(id, pid.unwrap_or(0), name, uuid.as_deref()));
            let owner = self.owner_of_holder(core, &guest);
            let registered = self.owners.get(owner).map(|owner| Arc::clone(&owner.guest));
            let since = since_unix_s.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
            let holding = Holding {
                guest: registered.unwrap_or(guest),
                since: since.unwrap_or_else(SystemTime::now),
                shares: 0,
            };
            holders.entry(owner).or_insert(holding).shares += shares.unwrap_or(1).max(1);
        }
        holders
    }

    fn owner_of_holder(&mut self, core: &mut Core<Outcome>, guest: &Arc<Guest>) -> OwnerId {
        if let Some(known) = self.owners.with_pid(guest.pid) {
            return known;
        }
        match ending::find_holder(guest.pid, self.pid_max) {
            Found::Process(pidfd) => {
                let id = self.owners.add(guest);
                self.watch(core, id, pidfd);
                id
            }
            Found::Dead => {
                tracing::info!(
                    target: "locking.lock_daemon",
                    "{guest} has ended, its lease is released"
                );
                self.owners.add_dead(guest)
            }
            Found::Unknown(_) => self.owners.add(guest),
        }
    }

    fn add_space(&mut self, space: &[u8]) {
        if self.lockspaces.add_space(space).is_err() {
            tracing::error!(
                target: "locking.lock_daemon",
                "There is no room for lockspace '{}'", space.escape_ascii()
            );
        }
    }
}

/// A client that has not registered is nobody, and says so: libvirt's daemon dies of a name that
/// is missing.
pub(crate) fn save_session(session: Option<&Session>) -> document::Session {
    let claim = session.and_then(|session| session.claim.as_ref());
    let guest = claim.map(|claim| &claim.guest);
    document::Session {
        restricted: Some(session.is_some_and(|session| session.is_restricted)),
        owner_pid: Some(guest.map_or(0, |guest| guest.pid)),
        owner_id: Some(guest.map_or(0, |guest| guest.id)),
        owner_name: Some(guest.map(|guest| name_of(guest)).unwrap_or_default()),
        owner_uuid: Some(uuid(&guest.map_or([0; 16], |guest| guest.uuid))),
    }
}

/// `None` for a resource without a lease, and for one that the reader could not take: its fd is
/// passed on all the same, so that the lock stays.
pub(crate) fn save_resource(
    resource: &Resource,
    passing: &mut Passing,
    reader: Reader,
) -> Option<document::Resource> {
    let (lease, terms, holders) = resource.hold()?;
    let (fd, kind) = lease.lock();
    let fd = passing.fd(fd);
    let holders: Vec<_> = holders.map(|(_, holding)| save_holder(holding)).collect();
    let is_text = |bytes: &[u8]| str::from_utf8(bytes).is_ok();
    let path = resource.path.as_os_str();
    let is_all_text = is_text(&resource.name) && is_text(&resource.space);
    if !is_all_text && reader == Reader::Libvirts {
        tracing::error!(
            target: "locking.lock_daemon",
            "The lease on {} cannot be handed over to libvirt's daemon, as its name is no UTF-8; \
             the file stays locked until that ends", path.display()
        );
        return None;
    }
    let owners = holders.iter().flat_map(|holder| {
        let shares = usize::try_from(holder.shares.unwrap_or(1)).unwrap_or(usize::MAX);
        std::iter::repeat_n(Pid(holder.pid), shares.min(SHARES_MAX))
    });
    Some(document::Resource {
        name: Some(String::from_utf8_lossy(&resource.name).into_owned()),
        path: Some(path.to_string_lossy().into_owned()),
        fd: Some(fd),
        lock_held: Some(true),
        flags: Some(
            u32::from(terms.shared) * flag::SHARED + u32::from(terms.autocreate) * flag::AUTOCREATE,
        ),
        owners: Some(owners.collect()),
        private: Some(PrivateResource {
            name: (!is_text(&resource.name)).then(|| hex(&resource.name)),
            directory: (!is_text(&resource.space)).then(|| hex(&resource.space)),
            key: resource.key,
            lock: (kind == Kind::Ofd).then(|| OFD.to_owned()),
            holders: Some(holders),
        }),
    })
}

/// How often one owner is listed for libvirt; ours. More shares than this one document never needs.
const SHARES_MAX: usize = 1024;

fn save_holder(holding: &Holding) -> Holder {
    let since = holding.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let guest = &holding.guest;
    Holder {
        pid: Some(guest.pid),
        id: Some(guest.id),
        name: Some(name_of(guest)),
        uuid: Some(uuid(&guest.uuid)),
        shares: Some(holding.shares),
        since_unix_s: Some(since.as_secs()),
    }
}

fn name_of(guest: &Guest) -> String {
    String::from_utf8_lossy(&guest.name).into_owned()
}

fn guest(id: Option<u32>, pid: u32, name: Option<String>, uuid: Option<&str>) -> Guest {
    Guest {
        uuid: uuid.and_then(parse_uuid).unwrap_or_default(),
        name: name.unwrap_or_default().into_bytes().into(),
        id: id.unwrap_or(0),
        pid,
    }
}
