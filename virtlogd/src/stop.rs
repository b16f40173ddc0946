//! The daemon's end: logs on disks that take long are stopped first, and the others are served until
//! nothing else is waited for, so that no guest waits for another's disk.

use common::server::Core;

use crate::logs::outcome::Outcome;
use crate::logs::task::Task;
use crate::persist::fd_store;
use crate::scheduler::Scheduler;

/// Stops the logs whose disks are slow, or whose tasks take long.
pub(crate) fn begin(scheduler: &mut Scheduler, core: &mut Core<Outcome>) {
    scheduler.table.is_stopping = true;
    if core.has_store() {
        scheduler.workspaces.pool().records().close();
    }
    for number in scheduler.table.numbers() {
        let Some(queue) = scheduler.table.get(number) else { continue };
        if queue.busy || queue.place.is_none_or(|place| core.is_slow(place)) {
            stop_log(scheduler, core, number);
        }
    }
}

/// Stops all other logs.
pub(crate) fn stop_rest(scheduler: &mut Scheduler, core: &mut Core<Outcome>) {
    scheduler.stops.abandon();
    let is_served = |number: &u64| !scheduler.stops.is_under_way(*number);
    for number in scheduler.table.numbers().into_iter().filter(is_served).collect::<Vec<_>>() {
        stop_log(scheduler, core, number);
    }
}

/// Returns whether everything is stopped, but for what takes too long. Jobs of `other_source` are waited
/// for as well.
pub(crate) fn is_complete(scheduler: &Scheduler, core: &Core<Outcome>, other_source: u64) -> bool {
    let Scheduler { table, stops, .. } = scheduler;
    let Some(abandoned) = stops.abandoned() else { return stops.are_over() };
    let is_awaited = |number: &u64| *number == other_source || table.has_number(*number);
    let mut jobs = core.jobs_in_flight().map(|job| job.source).filter(is_awaited);
    stops.are_over() && jobs.all(|number| abandoned.contains(&number))
}

/// Stops a log. One that is in the fd store only pauses: its pipe stays there.
fn stop_log(scheduler: &mut Scheduler, core: &mut Core<Outcome>, number: u64) {
    let Some(queue) = scheduler.table.get(number) else { return };
    let goes_on = fd_store::goes_on(core, queue);
    scheduler.stops.begin(number);
    scheduler.enqueue_at(core, number, Task::Stop { goes_on });
}
