//! What is needed to write logs beside the logs.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Scratch, Staging};

/// Workspaces that are kept while nobody uses them. There are never more than jobs under way.
const SPARE_WORKSPACES_MAX: usize = 4;

/// What a turn of a log needs beside the log: one set serves many logs, one after the other.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Empty between turns.
    pub(crate) staging: Staging,
    pub(crate) scratch: Scratch,
}

/// Workspaces that are not in use, for all jobs.
#[derive(Debug, Clone)]
pub(crate) struct Workspaces(Arc<(Mutex<Spare>, Condvar)>);

#[derive(Debug)]
struct Spare {
    workspaces: Vec<Workspace>,
    /// Jobs that wait for one.
    waiting: usize,
}

impl Workspaces {
    /// The staging pipes of those that nobody uses.
    pub(crate) fn stagings(&self) -> Vec<Staging> {
        let spare = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.workspaces.iter().map(|workspace| workspace.staging.clone()).collect()
    }

    /// One is there from the start.
    pub(crate) fn new() -> io::Result<Self> {
        let spare = Spare { workspaces: vec![Workspace::new()?], waiting: 0 };
        Ok(Self(Arc::new((Mutex::new(spare), Condvar::new()))))
    }

    /// One for the time of a job. When none can be made, for want of descriptors, waits for another
    /// job's.
    pub(crate) fn take(&self) -> Workspace {
        let (spare, given_back) = &*self.0;
        let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(workspace) = spare.workspaces.pop() {
                return workspace;
            }
            match Workspace::new() {
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

    /// Gives one back, empty.
    pub(crate) fn give_back(&self, workspace: Workspace) {
        let (spare, given_back) = &*self.0;
        let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.workspaces.len() < SPARE_WORKSPACES_MAX {
            spare.workspaces.push(workspace);
        }
        // A system call, whether anybody waits or not.
        if spare.waiting > 0 {
            given_back.notify_one();
        }
    }
}

impl Workspace {
    /// An empty one.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { staging: Staging::new()?, scratch: Scratch::new()? })
    }
}
