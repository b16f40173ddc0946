//! What happens when a lease on shared storage is not proved any more.

use std::collections::BTreeMap;

use common::sys::process::boot_time_ms;

use crate::audit;
use crate::ids::{OwnerId, ResourceId};
use crate::lockspace::action::Action;
use crate::lockspace::execution::perform;
use crate::lockspace::holders::{Holder, HolderSummary};
use crate::lockspace::queue::Task;
use crate::lockspace::resource::{Doubt, Resource};
use crate::message::log_about;
use crate::outcome::Core;
use crate::owner::entry::Owner;
use crate::owner::termination;
use crate::persist::fd_store::store_lease;
use crate::proof::mount::{Answer, Due, Mount};
use crate::proof::policy::OnLostLease;
use crate::proof::reach::Source;
use crate::proof::rule::Ms;
use crate::state::State;

/// Does what is due on each mount.
pub(super) fn act(state: &mut State, core: &mut Core) {
    let now = boot_time_ms();
    let devices: Vec<u64> = state.shared.mounts.keys().copied().collect();
    for device in devices {
        while let Some(due) = state.shared.mounts.get(&device).and_then(|mount| mount.due(now)) {
            match due {
                Due::End => {
                    let kill_at = state.shared.mounts.get(&device).map_or(now, Mount::kill_at);
                    end_guests(state, core, device, kill_at, "its server does not answer");
                }
                Due::Lapse => {
                    // An answer that comes yet is too late. After a crash nobody would know that.
                    mark_doubtful(state, core, device);
                    lapse(state, device, now, "its server does not answer");
                }
            }
        }
    }
}

/// Notes the answer of a mount's server.
pub(super) fn answered(
    state: &mut State,
    core: &mut Core,
    number: u64,
    (asked, answered, lease): (Ms, Ms, Ms),
) {
    let Some((device, mount)) = state.shared.by_number(number) else { return };
    let had_lapsed = mount.has_lapsed;
    let point = mount.mount.point.display().to_string();
    match mount.answered(asked, answered, lease) {
        Answer::Proved | Answer::First if !had_lapsed => {}
        Answer::Proved | Answer::First => tracing::warn!(
            target: "locking.lock_daemon",
            "The leases at {point} are proved again: the server has answered"
        ),
        Answer::Gap(gap) => {
            tracing::error!(
                target: "locking.lock_daemon",
                "The server of {point} has answered after {} s without proof. With a lease time of {} s \
                 another host may have had leases of this one meanwhile: {}",
                seconds(gap), seconds(lease), summary(state, device)
            );
            doubt(state, core, device);
            end_guests(state, core, device, answered, "its lease may have been lost");
        }
    }
}

/// Notes that by the kernel's account the leases of a mount have run out.
pub(super) fn expired(state: &mut State, core: &mut Core, number: u64) {
    let Some((device, mount)) = state.shared.by_number(number) else { return };
    let (has_lapsed, has_ended, kill_at) =
        (mount.has_lapsed, mount.has_ended_guests, mount.kill_at());
    if !has_ended {
        let reason = "its lease has run out by the kernel's account";
        end_guests(state, core, device, kill_at, reason);
    }
    if !has_lapsed {
        lapse(state, device, boot_time_ms(), "by the kernel's account they have run out");
    }
}

/// Tells that the leases on a mount are not proved any more.
fn lapse(state: &mut State, device: u64, now: Ms, reason: &str) {
    let Some(mount) = state.shared.mounts.get_mut(&device) else { return };
    mount.has_lapsed = true;
    let (point, unproved_for) = (mount.mount.point.display(), mount.unproved_for(now));
    let lease = mount.lease().map(|lease| format!(", and its lease time is {} s", seconds(lease)));
    let text = format!(
        "The leases at {point} are not proved any more: {reason}. The last answer was to a question {} s \
         ago{}. Another host may get them now, and the disks are at risk",
        seconds(unproved_for),
        lease.unwrap_or_default()
    );
    tracing::error!(target: "locking.lock_daemon", "{text}: {}", summary(state, device));
    if audit::is_on() {
        for resource in resources(state, device) {
            let holders = HolderSummary::new(resource.holders());
            audit::lost(&resource.path(), &holders, "that it is held is not proved any more");
        }
    }
    kill_overdue(state, device, now);
    for owner in guests(state, device, |_| true).filter(|owner| owner.termination.is_some()) {
        let guest = &owner.guest;
        log_about!(
            error,
            guest,
            "{guest} was told to end, and has not ended while its lease was proved. Its disk is at risk: \
             if it waits for storage, nothing can end it but that or a reset of this host"
        );
    }
}

