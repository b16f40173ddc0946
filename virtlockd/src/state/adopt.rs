//! Leases and their owners out of a state document.
//!
//! A lease is never let go because something is wrong with its entry: whatever fd is there stays
//! open, under the name that is known, for the holders that are known. No file system is asked for
//! anything, as one that hangs would keep everybody waiting.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::handover::Inherited;
use common::handover::document::{self, Document, Holder, Items, Lock, Lockspace, Pid};
use common::handover::text::{parse_uuid, unhex};
use common::server::{Caller, Core};
use common::sys::lock::Kind;
use nix::errno::Errno;

use super::flag;
use crate::ending::{self, Found};
use crate::file::{Inode, Lease};
use crate::handler::{Handler, Outcome};
use crate::holdings::{Holding, Holdings};
use crate::lane::Task;
use crate::owner::OwnerId;
use crate::protocol::{Guest, Terms};
use crate::resource::Action;
use crate::session::Session;

impl Handler {
    /// Takes over clients' registrations and leases.
    pub(crate) fn adopt_from(
        &mut self,
        core: &mut Core<Outcome>,
        document: Document<'static>,
        clients: Vec<(Caller, document::Session)>,
        inherited: &mut Inherited,
    ) {
        for (caller, from) in clients {
            self.adopt_session(core, caller, from);
        }
        let mut default = document.default_lockspace.unwrap_or_default();
        default.directory = None;
        let listed = default.private.take().and_then(|private| private.owners);
        let mut adoption = Adoption { handler: self, core, inherited, listed: HashMap::new() };
        adoption.list(listed.unwrap_or_default());
        for space in document.lockspaces.into_iter().flatten().chain([default]) {
            adoption.adopt_space(space);
        }
    }

    /// Files of which nothing is known may have POSIX locks, too: they are never opened.
    pub(crate) fn protect_unknown(&self, inherited: &Inherited) {
        inherited.for_each(|fd| {
            if let Ok(inode) = Inode::of_open(fd) {
                self.posix.add(inode);
            }
        });
    }

