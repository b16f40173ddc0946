//! Tasks that wait for another process to give up its `fcntl(2)` lease on a file, which keeps the file
//! from being opened. File servers have such leases for their clients.
//!
//! libvirt's daemon waits in `open(2)`, and all its clients with it. Here the task is tried again
//! until the kernel has taken that lease away. So nothing else waits: no thread, no other image in
//! the same directory, and no upgrade.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use crate::error::file::FileError;
use crate::ids::{ResourceId, TimerSubject};
use crate::lockspace::queue::Task;
use crate::outcome::Core;

/// Time between two attempts; ours.
const RETRY_PERIOD: Duration = Duration::from_millis(100);

/// Time added to that after which the kernel takes the lease away; ours.
const GRACE: Duration = Duration::from_secs(5);

/// Longest time that a task waits, also where the kernel never takes the lease away; ours.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Longest time that a task waits before an upgrade, which gives jobs a second.
const UPGRADE_TIMEOUT: Duration = Duration::from_millis(500);

/// Resources whose first task waits for a lease of another process.
#[derive(Debug, Default)]
pub(crate) struct LeaseBreaks {
    resources: BTreeSet<ResourceId>,
    /// Time of the last attempt before an upgrade.
    upgrade_deadline: Option<Instant>,
}

impl LeaseBreaks {
    /// Shortens the time that tasks wait, for an upgrade.
    pub(crate) fn prepare_upgrade(&mut self) {
        self.upgrade_deadline = Some(Instant::now() + UPGRADE_TIMEOUT);
    }

    /// Restores the time that tasks wait after an upgrade has failed.
    pub(crate) fn cancel_upgrade(&mut self) {
        self.upgrade_deadline = None;
    }

    /// Returns whether there is time to try a task again, which gets its deadline the first time.
    pub(crate) fn allow_retry(&self, task: &mut Task, error: &FileError) -> bool {
        let deadline = *task.deadline.get_or_insert_with(|| {
            let timeout = timeout();
            tracing::warn!(
                target: "util.lockspace",
                "Another process has an fcntl lease on {}; waiting {} s for it",
                error.path().display(), timeout.as_secs()
            );
            Instant::now() + timeout
        });
        let is_early = |deadline: Instant| Instant::now() < deadline;
        is_early(deadline) && self.upgrade_deadline.is_none_or(is_early)
    }

    /// Has the first task of a resource tried again later.
    pub(crate) fn add(&mut self, core: &mut Core, resource: ResourceId) {
        if self.resources.is_empty() {
            core.set_timer(RETRY_PERIOD, TimerSubject::LeaseBreakRetry.number());
        }
        self.resources.insert(resource);
    }

    /// Takes out the resources to try again now that the timer has fired.
    pub(crate) fn take_due(&mut self) -> BTreeSet<ResourceId> {
        std::mem::take(&mut self.resources)
    }
}

/// Returns how long to wait for the kernel to take the lease away.
fn timeout() -> Duration {
    let text = fs::read_to_string("/proc/sys/fs/lease-break-time").unwrap_or_default();
    timeout_at(text.trim().parse().unwrap_or(0))
}

/// Returns that for a setting in seconds, of which 0 means that the kernel never takes it away.
fn timeout_at(lease_break_s: u64) -> Duration {
    match lease_break_s {
        0 => TIMEOUT_MAX,
        seconds => Duration::from_secs(seconds).saturating_add(GRACE).min(TIMEOUT_MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::errno::Errno;

    use super::*;
    use crate::error::file::{FileOperation, file_error};
    use crate::lockspace::action::Action;

    #[test]
    fn the_kernel_has_time_to_take_a_lease_away() {
        let s = Duration::from_secs;
        assert_eq!(
            [0, 1, 45, 600, u64::MAX].map(timeout_at),
            [s(600), s(6), s(50), s(600), s(600)]
        );
    }

    #[test]
    fn an_upgrade_that_comes_leaves_less_time_until_it_has_failed() {
        let (mut breaks, mut task) = (LeaseBreaks::default(), Task::internal(Action::TestLock));
        let error = file_error(FileOperation::Open, Path::new("/image"))(Errno::EAGAIN.into());
        assert!(breaks.allow_retry(&mut task, &error));
        assert!(task.deadline.is_some_and(|deadline| deadline > Instant::now()));
        breaks.prepare_upgrade();
        assert!(breaks.allow_retry(&mut task, &error), "there is some time");
        breaks.upgrade_deadline = Some(Instant::now());
        assert!(!breaks.allow_retry(&mut task, &error));
        breaks.cancel_upgrade();
        assert!(breaks.allow_retry(&mut task, &error));
        task.deadline = Some(Instant::now());
        assert!(!breaks.allow_retry(&mut task, &error));
    }
}
