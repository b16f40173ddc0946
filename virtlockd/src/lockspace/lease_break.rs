//! Calls that wait for another process to give up its `fcntl(2)` lease on a file, which keeps the file
//! from being opened: file servers have such leases for their clients.
//!
//! libvirt's daemon waits in `open(2)`, and everybody with it. Here the call is tried again every now
//! and then until the kernel has taken that lease away, so that nothing else waits: no thread, no other
//! image in the same directory, and no upgrade.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use common::server::Core;

use crate::error::file::Failure;
use crate::handler::{Handler, Outcome};
use crate::lockspace::queue::Task;
use crate::lockspace::resource::{Action, Claim};
use crate::lockspace::table::ResourceId;

/// The source of the timer; owners never get so far.
pub(crate) const RETRY: u64 = u64::MAX - 4;

/// How long after it was put off a call is tried again; ours.
const PERIOD: Duration = Duration::from_millis(100);

/// What is added to the time after which the kernel takes the lease away; ours.
const GRACE: Duration = Duration::from_secs(5);

/// How long a call waits at the most, also where the kernel never does that; ours.
const PATIENCE_MAX: Duration = Duration::from_secs(600);

/// How long it waits when there is to be an upgrade, which has a second to come to rest in.
const UPGRADE_PATIENCE: Duration = Duration::from_millis(500);

/// What was put off.
#[derive(Debug, Default)]
pub(crate) struct PutOff {
    resources: BTreeSet<ResourceId>,
    /// When it is all tried for the last time, before an upgrade.
    deadline: Option<Instant>,
}

impl PutOff {
    /// There is to be an upgrade.
    pub(crate) fn hurry(&mut self) {
        self.deadline = Some(Instant::now() + UPGRADE_PATIENCE);
    }

    /// There is none after all.
    pub(crate) fn take_time(&mut self) {
        self.deadline = None;
    }
}

impl Handler {
    /// Whether a call that was in vain may be tried again: somebody still waits for it, and not for
    /// too long.
    pub(crate) fn is_to_wait(&self, task: &mut Task, failure: &Failure) -> bool {
        let deadline = *task.deadline.get_or_insert_with(|| {
            let patience = patience();
            tracing::warn!(
                target: "util.lockspace",
                "Another process has an fcntl lease on {}; waiting {} s for it",
                failure.path().display(), patience.as_secs()
            );
            Instant::now() + patience
        });
        let is_early = |deadline: Instant| Instant::now() < deadline;
        is_early(deadline)
            && self.put_off.deadline.is_none_or(is_early)
            && !self.stopping
            && self.is_waited_for(task)
    }

    /// Has a task tried again later.
    pub(crate) fn put_off(&mut self, core: &mut Core<Outcome>, resource: ResourceId, task: Task) {
        let Some(lane) = self.lanes.get_mut(&resource) else { return };
        lane.put_off(task);
        if self.put_off.resources.is_empty() {
            core.set_timer(PERIOD, RETRY);
        }
        self.put_off.resources.insert(resource);
    }

    /// The time has come.
    pub(crate) fn try_again(&mut self, core: &mut Core<Outcome>) {
        for resource in std::mem::take(&mut self.put_off.resources) {
            self.take_up(core, resource);
        }
    }

    fn is_waited_for(&self, task: &Task) -> bool {
        let session = task.client.and_then(|client| self.sessions.get(&client));
        let is_dead = match &task.action {
            Action::Acquire(Claim { owner, .. }, _) => {
                self.owners.get(*owner).is_none_or(|owner| owner.is_dead)
            }
            _ => false,
        };
        session.is_some_and(|session| session.gone.is_none()) && !is_dead
    }
}

/// How long to wait for the kernel to take the lease away, which 0 says it never does.
fn patience() -> Duration {
    let text = fs::read_to_string("/proc/sys/fs/lease-break-time").unwrap_or_default();
    let seconds: u64 = text.trim().parse().unwrap_or(0);
    match seconds {
        0 => PATIENCE_MAX,
        seconds => (Duration::from_secs(seconds) + GRACE).min(PATIENCE_MAX),
    }
}
