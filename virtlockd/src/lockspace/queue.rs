//! The lane of a resource: one [action](Action) at a time goes through it. A lane is there only
//! while something is under way.

use std::collections::VecDeque;
use std::time::Instant;

use common::server::{ClientId, Core, PathWork, Progress};

use crate::error::lock::Refusal;
use crate::handler::{Ended, Handler, Outcome};
use crate::lease::job::{Done, Files, Job, Location};
use crate::lockspace::resource::{Action, Change, Step};
use crate::lockspace::table::ResourceId;

/// What is under way at one resource.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// A job of it is running.
    current: Option<Task>,
    /// Bounded by the clients, of whom each has one call in flight, and by the owners.
    waiting: VecDeque<Task>,
    /// The first that waits is to be tried again later.
    is_put_off: bool,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) action: Action,
    /// Who waits for the result.
    pub(crate) client: Option<ClientId>,
    /// When it is tried for the last time, if it was put off.
    pub(crate) deadline: Option<Instant>,
}

/// A job of a resource.
struct Work {
    resource: ResourceId,
    job: Job,
    files: Files,
}

impl PathWork for Work {
    type Outcome = Outcome;

    fn try_without_links(&mut self) -> Option<Outcome> {
        let done = self.job.try_without_links(&self.files)?;
        Some(Outcome(Ended::Action(self.resource, done)))
    }

    fn run(self: Box<Self>) -> Outcome {
        (*self).finish()
    }
}

impl Work {
    fn finish(self) -> Outcome {
        Outcome(Ended::Action(self.resource, self.job.run(&self.files)))
    }
}

impl Lane {
    /// Who waits for what is under way.
    pub(crate) fn client(&self) -> Option<ClientId> {
        self.current.as_ref()?.client
    }

    /// Has a task tried again later, before all others.
    pub(crate) fn put_off(&mut self, task: Task) {
        self.waiting.push_front(task);
        self.is_put_off = true;
    }
}

impl Task {
    pub(crate) fn of_client(action: Action, client: ClientId) -> Self {
        Self { action, client: Some(client), deadline: None }
    }

    pub(crate) fn of_our_own(action: Action) -> Self {
        Self { action, client: None, deadline: None }
    }
}

impl Handler {
    /// Puts a task into its resource's lane.
    pub(crate) fn perform(&mut self, core: &mut Core<Outcome>, resource: ResourceId, task: Task) {
        self.lanes.entry(resource).or_default().waiting.push_back(task);
        self.advance(core, resource);
    }

    /// Tries again what was put off.
    pub(crate) fn take_up(&mut self, core: &mut Core<Outcome>, resource: ResourceId) {
        if let Some(lane) = self.lanes.get_mut(&resource) {
            lane.is_put_off = false;
            self.advance(core, resource);
        }
    }

    /// Goes through what waits in a lane until a job has to be waited for; forgets the lane if
    /// nothing is left in it.
    fn advance(&mut self, core: &mut Core<Outcome>, resource: ResourceId) {
        while let Some(lane) = self.lanes.get_mut(&resource)
            && lane.current.is_none()
            && !lane.is_put_off
        {
            let Some(task) = lane.waiting.pop_front() else {
                self.lanes.remove(&resource);
                return self.lockspaces.forget_unused(resource);
            };
            match self.lockspaces.begin(resource, &task.action) {
                Step::Ended(result) => self.action_ended(core, resource, task.client, result),
                Step::Job(change, job) => {
                    let is_waited_for = task.client.is_some();
                    lane.current = Some(task);
                    if matches!(change, Change::Lost(_)) {
                        // Before it is unlocked: what is known of a lease is true as long as it is.
                        self.keep_lease(core, resource);
                    }
                    let (location, files) = (job.location(), self.files.clone());
                    let work = Work { resource, job, files };
                    match location {
                        Location::Path(path) => {
                            core.submit_at_path(&path, resource.0, Progress::default(), work);
                        }
                        Location::Place(place) if is_waited_for => {
                            core.submit(place, resource.0, move || work.finish());
                        }
                        Location::Place(place) => {
                            core.submit_unhurried(place, resource.0, move || work.finish());
                        }
                    }
                    self.changed(core, resource, change);
                }
            }
        }
    }

    /// The job that a lane waited for has ended.
    pub(crate) fn job_of_action_ended(
        &mut self,
        core: &mut Core<Outcome>,
        resource: ResourceId,
        done: Done,
    ) {
        let Some(lane) = self.lanes.get_mut(&resource) else {
            return;
        };
        if let Some(mut task) = lane.current.take() {
            if let Done::NotYet(failure) = &done
                && self.is_to_wait(&mut task, failure)
            {
                return self.put_off(core, resource, task);
            }
            let result = self.lockspaces.end(resource, &task.action, done);
            self.action_ended(core, resource, task.client, result);
        }
        self.advance(core, resource);
    }

    fn action_ended(
        &mut self,
        core: &mut Core<Outcome>,
        resource: ResourceId,
        client: Option<ClientId>,
        result: Result<Change, Refusal>,
    ) {
        if let Ok(change) = result {
            self.changed(core, resource, change);
        }
        self.keep_lease(core, resource);
        self.settle_unless_whole(core, resource);
        if let Some(client) = client {
            self.answer(core, client, result.map(drop));
        }
    }

    /// Keeps the owners' leases in step. Who must not have any loses it again.
    fn changed(&mut self, core: &mut Core<Outcome>, resource: ResourceId, change: Change) {
        match change {
            Change::None => {}
            Change::Lost(owner) => self.owners.lost(owner, resource),
            Change::Gained(owner) => {
                self.owners.gained(owner, resource);
                if self.stopping || self.owners.get(owner).is_some_and(|owner| owner.is_dead) {
                    self.perform(core, resource, Task::of_our_own(Action::Disown(owner)));
                }
            }
        }
    }
}
