//! What happens to leases on shared storage: reports of the prober, times that are due, and rests.

use common::sys::process;

use crate::outcome::Core;
use crate::proof::deadline;
use crate::proof::message::Report;
use crate::proof::rule::Ms;
use crate::proof::upkeep::{failed, forget_prober, set_timer, start_prober};
use crate::state::State;

/// Takes what the prober has reported.
pub(crate) fn reported(state: &mut State, core: &mut Core) {
    let Some(prober) = &mut state.shared.prober else { return };
    let (reports, goes_on) = prober.reports();
    state.shared.is_failure_told &= reports.is_empty();
    for report in reports {
        match report {
            Report::Answered { number, asked, answered, lease_ms } => {
                deadline::answered(state, core, number, (asked, answered, lease_ms));
            }
            Report::Expired { number } => deadline::expired(state, core, number),
        }
    }
    if !goes_on {
        failed(state, "it has ended");
    }
    set_timer(state, core);
}

/// Does what is due, starts a prober if there is none, and sets the next timer.
pub(crate) fn check(state: &mut State, core: &mut Core) {
    if let Some((timer, _)) = state.shared.timer.take() {
        core.cancel_timer(timer);
    }
    deadline::act(state, core);
    start_prober(state, core);
    state.shared.old_probers.retain(|&pid| !process::reap(pid));
    set_timer(state, core);
}

/// Ends the prober, as this program ends, or is about to.
pub(crate) fn rest(state: &mut State) {
    forget_prober(state);
    state.shared.starts_at = Ms::MAX;
}

/// Starts a prober again, as this program goes on.
pub(crate) fn resume(state: &mut State, core: &mut Core) {
    state.shared.starts_at = 0;
    start_prober(state, core);
    set_timer(state, core);
}
