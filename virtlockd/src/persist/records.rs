//! Records of leases, owners and registrations, for the state document and the fd store.

use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use common::handover::document::{self, Lack, Lock, Pid, PrivateResource, PrivateSession, Process};
use common::handover::text::{hex_unless_text, text, uuid};
use common::handover::{FdSet, Successor};
use common::sys::lock::Hold;

use crate::ids::OwnerId;
use crate::lease::inherited_posix_locks::InheritedPosixLocks;
use crate::lockspace::holders::Holder;
use crate::lockspace::resource::{Doubt, Resource};
use crate::owner::entry::Owner;
use crate::owner::identity::{FoundBy, OwnerIdentity, ProcessIdentity};
use crate::owner::owners::Owners;
use crate::protocol::{Guest, Terms};
use crate::session::Session;

/// Largest number of times that one owner is listed for libvirt; ours. More shares than fit in the
/// document are not needed.
const SHARES_MAX: usize = 1024;

/// Flags of a resource; libvirt's values.
pub(super) mod flag {
    pub(in crate::persist) const SHARED: u32 = 1;
    pub(in crate::persist) const AUTOCREATE: u32 = 2;
}

/// Returns the record of a connection. All values of one that is not registered are there, as
/// libvirt's daemon crashes without the name.
pub(crate) fn save_session(session: Option<&Session>, owners: &Owners) -> document::Session {
    let registration = session.and_then(|session| session.registration.as_ref());
    let guest = registration.map(|registration| &registration.guest);
    document::Session {
        restricted: Some(session.is_some_and(|session| session.is_restricted)),
        owner_pid: Some(guest.map_or(0, |guest| guest.pid)),
        owner_id: Some(guest.map_or(0, |guest| guest.id)),
        owner_name: Some(guest.map(|guest| name_of(guest)).unwrap_or_default()),
        owner_uuid: Some(uuid(&guest.map_or([0; 16], |guest| guest.uuid))),
        private: registration.map(|registration| PrivateSession {
            is_own: session.map(|session| session.is_own),
            process: owners.get(registration.owner).and_then(save_process),
        }),
    }
}

/// Returns the record of a lease, or `None` without one, or for one that the reader could not take.
/// Its fd is passed on all the same, so that the lock stays.
///
/// `describe` returns the record of a holder without its part of this lease.
pub(crate) fn save_resource(
    resource: &Resource,
    posix: &InheritedPosixLocks,
    fd_set: &FdSet,
    reader: Successor,
    describe: impl Fn(OwnerId, &Holder) -> document::Holder,
) -> Option<document::Resource> {
    let (lease, terms, holders) = resource.held()?;
    let (fd, lock) = lease.lock();
    let fd = fd_set.fd(fd);
    let file_id = lease.file_id();
    let retained = lock.is_posix().then(|| posix.pass_retained(file_id, fd_set));
    let path = resource.path();
    if !is_text(resource) && reader == Successor::Libvirt {
        return None;
    }
    let holders: Vec<_> =
        holders.map(|(owner, holder)| save_holder(holder, describe(owner, holder))).collect();
    Some(document::Resource {
        name: Some(text(&resource.name)),
        path: Some(text(path.as_os_str().as_bytes())),
        fd: Some(fd),
        lock_held: Some(true),
        flags: Some(save_terms(terms)),
        owners: Some(save_pids(&holders)),
        private: Some(PrivateResource {
            name: hex_unless_text(&resource.name),
            directory: hex_unless_text(&resource.space),
            key: resource.key,
            lock: (!lock.is_posix()).then_some(Lock::Ofd),
            lacks: save_lack(lock),
            may_be_lost: resource.doubt.map(|_: Doubt| true),
            file: Some((file_id.device, file_id.number)),
            parked: retained.filter(|retained| !retained.is_empty()),
            holders: Some(holders),
        }),
    })
}

/// Logs that libvirt's daemon will not go on with a lease, if it could not read its name.
pub(crate) fn log_what_stays_behind(resource: &Resource) {
    if resource.is_held() && !is_text(resource) {
        let path = resource.path();
        tracing::error!(
            target: "locking.lock_daemon",
            LIBVIRT_LEASE_PATH = %path.display(),
            "Cannot hand the lease on {} over to libvirt's daemon: its name is not UTF-8. \
             The file stays locked until that daemon ends", path.display()
        );
    }
}

fn is_text(resource: &Resource) -> bool {
    [&resource.name, &resource.space].iter().all(|name| str::from_utf8(name).is_ok())
}

fn save_terms(terms: Terms) -> u32 {
    u32::from(terms.shared) * flag::SHARED + u32::from(terms.autocreate) * flag::AUTOCREATE
}

fn save_lack(lock: Hold) -> Option<Lack> {
    match lock {
        Hold::Whole(_) => None,
        Hold::Shared(_) => Some(Lack::Exclusiveness),
        Hold::Nothing => Some(Lack::Everything),
    }
}

/// Returns the pids of holders for libvirt, each as often as it holds the lease.
fn save_pids(holders: &[document::Holder]) -> Vec<Pid> {
    let pids = holders.iter().flat_map(|holder| {
        let shares = usize::try_from(holder.shares.unwrap_or(1)).unwrap_or(usize::MAX);
        std::iter::repeat_n(Pid(holder.pid), shares.min(SHARES_MAX))
    });
    pids.collect()
}

fn save_holder(holder: &Holder, described: document::Holder) -> document::Holder {
    let Holder { since, held_before, shares, .. } = holder;
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    document::Holder {
        shares: Some(*shares).filter(|&shares| shares > 1),
        since_unix_s: Some(since.as_secs()),
        had_before: held_before.then_some(true),
        ..described
    }
}

/// Returns the record of a guest and its owner's identity.
pub(crate) fn save_guest(guest: &Guest, owner: Option<&Owner>) -> document::Holder {
    document::Holder {
        pid: Some(guest.pid),
        id: Some(guest.id),
        name: Some(name_of(guest)),
        uuid: Some(uuid(&guest.uuid)),
        process: owner.and_then(save_process),
        ..document::Holder::default()
    }
}

/// Returns the record of an owner's identity, or `None` if only its pid is known.
fn save_process(owner: &Owner) -> Option<Process> {
    let OwnerIdentity { found_by, process_identity, namespace } = owner.identity;
    if !owner.is_dead && owner.identity == OwnerIdentity::BY_NUMBER {
        return None;
    }
    let found = match found_by {
        _ if owner.is_dead => Some(document::Found::Dead),
        FoundBy::Number => None,
        FoundBy::Connection { .. } => Some(document::Found::Connection),
        FoundBy::Unidentified => Some(document::Found::Never),
    };
    let number = if let FoundBy::Connection { number } = found_by { number } else { None };
    let (inode, start) = match process_identity {
        Some(ProcessIdentity::Inode(inode)) => (Some(inode), None),
        Some(ProcessIdentity::Start(start)) => (None, Some(start)),
        None => (None, None),
    };
    Some(Process { found, number, inode, start, namespace })
}

fn name_of(guest: &Guest) -> String {
    text(&guest.name)
}

/// Returns the record of an owner's termination. Without a deadline it says that the termination is
/// over.
pub(crate) fn save_termination(owner: &Owner, deadline_boot_ms: Option<u64>) -> document::Ending {
    let guest = Some(save_guest(&owner.guest, Some(owner)));
    document::Ending { guest, deadline_boot_ms }
}