    fn adopt_session(&mut self, core: &mut Core<Outcome>, caller: Caller, from: document::Session) {
        let mut session = Session::new(caller);
        session.is_restricted = from.restricted.unwrap_or(false);
        self.sessions.insert(caller.client, session);
        let document::Session { owner_pid: pid, owner_id: id, owner_name, owner_uuid, .. } = from;
        if let (Some(1..), Some(_)) = (id, pid) {
            let holder =
                Holder { pid, id, name: owner_name, uuid: owner_uuid, ..Holder::default() };
            self.register(core, caller, guest_of(&holder));
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

/// Leases on their way from a document to the handler.
struct Adoption<'a> {
    handler: &'a mut Handler,
    core: &'a mut Core<Outcome>,
    inherited: &'a mut Inherited,
    /// Owners by pid, dead ones too.
    listed: HashMap<u32, OwnerId>,
}

impl Adoption<'_> {
    fn list(&mut self, owners: Vec<Holder>) {
        for owner in owners {
            let guest = Arc::new(guest_of(&owner));
            let id = self.owner_of_holder(&guest);
            self.listed.insert(guest.pid, id);
        }
    }

    fn adopt_space(&mut self, Lockspace { directory, resources, .. }: Lockspace<'static>) {
        let space = directory.unwrap_or_default();
        let resources = resources.map(Items::into_vec).unwrap_or_default();
        self.handler.add_space(space.as_bytes());
        self.handler.lockspaces.reserve(space.as_bytes(), resources.len());
        for resource in resources {
            if let Err(error) = self.adopt(&space, &resource) {
                tracing::error!(
                    target: "locking.lock_daemon",
                    "The lease on '{}' in lockspace '{space}' was not understood ({error}); \
                     its file stays locked until this daemon ends",
                    resource.path.or(resource.name).unwrap_or_default()
                );
            }
        }
    }

    /// On failure the fd stays with `inherited`, and open, where it is there at all.
    fn adopt(&mut self, space: &str, from: &document::Resource) -> io::Result<()> {
        let nothing = document::PrivateResource::default();
        let private = from.private.as_ref().unwrap_or(&nothing);
        let name = from.name.as_deref().or(from.path.as_deref()).ok_or(Errno::ENOENT)?;
        let name = bytes_of(private.name.as_deref(), name);
        let directory = bytes_of(private.directory.as_deref(), space);
        if private.directory.is_some() {
            self.handler.add_space(&directory);
        }
        let lockspaces = &mut self.handler.lockspaces;
        let id = lockspaces.resource(&directory, &name);
        let id = id.map_err(|_| io::Error::other("its lockspace is not there"))?;
        if lockspaces.is_held(id) {
            return Err(Errno::EEXIST.into());
        }
        let lease = match self.lease(from, private) {
            Ok(lease) => lease,
            Err(error) => {
                self.handler.lockspaces.forget_unused(id);
                return Err(error);
            }
        };
        let flags = from.flags.unwrap_or(0);
        let terms =
            Terms { shared: flags & flag::SHARED != 0, autocreate: flags & flag::AUTOCREATE != 0 };
        let holdings = self.holdings(private.holders.as_deref(), from.owners.as_deref());
        let owners: Vec<OwnerId> = holdings.iter().map(|(owner, _)| owner).collect();
        self.handler.lockspaces.adopt(id, private.key, lease, terms, holdings);
        for owner in owners {
            self.handler.owners.gained(owner, id);
            if self.handler.owners.get(owner).is_some_and(|owner| owner.is_dead) {
                self.handler.perform(self.core, id, Task::of_our_own(Action::Disown(owner)));
            }
        }
        Ok(())
    }

    fn lease(
        &mut self,
        from: &document::Resource,
        private: &document::PrivateResource,
    ) -> io::Result<Lease> {
        let file = File::from(self.inherited.take(from.fd)?);
        let kind = private.lock.map_or(Kind::Posix, |Lock::Ofd| Kind::Ofd);
        let inode = match (kind, private.device, private.inode) {
            (Kind::Ofd, Some(device), Some(number)) => Inode { device, number },
            _ => Inode::of_open(&file)?,
        };
        if kind == Kind::Posix {
            self.handler.posix.add(inode);
        }
        Ok(Lease::adopted(file, inode, kind))
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
        let owner = listed.unwrap_or_else(|| self.owner_of_holder(&Arc::new(guest_of(holder))));
        let Some(guest) = self.handler.owners.get(owner).map(|owner| &owner.guest) else { return };
        let shares = holder.shares.unwrap_or(1).max(1);
        if let Some(holding) = holdings.get_mut(owner) {
            holding.shares = holding.shares.saturating_add(shares);
            return;
        }
        let since = holder.since_unix_s.map(Duration::from_secs);
        let since = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        let since = since.unwrap_or_else(SystemTime::now);
        holdings.insert(owner, Holding { guest: Arc::clone(guest), since, shares });
    }

    fn owner_of_holder(&mut self, guest: &Arc<Guest>) -> OwnerId {
        let handler = &mut *self.handler;
        if let Some(known) = handler.owners.with_pid(guest.pid) {
            return known;
        }
        match ending::find_holder(guest.pid, handler.pid_max) {
            Found::Process(pidfd) => {
                let id = handler.owners.add(guest);
                handler.watch(self.core, id, pidfd);
                id
            }
            Found::Dead => {
                tracing::info!(
                    target: "locking.lock_daemon",
                    "{guest} has ended, its leases are released"
                );
                handler.owners.add_dead(guest)
            }
            Found::Unknown(_) => handler.owners.add(guest),
        }
    }
}

/// The bytes that are given in hexadecimal, else those of `text`.
fn bytes_of<'a>(hexadecimal: Option<&str>, text: &'a str) -> Cow<'a, [u8]> {
    match hexadecimal.and_then(unhex) {
        Some(bytes) => bytes.into(),
        None => text.as_bytes().into(),
    }
}

fn guest_of(Holder { pid, id, name, uuid, .. }: &Holder) -> Guest {
    Guest {
        uuid: uuid.as_deref().and_then(parse_uuid).unwrap_or_default(),
        name: name.as_deref().unwrap_or_default().as_bytes().into(),
        id: id.unwrap_or(0),
        pid: pid.unwrap_or(0),
    }
}
