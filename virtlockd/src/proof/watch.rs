//! Watching leases on shared storage: from their ACQUIRE to their release, and what the prober
//! reports.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::handover::document::ProvedMount;
use common::server::RemoteMount;
use common::sys::process::{self, boot_time_ms};

use crate::ids::{ResourceId, TimerSubject};
use crate::outcome::Core;
use crate::proof::deadline;
use crate::proof::message::{Order, Report, WatchedMount};
use crate::proof::mount::Mount;
use crate::proof::nfs;
use crate::proof::policy::OnLostLease;
use crate::proof::prober::Prober;
use crate::proof::reach::{Reach, Source, reach};
use crate::proof::rule::Ms;
use crate::proof::shared::{MOUNTS_MAX, SharedLease};
use crate::protocol::NAME;
use crate::state::State;

/// Time between two attempts to start a prober; ours.
const RESTART_MS: Ms = 1000;

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

/// Takes what the prober has reported.
pub(crate) fn reported(state: &mut State, core: &mut Core) {
    let Some(prober) = &mut state.shared.prober else { return };
    let (reports, goes_on) = prober.reports();
    for report in reports {
        match report {
            Report::Answered { number, asked, answered, lease_ms } => {
                deadline::answered(state, core, number, (asked, answered, lease_ms));
            }
            Report::Expired { number } => deadline::expired(state, core, number),
        }
    }
    if !goes_on {
        tracing::warn!(
            target: "locking.lock_daemon",
            "The process that asks the servers of shared storage has ended; starting another one"
        );
        forget_prober(state);
        state.shared.starts_at = boot_time_ms() + RESTART_MS;
    }
    set_timer(state, core);
}

/// Does what is due, starts a prober if there is none, and sets the next timer.
pub(crate) fn check(state: &mut State, core: &mut Core) {
    state.shared.timer = None;
    deadline::act(state, core);
    start_prober(state, core);
    state.shared.old_probers.retain(|&pid| !process::reap(pid));
    set_timer(state, core);
}

/// Ends the prober, as this program ends, or is about to. Returns whether there was one.
pub(crate) fn rest(state: &mut State) -> bool {
    let had_prober = state.shared.prober.is_some();
    forget_prober(state);
    state.shared.starts_at = Ms::MAX;
    had_prober
}

/// Starts a prober again, as this program goes on.
pub(crate) fn resume(state: &mut State, core: &mut Core) {
    state.shared.starts_at = 0;
    start_prober(state, core);
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
        set_timer(state, core);
    }
}

fn order_of(mount: &Mount) -> Option<Order> {
    let lease_ms = match mount.source {
        Source::Kernel => None,
        Source::Setting(lease) => Some(lease),
        Source::None => return None,
    };
    let (device, point) = (mount.mount.device, mount.mount.point.clone());
    let watched = WatchedMount { device, lease_ms, point };
    Some(Order::Watch { number: mount.number, mount: watched })
}

/// Gives the prober an order. One that takes none is replaced.
fn give(state: &mut State, order: Option<Order>) {
    let (Some(prober), Some(order)) = (&state.shared.prober, order) else { return };
    if let Err(error) = prober.order(&order) {
        tracing::warn!(
            target: "locking.lock_daemon",
            "The process that asks the servers of shared storage takes no order: {error}; starting another one"
        );
        forget_prober(state);
    }
}

fn start_prober(state: &mut State, core: &mut Core) {
    let now = boot_time_ms();
    let shared = &mut state.shared;
    if shared.prober.is_some() || !shared.needs_prober() || now < shared.starts_at {
        return;
    }
    shared.starts_at = now + RESTART_MS;
    match Prober::start(core, NAME) {
        Ok(prober) => shared.prober = Some(prober),
        Err(error) => {
            tracing::error!(
                target: "locking.lock_daemon",
                "Unable to start a process that asks the servers of shared storage: {error}"
            );
            return;
        }
    }
    let orders: Vec<_> = state.shared.mounts.values().filter_map(order_of).collect();
    for order in orders {
        give(state, Some(order));
    }
}

/// Closes the pipes of the prober, which ends then, or when its server answers.
fn forget_prober(state: &mut State) {
    if let Some(prober) = state.shared.prober.take() {
        state.shared.old_probers.push(prober.pid);
    }
}

/// Sets the timer to what is due next, if that comes before what it is set to.
fn set_timer(state: &mut State, core: &mut Core) {
    let shared = &mut state.shared;
    let due = shared.mounts.values().filter_map(Mount::next).min();
    let now = boot_time_ms();
    let is_restart =
        shared.prober.is_none() && shared.needs_prober() && shared.starts_at != Ms::MAX;
    let restart = is_restart.then(|| shared.starts_at.max(now));
    let reap = (!shared.old_probers.is_empty()).then(|| now + RESTART_MS);
    let Some(next) = due.into_iter().chain(restart).chain(reap).min() else { return };
    if let Some((timer, at)) = shared.timer.take() {
        if at <= next {
            shared.timer = Some((timer, at));
            return;
        }
        core.cancel_timer(timer);
    }
    let after = Duration::from_millis(next.saturating_sub(now));
    shared.timer = Some((core.set_timer(after, TimerSubject::Proof.number()), next));
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
