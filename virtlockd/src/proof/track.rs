//! Leases on shared storage are watched from their ACQUIRE to their release.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use common::handover::document::ProvedMount;
use common::server::RemoteMount;
use common::sys::process::boot_time_ms;

use crate::ids::ResourceId;
use crate::outcome::Core;
use crate::proof::message::Order;
use crate::proof::mount::Mount;
use crate::proof::nfs;
use crate::proof::policy::OnLostLease;
use crate::proof::reach::{Reach, Source, reach};
use crate::proof::rule::Ms;
use crate::proof::shared::{MOUNTS_MAX, SharedLease};
use crate::proof::upkeep::{forget_prober, give, order_of, set_timer, start_prober};
use crate::state::State;

/// Watches a lease on shared storage from its beginning on, and leaves it alone at its end. It was
/// asked for at `asked`, as far as this process knows.
pub(crate) fn update(state: &mut State, core: &mut Core, id: ResourceId, asked: Option<Ms>) {
    match state.lockspaces.file_id(id) {
        None => leave(state, core, id),
        Some(file_id) if file_id.is_device() => tell_of_device(state, id),
        Some(_) if state.shared.leases.contains_key(&id) => {}
        Some(file_id) => {
            if let Some(mount) = core.remote_mount(file_id.device) {
                watch(state, core, id, &mount, asked);
            }
        }
    }
}

/// Watches all leases that an earlier process has acquired, with what that knew of their mounts.
pub(crate) fn restore(state: &mut State, core: &mut Core, known: Vec<ProvedMount>) {
    let are_remote = core.has_remote_mounts();
    let ids: Vec<_> = state.lockspaces.ids().filter(|_| are_remote).collect();
    for id in ids {
        update(state, core, id, None);
    }
    let known: BTreeMap<_, _> = known.into_iter().map(|mount| (mount.device, mount)).collect();
    for (device, mount) in &mut state.shared.mounts {
        if let Some(ProvedMount { asked_boot_ms: Some(asked), lease_ms: Some(lease), .. }) =
            known.get(&Some(*device))
        {
            mount.adopt(*asked, *lease);
        }
    }
    set_timer(state, core);
}

fn watch(
    state: &mut State,
    core: &mut Core,
    id: ResourceId,
    mount: &Arc<RemoteMount>,
    asked: Option<Ms>,
) {
    let Reach::Shared(source) = reach(mount, state.shared.policy.lease_ms(&mount.point)) else {
        return;
    };
    let Some(resource) = state.lockspaces.resource_at(id) else { return };
    let path = resource.path();
    let policy = &state.shared.policy;
    let on_lost_lease = policy.on_lost_lease(&resource.space, path.as_os_str().as_bytes());
    if !state.shared.mounts.contains_key(&mount.device) {
        add_mount(state, core, mount, source, asked);
    }
    state.shared.add(id, SharedLease { device: mount.device, on_lost_lease });
    if on_lost_lease == OnLostLease::End {
        warn_if_too_late(state, mount);
    }
    set_timer(state, core);
}

fn add_mount(
    state: &mut State,
    core: &mut Core,
    mount: &Arc<RemoteMount>,
    source: Source,
    asked: Option<Ms>,
) {
    let shared = &mut state.shared;
    let is_watched = |mount: &&Mount| mount.is_watched();
    let is_full = shared.mounts.values().filter(is_watched).count() >= MOUNTS_MAX;
    if is_full && source != Source::None {
        tracing::warn!(
            target: "locking.lock_daemon",
            "The server of {} is not asked, as {MOUNTS_MAX} others are: a lost lease there is not noticed",
            mount.point.display()
        );
    }
    let source = if is_full { Source::None } else { source };
    let lease = match source {
        Source::Kernel => nfs::lease(&mount.point).ok().flatten().map(|lease| lease.lease_ms),
        Source::Setting(lease) => Some(lease),
        Source::None => None,
    };
    shared.numbers += 1;
    let added =
        Mount::new(Arc::clone(mount), source, shared.numbers, (asked, lease), boot_time_ms());
    let order = order_of(&added);
    shared.mounts.insert(mount.device, added);
    match &shared.prober {
        Some(_) => give(state, order),
        None => start_prober(state, core),
    }
}

/// Tells that a guest cannot be ended before its lease may be lost.
fn warn_if_too_late(state: &State, mount: &RemoteMount) {
    let Some(known) = state.shared.mounts.get(&mount.device) else { return };
    let point = mount.point.display();
    if !known.is_watched() {
        tracing::error!(
            target: "locking.lock_daemon",
            "on_lost_lease = \"end\" has no effect at {point}: whether a lease there is lost cannot be \
             known ({}); see virtlockd/README.md",
            mount.kind
        );
    } else if !known.can_end_in_time() {
        tracing::error!(
            target: "locking.lock_daemon",
            "on_lost_lease = \"end\" comes too late at {point}: its lease time of {} s leaves no time to \
             end a guest",
            known.lease().unwrap_or(0) / 1000
        );
    }
}

fn leave(state: &mut State, core: &mut Core, id: ResourceId) {
    if !state.shared.leases.contains_key(&id) {
        return;
    }
    if let Some(number) = state.shared.remove(id) {
        give(state, Some(Order::Leave { number }));
    }
    if !state.shared.needs_prober() {
        forget_prober(state);
        state.shared.alarm = None;
        set_timer(state, core);
    }
}

/// Tells, once, that a lease on a block device keeps off the guests of this host alone.
fn tell_of_device(state: &mut State, id: ResourceId) {
    if std::mem::replace(&mut state.shared.is_device_told, true) {
        return;
    }
    let path = state.lockspaces.path(id).unwrap_or_else(|| Path::new("").into());
    tracing::info!(
        target: "locking.lock_daemon",
        LIBVIRT_LEASE_PATH = %path.display(),
        "The lease on {}, and any other on a block device, reaches this host alone: other hosts do not \
         see the locks on its nodes",
        path.display()
    );
}
