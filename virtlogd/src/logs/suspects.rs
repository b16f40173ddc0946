//! Suspect guests: those that hold up the jobs that touch their pipes, or may do so (see
//! [`crate::guest::access`]). Their bytes are fetched by jobs beside the tasks of their logs.

use std::sync::Arc;

use common::server::Core;
use common::sys::pipe::{self, State};

use crate::guest::access::Fetched;
use crate::guest::fetch::FETCH_PERIOD;
use crate::logs::outcome::{JobResult, Outcome};
use crate::logs::queue::LogQueue;
use crate::logs::timer::QueueTimer;

/// Prerequisite of the next task of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prerequisite {
    /// None.
    None,
    /// Fetched bytes have to be written, so that there is room for more.
    Turn,
    /// More has to be fetched, which is under way.
    Fetch,
}

/// Returns whether the jobs of a queue must not touch its guest's pipe, and tells them.
pub(crate) fn is_suspect(core: &Core<Outcome>, queue: &LogQueue) -> bool {
    queue.guest.as_ref().is_some_and(|guest| {
        let is_suspect = core.is_peer_suspect(guest.number);
        guest.set_direct(!is_suspect);
        is_suspect
    })
}

/// Returns the prerequisite of the next task, so that everything that a suspect has written before
/// comes first.
pub(crate) fn before_task(
    core: &mut Core<Outcome>,
    queue: &mut LogQueue,
    number: u64,
) -> Prerequisite {
    let is_to_wait = is_suspect(core, queue) && queue.writer.is_some() && !queue.waiting.are_none();
    if !is_to_wait || queue.fetch.is_over() {
        return Prerequisite::None;
    }
    let has_staged = queue.guest.as_ref().is_some_and(|guest| guest.pipe().has_staged());
    if has_staged && !queue.is_failing && !queue.fetch.is_under_way() {
        return Prerequisite::Turn;
    }
    begin_fetch(core, queue, number, true);
    queue.check_guest_after(core, FETCH_PERIOD, number);
    Prerequisite::Fetch
}

/// Fetches what a guest has written. If its log cannot be written, only as much as is necessary.
pub(crate) fn fetch(core: &mut Core<Outcome>, queue: &mut LogQueue, number: u64) {
    if !queue.fetch.want_again() {
        begin_fetch(core, queue, number, false);
    }
}

/// Takes a fetch's result. Returns whether it was for the present guest.
pub(crate) fn fetch_ended(
    core: &mut Core<Outcome>,
    queue: &mut LogQueue,
    number: u64,
    guest: u64,
    fetched: Fetched,
) -> bool {
    if queue.guest.as_ref().is_none_or(|now| now.number != guest) {
        return false;
    }
    let Fetched { waiting, taken, held_back_for } = fetched;
    let is_wanted_again = queue.fetch.end(fetched);
    queue.cancel_guest_check(core);
    if let Some(wait) = held_back_for {
        queue.check_guest_after(core, wait, number);
    } else if is_wanted_again {
        core.again(number);
    } else if waiting > 0 && taken == 0 {
        queue.check_guest_after(core, FETCH_PERIOD, number);
    }
    queue.ready |= is_suspect(core, queue);
    true
}

/// Fetches what a suspect has written during a task, which its pipe does not report.
pub(crate) fn fetch_after_task(core: &mut Core<Outcome>, queue: &mut LogQueue, number: u64) {
    if !is_suspect(core, queue) || queue.timers.get(QueueTimer::GuestCheck).is_some() {
        return;
    }
    let is_to_fetch = queue.guest.as_ref().is_some_and(|guest| {
        let pipe = guest.pipe();
        let is_waiting = matches!(pipe::state(&pipe.fd), Ok(State::Waiting));
        is_waiting && (queue.is_failing || !pipe.has_staged())
    });
    if is_to_fetch {
        fetch(core, queue, number);
    }
}

fn begin_fetch(core: &mut Core<Outcome>, queue: &mut LogQueue, number: u64, is_for_task: bool) {
    let Some(guest) = queue.guest.clone().filter(|_| !queue.fetch.is_under_way()) else { return };
    let progress = guest.new_progress();
    queue.fetch.begin(progress.clone(), is_for_task);
    let (reason, path) = (queue.drop_reason(core), Arc::clone(&queue.path));
    core.submit_at_peer(number, progress.clone(), move || {
        let fetched = match reason {
            Some(reason) => guest.drain_to_backlog_beside(&progress, &reason, &path),
            None => guest.fetch(&progress),
        };
        Outcome(JobResult::Fetch { number, guest: guest.number, fetched })
    });
}
