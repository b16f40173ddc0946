//! Leases in the answers of our read-only program.

use std::os::unix::ffi::OsStrExt;

use common::fd_store::names::Kind;
use common::handover::text;
use common::query::{Bytes, Lease, LeaseCounters, Page, Place, Proof, Reach, unix_s};
use common::sys::lock::{self, Hold};

use crate::ids::{OwnerId, ResourceId};
use crate::lockspace::holders::Holder;
use crate::lockspace::resource::{Doubt, Resource};
use crate::outcome::Core;
use crate::proof::policy::OnLostLease;
use crate::state::State;

/// Puts the leases behind `after` on a page, each holder's part of one as an item.
pub(crate) fn list(core: &Core, state: &State, after: Place, page: &mut Page) {
    for (ResourceId(number), resource) in state.lockspaces.from(ResourceId(after.number)) {
        let known = if number == after.number { after.holder } else { 0 };
        let mut parts = resource.holders_above(OwnerId(known)).peekable();
        if parts.peek().is_none() {
            continue;
        }
        let lease = with_reach(lease(core, resource), state, ResourceId(number));
        for (owner, holder) in parts {
            let place = Place { number, holder: owner.0 };
            let part = part(lease.clone(), state, owner, holder);
            if page.push(place, &Lease { place: place.to_string(), ..part }).is_break() {
                return;
            }
        }
    }
}

/// Returns the counts of all leases.
pub(crate) fn counters(state: &State) -> LeaseCounters {
    LeaseCounters {
        held: state.owners.leases_count() as u64,
        incomplete: state.incomplete_locks.len() as u64,
        shared: state.shared.leases.len() as u64,
        unproved: state.shared.unproved_leases() as u64,
        doubted: state.shared.doubted,
        acquired: state.counts.acquired,
        released: state.counts.released,
        ended: state.counts.ended,
        refused: state.sessions.refusals.by_reason(),
    }
}

fn lease(core: &Core, resource: &Resource) -> Lease {
    let Some((lease, terms, _)) = resource.held() else { return Lease::default() };
    let file_id = lease.file_id();
    let (kind, lacks) = match lease.lock().1 {
        Hold::Whole(kind) => (Some(kind), None),
        Hold::Shared(kind) => (Some(kind), Some("exclusiveness")),
        Hold::Nothing => (None, Some("everything")),
    };
    let lock = match kind {
        Some(lock::Kind::Ofd) => "ofd",
        Some(lock::Kind::Posix) => "posix",
        None => "none",
    };
    Lease {
        path: Bytes::from(resource.path().as_os_str().as_bytes()),
        lockspace: Bytes::from(&*resource.space),
        resource: Bytes::from(&*resource.name),
        shared: terms.shared,
        lock: lock.to_owned(),
        lacks: lacks.map(str::to_owned),
        device: file_id.device,
        inode: file_id.number,
        in_fd_store: resource.key.is_some_and(|key| core.is_stored(Kind::Lease, key)),
        ..Lease::default()
    }
}

/// Adds how far a lock reaches, and whether its lease is proved.
fn with_reach(lease: Lease, state: &State, id: ResourceId) -> Lease {
    let Some((mount, shared)) = state.shared.mount_of(id) else { return lease };
    let doubt = state.lockspaces.resource_at(id).and_then(|resource| resource.doubt);
    let proof = match (mount.is_proved(), doubt) {
        (None, _) => None,
        (Some(_), Some(Doubt::Lost)) => Some(Proof::Lost),
        (Some(true), Some(Doubt::MayBeLost)) => Some(Proof::Doubtful),
        (Some(true), None) => Some(Proof::Proved),
        (Some(false), _) => Some(Proof::Unproved),
    };
    let on_lost_lease = match shared.on_lost_lease {
        OnLostLease::Log => "log",
        OnLostLease::End => "end",
    };
    Lease {
        reach: Reach::Shared,
        file_system: Some(mount.mount.kind.to_string()),
        mount: Some(Bytes::from(mount.mount.point.as_os_str().as_bytes())),
        lease_time_ms: mount.lease(),
        on_lost_lease: Some(on_lost_lease.to_owned()),
        proof,
        ..lease
    }
}

fn part(lease: Lease, state: &State, owner: OwnerId, holder: &Holder) -> Lease {
    let Holder { guest, since, held_before, shares } = holder;
    let identity = state.owners.get(owner).map(|owner| &owner.identity);
    Lease {
        shares: *shares,
        domain: Bytes::from(&*guest.name),
        uuid: text::uuid(&guest.uuid),
        pid: guest.pid,
        pid_here: identity.and_then(|identity| identity.number(guest)),
        since_unix_s: unix_s(*since),
        held_before: *held_before,
        ..lease
    }
}
