//! Outcome of a job, and the loop's core for such outcomes.

use common::server::ClientId;

use crate::error::file::FileError;
use crate::ids::{OwnerId, ResourceId};
use crate::lease::job::JobResult;

/// Core of the loop for this daemon.
pub(crate) type Core = common::server::Core<Outcome>;

/// Outcome of a job.
#[derive(Debug)]
pub struct Outcome(pub(crate) Completion);

/// Completed job, with its result.
#[derive(Debug)]
pub(crate) enum Completion {
    /// Nothing waits for the result.
    Ignored,
    /// Job of the current task of a resource.
    Task(ResourceId, JobResult),
    /// Wait for the end of these owners.
    Terminations(Vec<OwnerId>),
    /// Check for a lockspace's directory, which was created if it was missing.
    Directory { client: ClientId, space: Box<[u8]>, is_new: bool, result: Result<(), FileError> },
}
