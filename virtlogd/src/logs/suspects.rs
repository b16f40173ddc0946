//! Suspect guests: those that hold up whoever touches their pipes, or may do so (see
//! [`crate::guest::access`]). Their bytes are fetched by jobs beside the tasks of their logs.

use std::sync::Arc;

use common::server::Core;
use common::sys::pipe::{self, State};

use crate::guest::access::Fetched;
use crate::guest::fetch::FETCH_PERIOD;
use crate::logs::outcome::{Ended, Outcome};
use crate::logs::queue::Lane;

/// What has to be done before the next task of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing.
    Nothing,
    /// Fetched bytes are to be written, so that there is room for more.
    Turn,
    /// More is to be fetched, which is under way.
    Fetch,
}

/// Returns whether the jobs of a queue must not touch its guest's pipe, and tells them.
pub(crate) fn is_suspect(core: &Core<Outcome>, lane: &Lane) -> bool {
    lane.guest.as_ref().is_some_and(|guest| {
        let is_suspect = core.is_peer_suspect(guest.number);
        guest.set_direct(!is_suspect);
        is_suspect
    })
}

/// Returns what has to be done before the next task, so that everything that a suspect has written
/// before comes first.
pub(crate) fn before_task(core: &mut Core<Outcome>, lane: &mut Lane, number: u64) -> Before {
    let is_to_wait = is_suspect(core, lane) && lane.pump.is_some() && !lane.waiting.is_empty();
    if !is_to_wait || lane.fetch.is_over() {
        return Before::Nothing;
    }
    let has_kept = lane.guest.as_ref().is_some_and(|guest| guest.intake().has_kept());
    if has_kept && !lane.is_failing && !lane.fetch.is_under_way() {
        return Before::Turn;
    }
    begin_fetch(core, lane, number, true);
    lane.relieve_after(core, FETCH_PERIOD, number);
    Before::Fetch
}

/// Fetches what a guest has written, or if its log cannot be written as much as is necessary.
pub(crate) fn fetch(core: &mut Core<Outcome>, lane: &mut Lane, number: u64) {
    begin_fetch(core, lane, number, false);
}

/// Takes a fetch's result. Returns whether it was for the present guest.
pub(crate) fn fetch_ended(
    core: &mut Core<Outcome>,
    lane: &mut Lane,
    number: u64,
    guest: u64,
    fetched: Fetched,
) -> bool {
    if lane.guest.as_ref().is_none_or(|now| now.number != guest) {
        return false;
    }
    let Fetched { waiting, taken } = fetched;
    lane.fetch.end(fetched);
    lane.end_relief_timer(core);
    if waiting > 0 && taken == 0 {
        lane.relieve_after(core, FETCH_PERIOD, number);
    }
    lane.ready |= is_suspect(core, lane);
    true
}

/// Fetches what a suspect has written during a task, which its pipe does not report.
pub(crate) fn fetch_after_task(core: &mut Core<Outcome>, lane: &mut Lane, number: u64) {
    if !is_suspect(core, lane) || lane.relief_timer.is_some() {
        return;
    }
    let is_to_fetch = lane.guest.as_ref().is_some_and(|guest| {
        let intake = guest.intake();
        let is_waiting = matches!(pipe::state(&intake.pipe), Ok(State::Waiting));
        is_waiting && (lane.is_failing || !intake.has_kept())
    });
    if is_to_fetch {
        fetch(core, lane, number);
    }
}

fn begin_fetch(core: &mut Core<Outcome>, lane: &mut Lane, number: u64, is_for_task: bool) {
    let Some(guest) = lane.guest.clone().filter(|_| !lane.fetch.is_under_way()) else { return };
    let progress = guest.new_progress();
    lane.fetch.begin(progress.clone(), is_for_task);
    let (reason, path) = (lane.relief_reason(core), Arc::clone(&lane.path));
    core.submit_at_peer(number, progress.clone(), move || {
        let fetched = match reason {
            Some(reason) => guest.relieve_beside(&progress, &reason, &path),
            None => guest.fetch(&progress),
        };
        Outcome(Ended::Fetch { number, guest: guest.number, fetched })
    });
}
