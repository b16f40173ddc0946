//! Pipes and buffers that a job needs to write a log.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::pool::StagingPool;
use super::scratch::Scratch;
use super::staging_pipe::StagingPipe;
use crate::guest::tally::Tally;

/// Workspaces that are kept in reserve. There are never more than jobs under way.
const SPARE_WORKSPACES_MAX: usize = 4;

/// A workspace. One serves many logs, one after the other.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Empty between turns.
    pub(crate) staging: StagingPipe,
    pub(crate) scratch: Scratch,
    /// Counts of the present job.
    pub(crate) tally: Tally,
}

/// Workspaces in reserve, for all jobs.
#[derive(Debug, Clone)]
pub(crate) struct Workspaces(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: Arc<StagingPool>,
    spare: Mutex<Spare>,
    given_back: Condvar,
}

#[derive(Debug)]
struct Spare {
    workspaces: Vec<Workspace>,
    /// Number of jobs that wait for one.
    waiting: usize,
    /// Counts of all jobs that have given theirs back.
    tally: Tally,
}

impl Workspaces {
    /// Makes the reserve, with one workspace.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub(crate) fn new() -> io::Result<Self> {
        let pool = Arc::<StagingPool>::default();
        let spare =
            Spare { workspaces: vec![Workspace::new(&pool)?], waiting: 0, tally: Tally::default() };
        let (spare, given_back) = (Mutex::new(spare), Condvar::new());
        Ok(Self(Arc::new(Shared { pool, spare, given_back })))
    }

    /// Returns the counts of all jobs that have ended.
    pub(crate) fn tally(&self) -> Tally {
        self.0.spare().tally.clone()
    }

    /// Returns the source of their staging pipes.
    pub(crate) fn pool(&self) -> &Arc<StagingPool> {
        &self.0.pool
    }

    /// Takes one for the time of a job. When none can be made, for want of descriptors, waits for
    /// that of another job.
    pub(crate) fn take(&self) -> Workspace {
        let Shared { pool, given_back, .. } = &*self.0;
        let mut spare = self.0.spare();
        loop {
            if let Some(mut workspace) = spare.workspaces.pop() {
                drop(spare);
                pool.prefer_stored(&mut workspace.staging);
                return workspace;
            }
            match Workspace::new(pool) {
                Ok(workspace) => return workspace,
                Err(error) => tracing::error!(
                    target: "logging.log_handler", "Unable to make pipes to write a log: {error}"
                ),
            }
            spare.waiting += 1;
            spare = given_back.wait(spare).unwrap_or_else(PoisonError::into_inner);
            spare.waiting -= 1;
        }
    }

    /// Returns one to the reserve, empty.
    pub(crate) fn give_back(&self, mut workspace: Workspace) {
        let mut spare = self.0.spare();
        spare.tally.take(&mut workspace.tally);
        if spare.workspaces.len() < SPARE_WORKSPACES_MAX {
            spare.workspaces.push(workspace);
        }
        // A system call, even if no job waits.
        if spare.waiting > 0 {
            self.0.given_back.notify_one();
        }
    }
}

impl Shared {
    fn spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workspace {
    /// Makes an empty one.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub(crate) fn new(pool: &StagingPool) -> io::Result<Self> {
        Ok(Self { staging: pool.take()?, scratch: Scratch::new()?, tally: Tally::default() })
    }
}
