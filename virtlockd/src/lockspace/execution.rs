//! Execution of tasks: begins each, submits its job, and applies the result.

use common::server::{PathWork, Progress};
use common::sys::process::boot_time_ms;

use crate::error::lock::LockError;
use crate::ids::{JobSubject, ResourceId};
use crate::lease::job::{Job, JobResult, Location};
use crate::lease::local_locks::LocalLocks;
use crate::lockspace::action::{Action, Begun, HolderChange};
use crate::lockspace::audited;
use crate::lockspace::queue::Task;
use crate::outcome::{Completion, Core, Outcome};
use crate::owner::registration::Registration;
use crate::persist::fd_store::store_lease;
use crate::proof::outside::warn_if_outside;
use crate::proof::track;
use crate::state::State;

/// Job of a resource.
struct Work {
    resource: ResourceId,
    job: Job,
    locks: LocalLocks,
}

impl PathWork for Work {
    type Outcome = Outcome;

    fn try_without_links(&mut self) -> Option<Outcome> {
        let job_result = self.job.try_without_links(&self.locks)?;
        Some(Outcome(Completion::Task(self.resource, job_result)))
    }

    fn run(self: Box<Self>) -> Outcome {
        (*self).complete()
    }
}

impl Work {
    fn complete(self) -> Outcome {
        Outcome(Completion::Task(self.resource, self.job.run(&self.locks)))
    }

    /// Submits the job to where it is done.
    fn submit(self, core: &mut Core, is_waited_for: bool) {
        let subject = JobSubject::Resource(self.resource).number();
        match self.job.location() {
            Location::Path(path) => {
                core.submit_at_path(&path, subject, Progress::default(), self);
            }
            Location::Storage(place) if is_waited_for => {
                core.submit(place, subject, move || self.complete());
            }
            Location::Storage(place) => {
                core.submit_unhurried(place, subject, move || self.complete());
            }
        }
    }
}

/// Adds a task to its resource's queue.
pub(crate) fn perform(state: &mut State, core: &mut Core, resource: ResourceId, task: Task) {
    state.queues.entry(resource).or_default().push(task);
    advance(state, core, resource);
}

/// Tries postponed tasks again.
pub(crate) fn retry_postponed(state: &mut State, core: &mut Core) {
    for resource in state.lease_breaks.take_due() {
        if let Some(queue) = state.queues.get_mut(&resource) {
            queue.resume();
            advance(state, core, resource);
        }
    }
}

/// Applies the result of the job that a resource's current task waited for.
pub(crate) fn job_ended(
    state: &mut State,
    core: &mut Core,
    resource: ResourceId,
    job_result: JobResult,
) {
    let Some(queue) = state.queues.get_mut(&resource) else {
        return;
    };
    let submitted = queue.submitted_boot_ms;
    if let Some(mut task) = queue.current.take() {
        if let JobResult::LeaseBreak(error) = &job_result
            && state.lease_breaks.allow_retry(&mut task, error)
            && !state.is_stopping
            && is_waited_for(state, &task)
        {
            return postpone(state, core, resource, task);
        }
        let result = state.lockspaces.finish(resource, &task.action, job_result);
        let change = result.as_ref().map_or(HolderChange::None, |change| *change);
        task_ended(state, core, resource, &task, result);
        track::update(state, core, resource, Some(submitted));
        if let HolderChange::Gained(owner) = change {
            warn_if_outside(state, resource, owner);
        }
    }
    advance(state, core, resource);
}

/// Begins the tasks of a queue up to the first that has to wait for a job. Removes the queue once
/// it is empty.
fn advance(state: &mut State, core: &mut Core, resource: ResourceId) {
    while let Some(queue) = state.queues.get_mut(&resource)
        && queue.is_idle()
    {
        let Some(task) = queue.pop() else {
            state.queues.remove(&resource);
            return state.lockspaces.forget_unused(resource);
        };
        let begun = state.lockspaces.begin(resource, &task.action);
        state.counts.begun(&task.action, &begun);
        match begun {
            Begun::Finished(result) => task_ended(state, core, resource, &task, result),
            Begun::Job(change, job) => {
                let is_waited_for = task.client.is_some();
                audited::change(state, resource, &task, change);
                let Some(queue) = state.queues.get_mut(&resource) else { return };
                queue.current = Some(task);
                queue.submitted_boot_ms = boot_time_ms();
                if matches!(change, HolderChange::Lost(_)) {
                    track::update(state, core, resource, None);
                    // Before the file is unlocked: the record of a lease is true as long as it is there.
                    store_lease(state, core, resource);
                }
                let locks = state.local_locks.clone();
                Work { resource, job, locks }.submit(core, is_waited_for);
                apply(state, core, resource, change);
            }
        }
    }
}

fn task_ended(
    state: &mut State,
    core: &mut Core,
    resource: ResourceId,
    task: &Task,
    result: Result<HolderChange, LockError>,
) {
    match &result {
        Ok(change) => {
            state.counts.done(&task.action);
            audited::change(state, resource, task, *change);
            apply(state, core, resource, *change);
        }
        Err(error) => audited::refusal(state, resource, task, error),
    }
    store_lease(state, core, resource);
    if state.lockspaces.lock(resource).is_some_and(|hold| !hold.is_whole()) {
        state.incomplete_locks.add(core, resource);
    }
    if let Some(client) = task.client {
        state.sessions.answer(core, client, result.map(drop));
    }
}

/// Updates the leases of owners. An owner that has ended loses a lease again at once.
fn apply(state: &mut State, core: &mut Core, resource: ResourceId, change: HolderChange) {
    match change {
        HolderChange::None => {}
        HolderChange::Lost(owner) => state.owners.remove_lease(owner, resource),
        HolderChange::Gained(owner) => {
            state.owners.add_lease(owner, resource);
            if state.is_stopping || state.owners.get(owner).is_some_and(|owner| owner.is_dead) {
                perform(state, core, resource, Task::internal(Action::ReleaseAll(owner)));
            }
        }
    }
}

fn postpone(state: &mut State, core: &mut Core, resource: ResourceId, task: Task) {
    let Some(queue) = state.queues.get_mut(&resource) else { return };
    queue.postpone(task);
    state.lease_breaks.add(core, resource);
}

/// Returns whether the client of a task is still connected, and its owner alive.
fn is_waited_for(state: &State, task: &Task) -> bool {
    let session = task.client.and_then(|client| state.sessions.get(client));
    let is_dead = match &task.action {
        Action::Acquire(Registration { owner, .. }, _) => {
            state.owners.get(*owner).is_none_or(|owner| owner.is_dead)
        }
        _ => false,
    };
    session.is_some_and(|session| session.disconnect.is_none()) && !is_dead
}
