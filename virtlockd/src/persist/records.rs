//! Records of leases, owners and registrations, for the state document and the fd store.

use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use common::handover::document::{
    self, Found, Holder, Lack, Lock, Pid, PrivateResource, PrivateSession, Process,
};
use common::handover::text::{hex_unless_text, text, uuid};
use common::handover::{Passing, Reader};
use common::sys::lock::Hold;

use crate::ids::OwnerId;
use crate::lease::posix_locks::PosixFiles;
use crate::lockspace::holders::Holding;
use crate::lockspace::resource::Resource;
use crate::owner::entry::Owner;
use crate::owner::identity::{Identity, Known, Way};
use crate::owner::owners::Owners;
use crate::protocol::Guest;
use crate::session::Session;

/// Flags of a resource, libvirt's values.
pub(super) mod flag {
    pub(in crate::persist) const SHARED: u32 = 1;
    pub(in crate::persist) const AUTOCREATE: u32 = 2;
}

/// A client that has not registered is nobody, and says so: libvirt's daemon dies of a name that
/// is missing.
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

/// `None` for a resource without a lease, and for one that the reader could not take: its fd is
/// passed on all the same, so that the lock stays.
///
/// `describe` puts down a holder without what is of this lease.
pub(crate) fn save_resource(
    resource: &Resource,
    posix: &PosixFiles,
    passing: &Passing,
    reader: Reader,
    describe: impl Fn(OwnerId, &Holding) -> Holder,
) -> Option<document::Resource> {
    let (lease, terms, holders) = resource.hold()?;
    let (fd, lock) = lease.lock();
    let fd = passing.fd(fd);
    let inode = lease.inode();
    let parked = lock.is_posix().then(|| posix.pass_parked(inode, passing));
    let holders = holders.map(|(owner, holding)| save_holder(holding, describe(owner, holding)));
    let holders: Vec<_> = holders.collect();
    let is_text = |bytes: &[u8]| str::from_utf8(bytes).is_ok();
    let path = resource.path();
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
        name: Some(text(&resource.name)),
        path: Some(text(path.as_os_str().as_bytes())),
        fd: Some(fd),
        lock_held: Some(true),
        flags: Some(
            u32::from(terms.shared) * flag::SHARED + u32::from(terms.autocreate) * flag::AUTOCREATE,
        ),
        owners: Some(owners.collect()),
        private: Some(PrivateResource {
            name: hex_unless_text(&resource.name),
            directory: hex_unless_text(&resource.space),
            key: resource.key,
            lock: (!lock.is_posix()).then_some(Lock::Ofd),
            lacks: match lock {
                Hold::Whole(_) => None,
                Hold::Shared(_) => Some(Lack::Exclusiveness),
                Hold::Nothing => Some(Lack::Everything),
            },
            file: Some((inode.device, inode.number)),
            parked: parked.filter(|parked| !parked.is_empty()),
            holders: Some(holders),
        }),
    })
}

/// How often one owner is listed for libvirt; ours. More shares than this one document never needs.
const SHARES_MAX: usize = 1024;

fn save_holder(holding: &Holding, who: Holder) -> Holder {
    let Holding { since, was_had_before, shares, .. } = holding;
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Holder {
        shares: Some(*shares).filter(|&shares| shares > 1),
        since_unix_s: Some(since.as_secs()),
        had_before: was_had_before.then_some(true),
        ..who
    }
}

/// A guest, and what is known of the owner that it is.
pub(crate) fn save_guest(guest: &Guest, owner: Option<&Owner>) -> Holder {
    Holder {
        pid: Some(guest.pid),
        id: Some(guest.id),
        name: Some(name_of(guest)),
        uuid: Some(uuid(&guest.uuid)),
        process: owner.and_then(save_process),
        ..Holder::default()
    }
}

/// `None` when it is the process with the registered number, and nothing else is known of it.
fn save_process(owner: &Owner) -> Option<Process> {
    let Known { way, identity, namespace } = owner.known;
    if !owner.is_dead && owner.known == Known::BY_NUMBER {
        return None;
    }
    let found = match way {
        _ if owner.is_dead => Some(Found::Dead),
        Way::Number => None,
        Way::Connection { .. } => Some(Found::Connection),
        Way::Never => Some(Found::Never),
    };
    let number = if let Way::Connection { number } = way { Some(number) } else { None };
    let (inode, start) = match identity {
        Some(Identity::Inode(inode)) => (Some(inode), None),
        Some(Identity::Start(start)) => (None, Some(start)),
        None => (None, None),
    };
    Some(Process { found, number, inode, start, namespace })
}

fn name_of(guest: &Guest) -> String {
    text(&guest.name)
}

/// Returns the record of an owner's termination, whose end is told by the lack of a deadline.
pub(crate) fn save_ending(owner: &Owner, deadline_boot_ms: Option<u64>) -> document::Ending {
    let guest = Some(save_guest(&owner.guest, Some(owner)));
    document::Ending { guest, deadline_boot_ms }
}