/// Kills guests whose time to end is over. The timer for that does not count while the host is suspended.
fn kill_overdue(state: &mut State, device: u64, now: Ms) {
    let is_overdue =
        |owner: &Owner| owner.termination.as_ref().is_some_and(|it| it.deadline_ms <= now);
    for id in owner_ids(state, device, |_| true) {
        if state.owners.get(id).is_some_and(is_overdue) {
            termination::kill(state, id);
        }
    }
}

/// Tells the guests of a mount to end whose leases say so. They are killed at `kill_at`, at once if that
/// is over.
fn end_guests(state: &mut State, core: &mut Core, device: u64, kill_at: Ms, reason: &str) {
    if let Some(mount) = state.shared.mounts.get_mut(&device) {
        mount.has_ended_guests = true;
    }
    let owners: Vec<OwnerId> = owner_ids(state, device, |on_lost| on_lost == OnLostLease::End);
    for id in owners {
        let is_new = state.owners.get(id).is_some_and(|owner| owner.termination.is_none());
        let is_begun = is_new && termination::begin_until(state, core, id, kill_at);
        let Some(owner) = state.owners.get(id).filter(|_| is_new) else { continue };
        let guest = &owner.guest;
        match is_begun {
            true => log_about!(
                error,
                guest,
                "{guest} is ended, as it has a lease on shared storage, and {reason}; sent SIGTERM"
            ),
            false if owner.has_ended() => {}
            false => log_about!(
                error,
                guest,
                "{guest} cannot be ended, though it has a lease on shared storage, and {reason}. Its disk \
                 is at risk"
            ),
        }
    }
}

/// Marks and counts the leases on a mount as doubtful, and has them tested where a test tells.
fn doubt(state: &mut State, core: &mut Core, device: u64) {
    let mount = state.shared.mounts.get(&device);
    // No other file system is known to refuse to read a file whose lock it has lost.
    let is_nfs = mount.is_some_and(|mount| mount.source == Source::Kernel);
    let ids = mark_doubtful(state, core, device);
    for id in ids {
        state.shared.doubted += 1;
        if is_nfs {
            perform(state, core, id, Task::internal(Action::TestLock));
        }
    }
}

/// Marks the leases on a mount as doubtful, in the fd store as well, and returns them.
fn mark_doubtful(state: &mut State, core: &mut Core, device: u64) -> Vec<ResourceId> {
    let ids: Vec<ResourceId> = state.shared.on_mount(device).map(|(id, _)| id).collect();
    for &id in &ids {
        if let Some(resource) = state.lockspaces.resource_mut(id) {
            resource.doubt = Some(Doubt::MayBeLost);
        }
        store_lease(state, core, id);
    }
    ids
}

/// Names holders of leases on a mount.
fn summary(state: &State, device: u64) -> String {
    let holders: Vec<&Holder> = resources(state, device).flat_map(Resource::holders).collect();
    HolderSummary::new(holders.into_iter()).to_string()
}

fn resources(state: &State, device: u64) -> impl Iterator<Item = &Resource> {
    state.shared.on_mount(device).filter_map(|(id, _)| state.lockspaces.resource_at(id))
}

fn owner_ids(state: &State, device: u64, is_meant: impl Fn(OnLostLease) -> bool) -> Vec<OwnerId> {
    let leases = state.shared.on_mount(device);
    let leases = leases.filter(|(_, lease)| is_meant(lease.on_lost_lease));
    let resources = leases.filter_map(|(id, _)| state.lockspaces.resource_at(id)?.held());
    let owners = resources.flat_map(|(_, _, holders)| holders.map(|(owner, _)| (owner, ())));
    owners.collect::<BTreeMap<_, _>>().into_keys().collect()
}

fn guests(
    state: &State,
    device: u64,
    is_meant: impl Fn(OnLostLease) -> bool,
) -> impl Iterator<Item = &Owner> {
    owner_ids(state, device, is_meant).into_iter().filter_map(|id| state.owners.get(id))
}

fn seconds(time: Ms) -> String {
    format!("{}.{}", time / 1000, time % 1000 / 100)
}
