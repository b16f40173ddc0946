//! Queue of tasks for one resource, of which one at a time is under way.

use std::collections::VecDeque;
use std::time::Instant;

use common::server::ClientId;

use crate::lockspace::action::Action;

/// Queue of tasks for one resource. It exists only while there are any.
#[derive(Debug, Default)]
pub(crate) struct ResourceQueue {
    /// Task whose job is running.
    pub(crate) current: Option<Task>,
    /// Bounded by the clients, each of which has one call in flight, and by the owners.
    waiting: VecDeque<Task>,
    /// Time at which its job was submitted, in milliseconds since boot.
    pub(crate) submitted_boot_ms: u64,
    /// Whether the first task that waits is to be tried again later.
    is_postponed: bool,
}

/// Action on a resource, and the client that waits for its result.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) action: Action,
    /// `None` for an action of the daemon's own.
    pub(crate) client: Option<ClientId>,
    /// Time of the last attempt, once it was postponed.
    pub(crate) deadline: Option<Instant>,
}

impl ResourceQueue {
    /// Returns the client that waits for the current task.
    pub(crate) fn client(&self) -> Option<ClientId> {
        self.current.as_ref()?.client
    }

    pub(crate) fn push(&mut self, task: Task) {
        self.waiting.push_back(task);
    }

    /// Returns whether the next task can begin.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none() && !self.is_postponed
    }

    /// Takes out the next task.
    pub(crate) fn pop(&mut self) -> Option<Task> {
        self.waiting.pop_front()
    }

    /// Has a task tried again later, before all others.
    pub(crate) fn postpone(&mut self, task: Task) {
        self.waiting.push_front(task);
        self.is_postponed = true;
    }

    /// Lets the postponed task begin.
    pub(crate) fn resume(&mut self) {
        self.is_postponed = false;
    }
}

impl Task {
    /// Creates a task that a client waits for.
    pub(crate) fn for_client(action: Action, client: ClientId) -> Self {
        Self { action, client: Some(client), deadline: None }
    }

    /// Creates a task of the daemon's own.
    pub(crate) fn internal(action: Action) -> Self {
        Self { action, client: None, deadline: None }
    }
}
