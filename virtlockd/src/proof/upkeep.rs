//! The prober's life: it is started, given orders and left behind; and the timer of what is due next.

use std::time::Duration;

use common::sys::alarm::Alarm;
use common::sys::process::boot_time_ms;

use crate::ids::{ALARM, TimerSubject};
use crate::outcome::Core;
use crate::proof::message::{Order, WatchedMount};
use crate::proof::mount::Mount;
use crate::proof::prober::Prober;
use crate::proof::reach::Source;
use crate::proof::rule::Ms;
use crate::proof::shared::SharedLeases;
use crate::protocol::NAME;
use crate::state::State;

/// Time between two attempts to start a prober, and between two looks for one that has ended; ours.
const RETRY_MS: Ms = 1000;

/// Time between two attempts while none has reported anything; ours.
const FAILURE_RETRY_MS: Ms = 10_000;

/// Starts a prober if one is needed and there is none.
pub(super) fn start_prober(state: &mut State, core: &mut Core) {
    let now = boot_time_ms();
    let shared = &mut state.shared;
    if shared.prober.is_some() || !shared.needs_prober() || now < shared.starts_at {
        return;
    }
    shared.starts_at = now + RETRY_MS;
    match Prober::start(core, NAME) {
        Ok(prober) => shared.prober = Some(prober),
        Err(error) => return failed(state, &error.to_string()),
    }
    let orders: Vec<_> = state.shared.mounts.values().filter_map(order_of).collect();
    for order in orders {
        give(state, Some(order));
    }
}

/// Gives the prober an order. One that takes none is replaced.
pub(super) fn give(state: &mut State, order: Option<Order>) {
    let (Some(prober), Some(order)) = (&state.shared.prober, order) else { return };
    if let Err(error) = prober.order(&order) {
        failed(state, &format!("it takes no order: {error}"));
    }
}

/// Leaves a prober behind that has failed, or could not be started. That is told once until one
/// has reported something; without one nothing is proved.
pub(super) fn failed(state: &mut State, reason: &str) {
    forget_prober(state);
    let was_told = std::mem::replace(&mut state.shared.is_failure_told, true);
    state.shared.starts_at = boot_time_ms() + if was_told { FAILURE_RETRY_MS } else { RETRY_MS };
    if !was_told {
        tracing::error!(
            target: "locking.lock_daemon",
            "The process that asks the servers of shared storage has failed, and is started again; \
             without it no lease there is proved: {reason}"
        );
    }
}

/// Closes the pipes of the prober, which ends then, or when its server answers.
pub(super) fn forget_prober(state: &mut State) {
    if let Some(prober) = state.shared.prober.take() {
        state.shared.old_probers.push(prober.pid);
    }
}

/// Sets the timer to what is due next, if that comes before what it is set to.
pub(super) fn set_timer(state: &mut State, core: &mut Core) {
    let shared = &mut state.shared;
    let due = shared.mounts.values().filter_map(Mount::next).min();
    let now = boot_time_ms();
    let is_restart =
        shared.prober.is_none() && shared.needs_prober() && shared.starts_at != Ms::MAX;
    let restart = is_restart.then(|| shared.starts_at.max(now));
    let reap = (!shared.old_probers.is_empty()).then(|| now + RETRY_MS);
    let Some(next) = due.into_iter().chain(restart).chain(reap).min() else { return };
    if let Some((timer, at)) = shared.timer.take() {
        if at <= next {
            shared.timer = Some((timer, at));
            return;
        }
        core.cancel_timer(timer);
    }
    set_alarm(shared, core, next);
    let after = Duration::from_millis(next.saturating_sub(now));
    shared.timer = Some((core.set_timer(after, TimerSubject::Proof.number()), next));
}

/// Sets the alarm as well, while there are mounts that are watched. Where it cannot be had, a host that
/// is resumed acts as late as the timer.
fn set_alarm(shared: &mut SharedLeases, core: &Core, at: Ms) {
    if !shared.needs_prober() {
        shared.alarm = None;
        return;
    }
    if shared.alarm.is_none() {
        shared.alarm = Alarm::new().and_then(|alarm| core.watch(alarm, ALARM)).ok();
    }
    if shared.alarm.as_ref().is_some_and(|alarm| alarm.set(at).is_err()) {
        shared.alarm = None;
    }
}

/// Returns the order that has a mount watched, unless it is not.
pub(super) fn order_of(mount: &Mount) -> Option<Order> {
    let lease_ms = match mount.source {
        Source::Kernel => None,
        Source::Setting(lease) => Some(lease),
        Source::None => return None,
    };
    let (device, point) = (mount.mount.device, mount.mount.point.clone());
    let watched = WatchedMount { device, lease_ms, point };
    Some(Order::Watch { number: mount.number, mount: watched })
}
