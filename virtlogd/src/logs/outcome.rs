//! Results of jobs.

use crate::cleaner::Kept;
use crate::guest::access::Fetched;
use crate::logs::task::TaskResult;

/// Result of a job.
#[derive(Debug)]
pub struct Outcome(pub(crate) JobResult);

/// Results of the different kinds of jobs.
#[derive(Debug)]
pub(crate) enum JobResult {
    /// A task of the queue with this number.
    Task(u64, TaskResult),
    /// A fetch of a guest's bytes beside the tasks of its log.
    Fetch {
        /// Number of the queue.
        number: u64,
        /// Number of the guest.
        guest: u64,
        /// Its result.
        fetched: Fetched,
    },
    /// The pipe of the guest with this number is closed.
    Closing(u64),
    /// A piece was taken out of an unclaimed pipe.
    UnclaimedPipe {
        /// Number of the pipe.
        number: u64,
        /// Nothing will come any more.
        is_at_end: bool,
    },
    /// Old logs were looked for.
    Cleaning,
    /// The budget of the directory with this number was seen to.
    Budget(u64, Result<Kept, String>),
}
